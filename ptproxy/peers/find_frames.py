"""What passes between a client and a guard of the directory, on one stream through a bridge, both ways.

::

    frame    = kind u8 │ length u16 │ body
    network  = 1 │ length │ key 32 │ signed list as text (``directory_network``)    guard to client, once
    letter   = 2 │ length │ address (``dht.contact``) │ sealed message (``dht.sealing``)
    beacon   = 3 │ length │ statement (``dht.beacon``)        guard to client, before the network or later

A letter up goes to the node at that address as datagrams (``dht.datagrams``) from the guard's
own address; one down is what came back from there. A guard sends sealed messages only, so
neither it nor the bridge in between can read or tell apart what is asked, and the nodes
hear of neither bridge nor client.

The list says which network the guard knows. It is for clients without one of their own; those
that have one take newer lists of the same key only. Beacons are there only in a network that has one: those
that the guard knows stand before the network, so that whoever has read that can begin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from ptproxy.buffer import Buffer
from ptproxy.dht.beacon import MAX_SIGNERS, VALUE
from ptproxy.dht.contact import Address
from ptproxy.dht.messages import LONGEST
from ptproxy.dht.sealing import OVERHEAD, SEALED
from ptproxy.dht.signing import KEY, SIGNATURE
from ptproxy.errors import DhtError
from ptproxy.peers.directory_network import MAX_TEXT

HEAD: Final = 3
MAX_LETTER: Final = 19 + LONGEST + OVERHEAD
"""Bytes of a letter's body: an IPv6 address and the longest message, sealed."""
MAX_NETWORK: Final = KEY + MAX_TEXT
MAX_BEACON: Final = 1 + 4 + VALUE + 1 + MAX_SIGNERS * (1 + SIGNATURE)
"""Bytes of the longest statement: version, epoch, value, and a signature of each signer."""

_NETWORK: Final = 1
_LETTER: Final = 2
_BEACON: Final = 3
_LONGEST: Final = {_NETWORK: MAX_NETWORK, _LETTER: MAX_LETTER, _BEACON: MAX_BEACON}


class FindFrameError(DhtError):
    """Bytes that are no frame of a directory stream."""


@dataclass(frozen=True, slots=True)
class NetworkFrame:
    """The network that a guard knows. Not verified: the list is signed by ``key``."""

    key: bytes
    text: str

    def serialize(self) -> bytes:
        """The frame."""
        return _frame(_NETWORK, self.key + self.text.encode())


@dataclass(frozen=True, slots=True)
class Letter:
    """A sealed message for, or from, the node at ``address``."""

    address: Address
    message: bytes

    def serialize(self) -> bytes:
        """The frame."""
        return _frame(_LETTER, self.address.serialize() + self.message)


@dataclass(frozen=True, slots=True)
class BeaconFrame:
    """The beacon of one epoch. Not verified: its signers are the network's."""

    statement: bytes

    def serialize(self) -> bytes:
        """The frame."""
        return _frame(_BEACON, self.statement)


Frame: TypeAlias = NetworkFrame | Letter | BeaconFrame


class FrameReader:
    """Frames out of a stream, however it is cut."""

    __slots__ = ("_received",)

    def __init__(self) -> None:
        self._received = bytearray()

    def receive_data(self, data: Buffer) -> list[Frame]:
        """The frames that are whole now; :class:`FindFrameError` for anything else, and then nothing more."""
        self._received += data
        frames = []
        at = 0
        while len(self._received) - at >= HEAD:
            kind = self._received[at]
            length = int.from_bytes(self._received[at + 1 : at + HEAD], "big")
            if length > _LONGEST.get(kind, -1):
                raise FindFrameError("a frame of an unknown kind or impossible length")
            end = at + HEAD + length
            if len(self._received) < end:
                break
            frames.append(_parse(kind, bytes(self._received[at + HEAD : end])))
            at = end
        del self._received[:at]
        return frames


def _parse(kind: int, body: bytes) -> Frame:
    if kind == _NETWORK:
        if len(body) <= KEY:
            raise FindFrameError("a network without a list")
        try:
            return NetworkFrame(body[:KEY], body[KEY:].decode("ascii"))
        except UnicodeDecodeError:
            raise FindFrameError("a list of nodes that is no text") from None
    if kind == _BEACON:
        return BeaconFrame(body)
    try:
        address, at = Address.parse(body)
    except DhtError as error:
        raise FindFrameError(f"a letter to nobody: {error}") from None
    message = body[at:]
    if message[:1] != bytes((SEALED,)):
        raise FindFrameError("a letter that is not sealed")
    return Letter(address, message)


def _frame(kind: int, body: bytes) -> bytes:
    return bytes((kind,)) + len(body).to_bytes(2, "big") + body
