"""A file that a contact offers: what the person may do with it, and its bytes on their way to the disk."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from ptproxy.buffer import Buffer
from ptproxy.errors import DialError, Reason, StartError, why
from ptproxy.log import get_logger
from ptproxy.peers.file_messages import Answer, FileDiffersError, FileProtocolError, Offer, accept
from ptproxy.peers.file_name import safe_name
from ptproxy.peers.file_pieces import append, in_thread, partial_name, resume
from ptproxy.peers.file_sending import FileProgressed
from ptproxy.state import PartialFile

if TYPE_CHECKING:
    from ptproxy.peers.file_transfer import FileTransfers

OFFER_LIFE: Final = 3_600.0
"""Seconds for which an offer waits for the person: its place is for others then."""
STALL: Final = 900.0
"""Seconds without a byte of a file that was taken, after which it is given up: three times what a stream
waits for a contact that was lost. What came is kept."""
BEHIND: Final = 1 << 20
"""Bytes that may wait for the disk; then the sender waits."""

log = get_logger(__name__)


class FileOffer:
    """A file that a contact offers."""

    def __init__(self, receiving: Receiving, offer: Offer) -> None:
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

    @property
    def lapsed(self) -> bool:
        """Whether that is because nobody decided for :data:`OFFER_LIFE`."""
        return self._receiving.lapsed

    async def accept(self) -> Path:
        """Take it; where it was saved, when it is whole.

        :class:`~ptproxy.errors.DialError`: broken off, what came is kept. :class:`FileDiffersError`:
        it was another file, and nothing is kept. :class:`~ptproxy.errors.StartError`: it cannot be written.
        """
        return await self._receiving.take(self)

    def refuse(self) -> None:
        """Say no."""
        self._receiving.refuse()


class Receiving(asyncio.Protocol):
    """A file that a contact sends."""

    def __init__(self, transfers: FileTransfers, contact: bytes) -> None:
        self.contact = contact
        self.lost = False
        self.lapsed = False
        self._transfers = transfers
        self._transport: Any = None
        self._received = bytearray()
        self._offer: Offer | None = None
        self._told: FileOffer | None = None
        self._lapse: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()
        self._ended = False
        self._decided = False
        self._error: Exception | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The contact is there: it may offer."""
        self._transport = transport
        self._lapse = asyncio.get_running_loop().call_later(OFFER_LIFE, self._has_lapsed)

    def data_received(self, data: Buffer) -> None:
        """The offer, then the file."""
        self._received += data
        if self._offer is None:
            self._read_offer()
        elif not self._decided:
            self._fail(FileProtocolError("file: sent before it was accepted"))
        elif len(self._received) >= BEHIND:
            self._transport.pause_reading()
        self._changed.set()

    def eof_received(self) -> bool:
        """Nothing more comes; an answer can still go."""
        self._ended = True
        self._changed.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever waits hears of it."""
        self.lost = True
        self._transfers.leave(self.contact)
        self._error = self._error or exc
        self._changed.set()
        if not self._decided and self._told is not None:
            self._transfers.on_gone(self._told)
        self._decide()

    def refuse(self) -> None:
        """The person does not want it."""
        if not self._decided:
            self._decide()
            self._answer(bytes((Answer.REFUSED,)))

    def _decide(self) -> None:
        """Nobody waits for the person any more."""
        self._decided = True
        if self._lapse is not None:
            self._lapse.cancel()

    def _has_lapsed(self) -> None:
        self.lapsed = True
        self._transport.reset(Reason.TIMED_OUT)

    async def take(self, offer: FileOffer) -> Path:
        """The person wants it."""
        if self._decided or self.lost or self._error is not None:
            raise DialError(Reason.CANCELLED)
        self._decide()
        folder, name = self._transfers.folder, partial_name(self.contact, offer.digest)
        with contextlib.ExitStack() as opened:
            try:
                partial = await in_thread(
                    lambda: opened.enter_context(contextlib.closing(PartialFile(folder, name)))
                )
                await in_thread(self._transfers.tidy)  # now that ours is open, however old it is
                digest = await self._fill(partial.file, offer)
                if hmac.compare_digest(digest, offer.digest):
                    path = await in_thread(partial.finish, offer.name)
                    self._answer(bytes((Answer.COMPLETE,)))
                    return path
                await in_thread(partial.drop)
            except OSError as error:
                self._transport.abort()
                raise StartError(f"cannot write in {folder}: {why(error)}") from None
            except BaseException:
                self._transport.abort()
                raise
        self._answer(bytes((Answer.DIFFERENT,)))
        raise FileDiffersError("what came is not the file that was offered")

    async def _fill(self, partial: IO[bytes], offer: FileOffer) -> bytes:
        """Write what comes behind what is there; the hash of all of it."""
        digest, done = await resume(partial, offer.size)
        self._transport.write(accept(done))
        self._progressed(offer, done)
        while done < offer.size:
            self._changed.clear()
            piece = bytes(self._received[:BEHIND])
            if not piece:
                if self.lost or self._ended:
                    raise self._error or DialError(Reason.CONNECTION_LOST)
                try:
                    async with asyncio.timeout(STALL):
                        await self._changed.wait()
                except TimeoutError:
                    raise DialError(Reason.TIMED_OUT, "nothing more comes; what came is kept") from None
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
            self._told = FileOffer(self, self._offer)
            self._transfers.on_offer(self._told)

    def _fail(self, error: FileProtocolError) -> None:
        log.info("a contact's file is refused", reason=str(error))
        self._error = error
        if self._told is None:
            self._decide()
        self._transport.abort()

    def _answer(self, answer: bytes) -> None:
        """The last word."""
        if not self.lost:
            self._transport.write(answer)
            self._transport.close()

    def _progressed(self, offer: FileOffer, done: int) -> None:
        self._transfers.on_progress(FileProgressed(self.contact, offer.transfer, done, offer.size))
