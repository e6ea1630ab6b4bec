"""One run of an installed browser: started with its pipes, watched, ended.

The browser gets file descriptors 3 (commands) and 4 (answers) and nothing else
of ours. It is a process group of its own, so that a Ctrl-C meant for the client
does not reach it. Where the client dies by whatever means the pipes close and
the browser leaves by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
from collections.abc import Sequence
from typing import Final

from ptproxy.errors import why
from ptproxy.tunnel.chromium.devtools import BrowserError, DevTools, PipeOut

COMMANDS: Final = 3
ANSWERS: Final = 4
"""File descriptors of ``--remote-debugging-pipe`` in the browser."""
ABOVE: Final = 10
"""Descriptors of ours are moved above this, out of the way of those two."""
LAST_WORDS: Final = 4096
"""Bytes kept of what the browser says on standard error, for the reason of an early end."""
WORDS_TIMEOUT: Final = 1.0
"""Seconds for them to arrive once it is gone; a child of its may hold the pipe."""
END_TIMEOUT: Final = 3.0
"""Seconds for a browser to end by itself before it is killed."""
KEPT_VARIABLES: Final = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME", "LD_LIBRARY_PATH", "FONTCONFIG_PATH", "FONTCONFIG_FILE",
)  # fmt: skip
"""Environment handed on; no proxies, no keys, no display."""


class LastWords(asyncio.Protocol):
    """The end of what the browser says on standard error."""

    def __init__(self) -> None:
        self.text = bytearray()
        self.over = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        """Keep the end."""
        self.text += data
        del self.text[:-LAST_WORDS]

    def connection_lost(self, exc: Exception | None) -> None:
        """That was all."""
        del exc
        self.over.set()

    def line(self) -> str:
        """The last line, "" without one."""
        lines = self.text.decode("utf-8", "replace").strip().splitlines()
        return lines[-1][-200:] if lines else ""


class Process:
    """A running browser."""

    def __init__(self, devtools: DevTools, words: LastWords, errors: asyncio.BaseTransport, pid: int) -> None:
        self.devtools = devtools
        self.pid = pid
        self._words = words
        self._errors = errors

    @classmethod
    async def start(cls, loop: asyncio.AbstractEventLoop, command: Sequence[str]) -> Process:
        """Start ``command`` (a program's path and its arguments); BrowserError where that fails."""
        theirs_in, ours_out = _pipe()
        ours_in, theirs_out = _pipe()
        ours_err, theirs_err = _pipe()
        null = os.open(os.devnull, os.O_RDWR)
        try:
            pid = os.posix_spawn(  # noqa: ASYNC221  (some milliseconds, once a browser)
                command[0],
                list(command),
                {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, null, 0),
                    (os.POSIX_SPAWN_DUP2, null, 1),
                    (os.POSIX_SPAWN_DUP2, theirs_err, 2),
                    (os.POSIX_SPAWN_DUP2, theirs_in, COMMANDS),
                    (os.POSIX_SPAWN_DUP2, theirs_out, ANSWERS),
                ],
                setpgroup=0,
                setsigdef=[signal.SIGPIPE],
                setsigmask=[],
            )
        except OSError as error:
            for descriptor in (ours_out, ours_in, ours_err):
                os.close(descriptor)
            raise BrowserError(f"the browser does not start: {why(error)}") from None
        finally:
            for descriptor in (theirs_in, theirs_out, theirs_err, null):
                os.close(descriptor)
        devtools = DevTools(loop)
        words = LastWords()
        await loop.connect_read_pipe(lambda: devtools, os.fdopen(ours_in, "rb", 0))
        out, _ = await loop.connect_write_pipe(PipeOut, os.fdopen(ours_out, "wb", 0))
        errors, _ = await loop.connect_read_pipe(lambda: words, os.fdopen(ours_err, "rb", 0))
        devtools.opened(out)
        return cls(devtools, words, errors, pid)

    @property
    def running(self) -> bool:
        """Whether it can be spoken to."""
        return not self.devtools.closed.done()

    async def last_words(self) -> str:
        """The last line that a browser said before it ended, "" without one."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WORDS_TIMEOUT):
                await self._words.over.wait()
        return self._words.line()

    async def end(self) -> None:
        """End it, its own way first, and wait until it has ended."""
        self.devtools.deafen()
        with contextlib.suppress(BrowserError):
            self.devtools.send("Browser.close")
        waiting = asyncio.get_running_loop().run_in_executor(None, _wait, self.pid)
        try:
            async with asyncio.timeout(END_TIMEOUT):
                await asyncio.shield(waiting)
        except TimeoutError:
            pass
        finally:
            self.devtools.close()
            self._errors.close()
            if not waiting.done():
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.pid, signal.SIGKILL)
                await waiting


def _wait(pid: int) -> None:
    """Wait for the process itself; whatever it leaves ends with it."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


def _pipe() -> tuple[int, int]:
    """A pipe whose ends stand above the descriptors that the browser is given."""
    ends = os.pipe()
    moved = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, ABOVE) for end in ends)
    for end in ends:
        os.close(end)
    return moved[0], moved[1]
