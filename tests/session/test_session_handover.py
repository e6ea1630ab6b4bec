"""A bridge's session that is handed over to another process: whole, or not at all."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from session_pair import TARGET, Pair
from walk_handover import HandoverWalk
from walk_oracle import Fault

from ptproxy.errors import LocalProtocolError, Reason, SessionError, StateError
from ptproxy.session import BridgeSession, Limits, RetentionBudget
from ptproxy.session.handover import SessionRecord, StreamRecord

FIRST = int(os.environ.get("PTPROXY_WALK_SEED", "0"))
WALKS = 240
"""A sample; ``scripts/walk --handover`` walks in bulk."""


def test_the_walk_survives_handovers() -> None:
    handovers = 0
    print(f"seeds {FIRST} to {FIRST + WALKS - 1}")
    for seed in range(FIRST, FIRST + WALKS):
        walk = HandoverWalk(seed)
        try:
            walk.run()
        except Fault as fault:
            pytest.fail(f"scripts/walk --handover --replay {seed}: {type(fault).__name__}: {fault}")
        handovers += walk.handovers
    assert handovers > WALKS


FORGETFUL = {
    "a tombstone": lambda record: replace(record, tombstones=[]),
    "ids seen": lambda record: replace(
        record,
        seen=[(stream.id >> 1, (stream.id >> 1) + 1) for stream in record.streams if not stream.id & 1],
    ),
    "carriers given up": lambda record: replace(record, dead=[], closed_lately=[]),
    "GOAWAY": lambda record: replace(record, flags=0),
    **{
        name: lambda record, name=name, change=change: replace(
            record,
            streams=[
                changed if _is_sound(changed := change(stream)) else stream for stream in record.streams
            ],
        )
        for name, change in {
            "that a stream is blocked": lambda stream: replace(stream, flags=stream.flags & ~16),
            "that it was accepted": lambda stream: replace(stream, flags=stream.flags & ~2),
            "what was granted": lambda stream: replace(stream, granted=stream.read),
            "its end": lambda stream: replace(stream, final=None, high=stream.start + len(stream.data)),
            "the other end": lambda stream: replace(
                stream,
                peer_final=None,
                received=stream.received if stream.peer_final is None else stream.peer_final,
            ),
            "a byte": lambda stream: replace(stream, data=bytes(len(stream.data))),
            "what was read": lambda stream: replace(stream, read=0),
        }.items()
    },
}
"""Records that lack something, each by itself sound.

The limit and the generation are not among them: the BINDs that follow say both again.
"""


def _is_sound(stream: StreamRecord) -> bool:
    try:
        stream.check()
    except StateError:
        return False
    return True


@pytest.mark.parametrize("what", FORGETFUL)
def test_the_walk_misses_what_is_not_handed_over(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parse = SessionRecord.parse
    forget = FORGETFUL[what]
    monkeypatch.setattr(SessionRecord, "parse", staticmethod(lambda data: forget(parse(data))))
    monkeypatch.setattr("walk_handover.CHECKED", False)
    for seed in range(FIRST, FIRST + 1500):
        try:
            HandoverWalk(seed).run()
        except Fault:
            return
    pytest.fail(f"1,500 walks do not miss {what}")


def handed_over() -> bytes:
    """A record with a bit of everything."""
    pair = Pair()
    for size in (0, 5, 30_000):
        stream = pair.client.open_stream(TARGET, b"x" * size, pair.now)
        pair.pump()
        there = pair.bridge.streams[stream.id]
        there.accept(pair.now)
        there.send_data(bytes(range(256)) * (1 + size // 256), pair.now)
    pair.pump()
    pair.bridge.streams[2].send_data(b"not sent yet", pair.now)
    pair.bridge.streams[4].send_eof(pair.now)
    pair.bridge.open_stream(TARGET, b"", pair.now)
    pair.client.open_association(TARGET, pair.now)
    pair.pump()
    pair.bridge.streams[6].reset(Reason.LIMIT, pair.now)
    pair.bridge.carrier_lost(1, pair.now)
    return pair.bridge.to_record().serialize()


RECORD = handed_over()


def test_only_a_session_without_carriers_is_handed_over() -> None:
    pair = Pair()
    with pytest.raises(LocalProtocolError):
        pair.bridge.to_record()
    pair.bridge.carrier_lost(1, pair.now)
    pair.bridge.to_record()
    pair.bridge.close(Reason.SHUTDOWN, pair.now)
    with pytest.raises(LocalProtocolError):
        pair.bridge.to_record()


def test_it_comes_back_as_it_was() -> None:
    record = SessionRecord.parse(RECORD)
    budget = RetentionBudget(1 << 20)
    session = BridgeSession.from_record(record, Limits(), budget, 5.0)
    assert session.to_record().serialize() == RECORD
    assert budget.used == sum(len(stream.data) for stream in record.streams) > 0
    assert len(record.tombstones) == 1
    assert [stream.id for stream in record.streams] == [2, 3, 4, 8]
    assert "not sent" not in repr(record)


def test_a_truncated_one_is_refused_whole() -> None:
    for size in range(len(RECORD)):
        if size < 600 or size % 97 == 0 or size > len(RECORD) - 100:
            with pytest.raises(StateError):
                SessionRecord.parse(RECORD[:size])
    with pytest.raises(StateError):
        SessionRecord.parse(RECORD + b"\0")


@given(st.binary(max_size=400))
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(StateError):
        SessionRecord.parse(b"\0\0\0\0\0\0\0\1" + data)  # 1 is no next id: whatever follows, it is garbage


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, len(RECORD) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_one_is_refused_or_is_sound(changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(RECORD)
    for place, value in changes:
        damaged[place] = value
    try:
        record = SessionRecord.parse(bytes(damaged))
        session = BridgeSession.from_record(record, Limits(), None, 0.0)
    except StateError:
        return
    assert session.to_record().serialize() == bytes(damaged)
    for number in (1000, 1001):
        with contextlib.suppress(SessionError):  # it may say that all carriers were given up
            session.attach_carrier(number, (), 0.0)
        while number in session.ready:
            session.data_to_send(number, 1 << 16, 0.0)
        session.carrier_lost(number, 0.0)
    session.on_deadline(1e9)
    session.close(Reason.SHUTDOWN, 1e9)
    assert session.account.retained == 0


def test_more_gaps_than_the_limits_allow_are_refused() -> None:
    record = replace(SessionRecord.parse(RECORD), dead=[(2 * i, 2 * i + 1) for i in range(1, 6)])
    record.closed_lately = []
    with pytest.raises(StateError):
        BridgeSession.from_record(record, Limits(max_intervals=4), None, 0.0)
