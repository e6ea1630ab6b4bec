"""The wire format: vectors, any split, garbage."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
import session_vectors
from hypothesis import given, settings
from hypothesis import strategies as st
from session_pair import frames_of

from ptproxy.errors import SessionError
from ptproxy.session import frames
from ptproxy.session.frames import FrameParser

VECTORS = json.loads(session_vectors.PATH.read_text())
ALL = b"".join(bytes.fromhex(vector["hex"]) for vector in VECTORS["frames"])


def parse(chunks: list[bytes]) -> tuple[list[Any], str | None]:
    """What a parser makes of ``chunks``, adjacent pieces of DATA joined; the text of its error."""
    parser = FrameParser()
    whole: list[Any] = []
    for chunk in chunks:
        for frame in parser.receive_data(chunk):
            if frame[0] != frames.DATA:
                whole.append(frame)
                continue
            _, stream, offset, payload, end = frame
            assert offset + len(payload) <= end
            last = whole[-1] if whole else None
            if last and last[0] == frames.DATA and last[1:3] == [stream, end] and last[4] == offset:
                last[3] += bytes(payload)
                last[4] += len(payload)
            else:
                whole.append([frames.DATA, stream, end, bytes(payload), offset + len(payload)])
    return whole, str(parser.error) if parser.error else None


def test_the_vectors_are_what_the_generator_makes() -> None:
    assert session_vectors.make() == session_vectors.PATH.read_text()


@pytest.mark.parametrize("vector", VECTORS["frames"], ids=lambda v: v["type"])
def test_every_frame_as_in_the_vectors(vector: dict[str, Any]) -> None:
    parsed = frames_of(bytes.fromhex(vector["hex"]))
    fields = session_vectors.fields_of(vector)
    kind = getattr(frames, vector["type"])
    if kind == frames.RESUME:
        assert parsed == [(frames.BIND, *entry) for entry in fields[0]]
    elif kind == frames.DATA:
        assert parsed == [(kind, *fields, fields[1] + len(fields[2]))]
    else:
        assert parsed == [(kind, *fields)]


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda v: v["why"])
def test_every_refused_frame_as_in_the_vectors(vector: dict[str, str]) -> None:
    data = bytes.fromhex(vector["hex"])
    with pytest.raises(SessionError):
        frames_of(data)
    assert parse([data[i : i + 1] for i in range(len(data))])[1] == parse([data])[1]


def test_the_conversation_parses_and_holds_no_byte_twice() -> None:
    kinds = [frame[0] for turn in VECTORS["conversation"] for frame in frames_of(bytes.fromhex(turn["hex"]))]
    assert kinds[0] == frames.OPEN
    assert frames.BIND in kinds


@given(st.lists(st.integers(0, len(ALL)), max_size=40))
def test_any_split_is_the_same(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(ALL)]
    chunks = [ALL[a:b] for a, b in pairwise(edges)]
    assert parse(chunks) == parse([ALL])


def test_byte_by_byte_is_the_same() -> None:
    assert parse([ALL[i : i + 1] for i in range(len(ALL))]) == parse([ALL])


@given(st.binary(max_size=200), st.integers(1, 9))
def test_garbage_is_refused_or_parsed_alike_however_it_is_split(data: bytes, step: int) -> None:
    assert parse([data[i : i + step] for i in range(0, len(data), step)]) == parse([data] if data else [])


@settings(max_examples=300)
@given(st.integers(0, len(ALL) - 1), st.integers(1, 255), st.integers(1, 50))
def test_one_wrong_byte_is_parsed_alike_however_it_is_split(position: int, flip: int, step: int) -> None:
    data = bytearray(ALL)
    data[position] ^= flip
    chunks = [bytes(data[i : i + step]) for i in range(0, len(data), step)]
    assert parse(chunks) == parse([bytes(data)])


def test_payload_is_handed_out_as_it_comes_and_uncopied() -> None:
    parser = FrameParser()
    head = frames.data_header(2, 5, 1000)
    assert [tuple(f) for f in parser.receive_data(head)] == [(frames.DATA, 2, 5, b"", 1005)]
    piece = bytes(600)
    (frame,) = parser.receive_data(piece)
    assert frame[3].obj is piece
    assert (frame[2], frame[4]) == (5, 1005)
    last, after = parser.receive_data(bytes(400) + frames.gone(4))
    assert (last[2], len(last[3])) == (605, 400)
    assert after == (frames.GONE, 4)


def test_nothing_is_parsed_after_an_error() -> None:
    parser = FrameParser()
    assert parser.receive_data(frames.gone(4) + bytes(8) + frames.gone(6)) == [(frames.GONE, 4)]
    assert parser.error is not None
    assert parser.receive_data(frames.gone(4)) == []


def test_kept_bytes_are_bounded_by_the_largest_frame_that_is_kept() -> None:
    parser = FrameParser()
    assert not parser.receive_data(frames.datagram_header(2, bytes(512), 65507) + bytes(65506))
    assert len(parser._kept) < 67_000
    ((kind, _, address, data),) = parser.receive_data(b"x")
    assert (kind, len(address), len(data)) == (frames.DATAGRAM, 512, 65507)
    assert not parser._kept


def test_resume_of_the_most_entries() -> None:
    entries = [(2 + 2 * i, i, i, i) for i in range(frames.MAX_RESUME)]
    data = frames.resume(entries)
    assert len(data) < 16 * 1024 + 8
    assert frames_of(data) == [(frames.BIND, *entry) for entry in entries]
