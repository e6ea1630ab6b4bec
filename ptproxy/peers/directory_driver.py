"""Runs a directory node or client: a clock, timers and futures around :class:`~ptproxy.dht.node.Node`.

Which way messages travel is its owner's: ``send`` is called for each that goes out, and those that come
are given to :meth:`NodeDriver.receive`, with :meth:`NodeDriver.flush` after one or many of them.
``directory_socket`` does that with datagrams; a client does it with streams through its bridge::

    driver = NodeDriver(loop, node, send)
    await driver.join(contacts)
    lookup = await driver.look_up(location, driver.private, judge)      lookup.record, lookup.closest()
    written = await driver.publish(location, record)             written.kept, written.refused

No tasks: a lookup is a value in the node, and a future for whoever awaits it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, TypeAlias, TypeVar

from ptproxy.dht.contact import Address, Contact
from ptproxy.dht.identifier import NodeId
from ptproxy.dht.lookup import Lookup
from ptproxy.dht.lookup_rules import PRIVATE, Judge, LookupRules
from ptproxy.dht.messages import VERSION
from ptproxy.dht.node import Event, LookupFinished, Node
from ptproxy.dht.round_trips import LONGEST
from ptproxy.dht.storage import Refusal
from ptproxy.errors import DhtError
from ptproxy.peers.directory_clock import Now, SteadyClock

WRITE_WAIT: Final = 2 * LONGEST
"""Seconds that a write waits for the slowest of the nodes it was sent to: they check its work first."""

_ANSWER: Final = 0x80
"""The bit of a message's second byte that tells answers from requests."""

Send: TypeAlias = Callable[[Address, bytes], None]
"""Sends a message now, or loses it: a lookup asks somebody else. Must not call the driver."""


T = TypeVar("T")


class NodeBusyError(DhtError):
    """As many lookups run as a node may have: later. Or it has been stopped."""


@dataclass(slots=True)
class Written:
    """What became of a record at the nodes that are to keep it."""

    lookup: Lookup
    """Which nodes those are, and how they were found."""
    kept: list[Contact] = field(default_factory=list)
    refused: dict[Refusal, int] = field(default_factory=dict)
    """How many gave which reason. STALE: another record of the same or a higher sequence is there."""
    silent: int = 0
    """How many have not answered in time; they may have it all the same."""


class _Write:
    """A record on its way to several nodes."""

    __slots__ = ("then", "timer", "waiting", "written")

    def __init__(self, lookup: Lookup, then: Callable[[Written], None]) -> None:
        self.written = Written(lookup)
        self.waiting: set[NodeId] = set()
        self.then = then
        self.timer: asyncio.TimerHandle | None = None


