"""How a client knows how it stands at its bridge: what is left of a quota, until when, and why nothing works.

It asks the service ``account`` (``account_service.py``) some seconds after the tunnel is
there, never in its first flight, whose look is a page's; and keeps that stream open. What
the bridge says is one line in the log when it changes, and :attr:`AccountFollower.told`
for whoever shows it.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import asdict
from typing import Any, Final

from ptproxy.buffer import Buffer
from ptproxy.errors import DialError, Reason, RemoteProtocolError
from ptproxy.log import get_logger
from ptproxy.proxy.account_service import FrameReader, Told
from ptproxy.target import Target
from ptproxy.tunnel.recognise import ACCOUNT_SERVICE
from ptproxy.tunnel.stream import Dialer

FIRST: Final = (8.0, 20.0)
"""Seconds, drawn, from the start to the question: a page has long been loaded."""
AGAIN: Final = (5.0, 15.0)
"""Seconds until a stream that has ended is opened again, doubled while that fails ..."""
AGAIN_MOST: Final = 3600.0
"""... up to this; at once for a bridge that has no such service, or no account for us."""
SHOW_EVERY: Final = 2.0
"""Seconds between lines in the log: a bridge that says ever different things fills no disk."""

_WORDS: Final = {
    "expired": "access to the bridge has ended; ask its operator",
    "quota": "this month's volume at the bridge is used up",
    "disabled": "the bridge's operator has disabled this account",
    "revoked": "the bridge's operator has revoked this client's key",
}

log = get_logger(__name__)


class AccountFollower:
    """Keeps the service's stream open; :attr:`told` is what came last."""

    def __init__(self, dialer: Dialer, first: tuple[float, float] = FIRST) -> None:
        self.told: Told | None = None
        self._dialer = dialer
        self._first = first
        self._rng = random.SystemRandom()
        self._task: asyncio.Task[None] | None = None
        self._stream: _Frames | None = None
        self._shown: tuple[str, int] | None = None
        self._shown_at = 0.0
        self._waiting: asyncio.TimerHandle | None = None  # what came last is shown then

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Ask, and follow, from some seconds on."""
        self._task = loop.create_task(self._follow())

    async def stop(self) -> None:
        """Follow no longer; what waits to be shown is shown."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._shown_at = -SHOW_EVERY
            self._show()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def ask(self) -> None:
        """Have the bridge say it anew, for somebody who looks; without a stream nothing happens."""
        if self._stream is not None:
            self._stream.ask()

    def state(self) -> dict[str, Any] | None:
        """What the bridge said last, JSON-able, with ``left``: bytes, None without a quota. None: nothing."""
        told = self.told
        if told is None:
            return None
        left = None if told.quota is None else max(0, told.quota - told.used)
        return asdict(told) | {"left": left}

    def received(self, told: Told) -> None:
        """The bridge says how we stand."""
        self.told = told
        if self._waiting is None:
            self._show()

    def _show(self) -> None:
        """What came last into the log, if that is new; a little later where there was a line just now.

        Never not at all: the last word, why nothing works any more, often comes right behind another.
        """
        self._waiting = None
        told, now, shown = self.told, time.monotonic(), self._shown
        first = shown is None
        if told is None or shown == (told.state, told.share):
            return
        rest = self._shown_at + SHOW_EVERY - now
        if not first and rest > 0:
            self._waiting = asyncio.get_running_loop().call_later(rest, self._show)
            return
        self._shown, self._shown_at = (told.state, told.share), now
        if told.state != "in force":
            log.warning(
                _WORDS.get(told.state, "the bridge lets this account do nothing"),
                account=told.name,
                again=_day(told.resets_at) if told.state == "quota" else None,
            )
        elif told.quota is not None:
            log.info(
                "account", account=told.name, used=told.used, quota=told.quota, new_month=_day(told.resets_at)
            )
        elif not first or told.expires_at is not None:
            log.info("account", account=told.name, until=_day(told.expires_at))

    async def _follow(self) -> None:
        await asyncio.sleep(self._rng.uniform(*self._first))
        wait = 1.0
        while True:
            stream = _Frames(self)
            try:
                transport = await self._dialer.dial(Target.service(ACCOUNT_SERVICE), stream)
            except DialError as error:
                wait = AGAIN_MOST if error.reason is Reason.UNSUPPORTED else min(2 * wait, AGAIN_MOST)
            else:
                self._stream = stream
                try:
                    if await stream.over:
                        wait = 1.0
                finally:
                    self._stream = None
                    transport.abort()
            await asyncio.sleep(min(wait * self._rng.uniform(*AGAIN), AGAIN_MOST))
            wait = min(2 * wait, AGAIN_MOST)


class _Frames(asyncio.Protocol):
    """The service's stream at the client."""

    def __init__(self, follower: AccountFollower) -> None:
        self.over: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        """Whether anything was said, once the stream is over."""
        self._follower = follower
        self._reader = FrameReader()
        self._transport: Any = None
        self._heard = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self._transport = transport

    def ask(self) -> None:
        """Ask once more."""
        if not self._transport.is_closing():
            self._transport.write(b"?")

    def data_received(self, data: Buffer) -> None:
        """Frames, whole or in pieces."""
        try:
            for told in self._reader.receive_data(data):
                self._heard = True
                self._follower.received(told)
        except RemoteProtocolError as error:
            log.warning("what the bridge says of the account is not understood", why=str(error))
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over, for whatever reason."""
        del exc
        if not self.over.done():
            self.over.set_result(self._heard)


def _day(unix: int | None) -> str | None:
    if unix is None:
        return None
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(min(unix, 253_402_300_799)))
