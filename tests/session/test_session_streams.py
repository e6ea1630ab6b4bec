"""Streams over one carrier that works: opening, bytes, half-close, resets, credit, associations."""

from __future__ import annotations

import gc
from dataclasses import replace

import pytest
from session_pair import TARGET, Pair, frames_of

from ptproxy.errors import LocalProtocolError, Reason, SessionError
from ptproxy.session import Limits, RetentionBudget, SessionExhausted, events, frames


def test_a_stream_from_open_to_its_end() -> None:
    pair = Pair()
    near = pair.client.open_stream(TARGET, b"hello", pair.now)
    pair.pump()
    (opened,) = pair.said(pair.bridge)
    far = opened.stream
    assert (opened.first_data, far.target, far.id) == (b"hello", TARGET, 2)
    assert not pair.said(pair.client)
    far.accept(pair.now)
    far.send_data(b"world", pair.now)
    far.send_eof(pair.now)
    pair.pump()
    assert [type(e) for e in pair.said(pair.client)] == [
        events.StreamAccepted,
        events.DataReceived,
        events.EofReceived,
    ]
    near.send_data(b" and more", pair.now)  # half-closed: this direction goes on
    near.send_eof(pair.now)
    pair.pump()
    assert pair.received[pair.bridge, 2] == b"hello and more"
    assert [type(e) for e in pair.said(pair.bridge)][-2:] == [events.EofReceived, events.StreamFinished]
    assert [type(e) for e in pair.said(pair.client)] == [events.StreamFinished]
    assert pair.client.idle
    assert pair.bridge.idle


def test_the_bridge_opens_streams_with_odd_ids() -> None:
    pair = Pair()
    far = pair.bridge.open_stream(TARGET, b"knock", pair.now)
    pair.pump()
    (opened,) = pair.said(pair.client, events.StreamOpened)
    opened.stream.accept(pair.now)
    pair.pump()
    assert far.id == 3
    assert [type(e) for e in pair.said(pair.bridge)] == [events.StreamAccepted]


def test_open_without_a_carrier_waits_for_the_first() -> None:
    pair = Pair(carriers=0)
    near = pair.client.open_stream(TARGET, b"early", pair.now)
    assert near.carrier is None
    pair.attach()
    pair.pump()
    assert pair.received[pair.bridge, near.id] == b"early"


def test_first_data_beyond_one_open_follows_as_data() -> None:
    pair = Pair()
    blob = bytes(range(256)) * 1024
    near = pair.client.open_stream(TARGET, blob, pair.now)
    sent = frames_of(pair.drain(pair.client, 1, 1 << 20))
    assert sent[0][0] == frames.OPEN
    assert len(sent[0][6]) == pair.limits.open_data
    assert sent[1][:3] == (frames.DATA, near.id, pair.limits.open_data)
    data = [f for f in sent if f[0] == frames.DATA]
    assert data[-1][4] == pair.limits.initial_window  # R6: the initial window holds for first data too


def test_send_buffers_are_passed_on_uncopied() -> None:
    pair = Pair()
    near, _ = pair.open()
    chunk = bytes(50_000)
    near.send_data(chunk, pair.now)
    out = pair.client.data_to_send(1, 1 << 17, pair.now)
    assert any(buffer is chunk for buffer in out)


def test_acknowledgement_does_not_wait_for_the_reader() -> None:
    """R8: a stalled reader pins nothing at the sender, and credit stops there."""
    pair = Pair(Limits(initial_window=100))
    pair.consume = False
    near, far = pair.open()
    near.send_data(bytes(150), pair.now)
    pair.pump()
    pair.wait(0.2)
    assert (near.acknowledged, near.retained, far.received) == (100, 50, 100)
    assert near.send_room() <= 0
    far.consume(100, pair.now)
    pair.pump()
    pair.wait(0.2)
    assert (near.acknowledged, near.retained) == (150, 0)
    assert [e.stream for e in pair.said(pair.client, events.StreamWritable)] == [near]
    assert near.send_room() > 0


def test_windows_are_said_after_a_quarter_or_100_ms() -> None:
    pair = Pair(Limits(initial_window=400))
    near, _ = pair.open()
    near.send_data(bytes(99), pair.now)
    pair.pump()
    assert near.acknowledged == 0
    near.send_data(bytes(1), pair.now)
    pair.pump()
    assert near.acknowledged == 100
    near.send_data(bytes(1), pair.now)
    pair.pump()
    assert near.acknowledged == 100
    pair.wait(0.11)
    assert near.acknowledged == 101


def test_the_window_grows_when_it_is_drained_quickly() -> None:
    pair = Pair()
    near, far = pair.open()
    blob = bytes(64 * 1024)
    for _ in range(64):
        near.send_data(blob, pair.now)
        pair.pump()
    assert near.retained == 0
    assert far.window == 4 * 1024 * 1024
    slow, slow_far = pair.open()
    for _ in range(8):
        slow.send_data(blob[:20_000], pair.now)
        pair.pump()
        pair.wait(10)
    assert slow_far.window == 64 * 1024


