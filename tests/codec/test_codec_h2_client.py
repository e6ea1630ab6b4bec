"""The HTTP/2 client against the ``h2`` package as a server, and against servers that break the rules."""

from __future__ import annotations

import random

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_codec_h2_golden import agent, browser

from ptproxy.codec.http2 import frames
from ptproxy.codec.http2.client import H2Client
from ptproxy.codec.http2.frames import ErrorCode, FrameReader
from ptproxy.codec.http2.hpack import HpackEncoder
from ptproxy.codec.http2.stream import (
    ConnectionEnded,
    ConnectionEnding,
    DataReceived,
    HeadReceived,
    InterimReceived,
    StreamEnded,
    StreamReset,
)
from ptproxy.errors import CodecError, LocalProtocolError

BROWSERS = {name: browser(name) for name in ("chromium", "firefox")}
CHROMIUM = BROWSERS["chromium"]
HELLO = frames.settings_frame([(3, 128)])


def fields(kind="fetch", path="/x", profile=CHROMIUM, **more):
    variables = {"host": "site.example", "path": path, "referer": "https://site.example/", **agent(profile)}
    return profile.fields(kind, variables | more, ("sid=abc",))


class Pair:
    """A client joined to the ``h2`` package; every byte is cut anyhow on its way."""

    def __init__(self, seed=0, settings=None, profile=CHROMIUM):
        self.random = random.Random(seed)
        self.client = H2Client(profile.http2, 0.0)
        self.server = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding="latin-1")
        )
        self.server.local_settings = h2.settings.Settings(client=False, initial_values=settings or {})
        self.server.initiate_connection()
        self.seen, self.events, self.now = [], [], 0.0

    def exchange(self, rounds=6):
        for _ in range(rounds):
            for write in self.client.data_to_send():
                for event in self.server.receive_data(bytes(write)):
                    self.seen.append(event)
                    if isinstance(event, h2.events.DataReceived):
                        self.server.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            data = self.server.data_to_send()
            while data:
                size = self.random.randint(1, 5000)
                for event in self.client.receive_data(bytearray(data[:size]), self.now):
                    self.events.append(
                        DataReceived(event.stream, bytes(event.data))
                        if isinstance(event, DataReceived)
                        else event
                    )
                data = data[size:]

    def body(self, stream):
        return b"".join(e.data for e in self.events if isinstance(e, DataReceived) and e.stream is stream)


def server_side(reply):
    """A client with one request out, then whatever a server says."""
    client = H2Client(CHROMIUM.http2, 0.0)
    stream = client.send_request(fields(), 1, None, 0.0)
    client.data_to_send()
    return client, stream, client.receive_data(HELLO + reply, 0.1)


def head(status, number=1, more=(), end=False):
    block = HpackEncoder(CHROMIUM.http2.hpack).encode([(":status", str(status)), *more])
    return frames.headers_frames(number, block, end, None)


def data_frame(payload, number=1, flags=0):
    return frames.frame_head(frames.DATA, flags, number, len(payload)) + payload


# ---- with a server that keeps to the rules -------------------------------------------------------


@pytest.mark.parametrize("name", list(BROWSERS))
@pytest.mark.parametrize("seed", range(5))
def test_requests_and_answers(name, seed):
    profile = BROWSERS[name]
    pair = Pair(seed, {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 20000}, profile)
    bodies = [b"", bytes(1), random.Random(seed).randbytes(150000)]
    streams = []
    for number, body in enumerate(bodies):
        length = {"length": str(len(body)), "content_type": "text/plain", "origin": "https://site.example"}
        post = fields("post", f"/{number}", profile, **length)
        streams.append(pair.client.send_request(post, profile.requests["post"].urgency, [body], 0.0))
    get = pair.client.send_request(fields("fetch", "/get", profile), 1, None, 0.0)
    pair.exchange(40)
    got = {}
    for event in pair.seen:
        if isinstance(event, h2.events.DataReceived):
            got[event.stream_id] = got.get(event.stream_id, b"") + event.data
    assert [got.get(stream.number, b"") for stream in streams] == bodies
    requests = [dict(e.headers) for e in pair.seen if isinstance(e, h2.events.RequestReceived)]
    assert sorted(one[":path"] for one in requests) == ["/0", "/1", "/2", "/get"]
    assert all(one["cookie"] == "sid=abc" for one in requests)
    answer = random.Random(seed).randbytes(60000)
    pair.server.send_headers(get.number, [(":status", "200"), ("x-long", "v" * 300)])
    for at in range(0, len(answer), 10000):
        pair.server.send_data(get.number, answer[at : at + 10000], pad_length=at % 200)
    pair.server.send_headers(get.number, [("x-trailer", "t")], end_stream=True)
    pair.exchange()
    assert pair.body(get) == answer
    assert next(e for e in pair.events if isinstance(e, HeadReceived)).fields == [("x-long", "v" * 300)]
    assert next(e for e in pair.events if isinstance(e, StreamEnded)).trailers == [("x-trailer", "t")]


