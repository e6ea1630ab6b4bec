"""SendBuffer against one plain bytes object."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from ptproxy.buffer import Buffer, SendBuffer


@given(st.lists(st.tuples(st.sampled_from("aarrcb"), st.integers(0, 1 << 30)), max_size=300))
def test_it_holds_what_was_appended(steps: list[tuple[str, int]]) -> None:
    buffer = SendBuffer()
    whole = b""
    sent = 0
    for what, number in steps:
        start = buffer.start
        if what == "a":
            chunk = random.Random(number).randbytes(number % 50 + 1)
            buffer.append(chunk)
            whole += chunk
        elif what == "r":
            offset = start + number % (len(whole) - start + 1)
            assert buffer.release(offset) == offset - start
            assert buffer.release(start) == 0
        elif what == "b":
            sent = start
        sent = max(sent, buffer.start)
        size = len(whole) - sent
        if size:
            size = number % size + 1
            out: list[Buffer] = []
            buffer.copy_to(out, sent, size)
            assert b"".join(out) == whole[sent : sent + size]
            sent += size
        assert (buffer.end, buffer.start <= buffer.end) == (len(whole), True)


def test_released_chunks_are_let_go() -> None:
    buffer = SendBuffer()
    for _ in range(1000):
        buffer.append(bytes(100))
    for offset in range(0, 99_950, 50):
        buffer.release(offset)
    assert len(buffer._chunks) <= 130
    buffer.release(100_000)
    assert buffer._chunks == []


def test_chunks_are_passed_on_uncopied() -> None:
    buffer = SendBuffer()
    first, second = bytes(10), bytes(20)
    buffer.append(first)
    buffer.append(second)
    out: list[Buffer] = []
    buffer.copy_to(out, 0, 30)
    assert out[0] is first
    assert out[1] is second
    out.clear()
    buffer.copy_to(out, 5, 10)
    assert [type(b) for b in out] == [memoryview, memoryview]
