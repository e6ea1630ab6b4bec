"""The websocket codec with a shape: sizes of messages, each a buffer (and so a TLS record) of its own."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st
from test_codec_websocket import OPENING, SETTINGS, bridge, drain, opened, payload_of
from websockets.frames import Opcode

from ptproxy.codec.interface import CodecSettings
from ptproxy.codec.shape import ClassShape, Down, Up
from ptproxy.codec.shape_parts import SPLIT_UP_TO
from ptproxy.codec.websocket import WEBSOCKET

SHAPE = ClassShape("chat", ("websocket",), up=Up(record=(40, 130)), down=Down(record=(24, 80)))


def shaped(seed: int = 1):
    """A client and a bridge after the upgrade, both with the shape."""
    settings = CodecSettings(SETTINGS.host, SETTINGS.path, shape=SHAPE)
    ours, theirs = WEBSOCKET.client(settings, OPENING, random.Random(seed)), bridge()
    (offer,) = theirs.receive_data(drain(ours), 0.0)
    offer.accept(bytes(32), 0.0).follow(SHAPE)
    ours.receive_data(drain(theirs), 0.0)
    return ours, theirs


def sizes(end, mask):
    """Payload bytes of each buffer, each of which is one short frame."""
    found = []
    for buffer in end.data_to_send():
        assert buffer[0] == 0x80 | Opcode.BINARY
        length = buffer[1] & 0x7F
        head = 2
        if length == 126:
            length, head = int.from_bytes(buffer[2:4], "big"), 4
        assert len(buffer) == head + mask + length, "one message, one buffer"
        found.append(length)
    return found


def test_payload_goes_in_messages_of_the_shapes_sizes():
    ours, theirs = shaped()
    ours.send_data([bytes(700)], 0.0)
    up = sizes(ours, 4)
    theirs.send_data([bytes(500), bytes(200)], 0.0)
    down = sizes(theirs, 0)
    assert sum(up) == sum(down) == 700
    assert all(40 <= size < 130 + 40 for size in up)
    assert all(24 <= size < 80 + 24 for size in down)
    assert len(set(up)) > 3


def test_little_and_much_payload_goes_as_it_is():
    ours, _ = shaped()
    for size in (1, 39, 130, 130 * SPLIT_UP_TO + 1, 9000):
        ours.send_data([bytes(size)], 0.0)
        out = ours.data_to_send()
        assert sum(map(len, out)) < size + 16


@given(st.lists(st.binary(max_size=900), max_size=8), st.integers(0, 99))
def test_the_stream_is_the_same(chunks, seed):
    ours, theirs = shaped(seed)
    for chunk in chunks:
        ours.send_data([chunk], 0.0)
        theirs.send_data([chunk], 0.0)
    assert payload_of(theirs.receive_data(drain(ours), 0.0)) == b"".join(chunks)
    assert payload_of(ours.receive_data(drain(theirs), 0.0)) == b"".join(chunks)


def test_without_a_shape_a_message_is_what_was_sent():
    for end, mask in zip(opened(), (4, 0), strict=True):
        end.send_data([bytes(300), bytes(400)], 0.0)
        assert sizes(end, mask) == [700]