class NodeDriver:
    """One node, or client, that runs. ``node`` is the sans-I/O one inside."""

    __slots__ = (
        "_closed", "_due", "_flushing", "_loop", "_pacing", "_requests", "_searches", "_send", "_timer",
        "_writes", "clock", "node", "private",
    )  # fmt: skip

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        node: Node,
        send: Send,
        clock: Now | None = None,
        private: LookupRules = PRIVATE,
    ) -> None:
        """``private``: how the nodes for a record are found, and records that only some may find."""
        self.node = node
        self.private = private
        self.clock = clock or SteadyClock()
        self._loop = loop
        self._send = send
        self._searches: dict[Lookup, Callable[[Lookup], None]] = {}
        self._writes: dict[tuple[NodeId, NodeId], list[_Write]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._due = float("inf")
        self._flushing = False
        self._requests: list[tuple[Address, bytes]] = []
        self._pacing = False
        self._closed = False

    # ---- what its owner asks for --------------------------------------------------------------

    async def join(self, contacts: Iterable[Contact]) -> Lookup:
        """Get to know the network by these nodes; one that lives is enough.

        Whoever answered is in the lookup (``closest()``) and in the node's table: nobody, if none of
        them lives. Raises :class:`NodeBusyError`.
        """
        done: asyncio.Future[Lookup] = self._loop.create_future()
        self.begin_joining(contacts, lambda lookup: _resolve(done, lookup))
        return await done

    def begin_joining(self, contacts: Iterable[Contact], then: Callable[[Lookup], None]) -> None:
        """:meth:`join` for those without a task; see :meth:`search`."""
        self._check_open()
        self._watch(self.node.join(contacts, self.clock()), then)

    async def look_up(
        self, target: NodeId, rules: LookupRules | None = None, judge: Judge | None = None
    ) -> Lookup:
        """The lookup, finished: the closest nodes, or the record that ``judge`` accepts if it is there.

        Raises :class:`NodeBusyError`. A cancelled one goes on inside, for nobody.
        """
        done: asyncio.Future[Lookup] = self._loop.create_future()
        self.search(target, lambda lookup: _resolve(done, lookup), rules, judge)
        return await done

    async def publish(self, location: NodeId, record: bytes, rules: LookupRules | None = None) -> Written:
        """Leave ``record`` with the nodes closest to one of its locations; raises :class:`NodeBusyError`.

        Returns once all of them have answered, or :data:`WRITE_WAIT` is over.
        """
        done: asyncio.Future[Written] = self._loop.create_future()
        self.search(
            location,
            lambda lookup: self.write(lookup, record, lambda written: _resolve(done, written)),
            rules or self.private,
        )
        return await done

    def search(
        self,
        target: NodeId,
        then: Callable[[Lookup], None],
        rules: LookupRules | None = None,
        judge: Judge | None = None,
    ) -> None:
        """:meth:`look_up` for those without a task: ``then`` is called with the finished lookup.

        That may be within this call, if there is nobody to ask. Raises :class:`NodeBusyError`.
        """
        self._check_open()
        self._watch(self.node.look_up(target, self.clock(), rules, judge), then)

    def _watch(self, lookup: Lookup, then: Callable[[Lookup], None]) -> None:
        """Call ``then`` when a lookup that has just begun is finished."""
        if not lookup.finished:
            self._searches[lookup] = then
            self.flush()
        elif self.node.deadline() > float("-inf"):  # the node has not even taken it
            raise NodeBusyError("too many lookups at a time")
        else:
            self.flush()
            then(lookup)

    def write(self, lookup: Lookup, record: bytes, then: Callable[[Written], None]) -> None:
        """Leave ``record`` with what a lookup found, soon: nodes know their tokens for some minutes."""
        write = _Write(lookup, then)
        now = self.clock()
        for contact in () if self._closed else lookup.closest():
            token = lookup.tokens.get(contact.id)
            if token is not None:
                self.node.store(contact, lookup.target, token, record, now)
                write.waiting.add(contact.id)
                self._writes.setdefault((contact.id, lookup.target), []).append(write)
        if write.waiting:
            write.timer = self._loop.call_later(WRITE_WAIT, self._end_write, write)
            self.flush()
        else:
            then(write.written)

    def close(self) -> None:
        """Stop: nothing is sent any more. Who waits is given what was found and answered until now."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._requests.clear()
        searches, self._searches = self._searches, {}
        for lookup, then in searches.items():
            lookup.finished = True
            then(lookup)
        for write in {write for writes in self._writes.values() for write in writes}:
            self._end_write(write)

    # ---- what the owner's transport does --------------------------------------------------------

    def receive(self, message: bytes, source: Address) -> None:
        """A message came from ``source``; :class:`DhtError` for one that is to be ignored.

        What follows from it is sent by the next :meth:`flush`.
        """
        if not self._closed:
            self._tell(self.node.receive_message(message, source, self.clock()))

    def flush(self) -> None:
        """Send what there is to send, and do what is due."""
        if self._flushing or self._closed:
            return
        self._flushing = True
        try:
            due = self._work()
        finally:
            self._flushing = False
        if not self._closed:
            self._arm(due)
            if self._requests and not self._pacing:
                self._pace()

    # ---- inside -----------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed:
            raise NodeBusyError("the node has stopped")

    def _work(self) -> float:
        """Send, and do what is due; when the node wants to wake up."""
        node, now, due = self.node, self.clock(), float("inf")
        while not self._closed:
            for address, message in node.messages_to_send(now):
                if message[0] != VERSION or message[1] & _ANSWER:  # what is sealed here is an answer
                    self._send(address, message)
                else:
                    self._requests.append((address, message))
            due = node.deadline()
            if due > now:
                break
            self._tell(node.on_deadline(now))
        return due

    def _pace(self) -> None:
        """One request each turn of the loop, so that an answer to the first is not behind three of them."""
        self._pacing = False
        if self._requests:
            self._send(*self._requests.pop(0))
        if self._requests:
            self._pacing = True
            self._loop.call_soon(self._pace)

    def _tell(self, events: Iterable[Event]) -> None:
        for event in events:
            if isinstance(event, LookupFinished):
                then = self._searches.pop(event.lookup, None)
                if then is not None:
                    then(event.lookup)
                continue
            writes = self._writes.get((event.contact.id, event.location))
            if writes:  # of several the one that has waited longest
                self._answered(writes[0], event.contact, event.answer.refusal)

    def _answered(self, write: _Write, contact: Contact, refusal: Refusal | None) -> None:
        self._forget(write, contact.id)
        write.waiting.discard(contact.id)
        if refusal is None:
            write.written.kept.append(contact)
        else:
            write.written.refused[refusal] = write.written.refused.get(refusal, 0) + 1
        if not write.waiting:
            self._end_write(write)

    def _end_write(self, write: _Write) -> None:
        assert write.timer is not None
        write.timer.cancel()
        write.written.silent = len(write.waiting)
        for place in write.waiting:
            self._forget(write, place)
        write.then(write.written)

    def _forget(self, write: _Write, place: NodeId) -> None:
        """``write`` waits for the node at ``place`` no longer; others of the same record may."""
        key = place, write.written.lookup.target
        self._writes[key].remove(write)
        if not self._writes[key]:
            del self._writes[key]

    def _arm(self, due: float) -> None:
        """Wake up when the node wants to; a timer that is early enough stays."""
        if self._timer is not None:
            if self._due <= due:
                return
            self._timer.cancel()
        self._due = due
        self._timer = self._loop.call_later(max(0.0, due - self.clock()), self._woke)

    def _woke(self) -> None:
        self._timer = None
        self.flush()


def _resolve(done: asyncio.Future[T], value: T) -> None:
    if not done.done():
        done.set_result(value)
