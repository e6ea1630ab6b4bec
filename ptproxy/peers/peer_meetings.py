"""Where and when two peers of a stream meet, and meet again: one connection after another, until it is over.

Meetings of odd numbers are at the acceptor's home bridge, those of even ones at the opener's; both know
both, since they deposit mail there. So no signal names a place to dial: the only one that a peer can choose
is its own mailbox's bridge, where we deposit mail anyhow. A place that cannot be reached, or offers no
rendezvous, is passed over by going to the next number.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from enum import Enum
from typing import Any, Final, Protocol

from ptproxy.buffer import Buffer
from ptproxy.e2e import Rng, Session
from ptproxy.e2e.stream import MeetSignal, Role, SealedStream, StreamSignal, Summons
from ptproxy.errors import DialError, Reason
from ptproxy.log import get_logger
from ptproxy.peers.rendezvous import RendezvousError, Side, meet
from ptproxy.tunnel.relay import reset_stream
from ptproxy.tunnel.stream import Dialer

LINGER: Final = 300.0
"""Seconds that a stream waits for the peer, at its beginning and after each break, before it is given up."""
RETRY_FIRST: Final = 0.25
RETRY_LAST: Final = 30.0
"""Seconds between attempts to meet: doubled from the first to the last, each jittered by half."""
HASTE: Final = 5.0
"""Seconds between two attempts at least, whoever asks for more: the peer's word ends a pause, and two whose
bridges both fail would otherwise drive each other on as fast as signals travel ..."""
AT_ONCE: Final = 8
"""... but for so many, which may follow one another freely: 68 in a whole linger."""

log = get_logger(__name__)


class Home(Enum):
    """Whose bridge a meeting is at."""

    OURS = 1
    """Where our own mailbox is."""
    THEIRS = 2
    """Where the contact's is."""


class Surroundings(Protocol):
    """What a stream needs of who has it."""

    rng: Rng

    def dialer(self, contact: bytes, home: Home) -> Dialer | None:
        """How to get there; None where there is no way, or no rendezvous."""

    def session(self, contact: bytes) -> Session | None:
        """The session that is sent in; None while nothing may be sent to the contact."""

    def tell(self, contact: bytes, signal: StreamSignal) -> None:
        """Send a signal, some time."""


class MeetingStream(Protocol):
    """The stream that meets: what it is told, and asked."""

    contact: bytes
    sealed: SealedStream
    ended: bool

    def joined(self, connection: Connection) -> None:
        """The two are joined."""

    def received(self, connection: Connection, data: Buffer) -> None:
        """Bytes came."""

    def pump(self) -> None:
        """The connection takes more."""

    def parted(self, connection: Connection) -> None:
        """The connection is gone."""

    def give_up(self, reason: Reason) -> None:
        """There is no use in going on."""


