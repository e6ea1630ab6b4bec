"""Bytes in any form that a transport takes, and a buffer of bytes that wait for their acknowledgement."""

from __future__ import annotations

Buffer = bytes | bytearray | memoryview
"""A one-dimensional buffer of bytes."""

COMPACT_ABOVE = 64
"""Released chunks that may lie at the front of the list before it is cut: the cut then costs O(1) a chunk."""

JOIN = 64
"""Chunks that are joined to one where they are small, each time that there are so many more: an object of
two bytes takes 56, and somebody may send just such pieces and have nobody take them."""
SMALL = 1024
"""Average bytes of chunks below which they are."""


class SendBuffer:
    """Immutable chunks under absolute offsets: appended at the end, read anywhere, released at the front.

    Nothing is copied: :meth:`copy_to` hands out the chunks themselves or views
    of them. Reading goes on where it last stopped in O(1); going back costs one
    walk over the chunks. A chunk is let go as a whole: :attr:`kept` says what there is.
    """

    __slots__ = ("_chunks", "_cursor", "_cursor_at", "_head", "_head_at", "end", "start")

    def __init__(self, start: int = 0) -> None:
        """``start`` is the offset of the first byte to come."""
        self._chunks: list[bytes] = []
        self._head = 0  # index of the first chunk kept
        self._head_at = start  # its offset
        self._cursor = 0  # index of the chunk where reading goes on
        self._cursor_at = start
        self.start = start
        """Offset of the first byte kept."""
        self.end = start
        """Offset after the last byte."""

    @property
    def kept(self) -> int:
        """Bytes of all chunks, with what is released of the first one."""
        return self.end - self._head_at

    def append(self, data: bytes) -> None:
        """Put ``data`` (not empty) at the end."""
        chunks = self._chunks
        chunks.append(data)
        self.end += len(data)
        if not (len(chunks) - self._head) % JOIN:
            self._join_last()

    def _join_last(self) -> None:
        """Make one chunk of the last ones, if they are small."""
        chunks = self._chunks
        size = sum(map(len, chunks[-JOIN:]))
        if size < JOIN * SMALL:
            first = len(chunks) - JOIN
            chunks[first:] = [b"".join(chunks[first:])]
            if self._cursor > first:
                self._cursor, self._cursor_at = first, self.end - size

    def release(self, offset: int) -> int:
        """Let go of everything below ``offset`` (at most :attr:`end`).

        Returns by how many bytes :attr:`kept` is less: those of the chunks that went.
        """
        if offset <= self.start:
            return 0
        self.start = offset
        chunks = self._chunks
        head, at = self._head, self._head_at
        if offset == self.end:
            chunks.clear()
            self._head = self._cursor = 0
            self._head_at = self._cursor_at = offset
            return offset - at
        size = len(chunks[head])
        while at + size <= offset:
            chunks[head] = b""
            at += size
            head += 1
            size = len(chunks[head])
        if self._cursor < head:
            self._cursor, self._cursor_at = head, at
        if head > COMPACT_ABOVE and head * 2 > len(chunks):
            del chunks[:head]
            self._cursor -= head
            head = 0
        freed = at - self._head_at
        self._head, self._head_at = head, at
        return freed

    def chunk_at(self, offset: int, size: int) -> bytes | None:
        """The chunk that is just these bytes, if reading goes on there (the common case of small messages).

        Reading then goes on behind it: to be asked only by who sends what it gets.
        """
        if offset != self._cursor_at:
            return None
        chunk = self._chunks[self._cursor]
        if len(chunk) != size:
            return None
        self._cursor += 1
        self._cursor_at = offset + size
        return chunk

    def copy_to(self, out: list[Buffer], offset: int, size: int) -> None:
        """Append to ``out`` buffers that hold the ``size`` (> 0) bytes from ``offset``, all of them kept."""
        chunks = self._chunks
        index, at = self._cursor, self._cursor_at
        if offset < at:
            index, at = self._head, self._head_at
        chunk = chunks[index]
        length = len(chunk)
        while at + length <= offset:
            at += length
            index += 1
            chunk = chunks[index]
            length = len(chunk)
        skip = offset - at
        while True:
            have = length - skip
            if have > size:
                out.append(memoryview(chunk)[skip : skip + size])
                break
            out.append(memoryview(chunk)[skip:] if skip else chunk)
            size -= have
            at += length
            index += 1
            if not size:
                break
            chunk = chunks[index]
            length = len(chunk)
            skip = 0
        self._cursor, self._cursor_at = index, at
