"""A directory node, or a client that only asks: table, lookups, requests and answers put together.

Messages in, messages out; the rim has the socket and the clock::

    node.receive_message(data, source, now) -> list[LookupFinished]
    node.look_up(target, rules, now, judge)     node.store(...)
    node.messages_to_send(now) -> [(address, message)]      after any of them
    node.deadline() / node.on_deadline(now)

A node keeps its table by what it sees: a verified answer puts a node in, silence
takes it out; whoever asks is pinged at the address it names, and is in once it has
answered. Buckets that no lookup went through for an hour are looked up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from ptproxy.dht.contact import Address, Contact
from ptproxy.dht.density import NetworkSize, Seats
from ptproxy.dht.identifier import ID_BYTES, NodeId, Rng
from ptproxy.dht.lookup import Lookup, Query
from ptproxy.dht.lookup_rules import UPKEEP, Admit, Judge, LookupRules
from ptproxy.dht.messages import (
    VERSION,
    Find,
    Found,
    Get,
    Holding,
    Leave,
    Nodes,
    Ping,
    Pong,
    Request,
    Seek,
    Store,
    Stored,
)
from ptproxy.dht.quota import LeakyBucket
from ptproxy.dht.responder import Responder
from ptproxy.dht.round_trips import RoundTrips
from ptproxy.dht.rpc import Answered, Calls
from ptproxy.dht.table import RoutingTable
from ptproxy.errors import DhtError

MAX_LOOKUPS: Final = 64
"""Lookups at a time: an hour's refreshing of every bucket, and what people ask for."""
MAX_GREETINGS: Final = 32
"""Strangers being pinged at a time; more of them can wait until they write again."""
GREETINGS_PER_SECOND: Final = 10.0
"""Strangers looked at in the long run: a tenth of the contacts that are checked a second (``admission``).
Requests need no return address, so that anybody could use up all checks, and lookups would find none left."""
MAX_MISSED: Final = 64
"""Nodes still waited for whose lookup has ended without them: so that the table learns who is gone."""
UPKEEP_EVERY: Final = 60.0
"""Seconds between looks at what is due."""
SILENT_FOR: Final = 900.0
"""Seconds after which a node is pinged whose place another one waits for."""
PINGS: Final = 8
"""Such pings at a time."""

_ANSWER: Final = 0x80
"""The bit of a message's kind that tells answers from requests."""


@dataclass(frozen=True, slots=True)
class LookupFinished:
    """What was found is in the lookup."""

    lookup: Lookup


@dataclass(frozen=True, slots=True)
class StoreAnswered:
    """A node's word on a record that we asked it to keep."""

    contact: Contact
    location: NodeId
    answer: Stored


Event = LookupFinished | StoreAnswered


