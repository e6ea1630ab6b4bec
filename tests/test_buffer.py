"""SendBuffer against one plain bytes object."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from ptproxy.buffer import JOIN, SMALL, Buffer, SendBuffer


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
            before = buffer.kept
            assert buffer.release(offset) == before - buffer.kept
            assert all(map(len, buffer._chunks[buffer._head :]))
            assert buffer.kept == sum(map(len, buffer._chunks)) >= buffer.end - buffer.start
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


def test_pieces_of_a_byte_or_two_are_joined() -> None:
    """An object of two bytes takes 56: a window full of them would take 28 times what is counted."""
    buffer = SendBuffer()
    whole = b"".join(number.to_bytes(2, "big") for number in range(1 << 15))
    buffer.append(bytes(1 << 16))
    out: list[Buffer] = []
    for at in range(0, len(whole), 2):
        buffer.append(whole[at : at + 2])
        if at % 1000 == 0:
            buffer.copy_to(out, (1 << 16) + at, 2)  # somebody reads on meanwhile, and goes back
    assert len(buffer._chunks) <= 2 * JOIN
    assert max(map(len, buffer._chunks[1:])) < JOIN * SMALL
    out.clear()
    buffer.copy_to(out, 1 << 16, len(whole))
    assert b"".join(out) == whole


def test_a_chunk_of_which_a_part_is_released_counts() -> None:
    buffer = SendBuffer()
    buffer.append(bytes(1000))
    buffer.append(bytes(10))
    assert (buffer.release(999), buffer.kept) == (0, 1010)
    assert (buffer.release(1000), buffer.kept) == (1000, 10)
    assert (buffer.release(1010), buffer.kept) == (10, 0)
