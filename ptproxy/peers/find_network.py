"""Which network of directory nodes a client asks: the newest list that its key signed, and nodes met before.

A client that was given no key takes the network that its bridge's guard names first, and stays with that
key. A false network could only withhold what is sought, and see which places are asked for: records are
believed for their issuer's signature, whoever hands them out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ptproxy.dht.contact import Contact
from ptproxy.dht.first_nodes import FirstNodes
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

    def offer(self, key: bytes, text: str, now: float) -> bool:
        """Take a list if it is of our network and newer than ours.

        :class:`DhtError` for one that is not good, or that another key has signed.
        """
        if self.key and key != self.key:
            raise DhtError("the list of another network")
        found = read_first_nodes(text, key, now)
        if found.id_work.memory > MAX_MEMORY or found.record_work.memory > MAX_MEMORY:
            raise DhtError("a list that asks for so much memory that each node would take us long to check")
        if found.record_work.bits > MAX_BITS:
            raise DhtError("a list that asks for so much work that no record would ever be published")
        ours = self._current(now)
        if ours is not None and found.sequence <= ours.sequence:
            return False
        self.key, self.text, self.first = key, text, found
        return True

    def begin(self, now: float) -> FirstNodes:
        """The list to begin with; :class:`DhtError` if there is none that is good now."""
        found = self._current(now)
        if found is None:
            raise DhtError("no good list of directory nodes is known")
        return found

    def met(self, contacts: Iterable[Contact]) -> None:
        """Remember nodes that answered."""
        found = {contact.id: contact for contact in self.contacts}
        found.update((contact.id, contact) for contact in contacts)
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
            "nodes": [write_node(contact) for contact in self.contacts],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> KnownNetwork:
        """What :meth:`to_dict` gave; :class:`StateError` for anything else."""
        try:
            key = bytes.fromhex(data["key"])
            contacts = tuple(read_node(text) for text in list(data["nodes"])[:MAX_KEPT])
            text = data["list"]
            if type(text) is not str:
                raise TypeError("no text")
            if len(key) not in (0, KEY):
                raise ValueError("no key")
        except (KeyError, TypeError, ValueError, AttributeError, DhtError):
            raise StateError("what was remembered of the directory is damaged") from None
        return cls(key, text, contacts)
