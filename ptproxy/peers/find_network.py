"""Which network of directory nodes a client asks: the newest list that its key signed, and nodes met before.

A client that was given no key takes the network that its bridge's guard names first, and stays with that
key; when the last list of that key is over and guards name another network, it takes that one. A false
network could only withhold what is sought, and see which places are asked for: records are believed for
their issuer's signature, whoever hands them out.

In a network with a beacon the values of yesterday, today and tomorrow are kept as well, in the bytes that
its signers signed: nobody can look for anything, or publish it, in an epoch whose value is not known.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ptproxy.dht.beacon import BeaconError, Beacons
from ptproxy.dht.contact import Contact
from ptproxy.dht.epoch import epoch_of
from ptproxy.dht.first_nodes import FirstNodes
from ptproxy.dht.record import NO_BEACON
from ptproxy.dht.signing import KEY
from ptproxy.errors import DhtError, StateError
from ptproxy.peers.directory_network import read_first_nodes, read_node, write_node

MAX_MEMORY: Final = 2_048
"""KiB of one computation of work, four times the public network's: we check some hundred in one lookup, and
whoever answers first says how much."""
MAX_BITS: Final = 18
"""Zeros that a record's work may need: two minutes of a core, 256 times the public network's."""
MAX_KEPT: Final = 200
"""Nodes remembered between runs: some of them live even after weeks."""
MAX_STATEMENTS: Final = 3
"""Beacons remembered: of the epoch before, the current one and the next."""


@dataclass(slots=True)
class KnownNetwork:
    """The network of one client. ``key`` is b"" until one is known."""

    key: bytes = b""
    text: str = ""
    """The signed list, as it is pasted."""
    contacts: tuple[Contact, ...] = ()
    """Nodes that answered, beside those of the list."""
    first: FirstNodes | None = field(default=None, repr=False)
    """The list, read."""
    statements: tuple[bytes, ...] = field(default=(), repr=False)
    """Of the beacon, where there is one."""
    pinned: bytes = b""
    """The key that the person gave; b"": the first that is heard of is taken."""
    _beacons: Beacons | None = field(default=None, init=False, repr=False)
    _others_offered: bool = field(default=False, init=False, repr=False)

    def offer(self, key: bytes, text: str, now: float) -> bool:
        """Take a list if it is of our network and newer than ours.

        :class:`DhtError` for one that is not good, or that another key has signed.
        """
        if self.key and key != self.key:
            self._others_offered = True
            raise DhtError("the list of another network than the one that is known (ptproxy dht forget)")
        found = read_first_nodes(text, key, now)
        if found.id_work.memory > MAX_MEMORY or found.record_work.memory > MAX_MEMORY:
            raise DhtError("a list that asks for so much memory that each node would take us long to check")
        if found.record_work.bits > MAX_BITS:
            raise DhtError("a list that asks for so much work that no record would ever be published")
        ours = self._current(now)
        if ours is not None and found.sequence <= ours.sequence:
            return False
        self.key, self.text, self.first, self._beacons = key, text, found, None
        return True

    def lapse(self, now: float) -> bool:
        """Forget the key where nothing that it signed is good any more and another was offered.

        Whether that was so. Who signed the lists may have lost theirs and begun anew, and without a list
        nothing can be asked for anyway. A key that the person gave (:attr:`pinned`) stays.
        """
        if self.pinned or not self._others_offered or self._current(now) is not None:
            return False
        self.forget()
        return True

    def forget(self) -> None:
        """Know no network."""
        self.key, self.text, self.first, self._beacons = b"", "", None, None
        self.contacts = self.statements = ()
        self._others_offered = False

    def begin(self, now: float) -> FirstNodes:
        """The list to begin with; :class:`DhtError` if there is none that is good now."""
        found = self._current(now)
        if found is None:
            raise DhtError("no good list of directory nodes is known")
        return found

    def learn(self, statement: bytes, now: float) -> None:
        """Take a statement of the beacon; :class:`DhtError` for one that is not good.

        :class:`~ptproxy.dht.beacon.BeaconConflictError` where the signers have said something else before.
        """
        beacons = self._signed(now)
        if beacons is None:
            raise BeaconError("a beacon in a network that has none")
        beacons.learn(statement, now)
        epoch = epoch_of(now)
        known = (beacons.statement(each) for each in (epoch - 1, epoch, epoch + 1))
        self.statements = tuple(each for each in known if each is not None)

    def beacon(self, epoch: int, now: float) -> bytes | None:
        """What locations of ``epoch`` are made with; None while that is not known."""
        if self.begin(now).signers is None:
            return NO_BEACON
        beacons = self._signed(now)
        return None if beacons is None else beacons.value(epoch)

    def _signed(self, now: float) -> Beacons | None:
        """What is known of the beacon, verified; None in a network without one."""
        first = self._current(now)
        if first is None or first.signers is None:
            return None
        if self._beacons is None:
            self._beacons = Beacons(first.signers)
            for statement in self.statements:
                with contextlib.suppress(BeaconError):  # of another day, or of signers of before
                    self._beacons.learn(statement, now)
        return self._beacons

    def met(self, contacts: Iterable[Contact]) -> None:
        """Remember nodes that answered."""
        found = {contact.id: contact for contact in self.contacts}
        for contact in contacts:
            found.pop(
                contact.id, None
            )  # it stands where it stood otherwise, and goes before those long silent
            found[contact.id] = contact
        self.contacts = tuple(found.values())[-MAX_KEPT:]

    def _current(self, now: float) -> FirstNodes | None:
        if self.first is None and self.text:
            try:
                self.first = read_first_nodes(self.text, self.key, now)
            except DhtError:
                self.text = ""
        if self.first is not None and self.first.expires <= now:
            self.first, self.text = None, ""
        return self.first

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; nothing in it is secret, but it tells which network is used."""
        return {
            "key": self.key.hex(),
            "list": self.text,
            "beacons": [statement.hex() for statement in self.statements],
            "nodes": [write_node(contact) for contact in self.contacts],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> KnownNetwork:
        """What :meth:`to_dict` gave; :class:`StateError` for anything else."""
        try:
            key = bytes.fromhex(data["key"])
            contacts = tuple(read_node(text) for text in list(data["nodes"])[:MAX_KEPT])
            text = data["list"]
            said = tuple(bytes.fromhex(each) for each in list(data.get("beacons", ()))[:MAX_STATEMENTS])
            if type(text) is not str:
                raise TypeError("no text")
            if len(key) not in (0, KEY):
                raise ValueError("no key")
        except (KeyError, TypeError, ValueError, AttributeError, DhtError):
            raise StateError("what was remembered of the directory is damaged") from None
        return cls(key, text, contacts, statements=said)