class Connection(asyncio.Protocol):
    """One meeting's connection."""

    def __init__(self, stream: MeetingStream, number: int) -> None:
        self.number = number
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.confirmed = False
        """Whether the peer has proved to be there."""
        self.paused = False
        self.transport: Any = None
        self._stream = stream

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The two are joined."""
        self.transport = transport
        self._stream.joined(self)

    def data_received(self, data: Buffer) -> None:
        """Bytes came."""
        self._stream.received(self, data)

    def eof_received(self) -> bool:
        """The peer has closed it; so do we."""
        return False

    def pause_writing(self) -> None:
        """It takes no more for now."""
        self.paused = True

    def resume_writing(self) -> None:
        """It takes more."""
        self.paused = False
        self._stream.pump()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        del exc
        if not self.over.done():
            self.over.set_result(None)

    def break_off(self) -> None:
        """Not this meeting any more."""
        if self.transport is not None:
            reset_stream(self.transport, Reason.CANCELLED)
        self.connection_lost(None)


class Meetings:
    """All meetings of one stream."""

    def __init__(self, around: Surroundings, stream: MeetingStream, linger: float) -> None:
        self._around = around
        self._stream = stream
        self._linger = linger
        self._wake = asyncio.Event()
        self._unsupported = 0
        self._attempts = 0
        self._paid = 0.0
        """When all attempts that have begun are paid for, at ``HASTE`` each, by the loop's clock."""

    def wake(self) -> None:
        """Something has changed for who waits: another number, the peer's word, the end."""
        self._wake.set()

    def went_well(self) -> None:
        """The peer is there."""
        self._attempts = self._unsupported = 0

    def summoned(self, number: int) -> bool:
        """MEET came; whether the present connection is to be left."""
        summons = self._stream.sealed.summoned(number)
        if summons is Summons.CORRECT:
            self._tell_number()
        elif summons is not None:
            self._wake.set()
        return summons is Summons.FOLLOW

    async def run(self) -> None:
        """Meet the peer until the stream is over."""
        while not self._stream.ended:
            await self._meet()

    async def _meet(self) -> None:
        """One meeting, from looking for the peer to its end."""
        try:
            async with asyncio.timeout(self._linger):
                connection = await self._find()
        except TimeoutError:
            connection = None
            if not self._stream.ended:
                self._stream.give_up(Reason.TIMED_OUT)
        if connection is None:
            return
        await connection.over
        self._stream.parted(connection)
        if self._stream.ended:
            return
        if self._stream.sealed.over:
            self._stream.give_up(Reason.CANCELLED)
            return
        if self._stream.sealed.number == connection.number:
            self._leave_number()
            self._tell_number()
        if not connection.confirmed:
            self._attempts += 1

    def _leave_number(self) -> None:
        """The two were joined: nobody comes to this number again (rule M1), with keys or without."""
        if self._stream.sealed.meeting is None:
            self._stream.sealed.skip_meeting()
        else:
            self._stream.sealed.end_meeting()

    async def _find(self) -> Connection | None:
        """Go where the peer should be, again and again; None when the stream is over meanwhile."""
        while not self._stream.ended:
            if self._attempts:
                await self._pause()
            await self._hold_back()
            number = self._stream.sealed.number
            connection = Connection(self._stream, number)
            try:
                if await self._join(connection):
                    return connection
            except (DialError, RendezvousError) as error:
                reason = error.reason if isinstance(error, DialError) else Reason.UNSUPPORTED
                self._not_met(number, reason)
        return None

    async def _join(self, connection: Connection) -> bool:
        """Wait at the rendezvous; False when it is to be another meeting, or none."""
        dialer = self._around.dialer(self._stream.contact, self._home())
        if dialer is None:
            raise DialError(Reason.UNSUPPORTED)
        side = Side(self._stream.sealed.role)
        attempt = asyncio.ensure_future(meet(dialer, self._stream.sealed.cookie(), side, connection))
        try:
            while self._stream.sealed.number == connection.number and not self._stream.ended:
                self._wake.clear()
                woken = asyncio.ensure_future(self._wake.wait())
                try:
                    await asyncio.wait({attempt, woken}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    woken.cancel()
                if attempt.done():
                    attempt.result()
                    return True
            return False
        finally:
            if not attempt.done():
                attempt.cancel()
                await asyncio.gather(attempt, return_exceptions=True)

    def _not_met(self, number: int, reason: Reason) -> None:
        """An attempt was in vain."""
        self._attempts += 1
        self._unsupported = self._unsupported + 1 if reason is Reason.UNSUPPORTED else 0
        log.debug("no meeting", number=number, reason=reason.name.lower())
        if self._unsupported > 1:
            self._stream.give_up(Reason.UNSUPPORTED)  # neither home has a rendezvous
            return
        elsewhere = self._unsupported or (self._attempts > 1 and reason is not Reason.TIMED_OUT)
        if elsewhere and self._stream.sealed.number == number:
            self._stream.sealed.skip_meeting()
        self._tell_number()

    async def _pause(self) -> None:
        """Between attempts; the peer's word that it is there ends it."""
        seconds = min(RETRY_FIRST * 2 ** min(self._attempts - 1, 20), RETRY_LAST)
        self._wake.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds * random.uniform(0.5, 1.0)):
                await self._wake.wait()

    async def _hold_back(self) -> None:
        """No attempt before the floor permits it; the end of the stream ends the wait."""
        clock = asyncio.get_running_loop().time
        due = self._paid - (AT_ONCE - 1) * HASTE
        while not self._stream.ended and clock() < due:
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._wake.wait()
        self._paid = max(self._paid, clock()) + HASTE

    def _home(self) -> Home:
        """Where the meeting is."""
        at_acceptors = self._stream.sealed.number % 2 == 1
        return Home.OURS if at_acceptors == (self._stream.sealed.role is Role.ACCEPTOR) else Home.THEIRS

    def _tell_number(self) -> None:
        self._around.tell(
            self._stream.contact, MeetSignal(self._stream.sealed.seed.stream, self._stream.sealed.number)
        )
