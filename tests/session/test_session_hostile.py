"""What a peer must not say, and what it cannot make a session keep."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from session_pair import TARGET, Pair, frames_of

from ptproxy.errors import Reason, SessionError
from ptproxy.session import Limits, frames
from ptproxy.session.session import Session


def refuse(pair: Pair, side: Session, data: bytes) -> None:
    with pytest.raises(SessionError) as raised:
        side.receive_data(1, data, pair.now)
    assert len(str(raised.value)) < 80


FORBIDDEN = {
    "a gap": lambda near: frames.data_header(near.id, 1, 1) + b"x",
    "beyond the limit": lambda near: frames.data_header(near.id, 0, 65537) + bytes(65537),
    "EOF with a gap": lambda near: frames.eof(near.id, 1),
    "an acknowledgement of nothing": lambda near: frames.window(near.id, 1, 0),
    "DATA for an unseen stream": lambda near: frames.data_header(near.id + 2, 0, 1) + b"x",
    "WINDOW for an unseen stream": lambda near: frames.window(near.id + 2, 0, 0),
    "EOF for an unseen stream": lambda near: frames.eof(near.id + 2, 0),
    "BIND for an unseen stream": lambda near: frames.bind(frames.BIND, near.id + 2, 0, 0, 0),
    "GONE for an unseen stream": lambda near: frames.gone(near.id + 2),
    "OPENED for an unseen stream": lambda near: frames.opened(near.id + 2),
    "OPENED from the opener": lambda near: frames.opened(near.id),
    "DATAGRAM for an unseen stream": lambda near: frames.datagram_header(near.id + 2, b"", 0),
    "RESET of ours that never was": lambda _: frames.reset(3, 0),
    "OPEN with an id of ours": lambda _: frames.open_header(3, 0, 0, 0, TARGET, 0),
    "GONE in mid-life": lambda near: frames.gone(near.id),
    "first data beyond the window": lambda near: frames.open_header(
        near.id + 2, 0, 1, 0, TARGET, 1) + b"x",
    "CLOSED of no carrier": lambda _: frames.closed(0),
}  # fmt: skip


@pytest.mark.parametrize("what", FORBIDDEN)
def test_forbidden(what: str) -> None:
    pair = Pair()
    near, _ = pair.open()
    refuse(pair, pair.bridge, FORBIDDEN[what](near))  # type: ignore[no-untyped-call]


def test_frames_for_a_stream_whose_open_never_left() -> None:
    pair = Pair()
    held = pair.client.open_stream(TARGET, b"", pair.now)
    for frame in (frames.window(held.id, 0, 0), frames.reset(held.id, 0), frames.data_header(held.id, 0, 1)):
        refuse(Pair() if held.id not in pair.client.streams else pair, pair.client, frame + b"x")
        pair = Pair()
        held = pair.client.open_stream(TARGET, b"", pair.now)


def test_data_after_eof_and_another_eof() -> None:
    for frame in (frames.eof(2, 2), frames.eof(2, 4), frames.data_header(2, 3, 1) + b"x"):
        pair = Pair()
        near, _ = pair.open(b"abc")
        pair.give(pair.bridge, 1, frames.eof(near.id, 3))
        pair.give(pair.bridge, 1, frames.eof(near.id, 3) + frames.data_header(near.id, 0, 3) + b"abc")
        refuse(pair, pair.bridge, frame)


def test_frames_for_forgotten_streams() -> None:
    """R17: EOF, BIND, OPEN, RESET: GONE; DATA, WINDOW, DATAGRAM: ignored."""
    pair = Pair()
    near, _ = pair.open()
    number = near.id
    near.reset(Reason.CANCELLED, pair.now)
    pair.pump()
    ignored = (
        frames.data_header(number, 9, 1) + b"x" + frames.window(number, 9, 9) + frames.opened(number)
        + frames.datagram_header(number, b"", 0) + frames.gone(number)
    )  # fmt: skip
    pair.give(pair.bridge, 1, ignored)
    assert pair.bridge.ready == set()
    for asked in (
        frames.eof(number, 9),
        frames.bind(frames.BIND, number, 9, 9, 9),
        frames.open_header(number, 9, 0, 9, TARGET, 0),
        frames.reset(number, 9),
    ):
        pair.give(pair.bridge, 1, asked)
        assert frames_of(pair.drain(pair.bridge, 1)) == [(frames.GONE, number)]


def test_too_many_streams_are_refused_one_by_one() -> None:
    pair = Pair(Limits(max_streams=3))
    for number in range(2, 12, 2):
        pair.give(pair.bridge, 1, frames.open_header(number, 0, 0, 0, TARGET, 0))
    assert len(pair.bridge.streams) == 3
    said = [f for f in frames_of(pair.drain(pair.bridge, 1)) if f[0] == frames.RESET]
    assert said == [(frames.RESET, 8, Reason.LIMIT), (frames.RESET, 10, Reason.LIMIT)]


def test_refusals_that_are_never_acknowledged_are_bounded() -> None:
    pair = Pair(Limits(max_streams=1, max_tombstones=10))
    opens = b"".join(frames.open_header(number, 0, 0, 0, TARGET, 0) for number in range(2, 100, 2))
    refuse(pair, pair.bridge, opens)
    assert len(pair.bridge.tombstones) == 10


def test_answers_owed_to_a_peer_that_does_not_read_are_bounded() -> None:
    pair = Pair(Limits(max_backlog=50))
    refuse(pair, pair.bridge, b"".join(frames.reset(number, 0) for number in range(2, 1000, 2)))
    assert pair.bridge.carriers[1].backlog <= 51


def test_gaps_in_ids_are_bounded() -> None:
    pair = Pair(Limits(max_intervals=8))
    for number in range(2, 34, 4):
        pair.give(pair.bridge, 1, frames.reset(number, 0))
    refuse(pair, pair.bridge, frames.reset(34, 0))


def test_marks_do_not_grow_with_what_provokes_them() -> None:
    """R10: a thousand PINGs, BINDs, EOFs and duplicates owe no more than one of each."""
    pair = Pair()
    near, far = pair.open(b"abc")
    for generation in range(1000):
        pair.give(pair.bridge, 1, frames.ping(frames.PING, generation))
        pair.give(pair.bridge, 1, frames.bind(frames.BIND, near.id, generation, 0, 0))
        pair.give(pair.bridge, 1, frames.data_header(near.id, 0, 3) + b"abc")
    sent = frames_of(pair.drain(pair.bridge, 1))
    assert sorted(f[0] for f in sent) == [frames.OPENED, frames.WINDOW, frames.PONG]
    assert (frames.PONG, 999) in sent
    assert far.received == 3


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_no_frames_raise_anything_but_session_errors(data: st.DataObject) -> None:
    """Valid frames with any field values, mixed with local calls, on either side."""
    small = st.integers(0, 8)
    big = st.one_of(small, st.integers(0, (1 << 64) - 1))
    frame = st.one_of(
        st.builds(
            lambda s, o, b: frames.data_header(s, o, len(b)) + b,
            small, big, st.binary(min_size=1, max_size=9),
        ),
        st.builds(frames.eof, small, big),
        st.builds(
            lambda s, g, f, n, b: frames.open_header(s, g, f, n, b"t", len(b)) + b,
            small, small, st.integers(0, 1), big, st.binary(max_size=5),
        ),
        st.builds(frames.opened, small),
        st.builds(frames.window, small, big, big),
        st.builds(frames.bind, st.sampled_from((frames.BIND, frames.MOVE)), small, small, big, big),
        st.builds(lambda e: frames.resume([e]), st.tuples(small, small, big, big)),
        st.builds(frames.ask, small, big, big),
        st.builds(frames.reset, small, st.integers(0, 255)),
        st.builds(frames.gone, small),
        st.builds(frames.closed, small),
        st.builds(frames.goaway, small),
        st.builds(frames.ping, st.sampled_from((frames.PING, frames.PONG)), big),
        st.builds(lambda s, b: frames.datagram_header(s, b"a", len(b)) + b, small, st.binary(max_size=5)),
    )  # fmt: skip
    pair = Pair(Limits(initial_window=8), carriers=3)
    near, far = pair.open(b"ab", carrier=1)
    pair.client.open_association(TARGET, pair.now)
    pair.bridge.open_stream(TARGET, b"xyz", pair.now)
    for _ in range(data.draw(st.integers(1, 12))):
        side = data.draw(st.sampled_from((pair.client, pair.bridge)))
        carrier = data.draw(st.integers(1, 3))
        match data.draw(st.integers(0, 5)):
            case 0:
                pair.drain(side, carrier)
            case 1:
                near.send_data(b"12345", pair.now)
                far.send_data(b"12345", pair.now)
            case 2:
                pair.now += 20
                pair.tell(side, side.on_deadline(pair.now))
            case _:
                try:
                    pair.give(side, carrier, data.draw(frame))
                except SessionError:
                    return
