"""Files to and from contacts, as the chat tells of them: each has a number that commands name it by."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from ptproxy.errors import PtproxyError, why
from ptproxy.peers.chat.commands import CommandError
from ptproxy.peers.chat.told_files import FileState, FileTold
from ptproxy.peers.file_pieces import in_thread
from ptproxy.peers.file_transfer import FileOffer, FileProgressed, FileRefusedError, FileTransfers
from ptproxy.peers.messenger_events import ContactId
from ptproxy.peers.peer_streams import PeerStreams

MAX_FILES: Final = 64
"""Files that are known by their numbers: those that are over go first."""
SEND_AT_ONCE: Final = 8
"""Files of ours that are offered or on their way."""

OVER: Final = (FileState.DONE, FileState.REFUSED, FileState.FAILED)
_WITHDRAWN: Final = "the contact is gone; it has to offer it again"
_LAPSED: Final = "nobody took it for an hour; the contact can offer it again"
_STOPPED: Final = "you stopped it"
_file: ContextVar[str] = ContextVar("file")
"""Which of them the task that runs is about: progress is told from within it."""


@dataclass(slots=True)
class _File:
    """A file on its way."""

    told: FileTold
    offer: FileOffer | None = None
    task: asyncio.Task[None] | None = None


class Files:
    """The files of one chat. To be closed by whoever made it."""

    def __init__(
        self,
        streams: PeerStreams,
        folder: Path,
        label: Callable[[ContactId], str],
        tell: Callable[[FileTold], None],
    ) -> None:
        """What comes is saved in ``folder``; ``tell`` is called in the loop."""
        self._transfers = FileTransfers(
            streams, folder, on_offer=self._offered, on_progress=self._progressed, on_gone=self._gone
        )
        self._label = label
        self._tell = tell
        self._files: dict[str, _File] = {}
        self._last = 0

    async def tidy(self) -> None:
        """Delete what came of files that nobody goes on with; for the start of a chat."""
        with contextlib.suppress(OSError):  # a disk that cannot do it now is asked again at the next start
            await in_thread(self._transfers.tidy)

    async def send(self, contact: ContactId, path: Path) -> None:
        """Offer a file; what becomes of it is told. :class:`CommandError` where there is no such file."""
        try:
            path, size = await in_thread(_look_at, path)
        except OSError as error:  # a folder that may not be looked into, a name that is too long
            raise CommandError(f"cannot read that file: {why(error)}") from None
        if size < 0:
            raise CommandError("there is no such file")
        ours = [each for each in self._files.values() if each.offer is None and each.told.state not in OVER]
        if len(ours) >= SEND_AT_ONCE:
            raise CommandError(f"{SEND_AT_ONCE} files are on their way: wait for one of them")
        file = self._add(contact, path.name, size, None, FileState.OFFERING)
        self._run(file, self._transfers.send(contact, path))

    def take(self, number: str) -> None:
        """Take a file that is offered; what becomes of it is told."""
        file, offer = self._waiting(number)
        self._change(file, state=FileState.RECEIVING)
        self._run(file, self._save(file, offer))

    def refuse(self, number: str) -> None:
        """Say no to a file that is offered."""
        file, offer = self._waiting(number)
        offer.refuse()
        self._change(file, state=FileState.REFUSED)

    def stop(self, number: str) -> None:
        """Break off a file on its way, in either direction; one that is offered is refused."""
        file = self._files.get(number)
        if file is None or file.told.state in OVER:
            raise CommandError("no file of that number is on its way")
        if file.told.state is FileState.OFFERED:
            self.refuse(number)
            return
        if file.task is not None:
            file.task.cancel()
        if file.offer is not None:
            file.offer.refuse()  # where taking it has not even begun
        self._change(file, state=FileState.FAILED, why=_STOPPED)

    async def finished(self) -> None:
        """Wait until nothing is on its way any more; what is only offered to us is not waited for."""
        while tasks := [file.task for file in self._files.values() if file.task and not file.task.done()]:
            await asyncio.wait(tasks)

    async def close(self) -> None:
        """Break off what is on its way; what has come is kept, and gone on with when it is offered again."""
        tasks = [file.task for file in self._files.values() if file.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _waiting(self, number: str) -> tuple[_File, FileOffer]:
        file = self._files.get(number)
        if file is None or file.offer is None or file.told.state is not FileState.OFFERED:
            raise CommandError("no file of that number is offered")
        if file.offer.withdrawn:
            self._change(file, state=FileState.FAILED, why=_WITHDRAWN)
            raise CommandError("the contact is gone; it has to offer the file again")
        return file, file.offer

    def _offered(self, offer: FileOffer) -> None:
        self._add(offer.contact, offer.name, offer.size, offer, FileState.OFFERED)

    def _gone(self, offer: FileOffer) -> None:
        for file in self._files.values():
            if file.offer is offer and file.told.state is FileState.OFFERED:
                self._change(file, state=FileState.FAILED, why=_LAPSED if offer.lapsed else _WITHDRAWN)

    def _add(
        self, contact: ContactId, name: str, size: int, offer: FileOffer | None, state: FileState
    ) -> _File:
        for number, file in list(self._files.items()):
            if len(self._files) >= MAX_FILES and file.told.state in OVER:
                del self._files[number]
        self._last += 1
        told = FileTold(self._label(contact), contact.hex(), str(self._last), name, size, 0, state)
        file = self._files[told.file] = _File(told, offer)
        self._tell(told)
        return file

    def _run(self, file: _File, doing: Coroutine[Any, Any, None]) -> None:
        async def run() -> None:
            _file.set(file.told.file)
            try:
                await doing
            except FileRefusedError:
                self._change(file, state=FileState.REFUSED)
            except PtproxyError as error:
                self._change(file, state=FileState.FAILED, why=str(error))
            else:
                self._change(file, state=FileState.DONE, done=file.told.size)

        file.task = asyncio.ensure_future(run())
        file.task.add_done_callback(lambda _: doing.close())  # cancelled before it began: nobody awaits it

    async def _save(self, file: _File, offer: FileOffer) -> None:
        path = await offer.accept()
        file.told = replace(file.told, path=str(path))

    def _progressed(self, progress: FileProgressed) -> None:
        file = self._files[_file.get()]
        before = file.told.percent()
        state = FileState.SENDING if file.offer is None else FileState.RECEIVING
        told = replace(file.told, done=progress.done, state=state)
        if told.percent() != before or told.state is not file.told.state:
            file.told = told
            self._tell(told)

    def _change(self, file: _File, **values: Any) -> None:
        file.told = replace(file.told, **values)
        self._tell(file.told)


def _look_at(path: Path) -> tuple[Path, int]:
    """Where it is, and its size, -1 where there is no such file; in a thread."""
    with contextlib.suppress(RuntimeError):  # ~ of somebody who has no home
        path = path.expanduser()
    return path, path.stat().st_size if path.is_file() else -1
