"""Files to and from contacts, over streams: offered, accepted by the person, gone on with after breaks.

::

    transfers = FileTransfers(streams, folder, on_offer=ask, on_progress=show)
    await transfers.send(contact, path)             # returns when the contact has it, verified
    saved = await offer.accept()                    # in ask, or later: the path of the whole file
    offer.refuse()

What comes is written to a hidden file of the folder and gets its name when it is whole and its SHA-256 is
the offered one. What was broken off stays there: the same file offered again by the same contact goes on
where it stopped. Nothing is written before the person has accepted, nothing ever in place of another file.
"""

from __future__ import annotations

import asyncio
import hmac
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from ptproxy.buffer import Buffer
from ptproxy.errors import DialError, PtproxyError, Reason, StartError, why
from ptproxy.log import get_logger
from ptproxy.peers.file_messages import (
    PURPOSE,
    TRANSFER,
    Answer,
    Answers,
    FileProtocolError,
    Offer,
    accept,
)
from ptproxy.peers.file_name import safe_name
from ptproxy.peers.file_pieces import PIECE, append, digest_of, in_thread, partial_name, resume
from ptproxy.peers.peer_streams import IncomingStream, PeerStreams
from ptproxy.state import PartialFile

MAX_FILE: Final = 4 << 30
"""Bytes of a file that is taken, unless told otherwise."""
MAX_OFFERS: Final = 16
"""Offers of all contacts that wait for the person or are on their way; more are refused."""
BEHIND: Final = 1 << 20
"""Bytes that may wait for the disk; then the sender waits."""

log = get_logger(__name__)


class FileRefusedError(PtproxyError):
    """The contact does not want the file."""


class FileDiffersError(PtproxyError):
    """What came is not what was offered: the file was changed while it was sent."""


@dataclass(frozen=True, slots=True)
class FileProgressed:
    """So much of a file is there; ``done == size`` is not yet its end: that is when the call returns."""

    contact: bytes
    transfer: bytes
    done: int
    size: int


class FileOffer:
    """A file that a contact offers."""

    def __init__(self, receiving: _Receiving, offer: Offer) -> None:
        self.contact = receiving.contact
        self.transfer = offer.transfer
        self.name = safe_name(offer.name)
        """Harmless as the name of a file."""
        self.size = offer.size
        self.digest = offer.digest
        self._receiving = receiving

    @property
    def withdrawn(self) -> bool:
        """Whether its stream is gone: the contact has to offer it again."""
        return self._receiving.lost

    async def accept(self) -> Path:
        """Take it; where it was saved, when it is whole.

        :class:`~ptproxy.errors.DialError`: broken off, what came is kept. :class:`FileDiffersError`:
        it was another file, and nothing is kept. :class:`~ptproxy.errors.StartError`: it cannot be written.
        """
        return await self._receiving.take(self)

    def refuse(self) -> None:
        """Say no."""
        self._receiving.refuse()


class FileTransfers:
    """The files of one identity that are on their way."""

    def __init__(
        self,
        streams: PeerStreams,
        folder: Path,
        *,
        on_offer: Callable[[FileOffer], None],
        on_progress: Callable[[FileProgressed], None],
        most: int = MAX_FILE,
    ) -> None:
        """``folder``: where files are saved; ``on_offer`` and ``on_progress`` are called in the loop."""
        self.folder = folder
        self.on_offer = on_offer
        self.on_progress = on_progress
        self.most = most
        self.offers = 0
        """Offers that wait or are on their way."""
        self._streams = streams
        streams.offer(PURPOSE, self._incoming)

    async def send(self, contact: bytes, path: Path, name: str | None = None) -> None:
        """Offer a file (as ``name``) and send it; returns when the contact has it.

        :class:`FileRefusedError`, :class:`FileDiffersError`, :class:`~ptproxy.errors.DialError` where
        the contact is not there or the stream is lost (send it again to go on),
        :class:`~ptproxy.errors.StartError` where the file cannot be read. Cancelling it breaks it off.
        """
        try:
            with path.open("rb") as file:
                digest, size = await in_thread(digest_of, file)
                offer = Offer(os.urandom(TRANSFER), size, digest, path.name if name is None else name)
                await _Sending(self, contact, offer, file).run(self._streams)
        except OSError as error:
            raise StartError(f"cannot read {path}: {why(error)}") from None

    def _incoming(self, incoming: IncomingStream) -> None:
        if self.offers >= MAX_OFFERS:
            incoming.refuse(Reason.LIMIT)
        else:
            incoming.accept(_Receiving(self, incoming.contact))