def test_a_large_download_is_never_held_up():
    pair = Pair()
    stream = pair.client.send_request(fields(), 1, None, 0.0)
    pair.exchange()
    pair.server.send_headers(stream.number, [(":status", "200")])
    left = 40 << 20
    while left:
        size = min(pair.server.local_flow_control_window(stream.number), 16384, left)
        assert size
        pair.server.send_data(stream.number, bytes(size), end_stream=size == left)
        left -= size
        if left % (1 << 20) < 16384:
            pair.exchange(2)
    pair.exchange()
    assert len(pair.body(stream)) == 40 << 20
    raised = [e for e in pair.seen if isinstance(e, h2.events.WindowUpdated) and e.stream_id]
    assert 8 <= len(raised) <= 13  # 40 MiB in steps of just above 3 MiB


def test_a_large_upload_goes_out_in_helpings():
    client = H2Client(CHROMIUM.http2, 0.0)
    wide = HELLO + frames.settings_frame([(4, 1 << 24)]) + frames.window_update_frame(0, 1 << 24)
    client.receive_data(wide, 0.0)
    client.send_request(fields("post"), 1, [bytes(1 << 20)], 0.0)
    sizes = []
    while not sizes or client.more_to_send:
        sizes.append(sum(map(len, client.data_to_send())))
    assert max(sizes) < 280 * 1024
    assert 1 << 20 < sum(sizes) < (1 << 20) + 2000


def test_ping_is_answered_and_settings_acknowledged():
    pair = Pair()
    pair.server.ping(b"12345678")
    pair.exchange()
    assert any(isinstance(e, h2.events.PingAckReceived) and e.ping_data == b"12345678" for e in pair.seen)
    assert any(isinstance(e, h2.events.SettingsAcknowledged) for e in pair.seen)


def test_streams_wait_for_the_servers_limit():
    pair = Pair(settings={h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 2})
    pair.exchange()
    streams = [pair.client.send_request(fields(path=f"/{n}"), 1, None, 0.0) for n in range(5)]
    pair.exchange()
    assert [stream.number for stream in streams] == [1, 3, 0, 0, 0]
    pair.server.send_headers(1, [(":status", "204")], end_stream=True)
    pair.exchange()
    assert [stream.number for stream in streams] == [1, 3, 5, 0, 0]


def test_goaway_refuses_what_the_server_has_not_taken():
    pair = Pair()
    streams = [pair.client.send_request(fields(path=f"/{n}"), 1, None, 0.0) for n in range(3)]
    pair.exchange()
    pair.server.close_connection(last_stream_id=streams[0].number)
    pair.exchange()
    refused = [e.stream for e in pair.events if isinstance(e, StreamReset)]
    assert refused == streams[1:]
    assert any(isinstance(e, ConnectionEnding) for e in pair.events)
    with pytest.raises(LocalProtocolError):
        pair.client.send_request(fields(), 1, None, 0.0)


def test_a_hello_that_others_sent_is_not_sent_again():
    client = H2Client(CHROMIUM.http2, 0.0)
    client.hello_was_sent()
    with pytest.raises(LocalProtocolError):
        client.hello_was_sent()
    client.send_request(fields("navigation", "/"), 0, None, 0.0)
    assert [bytes(write)[3] for write in client.data_to_send()] == [frames.HEADERS]
    with pytest.raises(LocalProtocolError):
        client.hello_was_sent()


def test_the_more_urgent_of_two_waiting_requests_opens_first():
    client = H2Client(CHROMIUM.http2, 0.0)
    image = client.send_request(fields("image", "/i"), 2, None, 0.0)
    style = client.send_request(fields("style", "/s"), 0, None, 0.0)
    client.data_to_send()
    assert (style.number, image.number) == (1, 3)


