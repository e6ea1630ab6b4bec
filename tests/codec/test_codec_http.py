"""The http codec's carriers: the ordinary course, rotation, close, nonsense."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from http_rig import OPENING, SETTINGS, Bridge, Cutting, H11Front, Rig, get, noise, post
from hypothesis import given, settings
from hypothesis import strategies as st

from ptproxy.codec.http import HTTP
from ptproxy.codec.http_client import MAX_LINKS
from ptproxy.codec.http_downloads import FIRST_QUOTA
from ptproxy.codec.http_posts import BODY_SIZES, MAX_UPLOAD, MAX_UPLOADS
from ptproxy.codec.http_records import DATA, FIN, HELLO, NEXT, STREAM, record
from ptproxy.codec.interface import CarrierEnded, NotMine, PayloadReceived, SiteAnswered
from ptproxy.errors import CodecError, LocalProtocolError

# ---- the ordinary course ----------------------------------------------------------------------------


def test_payload_both_ways_through_h11():
    rig = Rig(front=H11Front).open()
    for turn in range(40):
        data = noise(turn * 37 + 1, turn)
        rig.send_up(data)
        rig.send_down(data)
        assert rig.up == rig.down == data
        rig.up.clear()
        rig.down.clear()
    big = noise(3 << 20)
    rig.send_up(big)
    rig.send_down(big)
    assert rig.up == rig.down == big
    requests = [request for pipe in rig.pipes for request in pipe.requests]
    assert {request.method for request in requests} == {b"GET", b"POST"}
    assert {request.target for request in requests} == {b"/secret/path"}
    for request in requests:
        names = [name for name, _ in request.headers.raw_items()]
        if request.method == b"POST":
            assert names[:3] == [b"Host", b"Connection", b"Content-Length"]
            assert b"Origin" in names
        assert names[-1] == b"Cookie"
        assert b"Transfer-Encoding" not in names
    for answer in (answer for pipe in rig.pipes for answer in pipe.answers):
        assert answer.status_code == 200
        headers = dict(answer.headers)
        assert b"no-store" in headers[b"cache-control"]
        if b"transfer-encoding" in headers:
            assert headers[b"x-accel-buffering"] == b"no"
    rig.client.close(rig.now)
    rig.run()
    assert rig.ended == {"client": "", "bridge": ""}


def test_every_request_has_its_own_name():
    rig = Rig().open()
    for turn in range(20):
        rig.send_up(noise(10, turn))
    sent = b"".join(bytes(pipe.sent_up) for pipe in rig.pipes)
    cookies = [line for line in sent.split(b"\r\n") if line.startswith(b"Cookie: ")]
    tokens = [cookie.split(b"=")[1][:24] for cookie in cookies]
    assert len(tokens) == len(set(tokens)) == 22
    assert OPENING not in sent


def test_small_uploads_have_sizes_of_the_shape_and_large_ones_none():
    rig = Rig().open()
    lengths = []
    for turn in range(60):
        rig.send_up(noise(64, turn))
    for line in b"".join(bytes(pipe.sent_up) for pipe in rig.pipes).split(b"\r\n"):
        if line.startswith(b"Content-Length: "):
            lengths.append(int(line.split()[1]))
    assert len(lengths) == 60
    assert max(lengths) <= BODY_SIZES[1]
    assert len(set(lengths)) > 30
    rig.send_up(noise(10_000))
    sent = b"".join(bytes(pipe.sent_up) for pipe in rig.pipes)
    assert b"\r\nContent-Length: 10004\r\n" in sent


def test_payload_of_several_calls_travels_in_one_post():
    rig = Rig().open()
    for turn in range(5):
        rig.client.send_data([noise(100, turn)], rig.now)
    rig.run()
    assert rig.up == b"".join(noise(100, turn) for turn in range(5))
    assert sum(bytes(pipe.sent_up).count(b"POST /") for pipe in rig.pipes) == 1


def test_uploads_in_flight_are_bounded_and_room_comes_back():
    rig = Rig().open()
    for _ in range(20):
        for pipe in rig.live:
            pipe.down_open = False
        rig.send_up(noise(70_000))
        if not rig.client.room():
            break
    assert len(rig.busy("POST")) == MAX_UPLOADS
    assert rig.client.room() == 0
    assert rig.client.links_wanted <= MAX_LINKS
    before = rig.writable
    for pipe in rig.live:
        pipe.down_open = True
    rig.run()
    assert rig.client.room() == MAX_UPLOAD
    assert rig.writable > before


def test_an_idle_connection_that_ends_is_not_replaced_before_it_is_needed():
    rig = Rig().open()
    rig.send_up(b"x")
    for pipe in rig.live:
        if pipe.client.exchange is None:
            pipe.cut()
    rig.run()
    assert rig.client.links_wanted == len(rig.live) == 1
    rig.send_up(b"y")
    assert rig.up == b"xy"
    assert rig.ended == {}


def test_what_a_tired_web_server_says_on_an_idle_connection_is_not_an_error():
    rig = Rig().open()
    rig.send_up(b"x")
    idle = next(pipe for pipe in rig.live if pipe.client.exchange is None)
    assert idle.client.receive_data(b"HTTP/1.1 408 Request Timeout\r\n\r\n", rig.now) == []
    assert idle.client.closing
    rig.send_up(b"y")
    assert rig.up == b"xy"


# ---- downloads: rotation, age, pads ---------------------------------------------------------------


def test_downloads_follow_one_another_by_quota_without_a_pause():
    rig = Rig().open()
    total = 0
    for turn in range(40):
        data = noise(400_000, turn)
        rig.send_down(data)
        total += len(data)
        assert rig.down == data, "nothing waits for a next GET"
        rig.down.clear()
    gets = sum(bytes(pipe.sent_up).count(b"GET /") for pipe in rig.pipes)
    assert total > 14 * FIRST_QUOTA
    assert gets == 1 + 4 + (total > 15 * FIRST_QUOTA), "1, 2, 4, 8 MiB, then the one that is open"


def test_an_idle_download_is_padded_and_renewed_by_age():
    rig = Rig().open()
    rig.wait(60)
    assert rig.ended == {}
    gets = sum(bytes(pipe.sent_up).count(b"GET /") for pipe in rig.pipes)
    assert 1 + 3 <= gets <= 1 + 5
    rig.send_down(b"late")
    assert rig.down == b"late"


def test_no_silence_of_10_seconds_on_a_download():
    rig = Rig().open()
    silence, last = 0.0, -1
    for _ in range(600):
        rig.wait(0.1)
        size = sum(len(pipe.sent_down) for pipe in rig.pipes)
        silence = 0.0 if size != last else silence + 0.1
        last = size
        assert silence < 8.5


def test_what_overtakes_waits_for_its_turn():
    rig = Rig().open()
    rig.send_down(noise(FIRST_QUOTA // 2))  # the next GET is asked for
    first, second = sorted(rig.busy("GET"), key=lambda pipe: pipe.client.exchange.number)
    first.down_open = False
    rig.send_down(noise(FIRST_QUOTA, 1))  # ends the first
    rig.send_down(noise(1000, 2))  # on the second
    assert second.sent_down.endswith(b"\r\n")
    assert len(rig.down) == FIRST_QUOTA // 2
    first.down_open = True
    rig.run()
    assert rig.down == noise(FIRST_QUOTA // 2) + noise(FIRST_QUOTA, 1) + noise(1000, 2)


def test_a_download_cut_short_ends_the_carrier_on_both_sides():
    rig = Rig().open()
    rig.send_down(b"some")
    rig.busy("GET")[0].cut()
    assert set(rig.ended) == {"client", "bridge"}
    assert all(rig.ended.values())
    rig.run()
    assert rig.client.links_wanted == 0
    assert rig.live == []
    assert rig.reception.tokens == {}


def test_a_get_that_the_bridge_never_saw_is_sent_again():
    rig = Rig().open()
    rig.send_up(b"x")  # a spare connection is there
    rig.bridge.send_data([noise(FIRST_QUOTA // 2)], rig.now)
    for pipe in rig.live:
        pipe.up_open = pipe.client.exchange is not None
    rig.run()
    lost = [pipe for pipe in rig.live if pipe.up]
    assert len(lost) == 1
    lost[0].cut()
    rig.run()
    rig.send_down(noise(FIRST_QUOTA, 1))
    rig.send_down(b"on the next one")
    assert rig.down.endswith(b"on the next one")
    assert rig.ended == {}


def test_a_client_that_asks_no_more_is_given_up():
    rig = Rig()
    rig.run()
    rig.now += 31
    assert [type(event) for event in rig.bridge.on_deadline(rig.now)] == [CarrierEnded]
    assert rig.reception.tokens == {}


# ---- close -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["stream", "poll"])
@pytest.mark.parametrize("side", ["client", "bridge"])
def test_a_clean_close_carries_what_was_queued(side, mode):
    rig = Rig({"download": mode}).open()
    data = noise(2_500_000)
    codec = rig.client if side == "client" else rig.bridge
    codec.send_data([data], rig.now)
    codec.close(rig.now)
    rig.wait(1)
    assert (rig.up if side == "client" else rig.down) == data
    assert rig.ended == {"client": "", "bridge": ""}
    assert rig.live == []
    assert rig.reception.tokens == {}


def test_the_token_of_a_carrier_gone_by_opens_nothing():
    rig = Rig().open()
    rig.client.close(rig.now)
    rig.run()
    events = rig.reception.open_link().receive_data(get(STREAM, 2), rig.now)
    assert [type(event) for event in events] == [NotMine]
    with pytest.raises(LocalProtocolError, match="80 bytes"):
        HTTP.client(SETTINGS, bytes(79), random.Random(0))


def test_connections_that_end_as_soon_as_they_are_made_end_the_carrier():
    rig = Rig().open()
    rig.client.send_data([b"waits"], rig.now)
    made = 0
    for pipe in rig.live:
        if pipe.client.exchange is None:
            pipe.cut()
    while rig.client.links_wanted > len(rig.live):
        made += 1
        assert made < 20
        rig.happened(rig.client.open_link().receive_eof(rig.now), None)
    assert "as soon as they are made" in rig.ended["client"]


def test_the_last_post_says_so():
    rig = Rig().open()
    rig.client.close(rig.now)
    rig.run()
    sent = b"".join(bytes(pipe.sent_up) for pipe in rig.pipes)
    assert bytes([FIN, 0, 0, 0]) in sent


def test_a_close_that_nobody_answers_ends_by_itself():
    for side in ("client", "bridge"):
        rig = Rig().open()
        for pipe in rig.live:
            pipe.up_open = pipe.down_open = False
        codec = rig.client if side == "client" else rig.bridge
        if side == "bridge":
            rig.bridge._downloads._by_number.clear()
        codec.close(rig.now)
        rig.wait(4)
        assert side in rig.ended


# ---- answers that no bridge gives --------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n\x06\0\0\0",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n\4\0\0\0\4\0\0\0",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 9,
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 20_000,
    ],
)
def test_nonsense_in_place_of_an_answer(answer):
    for split in (False, True):
        client = HTTP.client(SETTINGS, OPENING, random.Random(0))
        link = client.open_link()
        link.data_to_send()
        with pytest.raises(CodecError):
            feed_all(link, answer, 1 if split else len(answer))
        assert link.closing
        assert client.links_wanted == 0


def feed_all(link, data, size):
    for start in range(0, len(data), size):
        link.receive_data(data[start : start + size], 0.0)


def test_interim_answers_are_passed_over():
    client = HTTP.client(SETTINGS, OPENING, random.Random(0))
    link = client.open_link()
    link.data_to_send()
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n\0\0\0\4abcd\4\0\0\0"
    (event,) = link.receive_data(hint + answer, 0.0)
    assert type(event) is PayloadReceived
    assert event.data == b"abcd"


def test_next_before_the_bridge_is_proved_asks_for_nothing():
    """Whoever answers in place of the bridge can say it; there is no key yet to name a request with."""
    client = HTTP.client(SETTINGS, OPENING, random.Random(1))
    link = client.open_link()
    link.data_to_send()
    body = record(HELLO) + record(NEXT)
    link.receive_data(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" + body, 0.0)
    fresh = client.open_link()
    assert not fresh.data_to_send()
    link.receive_data(record(DATA, b"message 2"), 0.0)
    client.authenticated(bytes(32))
    assert fresh.data_to_send()


def test_a_refused_opening_ends_the_carrier_with_the_status():
    client = HTTP.client(SETTINGS, OPENING, random.Random(0))
    link = client.open_link()
    link.data_to_send()
    date = "Sun, 22 Nov 2026 20:00:00 GMT"
    head = f"HTTP/1.1 404 Not Found\r\nDate: {date}\r\nContent-Length: 2\r\n\r\n"
    with pytest.raises(SiteAnswered, match="status 404") as caught:
        link.receive_data(head.encode(), 0.0)
    assert caught.value.date == date
    assert client.links_wanted == 0


@given(st.binary(max_size=300), st.integers(0, 3))
@settings(max_examples=150)
def test_garbage_at_the_client_raises_only_codec_errors(data, where):
    rig = Rig(seed=where).open()
    rig.send_up(b"x")
    pipe = rig.live[where % len(rig.live)]
    try:
        pipe.client.receive_data(data, rig.now)
        pipe.client.receive_eof(rig.now)
    except CodecError:
        assert rig.client.links_wanted == 0


@given(st.binary(max_size=300), st.booleans(), st.lists(st.integers(0, 300)))
@settings(max_examples=150)
def test_garbage_at_the_bridge_raises_nothing(data, joined, cuts):
    bridge = Bridge()
    link = bridge.link()
    if joined:
        bridge.feed(link, post(0, b"x"))
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    for start, end in pairwise(edges):
        bridge.feed(link, data[start:end])
    link.receive_eof(bridge.now)
    assert bridge.rig.ended == {}


@given(st.lists(st.integers(1, 60), min_size=1), st.integers(0, 2**30))
@settings(max_examples=30)
def test_any_split_gives_the_same(sizes, seed):
    whole = Rig({"download": "poll"} if seed % 2 else None, seed=seed).open()
    payload = noise(400, seed)
    whole.send_down(payload)
    whole.send_up(payload)
    client = HTTP.client(SETTINGS, OPENING, random.Random(seed))
    reception = HTTP.reception(SETTINGS, random.Random(seed + 1))
    rig = Rig(seed=seed)
    rig.client, rig.reception = client, reception
    rig.front = type("Cutting", (Cutting,), {"sizes": sizes})
    rig.open()
    rig.send_down(payload)
    rig.send_up(payload)
    assert (rig.up, rig.down) == (whole.up, whole.down) == (payload, payload)
