"""Asking a running role over its control socket, for commands: blocking, bounded."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from ptproxy.errors import ConfigError, StartError, why
from ptproxy.proxy.control import NAME, name_of
from ptproxy.proxy.control_lines import MAX_REPLY, ControlError, Reply, Request
from ptproxy.state.sockets import reachable

TIMEOUT: Final = 60.0
"""Seconds for an answer: a reload reads a few files and asks the web site beside the bridge."""


def workers_of(folder: Path) -> list[int]:
    """The workers that listen in a state folder, the first always: one process is that alone."""
    found = {0}
    for path in folder.glob(f"{NAME}.*"):
        number = path.name.removeprefix(f"{NAME}.")
        if number.isascii() and number.isdigit() and _listens(path):
            found.add(int(number))
    return sorted(found)


def _listens(path: Path) -> bool:
    """Whether a process does at this socket: one that was killed has left its name."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock, contextlib.suppress(OSError):
        sock.settimeout(TIMEOUT)
        with reachable(path) as name:
            sock.connect(name)
        return True
    return False


class Asking:
    """A conversation with the process that holds a state folder."""

    def __init__(self, folder: Path, timeout: float = TIMEOUT, worker: int = 0) -> None:
        """Connect, to one of several workers.

        Raises :class:`~ptproxy.errors.StartError` where nobody listens.
        """
        if not hasattr(socket, "AF_UNIX"):
            raise StartError("control: this system has no Unix sockets")
        self._unread = b""
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sock.settimeout(timeout)
        try:
            with reachable(folder / name_of(worker)) as name:
                self._sock.connect(name)
        except (FileNotFoundError, ConnectionRefusedError):
            self._sock.close()
            raise StartError(f"nothing runs with the state folder {folder}") from None
        except OSError as error:
            self._sock.close()
            raise StartError(f"cannot reach what runs with the state folder {folder}: {why(error)}") from None

    def ask(self, what: str, bridge: str = "") -> dict[str, Any]:
        """The answer to one request, about a ``bridge`` where it is about one.

        Raises :class:`~ptproxy.errors.ConfigError` with every reason where it is refused, StartError where
        the other process is gone, does not answer or speaks another version.
        """
        try:
            self._sock.sendall(Request(what, bridge).serialize())
            reply = Reply.parse(self._line())
        except TimeoutError:
            raise StartError("the process does not answer") from None
        except OSError as error:
            raise StartError(f"the process is gone: {why(error)}") from None
        except ControlError as error:
            raise StartError(f"the process answers otherwise than this version of ptproxy: {error}") from None
        if reply.answer is None:
            raise ConfigError(list(reply.problems))
        return reply.answer

    def _line(self) -> bytes:
        pieces, size = [self._unread], len(self._unread)
        while b"\n" not in pieces[-1]:
            piece = self._sock.recv(65_536)
            size += len(piece)
            if not piece:
                raise ConnectionResetError
            if size > MAX_REPLY + 65_536:
                raise ControlError("the line is too long")
            pieces.append(piece)
        line, _, self._unread = b"".join(pieces).partition(b"\n")
        return line

    def close(self) -> None:
        """The end."""
        self._sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
