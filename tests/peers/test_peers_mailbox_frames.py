"""The mailbox's frames: back and forth, in pieces, and what is refused."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.peers.mailbox_answers import (
    DOWN_FRAMES,
    Bundle,
    Displaced,
    Done,
    Hello,
    Mail,
    Note,
    Refusal,
    Refused,
    RequestRefused,
    State,
)
from ptproxy.peers.mailbox_frames import (
    ENVELOPE_SIZES,
    HEAD,
    MAX_BUNDLE,
    MAX_ONE_TIME,
    MAX_SUPPLY,
    PREFACE,
    FrameReader,
    MailboxFrameError,
)
from ptproxy.peers.mailbox_requests import (
    FIRST_FRAMES,
    OWNER_FRAMES,
    SENDER_FRAMES,
    Close,
    Deposit,
    Fetch,
    Grant,
    Keep,
    Listen,
    Open,
    Publish,
    Recall,
    Revoke,
    Right,
    Status,
    Supply,
    Taken,
    TokenGrant,
    runs_of,
)

UP_FRAMES = {**FIRST_FRAMES, **OWNER_FRAMES, **SENDER_FRAMES}
ALL_FRAMES = {**UP_FRAMES, **DOWN_FRAMES}


def exactly(size):
    return st.binary(min_size=size, max_size=size)


u16, u32, u64 = (st.integers(0, 2**bits - 1) for bits in (16, 32, 64))
envelopes = st.sampled_from(ENVELOPE_SIZES[:2]).map(bytes)
grants = st.builds(TokenGrant, exactly(32), st.sampled_from(Right), st.integers(1, 65535), u32)
prekeys = st.binary(min_size=1, max_size=100)
frames = st.one_of(
    st.builds(Hello, exactly(32)),
    st.just(Done()),
    st.builds(State, u32, u64, u32, u32, u32, u64, u32, u32),
    st.builds(Bundle, st.binary(min_size=1, max_size=300), st.binary(max_size=200)),
    st.builds(Refused, st.sampled_from(Refusal), u32),
    st.builds(Mail, exactly(16), exactly(32), envelopes),
    st.just(Displaced()),
    st.builds(Note, st.binary(max_size=64)),
    st.builds(Keep, st.binary(min_size=1, max_size=64)),
    st.just(Recall()),
    st.builds(Open, exactly(32), exactly(64)),
    st.builds(Grant, st.lists(grants, min_size=1, max_size=5).map(lambda found: tuple(sorted(found)))),
    st.builds(Revoke, st.lists(exactly(32), min_size=1, max_size=5).map(lambda found: tuple(sorted(found)))),
    st.builds(Publish, prekeys, st.lists(prekeys, max_size=3).map(tuple)),
    st.builds(Supply, st.lists(prekeys, min_size=1, max_size=3).map(tuple)),
    st.just(Status()),
    st.builds(Listen, st.integers(1, 64)),
    st.builds(Taken, st.lists(exactly(16), min_size=1, max_size=5).map(tuple)),
    st.just(Close()),
    st.builds(Deposit, exactly(32), envelopes),
    st.builds(Fetch, exactly(32)),
)


def read_all(reader, permitted=ALL_FRAMES):
    found = []
    while (frame := reader.next_frame(permitted)) is not None:
        found.append(frame)
    return found


@given(said=st.lists(frames, max_size=6), seed=u32)
def test_frames_come_back_however_they_are_cut(said, seed):
    data = b"".join(frame.serialize() for frame in said)
    rng, reader, found = random.Random(seed), FrameReader(), []
    while data:
        size = rng.choice((1, 3, 50, 5000))
        reader.receive_data(memoryview(data[:size]))
        found += read_all(reader)
        data = data[size:]
    assert found == said


@given(kind=st.sampled_from(sorted(ALL_FRAMES)), body=st.binary(max_size=400))
def test_garbage_raises_only_what_is_documented(kind, body):
    reader = FrameReader()
    reader.receive_data(bytes((kind,)) + len(body).to_bytes(3, "big") + body)
    try:
        frame = reader.next_frame(ALL_FRAMES)
    except MailboxFrameError:
        return
    assert frame is not None
    if not isinstance(frame, Grant | Revoke):  # which sort; and unknown refusals become a known one
        assert isinstance(frame, Refused) or frame.serialize()[HEAD:] == body


@given(data=st.binary(max_size=200))
def test_any_bytes(data):
    reader = FrameReader()
    reader.receive_data(data)
    try:
        read_all(reader)
    except MailboxFrameError:
        pass


@pytest.mark.parametrize("kind", sorted(ALL_FRAMES))
def test_an_impossible_length_is_refused_by_the_head_alone(kind):
    least, most = ALL_FRAMES[kind].SIZES
    for size in (least - 1, most + 1):
        if 0 <= size < 1 << 24:
            reader = FrameReader()
            reader.receive_data(bytes((kind,)) + size.to_bytes(3, "big"))
            with pytest.raises(MailboxFrameError):
                reader.next_frame(ALL_FRAMES)


def test_no_frame_is_longer_than_an_envelope_and_its_head():
    """What one stream can make us hold."""
    assert max(kind.SIZES[1] for kind in UP_FRAMES.values()) == 32 + 131_072
    assert max(kind.SIZES[1] for kind in DOWN_FRAMES.values()) == 16 + 32 + 131_072


def test_types_are_of_one_direction_each():
    assert not set(UP_FRAMES) & set(DOWN_FRAMES)
    assert len(UP_FRAMES) == 13
    assert len(DOWN_FRAMES) == 8


@pytest.mark.parametrize("size", [0, 1, 2047, 2049, 4096, 131_071])
def test_an_envelope_has_one_of_four_sizes(size):
    with pytest.raises(MailboxFrameError):
        Deposit.parse(bytes(32 + size))
    with pytest.raises(MailboxFrameError):
        Mail.parse(bytes(48 + size))


@pytest.mark.parametrize(
    "item",
    [
        b"i" * 32 + b"\0\0\x01\0\0\0\1",
        b"i" * 32 + b"\3\0\1\0\0\0\1",
        b"i" * 32 + b"\1\0\0\0\0\0\1",
        b"i" * 38,
    ],
)
def test_a_token_that_permits_nothing_is_refused(item):
    with pytest.raises(MailboxFrameError):
        Grant.parse(item)


@pytest.mark.parametrize(
    "body",
    [
        b"\0\0\0",  # a bundle of no bytes
        b"\0\4abc",  # cut short
        b"\0\3abc\0\0",  # a prekey of no bytes
        b"\0\3abc\0\5x",
        b"\0\3abc\0",
        (MAX_BUNDLE + 1).to_bytes(2, "big") + bytes(MAX_BUNDLE + 1),
        b"\0\1a" + (MAX_ONE_TIME + 1).to_bytes(2, "big") + bytes(MAX_ONE_TIME + 1),
    ],
)
def test_a_bundle_that_does_not_fit_is_refused(body):
    with pytest.raises(MailboxFrameError):
        Publish.parse(body)


def test_a_frame_does_not_hold_forty_thousand_prekeys():
    with pytest.raises(MailboxFrameError):
        Supply.parse(b"\0\1x" * 257)
    assert len(Supply.parse(b"\0\1x" * 256).one_times) == 256


@pytest.mark.parametrize("window", [0, 65, 255])
def test_an_impossible_window(window):
    with pytest.raises(MailboxFrameError):
        Listen.parse(bytes((window,)))


def test_the_order_of_tokens_tells_nothing():
    one = TokenGrant(b"\1" * 32, Right.DEPOSIT, 1, 5)
    two = TokenGrant(b"\2" * 32, Right.FETCH, 1, 5)
    assert Grant((two, one)).serialize() == Grant((one, two)).serialize()
    assert Revoke((b"\2" * 32, b"\1" * 32)).serialize() == Revoke((b"\1" * 32, b"\2" * 32)).serialize()


def test_an_unknown_refusal_reads_as_the_vaguest():
    assert Refused.parse(b"\xee\0\0\0\7") == Refused(Refusal.UNAVAILABLE, 7)


def test_every_refusal_has_words():
    for refusal in Refusal:
        assert str(RequestRefused(refusal))


def test_nothing_secret_in_a_repr():
    secret = b"SECRET" * 400
    for frame in (
        Deposit(secret[:32], secret),
        Fetch(secret),
        Publish(secret),
        Supply((secret,)),
        Bundle(secret),
        Keep(secret),
        Note(secret),
    ):
        assert "SECRET" not in repr(frame)


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\n", b"\x16\x03\x01", b"\0ptproxy mailbox 2", b"\0pX"])
def test_what_is_no_preface_is_refused_at_its_first_wrong_byte(start):
    right = next(size for size in range(len(start) + 1) if not PREFACE.startswith(start[: size + 1]))
    reader = FrameReader()
    for byte in start[:right]:
        reader.receive_data(bytes((byte,)))
        assert not reader.take(PREFACE)
    reader.receive_data(start[right : right + 1])
    with pytest.raises(MailboxFrameError):
        reader.take(PREFACE)


def test_a_preface_in_pieces():
    reader = FrameReader()
    for byte in PREFACE[:-1]:
        reader.receive_data(bytes((byte,)))
        assert not reader.take(PREFACE)
    reader.receive_data(PREFACE[-1:] + Status().serialize())
    assert reader.take(PREFACE)
    assert read_all(reader) == [Status()]


@given(sizes=st.one_of(st.lists(st.integers(1, 2048), max_size=100), st.just([1] * 700)))
def test_runs_fit_their_frames(sizes):
    items = [bytes(size) for size in sizes]
    runs = runs_of(items, MAX_SUPPLY)
    assert [item for run in runs for item in run] == items
    for run in runs:
        frame = Supply(run).serialize()
        assert len(frame) - HEAD <= MAX_SUPPLY
        assert Supply.parse(frame[HEAD:]).one_times == run
