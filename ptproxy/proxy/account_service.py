"""How a client learns how it stands: the service ``account``, held open by whoever wants to know.

Down come frames, each a length (u16) and JSON with sorted keys::

    {"expires_at": seconds | null, "name": …, "quota": bytes | null, "rate": bytes a second | null,
     "resets_at": seconds | null, "state": …, "used": bytes}

``state`` is ``in force``, ``expired``, ``quota`` (the month's is used up), ``disabled`` or
``revoked``; after the last two the session ends. A frame comes at the beginning, when
anything but ``used`` changes, and when ``used`` passes one of :data:`SHARES` of the quota;
besides whenever the client asks, with a byte ``?``, at most once a second.

An unknown key of an open bridge has no account: the service says so by
:attr:`Reason.UNSUPPORTED <ptproxy.errors.Reason.UNSUPPORTED>`.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any, Final

from ptproxy.auth.account import Standing
from ptproxy.buffer import Buffer
from ptproxy.errors import Reason, RemoteProtocolError
from ptproxy.log import get_logger
from ptproxy.proxy.accounts import Accounts
from ptproxy.state import StateFolder
from ptproxy.tunnel.recognise import ACCOUNT_SERVICE
from ptproxy.tunnel.relay import reset_stream
from ptproxy.tunnel.stream import Incoming

MAX_FRAME: Final = 1024
"""Bytes of a frame's JSON: a name of 64 characters, escaped, and six numbers."""
SHARES: Final = (0.5, 0.8, 0.9, 0.95, 1.0)
"""Shares of a quota whose passing is told."""
MAX_FOLLOWERS: Final = 16_384
"""Streams held open: each costs a few KiB."""
MAX_OF_ONE: Final = 8
"""... of one account."""
ASK_EVERY: Final = 1.0
"""Seconds between a client's questions that are answered."""
_NUMBERS: Final = ("expires_at", "quota", "rate", "resets_at")

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Told:
    """What the service says."""

    name: str
    state: str
    expires_at: int | None
    quota: int | None
    used: int
    resets_at: int | None
    rate: int | None

    @classmethod
    def of(cls, standing: Standing, out: str) -> Told:
        """``out`` is why it is out for good, or ``""``."""
        lapse = standing.lapse.value if standing.lapse is not None else "in force"
        return cls(
            standing.name, out or lapse, standing.expires_at, standing.quota, standing.used,
            standing.resets_at, standing.rate,
        )  # fmt: skip

    def serialize(self) -> bytes:
        """A frame."""
        entry = {name: getattr(self, name) for name in self.__slots__}
        body = json.dumps(entry, sort_keys=True, separators=(",", ":")).encode()
        return len(body).to_bytes(2, "big") + body

    @classmethod
    def parse(cls, body: bytes) -> Told:
        """From a frame's JSON; raises :class:`~ptproxy.errors.RemoteProtocolError`."""
        try:
            entry = json.loads(body)
        except (ValueError, RecursionError):
            entry = None
        if not isinstance(entry, dict) or not set(cls.__slots__) <= set(entry):
            raise RemoteProtocolError("account: no frame of this service")
        name, state, used = entry["name"], entry["state"], entry["used"]
        numbers = [used, *(entry[each] for each in _NUMBERS if entry[each] is not None)]
        if (
            not all(type(each) is int and 0 <= each < 1 << 63 for each in numbers)
            or not isinstance(name, str)
            or not name.isprintable()
            or not isinstance(state, str)
            or not state.isprintable()
        ):
            raise RemoteProtocolError("account: a frame with impossible values")
        return cls(**{each: entry[each] for each in cls.__slots__})

    @property
    def share(self) -> int:
        """How many of :data:`SHARES` have been passed."""
        if not self.quota:
            return 0
        return sum(self.used >= share * self.quota for share in SHARES)


