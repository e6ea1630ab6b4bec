"""A file that grows until all of it has come; then it gets its name."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from ptproxy.errors import StartError, why
from ptproxy.state.files import FILE_MODE, make_folder, rename_new, sync_folder
from ptproxy.state.lock import take_lock

MAX_ALIKE: Final = 1_000
"""Files of one name, told apart by a number."""

_SUFFIX: Final = ".ptproxy.part"
"""Of names that no other program gives: they stand among a person's own files, and are deleted by it."""


class PartialFile:
    """The unfinished file ``name`` of ``folder``: ``.name.ptproxy.part``, with one writer at a time.

    A context manager that closes it, and leaves it for another day unless it was finished or dropped.
    """

    __slots__ = ("_path", "file")

    file: IO[bytes]

    def __init__(self, folder: Path, name: str) -> None:
        """Open it, made where missing and locked, its position at the end.

        Raises :class:`~ptproxy.errors.StartError` where that is impossible or somebody else has it open.
        """
        self._path = folder / f".{name}{_SUFFIX}"
        try:
            make_folder(folder)
            self.file = _open_alone(self._path)
            if _has_another_name(self.file):  # finished, and killed before this name went
                self.drop()
                self.file = _open_alone(self._path)
                if _has_another_name(self.file):
                    self.file.close()
                    raise StartError(f"cannot write {self._path}: a finished file that cannot be deleted")
            self.file.seek(0, os.SEEK_END)
        except OSError as error:
            raise StartError(f"cannot write {self._path}: {why(error)}") from None

    def finish(self, final: str) -> Path:
        """Close it and give it the name ``final``, or, where that is taken, one like it: the path.

        Raises :class:`~ptproxy.errors.StartError` where that is impossible.
        """
        stem, dot, suffix = final.rpartition(".") if "." in final[1:] else (final, "", "")
        folder = self._path.parent
        path = folder / final
        try:
            os.fsync(self.file.fileno())
            self._let_go()
            for number in range(2, MAX_ALIKE):
                with contextlib.suppress(FileExistsError):
                    rename_new(self._path, path)
                    break
                path = folder / f"{stem} ({number}){dot}{suffix}"
            else:
                raise StartError(f"{path} exists already, and all names like it")
            self._path.unlink(missing_ok=True)  # a link to it stays where renaming is linking
            sync_folder(folder)
        except OSError as error:
            raise StartError(f"cannot write {path}: {why(error)}") from None
        finally:
            self.file.close()
        return path

    def drop(self) -> None:
        """Close it and delete it, as far as that is possible."""
        self._let_go()
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
        self.file.close()

    def close(self) -> None:
        """Close it and leave it for another day. May be called twice, and after the others."""
        self.file.close()

    def _let_go(self) -> None:
        """Before its name goes: an open file keeps its name on Windows, elsewhere it keeps others out."""
        if sys.platform == "win32":
            self.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _open_alone(path: Path) -> IO[bytes]:
    """The file, locked; raises OSError, and StartError where it is being written already."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), FILE_MODE)
    file = os.fdopen(descriptor, "r+b", buffering=0)
    try:
        take_lock(file)
        opened = os.fstat(descriptor)
        ours = os.path.samestat(opened, path.stat(follow_symlinks=False)) and stat.S_ISREG(opened.st_mode)
    except OSError:
        ours = False
    if not ours:  # locked by another, or deleted or finished by one that had it locked until now; or a pipe
        file.close()
        raise StartError(f"cannot write {path}: it is being written already")
    return file


def _has_another_name(file: IO[bytes]) -> bool:
    return os.fstat(file.fileno()).st_nlink > 1


def remove_abandoned(folder: Path, before: float) -> int:
    """Delete the unfinished files of ``folder`` last written before ``before`` (Unix time); how many.

    One that somebody has open stays, whoever that is.
    """
    removed = 0
    for path in folder.glob(f".*{_SUFFIX}"):
        with contextlib.suppress(StartError, OSError):
            if path.stat(follow_symlinks=False).st_mtime >= before:
                continue
            partial = PartialFile(folder, path.name[1 : -len(_SUFFIX)])
            if os.fstat(partial.file.fileno()).st_mtime >= before:  # somebody wrote and closed it just now
                partial.close()
                continue
            partial.drop()
            removed += 1
    return removed
