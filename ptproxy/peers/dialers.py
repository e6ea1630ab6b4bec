"""Who dials what under which key: nobody whom a mailbox sees twice is to be one pseudonym there.

A messenger reaches its own box, the box of each contact and a rendezvous under keys that have
nothing in common (``PROTOCOL.md``, "What the mailbox sees"): it asks a :class:`Dialers` for each.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

from ptproxy.config.link import Link
from ptproxy.tunnel.stream import Dialer


class Errand(IntEnum):
    """What is done there. The number is part of the derivation of keys."""

    OWN_BOX = 1
    """Collect what comes for us."""
    DEPOSIT = 2
    """Leave something for one contact, fetch its bundle."""
    MEET = 3
    """Meet one contact at a rendezvous."""


@dataclass(frozen=True, slots=True)
class Purpose:
    """One pseudonym: what for, and for which contact (b"": for none), under which private key."""

    errand: Errand
    contact: bytes = b""
    key: bytes = field(default=b"", repr=False)
    """32 bytes, an X25519 private key for nothing else (``Messenger.purpose`` makes it); b"": any new one."""


class Dialers(Protocol):
    """Gives a dialer for a bridge and a purpose."""

    def dialer(self, link: Link, purpose: Purpose) -> Dialer:
        """A dialer to the bridge of ``link`` under a key for this purpose alone.

        It connects when something is dialled; whatever keeps it from that is a
        :class:`~ptproxy.errors.DialError` of the dial.
        """
