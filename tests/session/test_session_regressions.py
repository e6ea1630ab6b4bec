"""Faults that random walks have found, each as small as it becomes; and the walks that found them."""

from __future__ import annotations

import pytest
from session_pair import TARGET, Pair
from walk import Walk

from ptproxy.session import Limits, events, frames

SEEDS = (1175809, 4024896, 6000479)
"""Walks that once ended in a fault, and still do with its mutant: R12-latest, R7-open-limit, R12-first."""


@pytest.mark.parametrize("seed", SEEDS)
def test_a_walk_that_once_found_a_fault(seed: int) -> None:
    Walk(seed).run()


def test_a_repeated_open_tells_of_room_that_only_it_permits() -> None:
    """R6, R7 (seed 4024896): the WINDOW that raised the limit is lost, and the OPEN said again raises it."""
    pair = Pair(Limits(initial_window=6))
    pair.consume = False
    near = pair.client.open_stream(TARGET, b"", pair.now)
    pair.give(pair.bridge, 1, pair.drain(pair.client, 1))
    far = pair.bridge.streams[near.id]
    far.accept(pair.now)
    far.send_data(b"123456", pair.now)
    pair.lose(1)  # nothing that acknowledges the OPEN arrives
    pair.attach()
    pair.give(pair.bridge, 2, pair.drain(pair.client, 2))
    pair.give(pair.client, 2, pair.drain(pair.bridge, 2))
    pair.give(pair.bridge, 2, pair.drain(pair.client, 2))
    assert (far.acknowledged, far.send_room()) == (6, 0)
    near.consume(6, pair.now)
    pair.drain(pair.client, 2)  # the WINDOW that is lost
    pair.said(pair.bridge)
    pair.lose(2)
    pair.attach()
    pair.pump()
    assert [e.stream for e in pair.said(pair.bridge, events.StreamWritable)] == [far]
    assert far.send_room() > 0


def test_a_repeated_open_lets_waiting_bytes_go() -> None:
    """R6, R7: the same, when bytes wait for the credit and the stream stays on its carrier."""
    pair = Pair(Limits(initial_window=6))
    pair.give(pair.client, 1, frames.open_header(3, 0, 0, 6, TARGET, 0))
    stream = pair.client.streams[3]
    stream.accept(pair.now)
    stream.send_data(b"123456789", pair.now)
    pair.drain(pair.client, 1)
    assert (stream.sent, stream.send_room() > 0) == (6, False)
    pair.give(pair.client, 1, frames.open_header(3, 0, 0, 12, TARGET, 0))
    assert pair.client.ready == {1}
    pair.drain(pair.client, 1)
    assert stream.sent == 9
    assert pair.said(pair.client, events.StreamWritable)


def test_a_stream_that_owed_a_bind_leaves_later() -> None:
    """R14, R25: GOAWAY finds a BIND owed, so the stream may not move; it must not stay for good."""
    pair = Pair(carriers=2)
    near, far = pair.open(carrier=2)
    pair.client.bind(near, 1, pair.now)
    pair.bridge.send_goaway(1)
    pair.give(pair.client, 1, pair.drain(pair.bridge, 1))
    assert near.carrier == 1
    pair.pump()
    pair.wait(3)
    assert (near.carrier, far.carrier) == (2, 2)
    assert set(pair.client.carriers) == {2}


def test_nothing_is_bound_to_a_carrier_that_is_left() -> None:
    """R25: neither a move nor a new stream goes there, even if the application names it."""
    pair = Pair(carriers=2)
    near, _ = pair.open(carrier=2)
    pair.client.send_goaway(1)
    pair.client.bind(near, 1, pair.now)
    pair.client.drain(near, 1, pair.now)
    assert near.carrier == 2
    assert pair.client.open_stream(TARGET, b"", pair.now, 1).carrier == 2


def test_an_open_acknowledged_late_brings_both_sides_to_one_carrier() -> None:
    """R11, R14: the safety net has moved an OPEN on, and its acknowledgement comes before it is repeated."""
    pair = Pair(carriers=2)
    far = pair.bridge.open_stream(TARGET, b"knock", pair.now, 1)
    pair.give(pair.client, 1, pair.drain(pair.bridge, 1))
    near = pair.client.streams[far.id]
    near.accept(pair.now)
    pair.now += 11
    pair.tell(pair.bridge, pair.bridge.on_deadline(pair.now))
    assert (near.carrier, far.carrier) == (1, 2)
    pair.give(pair.bridge, 1, pair.drain(pair.client, 1))
    pair.pump()
    assert near.carrier == far.carrier
    assert pair.received[pair.client, far.id] == b"knock"


def test_an_open_taken_to_a_dead_carrier_comes_back_to_where_the_client_has_the_stream() -> None:
    """R12 (seed 6000479): what the bridge chose for its OPEN yields to the client's BIND of generation 0."""
    pair = Pair(carriers=2)
    far = pair.bridge.open_stream(TARGET, b"", pair.now, 1)
    pair.give(pair.client, 1, pair.drain(pair.bridge, 1))
    pair.client.streams[far.id].accept(pair.now)
    pair.now += 11
    pair.tell(pair.bridge, pair.bridge.on_deadline(pair.now))
    assert far.carrier == 2
    pair.give(pair.bridge, 1, pair.drain(pair.client, 1))
    far.send_data(b"lost", pair.now)
    for _ in range(3):
        pair.drain(pair.bridge, 2)  # nobody knows that this carrier is dead
        pair.give(pair.client, 1, pair.drain(pair.bridge, 1))
        pair.give(pair.bridge, 1, pair.drain(pair.client, 1))
        pair.now += 11
        pair.tell(pair.bridge, pair.bridge.on_deadline(pair.now))
    assert far.carrier == 1
    assert pair.received[pair.client, far.id] == b"lost"
