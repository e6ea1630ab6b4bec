"""What the two sides tell each other inside the handshake, and what both must agree on.

Prologue (never sent; a difference makes message 1 fail)::

    version u8 = 1 │ codec length u8 │ codec name, ASCII │ seal u8 (0, 1) │ binding (``binding.py``)

Hello, the payload of Noise message 1::

    version u8 = 1 │ carrier u32 │ unix time u64 │ session length u8 (0, 16) │ session id
    │ token length u8 (0, 16) │ token │ alive count u8 │ alive numbers u32 each │ traffic u8
    │ padding: zeros, ignored; traffic 0 may be left to it

Answer, the payload of Noise message 2::

    verdict u8 │ session id 16 bytes │ unix time u64
    │ with sealing only: ML-KEM-768 encapsulation key, 1184 bytes
    │ key length u8 (0, 32) │ Ed25519 key that signs what the bridge pushes
    │ padding: zeros, ignored; key length 0 may be left to it

Numbers are big-endian. Padding is inside the encryption, so nothing on the
wire tells it from the rest, and nobody can change it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from ptproxy.auth import kem
from ptproxy.auth.binding import Binding
from ptproxy.auth.credentials import KEY_LENGTH, TOKEN_LENGTH
from ptproxy.errors import AuthenticationError, LocalProtocolError

VERSION: Final = 1
"""Of the handshake. Another one is another prologue: it fails like a wrong key."""
SESSION_ID_LENGTH: Final = 16
"""Bytes of a session id (R1)."""
MAX_ALIVE: Final = 64
"""Carrier numbers in one hello: sixteen times what a client opens (four), and small for a cookie."""
MAX_CODEC_NAME: Final = 32
"""Characters of a codec's name, as in the codec table."""

_HEAD: Final = struct.Struct(">BIQ")
_ANSWER: Final = struct.Struct(">B16sQ")
MIN_HELLO: Final = _HEAD.size + 3
"""Bytes of a hello that names no session, token or other carrier."""


class Verdict(IntEnum):
    """What became of the session that a hello asked for (R1); numbers are part of the wire format."""

    NEW = 0
    """None was asked for: here is a new one."""
    ATTACHED = 1
    """The carrier joins the session asked for."""
    UNKNOWN = 2
    """The session asked for is not known (or another key's): here is a new one."""


