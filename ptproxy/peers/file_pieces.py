"""The bytes of a file, read, written and hashed in threads: what a transfer does to the disk."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable
from typing import IO, Any, Final, TypeVar

PIECE: Final = 256 << 10
"""Bytes read or written at a time, in a thread."""

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


def digest_of(file: IO[bytes]) -> tuple[bytes, int]:
    """A file's hash and size; in a thread."""
    digest = hashlib.sha256()
    while piece := file.read(PIECE):
        digest.update(piece)
    return digest.digest(), file.tell()


def resume(partial: IO[bytes], size: int) -> tuple[hashlib._Hash, int]:
    """The hash of what is there, and how much that is; in a thread."""
    if partial.tell() > size:
        partial.truncate(0)
    partial.seek(0)
    digest = hashlib.sha256()
    while piece := partial.read(PIECE):
        digest.update(piece)
    return digest, partial.tell()


def append(partial: IO[bytes], digest: hashlib._Hash, piece: bytes) -> None:
    """In a thread."""
    view = memoryview(piece)
    while view:
        view = view[partial.write(view) :]
    digest.update(piece)
