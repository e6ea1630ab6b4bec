"""One way to the directory: a stream through a bridge, which its guard takes from there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from ptproxy.buffer import Buffer
from ptproxy.errors import DialError, Reason
from ptproxy.log import get_logger
from ptproxy.peers.find_frames import BeaconFrame, FindFrameError, FrameReader, Letter, NetworkFrame
from ptproxy.target import Target
from ptproxy.tunnel.relay import reset_stream
from ptproxy.tunnel.stream import Dialer, Stream

SERVICE: Final = "directory"
"""What a bridge calls its part: a relay to one of its guards."""
OPEN_WAIT: Final = 30.0
"""Seconds for a stream and the guard's first word: the bridge may have to dial its guard first."""
MAX_BEHIND: Final = 256
"""Letters that wait while a tunnel is behind; what comes on top is lost, as datagrams are."""

MAX_BEACONS: Final = 8
"""Beacons that a guard told and nobody has taken yet: three are good at a time, and each costs 32 checks."""

log = get_logger(__name__)


class Way(asyncio.Protocol):
    """A stream to a guard. ``name`` is for logs: the bridge that it goes through."""

    def __init__(self, name: str, receive: Callable[[Way, Letter], None]) -> None:
        self.name = name
        self.network: NetworkFrame | None = None
        """What the guard said first."""
        self.beacons: list[bytes] = []
        """Statements that the guard told, not verified, until somebody takes them out."""
        self._receive = receive
        self._reader = FrameReader()
        self._greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stream: Stream | None = None
        self._behind = False
        self._waiting: list[bytes] = []

    async def open(self, dialer: Dialer) -> None:
        """Open it through ``dialer``; :class:`~ptproxy.errors.DialError` where there is no such way."""
        try:
            async with asyncio.timeout(OPEN_WAIT):
                self._stream = await dialer.dial(Target.service(SERVICE), self)
                await self._greeted
        except TimeoutError:
            self.abort()
            raise DialError(Reason.TIMED_OUT, "no guard of the directory answers") from None
        except BaseException:
            self.abort()
            raise

    @property
    def is_open(self) -> bool:
        """Whether letters can be sent."""
        return self._stream is not None and not self._stream.is_closing() and self.network is not None

    def send(self, letter: Letter) -> None:
        """Send a letter; it may be lost."""
        if not self.is_open or self._stream is None:
            return
        if not self._behind:
            self._stream.write(letter.serialize())
        elif len(self._waiting) < MAX_BEHIND:
            self._waiting.append(letter.serialize())

    def abort(self) -> None:
        """Give it up."""
        if self._stream is not None:
            self._stream.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open; the guard speaks first."""
        self._stream = transport  # type: ignore[assignment]  # a stream is all that a dialer puts us on

    def data_received(self, data: Buffer) -> None:
        """The network, once; then letters. Beacons at any time."""
        try:
            for frame in self._reader.receive_data(data):
                if isinstance(frame, NetworkFrame):
                    self._greet(frame)
                elif isinstance(frame, BeaconFrame):
                    self.beacons.append(frame.statement)
                    del self.beacons[:-MAX_BEACONS]
                else:
                    self._receive(self, frame)
        except FindFrameError as error:
            log.warning("what answers is no guard", via=self.name, why=str(error))
            self._fail(DialError(Reason.GENERAL, "what answers is no guard of the directory"))
            if self._stream is not None:
                reset_stream(self._stream, Reason.GENERAL)

    def _greet(self, frame: NetworkFrame) -> None:
        if self.network is not None:
            raise FindFrameError("a second network")
        self.network = frame
        if not self._greeted.done():
            self._greeted.set_result(None)

    def pause_writing(self) -> None:
        """The tunnel is behind."""
        self._behind = True

    def resume_writing(self) -> None:
        """It has caught up."""
        self._behind = False
        waiting, self._waiting = self._waiting, []
        if self._stream is not None:
            for each in waiting:
                self._stream.write(each)

    def eof_received(self) -> bool:
        """The guard is leaving."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._waiting.clear()
        self._fail(exc if isinstance(exc, DialError) else DialError(Reason.CONNECTION_LOST))

    def _fail(self, error: DialError) -> None:
        if not self._greeted.done():
            self._greeted.set_exception(error)
            self._greeted.exception()
