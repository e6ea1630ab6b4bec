"""A file of ours on its way to a contact: one stream, from the offer to the last word."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from ptproxy.buffer import Buffer
from ptproxy.errors import DialError, Reason
from ptproxy.peers.file_messages import (
    PURPOSE,
    Answer,
    Answers,
    FileDiffersError,
    FileLapsedError,
    FileProtocolError,
    FileRefusedError,
    Offer,
)
from ptproxy.peers.file_pieces import PIECE, in_thread
from ptproxy.peers.peer_streams import PeerStreams


@dataclass(frozen=True, slots=True)
class FileProgressed:
    """So much of a file is there; ``done == size`` is not yet its end: that is when the call returns."""

    contact: bytes
    transfer: bytes
    done: int
    size: int


class Sending(asyncio.Protocol):
    """A file that we send."""

    def __init__(
        self, progressed: Callable[[FileProgressed], None], contact: bytes, offer: Offer, file: IO[bytes]
    ) -> None:
        self._on_progress = progressed
        self._contact = contact
        self._offer = offer
        self._file = file
        self._answers = Answers(offer.size)
        self._changed = asyncio.Event()
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._lost = False
        self._error: Exception | None = None

    async def run(self, streams: PeerStreams) -> None:
        """Until the contact has the file; see :meth:`~ptproxy.peers.file_transfer.FileTransfers.send`."""
        stream = await streams.open_stream(self._contact, PURPOSE, self)
        try:
            stream.write(self._offer.serialize())
            await self._answer(lambda: self._answers.offset is not None)
            assert self._answers.offset is not None
            await self._write(stream, self._answers.offset)
            stream.write_eof()
            await self._answer(lambda: self._answers.result is not None)
            stream.close()
        except BaseException:
            stream.abort()
            raise

    async def _answer(self, there: Callable[[], bool]) -> None:
        """Wait until something was answered; raises for every answer but the good ones."""
        while True:
            if isinstance(self._error, FileProtocolError):
                raise self._error
            if self._answers.result is Answer.REFUSED:
                raise FileRefusedError("the contact does not want the file")
            if self._answers.result is Answer.DIFFERENT:
                raise FileDiffersError("the file was changed while it was sent: send it again")
            if there():
                return
            if self._lost:
                raise self._why_lost()
            self._changed.clear()
            await self._changed.wait()

    async def _write(self, stream: asyncio.Transport, offset: int) -> None:
        """The file's bytes from ``offset`` on."""
        await in_thread(self._file.seek, offset)
        self._progressed(offset)
        while offset < self._offer.size:
            await self._may_write.wait()
            if self._lost:
                raise self._why_lost()
            piece = await in_thread(self._file.read, min(PIECE, self._offer.size - offset))
            if not piece:
                raise FileDiffersError("the file was cut while it was sent: send it again")
            stream.write(piece)
            offset += len(piece)
            self._progressed(offset)

    def _why_lost(self) -> Exception:
        untaken = self._answers.offset is None
        if untaken and isinstance(self._error, DialError) and self._error.reason is Reason.TIMED_OUT:
            return FileLapsedError("the contact has not taken the file in time")
        return self._error or DialError(Reason.CONNECTION_LOST)

    def _progressed(self, done: int) -> None:
        offer = self._offer
        self._on_progress(FileProgressed(self._contact, offer.transfer, done, offer.size))

    def data_received(self, data: Buffer) -> None:
        """An answer."""
        try:
            self._answers.receive(bytes(data))
        except FileProtocolError as error:
            self._error, self._lost = error, True
            self._may_write.set()  # to hear of it; an answer gives no leave to write
        self._changed.set()

    def eof_received(self) -> bool:
        """There may be more for the contact."""
        return True

    def pause_writing(self) -> None:
        """The contact is behind."""
        self._may_write.clear()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._may_write.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever waits hears of it."""
        self._lost = True
        self._error = self._error or exc
        self._changed.set()
        self._may_write.set()
