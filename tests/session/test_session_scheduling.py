"""R27 and R10: who sends first, how much at once, and what a drain costs."""

from __future__ import annotations

from collections import Counter

from session_pair import TARGET, Pair, frames_of

from ptproxy.session import Limits, Stream, events, frames

KIB = 1024


def bulk_streams(pair: Pair, count: int, size: int = 1 << 20) -> list[Stream]:
    """Streams with credit and data enough to fill any drain, past their interactive budget."""
    streams = [pair.open()[0] for _ in range(count)]
    for stream in streams:
        stream.limit = 1 << 40
        stream.send_data(bytes(size), pair.now)
    for _ in range(2 * count + 2):
        pair.drain(pair.client, 1, 32 * KIB)
    return streams


def test_a_stream_alone_sends_large_frames() -> None:
    pair = Pair()
    bulk_streams(pair, 1, 8 << 20)
    sizes = [len(f[3]) for f in frames_of(pair.drain(pair.client, 1, 1 << 20)) if f[0] == frames.DATA]
    assert max(sizes) == 256 * KIB
    assert sum(map(len, pair.client.data_to_send(1, 100 * KIB, pair.now))) <= 100 * KIB + 16


def test_a_second_active_stream_makes_frames_small() -> None:
    pair = Pair()
    bulk_streams(pair, 2)
    sizes = [len(f[3]) for f in frames_of(pair.drain(pair.client, 1, 1 << 19)) if f[0] == frames.DATA]
    assert max(sizes) == 16 * KIB


def test_a_drain_stops_at_its_budget() -> None:
    pair = Pair()
    bulk_streams(pair, 3)
    for budget in (1, 20_000, 100_000):
        assert budget <= len(pair.drain(pair.client, 1, budget)) <= budget + 16 * KIB + 16


def test_control_then_interactive_then_bulk() -> None:
    pair = Pair()
    chat, _ = pair.open()
    bulk_streams(pair, 1)
    chat.send_data(b"keystroke", pair.now)
    pair.client.send_challenge(1, b"c")
    order = [f[0:2] for f in frames_of(pair.drain(pair.client, 1, 64 * KIB))]
    assert order[0] == (frames.CHALLENGE, b"c")
    assert order[1] == (frames.DATA, chat.id)


def test_bulk_streams_share_alike() -> None:
    pair = Pair()
    streams = bulk_streams(pair, 4, 4 << 20)
    sent: Counter[int] = Counter()
    for _ in range(64):
        for frame in frames_of(pair.drain(pair.client, 1, 64 * KIB)):
            if frame[0] == frames.DATA:
                sent[frame[1]] += len(frame[3])
    shares = [sent[stream.id] for stream in streams]
    assert max(shares) - min(shares) <= 16 * KIB


def test_bulk_keeps_its_share_beside_many_interactive_streams() -> None:
    pair = Pair()
    chats = [pair.open()[0] for _ in range(200)]
    (bulk,) = bulk_streams(pair, 1, 8 << 20)
    of_bulk = total = 0
    for _ in range(40):
        for chat in chats:
            chat.limit = 1 << 40
            if not chat.retained:
                chat.send_data(bytes(8 * KIB), pair.now)
        for frame in frames_of(pair.drain(pair.client, 1, 256 * KIB)):
            if frame[0] == frames.DATA:
                total += len(frame[3])
                of_bulk += len(frame[3]) if frame[1] == bulk.id else 0
        for chat in chats:
            chat.burst = 0
            chat.acknowledged = chat.sent
            pair.client.account.release(chat.buffer.release(chat.sent), pair.now)
    assert total / 10 <= of_bulk <= total / 4


def test_a_stream_that_pauses_is_interactive_again() -> None:
    pair = Pair()
    (bulk,) = bulk_streams(pair, 1)
    session = pair.client
    assert not session._is_interactive(bulk, pair.now)
    assert session._is_interactive(bulk, pair.now + 0.3)


def test_idle_streams_are_not_looked_at() -> None:
    pair = Pair()
    streams = [pair.open()[0] for _ in range(300)]
    pair.wait(30)
    touched = []

    class Watched(dict):  # type: ignore[type-arg]
        def __iter__(self):  # type: ignore[no-untyped-def]
            touched.append("iter")
            return super().__iter__()

        def values(self):  # type: ignore[no-untyped-def]
            touched.append("values")
            return super().values()

        def items(self):  # type: ignore[no-untyped-def]
            touched.append("items")
            return super().items()

    pair.client.streams = Watched(pair.client.streams)
    pair.bridge.streams = Watched(pair.bridge.streams)
    for _ in range(20):
        streams[7].send_data(b"ping", pair.now)
        pair.pump()
        pair.now += 0.05
    assert touched == []


def test_small_writes_leave_as_one_frame() -> None:
    pair = Pair()
    near, _ = pair.open()
    for _ in range(50):
        near.send_data(b"x" * 10, pair.now)
    buffers = pair.client.data_to_send(1, 1 << 17, pair.now)
    data = [b for b in buffers if b[0] == frames.DATA]
    assert len(data) == 1
    assert len(data[0]) == 16 + 500


def test_resume_and_windows_are_cut_by_the_budget_and_go_on() -> None:
    pair = Pair(Limits(max_streams=4000))
    streams = [pair.client.open_stream(TARGET, b"", pair.now) for _ in range(1500)]
    pair.pump()
    pair.lose(1)
    pair.attach()
    drains = 0
    while pair.client.ready:
        data = pair.drain(pair.client, 2, 1000)
        assert len(data) <= 1000 + 48
        pair.give(pair.bridge, 2, data)
        drains += 1
    assert drains > 30
    pair.pump()
    assert {s.carrier for s in streams} == {s.carrier for s in pair.bridge.streams.values()} == {2}


def test_ready_names_the_carriers_with_something_to_send() -> None:
    pair = Pair(carriers=2)
    near, far = pair.open(carrier=2)
    assert pair.client.ready == pair.bridge.ready == set()
    near.send_data(b"x", pair.now)
    assert pair.client.ready == {2}
    pair.give(pair.bridge, 2, pair.drain(pair.client, 2))
    assert pair.client.ready == set()
    far.send_eof(pair.now)
    assert pair.bridge.ready == {2}
    pair.pump()
    assert pair.said(pair.client, events.EofReceived)


class Counting(list[bytes]):
    """A list that counts how often one of its items is looked at."""

    looks = 0

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        self.looks += 1
        return super().__getitem__(index)


def test_sending_costs_the_same_however_much_is_unacknowledged() -> None:
    for size in (64, 1400, 16 * KIB):
        pair = Pair()
        stream = pair.open()[0]
        stream.limit = 1 << 40
        stream.buffer._chunks = chunks = Counting(stream.buffer._chunks)
        for _ in range(400):
            stream.send_data(bytes(size), pair.now)
            pair.drain(pair.client, 1, 128 * KIB)
        assert len(chunks) == 400 if size > 1024 else len(chunks) < 100  # small ones are joined
        assert chunks.looks <= 4 * 400