def test_the_receive_budget_holds_windows_down() -> None:
    pair = Pair(Limits(receive_budget=300 * 1024))
    near, far = pair.open()
    for _ in range(64):
        near.send_data(bytes(64 * 1024), pair.now)
        pair.pump()
    assert far.window == 256 * 1024
    for _ in range(3):
        pair.open()
    for _ in range(8):
        near.send_data(bytes(64 * 1024), pair.now)
        pair.pump()
    assert far.window == 64 * 1024  # R22: shrinking is not raising


def test_reset_reaches_the_other_side_once() -> None:
    pair = Pair()
    near, far = pair.open(b"x")
    far.send_data(b"unsent", pair.now)
    pair.said(pair.client)
    far.reset(Reason.CONNECTION_LOST, pair.now)
    assert pair.bridge.tombstones
    pair.pump()
    assert [(type(e), e.reason) for e in pair.said(pair.client)] == [
        (events.StreamReset, Reason.CONNECTION_LOST)
    ]
    assert pair.client.idle
    assert pair.bridge.idle
    near.send_data(b"late", pair.now)
    near.send_eof(pair.now)
    near.consume(0, pair.now)
    near.reset(Reason.GENERAL, pair.now)
    assert near.send_room() == 0
    assert pair.client.idle


def test_resets_that_cross_leave_nothing() -> None:
    pair = Pair()
    near, far = pair.open()
    near.reset(Reason.CANCELLED, pair.now)
    far.reset(Reason.CONNECTION_LOST, pair.now)
    pair.said(pair.client)
    pair.said(pair.bridge)
    pair.pump()
    assert not pair.said(pair.client)
    assert not pair.said(pair.bridge)
    assert pair.client.idle
    assert pair.bridge.idle


def test_a_refused_open() -> None:
    pair = Pair()
    near = pair.client.open_stream(TARGET, b"data", pair.now)
    pair.pump()
    pair.bridge.streams[near.id].reset(Reason.REFUSED, pair.now)
    pair.pump()
    assert [e.reason for e in pair.said(pair.client, events.StreamReset)] == [Reason.REFUSED]


def test_a_reset_before_the_open_left_keeps_the_target_from_being_dialled() -> None:
    pair = Pair()
    near = pair.client.open_stream(TARGET, b"", pair.now)
    near.reset(Reason.CANCELLED, pair.now)
    pair.pump()
    assert not pair.said(pair.bridge)
    late = frames.open_header(near.id, 0, 0, 100, TARGET, 0)
    pair.give(pair.bridge, 1, late)  # R6: a late OPEN of an id that a RESET marked seen
    assert not pair.said(pair.bridge)
    assert frames_of(pair.drain(pair.bridge, 1)) == [(frames.GONE, near.id)]


def test_reasons_that_are_said_locally_do_not_leave() -> None:
    pair = Pair()
    near, _ = pair.open()
    near.reset(Reason.TUNNEL_DOWN, pair.now)
    pair.pump()
    assert [e.reason for e in pair.said(pair.bridge, events.StreamReset)] == [Reason.GENERAL]


def test_reset_after_both_ends_is_a_clean_end() -> None:
    pair = Pair()
    near, far = pair.open()
    near.send_eof(pair.now)
    far.send_eof(pair.now)
    pair.pump()
    near.reset(Reason.CANCELLED, pair.now)
    assert pair.client.idle
    pair.pump()
    assert not pair.said(pair.bridge, events.StreamReset)


def test_ten_thousand_streams_leave_nothing() -> None:
    pair = Pair()
    for count in range(10_000):
        near = pair.client.open_stream(TARGET, b"q", pair.now)
        pair.pump()
        far = pair.bridge.streams[near.id]
        if count % 3:
            far.accept(pair.now)
            far.send_data(b"a", pair.now)
            far.send_eof(pair.now)
            near.send_eof(pair.now)
        else:
            far.reset(Reason.REFUSED, pair.now)
        pair.pump()
        pair.said(pair.client)
        pair.said(pair.bridge)
        pair.received.clear()
    pair.wait(30)
    for side in pair.told:
        assert side.idle
        assert side.deadline() is None
        assert len(side._seen) <= 1
        assert side._granted_unread == 0
        assert side.account.retained == 0
        assert not side._late
        assert not side._waiting
        assert not side._blocked
    del near, far
    gc.collect()
    assert not [o for o in gc.get_objects() if type(o).__name__ == "Tombstone"]


