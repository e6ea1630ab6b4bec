"""Frames: RFC 6455's own examples, wsproto as oracle, any split, everything that is forbidden."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol, Opcode

from ptproxy.codec.ws_frames import (
    BINARY,
    CLOSE,
    MAX_FRAME,
    PING,
    PONG,
    Control,
    FrameError,
    MaskedFrameReader,
    UnmaskedFrameReader,
    apply_mask,
    close_payload,
    frame_header,
    mask_by_integers,
    masked_frame,
    parse_close,
    unmasked_frame,
)

cut_lists = st.lists(st.integers(0, 4096), max_size=12)


def feed(reader, data: bytes, cuts: list[int]):
    """(payload, controls, close code of the error or None)."""
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    payload, controls, error = bytearray(), [], None
    try:
        for start, end in pairwise(edges):
            for item in reader.receive_data(memoryview(data)[start:end]):
                if type(item) is Control:
                    controls.append((item.opcode, item.payload, len(payload)))
                else:
                    payload += item
    except FrameError as failure:
        error = failure.code
    return bytes(payload), controls, error


def frame(first: int, payload: bytes, mask: bytes | None) -> bytes:
    """Any frame, built the plain way."""
    length = len(payload)
    if length < 126:
        head = bytes([first, length])
    elif length < 65536:
        head = bytes([first, 126]) + length.to_bytes(2, "big")
    else:
        head = bytes([first, 127]) + length.to_bytes(8, "big")
    if mask is None:
        return head + payload
    return (
        bytes([head[0], head[1] | 0x80])
        + head[2:]
        + mask
        + bytes(b ^ mask[i % 4] for i, b in enumerate(payload))
    )


@given(st.binary(max_size=300), st.binary(min_size=4, max_size=4), st.integers(0, 7))
def test_both_masks_agree_with_the_definition(data, mask, skip):
    expected = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data[skip:]))
    view = memoryview(data)[skip:]
    assert apply_mask(view, mask) == mask_by_integers(view, mask) == expected


def test_examples_of_rfc_6455_section_5_7():
    assert feed(UnmaskedFrameReader(), bytes.fromhex("890548656c6c6f"), []) == (
        b"",
        [(PING, b"Hello", 0)],
        None,
    )
    pong = bytes.fromhex("8a8537fa213d7f9f4d5158")
    assert feed(MaskedFrameReader(), pong, []) == (b"", [(PONG, b"Hello", 0)], None)
    assert masked_frame(PONG, b"Hello", bytes.fromhex("37fa213d")) == pong
    assert frame_header(BINARY, 256, 0) == bytes.fromhex("827e0100")
    assert frame_header(BINARY, 65536, 0) == bytes.fromhex("827f0000000000010000")


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65535, 65536, 70000])
def test_every_length_form(length):
    payload = random.Random(length).randbytes(length)
    for reader, data in (
        (UnmaskedFrameReader(), unmasked_frame(BINARY, payload)),
        (MaskedFrameReader(), masked_frame(BINARY, payload, b"\x01\x80\x00\xff")),
    ):
        assert feed(reader, data, [1, 2, 3, 5, 9, 11, 13, 100]) == (payload, [], None)


# ---- random conversations -------------------------------------------------------------------------

fragments = st.lists(st.binary(max_size=200), min_size=1, max_size=4)
controls = st.tuples(st.sampled_from([PING, PONG]), st.binary(max_size=125))
scripts = st.lists(st.one_of(fragments, controls), max_size=6)


def play(script, masks: random.Random | None):
    """The bytes of a script of (fragmented) messages and control frames; controls also between fragments."""
    data, payload, expected = bytearray(), bytearray(), []

    def add(first: int, content: bytes) -> None:
        data.extend(frame(first, content, masks.randbytes(4) if masks else None))

    for item in script:
        if isinstance(item, tuple):
            add(0x80 | item[0], item[1])
            expected.append((item[0], item[1], len(payload)))
            continue
        for number, content in enumerate(item):
            add((BINARY if number == 0 else 0) | (0x80 if number == len(item) - 1 else 0), content)
            payload += content
            if number < len(item) - 1 and len(content) % 2:
                add(0x80 | PING, content[:5])
                expected.append((PING, content[:5], len(payload)))
    return bytes(data), bytes(payload), expected


@given(scripts, cut_lists, st.booleans())
def test_messages_fragments_and_controls_under_any_split(script, cuts, masked):
    data, payload, expected = play(script, random.Random(1) if masked else None)
    reader = MaskedFrameReader() if masked else UnmaskedFrameReader()
    assert feed(reader, data, cuts) == (payload, expected, None)


@given(st.binary(max_size=64), cut_lists, st.sampled_from([MaskedFrameReader, UnmaskedFrameReader]))
@example(bytes.fromhex("827f8000000000000000"), [5], UnmaskedFrameReader)
def test_garbage_raises_only_frame_errors_and_the_same_under_any_split(data, cuts, reader):
    whole, split = feed(reader(), data, []), feed(reader(), data, cuts)
    assert whole[2] == split[2]
    if whole[2] is None:
        assert whole == split
    else:  # a piece that came before the error may have been handed out already
        assert split[0].startswith(whole[0])


@given(st.binary(max_size=64), scripts, st.integers(0, 10_000), st.integers(0, 255))
def test_one_damaged_byte_raises_only_frame_errors(data, script, at, value):
    stream = bytearray(play([*script, [data]], random.Random(2))[0])
    stream[at % len(stream)] = value
    feed(MaskedFrameReader(), bytes(stream), [])


@given(scripts)
def test_wsproto_reads_our_frames(script):
    ours = b"".join(
        unmasked_frame(*item) if isinstance(item, tuple) else unmasked_frame(BINARY, b"".join(item))
        for item in script
    )
    oracle = FrameProtocol(client=True, extensions=[])
    oracle.receive_bytes(ours)
    assert [(frame.opcode, bytes(frame.payload)) for frame in oracle.received_frames()] == [
        (Opcode(item[0]), item[1]) if isinstance(item, tuple) else (Opcode.BINARY, b"".join(item))
        for item in script
    ]


# ---- what is forbidden ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ("8180 00000000", 1003),  # text
        ("c280 00000000", 1002),  # RSV1 without an extension
        ("a280 00000000", 1002),
        ("9280 00000000", 1002),
        ("8380 00000000", 1002),  # unknown data opcode
        ("8b80 00000000", 1002),  # unknown control opcode
        ("0980 00000000", 1002),  # fragmented ping
        ("89fe 007e 00000000", 1002),  # ping of 126 bytes
        ("8080 00000000", 1002),  # continuation of nothing
        ("0280 00000000 8280 00000000", 1002),  # message in a message
        ("0280 00000000 0280 00000000", 1002),
        ("8202 6162", 1002),  # unmasked
        ("82fe 007d", 1002),  # 125 in two bytes
        ("82ff 000000000000ffff", 1002),  # 65535 in eight
        ("82ff 8000000000010000", 1002),  # top bit
        ("82ff 0000000001000001", 1009),  # 16 MiB and a byte
    ],
)
def test_a_forbidden_frame_to_a_server(data, code):
    raw = bytes.fromhex(data)
    assert feed(MaskedFrameReader(), raw, [])[2] == code
    assert feed(MaskedFrameReader(), raw, list(range(len(raw))))[2] == code


def test_a_masked_frame_to_a_client():
    assert feed(UnmaskedFrameReader(), bytes.fromhex("8280"), [])[2] == 1002


def test_the_largest_frame_is_taken_without_being_kept():
    reader = UnmaskedFrameReader()
    assert reader.receive_data(frame_header(BINARY, MAX_FRAME, 0)) == []
    piece = bytes(1 << 20)
    assert sum(len(view) for _ in range(16) for view in reader.receive_data(piece)) == MAX_FRAME
    assert feed(reader, unmasked_frame(PING, b"x"), []) == (b"", [(PING, b"x", 0)], None)


def test_nothing_is_read_after_a_close_frame():
    reader = UnmaskedFrameReader()
    data = unmasked_frame(CLOSE, close_payload(1000)) + b"\xff\xff"
    assert feed(reader, data, []) == (b"", [(CLOSE, b"\x03\xe8", 0)], None)
    assert reader.receive_data(b"\xff\xff") == []


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1011, 1014, 3000, 4999])
def test_close_codes_that_may_be_sent(code):
    assert parse_close(close_payload(code) + "größer".encode()) == code


def test_a_close_without_a_code():
    assert parse_close(b"") == 1005
    assert close_payload(1005) == b""


@pytest.mark.parametrize(
    "payload",
    [
        b"\x03",
        b"\0\0",
        b"\x03\xe7",
        b"\x03\xec",
        b"\x03\xed",
        b"\x03\xee",
        b"\x03\xf7",
        b"\x07\xd0",
        b"\x13\x88",
    ],
)
def test_close_codes_that_may_not(payload):
    with pytest.raises(FrameError) as caught:
        parse_close(payload)
    assert caught.value.code == 1002


def test_a_close_reason_that_is_not_utf_8():
    with pytest.raises(FrameError) as caught:
        parse_close(b"\x03\xe8\xff")
    assert caught.value.code == 1007