class Node:
    """``responder`` is None for a client: it answers nobody, and names itself to nobody."""

    __slots__ = (
        "_admit", "_calls", "_greeting", "_lookups", "_missed", "_next_upkeep", "_out", "_responder", "_rng",
        "_rules", "_sampling", "_strangers", "_trips", "size", "table",
    )  # fmt: skip

    def __init__(
        self,
        table: RoutingTable,
        admit: Admit,
        rng: Rng,
        responder: Responder | None = None,
        rules: LookupRules = UPKEEP,
    ) -> None:
        self.table = table
        self.size = NetworkSize()
        self._admit = admit
        self._rng = rng
        self._responder = responder
        self._rules = rules
        self._calls = Calls(rng)
        self._trips = RoundTrips()
        self._lookups: list[Lookup] = []
        self._sampling: list[Lookup] = []
        self._greeting: dict[NodeId, float] = {}
        self._missed: dict[NodeId, float] = {}
        self._strangers = LeakyBucket(MAX_GREETINGS, GREETINGS_PER_SECOND)
        self._out: list[tuple[Address, bytes]] = []
        self._next_upkeep = float("-inf")
        if responder is not None:
            responder.seats = lambda: self.seats

    @property
    def seats(self) -> Seats:
        """The seats around any place, as far as the size of the network is known."""
        return self._rules.seats(self.network_size())

    def network_size(self) -> float | None:
        """How many nodes there are, not fewer than we know; None before a lookup of a random place."""
        estimate = self.size.estimate()
        return None if estimate is None else max(estimate, float(len(self.table)))

    # What the rim asks for

    def join(self, contacts: Iterable[Contact], now: float) -> Lookup:
        """Look for ourselves among what these know; one that lives is enough."""
        own = self.table.own
        return self._start(Lookup(own, contacts, self._rules, self._trips, self._admit, own=own), now)

    def look_up(
        self, target: NodeId, now: float, rules: LookupRules | None = None, judge: Judge | None = None
    ) -> Lookup:
        """Find the nodes closest to ``target``, or the record there that ``judge`` accepts.

        A lookup beyond :data:`MAX_LOOKUPS` is returned finished, with nothing found.
        """
        rules = rules or self._rules
        size = self.network_size()
        seeds = self._hopeful(target, rules, size) if rules.is_hasty else self.seeds(target, rules, size)
        self.table.touch(target, now)
        lookup = Lookup(target, seeds, rules, self._trips, self._admit, judge, size, self.table.own)
        return self._start(lookup, now)

    def store(self, contact: Contact, location: NodeId, token: bytes, record: bytes, now: float) -> None:
        """Ask a node that a lookup found to keep a record; :class:`StoreAnswered` says whether it does."""
        self._ask(contact, Store(self._sender(), location, token, record), now, None)

    def leave(self, contact: Contact, location: NodeId, token: bytes, record: bytes, now: float) -> None:
        """Offer a copy to the node that :meth:`Lookup.cache_at` names, of a record that may be copied."""
        self._ask(contact, Leave(self._sender(), location, token, record), now, None)

    def messages_to_send(self, now: float) -> list[tuple[Address, bytes]]:
        """What is to be sent now."""
        for lookup in self._lookups:
            self._continue(lookup, now)
        out, self._out = self._out, []
        return out

    def receive_message(self, data: bytes, source: Address, now: float) -> list[Event]:
        """A message came; :class:`DhtError` for one that is to be ignored."""
        if len(data) > 1 and data[0] == VERSION and data[1] & _ANSWER:
            return self._receive_answer(self._calls.receive_answer(data, now), now)
        if self._responder is None:
            raise DhtError("a request to somebody who answers none")
        reply = self._responder.receive_request(data, source, now)
        self._out.append((source, reply.data))
        if reply.sender is not None:
            self._greet(reply.sender, now)
        return []

    def deadline(self) -> float:
        """When :meth:`on_deadline` is due; long ago if a lookup ended before anybody was asked."""
        soonest = self._next_upkeep
        for lookup in self._lookups:
            if lookup.finished:
                return float("-inf")
            due = lookup.deadline()
            if due is not None and due < soonest:
                soonest = due
        for owing in (self._greeting, self._missed):
            if owing:
                soonest = min(soonest, *owing.values())
        return soonest

    def on_deadline(self, now: float) -> list[Event]:
        """Time has passed: late queries, upkeep."""
        for lookup in self._lookups:
            for contact in lookup.on_deadline(now):
                self.table.failed(contact.id)
        for owing in (self._greeting, self._missed):
            for node in [node for node, due in owing.items() if due <= now]:
                del owing[node]
                self.table.failed(node)
        if now >= self._next_upkeep:
            self._next_upkeep = now + UPKEEP_EVERY
            self._calls.expire(now)
            self._upkeep(now)
        return self._finished(now)

    # What a client does in its own way

    def seeds(self, target: NodeId, rules: LookupRules, size: float | None) -> list[Contact]:
        """Whom a lookup begins with, the closest first."""
        return self.table.closest(target, rules.seats(size), rules.count)

    def post(self, contact: Contact, message: bytes, place: NodeId | None, path: int | None) -> None:
        """``message`` is to go to ``contact``.

        ``place``: what it asks about; ``path``: which path of a lookup asks, None if none does.
        """
        del place, path
        self._out.append((contact.address, message))

    # What happens inside

    def _hopeful(self, target: NodeId, rules: LookupRules, size: float | None) -> Iterator[Contact]:
        """Seeds for a lookup in haste: the closest of all that we met; the others if they are needed."""
        nearest = self.table.nearest(target)
        if nearest is not None:
            yield nearest
        yield from self.seeds(target, rules, size)

    def _upkeep(self, now: float) -> None:
        places = self.table.refresh(now, self._rng)
        if self.size.estimate() is None and len(self.table):
            places.append(int.from_bytes(self._rng(ID_BYTES), "big"))
        for place in places:
            lookup = self.look_up(place, now)
            if lookup in self._lookups:
                self._sampling.append(lookup)
        for contact in self.table.questionable(now - SILENT_FOR, PINGS):
            self._ping(contact, now)

    def _start(self, lookup: Lookup, now: float) -> Lookup:
        if len(self._lookups) >= MAX_LOOKUPS:
            lookup.finished = True
            return lookup
        self._lookups.append(lookup)
        self._continue(lookup, now)
        return lookup

    def _continue(self, lookup: Lookup, now: float) -> None:
        queries = lookup.queries_to_send(now)
        if not queries:
            return
        # A node from before GET is silent to it: once somebody was, the others are asked by SEEK.
        gets = lookup.seeks_one and not lookup.met_silence
        kind = Get if gets else Seek if lookup.seeks_record else Find
        request = kind(self._sender(), lookup.target)
        for query in queries:
            self._ask(query.contact, request, now, lookup, query)

    def _ask(
        self,
        contact: Contact,
        request: Request,
        now: float,
        lookup: Lookup | None,
        query: Query | None = None,
    ) -> None:
        place: NodeId | None
        match request:
            case Find():
                place = request.target
            case Seek() | Get() | Store() | Leave():
                place = request.location
            case Ping():
                place = None
        message = self._calls.ask(contact, request, now, lookup, hoped=query is not None and query.hoped)
        self.post(contact, message, place, None if query is None else query.path)

    def _sender(self) -> Contact | None:
        return self._responder.contact if self._responder is not None else None

    def _greet(self, contact: Contact, now: float) -> None:
        """Somebody asked us: get to know it, if it is who it says.

        Spares are known: else two that are each other's would answer every ping with a ping.
        """
        known = self.table.met(contact.id)
        if known is None:
            if not self.table.has_use_for(contact, now):
                return
        elif not known.failures and not contact.supersedes(known.contact):
            return
        if (
            len(self._greeting) < MAX_GREETINGS
            and contact.id not in self._greeting
            and self._strangers.take(1, now)
            and self._admit(contact, now)
        ):
            self._ping(contact, now)

    def _ping(self, contact: Contact, now: float) -> None:
        self._greeting[contact.id] = now + self._trips.timeout
        self._ask(contact, Ping(self._sender()), now, None)

    def _receive_answer(self, answered: Answered, now: float) -> list[Event]:
        contact, answer, lookup = answered.contact, answered.answer, answered.lookup
        if answer is None:
            return self._expose(contact, lookup, now)
        if isinstance(answer, Pong):
            self._greeting.pop(contact.id, None)
            if answer.contact.address == contact.address:
                contact = answer.contact
            elif answer.contact.supersedes(contact):
                # Believed once it answers there: it may be anybody's address.
                self._greet(answer.contact, now)
        self._missed.pop(contact.id, None)  # a FOUND says so much: somebody had what only it was sent
        if answered.signed:
            self.table.answered(contact, now)
        self._trips.took(answered.seconds)
        if isinstance(answer, Stored):
            assert isinstance(answered.request, Store | Leave)
            return [StoreAnswered(contact, answered.request.location, answer)]
        if lookup is None or lookup not in self._lookups:
            return []
        if isinstance(answer, Nodes | Holding):
            lookup.tokens[contact.id] = answer.token
        if isinstance(answer, Nodes):
            lookup.receive_nodes(contact.id, answer.contacts, now)
        elif isinstance(answer, Holding | Found):
            lookup.receive_record(contact.id, answer.record, now)
        return self._finished(now)

    def _expose(self, contact: Contact, lookup: Lookup | None, now: float) -> list[Event]:
        """A node has signed what no honest node says."""
        self.table.forget(contact.id)
        if lookup is not None:
            lookup.receive_refusal(contact.id)
        return self._finished(now)

    def _finished(self, now: float) -> list[Event]:
        """Lookups that are done."""
        for lookup in self._lookups:
            self._continue(lookup, now)
        done = [lookup for lookup in self._lookups if lookup.finished]
        if not done:
            return []
        self._lookups = [lookup for lookup in self._lookups if not lookup.finished]
        for lookup in done:
            for node, due in lookup.waiting()[: MAX_MISSED - len(self._missed)]:
                self._missed.setdefault(node, due)
            if lookup.target == self.table.own:  # joined: how large is the network?
                self._next_upkeep = now
            if lookup in self._sampling:
                self._sampling.remove(lookup)
                self.size.found(lookup.target, [contact.id for contact in lookup.closest()])
        return [LookupFinished(lookup) for lookup in done]