def test_an_unread_rest_stays_in_the_receive_budget() -> None:
    """R22: streams that end unread still count against the session, until they are read or reset."""
    pair = Pair(Limits(max_streams=2))
    pair.consume = False
    near, far = pair.open(b"unread")
    near.send_eof(pair.now)
    far.send_eof(pair.now)
    pair.pump()
    assert not pair.bridge.streams
    pair.open()
    refused = pair.client.open_stream(TARGET, b"", pair.now)
    pair.pump()
    assert pair.said(pair.client, events.StreamReset)[0].stream is refused
    far.consume(6, pair.now)
    pair.open()
    near.consume(0, pair.now)


def test_association() -> None:
    pair = Pair()
    near = pair.client.open_association(b"\x06", pair.now)
    near.send_datagram(b"addr", b"early", pair.now)
    pair.pump()
    far = pair.bridge.streams[near.id]
    assert far.is_association
    far.accept(pair.now)
    for number in range(100):
        far.send_datagram(b"from", b"%d" % number, pair.now)
    far.send_datagram(b"from", b"", pair.now)
    pair.pump()
    told = pair.said(pair.bridge, events.DatagramReceived)
    assert [(e.address, e.data) for e in told] == [(b"addr", b"early")]
    told = pair.said(pair.client, events.DatagramReceived)
    assert [e.data for e in told] == [b"%d" % n for n in range(37, 100)] + [b""]  # R23: the oldest went
    far.send_datagram(b"from", bytes(65507), pair.now)
    for _ in range(5):
        far.send_datagram(b"from", bytes(60000), pair.now)
    pair.pump()
    assert [len(e.data) for e in pair.said(pair.client, events.DatagramReceived)] == [60000] * 4
    with pytest.raises(LocalProtocolError):
        far.send_datagram(b"", bytes(65508), pair.now)
    with pytest.raises(LocalProtocolError):
        far.send_data(b"bytes", pair.now)
    near.send_eof(pair.now)
    far.send_eof(pair.now)
    pair.pump()
    assert pair.client.idle
    assert pair.bridge.idle
    assert pair.bridge.account.retained == 0


def test_datagrams_on_a_stream_of_bytes_are_an_error() -> None:
    pair = Pair()
    near, _ = pair.open()
    with pytest.raises(LocalProtocolError):
        near.send_datagram(b"", b"", pair.now)
    with pytest.raises(SessionError):
        pair.give(pair.bridge, 1, frames.datagram_header(near.id, b"", 0))


def test_retention_is_shared_between_sessions_and_streams() -> None:
    """R21: a greedy session leaves room, others keep their floor, and the sum stays inside."""
    budget = RetentionBudget(1 << 20, floor=1 << 16)
    greedy = Pair(Limits(initial_window=1 << 24), client=budget, carriers=0)
    stream = greedy.client.open_stream(TARGET, b"", greedy.now)
    while stream.send_room() > 0:
        stream.send_data(bytes(min(stream.send_room(), 1 << 14)), greedy.now)
    assert budget.used < (1 << 20) * 7 // 8
    second = greedy.client.open_stream(TARGET, b"", greedy.now)
    assert second.send_room() > 0
    modest = Pair(client=budget, carriers=0)
    other = modest.client.open_stream(TARGET, b"", modest.now)
    assert other.send_room() >= 1 << 15
    greedy.tell(greedy.client, greedy.client.close(Reason.SHUTDOWN, greedy.now))
    assert budget.used == 0


def test_room_that_another_session_frees_is_told() -> None:
    budget = RetentionBudget(1000, floor=0)
    first = Pair(client=budget, carriers=0)
    second = Pair(client=budget, carriers=0)
    hog = first.client.open_stream(TARGET, b"", first.now)
    hog.send_data(bytes(1000), first.now)
    waiting = second.client.open_stream(TARGET, b"", second.now)
    assert waiting.send_room() <= 0
    hog.reset(Reason.CANCELLED, first.now)
    second.wait(0.2)
    assert [e.stream for e in second.said(second.client, events.StreamWritable)] == [waiting]


def test_a_session_without_progress_is_reset_under_pressure() -> None:
    budget = RetentionBudget(1000, floor=100)
    large = Pair(client=budget, carriers=0)
    small = Pair(client=budget, carriers=0)
    large.client.open_stream(TARGET, bytes(700), large.now)
    small.client.open_stream(TARGET, bytes(250), small.now)
    small.wait(61)
    assert not small.said(small.client, events.StreamReset)
    large.wait(61)
    assert [e.reason for e in large.said(large.client, events.StreamReset)] == [Reason.LIMIT]
    small.wait(61)
    assert not small.said(small.client, events.StreamReset)  # no pressure any more


