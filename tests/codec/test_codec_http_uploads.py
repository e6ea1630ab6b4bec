"""The http codec's bridge: uploads repeated and out of order, shared connections, HTTP/1.0 upstream."""

from __future__ import annotations

import random

import pytest
from http_rig import (
    OPENING,
    SETTINGS,
    Bridge,
    Direct,
    Rig,
    cookie_of,
    get,
    noise,
    post,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from ptproxy.codec.http import HTTP
from ptproxy.codec.http_records import POLL, POST, STREAM
from ptproxy.codec.http_tokens import GET_WINDOW, POST_PAST, POST_WINDOW
from ptproxy.codec.http_uploads import MAX_EARLY
from ptproxy.codec.interface import NotMine, OpeningReceived

# ---- uploads: repeated, out of order -----------------------------------------------------------------


@pytest.mark.parametrize("cut_at", [0, 50, 700, 40_000])
def test_an_upload_that_breaks_off_is_sent_again(cut_at):
    rig = Rig().open()
    rig.send_up(b"first")
    for pipe in rig.live:
        pipe.up_open = False
    data = noise(70_000)
    rig.send_up(data)
    broken = next(pipe for pipe in rig.live if pipe.up)
    rig.happened(broken.bridge.receive_data(bytes(broken.up[:cut_at]), rig.now), broken.bridge)
    broken.cut()
    for pipe in rig.live:
        pipe.up_open = True
    rig.run()
    assert rig.up == b"first" + data
    assert rig.ended == {}


def test_an_upload_whose_answer_is_lost_is_received_once():
    rig = Rig().open()
    for pipe in rig.live:
        pipe.down_open = pipe.client.exchange is not None
    rig.send_up(b"once")
    lost = rig.busy("POST")[0]
    assert lost.down.startswith(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n")
    lost.cut()
    rig.run()
    rig.send_up(b" and on")
    assert rig.up == b"once and on"
    assert rig.ended == {}


def test_an_upload_that_fails_twice_ends_the_carrier():
    rig = Rig().open()
    for attempt in range(2):
        assert rig.ended == {}
        for pipe in rig.live:
            pipe.up_open = False
        if not attempt:
            rig.client.send_data([b"lost"], rig.now)
        rig.run()
        for pipe in rig.live:
            pipe.up_open = False
        rig.busy("POST")[0].cut(bridge_knows=False)
        while rig.client.links_wanted > len(rig.live):
            pipe = Direct(rig, rig.client.open_link())
            pipe.up_open = False
            rig.pipes.append(pipe)
    assert rig.ended == {"client": "connection lost"}


@pytest.mark.parametrize("status", ["404 Not Found", "502 Bad Gateway", "302 Found", "408 Request Timeout"])
def test_an_upload_that_is_refused_goes_once_more_over_a_fresh_connection(status):
    rig = Rig().open()
    for pipe in rig.live:
        pipe.up_open = False
    rig.client.send_data([b"again"], rig.now)
    rig.run()
    refused = rig.busy("POST")[0]
    answer = f"HTTP/1.1 {status}\r\nContent-Length: 3\r\n\r\nabc".encode()
    rig.happened(refused.client.receive_data(answer, rig.now), None)
    assert refused.client.closing
    for pipe in rig.live:
        pipe.up_open = True
    rig.run()
    assert rig.up == b"again"
    assert rig.ended == {}


@given(st.permutations(range(12)), st.randoms(use_true_random=False))
def test_uploads_in_any_order_within_the_window(order, rng):
    bridge = Bridge()
    parts = [noise(rng.randrange(300), number) for number in range(12)]
    for number in order:
        link = bridge.link()
        answer = bridge.feed(link, post(number, parts[number], pad=rng.randrange(50)))
        assert answer.startswith(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n")
        if rng.random() < 0.3:
            assert bridge.feed(bridge.link(), post(number, parts[number])) == answer
    assert bridge.up == b"".join(parts)


@given(st.data())
@settings(max_examples=60)
def test_uploads_broken_off_repeated_and_mixed_arrive_once(data):
    bridge = Bridge()
    count = 5
    parts = [noise(data.draw(st.integers(0, 200)), number) for number in range(count)]
    links = {}
    for _ in range(data.draw(st.integers(0, 25))):
        number = data.draw(st.integers(0, count - 1))
        link, rest = links.pop(number, (None, b""))
        if link is None or data.draw(st.booleans()):
            if link is not None:
                link.receive_eof(bridge.now)
            link, rest = bridge.link(), post(number, parts[number], pad=data.draw(st.integers(0, 9)))
        size = data.draw(st.integers(0, len(rest)))
        bridge.feed(link, rest[:size])
        if size < len(rest):
            links[number] = link, rest[size:]
        assert b"".join(parts).startswith(bridge.up)
    for number in range(count):
        bridge.feed(bridge.link(), post(number, parts[number]))
    assert bridge.up == b"".join(parts)


def test_too_many_early_uploads_end_the_carrier():
    bridge = Bridge()
    body = noise(150_000)
    for number in range(1, MAX_EARLY + 2):
        assert bridge.rig.ended == {}
        bridge.feed(bridge.link(), post(number, body))
    assert list(bridge.rig.ended) == ["bridge"]
    assert bridge.up == b""


def test_the_windows_move_on():
    bridge = Bridge()
    link = bridge.link()
    for number in range(POST_WINDOW + POST_PAST + 5):
        bridge.feed(link, post(number, b"x"))
    last = POST_WINDOW + POST_PAST + 4
    assert len(bridge.rig.reception.tokens) == POST_WINDOW + POST_PAST + 2 * GET_WINDOW
    assert bridge.feed(link, post(last - POST_PAST + 1, b"x")).startswith(b"HTTP/1.1 200")
    assert bridge.feed(link, post(last - POST_PAST - 1, b"x")).startswith(b"HTTP/1.1 404")
    assert bridge.feed(link, post(last + POST_WINDOW, b"")).startswith(b"HTTP/1.1 200")
    assert bridge.feed(link, post(last + POST_WINDOW + 1, b"")).startswith(b"HTTP/1.1 404")
    assert bridge.up == b"x" * (last + 1)


@pytest.mark.parametrize(
    "body",
    [b"", b"\0", b"\0\0\0\5abcd", b"\2\0\0\1x", b"\xff\0\0\0"],
    ids=["empty", "short", "cut", "flag 2", "flags"],
)
def test_a_body_that_is_none_ends_its_carrier_only(body):
    bridge = Bridge()
    link = bridge.link()
    other = HTTP.client(SETTINGS, bytes(100), random.Random(5))
    neighbour = other.open_link()
    request = f"POST /secret/path HTTP/1.1\r\nContent-Length: {len(body)}\r\n{cookie_of(POST, 0)}\r\n"
    answer = bridge.feed(link, request.encode() + body)
    assert list(bridge.rig.ended) == ["bridge"]
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert link.closing
    fresh = bridge.link()
    events = fresh.receive_data(b"".join(map(bytes, neighbour.data_to_send())), bridge.now)
    assert [type(event) for event in events] == [OpeningReceived]


# ---- connections that a front shares between carriers -------------------------------------------------


def test_two_carriers_on_one_connection_do_not_meet():
    bridge = Bridge()
    link = bridge.link()
    bridge.feed(link, post(0, b"mine"))
    client = HTTP.client(SETTINGS, bytes(150), random.Random(9))
    opening = b"".join(map(bytes, client.open_link().data_to_send()))
    (event,) = link.receive_data(opening, bridge.now)
    assert type(event) is OpeningReceived
    other = event.accept(bytes(32), bridge.now)
    other.send_data([b"hello"], bridge.now)
    assert b"Content-Length" in b"".join(map(bytes, link.data_to_send()))
    assert not link.closing
    bridge.feed(link, post(1, b" too"))
    assert bridge.up == b"mine too"
    assert link.receive_eof(bridge.now) == []


def test_an_opening_refused_on_a_shared_connection_is_a_404():
    bridge = Bridge()
    link = bridge.link()
    bridge.feed(link, post(0, b"mine"))
    client = HTTP.client(SETTINGS, bytes(150), random.Random(9))
    opening = b"".join(map(bytes, client.open_link().data_to_send()))
    (event,) = link.receive_data(opening, bridge.now)
    event.refuse()
    assert b"".join(map(bytes, link.data_to_send())).startswith(b"HTTP/1.1 404 Not Found\r\n")
    bridge.feed(link, post(1, b" too"))
    assert bridge.up == b"mine too"


def test_requests_without_a_name():
    bridge = Bridge()
    stranger = b"POST /secret/path HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
    assert [type(event) for event in bridge.link().receive_data(stranger, bridge.now)] == [NotMine]
    link = bridge.link()
    bridge.feed(link, post(0, b"x"))
    answer = bridge.feed(link, stranger + post(1, b"y"))
    first, _, second = answer.partition(b"</html>\r\n")
    assert first.startswith(b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\n")
    assert second.startswith(b"HTTP/1.1 200 OK\r\n")
    assert bridge.up == b"xy"
    assert bridge.feed(link, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").startswith(
        b"HTTP/1.1 404"
    )
    assert link.closing


@pytest.mark.parametrize(
    "request_bytes",
    [post(1, b"x", kind=STREAM), get(POST, 1), post(0, b"x", extra="Transfer-Encoding: chunked\r\n")],
    ids=["POST with a GET's name", "GET with a POST's name", "two lengths"],
)
def test_odd_requests_on_a_fresh_connection_are_the_sites(request_bytes):
    bridge = Bridge()
    link = bridge.link()
    assert [type(event) for event in link.receive_data(request_bytes, bridge.now)] == [NotMine]
    assert link.data_to_send() == []
    assert bridge.rig.ended == {}


def test_requests_in_a_row_are_answered_in_order():
    bridge = Bridge()
    link = bridge.link()
    rows = post(0, b"a") + get(POLL, 1) + post(1, b"b") + post(2, b"c") + get(STREAM, 2)
    assert bridge.feed(link, rows).count(b"HTTP/1.1 200 OK") == 1
    assert bridge.up == b"a"
    bridge.carrier.send_data([b"answer"], bridge.now)
    bridge.carrier.links_to_flush()
    assert bridge.carrier.deadline() <= bridge.now
    bridge.rig.happened(bridge.carrier.on_deadline(bridge.now), None)
    answers = b"".join(map(bytes, link.data_to_send()))
    assert bridge.up == b"abc"
    assert answers.index(b"answer") < answers.index(b"Content-Length: 0") < answers.index(b"chunked")


def test_endless_pipelining_is_cut_off():
    bridge = Bridge()
    link = bridge.link()
    bridge.feed(link, get(STREAM, 1))
    bridge.feed(link, bytes(70_000))
    assert link.closing
    assert bridge.rig.ended == {"bridge": "download connection lost"}


# ---- HTTP/1.0 upstream ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "extra"), [("1.0", ""), ("1.0", "Connection: close\r\n"), ("1.1", "Connection: close\r\n")]
)
def test_a_front_that_uses_a_connection_a_request(version, extra):
    bridge = Bridge()
    link = bridge.link()
    assert bridge.feed(link, post(0, b"x", version=version, extra=extra)).startswith(b"HTTP/1.1 200")
    assert link.closing
    down = bridge.link()
    head = bridge.feed(down, get(STREAM, 1, version=version, extra=extra))
    assert (b"chunked" in head) == (version == "1.1")
    assert b"Connection: close\r\n" in head
    bridge.carrier.send_data([b"payload"], bridge.now)
    bridge.carrier.links_to_flush()
    assert b"\0\0\0\7payload" in b"".join(map(bytes, down.data_to_send()))
    assert not down.closing
    bridge.carrier.close(bridge.now)
    bridge.carrier.links_to_flush()
    assert down.closing
    tail = b"".join(map(bytes, down.data_to_send()))
    assert tail.endswith(b"0\r\n\r\n") == (version == "1.1")
    assert b"\5\0\0" in tail


@pytest.mark.parametrize(("last", "ended"), [(b"\4\0\0\0", []), (b"", ["download cut short"])])
def test_a_body_that_ends_with_the_connection_is_complete_only_with_its_last_record(last, ended):
    client = HTTP.client(SETTINGS, OPENING, random.Random(0))
    link = client.open_link()
    link.data_to_send()
    (event,) = link.receive_data(b"HTTP/1.0 200 OK\r\n\r\n\2\0\0\0\0\0\0\4more" + last, 0.0)
    assert event.data == b"more"
    assert [event.reason for event in link.receive_eof(0.0)] == ended
    assert link.closing
