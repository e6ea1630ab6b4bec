"""Lines from a descriptor and to one, whatever they are: a terminal, a pipe, a file.

An event loop cannot wait for a file, and must not wait for whoever reads slowly; so each direction has a
thread of its own, which ends with the program whatever it waits for.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections.abc import AsyncIterator, Callable
from typing import Final

from ptproxy.errors import StartError, why

READ: Final = 1 << 16
"""Bytes of one read."""
MAX_WAITING: Final = 64
"""Lines that were read and not yet taken: then nothing more is read."""
MAX_UNWRITTEN: Final = 16 << 20
"""Bytes that nobody has read yet, before whoever should is given up."""


class LineReader:
    """The lines of a descriptor, without their ends; one longer than ``limit`` is cut one byte behind it."""

    def __init__(self, descriptor: int, limit: int) -> None:
        """Read from now on. In a running loop."""
        self._loop = asyncio.get_running_loop()
        self._lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._room = threading.Semaphore(MAX_WAITING)
        self._descriptor = descriptor
        self._limit = limit
        threading.Thread(target=self._read, name="chat lines in", daemon=True).start()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (line := await self._lines.get()) is not None:
            self._room.release()
            yield line

    def _read(self) -> None:
        """In the thread."""
        kept = b""
        while data := self._more():
            *lines, rest = data.split(b"\n")
            for line in lines:
                self._put(self._cut(kept + line))
                kept = b""
            kept = (kept + rest)[: self._limit + 1]
        if kept:
            self._put(kept)
        self._tell(self._lines.put_nowait, None)

    def _cut(self, line: bytes) -> bytes:
        return line[: self._limit + 1] if len(line) > self._limit else line.rstrip(b"\r")

    def _more(self) -> bytes:
        try:
            return os.read(self._descriptor, READ)
        except OSError:  # it is gone: the end, as a closed terminal is
            return b""

    def _put(self, line: bytes) -> None:
        self._room.acquire()
        self._tell(self._lines.put_nowait, line)

    def _tell(self, call: Callable[[bytes | None], None], line: bytes | None) -> None:
        try:
            self._loop.call_soon_threadsafe(call, line)
        except RuntimeError:  # the loop has ended: nobody waits for lines
            raise SystemExit from None


class LineWriter:
    """Text to a descriptor, in order, behind the loop's back."""

    def __init__(self, descriptor: int) -> None:
        """Write from now on. In a running loop."""
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[bytes | asyncio.Future[None] | None] = queue.SimpleQueue()
        self._descriptor = descriptor
        self._unwritten = 0
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._write, name="chat lines out", daemon=True)
        self._thread.start()

    def put(self, text: str) -> None:
        """Write ``text`` and a new line, some time; :class:`StartError` where nobody reads any more."""
        data = f"{text}\n".encode("utf-8", "backslashreplace")
        self._unwritten += len(data)
        if self._unwritten > MAX_UNWRITTEN:
            raise StartError("nobody reads what is written to standard output")
        self._jobs.put(data)

    async def flushed(self) -> None:
        """Wait until all that was put is written; :class:`BrokenPipeError` or :class:`StartError` if not."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._jobs.put(done)
        await done
        if isinstance(self._error, BrokenPipeError):
            raise BrokenPipeError(self._error.errno, "nobody reads on")
        if self._error is not None:
            raise StartError(f"cannot write to standard output: {why(self._error)}")

    def close(self) -> None:
        """Write nothing more; what was put is written if that is possible."""
        self._jobs.put(None)

    def _write(self) -> None:
        """In the thread."""
        while (job := self._jobs.get()) is not None:
            try:
                if isinstance(job, bytes):
                    self._write_all(job)
                    self._loop.call_soon_threadsafe(self._written, len(job))
                else:
                    self._loop.call_soon_threadsafe(_finish, job)
            except RuntimeError:  # the loop has ended
                return

    def _write_all(self, data: bytes) -> None:
        view = memoryview(data)
        while view and self._error is None:
            try:
                view = view[os.write(self._descriptor, view) :]
            except OSError as error:
                self._error = error

    def _written(self, length: int) -> None:
        self._unwritten -= length


def _finish(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)
