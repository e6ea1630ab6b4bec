"""Carriers that come, go, stall and are left: resumption, ASK, drain, GOAWAY, suspicion, a lost session."""

from __future__ import annotations

import pytest
from session_pair import TARGET, Pair, frames_of

from ptproxy.errors import LocalProtocolError, Reason, SessionError
from ptproxy.session import Limits, SessionExhausted, events, frames

BLOB = bytes(range(256)) * 100


def kinds(data: bytes) -> list[int]:
    return [frame[0] for frame in frames_of(data)]


@pytest.mark.parametrize("cut", range(0, 400, 7))
def test_a_cut_inside_a_frame_loses_and_repeats_nothing(cut: int) -> None:
    pair = Pair(Limits(open_data=50, lone_frame=100, shared_frame=100))
    near = pair.client.open_stream(TARGET, BLOB[:300], pair.now)
    pair.give(pair.bridge, 1, pair.drain(pair.client, 1)[:cut])
    pair.lose(1)
    pair.attach()
    pair.pump()
    assert pair.received[pair.bridge, near.id] == BLOB[:300]
    assert len(pair.said(pair.bridge, events.StreamOpened)) == 1


def test_resume_is_one_frame_and_both_directions_go_on() -> None:
    pair = Pair()
    streams = [pair.open(b"%d" % i) for i in range(5)]
    for near, far in streams:
        near.send_data(BLOB, pair.now)
        far.send_data(BLOB[::-1], pair.now)
    half = pair.drain(pair.client, 1)
    pair.give(pair.bridge, 1, half[: len(half) // 2])
    half = pair.drain(pair.bridge, 1)
    pair.give(pair.client, 1, half[: len(half) // 2])
    pair.lose(1)
    pair.attach()
    sent = pair.drain(pair.client, 2)
    assert sent[0] == frames.RESUME
    pair.give(pair.bridge, 2, sent)
    pair.pump()
    for number, (near, far) in enumerate(streams):
        assert pair.received[pair.bridge, near.id] == b"%d" % number + BLOB
        assert pair.received[pair.client, far.id] == BLOB[::-1]


def test_who_moved_least_is_bound_first() -> None:
    """R12: where a carrier lives shorter than a round through all streams, none is left out for good."""
    pair = Pair(Limits(shared_frame=1000, acknowledge_after=1))
    streams = [pair.open()[0] for _ in range(4)]
    for stream in streams:
        stream.send_data(BLOB, pair.now)
    pair.give(pair.bridge, 1, pair.drain(pair.client, 1, 2000))  # a turn of the first two
    pair.give(pair.client, 1, pair.drain(pair.bridge, 1))
    moved = [stream.acknowledged for stream in streams]
    assert [bool(count) for count in moved] == [True, True, False, False]
    pair.lose(1)
    number = pair.attach()
    said = [frame[1] for frame in frames_of(pair.drain(pair.client, number)) if frame[0] == frames.BIND]
    assert said == [stream.id for stream in (*streams[2:], *streams[:2])]


def test_eof_and_reset_are_repeated_when_their_carrier_dies() -> None:
    pair = Pair()
    ended, far_ended = pair.open()
    broken, _ = pair.open()
    ended.send_eof(pair.now)
    broken.reset(Reason.CANCELLED, pair.now)
    pair.drain(pair.client, 1)
    pair.lose(1)
    pair.attach()
    pair.pump()
    assert [e.stream for e in pair.said(pair.bridge, events.EofReceived)] == [far_ended]
    assert not pair.client.tombstones
    assert broken.id not in pair.bridge.streams


def test_the_lost_last_acknowledgement_is_answered_gone() -> None:
    """R17, R18: one side has forgotten; the other repeats its EOF and hears GONE."""
    pair = Pair()
    near, far = pair.open()
    near.send_eof(pair.now)
    pair.pump()
    far.send_eof(pair.now)
    pair.give(pair.client, 1, pair.drain(pair.bridge, 1))
    pair.drain(pair.client, 1)  # the WINDOW that is lost
    assert near.over
    pair.lose(1)
    pair.attach()
    pair.wait(1)
    assert pair.said(pair.bridge, events.StreamFinished)
    assert pair.client.idle
    assert pair.bridge.idle


def test_a_debt_that_dies_with_its_carrier_moves() -> None:
    """R9: bytes came on one carrier, their WINDOW was said there, and there alone it is lost."""
    pair = Pair(carriers=2)
    near, far = pair.open(carrier=1)
    near.send_data(b"abc", pair.now)
    pair.give(pair.bridge, 1, pair.drain(pair.client, 1))
    pair.client.bind(near, 2, pair.now)
    pair.give(pair.bridge, 2, pair.drain(pair.client, 2))
    assert far.debts == pair.bridge.carriers[1].bit | pair.bridge.carriers[2].bit
    pair.wait(0.01)
    pair.drain(pair.bridge, 2)
    pair.tell(pair.bridge, pair.bridge.carrier_lost(1, pair.now))
    assert frames.WINDOW in kinds(pair.drain(pair.bridge, 2))


def test_the_bridge_asks_when_only_it_has_noticed() -> None:
    pair = Pair(carriers=2)
    near, far = pair.open(carrier=1)
    far.send_data(b"lost", pair.now)
    pair.drain(pair.bridge, 1)
    pair.tell(pair.bridge, pair.bridge.carrier_lost(1, pair.now))
    pair.bridge.carriers[2].closed.clear()  # even when the client does not hear of it
    pair.wait(1)
    assert near.carrier == far.carrier == 2
    assert pair.received[pair.client, near.id] == b"lost"


def test_every_ask_is_answered() -> None:
    """R14, R17: by BIND on the carrier of the question, GONE, RESET, or an error for what never was."""
    pair = Pair(carriers=2)
    near, _ = pair.open(carrier=1)
    gone, _ = pair.open()
    buried, _ = pair.open()
    for stream in (gone, buried):
        stream.reset(Reason.CANCELLED, pair.now)
    pair.client.carriers[1].resets.clear()
    pair.client.carriers[2].resets.clear()
    del pair.client.tombstones[gone.id]
    for stream, kind in ((near, frames.BIND), (gone, frames.GONE), (buried, frames.RESET)):
        pair.give(pair.client, 2, frames.ask(stream.id, 0, 0))
        assert kind in kinds(pair.drain(pair.client, 2))
    assert near.carrier == 2
    pair.give(pair.client, 2, frames.ask(near.id, 0, 0))
    assert kinds(pair.drain(pair.client, 2)) == [frames.BIND]
    with pytest.raises(SessionError):
        pair.give(pair.client, 2, frames.ask(98, 0, 0))


def test_no_voluntary_move_while_a_bind_is_owed() -> None:
    pair = Pair(carriers=3)
    near, _ = pair.open(carrier=1)
    pair.client.bind(near, 2, pair.now)
    pair.client.bind(near, 3, pair.now)
    assert near.carrier == 2
    pair.pump()
    pair.client.bind(near, 3, pair.now)
    assert near.carrier == 3
    with pytest.raises(LocalProtocolError):
        pair.client.bind(near, 9, pair.now)


def test_drain_repeats_nothing() -> None:
    """R15: silent until all is acknowledged on the old carrier, both ways."""
    pair = Pair(carriers=2)
    near, far = pair.open(carrier=1)
    near.send_data(BLOB, pair.now)
    far.send_data(BLOB, pair.now)
    up = pair.drain(pair.client, 1)
    down = pair.drain(pair.bridge, 1)
    pair.client.drain(near, 2, pair.now)
    near.send_data(b"after", pair.now)
    far.send_data(b"after", pair.now)
    moved = pair.drain(pair.client, 2)
    assert frames.MOVE in kinds(moved)
    assert frames.DATA not in kinds(moved)
    pair.give(pair.bridge, 2, moved)
    assert frames.DATA not in kinds(pair.drain(pair.bridge, 2) + pair.drain(pair.bridge, 1))
    pair.give(pair.bridge, 1, up)
    pair.give(pair.client, 1, down)
    sent = b""
    for _ in range(3):
        pair.wait(0.2)
        for carrier in (1, 2):
            sent += pair.drain(pair.client, carrier)
    pair.pump()
    assert pair.received[pair.bridge, near.id] == BLOB + b"after"
    assert pair.received[pair.client, far.id] == BLOB + b"after"
    assert near.sent == near.high == near.acknowledged or not near.draining
    assert far.carrier == 2


def test_a_drain_rewinds_when_the_old_carrier_dies_or_on_a_second_move() -> None:
    for second in ("death", "move"):
        pair = Pair(carriers=3)
        near, _ = pair.open(carrier=1)
        near.send_data(BLOB, pair.now)
        pair.drain(pair.client, 1)
        pair.client.drain(near, 2, pair.now)
        pair.give(pair.bridge, 2, pair.drain(pair.client, 2))
        if second == "death":
            pair.tell(pair.client, pair.client.carrier_lost(1, pair.now))
        else:
            pair.client.drain(near, 3, pair.now)
        pair.pump()
        assert pair.received[pair.bridge, near.id] == BLOB


def test_much_unacknowledged_waits_for_the_bridges_word() -> None:
    """R12: a client does not repeat what the bridge already has."""
    pair = Pair(Limits(resend_wait=1000))
    near, _ = pair.open()
    near.send_data(BLOB, pair.now)
    pair.give(pair.bridge, 1, pair.drain(pair.client, 1))
    pair.lose(1)
    pair.attach()
    sent = pair.drain(pair.client, 2)
    assert frames.DATA not in kinds(sent)
    pair.give(pair.bridge, 2, sent)
    pair.give(pair.client, 2, pair.drain(pair.bridge, 2))
    assert near.sent == near.acknowledged == len(BLOB)


def test_closed_is_told_and_late_carriers_are_refused() -> None:
    """R2."""
    pair = Pair(carriers=2)
    pair.tell(pair.client, pair.client.carrier_lost(1, pair.now))
    pair.pump()
    assert [e.carrier for e in pair.said(pair.bridge, events.CarrierGivenUp)] == [1]
    assert 1 not in pair.bridge.carriers
    for number, alive in ((1, ()), (2, (1,)), (0, ()), (9, (9,)), (9, (0,))):
        with pytest.raises(SessionError):
            pair.bridge.attach_carrier(number, alive, pair.now)
    late, alive = pair.client.next_carrier()
    fourth, alive4 = pair.client.next_carrier()
    assert (alive, alive4) == ((2,), (2, late))
    pair.tell(pair.client, pair.client.carrier_lost(late, pair.now))  # its dial failed
    pair.pump()
    with pytest.raises(SessionError):
        pair.bridge.attach_carrier(late, alive, pair.now)
    pair.client.attach_carrier(fourth, pair.now)
    pair.bridge.attach_carrier(fourth, alive4, pair.now)
    assert frames.CLOSED in kinds(pair.drain(pair.client, fourth))


def test_alive_closes_the_lower_ones_it_does_not_name() -> None:
    pair = Pair(carriers=2)
    pair.tell(pair.bridge, pair.bridge.attach_carrier(5, (2,), pair.now))
    assert [e.carrier for e in pair.said(pair.bridge, events.CarrierGivenUp)] == [1]
    for refused in (3, 4):
        with pytest.raises(SessionError):
            pair.bridge.attach_carrier(refused, (2,), pair.now)
    pair.bridge.attach_carrier(7, (2, 5, 6), pair.now)
    pair.bridge.attach_carrier(6, (2, 5), pair.now)  # ALIVE says nothing of higher numbers
    assert sorted(pair.bridge.carriers) == [2, 5, 6, 7]


def test_the_bridge_tells_a_new_carrier_what_it_regards_as_dead() -> None:
    pair = Pair()
    pair.tell(pair.bridge, pair.bridge.carrier_lost(1, pair.now))
    pair.attach()
    pair.pump()
    assert [e.carrier for e in pair.said(pair.client, events.CarrierGivenUp)] == [1]


def test_carriers_are_bounded() -> None:
    pair = Pair(Limits(max_carriers=2), carriers=2)
    with pytest.raises(SessionExhausted):
        pair.client.next_carrier()
    with pytest.raises(SessionError):
        pair.bridge.attach_carrier(3, (1, 2), pair.now)
    with pytest.raises(LocalProtocolError):
        pair.client.attach_carrier(77, pair.now)


def test_room_for_a_carrier_is_made_where_all_have_fallen_silent() -> None:
    """R2: suspect carriers first, those silent the longest before the others, then those without streams."""
    pair = Pair(Limits(max_carriers=3), carriers=3)
    streams = [pair.open(carrier=number)[0] for number in (1, 2)]
    pair.pump()
    pair.said(pair.client)
    pair.tell(pair.client, pair.client.make_room(pair.now))
    assert [e.carrier for e in pair.said(pair.client)] == [3], "it carries nothing"
    assert pair.attach() == 4
    streams += [pair.open(carrier=4)[0]]
    assert not pair.client.make_room(pair.now), "each is needed, and none is suspect"
    for stream in (streams[1], streams[0]):
        stream.send_data(b"nobody hears this", pair.now)
        pair.drain(pair.client, stream.carrier or 0)
        pair.now += 0.1
    for _ in range(40):
        pair.now += 0.1
        pair.tell(pair.client, pair.client.on_deadline(pair.now))
        pair.drain(pair.client, 1)
        pair.drain(pair.client, 2)
    assert {e.carrier for e in pair.said(pair.client, events.CarrierSuspected)} == {1, 2}
    pair.tell(pair.client, pair.client.make_room(pair.now))
    assert len(pair.said(pair.client, events.CarrierGivenUp)) == 1
    assert pair.attach() == 5
    pair.pump()
    assert all(stream.carrier in pair.client.carriers for stream in streams)


def test_goaway_of_a_carrier_empties_and_closes_it() -> None:
    pair = Pair(carriers=2)
    near, far = pair.open(BLOB, carrier=1)
    pair.bridge.send_goaway(1)
    pair.pump()
    assert [e.carrier for e in pair.said(pair.client, events.GoawayReceived)] == [1]
    pair.wait(3)
    assert near.carrier == far.carrier == 2
    assert [e.carrier for e in pair.said(pair.client, events.CarrierGivenUp)] == [1]
    assert [e.carrier for e in pair.said(pair.bridge, events.CarrierGivenUp)] == [1]
    assert pair.client.open_stream(TARGET, b"", pair.now).carrier == 2


def test_goaway_of_the_only_carrier_waits_for_another() -> None:
    pair = Pair()
    near, _ = pair.open()
    pair.client.send_goaway(1)
    pair.pump()
    assert near.carrier == 1
    pair.attach()
    pair.pump()
    assert near.carrier == 2
    pair.wait(3)
    assert list(pair.client.carriers) == [2]


def test_goaway_of_the_session() -> None:
    pair = Pair()
    near, far = pair.open()
    crossing = pair.client.open_stream(TARGET, b"", pair.now)
    pair.bridge.send_goaway(None)
    pair.pump()
    assert [e.carrier for e in pair.said(pair.client, events.GoawayReceived)] == [None]
    assert pair.bridge.tombstones == {}
    with pytest.raises(LocalProtocolError):
        pair.client.open_stream(TARGET, b"", pair.now)
    with pytest.raises(LocalProtocolError):
        pair.bridge.open_stream(TARGET, b"", pair.now)
    near.send_data(b"still", pair.now)
    pair.pump()
    assert pair.received[pair.bridge, far.id] == b"still"
    assert crossing.over


def test_a_silent_carrier_becomes_suspect_and_is_replaced() -> None:
    """R20: dialled beside, bound there, closed only once the new one has answered."""
    pair = Pair()
    near, _ = pair.open()
    near.send_data(b"into the void", pair.now)
    pair.drain(pair.client, 1)
    void = pair.now
    while not pair.said(pair.client, events.CarrierSuspected):
        pair.now = pair.client.deadline() or pair.now
        pair.tell(pair.client, pair.client.on_deadline(pair.now))
        assert pair.now < void + 2
    pair.attach()
    assert 1 in pair.client.carriers
    assert near.carrier == 2
    pair.give(pair.bridge, 2, pair.drain(pair.client, 2))
    assert 1 in pair.client.carriers
    pair.give(pair.client, 2, pair.drain(pair.bridge, 2))
    assert [e.carrier for e in pair.said(pair.client, events.CarrierGivenUp)] == [1]
    assert pair.received[pair.bridge, near.id] == b"into the void"
    pair.pump()
    assert 1 not in pair.bridge.carriers


def test_late_answers_clear_a_suspicion() -> None:
    pair = Pair()
    near, _ = pair.open()
    pair.wait(5)
    near.send_data(b"slow", pair.now)
    sent = pair.drain(pair.client, 1)
    assert frames.PING not in kinds(sent), "mostly an answer comes before it is asked for"
    pair.now += pair.limits.ping_after
    pair.tell(pair.client, pair.client.on_deadline(pair.now))
    sent += pair.drain(pair.client, 1)
    assert frames.PING in kinds(sent)
    pair.now += 1.5
    pair.tell(pair.client, pair.client.on_deadline(pair.now))
    assert pair.client.carriers[1].suspect
    pair.give(pair.bridge, 1, sent)
    pair.pump()
    assert not pair.client.carriers[1].suspect
    assert pair.client.carriers[1].rtt == pytest.approx(1.5)
    near.send_data(b"slow", pair.now)
    pair.drain(pair.client, 1)
    pair.now += 3
    pair.tell(pair.client, pair.client.on_deadline(pair.now))
    assert not pair.client.carriers[1].suspect  # 4 RTT are 6 s now


def test_a_way_that_has_become_slower_is_not_suspect_at_once() -> None:
    """R20: an answer after 0.9 s, where it took none before: asked after 0.4 s, it is waited for."""
    pair = Pair()
    near, _ = pair.open()
    pair.wait(5)
    near.send_data(b"slow", pair.now)
    sent = pair.drain(pair.client, 1)
    sent_at = pair.now
    while pair.now < sent_at + 0.85:
        pair.now += 0.1
        pair.tell(pair.client, pair.client.on_deadline(pair.now))
        sent += pair.drain(pair.client, 1)
        assert not pair.client.carriers[1].suspect
    pair.give(pair.bridge, 1, sent)
    pair.pump()
    pair.wait(5)
    assert not pair.client.carriers[1].suspect


def test_a_silent_carrier_is_suspect_a_second_after_what_it_swallowed() -> None:
    """R20: the second runs from the byte that was sent, however lately a PING could leave."""
    pair = Pair()
    near, _ = pair.open()
    pair.wait(5)
    for text in (b"asked lately", b"swallowed"):
        near.send_data(text, pair.now)
        sent_at, sent = pair.now, pair.drain(pair.client, 1)
        while text == b"asked lately" and pair.now < sent_at + 0.5:
            pair.now += 0.05
            pair.tell(pair.client, pair.client.on_deadline(pair.now))
            sent += pair.drain(pair.client, 1)
        if text == b"asked lately":
            pair.give(pair.bridge, 1, sent)
            pair.pump()
    while pair.now < sent_at + 0.95:
        pair.now += 0.05
        pair.tell(pair.client, pair.client.on_deadline(pair.now))
        pair.drain(pair.client, 1)
        assert not pair.client.carriers[1].suspect
    pair.now = sent_at + 1.01
    pair.tell(pair.client, pair.client.on_deadline(pair.now))
    assert pair.client.carriers[1].suspect


def test_idle_carriers_are_not_pinged() -> None:
    pair = Pair()
    pair.open(b"x")
    pair.wait(60)
    assert pair.client.deadline() is None
    assert pair.bridge.deadline() is None
    pair.wait(3600)
    assert pair.drain(pair.client, 1) == b""


def test_a_lost_session_ends_what_left_and_carries_over_the_rest() -> None:
    """R19."""
    pair = Pair()
    near, _ = pair.open()
    tomb, _ = pair.open()
    tomb.reset(Reason.CANCELLED, pair.now)
    pair.tell(pair.client, pair.client.carrier_lost(1, pair.now))
    waiting = pair.client.open_stream(TARGET, b"never left", pair.now)
    number, _ = pair.client.next_carrier()
    pair.said(pair.client)
    told = pair.client.session_lost(pair.now)
    assert [(e.stream, e.reason) for e in told] == [(near, Reason.SESSION_LOST)]
    fresh = Pair(carriers=0)
    fresh.client, client = pair.client, fresh.client
    fresh.told[fresh.client] = fresh.told.pop(client)
    fresh.client.attach_carrier(number, pair.now)
    fresh.bridge.attach_carrier(number, (), pair.now)
    fresh.pump()
    assert fresh.received[fresh.bridge, waiting.id] == b"never left"
    assert list(fresh.bridge.streams) == [waiting.id]
    opened = fresh.bridge.open_stream(TARGET, b"", pair.now)
    fresh.pump()
    assert opened.id in fresh.client.streams


def test_opened_survives_its_carrier() -> None:
    pair = Pair()
    near = pair.client.open_stream(TARGET, b"", pair.now)
    pair.pump()
    pair.bridge.streams[near.id].accept(pair.now)
    pair.drain(pair.bridge, 1)
    pair.lose(1)
    pair.attach()
    pair.pump()
    assert len(pair.said(pair.client, events.StreamAccepted)) == 1


def test_challenge_and_proof_are_opaque() -> None:
    pair = Pair()
    pair.client.send_challenge(1, b"c" * 1024)
    pair.bridge.send_proof(1, b"p")
    pair.client.send_proof(9, b"to nobody")
    pair.pump()
    assert [(e.carrier, e.data) for e in pair.said(pair.bridge)] == [(1, b"c" * 1024)]
    assert [(e.carrier, e.data) for e in pair.said(pair.client)] == [(1, b"p")]
    for _ in range(8):
        pair.client.send_challenge(1, b"c")
    with pytest.raises(LocalProtocolError):
        pair.client.send_challenge(1, b"c")


def test_the_client_alone_binds_and_the_bridge_alone_asks() -> None:
    pair = Pair()
    near, _ = pair.open()
    with pytest.raises(SessionError):
        pair.give(pair.client, 1, frames.bind(frames.BIND, near.id, 9, 0, 0))
    with pytest.raises(SessionError):
        pair.give(pair.bridge, 1, frames.ask(near.id, 0, 0))