class FrameReader:
    """Cuts the service's stream into frames."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def receive_data(self, data: Buffer) -> list[Told]:
        """The frames that are complete. Raises :class:`~ptproxy.errors.RemoteProtocolError`."""
        self._buffer += data
        found = []
        while len(self._buffer) >= 2:
            length = int.from_bytes(self._buffer[:2], "big")
            if not 0 < length <= MAX_FRAME:
                raise RemoteProtocolError("account: a frame of an impossible length")
            if len(self._buffer) < 2 + length:
                break
            found.append(Told.parse(bytes(self._buffer[2 : 2 + length])))
            del self._buffer[: 2 + length]
        return found


class AccountService:
    """The service, one a bridge (a :class:`~ptproxy.tunnel.stream.BridgeService`)."""

    name = ACCOUNT_SERVICE

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._followers: dict[str, set[_Follower]] = {}
        self._count = 0
        self._closed = False

    async def start(self, state: StateFolder) -> None:
        """Follow the access list."""
        del state
        self._accounts.on_change.append(self.look)

    def __call__(self, incoming: Incoming) -> None:
        """A client follows how it stands."""
        told = self.told(incoming.peer)
        if self._closed:
            incoming.refuse(Reason.SHUTDOWN)
        elif told is None:
            incoming.refuse(Reason.UNSUPPORTED)
        elif self._count >= MAX_FOLLOWERS or len(self._followers.get(incoming.peer, ())) >= MAX_OF_ONE:
            incoming.refuse(Reason.LIMIT)
        else:
            follower = _Follower(self, incoming.peer)
            incoming.accept(follower)
            follower.tell(told)

    def told(self, name: str) -> Told | None:
        """How the identities of this name stand; None where there is none."""
        access, now = self._accounts.list, time.time()
        named = access.named(name)
        if not named:
            return None
        best = min(named, key=lambda each: (bool(access.kept_out(each.public)), each.enrolled_at))
        standing = access.standing(best.public, now)
        return None if standing is None else Told.of(standing, access.kept_out(best.public))

    def look(self) -> None:
        """Something may have changed: whoever it concerns is told."""
        for name, followers in list(self._followers.items()):
            told = self.told(name)
            if told is not None:
                for follower in list(followers):
                    follower.look(told)

    def end_streams(self) -> None:
        """Take no more; nothing is under way that must end well."""
        self._closed = True
        for followers in list(self._followers.values()):
            for follower in list(followers):
                follower.end()

    async def close(self) -> None:
        """End what is left."""
        self.end_streams()
        if self.look in self._accounts.on_change:
            self._accounts.on_change.remove(self.look)

    def joined(self, follower: _Follower) -> None:
        """It follows from now on."""
        self._followers.setdefault(follower.name, set()).add(follower)
        self._count += 1

    def left(self, follower: _Follower) -> None:
        """It follows no longer."""
        followers = self._followers.get(follower.name, set())
        if follower in followers:
            followers.discard(follower)
            self._count -= 1
            if not followers:
                del self._followers[follower.name]


class _Follower(asyncio.Protocol):
    """One client's stream."""

    def __init__(self, service: AccountService, name: str) -> None:
        self.name = name
        self._service = service
        self._transport: Any = None
        self._last: Told | None = None
        self._behind = False
        self._answered = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It follows from now on."""
        self._transport = transport
        self._service.joined(self)

    def look(self, told: Told) -> None:
        """Tell it what has changed."""
        last = self._last
        if last is None or _noticeable(told) != _noticeable(last):
            self.tell(told)

    def tell(self, told: Told) -> None:
        """Say how it stands, unless the client has not even taken what was said before."""
        if not self._behind and not self._transport.is_closing():
            self._last = told
            self._transport.write(told.serialize())

    def data_received(self, data: Buffer) -> None:
        """A question."""
        if bytes(data).strip(b"?"):
            reset_stream(self._transport, Reason.GENERAL)
            return
        now = asyncio.get_running_loop().time()
        told = self._service.told(self.name)
        if told is not None and now - self._answered >= ASK_EVERY:
            self._answered = now
            self.tell(told)

    def pause_writing(self) -> None:
        """It does not read."""
        self._behind = True

    def resume_writing(self) -> None:
        """It does again: what it missed comes."""
        self._behind = False
        told = self._service.told(self.name)
        if told is not None:
            self.look(told)

    def end(self) -> None:
        """No more will come."""
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        del exc
        self._service.left(self)


def _noticeable(told: Told) -> tuple[object, ...]:
    return told.name, told.state, told.expires_at, told.quota, told.resets_at, told.rate, told.share
