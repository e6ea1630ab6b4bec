"""The conversation with tor's extended ORPort: who is calling, and by which transport.

SAFE_COOKIE (ext-orport-spec section 3): each side proves that it read the cookie file::

    tor → types, 00                          (01 is SAFE_COOKIE)
      ← 01, client nonce (32)
    tor → server hash (32), server nonce (32)
      ← client hash (32)
    tor → 01                                 (00: refused)

Then messages ``command u16 │ length u16 │ body`` (section 4)::

      ← USERADDR, TRANSPORT, DONE
    tor → OKAY, or DENY

After OKAY the connection is an ORPort's.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import Final

from ptproxy.buffer import Buffer
from ptproxy.errors import FrontError

COOKIE_HEADER: Final = b"! Extended ORPort Auth Cookie !\x0a"
COOKIE_FILE: Final = 64
"""Bytes of the cookie file: that header and 32 bytes of secret."""
NONCE: Final = 32
"""Bytes of a nonce and of a hash."""
MAX_TYPES: Final = 256
"""Ways to authenticate that tor may name."""
MAX_BODY: Final = 1024
"""Bytes of one message of tor's; those that are known have none."""

_SAFE_COOKIE: Final = 1
_USERADDR: Final = 0x0001
_TRANSPORT: Final = 0x0002
_DONE: Final = 0x0000
_OKAY: Final = 0x1000
_DENY: Final = 0x1001

_PREFIX: Final = b"ExtORPort authentication "


class ExtOrPortError(FrontError):
    """tor's extended port refused us, or is none."""


def parse_cookie(content: bytes) -> bytes:
    """The secret in a cookie file; raises :class:`ExtOrPortError`."""
    if len(content) != COOKIE_FILE or not hmac.compare_digest(content[:32], COOKIE_HEADER):
        raise ExtOrPortError("the cookie file is not one of tor's extended ORPort")
    return content[32:]


class ExtOrPort:
    """One connection's introduction. ``done`` once tor has agreed; ``rest`` is what it said behind that."""

    __slots__ = ("_address", "_cookie", "_nonce", "_out", "_received", "_step", "_transport", "done", "rest")

    def __init__(self, cookie: bytes, nonce: bytes, transport: str, address: str = "") -> None:
        """``nonce``: 32 random bytes. ``address``: the client's ``IP:PORT``, ``""`` where it is not known."""
        self._cookie = cookie
        self._nonce = nonce
        self._transport = transport
        self._address = address
        self._received = b""
        self._out = b""
        self._step: Callable[[bytes], int] | None = self._types
        self.done = False
        self.rest = b""

    def receive_data(self, data: Buffer) -> None:
        """Feed what tor said; raises :class:`ExtOrPortError`."""
        received = self._received + bytes(data)
        while self._step is not None and (used := self._step(received)):
            received = received[used:]
        if self.done:
            self.rest += received
            received = b""
        self._received = received

    def receive_eof(self) -> None:
        """tor closed; raises :class:`ExtOrPortError` before the end of the introduction."""
        if not self.done:
            raise ExtOrPortError("tor closed the extended ORPort before it agreed")

    def data_to_send(self) -> bytes:
        """Drain the answers."""
        out, self._out = self._out, b""
        return out

    # ---- the steps: each returns how many bytes it used, 0 when more are needed ----------------------

    def _types(self, data: bytes) -> int:
        types, end, _ = data.partition(b"\0")
        if not end:
            if len(data) > MAX_TYPES:
                raise ExtOrPortError("this is no extended ORPort")
            return 0
        if _SAFE_COOKIE not in types:
            raise ExtOrPortError("tor's extended ORPort knows no SAFE_COOKIE authentication")
        self._out += bytes((_SAFE_COOKIE,)) + self._nonce
        self._step = self._proof
        return len(types) + 1

    def _proof(self, data: bytes) -> int:
        if len(data) < 2 * NONCE:
            return 0
        theirs, nonces = data[:NONCE], self._nonce + data[NONCE : 2 * NONCE]
        if not hmac.compare_digest(theirs, self._hash(b"server-to-client hash", nonces)):
            raise ExtOrPortError("what listens on the extended ORPort did not read the cookie file")
        self._out += self._hash(b"client-to-server hash", nonces)
        self._step = self._verdict
        return 2 * NONCE

    def _verdict(self, data: bytes) -> int:
        if not data:
            return 0
        if data[0] != 1:
            raise ExtOrPortError("tor's extended ORPort refused our proof: the cookie file is another tor's")
        if self._address:
            self._out += _message(_USERADDR, self._address.encode("ascii"))
        self._out += _message(_TRANSPORT, self._transport.encode("ascii")) + _message(_DONE, b"")
        self._step = self._answer
        return 1

    def _answer(self, data: bytes) -> int:
        if len(data) < 4:
            return 0
        command, length = int.from_bytes(data[:2]), int.from_bytes(data[2:4])
        if length > MAX_BODY:
            raise ExtOrPortError("tor's extended ORPort sent an oversized message")
        if len(data) < 4 + length:
            return 0
        if command == _DENY:
            raise ExtOrPortError("tor's extended ORPort denied the connection")
        if command == _OKAY:
            self.done = True
            self._step = None
        return 4 + length  # others are ignored (section 4)

    def _hash(self, label: bytes, nonces: bytes) -> bytes:
        return hmac.digest(self._cookie, _PREFIX + label + nonces, hashlib.sha256)


def _message(command: int, body: bytes) -> bytes:
    return command.to_bytes(2) + len(body).to_bytes(2) + body
