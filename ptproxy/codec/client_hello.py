"""What a TLS client says first (RFC 8446 section 4.1.2), read from a connection's bytes split anyhow.

On the wire a ClientHello is a handshake message, cut into one record or more::

    record    = type u8 (22) ‖ version u16 (3, any) ‖ length u16 (1 to 16384) ‖ piece of a message
    message   = type u8 (1) ‖ length u24 ‖ body
    body      = legacy version u16 ‖ random (32) ‖ session id <0..32> u8 ‖ cipher suites <2..> u16
              ‖ compression methods <1..> u8 ‖ [ extensions <0..> u16 ]
    extension = type u16 ‖ body <0..> u16

``<a..b>`` is a vector with its length before it, in as many bytes as stands
behind. Everything that a server would stop at is refused: an extension twice, a
pre_shared_key that is not the last, a vector with bytes to spare, a name that
is none. Values nobody knows are not refused, and so neither is GREASE
(RFC 8701): numbers are kept as they came, in order.

A refusal comes with the first byte that breaks a rule of the record or the
message's head; what the body holds is judged when it is whole, as servers do.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Final

from ptproxy.buffer import Buffer
from ptproxy.errors import CodecError

MAX_HELLO = 32 * 1024
"""Bytes of one message; browsers send under 2 KiB, with post-quantum keys and a long ticket under 5."""
MAX_RECORD = 1 << 14
"""Bytes of one record's content (RFC 8446 section 5.1)."""

_RECORD_HEAD = 5
_MESSAGE_HEAD = 4
_HANDSHAKE = 22
_CLIENT_HELLO = 1

SERVER_NAME: Final = 0
SUPPORTED_GROUPS: Final = 10
EC_POINT_FORMATS: Final = 11
SIGNATURE_ALGORITHMS: Final = 13
ALPN: Final = 16
PRE_SHARED_KEY: Final = 41
EARLY_DATA: Final = 42
SUPPORTED_VERSIONS: Final = 43
KEY_SHARE: Final = 51

TLS13: Final = 0x0304
"""TLS 1.3 among supported_versions."""

_NAME = re.compile(rb"[!-~]{1,255}")
"""A host_name: ASCII that can be seen (RFC 6066 section 3); which names are the caller's is for it to say."""


def is_grease(value: int) -> bool:
    """Whether a number is one of the sixteen that mean nothing (RFC 8701): 0x0A0A, 0x1A1A … 0xFAFA."""
    return value & 0x0F0F == 0x0A0A and value >> 8 == value & 0xFF


