"""A role's folder and files given to the user that the role is going to run as."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from ptproxy.errors import StartError, why
from ptproxy.state.files import NO_LINK, make_folder, open_log

KNOWN: Final = ("lock", "accounts.sqlite3", "accounts.lock")
"""What tells a state folder from another one that root keeps for itself."""


def give_folder(path: Path, uid: int, gid: int) -> None:
    """Have root's state folder, made when missing, and all that is in it belong to a user.

    One that is that user's stays as it is. Raises :class:`~ptproxy.errors.StartError` for a third one's,
    and for a folder of root's that is not plainly a state folder: nothing else is given away.
    """
    try:
        make_folder(path)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            status = os.fstat(descriptor)
            if status.st_uid == uid:
                return
            if status.st_uid != 0:
                raise StartError(
                    f"state: {path} belongs to another user (number {status.st_uid}): "
                    f"chown -R {uid}:{gid} {path}, or set another folder"
                )
            inside = os.listdir(descriptor)
            if stat.S_IMODE(status.st_mode) & 0o077 or (inside and not set(inside) & set(KNOWN)):
                raise StartError(
                    f"state: {path} is root's and not plainly a state folder, so it is not given away: "
                    f"chown -R {uid}:{gid} {path}, or set another folder"
                )
            _give_all(descriptor, uid, gid)
            os.fchown(descriptor, uid, gid)  # the last: until then nobody else is inside
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StartError(f"state: cannot give {path} to user {uid}: {why(error)}") from None


def give_log(path: Path, uid: int, gid: int) -> None:
    """Have a log file, made when missing, belong to a user where it is root's; raises StartError."""
    open_log(path).close()
    try:
        descriptor = os.open(path, os.O_WRONLY | NO_LINK)
        try:
            status = os.fstat(descriptor)
            if status.st_uid == 0 and status.st_nlink == 1 and stat.S_ISREG(status.st_mode):
                os.fchown(descriptor, uid, gid)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StartError(f"log.file: cannot give {path} to user {uid}: {why(error)}") from None


def _give_all(folder: int, uid: int, gid: int) -> None:
    """What is below a folder of root's, no links followed; what has a second name elsewhere stays."""
    for _, folders, files, here in os.fwalk(dir_fd=folder, topdown=False, follow_symlinks=False):
        for name in (*folders, *files):
            status = os.stat(name, dir_fd=here, follow_symlinks=False)
            is_one = stat.S_ISDIR(status.st_mode) or (stat.S_ISREG(status.st_mode) and status.st_nlink == 1)
            if status.st_uid == 0 and is_one:
                os.chown(name, uid, gid, dir_fd=here, follow_symlinks=False)
