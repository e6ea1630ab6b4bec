"""The http codec's carriers: order, repetition, loss, rotation, poll, close."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from http_rig import KEY, OPENING, SETTINGS, Buffering, Direct, H11Front, Rig, Slow
from hypothesis import given, settings
from hypothesis import strategies as st

from ptproxy.codec.http import HTTP
from ptproxy.codec.http_client import MAX_LINKS, MAX_POLLS, MIN_POLLS
from ptproxy.codec.http_downloads import FIRST_QUOTA, MAX_POLL
from ptproxy.codec.http_posts import BODY_SIZES, MAX_UPLOAD, MAX_UPLOADS
from ptproxy.codec.http_records import FIN, POLL, POST, STREAM, token_text
from ptproxy.codec.http_tokens import GET_WINDOW, POST_PAST, POST_WINDOW
from ptproxy.codec.http_uploads import MAX_EARLY
from ptproxy.codec.interface import CarrierEnded, CodecSettings, NotMine, OpeningReceived, PayloadReceived
from ptproxy.errors import CodecError, LocalProtocolError


def noise(size, seed=0):
    return random.Random(seed).randbytes(size)


def post(number, payload, *, flags=0, pad=0, version="1.1", extra="", kind=POST):
    """A POST as a client would send it."""
    cookie = cookie_of(kind, number)
    body = bytes([flags]) + len(payload).to_bytes(3, "big") + payload + bytes(pad)
    head = (
        f"POST /secret/path HTTP/{version}\r\nHost: x\r\nContent-Length: {len(body)}\r\n{cookie}{extra}\r\n"
    )
    return head.encode() + body


def get(kind, number, *, version="1.1", extra=""):
    head = f"GET /secret/path HTTP/{version}\r\nHost: x\r\n{cookie_of(kind, number)}{extra}\r\n"
    return head.encode()


def cookie_of(kind, number):
    name = HTTP.reception(SETTINGS, random.Random(0)).cookie
    return f"Cookie: {name}={token_text(KEY, kind, number).decode()}\r\n"


class Bridge:
    """A bridge's carrier, and bare links to it."""

    def __init__(self):
        self.rig = Rig()
        self.rig.run()
        self.now = self.rig.now
        self.carrier = self.rig.bridge

    def link(self):
        return self.rig.reception.open_link()

    def feed(self, link, data):
        """Feeds it, keeps the payload, returns what is answered."""
        self.rig.happened(link.receive_data(data, self.now), link)
        return b"".join(map(bytes, link.data_to_send()))

    @property
    def up(self):
        return bytes(self.rig.up)


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


# ---- long poll -------------------------------------------------------------------------------------------


def polls(rig):
    return [pipe for pipe in rig.busy("GET") if pipe.client.exchange.kind == POLL]


def test_polling_begins_where_the_front_buffers():
    rig = Rig(front=Buffering).open()
    assert rig.client.download == "auto"
    rig.send_up(b"confirm")
    rig.send_down(b"held up")
    assert rig.down == b""
    rig.wait(0.9)
    assert rig.down == b""
    rig.wait(0.3)
    assert rig.client.download == "poll"
    assert rig.down == b"held up", "what the front held comes out first"
    assert len(polls(rig)) == MIN_POLLS
    for turn in range(20):
        rig.send_down(noise(1000, turn))
        assert rig.down.endswith(noise(1000, turn))
    assert len(polls(rig)) == MAX_POLLS
    assert rig.ended == {}


def test_streaming_is_kept_where_the_front_does_not_buffer():
    rig = Rig().open()
    rig.wait(30)
    assert rig.client.download == "stream"


def test_a_slow_path_is_not_taken_for_a_buffering_front():
    front = type("Now", (Slow,), {})
    rig = Rig(front=front)
    rig.run()
    front.back = False
    rig.client.authenticated(KEY)
    rig.client.send_data([b"confirm"], rig.now)
    rig.wait(1.5)
    assert rig.client.download == "auto", "no round trip has been seen yet"
    front.passed = ("Upload",)
    rig.wait(2.5)
    assert rig.client.download == "auto", "three round trips of 1.5 s are not over"
    front.back = True
    rig.run()
    assert rig.client.download == "stream"


@pytest.mark.parametrize("mode", ["stream", "poll"])
def test_the_tunnel_can_say_how_to_download(mode):
    rig = Rig({"download": mode}, front=Buffering if mode == "poll" else Direct).open()
    rig.send_down(b"at once")
    assert rig.down == b"at once"
    assert rig.client.download == mode
    rig.wait(30)
    rig.send_down(b", later too")
    assert rig.down == b"at once, later too"


def test_an_unknown_way_to_download_is_an_error_of_ours():
    with pytest.raises(LocalProtocolError, match="auto, stream or poll"):
        HTTP.client(CodecSettings("h", "/", {"download": "sse"}), OPENING, random.Random(0))


def test_idle_polls_are_answered_within_8_seconds_and_fewer():
    rig = Rig({"download": "poll"}).open()
    rig.send_down(noise(5000))
    assert len(polls(rig)) == MAX_POLLS
    rig.wait(60)
    assert len(polls(rig)) == MIN_POLLS
    answered = sum(bytes(pipe.sent_down).count(b"HTTP/1.1 200") for pipe in rig.pipes)
    assert 10 < answered < 40
    assert rig.ended == {}


def test_much_payload_over_polls():
    rig = Rig({"download": "poll"}).open()
    data = noise(5 * MAX_POLL + 17)
    rig.send_down(data)
    assert rig.down == data
    room = rig.bridge.room()
    assert room == MAX_POLL
    for pipe in rig.live:
        pipe.down_open = False
    while rig.bridge.room():
        rig.send_down(noise(1000))
    rig.bridge.send_data([noise(MAX_POLL)], rig.now)
    before = rig.writable
    for pipe in rig.live:
        pipe.down_open = True
    rig.run()
    assert rig.writable > before
    assert rig.bridge.room() > 0


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


def test_a_refused_opening_ends_the_carrier_with_the_status():
    client = HTTP.client(SETTINGS, OPENING, random.Random(0))
    link = client.open_link()
    link.data_to_send()
    (event,) = link.receive_data(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n", 0.0)
    assert event == CarrierEnded(client, "the web server answered 404")


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


class Cutting(Direct):
    """Hands over a few bytes at a time."""

    sizes = (1,)

    def move(self):
        ends = self.client, self.bridge
        moved = super().move()
        assert ends == (self.client, self.bridge)
        return moved

    def __init__(self, rig, client):
        super().__init__(rig, Pieces(client, self.sizes))
        self.bridge = Pieces(self.bridge, self.sizes)


class Pieces:
    """A link that is fed its bytes in pieces."""

    def __init__(self, link, sizes):
        self._link = link
        self._sizes = sizes

    def __getattr__(self, name):
        return getattr(self._link, name)

    def receive_data(self, data, now):
        events = []
        at = turn = 0
        while at < len(data):
            size = self._sizes[turn % len(self._sizes)]
            piece = bytearray(data[at : at + size])
            for event in self._link.receive_data(piece, now):
                if type(event) is PayloadReceived:
                    event.data = bytes(event.data)
                events.append(event)
            piece[:] = bytes(len(piece))
            at += size
            turn += 1
        return events if at or data else self._link.receive_data(data, now)
