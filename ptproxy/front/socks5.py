"""SOCKS5 (RFC 1928) with user and password (RFC 1929): CONNECT and UDP ASSOCIATE.

::

    → 05 │ n │ n methods                         ← 05 │ method        (FF: none acceptable, closes)
    → 01 │ length │ user │ length │ password     ← 01 │ 00 or 01      (only for method 02; 01 closes)
    → 05 │ command │ 00 │ address │ port u16     ← 05 │ reply │ 00 │ address │ port u16

    command: 01 CONNECT, 02 BIND (refused with 07), 03 UDP ASSOCIATE
    address: 01 and 4 bytes, 03 and length and name, 04 and 16 bytes

With users configured only method 02 is accepted, without them only method 00.
Names are passed on unresolved. Bytes behind the request are kept for the
target, so that an optimistic program saves a round trip.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Final

from ptproxy.buffer import Buffer
from ptproxy.errors import FrontError, Reason
from ptproxy.front.conversation import AssociationRequested, Event, PayloadReceived, TargetRequested
from ptproxy.front.replies import (
    SOCKS5_ADDRESS_NOT_SUPPORTED,
    SOCKS5_COMMAND_NOT_SUPPORTED,
    SOCKS5_FAILURE,
    SOCKS5_SUCCEEDED,
    socks5_code,
)
from ptproxy.front.users import Users
from ptproxy.target import Target, TargetError

_NO_AUTHENTICATION: Final = 0
_PASSWORD: Final = 2
_NONE_ACCEPTABLE: Final = 0xFF

_CONNECT: Final = 1
_ASSOCIATE: Final = 3

_NOWHERE: Final = b"\x00\x01\x00\x00\x00\x00\x00\x00"
"""Reserved byte, 0.0.0.0 and port 0: the bound address of a stream, which only the far side knows."""


class Socks5:
    """A SOCKS5 program's connection; see :class:`~ptproxy.front.conversation.Conversation`."""

    __slots__ = ("_event", "_out", "_received", "_step", "_users", "closing")

    def __init__(self, users: Users | None = None) -> None:
        self.closing = False
        self._users = users
        self._received = b""
        self._out = b""
        self._event: TargetRequested | AssociationRequested | None = None
        self._step: Callable[[bytes], int] | None = self._greeting

    def receive_data(self, data: Buffer) -> list[Event]:
        """Feed what the program sent; raises :class:`~ptproxy.errors.FrontError`."""
        if self._step is None:
            return [PayloadReceived(data)] if data and not self.closing else []
        received = self._received + data if self._received else bytes(data)
        while self._step is not None and (used := self._step(received)):
            received = received[used:]
        event = self._event
        if event is None:
            self._received = received
            return []
        self._received = b""
        if type(event) is TargetRequested:
            event.first_data = received
        return [event]

    def receive_eof(self) -> list[Event]:
        """The program will send no more: that ends a conversation without a request."""
        self.closing |= self._step is not None
        return []

    def send_accepted(self, host: str = "0.0.0.0", port: int = 0) -> None:
        """Reply 00; ``host`` and ``port`` are where an association's datagrams go."""
        if port:
            ip = ipaddress.ip_address(host)
            kind = 1 if ip.version == 4 else 4
            self._out += bytes((5, SOCKS5_SUCCEEDED, 0, kind)) + ip.packed + port.to_bytes(2)
        else:
            self._out += b"\x05\x00" + _NOWHERE

    def send_refused(self, reason: Reason) -> None:
        """Reply with the code for ``reason``; the connection then closes."""
        self._refuse(socks5_code(reason))

    def data_to_send(self) -> bytes:
        """Drain the answers."""
        out, self._out = self._out, b""
        return out

    # ---- the steps: each returns how many bytes it used, 0 when more are needed -------------------

    def _greeting(self, data: bytes) -> int:
        if data and data[0] != 5:
            raise self._failed("not SOCKS5")
        if len(data) < 2 or len(data) < (end := 2 + data[1]):
            return 0
        method = _NO_AUTHENTICATION if self._users is None else _PASSWORD
        if method not in data[2:end]:
            self._out += bytes((5, _NONE_ACCEPTABLE))
            raise self._failed(
                "the program offers no user and password"
                if self._users
                else "the program insists on authentication"
            )
        self._out += bytes((5, method))
        self._step = self._request if self._users is None else self._password
        return end

    def _password(self, data: bytes) -> int:
        if data and data[0] != 1:
            raise self._failed("not version 1 of user and password")
        if (
            len(data) < 2
            or len(data) < (middle := 2 + data[1]) + 1
            or len(data) < (end := middle + 1 + data[middle])
        ):
            return 0
        users = self._users
        if users is None or not users.admits(data[2:middle], data[middle + 1 : end]):
            self._out += b"\x01\x01"
            raise self._failed("wrong user or password")
        self._out += b"\x01\x00"
        self._step = self._request
        return end

    def _request(self, data: bytes) -> int:
        if len(data) < 5:
            if data and data[0] != 5:
                raise self._refused(SOCKS5_FAILURE, "a request that is not SOCKS5")
            return 0
        version, command, _, kind, length = data[:5]
        if version != 5:
            raise self._refused(SOCKS5_FAILURE, "a request that is not SOCKS5")
        if command not in (_CONNECT, _ASSOCIATE):
            raise self._refused(
                SOCKS5_COMMAND_NOT_SUPPORTED, "a SOCKS5 command other than CONNECT and UDP ASSOCIATE"
            )
        if kind not in (1, 3, 4):
            raise self._refused(SOCKS5_ADDRESS_NOT_SUPPORTED, "an unknown kind of SOCKS5 address")
        end = 10 if kind == 1 else 22 if kind == 4 else 7 + length
        if len(data) < end:
            return 0
        port = (data[end - 2] << 8) + data[end - 1]
        if command == _ASSOCIATE:
            self._event = AssociationRequested(port)
        else:
            self._event = TargetRequested(self._target(kind, data, end, port), b"")
        self._step = None
        return end

    def _target(self, kind: int, data: bytes, end: int, port: int) -> Target:
        try:
            if kind == 1 and port:
                return Target(f"{data[4]}.{data[5]}.{data[6]}.{data[7]}", port)
            if kind == 3:
                return Target.address(data[5 : end - 2].decode("ascii"), port)
            return Target.parse(data[3:end])
        except (TargetError, UnicodeDecodeError):
            raise self._refused(SOCKS5_FAILURE, "a host or port that cannot exist") from None

    def _refuse(self, code: int) -> None:
        self._out += bytes((5, code)) + _NOWHERE
        self.closing = True
        self._step = None

    def _refused(self, code: int, text: str) -> FrontError:
        self._refuse(code)
        return FrontError(text)

    def _failed(self, text: str) -> FrontError:
        self.closing = True
        self._step = None
        return FrontError(text)