def test_close_resets_every_stream_locally() -> None:
    pair = Pair()
    near, _ = pair.open()
    told = pair.client.close(Reason.SHUTDOWN, pair.now)
    assert [(e.stream, e.reason) for e in told] == [(near, Reason.SHUTDOWN)]
    assert pair.drain(pair.client, 1) == b""
    assert pair.client.deadline() is None
    assert pair.client.receive_data(1, b"\xff" * 20, pair.now) == []
    with pytest.raises(LocalProtocolError):
        pair.client.open_stream(TARGET, b"", pair.now)


def test_local_misuse_is_an_error() -> None:
    pair = Pair()
    near, far = pair.open()
    near.send_eof(pair.now)
    near.send_eof(pair.now)
    with pytest.raises(LocalProtocolError):
        near.send_data(b"x", pair.now)
    with pytest.raises(LocalProtocolError):
        far.consume(1, pair.now)
    with pytest.raises(LocalProtocolError):
        pair.client.open_stream(bytes(513), b"", pair.now)
    with pytest.raises(LocalProtocolError):
        pair.client.send_challenge(1, b"")


def test_ids_run_out() -> None:
    pair = Pair(Limits(max_stream_id=4))
    pair.open()
    pair.open()
    with pytest.raises(SessionExhausted):
        pair.client.open_stream(TARGET, b"", pair.now)
    pair.pump()
    assert pair.said(pair.bridge, events.GoawayReceived)[0].carrier is None  # R3
    with pytest.raises(LocalProtocolError):
        pair.client.open_stream(TARGET, b"", pair.now)


def kinds(data: bytes) -> list[int]:
    return [frame[0] for frame in frames_of(data)]


def test_what_is_owed_for_a_while_leaves_with_small_data_and_not_by_itself() -> None:
    """R8: a line and its answer are two messages, not four."""
    pair = Pair(Limits(acknowledge_within=5.0))
    near, far = pair.open()
    pair.wait(6.0)
    pair.pump()
    far.send_data(b"a line", pair.now)
    pair.give(pair.client, 1, pair.drain(pair.bridge, 1))
    assert pair.drain(pair.client, 1) == b"", "nothing is said yet"
    pair.wait(1.0)
    near.send_data(b"its answer", pair.now)
    answer = pair.drain(pair.client, 1)
    assert kinds(answer)[:2] == [frames.WINDOW, frames.DATA]
    pair.give(pair.bridge, 1, answer)
    assert far.acknowledged == 6
    pair.wait(30.0)
    assert frames.WINDOW not in kinds(pair.drain(pair.client, 1)), "it was said once"


def test_quick_exchanges_are_not_acknowledged_one_by_one() -> None:
    pair = Pair(Limits(acknowledge_within=5.0))
    near, far = pair.open()
    pair.wait(6.0)
    pair.pump()
    said = b""
    for _ in range(20):
        far.send_data(b"ping", pair.now)
        pair.give(pair.client, 1, pair.drain(pair.bridge, 1))
        near.send_data(b"pong", pair.now)
        some = pair.drain(pair.client, 1)
        said += some
        pair.give(pair.bridge, 1, some)
        pair.now += 0.001
    assert 2 <= kinds(said).count(frames.WINDOW) <= 4


def test_a_peer_that_waits_for_an_acknowledgement_to_move_does_not_wait_long() -> None:
    """R15: what came on the carrier that is left is acknowledged with the move, and what comes at once."""
    pair = Pair(Limits(acknowledge_within=5.0), carriers=2)
    near, far = pair.open(carrier=1)
    pair.wait(6.0)
    pair.pump()
    far.send_data(b"before", pair.now)
    pair.give(pair.client, 1, pair.drain(pair.bridge, 1))
    near.send_data(b"and up", pair.now)
    pair.give(pair.bridge, 1, pair.drain(pair.client, 1))
    far.send_data(b" on its way", pair.now)
    late = pair.drain(pair.bridge, 1)
    pair.client.drain(near, 2, pair.now)
    assert frames.WINDOW in kinds(pair.drain(pair.client, 1))
    pair.give(pair.client, 1, late)
    assert frames.WINDOW in kinds(pair.drain(pair.client, 1)), "at once, too"
    pair.give(pair.bridge, 2, pair.drain(pair.client, 2))
    assert frames.WINDOW in kinds(pair.drain(pair.bridge, 1)), "what the client waits for"


def test_a_full_budget_does_not_wait_for_what_is_acknowledged_late() -> None:
    """R21: what a client acknowledges in seconds is asked for where it keeps a stream from going on."""
    budget = RetentionBudget(1 << 20)
    pair = Pair(bridge=budget)
    pair.client.limits = replace(pair.limits, acknowledge_within=5.0)
    budget.open_account(pair.now).keep(1 << 20, pair.now)
    _, far = pair.open()
    sent = 0
    for _ in range(100):
        while far.send_room() > 0:
            far.send_data(bytes(9000), pair.now)
            sent += 9000
        pair.pump()
        pair.wait(0.05)
    assert sent > 1_000_000, f"{sent} bytes in 5 s"
