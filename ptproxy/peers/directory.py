"""A directory node on real sockets: it answers, looks things up, keeps records, and survives restarts.

::

    node = await DirectoryNode.start(identity, network, settings, state)
    await node.join(contacts)
    lookup = await node.driver.look_up(location, node.driver.private, judge)
    written = await node.driver.publish(location, record)
    await node.close()

Decisions are ``ptproxy.dht``'s; what is here is when they are asked for. ``DIRECTORY.md`` beside this
file says what travels, what is kept and what is bounded. ``directory_driver`` runs the node inside,
``directory_socket`` has its datagrams, ``directory_upkeep`` hands records on, ``directory_beacon`` asks
for the beacon, ``directory_store`` is the disk.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ptproxy.dht.admission import Admissions
from ptproxy.dht.beacon import BeaconConflictError, BeaconError, Beacons
from ptproxy.dht.contact import Address, Contact
from ptproxy.dht.epoch import epoch_of
from ptproxy.dht.identifier import Rng
from ptproxy.dht.lookup_rules import PRIVATE, UPKEEP
from ptproxy.dht.messages import VERSION
from ptproxy.dht.node import Node
from ptproxy.dht.quota import LeakyBucket, WriteQuotas
from ptproxy.dht.record import NO_BEACON
from ptproxy.dht.responder import Responder
from ptproxy.dht.sealing import SEALED
from ptproxy.dht.storage import MAX_RECORDS, RecordStorage, WriteRefusedError
from ptproxy.dht.table import RoutingTable
from ptproxy.dht.vetting import Vetting
from ptproxy.errors import DhtError, StateError
from ptproxy.log import get_logger
from ptproxy.peers.directory_beacon import ASK, TELL, BeaconGossip
from ptproxy.peers.directory_clock import Now, SteadyClock
from ptproxy.peers.directory_driver import NodeDriver
from ptproxy.peers.directory_network import DirectoryNetwork, NodeIdentity, is_public
from ptproxy.peers.directory_socket import DirectorySocket
from ptproxy.peers.directory_store import DirectoryStore, Kept, Surroundings
from ptproxy.peers.directory_upkeep import HandingOn
from ptproxy.state import StateFolder

REQUESTS_AT_ONCE: Final = 400
"""Requests of one address (IPv6: /64) in one go: a guard, and many clients behind it."""
REQUESTS_PER_SECOND: Final = 50.0
"""The same in the long run: 1 % of a core."""
ALL_AT_ONCE: Final = 4_000
"""Requests of everybody in one go."""
ALL_PER_SECOND: Final = 2_000.0
"""The same in the long run, half a core: senders' addresses can be forged, and our own lookups must go on."""
LOOK: Final = 30.0
"""Seconds between looks at what is due (± a quarter); what a kill loses of the records is no older."""
SURROUNDINGS: Final = 20
"""Of these looks one saves the table too, and says in the log how things are."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DirectorySettings:
    """What an operator decides."""

    listen: Sequence[tuple[str, int] | socket.socket]
    """IP literals and UDP ports, or bound sockets, one of each family at most; port 0: any."""
    address: Address | None = None
    """Where others reach us; None: where we listen (tests)."""
    records: int = MAX_RECORDS
    requests: float = REQUESTS_PER_SECOND
    """Requests a second that one address may make."""


@dataclass(frozen=True, slots=True)
class DirectoryStatus:
    """How a node is doing, for a line in the log."""

    nodes: int
    """Nodes in its table."""
    records: int
    network: int | None
    """How many nodes there are, by its own estimate."""
    requests: int
    """Requests that came since the start; so are the next two."""
    refused: int
    """Of these, those that were too many."""
    ignored: int
    """Datagrams and messages that were none."""
    saved: bool
    """Whether the last save succeeded."""


class DirectoryNode:
    """One node. Made by :meth:`start`, which may be called once for each identity."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        identity: NodeIdentity,
        network: DirectoryNetwork,
        settings: DirectorySettings,
        vetting: Vetting,
        clock: Now,
        rng: Rng,
    ) -> None:
        self._loop = loop
        self._network = network
        self._vetting = vetting
        self._clock = clock
        self._rng = rng
        self._socket = DirectorySocket(loop, settings.listen, self._arrived, self._flush, rng, clock)
        self.contact = identity.contact(settings.address or self._socket.listening[0], int(clock()))
        """What others are given to reach this node."""
        self.beacons = None if network.signers is None else Beacons(network.signers)
        self._gossip = None if self.beacons is None else BeaconGossip(self.beacons)
        table = RoutingTable(identity.id, network.diversity, network.probation)
        self.storage = RecordStorage(
            rng, network.record_work, settings.records, self._beacon, near=table.is_near
        )
        rules = replace(UPKEEP, diversity=network.diversity)
        self._responder = Responder(identity.keys, self.contact, table, self.storage, rng)
        node = Node(table, self._admit, rng, self._responder, rules)
        private = replace(PRIVATE, diversity=network.diversity)
        self.driver = NodeDriver(loop, node, self._socket.send, clock, private)
        self._handing_on = HandingOn(loop, self.driver, self.storage, rules)
        self._quotas = WriteQuotas(max(REQUESTS_AT_ONCE, settings.requests), settings.requests)
        self._all = LeakyBucket(ALL_AT_ONCE, ALL_PER_SECOND)
        self._first: list[Contact] = []
        self._requests = self._refused = 0
        self._store: DirectoryStore | None = None
        self._saved = True
        self._looks = 0
        self._next_look: asyncio.TimerHandle | None = None
        self._look: asyncio.Task[None] | None = None
        self._closing = False
        self._told_conflict = False

    @classmethod
    async def start(
        cls,
        identity: NodeIdentity,
        network: DirectoryNetwork,
        settings: DirectorySettings,
        state: StateFolder | None = None,
        *,
        vetting: Vetting | None = None,
        clock: Now | None = None,
        rng: Rng = os.urandom,
    ) -> DirectoryNode:
        """A node that listens, with what ``state`` kept of it; without, it begins anew each time.

        Raises :class:`~ptproxy.errors.StartError` and :class:`StateError`. Nodes of one process
        may share ``vetting``.
        """
        if vetting is None:  # an empty one is false
            vetting = Vetting(Admissions(network.id_work))
        loop = asyncio.get_running_loop()
        node = cls(loop, identity, network, settings, vetting, clock or SteadyClock(), rng)
        try:
            if state is not None:
                await node._restore(state, identity, settings)
            node._plan_look()
        except BaseException:
            await node.close()
            raise
        return node

    # ---- what others use it for -------------------------------------------------------------------

    async def join(self, contacts: Iterable[Contact]) -> int:
        """Get to know the network by these nodes, and those of before; returns how many are known then.

        One that lives is enough; while nobody is known it is tried again every half minute.
        """
        self._first = list(contacts)
        table = self.driver.node.table
        await self.driver.join([*self._first, *table.closest(self.contact.id)])
        return len(table)

    def status(self) -> DirectoryStatus:
        """How it is doing."""
        size = self.driver.node.network_size()
        return DirectoryStatus(
            len(self.driver.node.table),
            len(self.storage),
            None if size is None else round(size),
            self._requests,
            self._refused,
            self._socket.ignored,
            self._saved,
        )

    async def close(self) -> None:
        """Stop, and keep what is to be kept. May be called twice."""
        self._closing = True
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None
        if self._look is not None:
            self._look.cancel()
            await asyncio.wait({self._look})
        self.driver.close()
        self._socket.close()
        store, self._store = self._store, None
        if store is not None:
            try:
                await self._save(store, everything=True)
            finally:
                store.close()

    # ---- time ---------------------------------------------------------------------------------------

    async def upkeep(self, *, everything: bool = False) -> None:
        """One look at what is due: records to hand on or forget, the beacon, the disk.

        ``everything``: also what is saved seldom. Runs by itself; for tests, and for an owner that
        wants the disk to be up to date now.
        """
        now = self._clock()
        self.storage.expire(now)
        if not len(self.driver.node.table) and self._first:
            self.driver.begin_joining(self._first, lambda _: None)
        self._handing_on.begin(now)
        self._ask_for_beacon(now)
        if self._store is not None:
            await self._save(self._store, everything=everything)

    def _plan_look(self) -> None:
        """A timer and not a task: of a thousand nodes in one process each is idle nearly always."""
        self._next_look = self._loop.call_later(LOOK * random.uniform(0.75, 1.25), self._begin_look)

    def _begin_look(self) -> None:
        self._next_look = None
        self._looks += 1
        self._look = self._loop.create_task(self._have_a_look(seldom=self._looks % SURROUNDINGS == 1))
        self._look.add_done_callback(self._looked)

    async def _have_a_look(self, *, seldom: bool) -> None:
        await self.upkeep(everything=seldom)
        if seldom:
            self.log_status()

    def _looked(self, look: asyncio.Task[None]) -> None:
        """The next look comes whatever became of this one; a fault is told at once and not when all ends."""
        self._look = None
        error = None if look.cancelled() else look.exception()
        if error is not None:
            log.error("upkeep failed; the node goes on and tries again", exc_info=error)
        if not self._closing:
            self._plan_look()

    def log_status(self) -> None:
        """Say in the log how things are: only numbers, nobody's address."""
        status = self.status()
        log.info(
            "directory", nodes=status.nodes, network=status.network, records=status.records,
            requests=status.requests, refused=status.refused, ignored=status.ignored, saved=status.saved,
        )  # fmt: skip

    async def _restore(self, state: StateFolder, identity: NodeIdentity, settings: DirectorySettings) -> None:
        """Take back what was kept, each part checked as if a stranger had sent it."""
        store = DirectoryStore(state)
        try:
            kept = await self._loop.run_in_executor(None, store.load, settings.records)
            self._take_back(kept, identity)
        except BaseException:
            store.close()  # as it was: what is not taken back yet would be deleted by a save
            raise
        self._store = store

    def _take_back(self, kept: Kept, identity: NodeIdentity) -> None:
        now, left_out = self._clock(), kept.damaged
        if kept.contact is not None:
            self._say_again(kept.contact, identity)
        for statement in kept.beacons:
            self._learn(statement, now)
        for known in kept.nodes:
            try:
                known.contact.verify()  # its work is looked at when it is about to be asked
                self.driver.node.table.restore(known)
            except DhtError:
                left_out += 1
        for stored in kept.records:
            try:
                self.storage.restore(stored, now)
            except WriteRefusedError:
                left_out += 1
        log.info("restored", nodes=len(kept.nodes), records=len(self.storage), left_out=left_out)

    def _say_again(self, before: Contact, identity: NodeIdentity) -> None:
        """Go on with the contact of before, or with one that supersedes it."""
        ours = self.contact
        same = (before.id, before.key, before.seal_key, before.nonce, before.address)
        if same == (ours.id, ours.key, ours.seal_key, ours.nonce, ours.address):
            self.contact = before
        elif before.key == ours.key:
            self.contact = identity.contact(ours.address, max(ours.sequence, before.sequence + 1))
        self._responder.contact = self.contact

    async def _save(self, store: DirectoryStore, *, everything: bool) -> None:
        """Bring the disk up to date; a disk that cannot be written is told once, and tried again."""
        surroundings = None
        if everything:
            surroundings = Surroundings(self.contact, self.driver.node.table, self._statements())
        try:
            await store.save(self.storage.stored(), surroundings)
        except StateError as error:
            if self._saved:
                log.error("cannot save; the node goes on and tries again", why=str(error))
            self._saved = False
        else:
            if not self._saved:
                log.info("saving works again")
            self._saved = True

    # ---- messages -------------------------------------------------------------------------------------

    def _arrived(self, message: bytes, source: Address) -> None:
        """A whole message; :class:`DhtError` for one that is none."""
        kind = message[0]
        if kind == VERSION and message[1:2] > b"\x7f":
            self.driver.receive(message, source)  # an answer: only what was asked for counts
        elif not self._counts(source):
            return
        elif kind in (VERSION, SEALED):
            self.driver.receive(message, source)
        elif self._gossip is not None and kind in (ASK, TELL):
            self._gossiped(self._gossip, message, source)
        else:
            raise DhtError("a message of an unknown kind")

    def _flush(self) -> None:
        self.driver.flush()

    def _counts(self, source: Address) -> bool:
        """Whether one more request of this address is not too many."""
        self._requests += 1
        now = self._clock()
        whose = int.from_bytes(source.host[:8], "big")
        if self._quotas.take(whose, now) and self._all.take(1, now):
            return True
        self._refused += 1
        return False

    def _permitted(self, address: Address) -> bool:
        """Whether a node can be there, and we can reach it."""
        return self._socket.reaches(address) and (self._network.private_addresses or is_public(address))

    def _admit(self, contact: Contact, now: float) -> bool | None:
        return self._vetting.admit(contact, now) if self._permitted(contact.address) else None

    # ---- the beacon -----------------------------------------------------------------------------------

    def _beacon(self, epoch: int) -> bytes | None:
        return NO_BEACON if self.beacons is None else self.beacons.value(epoch)

    def _statements(self) -> list[bytes]:
        if self.beacons is None:
            return []
        current = epoch_of(self._clock())
        said = (self.beacons.statement(epoch) for epoch in (current - 1, current, current + 1))
        return [statement for statement in said if statement is not None]

    def _learn(self, statement: bytes, now: float) -> None:
        """A statement from our own disk: of another day, perhaps, or of another network."""
        if self.beacons is not None:
            try:
                self.beacons.learn(statement, now)
            except BeaconError:
                pass

    def _ask_for_beacon(self, now: float) -> None:
        if self._gossip is not None:
            addresses = [known.contact.address for known in self.driver.node.table]
            random.shuffle(addresses)
            for address, request in self._gossip.ask(addresses, now):
                self._socket.send(address, request)

    def _gossiped(self, gossip: BeaconGossip, message: bytes, source: Address) -> None:
        if message[0] == ASK:
            answer = gossip.answer(message)
            if answer is not None:
                self._socket.send(source, answer)
        else:
            try:
                gossip.receive(message, source, self._clock())
            except BeaconConflictError as error:
                if not self._told_conflict:  # whoever has both statements can send them all day
                    self._told_conflict = True
                    log.error(
                        "two values of the beacon are signed; tell who runs the network", why=str(error)
                    )
                raise