class _Sending(asyncio.Protocol):
    """A file that we send."""

    def __init__(self, transfers: FileTransfers, contact: bytes, offer: Offer, file: IO[bytes]) -> None:
        self._transfers = transfers
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
                raise self._error or DialError(Reason.CONNECTION_LOST)
            self._changed.clear()
            await self._changed.wait()

    async def _write(self, stream: asyncio.Transport, offset: int) -> None:
        """The file's bytes from ``offset`` on."""
        await in_thread(self._file.seek, offset)
        self._progressed(offset)
        while offset < self._offer.size:
            await self._may_write.wait()
            if self._lost:
                raise self._error or DialError(Reason.CONNECTION_LOST)
            piece = await in_thread(self._file.read, min(PIECE, self._offer.size - offset))
            if not piece:
                raise FileDiffersError("the file was cut while it was sent: send it again")
            stream.write(piece)
            offset += len(piece)
            self._progressed(offset)

    def _progressed(self, done: int) -> None:
        offer = self._offer
        self._transfers.on_progress(FileProgressed(self._contact, offer.transfer, done, offer.size))

    def data_received(self, data: Buffer) -> None:
        try:
            self._answers.receive(bytes(data))
        except FileProtocolError as error:
            self._error, self._lost = error, True
            self._may_write.set()  # to hear of it; an answer gives no leave to write
        self._changed.set()

    def eof_received(self) -> bool:
        return True

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._error = self._error or exc
        self._changed.set()
        self._may_write.set()


class _Receiving(asyncio.Protocol):
    """A file that a contact sends."""

    def __init__(self, transfers: FileTransfers, contact: bytes) -> None:
        self.contact = contact
        self.lost = False
        self._transfers = transfers
        self._transport: Any = None
        self._received = bytearray()
        self._offer: Offer | None = None
        self._changed = asyncio.Event()
        self._ended = False
        self._decided = False
        self._error: Exception | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._transfers.offers += 1

    def data_received(self, data: Buffer) -> None:
        self._received += data
        if self._offer is None:
            self._read_offer()
        elif not self._decided:
            self._fail(FileProtocolError("file: sent before it was accepted"))
        elif len(self._received) >= BEHIND:
            self._transport.pause_reading()
        self._changed.set()

    def eof_received(self) -> bool:
        self._ended = True
        self._changed.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._transfers.offers -= 1
        self._error = self._error or exc
        self._changed.set()

    def refuse(self) -> None:
        """The person does not want it."""
        if not self._decided:
            self._decided = True
            self._answer(bytes((Answer.REFUSED,)))

    async def take(self, offer: FileOffer) -> Path:
        """The person wants it."""
        if self._decided or self.lost:
            raise DialError(Reason.CANCELLED)
        self._decided = True
        folder = self._transfers.folder
        try:
            partial = PartialFile(folder, partial_name(self.contact, offer.digest))
        except BaseException:
            self._transport.abort()
            raise
        try:
            digest = await self._fill(partial.file, offer)
            if not hmac.compare_digest(digest, offer.digest):
                partial.drop()
                self._answer(bytes((Answer.DIFFERENT,)))
                raise FileDiffersError("what came is not the file that was offered")
            path = await in_thread(partial.finish, offer.name)
        except OSError as error:
            self._transport.abort()
            raise StartError(f"cannot write in {folder}: {why(error)}") from None
        except FileDiffersError:
            raise
        except BaseException:
            self._transport.abort()
            raise
        finally:
            partial.close()
        self._answer(bytes((Answer.COMPLETE,)))
        return path

    async def _fill(self, partial: IO[bytes], offer: FileOffer) -> bytes:
        """Write what comes behind what is there; the hash of all of it."""
        digest, done = await in_thread(resume, partial, offer.size)
        self._transport.write(accept(done))
        self._progressed(offer, done)
        while done < offer.size:
            self._changed.clear()
            piece = bytes(self._received[:BEHIND])
            if not piece:
                if self.lost or self._ended:
                    raise self._error or DialError(Reason.CONNECTION_LOST)
                await self._changed.wait()
                continue
            del self._received[: len(piece)]
            if done + len(piece) > offer.size:
                raise FileProtocolError("file: more than was offered")
            await in_thread(append, partial, digest, piece)
            done += len(piece)
            self._progressed(offer, done)
            if len(self._received) < BEHIND and not self.lost:
                self._transport.resume_reading()
        return digest.digest()

    def _read_offer(self) -> None:
        """The offer, once it is whole; then nothing may come until it is accepted."""
        try:
            parsed = Offer.parse(bytes(self._received))
        except FileProtocolError as error:
            self._fail(error)
            return
        if parsed is None:
            return
        self._offer, length = parsed
        if len(self._received) > length:
            self._fail(FileProtocolError("file: sent before it was accepted"))
            return
        self._received.clear()
        if self._offer.size > self._transfers.most:
            self.refuse()
        else:
            self._transfers.on_offer(FileOffer(self, self._offer))

    def _fail(self, error: FileProtocolError) -> None:
        log.info("a contact's file is refused", reason=str(error))
        self._error, self._decided = error, True
        self._transport.abort()

    def _answer(self, answer: bytes) -> None:
        """The last word."""
        if not self.lost:
            self._transport.write(answer)
            self._transport.close()

    def _progressed(self, offer: FileOffer, done: int) -> None:
        self._transfers.on_progress(FileProgressed(self.contact, offer.transfer, done, offer.size))