def test_a_request_given_up_before_it_opened_is_never_sent():
    client = H2Client(CHROMIUM.http2, 0.0)
    client.send_reset(client.send_request(fields(), 1, None, 0.0))
    assert len(client.data_to_send()) == 1


def test_a_silent_server_is_asked_and_given_up():
    client, _, _ = server_side(b"")
    assert client.deadline() is None
    client.send_request(fields(), 1, None, 10.2)
    writes = client.data_to_send()
    assert writes[-1] == frames.ping_frame(b"\0\0\0\0\0\0\0\1")
    assert client.deadline() == pytest.approx(20.2)
    assert client.on_deadline(20.1) == []
    events = client.on_deadline(20.3)
    assert isinstance(events[-1], ConnectionEnded)
    assert len(events) == 3
    assert client.receive_data(b"anything", 21.0) == []


# ---- with servers that do not --------------------------------------------------------------------

WRONG = {
    "no settings first": frames.ping_frame(bytes(8)),
    "a push": HELLO + frames.frame_head(frames.PUSH_PROMISE, 4, 1, 4) + bytes(4),
    "headers on an idle stream": HELLO + head(200, 3),
    "headers on an even stream": HELLO + head(200, 2),
    "data on an idle stream": HELLO + data_frame(b"x", 5),
    "a reset of an idle stream": HELLO + frames.reset_frame(7, 0),
    "a window for an idle stream": HELLO + frames.window_update_frame(9, 1),
    "an empty window update": HELLO + frames.window_update_frame(0, 0),
    "too wide a window": HELLO + frames.window_update_frame(0, frames.MAX_WINDOW),
    "a continuation of nothing": HELLO + frames.frame_head(frames.CONTINUATION, 4, 1, 0),
    "a block interrupted": HELLO + frames.frame_head(frames.HEADERS, 0, 1, 0) + frames.SETTINGS_ACK,
    "a block of another stream": HELLO
    + frames.frame_head(frames.HEADERS, 0, 1, 0)
    + frames.frame_head(frames.CONTINUATION, 4, 3, 0),
    "continuations without end": HELLO
    + frames.frame_head(frames.HEADERS, 0, 1, 0)
    + frames.frame_head(frames.CONTINUATION, 0, 1, 0) * 20,
    "a block that is no HPACK": HELLO + frames.frame_head(frames.HEADERS, 4, 1, 1) + b"\xff",
    "pings without end": HELLO + frames.ping_frame(bytes(8)) * 1100,
    "settings without end": HELLO * 1100,
    "more than the stream's window": HELLO + head(200) + data_frame(bytes(16384)) * 385,
}


@pytest.mark.parametrize("name", list(WRONG))
def test_what_a_server_must_not_send(name):
    client = H2Client(CHROMIUM.http2, 0.0)
    client.send_request(fields(), 1, None, 0.0)
    client.data_to_send()
    if name.startswith(
        "more than"
    ):  # renewed windows only count once they are written; this server does not care
        object.__setattr__(client._sender.streams[1].credit, "_at", 1 << 40)
    with pytest.raises(CodecError):
        client.receive_data(WRONG[name], 0.1)
    assert bytes(client.data_to_send()[-1])[3] == frames.GOAWAY
    assert client.receive_data(b"more", 0.2) == []


MALFORMED = {
    "no status": frames.frame_head(frames.HEADERS, 4, 1, 0),
    "a wrong status": head("2x0"),
    "two statuses": head(200, more=[(":status", "200")]),
    "a pseudo field of requests": head(200, more=[(":path", "/")]),
    "an upper case name": head(200, more=[("X-A", "1")]),
    "a connection field": head(200, more=[("transfer-encoding", "chunked")]),
    "a line end in a value": head(200, more=[("x-a", "1\r\nx-b: 2")]),
    "101": head(101),
    "1xx that ends": head(103, end=True),
    "1xx without end": head(103) * 9,
    "data before the head": data_frame(b"x"),
    "trailers that do not end": head(200) + head(200),
    "trailers with a status": head(200) + head(200, end=True),
    "too wide a stream window": frames.window_update_frame(1, frames.MAX_WINDOW),
    "an empty stream window update": frames.window_update_frame(1, 0),
}


