"""Directory nodes on loopback sockets: cheap work, one network for all, a clock that can be moved."""

from __future__ import annotations

import asyncio
import random
import socket
import time

from ptproxy.dht.admission import Admissions, mint
from ptproxy.dht.contact import Address
from ptproxy.dht.datagrams import Reassembly, cut
from ptproxy.dht.diversity import ANY_NETWORK
from ptproxy.dht.lookup_rules import LookupRules
from ptproxy.dht.probation import NO_PROBATION
from ptproxy.dht.responder import NodeKeys
from ptproxy.dht.vetting import Vetting
from ptproxy.dht.work import WorkTarget
from ptproxy.peers.directory import DirectoryNode, DirectorySettings
from ptproxy.peers.directory_network import DirectoryNetwork, NodeIdentity

PATIENCE = 60.0
"""Seconds after which a test that waits for something that never comes is a failure."""
SMALL = 32
"""Nodes of a network in which the first one gets to know everybody who joins: it greets only so many."""
CHEAP = WorkTarget(bits=2, memory=8)
LAB = DirectoryNetwork(CHEAP, CHEAP, probation=NO_PROBATION, diversity=ANY_NETWORK, private_addresses=True)
RULES = LookupRules(diversity=ANY_NETWORK)
LOCAL = DirectorySettings(listen=(("127.0.0.1", 0),), requests=1e6)


def run(main) -> None:
    """Run ``main()``; fails for tasks left behind and errors nobody caught."""
    errors = []

    async def watched():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        async with asyncio.timeout(PATIENCE):
            await main()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(watched())
    assert not errors, errors


async def until(condition) -> None:
    """Wait until something is so."""
    while not condition():
        await asyncio.sleep(0.002)


def identity_of(number: int) -> NodeIdentity:
    """The same one for the same number."""
    keys = NodeKeys.generate(random.Random(f"directory node {number}").randbytes)
    minted = mint(keys.signing.public, CHEAP, 0, 10_000)
    assert minted is not None
    return NodeIdentity(keys, minted)


class Lab:
    """A network of nodes of this process; ``async with``."""

    def __init__(self, network: DirectoryNetwork = LAB, now: float | None = None) -> None:
        self.network = network
        self.vetting = Vetting(Admissions(CHEAP))
        self.nodes: list[DirectoryNode] = []
        self.ahead = 0.0 if now is None else now - time.time()
        """Seconds by which the clock of all nodes is ahead of the world's."""

    def clock(self) -> float:
        return time.time() + self.ahead

    async def add(self, number=None, state=None, settings=LOCAL, join=True, **options) -> DirectoryNode:
        """One more, which joins by the first."""
        identity = identity_of(len(self.nodes) if number is None else number)
        options = {"vetting": self.vetting, "clock": self.clock} | options
        node = await DirectoryNode.start(identity, self.network, settings, state, **options)
        self.nodes.append(node)
        if join and len(self.nodes) > 1:
            first = self.nodes[0]
            assert await node.join([first.contact])
            if len(self.nodes) <= SMALL:
                await until(lambda: first.driver.node.table.met(node.contact.id))
        return node

    async def grow(self, count: int) -> None:
        """``count`` more, one after another."""
        for _ in range(count):
            await self.add()

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        for node in self.nodes:
            await node.close()


class Stranger:
    """A socket of somebody who is no node, or not an honest one."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.address = Address(socket.inet_aton("127.0.0.1"), self.socket.getsockname()[1])
        self.rng = random.Random(5).randbytes
        self._reassembly = Reassembly()

    def send_datagram(self, data: bytes, node: DirectoryNode) -> None:
        self.socket.sendto(data, ("127.0.0.1", node.contact.address.port))

    def send(self, message: bytes, node: DirectoryNode) -> None:
        for datagram in cut(message, self.rng):
            self.send_datagram(datagram, node)

    async def receive(self) -> bytes:
        """The next message."""
        loop = asyncio.get_running_loop()
        while True:
            data, source = await loop.sock_recvfrom(self.socket, 2_000)
            message = self._reassembly.receive_datagram(
                data, Address(socket.inet_aton(source[0]), source[1]), 0.0
            )
            if message is not None:
                return message

    def silent(self) -> bool:
        """Whether nothing waits here."""
        try:
            self.socket.recv(2_000, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        return False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()
