"""How nodes pass the beacon on: whoever lacks the value of an epoch asks a few that it knows.

::

    request = 04 │ epoch u32 │ zeros, 2,200 bytes in all        answer = 05 │ statement (``dht.beacon``)

An answer is never longer than its request (2,119 bytes with 32 signatures). A statement
verifies by itself, so nothing else is signed; it is looked at only if it comes from an address that was asked
lately and says what is not known yet: otherwise anybody could have us check 32 signatures.
"""

from __future__ import annotations

from typing import Final

from ptproxy.dht.beacon import Beacons
from ptproxy.dht.contact import Address
from ptproxy.dht.epoch import EPOCH, begins, epoch_of
from ptproxy.errors import DhtError

ASK: Final = 4
"""First byte of a request."""
TELL: Final = 5
"""First byte of an answer."""
REQUEST: Final = 2_200
"""Bytes of a request: 1 + 37 + 32 signatures of 65 + 1 fit."""
ASKED: Final = 3
"""Nodes asked at a time, each minute while a value is missing."""
EARLY: Final = 18 * 3_600
"""Seconds before an epoch from which on its value may exist (RECORDS.md, "The beacon")."""

_EPOCH: Final = 4


class BeaconGossip:
    """One node's asking and answering about the beacon."""

    __slots__ = ("_asked", "_beacons")

    def __init__(self, beacons: Beacons) -> None:
        self._beacons = beacons
        self._asked: set[Address] = set()

    def missing(self, now: float) -> list[int]:
        """Epochs whose value may be known by now, and is not to us."""
        current = epoch_of(now)
        wanted = [current] if now < begins(current + 1) - EARLY else [current, current + 1]
        return [epoch for epoch in wanted if self._beacons.value(epoch) is None]

    def ask(self, addresses: list[Address], now: float) -> list[tuple[Address, bytes]]:
        """Messages to send now to a few of ``addresses``, which are in random order; often none."""
        epochs = self.missing(now)
        self._asked = set(addresses[:ASKED]) if epochs else set()
        requests = [(bytes((ASK,)) + epoch.to_bytes(_EPOCH, "big")).ljust(REQUEST, b"\0") for epoch in epochs]
        return [(address, request) for address in self._asked for request in requests]

    def answer(self, request: bytes) -> bytes | None:
        """What to send back; None if nothing is known. :class:`DhtError` for what is no request."""
        if len(request) != REQUEST or request.count(0, 1 + _EPOCH) != REQUEST - 1 - _EPOCH:
            raise DhtError("a request for a beacon of an impossible form")
        epoch = int.from_bytes(request[1 : 1 + _EPOCH], "big")
        statement = self._beacons.statement(epoch)
        return None if statement is None else bytes((TELL,)) + statement

    def receive(self, message: bytes, source: Address, now: float) -> None:
        """An answer came; raises :class:`DhtError`, of which a conflict of the signers is one."""
        if source not in self._asked:
            raise DhtError("a beacon from somebody who was not asked")
        if self.missing(now):
            self._beacons.learn(message[1:], now)


assert EARLY < EPOCH
