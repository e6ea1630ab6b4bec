"""A directory of small nodes on loopback sockets, and bridges, guards and clients in memory before it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import random
import socket

from peers_live import PipeDialer

from ptproxy.config.model import GuardConfig
from ptproxy.dht.admission import Admissions, mint
from ptproxy.dht.contact import Address, Contact
from ptproxy.dht.datagrams import Reassembly, cut
from ptproxy.dht.diversity import ANY_NETWORK
from ptproxy.dht.first_nodes import FirstNodes
from ptproxy.dht.lookup_rules import LookupRules
from ptproxy.dht.node import Node
from ptproxy.dht.probation import NO_PROBATION
from ptproxy.dht.responder import NodeKeys, Responder
from ptproxy.dht.signing import SigningKey
from ptproxy.dht.storage import RecordStorage
from ptproxy.dht.table import RoutingTable
from ptproxy.dht.vetting import Vetting
from ptproxy.dht.work import WorkTarget
from ptproxy.errors import DhtError
from ptproxy.peers.directory_network import write_first_nodes
from ptproxy.peers.find_directory import Directory
from ptproxy.peers.find_guard import GuardService
from ptproxy.peers.find_network import KnownNetwork
from ptproxy.peers.find_relay import RelayService
from ptproxy.state import StateFolder

DAY = 86_400
NOON = 20_000 * DAY + DAY / 2
GAP = 0.15
"""Seconds that pass at most between two looks at the clock."""
TRIES = 8
"""Times that something is tried which a busy machine may spoil."""
CHEAP = WorkTarget(bits=1, memory=8)
SIGNER = SigningKey(bytes(range(32)))


class Clock:
    """The world's time, moved by a test; it passes as the loop's does, so that waits end.

    A machine that is too busy to run us makes nobody late: between two looks at most :data:`GAP` passes.
    """

    def __init__(self, now=NOON) -> None:
        self.offset = now
        self._looked = asyncio.get_running_loop().time()

    def __call__(self) -> float:
        looked = asyncio.get_running_loop().time()
        self.offset += min(looked - self._looked, GAP)
        self._looked = looked
        return self.offset


class LiveNode(asyncio.DatagramProtocol):
    """A directory node: the very ``Node``, ``Responder`` and ``RecordStorage``, on one socket of loopback."""

    def __init__(self, number, clock, vetting, host="127.0.0.1") -> None:
        self.host = host
        self.rng = random.Random(f"node {number}").randbytes
        self.clock = clock
        self.keys = NodeKeys.generate(self.rng)
        self.minted = mint(self.keys.signing.public, CHEAP, 0, 1_000)
        self.vetting = vetting
        self.pieces = Reassembly()
        self.sources: list[tuple[str, int]] = []
        """Who asked, in order."""
        self.received: list[bytes] = []
        self.alive = True

    async def start(self) -> None:
        self.transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: self, (self.host, 0)
        )
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        port = self.transport.get_extra_info("sockname")[1]
        address = Address(socket.inet_aton(self.host), port)
        self.contact = Contact.make(
            self.keys.signing, self.minted.id, self.keys.seal_key, self.minted.nonce, 1, address
        )
        self.table = RoutingTable(self.minted.id, ANY_NETWORK, NO_PROBATION)
        self.storage = RecordStorage(self.rng, CHEAP, near=self.table.is_near)
        responder = Responder(self.keys, self.contact, self.table, self.storage, self.rng)
        rules = LookupRules(diversity=ANY_NETWORK)
        self.node = Node(self.table, self.vetting.admit, self.rng, responder, rules)

    def datagram_received(self, data, addr) -> None:
        if not self.alive:
            return
        self.sources.append(addr)
        source = Address(socket.inet_aton(addr[0]), addr[1])
        with contextlib.suppress(DhtError):
            message = self.pieces.receive_datagram(data, source, self.clock())
            if message is not None:
                self.received.append(message)
                self.node.receive_message(message, source, self.clock())
        for address, message in self.node.messages_to_send(self.clock()):
            for datagram in cut(message, self.rng):
                self.transport.sendto(datagram, (socket.inet_ntoa(address.host), address.port))


class LiveDirectory:
    """Nodes that know each other, and their signed list."""

    def __init__(self, nodes, clock) -> None:
        self.nodes = nodes
        self.clock = clock

    def signed_list(self, sequence=1, nodes=3, signer=SIGNER, **changes):
        now = int(self.clock())
        fields = {
            "sequence": sequence, "issued": now, "expires": now + 30 * DAY, "founded": now,
            "id_work": CHEAP, "record_work": CHEAP, "signers": None,
            "contacts": tuple(node.contact for node in self.nodes[:nodes]),
        }  # fmt: skip
        return write_first_nodes(FirstNodes(**fields | changes).sign(signer))

    def records(self):
        """Every record that any node keeps, once each."""
        return {stored.data for node in self.nodes for stored in node.storage.stored()}

    def holders(self, location):
        return [node for node in self.nodes if node.storage.read(location, self.clock()) is not None]


@contextlib.asynccontextmanager
async def directory_of(count, clock, host="127.0.0.1"):
    """A directory of ``count`` nodes; ``host`` may have a place for their numbers."""
    vetting = Vetting(Admissions(CHEAP))
    nodes = [LiveNode(number, clock, vetting, host.format(number + 1)) for number in range(count)]
    for node in nodes:
        await node.start()
    for node in nodes:
        for other in nodes:
            node.table.answered(other.contact, clock())
    try:
        yield LiveDirectory(nodes, clock)
    finally:
        for node in nodes:
            node.transport.close()
        await asyncio.sleep(0)


class Cast:
    """Two guards and bridges that use them, in a folder; all in this process."""

    def __init__(self, folder, directory) -> None:
        self.folder = folder
        self.directory = directory
        self.running = []

    async def guard(self, name, text=None, allow=("127.0.0.0/8",), signer=SIGNER, **settings):
        path = self.folder / f"{name}.nodes"
        path.write_text(text if text is not None else self.directory.signed_list())
        config = GuardConfig(offer=True, network=path, network_key=encoded(signer.public), allow=list(allow))
        return await self._run(name, GuardService(config, clock=self.directory.clock, **settings))

    async def bridge(self, name, *guards):
        def dial_with(key):
            assert len(key) == 32
            return {f"guard{place}": PipeDialer(name, guard) for place, guard in enumerate(guards)}

        rng = random.Random(name).randbytes
        return await self._run(name, RelayService(dial_with, rng))

    async def _run(self, name, service):
        state = StateFolder(self.folder / name)
        self.running.append((service, state))
        await service.start(state)
        return service

    async def stop(self):
        for service, state in reversed(self.running):
            service.end_streams()
            for _ in range(10):
                await asyncio.sleep(0)
            await service.close()
            state.close()

    def client(self, *bridges, network=None, name="client", **settings):
        dialers = {f"bridge{place}": PipeDialer(name, bridge) for place, bridge in enumerate(bridges)}
        settings.setdefault("clock", self.directory.clock)
        return Directory(
            dialers, network or KnownNetwork(), random.Random(name).randbytes,
            diversity=ANY_NETWORK, **settings,
        )  # fmt: skip


def encoded(key):
    return base64.urlsafe_b64encode(key).rstrip(b"=").decode()


@contextlib.asynccontextmanager
async def scene(folder, count=24, now=NOON):
    """A directory, and whoever stands before it."""
    clock = Clock(now)
    async with directory_of(count, clock) as directory:
        cast = Cast(folder, directory)
        try:
            yield cast
        finally:
            await cast.stop()
            for _ in range(5):
                await asyncio.sleep(0)


async def kept(directory, record):
    """Write until it is published: on a busy machine nodes may be too late for the first time."""
    for _ in range(TRIES):
        written = await directory.write(record)
        if written.is_published:
            return written
    raise AssertionError(f"never published: {written}")


async def publish_all(publisher):
    """Rounds until nothing is left."""
    for _ in range(TRIES):
        if not await publisher.round():
            return
    raise AssertionError("some records do not get out")