@dataclass(frozen=True, slots=True)
class Hello:
    """What a client says in message 1."""

    session_id: bytes = field(repr=False)
    """``b""`` for a new session, or its 16 bytes."""
    carrier: int
    """Number of this carrier (R2): u32."""
    alive: tuple[int, ...]
    """Lower carrier numbers still in use (R2), at most 64."""
    unix_time: int
    """The client's clock, seconds since 1970."""
    token: bytes = field(default=b"", repr=False)
    """An enrolment token of 16 bytes, or ``b""``."""
    traffic: int = 0
    """What the carrier is going to carry, opaque here: u8, 0 where nothing is said of it."""

    def serialize(self) -> bytes:
        """The wire form without padding; :class:`LocalProtocolError` for a hello that cannot be said."""
        if (
            len(self.session_id) not in (0, SESSION_ID_LENGTH)
            or len(self.token) not in (0, TOKEN_LENGTH)
            or len(self.alive) > MAX_ALIVE
            or not all(0 <= number < self.carrier < 2**32 for number in self.alive)
            or not 0 <= self.traffic < 256
        ):
            raise LocalProtocolError("hello: a session id or token of a wrong length, or impossible numbers")
        try:
            return b"".join(
                (
                    _HEAD.pack(VERSION, self.carrier, self.unix_time),
                    bytes((len(self.session_id),)),
                    self.session_id,
                    bytes((len(self.token),)),
                    self.token,
                    bytes((len(self.alive),)),
                    struct.pack(f">{len(self.alive)}I", *self.alive),
                    bytes((self.traffic,)) if self.traffic else b"",
                )
            )
        except struct.error:
            raise LocalProtocolError("hello: a carrier number is a u32, a time a u64") from None

    @classmethod
    def parse(cls, data: bytes) -> Hello:
        """The hello at the head of ``data``; :class:`AuthenticationError` for anything else."""
        if len(data) < MIN_HELLO:
            raise AuthenticationError("hello: cut short")
        version, carrier, unix_time = _HEAD.unpack_from(data)
        if version != VERSION:
            raise AuthenticationError("hello: another version of the protocol")
        session_id, position = _optional(data, _HEAD.size, SESSION_ID_LENGTH)
        token, position = _optional(data, position, TOKEN_LENGTH)
        if position >= len(data):
            raise AuthenticationError("hello: cut short")
        count = data[position]
        if count > MAX_ALIVE or len(data) < position + 1 + 4 * count:
            raise AuthenticationError("hello: the list of carriers is too long or cut short")
        alive: tuple[int, ...] = struct.unpack_from(f">{count}I", data, position + 1)
        if any(number >= carrier for number in alive):
            raise AuthenticationError("hello: a carrier in use that is not lower than this one")
        after = position + 1 + 4 * count
        return cls(session_id, carrier, alive, unix_time, token, data[after] if len(data) > after else 0)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a bridge says in message 2."""

    session_id: bytes = field(repr=False)
    """The session that the carrier is now part of: 16 bytes, opaque to the client (R1)."""
    verdict: Verdict
    unix_time: int
    """The bridge's clock, seconds since 1970."""
    signing_key: bytes = b""
    """The Ed25519 key that signs what the bridge pushes, 32 bytes, or ``b""``."""

    def serialize(self, encapsulation_key: bytes = b"") -> bytes:
        """The wire form without padding; :class:`LocalProtocolError` for one that cannot be said."""
        if len(self.session_id) != SESSION_ID_LENGTH or not 0 <= self.unix_time < 2**64:
            raise LocalProtocolError("answer: a session id is 16 bytes, a time a u64")
        if len(self.signing_key) not in (0, KEY_LENGTH):
            raise LocalProtocolError("answer: an Ed25519 key is 32 bytes")
        key = bytes((KEY_LENGTH,)) + self.signing_key if self.signing_key else b""
        return _ANSWER.pack(self.verdict, self.session_id, self.unix_time) + encapsulation_key + key

    @classmethod
    def parse(cls, data: bytes, encapsulation: int = 0) -> Answer:
        """The answer at the head of ``data``, where ``encapsulation`` bytes are the key for sealing.

        :class:`AuthenticationError` for anything else.
        """
        if len(data) < _ANSWER.size:
            raise AuthenticationError("answer: cut short")
        number, session_id, unix_time = _ANSWER.unpack_from(data)
        try:
            verdict = Verdict(number)
        except ValueError:
            raise AuthenticationError("answer: an unknown verdict") from None
        at = _ANSWER.size + encapsulation
        length = data[at] if len(data) > at else 0
        key = data[at + 1 : at + 1 + length]
        if length not in (0, KEY_LENGTH) or len(key) != length:
            raise AuthenticationError("answer: a signing key of impossible length")
        return cls(session_id, verdict, unix_time, key)


def encapsulation_key(data: bytes) -> bytes:
    """The ML-KEM key behind an answer with sealing; :class:`AuthenticationError` when it is cut short."""
    key = data[_ANSWER.size : _ANSWER.size + kem.ENCAPSULATION_KEY]
    if len(key) != kem.ENCAPSULATION_KEY:
        raise AuthenticationError("answer: the encapsulation key is cut short")
    return key


def prologue(codec: str, seal: bool, binding: Binding) -> bytes:
    """The Noise prologue of an opening; :class:`LocalProtocolError` for an impossible codec name."""
    name = codec.encode("ascii", "replace")
    if not 0 < len(name) <= MAX_CODEC_NAME or name.decode("ascii") != codec:
        raise LocalProtocolError("a codec's name is 1 to 32 characters of ASCII")
    return b"".join((bytes((VERSION, len(name))), name, bytes((seal,)), binding.serialize()))


def _optional(data: bytes, position: int, length: int) -> tuple[bytes, int]:
    """A field of ``length`` bytes or none behind its length byte, and the position after it."""
    if position >= len(data):
        raise AuthenticationError("hello: cut short")
    said = data[position]
    if said not in (0, length):
        raise AuthenticationError("hello: a field of impossible length")
    end = position + 1 + said
    if len(data) < end:
        raise AuthenticationError("hello: cut short")
    return data[position + 1 : end], end
