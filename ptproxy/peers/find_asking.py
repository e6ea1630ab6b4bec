"""A client's side of the directory: a node that answers nobody, and whose every request is sealed.

What :class:`~ptproxy.dht.node.Node` would send as datagrams leaves here as letters, each for one path of a
lookup; what comes back is opened with the key of the request that it answers. Nothing is asked
but for a lookup that somebody waits for: a client keeps up no table.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from ptproxy.dht.contact import Address, Contact
from ptproxy.dht.identifier import NodeId, Rng
from ptproxy.dht.lookup_rules import Admit, LookupRules
from ptproxy.dht.node import Node
from ptproxy.dht.sealing import SealedCall
from ptproxy.dht.table import K, RoutingTable
from ptproxy.errors import DhtError
from ptproxy.peers.find_frames import Letter

MAX_CALLS: Final = 1_024
"""Requests whose answer can be opened; the oldest is given up for a new one, as ``dht.rpc`` does."""
MAX_REMEMBERED: Final = 16_384
"""Requests of which is remembered by which path they went: a write has to come from the same address."""


@dataclass(frozen=True, slots=True)
class Posted:
    """A letter to send by ``path``."""

    letter: Letter
    node: NodeId
    path: int


Send: TypeAlias = Callable[[Posted], None]
"""Sends a letter now, or loses it."""


class AskingNode(Node):
    """A :class:`~ptproxy.dht.node.Node` for a client, of which nobody hears. See the module."""

    def __init__(self, table: RoutingTable, admit: Admit, rng: Rng, rules: LookupRules, send: Send) -> None:
        super().__init__(table, admit, rng, None, rules)
        self.first: tuple[Contact, ...] = ()
        """Nodes to begin with while the table has too few: the signed list's, and those of before."""
        self._send = send
        self._out_there: OrderedDict[int, Address] = OrderedDict()
        self._waiting: dict[Address, dict[int, tuple[SealedCall, NodeId]]] = {}
        self._number = 0
        self._paths: OrderedDict[tuple[NodeId, NodeId | None], int] = OrderedDict()

    def seeds(self, target: NodeId, rules: LookupRules, size: float | None) -> list[Contact]:
        """The closest of the table; while that has fewer than a bucket's, all that are known by name."""
        found = super().seeds(target, rules, size)
        if len(found) >= K:
            return found
        there = {contact.id for contact in found}
        return found + [contact for contact in self.first if contact.id not in there]

    def post(self, contact: Contact, message: bytes, place: NodeId | None, path: int | None) -> None:
        """Seal ``message`` for its node; a key that nothing can be sealed for is a node that stays silent."""
        asked = contact.id, place
        path = self._paths.pop(asked, 0) if path is None else path
        self._paths[asked] = path
        if len(self._paths) > MAX_REMEMBERED:
            self._paths.popitem(last=False)
        try:
            call = SealedCall(message, contact.seal_key, self._rng)
        except DhtError:
            return
        if len(self._out_there) >= MAX_CALLS:
            self._give_up(next(iter(self._out_there)))
        self._number += 1
        self._out_there[self._number] = contact.address
        self._waiting.setdefault(contact.address, {})[self._number] = call, contact.id
        self._send(Posted(Letter(contact.address, call.sealed), contact.id, path))

    def open(self, letter: Letter) -> tuple[NodeId, bytes]:
        """Which node an answer is of, and the answer; :class:`DhtError` for what answers nothing."""
        for number, (call, node) in self._waiting.get(letter.address, {}).items():
            try:
                answer = call.open_answer(letter.message)
            except DhtError:
                continue
            self._give_up(number)
            return node, answer
        raise DhtError("an answer to nothing that was asked")

    def _give_up(self, number: int) -> None:
        """Forget the key of a request."""
        address = self._out_there.pop(number)
        there = self._waiting[address]
        del there[number]
        if not there:
            del self._waiting[address]

    def _upkeep(self, now: float) -> None:
        """Nothing: pings would only be seen."""
