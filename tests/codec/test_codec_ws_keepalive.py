"""A bridge's pings: before silence is cut, where it was told or has learnt that it would be."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_codec_websocket import SETTINGS, bridge, client, drain

from ptproxy.codec.interface import CodecSettings
from ptproxy.codec.websocket import WEBSOCKET
from ptproxy.codec.ws_connection import CLOSE_TIMEOUT
from ptproxy.codec.ws_frames import BINARY, CLOSE, PING, close_payload, masked_frame


def kept(cut=10.0):
    """A client, and a bridge that was told of a cut after ``cut`` seconds of silence, opened at 0."""
    settings = CodecSettings(SETTINGS.host, SETTINGS.path, {"keepalive": str(cut)})
    ours, theirs = client(), bridge(settings)
    (offer,) = theirs.receive_data(drain(ours), 0.0)
    offer.accept(bytes(32), 0.0)
    ours.receive_data(drain(theirs), 0.0)
    ours.links_to_flush(), theirs.links_to_flush()
    return ours, theirs


@given(
    st.floats(10.0, 300.0),
    st.lists(st.floats(0.0, 0.99), max_size=20),
    st.randoms(use_true_random=False),
)
def test_no_silence_lasts_to_the_cut(cut, pauses, rng):
    """Whenever payload goes out and however late the clock wakes, down there is never 0.85 of it silent."""
    _, theirs = kept(cut)
    now, said, heard = 0.0, 0.0, 0
    for pause in pauses + [1.0] * 5:
        sends_at = now + pause * cut
        while (due := theirs.deadline()) <= sends_at:
            now = max(due, now) + rng.uniform(0, 0.01)
            assert now - said < 0.85 * cut
            assert theirs.on_deadline(now) == []
            if drain(theirs):
                said, heard = now, heard + 1
        now = max(now, sends_at)
        if pause < 1.0:
            theirs.send_data([b"x"], now)
            assert drain(theirs)
            said = now
    assert heard >= 5


def test_the_pauses_before_pings_differ_and_busy_connections_have_none():
    ours, theirs = kept()
    pauses, last = set(), 0.0
    for _ in range(200):
        theirs.on_deadline(theirs.deadline())
        if theirs.links_to_flush():
            ping = drain(theirs)
            assert (len(ping), ping[0]) == (6, 0x80 | PING)
            assert ours.receive_data(ping, 0.0) == []
            assert len(drain(ours)) == 2 + 4 + 4  # the pong, as a browser sends one
            pauses.add(round(theirs._said_at - last, 3))
            last = theirs._said_at
    assert len(pauses) > 50
    assert 5.0 <= min(pauses) < 5.5 < 7.5 < max(pauses) <= 8.0
    for tenth in range(1000):
        now = last + tenth / 10
        theirs.send_data([b"x"], now)
        if theirs.deadline() <= now:
            theirs.on_deadline(now)
        assert drain(theirs) == b"\x82\x01x"


def cut_links(reception, *silences):
    """Links of one bridge break off after these silences, one after the other; when the next pings."""
    now = 0.0
    for silence in (*silences, None):
        ours, theirs = client(), reception.open_link()
        (offer,) = theirs.receive_data(drain(ours), now)
        offer.accept(bytes(32), now)
        theirs.send_data([b"down"], now + 1)
        if silence is None:
            return theirs.deadline() and theirs.deadline() - now
        theirs.receive_data(masked_frame(BINARY, b"up", bytes(4)), now + 2)
        now += 2 + silence
        assert theirs.receive_eof(now)
    return None


@pytest.mark.parametrize(
    ("silences", "learnt"),
    [
        ((30.0, 30.01, 30.1), 30.0),
        ((30.0, 30.0), None),
        ((30.0, 50.0, 70.0, 90.0, 110.0), None),
        ((30.0, 12.5, 30.1, 44.0, 30.0), 30.0),
        ((8.9, 8.9, 8.9, 8.9), None),
        ((700.0, 700.0, 700.0), None),
        ((0.1,) * 20, None),
        ((60.0, 60.0, 60.0, 10.0, 10.1, 10.0), 10.0),
        ((10.0, 10.0, 10.0, 60.0, 60.0, 60.0), 10.0),
        ((30.0, *map(float, range(100, 500, 50)), 30.0, 30.0), None),
    ],
)
def test_cuts_after_the_same_silence_teach(silences, learnt):
    due = cut_links(WEBSOCKET.reception(SETTINGS, random.Random(3)), *silences)
    if learnt is None:
        assert due is None
    else:
        assert 0.5 * learnt <= due <= 0.8 * learnt + 0.001


def test_what_was_learnt_holds_for_connections_that_are_there():
    reception = WEBSOCKET.reception(SETTINGS, random.Random(3))
    ours, theirs = client(), reception.open_link()
    (offer,) = theirs.receive_data(drain(ours), 0.0)
    offer.accept(bytes(32), 0.0)
    theirs.send_data([b"x"], 1.0)
    assert theirs.deadline() is None
    assert cut_links(reception, 30.0, 30.0, 30.0) is not None
    theirs.send_data([b"x"], 100.0)
    assert 115.0 <= theirs.deadline() <= 124.001


def test_a_clean_close_teaches_nothing():
    reception = WEBSOCKET.reception(SETTINGS, random.Random(3))
    for _ in range(5):
        ours, theirs = client(), reception.open_link()
        (offer,) = theirs.receive_data(drain(ours), 0.0)
        offer.accept(bytes(32), 0.0)
        theirs.receive_data(masked_frame(CLOSE, close_payload(1000), bytes(4)), 30.0)
        theirs.receive_eof(30.0)
    assert cut_links(reception) is None


def test_a_bridge_that_is_closing_pings_no_more():
    _, theirs = kept()
    theirs.close(1.0)
    assert theirs.deadline() == 1.0 + CLOSE_TIMEOUT
    drain(theirs)
    assert theirs.on_deadline(10.0) == []
    assert drain(theirs) == b""
    _, theirs = kept()
    theirs.receive_eof(1.0)
    assert theirs.deadline() is None
