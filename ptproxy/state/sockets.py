"""A Unix socket's name in a folder: with its mode from the first moment, given up only by whoever has it.

The socket is bound under a temporary name, gets its mode, and is renamed: nobody ever finds it with
another mode, and a name that a killed process has left is replaced in one step. Paths of Unix sockets are
short (104 to 108 bytes); where a folder's is too long, Linux reaches it through ``/proc/self/fd``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ptproxy.errors import StartError, why
from ptproxy.state.files import FILE_MODE

LONGEST: Final = 100
"""Bytes of a path that every system takes, with room for the temporary name's end."""
_TEMPORARY: Final = ".new"


class NamedSocket:
    """A listening socket's name; the socket itself is the caller's."""

    def __init__(self, path: Path, sock: socket.socket) -> None:
        self.path = path
        self.sock = sock
        self._number = path.stat(follow_symlinks=False).st_ino

    def give_up(self) -> None:
        """Remove the name, unless another process has it by now; may be called twice."""
        with contextlib.suppress(OSError):
            if self.path.stat(follow_symlinks=False).st_ino == self._number:
                self.path.unlink()


def bind_socket(path: Path, mode: int = FILE_MODE) -> NamedSocket:
    """A bound Unix socket at ``path`` that ``mode`` lets in; a socket that was there before is replaced.

    Raises :class:`~ptproxy.errors.StartError`. To be called by whoever holds the folder: nothing looks
    whether another process listens there.
    """
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(2)}{_TEMPORARY}")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with reachable(temporary) as name:
            sock.bind(name)
        try:
            os.chmod(temporary, mode)
            with contextlib.suppress(FileNotFoundError):
                if not stat.S_ISSOCK(path.stat(follow_symlinks=False).st_mode):
                    raise OSError(
                        errno.EEXIST, "something else has that name"
                    )  # nothing of worth is replaced
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return NamedSocket(path, sock)
    except OSError as error:
        sock.close()
        raise StartError(f"cannot make the socket {path}: {why(error)}") from None


@contextlib.contextmanager
def reachable(path: Path) -> Iterator[str]:
    """A name of the socket ``path`` that is short enough to bind or connect to; raises OSError."""
    if len(os.fsencode(path)) <= LONGEST or not Path("/proc/self/fd").is_dir():
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
