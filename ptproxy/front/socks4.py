"""SOCKS4 and SOCKS4a: CONNECT. There is no RFC; the two memos of 1992 and 1996 are the specification.

::

    → 04 │ command │ port u16 │ IPv4 4 bytes │ user … 00 │ name … 00    ← 00 │ code │ port u16 │ IPv4

    command: 01 CONNECT, 02 BIND (refused)
    name:    only behind an address 0.0.0.x with x not 0 (SOCKS4a): resolved at the far side
    code:    90 granted, 91 failed for whatever reason, 93 refused because a password is needed

The user is read and ignored: it proves nothing.
"""

from __future__ import annotations

from typing import Final

from ptproxy.buffer import Buffer
from ptproxy.errors import FrontError, Reason
from ptproxy.front.conversation import Event, PayloadReceived, TargetRequested
from ptproxy.front.replies import SOCKS4_FAILED, SOCKS4_GRANTED, SOCKS4_NOT_PERMITTED
from ptproxy.front.users import Users
from ptproxy.target import Target, TargetError

MAX_USER: Final = 255
"""Bytes of the user name; SOCKS4 sets no limit, SOCKS5's is as good as any."""

MAX_NAME: Final = 255
"""Bytes of the host name; DNS knows none longer."""


class Socks4:
    """A SOCKS4 or SOCKS4a program's connection; see :class:`~ptproxy.front.conversation.Conversation`."""

    __slots__ = ("_out", "_received", "_requested", "_users", "closing")

    def __init__(self, users: Users | None = None) -> None:
        self.closing = False
        self._users = users
        self._received = b""
        self._out = b""
        self._requested = False

    def receive_data(self, data: Buffer) -> list[Event]:
        """Feed what the program sent; raises :class:`~ptproxy.errors.FrontError`."""
        if self.closing:
            return []
        if self._requested:
            return [PayloadReceived(data)] if data else []
        received = self._received = self._received + data if self._received else bytes(data)
        if received and received[0] != 4:
            raise self._refused("not SOCKS4")
        if len(received) < 9:
            return []
        if received[1] != 1:
            raise self._refused("a SOCKS4 command other than CONNECT")
        user_end = self._string(8, MAX_USER)
        if not user_end:
            return []
        port = int.from_bytes(received[2:4])
        a, b, c, d = received[4:8]
        end = user_end
        host = f"{a}.{b}.{c}.{d}"
        if not (a or b or c) and d:
            end = self._string(user_end, MAX_NAME)
            if not end:
                return []
            host = received[user_end : end - 1].decode("latin-1")
        if self._users is not None:
            raise self._refused("a password is needed, and SOCKS4 has none", SOCKS4_NOT_PERMITTED)
        self._requested = True
        self._received = b""
        return [TargetRequested(self._target(host, port), received[end:])]

    def receive_eof(self) -> list[Event]:
        """The program will send no more: that ends a conversation without a request."""
        self.closing |= not self._requested
        return []

    def send_accepted(self, host: str = "0.0.0.0", port: int = 0) -> None:
        """Reply 90; the address in it means nothing for CONNECT."""
        self._reply(SOCKS4_GRANTED)

    def send_refused(self, reason: Reason) -> None:
        """Reply 91; the connection then closes."""
        self._reply(SOCKS4_FAILED)
        self.closing = True

    def data_to_send(self) -> bytes:
        """Drain the answer."""
        out, self._out = self._out, b""
        return out

    def _string(self, start: int, limit: int) -> int:
        """The index behind the zero byte of the string at ``start``, 0 when it has not arrived."""
        end = self._received.find(0, start, start + limit + 1) + 1
        if not end and len(self._received) > start + limit:
            raise self._refused("a user or host name that is too long")
        return end

    def _target(self, host: str, port: int) -> Target:
        try:
            if not host.isascii():
                raise TargetError("not a host name")
            return Target.address(host, port)
        except TargetError:
            raise self._refused("a host or port that cannot exist") from None

    def _reply(self, code: int) -> None:
        self._out += bytes((0, code)) + bytes(6)

    def _refused(self, text: str, code: int = SOCKS4_FAILED) -> FrontError:
        self._reply(code)
        self.closing = True
        return FrontError(text)
