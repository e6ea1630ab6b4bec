"""The http codec where the front holds back what it gets: long poll."""

from __future__ import annotations

import random

import pytest
from http_rig import (
    KEY,
    OPENING,
    Buffering,
    Direct,
    Rig,
    Slow,
    noise,
)

from ptproxy.codec.http import HTTP
from ptproxy.codec.http_client import MAX_POLLS, MIN_POLLS
from ptproxy.codec.http_downloads import MAX_POLL
from ptproxy.codec.http_records import POLL
from ptproxy.codec.interface import CodecSettings
from ptproxy.errors import LocalProtocolError

# ---- long poll -------------------------------------------------------------------------------------------


def polls(rig):
    return [pipe for pipe in rig.busy("GET") if pipe.client.exchange.kind == POLL]


def test_polling_begins_where_the_front_buffers():
    rig = Rig(front=Buffering).open()
    assert rig.client.download == "auto"
    rig.send_up(b"confirm")
    rig.send_down(b"held up")
    assert rig.down == b""
    rig.wait(0.9)
    assert rig.down == b""
    rig.wait(0.3)
    assert rig.client.download == "poll"
    assert rig.down == b"held up", "what the front held comes out first"
    assert len(polls(rig)) == MIN_POLLS
    for turn in range(20):
        rig.send_down(noise(1000, turn))
        assert rig.down.endswith(noise(1000, turn))
    assert len(polls(rig)) == MAX_POLLS
    assert rig.ended == {}


def test_streaming_is_kept_where_the_front_does_not_buffer():
    rig = Rig().open()
    rig.wait(30)
    assert rig.client.download == "stream"


def test_a_slow_path_is_not_taken_for_a_buffering_front():
    front = type("Now", (Slow,), {})
    rig = Rig(front=front)
    rig.run()
    front.back = False
    rig.client.authenticated(KEY)
    rig.client.send_data([b"confirm"], rig.now)
    rig.wait(1.5)
    assert rig.client.download == "auto", "no round trip has been seen yet"
    front.passed = ("Upload",)
    rig.wait(2.5)
    assert rig.client.download == "auto", "three round trips of 1.5 s are not over"
    front.back = True
    rig.run()
    assert rig.client.download == "stream"


@pytest.mark.parametrize("mode", ["stream", "poll"])
def test_the_tunnel_can_say_how_to_download(mode):
    rig = Rig({"download": mode}, front=Buffering if mode == "poll" else Direct).open()
    rig.send_down(b"at once")
    assert rig.down == b"at once"
    assert rig.client.download == mode
    rig.wait(30)
    rig.send_down(b", later too")
    assert rig.down == b"at once, later too"


def test_an_unknown_way_to_download_is_an_error_of_ours():
    with pytest.raises(LocalProtocolError, match="auto, stream or poll"):
        HTTP.client(CodecSettings("h", "/", {"download": "sse"}), OPENING, random.Random(0))


def test_idle_polls_are_answered_within_8_seconds_and_fewer():
    rig = Rig({"download": "poll"}).open()
    rig.send_down(noise(5000))
    assert len(polls(rig)) == MAX_POLLS
    rig.wait(60)
    assert len(polls(rig)) == MIN_POLLS
    answered = sum(bytes(pipe.sent_down).count(b"HTTP/1.1 200") for pipe in rig.pipes)
    assert 10 < answered < 40
    assert rig.ended == {}


def test_much_payload_over_polls():
    rig = Rig({"download": "poll"}).open()
    data = noise(5 * MAX_POLL + 17)
    rig.send_down(data)
    assert rig.down == data
    room = rig.bridge.room()
    assert room == MAX_POLL
    for pipe in rig.live:
        pipe.down_open = False
    while rig.bridge.room():
        rig.send_down(noise(1000))
    rig.bridge.send_data([noise(MAX_POLL)], rig.now)
    before = rig.writable
    for pipe in rig.live:
        pipe.down_open = True
    rig.run()
    assert rig.writable > before
    assert rig.bridge.room() > 0