@pytest.mark.parametrize("name", list(MALFORMED))
def test_a_malformed_response_ends_its_stream_only(name):
    client, stream, events = server_side(MALFORMED[name])
    assert events[-1] == StreamReset(stream, ErrorCode.PROTOCOL_ERROR)
    assert frames.reset_frame(1, ErrorCode.PROTOCOL_ERROR) in client.data_to_send()
    again = client.send_request(fields(), 1, None, 0.2)
    client.data_to_send()
    events = client.receive_data(head(204, again.number, end=True), 0.3)
    assert [type(e) for e in events] == [HeadReceived, StreamEnded]


def test_interim_responses_come_before_the_final_one():
    _, _, events = server_side(head(103, more=[("link", "</a.css>")]) + head(200, end=True))
    assert [type(e) for e in events] == [InterimReceived, HeadReceived, StreamEnded]


def test_what_comes_for_a_closed_stream_is_read_and_dropped():
    client, stream, _ = server_side(b"")
    client.send_reset(stream)
    block = HpackEncoder(CHROMIUM.http2.hpack)
    late = frames.headers_frames(1, block.encode([(":status", "200"), ("x-a", "1")]), False, None)
    assert client.receive_data(late + data_frame(b"late") + frames.reset_frame(1, 0), 0.1) == []
    again = client.send_request(fields(), 1, None, 0.2)
    client.data_to_send()
    indexed = frames.headers_frames(
        again.number, block.encode([(":status", "200"), ("x-a", "1")]), True, None
    )
    assert client.receive_data(indexed, 0.3)[0].fields == [("x-a", "1")]


def test_an_upload_stops_when_the_server_resets_after_its_answer():
    client = H2Client(CHROMIUM.http2, 0.0)
    stream = client.send_request(fields("post"), 1, [bytes(200000)], 0.0)
    client.data_to_send()
    events = client.receive_data(HELLO + head(413, end=True) + frames.reset_frame(1, 0), 0.1)
    assert [type(e) for e in events] == [HeadReceived, StreamEnded]
    assert client.data_to_send() == [frames.SETTINGS_ACK]
    assert stream.body == type(stream.body)()


@given(st.binary(max_size=300), st.booleans())
def test_garbage_raises_only_codec_errors(data, greeted):
    client = H2Client(CHROMIUM.http2, 0.0)
    client.send_request(fields(), 1, None, 0.0)
    client.data_to_send()
    try:
        client.receive_data((HELLO if greeted else b"") + data, 0.1)
    except CodecError:
        pass
    client.data_to_send()
    client.receive_eof()


FRAGMENTS = st.one_of(
    st.sampled_from(
        [HELLO, frames.SETTINGS_ACK, frames.ping_frame(bytes(8)), *MALFORMED.values(), *WRONG.values()]
    ),
    st.builds(lambda s, e: head(s, end=e), st.sampled_from([103, 200, 304]), st.booleans()),
    st.builds(data_frame, st.binary(max_size=40), st.sampled_from([1, 3]), st.integers(0, 15)),
    st.builds(frames.window_update_frame, st.sampled_from([0, 1, 3]), st.integers(0, 2**31 - 1)),
)


def run(data, cuts):
    """Everything that comes of a server's bytes: events and writes, however cut."""
    client = H2Client(CHROMIUM.http2, 0.0)
    streams = [client.send_request(fields("post"), 1, [bytes(70000)], 0.0) for _ in range(2)]
    seen, written, at = [], b"".join(map(bytes, client.data_to_send())), 0
    for cut in [*cuts, len(data)]:
        try:
            for event in client.receive_data(data[at:cut], 0.1):
                number = streams.index(event.stream) if hasattr(event, "stream") else -1
                if isinstance(event, DataReceived):
                    seen += [(number, bytes([byte])) for byte in bytes(event.data)]
                else:
                    seen.append((number, type(event), getattr(event, "status", 0), getattr(event, "code", 0)))
        except CodecError:
            seen.append("error")
            break
        at = cut
    return seen, written


@given(st.lists(FRAGMENTS, max_size=6), st.data())
def test_any_split_gives_the_same_events(parts, data):
    whole = HELLO + b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=12)))
    together, apart = run(whole, []), run(whole, cuts)
    if together[0] and together[0][-1] == "error":  # events of the call that raised are lost
        assert apart[0][-1] == "error"
    else:
        assert apart == together


def test_padding_counts_against_the_windows():
    client, _, _ = server_side(head(200))
    padded = frames.frame_head(frames.DATA, frames.PADDED, 1, 101) + b"\x63" + b"x" + bytes(99)
    events = client.receive_data(padded, 0.2)
    assert bytes(events[0].data) == b"x"
    assert FrameReader().empty
