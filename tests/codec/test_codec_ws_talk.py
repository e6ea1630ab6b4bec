"""A WebSocket that a ticket opened: records in any split, lines of drawn sizes, nothing lost or kept."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.codec.interface import CodecSettings, OpeningReceived, PayloadReceived
from ptproxy.codec.shape import Shape, ShapeError
from ptproxy.codec.shape_talk import Talk, draw_size
from ptproxy.codec.websocket import WEBSOCKET
from ptproxy.codec.ws_talk import BURST, MOST_PAYLOAD, RECORD_HEAD, RecordReader, Talker, message, record
from ptproxy.proxy.shape_files import built_in

SHAPE = built_in()
UP, DOWN = SHAPE.chat.up.talk, SHAPE.chat.down.talk
TICKET = bytes(range(16))


def read(reader: RecordReader, data: bytes) -> bytes:
    return b"".join(map(bytes, reader.receive_data(data)))


@given(st.lists(st.tuples(st.binary(max_size=300), st.integers(0, 255)), max_size=8), st.data())
def test_records_read_the_same_however_they_are_split(parts, data):
    whole = b"".join(record(payload, padding) for payload, padding in parts)
    reader = RecordReader()
    got = b""
    at = 0
    while at < len(whole):
        step = data.draw(st.integers(1, 80))
        got += read(reader, whole[at : at + step])
        at += step
    assert got == b"".join(payload for payload, _ in parts)


@given(st.binary(max_size=2000))
def test_garbage_is_some_records(garbage):
    reader = RecordReader()
    assert len(read(reader, garbage)) <= len(garbage)


@given(st.binary(max_size=400), st.integers(0, 2000))
def test_a_message_has_the_size_that_was_drawn(payload, size):
    made = message(payload, size)
    assert read(RecordReader(), made) == payload
    assert len(made) == max(size, RECORD_HEAD + len(payload))


def run(talker: Talker, now: float, until: float) -> list[tuple[float, bytes]]:
    """Everything a talker says of its own until then."""
    said = []
    for _ in range(10_000):
        due = talker.deadline()
        if due is None or due > until:
            return said
        now = max(now, due)
        said += [(now, one) for one in talker.messages(now)]
        talker.ping_due(now)
    raise AssertionError("a timer that is always due")


@given(st.lists(st.tuples(st.floats(0, 2), st.binary(min_size=1, max_size=400)), max_size=12), st.integers())
def test_all_payload_leaves_in_order_and_in_time(writes, seed):
    talker = Talker(random.Random(seed), UP)
    reader, got, now = RecordReader(), b"", 0.0
    for pause, payload in writes:
        for _, one in run(talker, now, now + pause):
            got += read(reader, one)
        now += pause
        for one in talker.add([payload], now):
            got += read(reader, one)
    for _, one in run(talker, now, now + 60):
        got += read(reader, one)
    assert got == b"".join(payload for _, payload in writes)
    assert talker.deadline() is None


def test_sizes_are_those_of_the_shape():
    rng = random.Random(5)
    talker = Talker(rng, UP)
    sizes = []
    now = 0.0
    for _ in range(300):
        sizes += [len(one) for one in talker.add([bytes(60)], now)]
        sizes += [len(one) for _, one in run(talker, now, now + 30)]
        now += 30
    assert max(sizes) <= 139
    assert 4 <= min(sizes) <= 6  # "is typing"
    assert 0.1 < sum(size <= 6 for size in sizes) / len(sizes) < 0.35


def test_an_answer_follows_lines_with_payload_or_without():
    talker = Talker(random.Random(6))
    assert len(talker.follow(DOWN, 10.0)) == 1
    talker.heard(10.5)
    assert talker.add([b"word"], 10.501) == []  # it goes with the answer
    assert 10.504 <= talker.deadline() <= 10.516
    (answer,) = talker.messages(talker.deadline())
    assert read(RecordReader(), answer) == b"word"
    talker.heard(11.0)
    (answer,) = talker.messages(talker.deadline())
    assert read(RecordReader(), answer) == b""
    assert 13 <= len(answer) <= 36


def lead(seed: int) -> Talker:
    talker = Talker(random.Random(seed))
    talker.follow(DOWN, 0.0)
    return talker


def test_a_chat_that_is_joined_goes_on_until_the_one_who_joined_speaks():
    counts = []
    for seed in range(200):
        talker = lead(seed)
        said = run(talker, 0.0, 4.9)
        assert all(read(RecordReader(), one) == b"" for _, one in said)
        counts.append(len(said))
    assert counts.count(0) > 100
    assert 20 < counts.count(1) < 80
    talker = next(t for t in (lead(seed) for seed in range(50)) if t.deadline() < 5.0)
    talker.heard(0.01)
    assert len(talker.messages(talker.deadline())) == 1  # the answer
    assert talker.deadline() == 5.0  # the ping


def test_what_is_no_chat_goes_at_once():
    talker = Talker(random.Random(7), UP)
    payload = random.Random(8).randbytes(3 * MOST_PAYLOAD)
    reader = RecordReader()
    assert read(reader, b"".join(talker.add([b"x" * 200], 0.0))) != b"x" * 200
    said = talker.add([payload], 0.001)
    assert len(said) == 4
    assert talker.deadline() is None
    talker.add([bytes(BURST)], 1.0)
    assert sum(len(read(RecordReader(), one)) for one in talker.rest()) > BURST - 200


def test_pings_as_the_shape_has_them():
    talker = Talker(random.Random(9))
    talker.follow(DOWN, 100.0)
    assert not talker.ping_due(104.9)
    assert talker.ping_due(105.0)
    assert not talker.ping_due(105.1)
    assert talker.deadline() == 110.0


# ---- the shape's figures ---------------------------------------------------------------------------


def test_talk_is_written_as_it_is_read():
    assert Shape.parse(SHAPE.to_mapping()) == SHAPE
    assert isinstance(UP, Talk)
    assert Shape.parse({"chat": {"up": {"talk": {}}}}, SHAPE).chat.up.talk is None


@pytest.mark.parametrize(
    ("talk", "says"),
    [
        ({"fit": 1}, "line: is missing"),
        ({"line": []}, "line: expected 1 to 4 lists"),
        ({"line": [[1]] * 5}, "line: expected 1 to 4 lists"),
        ({"line": [5]}, "line"),
        ({"line": [[9, 5]]}, "rising"),
        ({"line": [[5000]]}, "5000 is not between 1 and 4096"),
        ({"line": [[5]]}, "line: a line has 8 bytes at least"),
        ({"line": [[9]], "ping_s": 0.1}, "ping_s: 0.1 is less than 1"),
        ({"line": [[9]], "fit": 2}, "fit: 2 is not between 0 and 1"),
        ({"line": [[9]], "pause_ms": [0, 3000]}, "pause_ms: 3000 is not between 0 and 1000"),
        ({"line": [[9]], "ping": 3}, "did you mean ping_s?"),
    ],
)
def test_figures_of_talk_have_limits(talk, says):
    with pytest.raises(ShapeError) as raised:
        Shape.parse({"chat": {"up": {"talk": talk}}}, SHAPE)
    assert says in str(raised.value)


@given(st.lists(st.integers(1, 4096), min_size=1, max_size=32).map(sorted), st.integers(), st.integers(0, 9))
def test_a_drawn_size_lies_between_the_least_and_the_most(quantiles, seed, turn):
    size = draw_size((tuple(quantiles),), turn, random.Random(seed))
    assert quantiles[0] <= size <= quantiles[-1]


# ---- both ends -------------------------------------------------------------------------------------


def ends(shape=SHAPE.chat):
    """A client's and a bridge's end, the ticket accepted; and the upgrade."""
    settings = CodecSettings("example.org", "/chat", shape=shape)
    client = WEBSOCKET.client(settings, TICKET, random.Random(1))
    request = b"".join(map(bytes, client.open_link().data_to_send()))
    link = WEBSOCKET.reception(CodecSettings("example.org", "/chat"), random.Random(2)).open_link()
    (event,) = link.receive_data(request, 0.0)
    assert type(event) is OpeningReceived
    assert event.opening == TICKET
    bridge = event.accept(bytes(32), 0.0)
    if shape is not None:
        bridge.follow(shape)
    return client, bridge, request


def moved(sender, receiver, now):
    data = b"".join(map(bytes, sender.data_to_send()))
    return b"".join(
        bytes(event.data) for event in receiver.receive_data(data, now) if type(event) is PayloadReceived
    )


def test_the_upgrade_holds_the_ticket_where_a_browser_has_its_key():
    _, _, request = ends()
    assert b"Sec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw==\r\n" in request
    assert b"Cookie" not in request


@pytest.mark.parametrize("shape", [SHAPE.chat, None], ids=["talk", "as it comes"])
def test_both_ends_carry_what_they_are_given(shape):
    client, bridge, _ = ends(shape)
    assert moved(bridge, client, 0.0) == b""  # the 101, and a word of the server's that means nothing
    rng = random.Random(3)
    for sender, receiver in ((client, bridge), (bridge, client)):
        sent = got = b""
        now = 1.0
        for size in (5, 60, 300, 1, 5000, 70, 200_000, 40):
            payload = rng.randbytes(size)
            sent += payload
            sender.send_data([payload], now)
            got += moved(sender, receiver, now)
            while (due := sender.deadline()) is not None and due < now + 20 and len(got) < len(sent):
                sender.on_deadline(due)
                got += moved(sender, receiver, due)
            now += 30
        assert got == sent


def test_a_page_closes_without_a_code_and_a_server_with_one():
    client, bridge, _ = ends()
    moved(bridge, client, 0.0)
    client.send_data([bytes(300)], 1.0)
    client.close(1.0)
    said = b"".join(map(bytes, client.data_to_send()))
    assert said[-6:-4] == b"\x88\x80"
    events = bridge.receive_data(said, 1.1)
    assert sum(len(event.data) for event in events if type(event) is PayloadReceived) == 300
    assert events[-1].reason == ""
    assert b"".join(map(bytes, bridge.data_to_send()))[-4:] == b"\x88\x02\x03\xe8"


def test_nothing_is_said_before_the_answer_to_the_upgrade():
    settings = CodecSettings("example.org", "/chat", shape=SHAPE.chat)
    client = WEBSOCKET.client(settings, TICKET, random.Random(1))
    client.open_link().data_to_send()
    client.send_data([b"line"], 0.0)
    assert client.deadline() is None
    assert client.on_deadline(5.0) == []
    assert client.data_to_send() == []
