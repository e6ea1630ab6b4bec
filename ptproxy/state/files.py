"""Files that are replaced whole, folders, logs.

A file is replaced by a temporary one beside it: fsync, rename, fsync of the folder. Whoever reads
sees the old or the new content, never half of it. Files have mode 0600, folders 0700. A temporary file
that a kill has left is deleted the next time that the folder is taken. What root writes into the folder
of another user, such as a service's, is that user's.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import sys
import time
from pathlib import Path
from typing import Final, TextIO

from ptproxy.errors import StartError, why

FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700
LEFT: Final = 3_600.0
"""Seconds after which a temporary file was left by a program that was killed: writing one takes no minute."""

NO_LINK: Final[int] = getattr(os, "O_NOFOLLOW", 0)
"""A flag of :func:`os.open`: a symbolic link is refused."""

_TEMPORARY: Final = ".ptproxy.new"


def write_file(path: Path, content: str | bytes, *, mode: int = FILE_MODE, replace: bool = True) -> None:
    """Put ``content`` at ``path`` atomically; its folder is made when missing.

    Raises :class:`~ptproxy.errors.StartError` when that is impossible, and with
    ``replace=False`` when the file exists.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        make_folder(path.parent)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_TEMPORARY}")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(descriptor, "wb") as file:
                give_to_owner(descriptor, path.parent)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if replace:
                os.replace(temporary, path)
            else:
                rename_new(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)
    except FileExistsError:
        raise StartError(f"{path} exists already") from None
    except OSError as error:
        raise StartError(f"cannot write {path}: {why(error)}") from None


def give_to_owner(descriptor: int, folder: Path) -> None:
    """What root makes in another user's folder is that user's: a service is to read it.

    Open it with :data:`NO_LINK`: else that user says by a link which of root's files is given away.
    """
    owner = other_owner(folder)
    if owner is not None and os.fstat(descriptor).st_nlink == 1:
        os.fchown(descriptor, *owner)


def other_owner(folder: Path) -> tuple[int, int] | None:
    """User and group whose folder this is, where we are root and they are not."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return None
    status = folder.stat()
    return (status.st_uid, status.st_gid) if status.st_uid else None


def put_aside(path: Path, suffix: str) -> None:
    """Give a file that was taken over its name and ``suffix``, in place of whatever has that; gone is fine.

    Raises :class:`~ptproxy.errors.StartError`.
    """
    try:
        os.replace(path, path.with_name(path.name + suffix))
        sync_folder(path.parent)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise StartError(f"cannot rename {path}: {why(error)}") from None


def remove_temporary(folder: Path) -> None:
    """Delete what a program that was killed while it wrote has left, as far as that is possible."""
    now = time.time()
    with contextlib.suppress(OSError):
        for path in folder.glob(f".*{_TEMPORARY}"):
            with contextlib.suppress(OSError):
                if now - path.stat(follow_symlinks=False).st_mtime > LEFT:
                    path.unlink()


def open_log(path: Path) -> TextIO:
    """A file to append log lines to; raises :class:`~ptproxy.errors.StartError`."""
    try:
        make_folder(path.parent)
        ours = other_owner(path.parent) is None  # a link of our own may lead to another disk
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | (0 if ours else NO_LINK)
        descriptor = os.open(path, flags, FILE_MODE)
        give_to_owner(descriptor, path.parent)
    except OSError as error:
        raise StartError(f"log.file: cannot write {path}: {why(error)}") from None
    return os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace", buffering=1)


def make_folder(path: Path) -> None:
    """Make ``path`` and its parents where missing, each readable by its owner only; raises OSError."""
    if path.is_dir():
        return
    make_folder(path.parent)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=FOLDER_MODE)


def remove_folder(path: Path) -> None:
    """Remove a folder and all that is in it, as far as that is possible."""
    shutil.rmtree(path, ignore_errors=True)


def rename_new(temporary: Path, path: Path) -> None:
    """Give a file its name; raises FileExistsError where that is taken, and other OSErrors."""
    if sys.platform == "win32":
        os.rename(temporary, path)  # refuses an existing name by itself there
        return
    try:
        os.link(temporary, path)  # whoever renames has to remove the first name
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise
        if path.exists():  # a file system without hard links
            raise FileExistsError(errno.EEXIST, "exists") from None
        os.replace(temporary, path)


def sync_folder(path: Path) -> None:
    """Make a rename last; where folders cannot be opened (Windows) it does so by itself."""
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
