"""Files to and from contacts, over streams: offered, accepted by the person, gone on with after breaks.

::

    transfers = FileTransfers(streams, folder, on_offer=ask, on_progress=show)
    await transfers.send(contact, path)             # returns when the contact has it, verified
    saved = await offer.accept()                    # in ask, or later: the path of the whole file
    offer.refuse()

What comes is written to a hidden file of the folder and gets its name when it is whole and its SHA-256 is
the offered one. What was broken off stays there: the same file offered again by the same contact goes on
where it stopped. What nobody goes on with for ``ABANDONED`` seconds is deleted when another file is sent or
taken, and when a program asks for it at its start (:meth:`FileTransfers.tidy`). Nothing is written before
the person has accepted, nothing ever in place of another file.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ptproxy.errors import Reason, StartError, why
from ptproxy.peers.file_messages import (
    PURPOSE,
    TRANSFER,
    FileDiffersError,
    FileLapsedError,
    FileRefusedError,
    Offer,
)
from ptproxy.peers.file_pieces import digest_of, in_thread, open_to_send
from ptproxy.peers.file_receiving import FileOffer, Receiving
from ptproxy.peers.file_sending import FileProgressed, Sending
from ptproxy.peers.peer_streams import IncomingStream, PeerStreams
from ptproxy.state import remove_abandoned

__all__ = [
    "FileDiffersError",
    "FileLapsedError",
    "FileOffer",
    "FileProgressed",
    "FileRefusedError",
    "FileTransfers",
]

MAX_FILE: Final = 4 << 30
"""Bytes of a file that is taken, unless told otherwise."""
MAX_OFFERS: Final = 16
"""Offers of all contacts that wait for the person or are on their way; more are refused."""
MAX_OFFERS_OF_ONE: Final = 4
"""... of one contact: nobody alone takes the places of all others."""
ABANDONED: Final = 30 * 86_400.0
"""Seconds after which a file that was broken off is not expected to go on: a month, as for a message."""


class FileTransfers:
    """The files of one identity that are on their way."""

    def __init__(
        self,
        streams: PeerStreams,
        folder: Path,
        *,
        on_offer: Callable[[FileOffer], None],
        on_progress: Callable[[FileProgressed], None],
        on_gone: Callable[[FileOffer], None] = lambda _: None,
        most: int = MAX_FILE,
    ) -> None:
        """``folder``: where files are saved; what is told is told in the loop.

        ``on_gone`` tells of an offer that nobody decided about: its contact is gone, or it has
        lapsed (:data:`~ptproxy.peers.file_receiving.OFFER_LIFE`).
        """
        self.folder = folder
        self.on_offer = on_offer
        self.on_progress = on_progress
        self.on_gone = on_gone
        self.most = most
        self._places: Counter[bytes] = Counter()
        self._streams = streams
        streams.offer(PURPOSE, self._incoming)

    @property
    def offers(self) -> int:
        """Offers that wait, are on their way, or are about to come."""
        return self._places.total()

    def tidy(self) -> None:
        """Delete what came of files that nobody goes on with; waits for the disk."""
        remove_abandoned(self.folder, time.time() - ABANDONED)

    async def send(self, contact: bytes, path: Path, name: str | None = None) -> None:
        """Offer a file (as ``name``) and send it; returns when the contact has it.

        :class:`FileRefusedError`, :class:`FileLapsedError`, :class:`FileDiffersError`,
        :class:`~ptproxy.errors.DialError` where the contact is not there or the stream is lost (send it
        again to go on), :class:`~ptproxy.errors.StartError` where the file cannot be read, or is none.
        Cancelling it breaks it off.
        """
        try:
            with contextlib.ExitStack() as opened:
                await in_thread(self.tidy)
                file = await in_thread(lambda: opened.enter_context(open_to_send(path)))
                digest, size = await digest_of(file)
                offer = Offer(os.urandom(TRANSFER), size, digest, path.name if name is None else name)
                await Sending(self.on_progress, contact, offer, file).run(self._streams)
        except OSError as error:
            raise StartError(f"cannot read {path}: {why(error)}") from None

    def _incoming(self, incoming: IncomingStream) -> None:
        contact = incoming.contact
        if self.offers >= MAX_OFFERS or self._places[contact] >= MAX_OFFERS_OF_ONE:
            incoming.refuse(Reason.LIMIT)
            return
        self._places[contact] += 1
        stream = incoming.accept(Receiving(self, contact))

        def opened(met: asyncio.Future[None]) -> None:
            if met.cancelled() or met.exception() is not None:  # it never came: nothing else tells
                self.leave(contact)

        stream.opened.add_done_callback(opened)

    def leave(self, contact: bytes) -> None:
        """A place is free again: for :class:`Receiving` and nobody else."""
        self._places[contact] -= 1
        if not self._places[contact]:
            del self._places[contact]
