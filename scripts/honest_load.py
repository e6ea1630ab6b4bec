"""Honest users of a client and what they reach: every byte that comes is known, and nobody else's.

A target (a process of its own) takes a head of 17 bytes: ``E`` echoes, ``D`` sends ``size`` bytes of the
pattern that ``seed`` makes. Each user draws seeds of its own, so that a byte of somebody else's stream, a
lost one or one twice shows at once. Users load at a given rate, so that what an attack takes from them
shows as less than they asked for.

    kind u8 | seed u64 | size u64        big-endian
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import socket
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

HOST = "127.0.0.1"
HEAD = struct.Struct(">cQQ")
BLOCK = 65_521
"""Bytes after which a pattern repeats: a prime, so that no lost buffer hides in it."""
READ = 1 << 16
PATIENCE = 60.0
"""Seconds without an answer after which a stream counts as lost."""


@functools.lru_cache(maxsize=64)
def pattern(seed: int) -> bytes:
    """Three rounds of a seed's pattern: any :data:`READ` bytes of it are a slice."""
    return random.Random(seed).randbytes(BLOCK) * 3


# ---- the target ----------------------------------------------------------------------------------


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        kind, seed, size = HEAD.unpack(await reader.readexactly(HEAD.size))
        if kind == b"D":
            block = pattern(seed)[:BLOCK]
            while size:
                piece = block[: min(size, BLOCK)]
                writer.write(piece)
                await writer.drain()
                size -= len(piece)
        else:
            while data := await reader.read(READ):
                writer.write(data)
                await writer.drain()
    except (OSError, asyncio.IncompleteReadError, struct.error):
        pass
    finally:
        writer.close()


async def _target() -> None:
    server = await asyncio.start_server(_serve, HOST, 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


class TargetProcess:
    """The target in a process of its own, so that it has an interpreter to itself."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def __enter__(self) -> TargetProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


# ---- users ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class Tally:
    """What users had, since it was taken last."""

    moved: int = 0
    """Bytes of downloads and messages that were compared."""
    waits: list[float] = field(default_factory=list)
    """Seconds until each message was back."""
    opens: list[float] = field(default_factory=list)
    """Seconds until each new stream had echoed."""
    downloads: int = 0


class Users:
    """Everybody at one client's port."""

    def __init__(self, name: str, socks: int, target: int, rng: random.Random) -> None:
        self.name = name
        self.faults: list[str] = []
        """Every stream that was lost or wrong, for good."""
        self.tally = Tally()
        self.late = 0.0
        """Seconds that the longest wait for a message took, for good."""
        self.socks = socks
        self._target = target
        self._rng = rng
        self._done = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self, *, chats: int, rate: float, downloads: int, size: int, every: float) -> None:
        """``downloads`` at once of ``size`` bytes, ``rate`` bytes a second together (0: as fast as they
        go); a new stream ``every`` so many seconds."""
        works = [self._chat() for _ in range(chats)]
        works += [self._download(size, rate / downloads) for _ in range(downloads)]
        if every:
            works.append(self._visits(every))
        self._tasks += [asyncio.create_task(self._watched(work)) for work in works]

    def take(self) -> Tally:
        """The tally so far; a new one begins."""
        taken, self.tally = self.tally, Tally()
        return taken

    async def end(self) -> None:
        """Everybody says good-bye; what is still open then was whole."""
        self._done.set()
        await asyncio.gather(*self._tasks)

    async def _watched(self, work: object) -> None:
        try:
            await work  # type: ignore[misc]
        except (OSError, EOFError, TimeoutError, AssertionError) as error:
            self.faults.append(f"{self.name}: {type(error).__name__}: {error}")

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._done.wait(), max(seconds, 0.001))

    @contextlib.asynccontextmanager
    async def _stream(
        self, kind: bytes, seed: int, size: int
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection(HOST, self.socks, limit=4 * READ)
        try:
            to = socket.inet_aton(HOST) + self._target.to_bytes(2, "big")
            writer.write(b"\x05\x01\x00" + b"\x05\x01\x00\x01" + to)
            said = await asyncio.wait_for(reader.readexactly(12), PATIENCE)
            assert said[3] == 0, f"SOCKS reply {said[3]}"
            writer.write(HEAD.pack(kind, seed, size))
            yield reader, writer
        finally:
            writer.transport.abort()

    async def _message(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> float:
        text = self._rng.randbytes(self._rng.randrange(16, 512))
        began = time.perf_counter()
        writer.write(text)
        back = await asyncio.wait_for(reader.readexactly(len(text)), PATIENCE)
        assert back == text, "a message came back otherwise"
        self.tally.moved += len(text)
        return time.perf_counter() - began

    async def _chat(self) -> None:
        async with self._stream(b"E", 0, 0) as (reader, writer):
            while not self._done.is_set():
                took = await self._message(reader, writer)
                self.tally.waits.append(took)
                self.late = max(self.late, took)
                await self._pause(self._rng.uniform(0.05, 0.25))

    async def _visits(self, every: float) -> None:
        while not self._done.is_set():
            began = time.perf_counter()
            async with self._stream(b"E", 0, 0) as (reader, writer):
                await self._message(reader, writer)
            self.tally.opens.append(time.perf_counter() - began)
            await self._pause(every)

    async def _download(self, size: int, rate: float) -> None:
        while not self._done.is_set():
            seed, came, began = self._rng.getrandbits(63), 0, time.perf_counter()
            known = pattern(seed)
            async with self._stream(b"D", seed, size) as (reader, _):
                while data := await asyncio.wait_for(reader.read(READ), PATIENCE):
                    at = came % BLOCK
                    assert data == known[at : at + len(data)], f"a download is wrong at {came}"
                    came += len(data)
                    self.tally.moved += len(data)
                    if rate:
                        ahead = came / rate - (time.perf_counter() - began)
                        if ahead > 0.01:
                            await self._pause(ahead)
                    if self._done.is_set():
                        return
            assert came == size, f"a download ended at {came} of {size}"
            self.tally.downloads += 1


def quantile(values: list[float], part: float) -> float:
    """The value below which this part of them lies; 0 for none."""
    return sorted(values)[int(part * (len(values) - 1))] if values else 0.0


if __name__ == "__main__":
    asyncio.run(_target())