_READ_BY_PROPERTIES = (
    "server_name", "alpn", "supported_versions", "groups", "signature_algorithms", "key_shares",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ClientHello:
    """A whole ClientHello; its properties never raise, :meth:`parse` has looked at what they read."""

    legacy_version: int
    """At most 0x0303; a client of TLS 1.3 says what it speaks in :attr:`supported_versions`."""
    random: bytes
    session_id: bytes
    cipher_suites: tuple[int, ...]
    compression: bytes
    extensions: tuple[tuple[int, bytes], ...]
    """(type, body) in the order they came; no type twice."""

    @classmethod
    def parse(cls, body: Buffer) -> ClientHello:
        """Read a message's body (what follows its four bytes of head).

        Raises :class:`CodecError` for what a server would refuse to read.
        """
        reader = _Vectors(bytes(body))
        version, random = reader.number(2), reader.take(32)
        session_id = reader.vector(1)
        ciphers = _numbers(reader.vector(2), "cipher suites")
        compression = reader.vector(1)
        if len(session_id) > 32 or not compression:
            raise CodecError("ClientHello: a session id or compression methods of a wrong length")
        extensions: list[tuple[int, bytes]] = []
        if reader.left:
            inner = reader.inner(2)
            while inner.left:
                extensions.append((inner.number(2), inner.vector(2)))
            reader.end("extensions")
        hello = cls(version, random, session_id, ciphers, compression, tuple(extensions))
        hello._check()
        return hello

    def serialize(self) -> bytes:
        """The message's body again; extensions always stand in it, be there none."""
        extensions = b"".join(struct.pack(">H", kind) + _vector(2, body) for kind, body in self.extensions)
        return b"".join(
            (
                struct.pack(">H", self.legacy_version),
                self.random,
                _vector(1, self.session_id),
                _vector(2, struct.pack(f">{len(self.cipher_suites)}H", *self.cipher_suites)),
                _vector(1, self.compression),
                _vector(2, extensions),
            )
        )

    def extension(self, kind: int) -> bytes | None:
        """The body of an extension, None when absent."""
        return next((body for found, body in self.extensions if found == kind), None)

    @property
    def server_name(self) -> str | None:
        """The name asked for, as written (case is kept); None without the extension."""
        body = self.extension(SERVER_NAME)
        if body is None:
            return None
        outer = _Vectors(body)
        inner = outer.inner(2)
        kind, name = inner.number(1), inner.vector(2)
        inner.end("server_name")  # one name of the one kind there is: what servers' libraries take
        outer.end("server_name")
        if kind or not _NAME.fullmatch(name):
            raise CodecError("ClientHello: a server name that is none")
        return name.decode("ascii")

    @property
    def alpn(self) -> tuple[bytes, ...]:
        """Protocols offered in order (RFC 7301), empty without the extension."""
        body = self.extension(ALPN)
        if body is None:
            return ()
        outer = _Vectors(body)
        inner = outer.inner(2)
        outer.end("ALPN")
        names = []
        while inner.left:
            names.append(inner.vector(1))
        if not names or not all(names):
            raise CodecError("ClientHello: ALPN without a name, or with an empty one")
        return tuple(names)

    @property
    def supported_versions(self) -> tuple[int, ...]:
        """Versions offered in order, empty without the extension (then :attr:`legacy_version` counts)."""
        return self._listed(SUPPORTED_VERSIONS, 1, "supported_versions")

    @property
    def groups(self) -> tuple[int, ...]:
        """Key exchange groups in order, empty without the extension."""
        return self._listed(SUPPORTED_GROUPS, 2, "supported_groups")

    @property
    def signature_algorithms(self) -> tuple[int, ...]:
        """Signature schemes in order, empty without the extension."""
        return self._listed(SIGNATURE_ALGORITHMS, 2, "signature_algorithms")

    @property
    def key_shares(self) -> tuple[tuple[int, int], ...]:
        """(group, bytes of its key) in order; empty where a client only asks for the server's choice."""
        body = self.extension(KEY_SHARE)
        if body is None:
            return ()
        outer = _Vectors(body)
        inner = outer.inner(2)
        outer.end("key_share")
        shares = []
        while inner.left:
            group, key = inner.number(2), inner.vector(2)
            if not key:
                raise CodecError("ClientHello: key_share with an empty key")
            shares.append((group, len(key)))
        return tuple(shares)

    @property
    def key_share_groups(self) -> tuple[int, ...]:
        """The groups that :attr:`key_shares` has keys of."""
        return tuple(group for group, _ in self.key_shares)

    @property
    def has_pre_shared_key(self) -> bool:
        """Whether a TLS 1.3 ticket is offered."""
        return self.extension(PRE_SHARED_KEY) is not None

    @property
    def has_early_data(self) -> bool:
        """Whether data under the ticket's key follows at once."""
        return self.extension(EARLY_DATA) is not None

    def _listed(self, kind: int, width: int, name: str) -> tuple[int, ...]:
        """An extension that is one vector of numbers of two bytes."""
        body = self.extension(kind)
        if body is None:
            return ()
        outer = _Vectors(body)
        content = outer.vector(width)
        outer.end(name)
        return _numbers(content, name)

    def _check(self) -> None:
        """Read once whatever the properties read, so that none of them raises later."""
        kinds = [kind for kind, _ in self.extensions]
        if len(set(kinds)) != len(kinds):
            raise CodecError("ClientHello: an extension twice")
        if PRE_SHARED_KEY in kinds and kinds[-1] != PRE_SHARED_KEY:
            raise CodecError("ClientHello: pre_shared_key is not the last extension")
        for name in _READ_BY_PROPERTIES:
            getattr(self, name)


class ClientHelloReader:
    """Waits for a connection's ClientHello."""

    __slots__ = ("_head", "_hello", "_message", "_record_left", "consumed")

    def __init__(self) -> None:
        self.consumed = 0
        """Bytes that belong to the hello's records: all that were given while it is not whole."""
        self._head = bytearray()
        self._record_left = 0
        self._message = bytearray()
        self._hello: ClientHello | None = None

    def receive_data(self, data: Buffer) -> ClientHello | None:
        """The hello once its last record is whole, None before; what follows those records is not looked at.

        Raises :class:`CodecError` where the connection is no TLS client's.
        """
        view = memoryview(data)
        at = 0
        while self._hello is None and at < len(view):
            if self._record_left:
                piece = view[at : at + self._record_left]
                self._record_left -= len(piece)
                self._message += piece
                at += len(piece)
                self.consumed += len(piece)
            else:
                self._receive_head(view[at])
                at += 1
                self.consumed += 1
                if self._record_left == 0:
                    continue
            self._check_message()
        return self._hello

    def _receive_head(self, byte: int) -> None:
        """One byte of a record's head; with its last one, :attr:`_record_left` is set."""
        head = self._head
        head.append(byte)
        if head[0] != _HANDSHAKE or (len(head) > 1 and head[1] != 3):
            raise CodecError("not TLS, or no ClientHello")
        if len(head) == _RECORD_HEAD:
            self._record_left = int.from_bytes(head[3:])
            head.clear()
            if not 1 <= self._record_left <= MAX_RECORD:
                raise CodecError(f"ClientHello: a record of {self._record_left} bytes")

    def _check_message(self) -> None:
        """Judge the message as far as it is there; parse it when its last record is whole."""
        message = self._message
        if message and message[0] != _CLIENT_HELLO:
            raise CodecError("TLS, but no ClientHello")
        if len(message) < _MESSAGE_HEAD:
            return
        size = _MESSAGE_HEAD + int.from_bytes(message[1:_MESSAGE_HEAD])
        if size > MAX_HELLO:
            raise CodecError(f"ClientHello: {size} bytes")
        if len(message) + self._record_left > size:
            raise CodecError("ClientHello: something else in its record")
        if len(message) == size:
            self._hello = ClientHello.parse(memoryview(message)[_MESSAGE_HEAD:])


class _Vectors:
    """Takes numbers and vectors off the front of bytes; :class:`CodecError` where there are too few."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """Bytes not taken yet."""
        return len(self._data) - self._at

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        if size > self.left:
            raise CodecError("ClientHello: cut short")
        self._at += size
        return self._data[self._at - size : self._at]

    def number(self, width: int) -> int:
        """The next ``width`` bytes as a number."""
        return int.from_bytes(self.take(width))

    def vector(self, width: int) -> bytes:
        """A vector's content, its length in ``width`` bytes before it."""
        return self.take(self.number(width))

    def inner(self, width: int) -> _Vectors:
        """A vector whose content is taken apart in turn."""
        return _Vectors(self.vector(width))

    def end(self, name: str) -> None:
        """Nothing must be left."""
        if self.left:
            raise CodecError(f"ClientHello: {name} with bytes to spare")


def _numbers(content: bytes, name: str) -> tuple[int, ...]:
    """Numbers of two bytes; at least one."""
    if not content or len(content) % 2:
        raise CodecError(f"ClientHello: {name} of {len(content)} bytes")
    return struct.unpack(f">{len(content) // 2}H", content)


def _vector(width: int, content: bytes) -> bytes:
    """Bytes with their length before them."""
    return len(content).to_bytes(width) + content
