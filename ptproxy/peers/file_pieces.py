"""The bytes of a file, read, written and hashed in threads: what a transfer does to the disk."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final, TypeVar

PIECE: Final = 256 << 10
"""Bytes read or written at a time, in a thread."""
HASHED: Final = 64
"""Pieces that are hashed at a time: whoever breaks it off waits for 16 MiB, not for a film."""

T = TypeVar("T")


async def in_thread(work: Callable[..., T], *arguments: Any) -> T:
    """``work`` in a thread; a cancellation waits for it, or the file would be closed under its hands."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({task})
        task.exception()
        raise


def partial_name(contact: bytes, digest: bytes) -> str:
    """One contact learns nothing of what another has sent."""
    return hashlib.sha256(b"ptproxy partial file\0" + contact + digest).hexdigest()[:32]


def open_to_send(path: Path) -> IO[bytes]:
    """A file to read; in a thread. OSError for what cannot be read, and for a device, a pipe, a folder.

    A pipe that nobody writes to is not waited for.
    """
    file = open(path, "rb", opener=_at_once)  # noqa: SIM115  (the caller closes it)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a file")
    return file


async def digest_of(file: IO[bytes]) -> tuple[bytes, int]:
    """A file's hash and size."""
    digest = hashlib.sha256()
    while await in_thread(_hash_some, file, digest):
        pass
    return digest.digest(), file.tell()


async def resume(partial: IO[bytes], size: int) -> tuple[hashlib._Hash, int]:
    """The hash of what is there, and how much that is."""
    await in_thread(_begin, partial, size)
    digest = hashlib.sha256()
    while await in_thread(_hash_some, partial, digest):
        pass
    return digest, partial.tell()


def append(partial: IO[bytes], digest: hashlib._Hash, piece: bytes) -> None:
    """Write what came; in a thread."""
    view = memoryview(piece)
    while view:
        view = view[partial.write(view) :]
    digest.update(piece)


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _begin(partial: IO[bytes], size: int) -> None:
    """Read from the start; what is longer than the file can be is none of it."""
    if partial.tell() > size:
        partial.truncate(0)
    partial.seek(0)


def _hash_some(file: IO[bytes], digest: hashlib._Hash) -> bool:
    """Whether there may be more."""
    for _ in range(HASHED):
        piece = file.read(PIECE)
        if not piece:
            return False
        digest.update(piece)
    return True
