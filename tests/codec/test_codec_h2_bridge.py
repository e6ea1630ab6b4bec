"""The bridge in the middle of an HTTP/2 connection; ``h2`` plays the client and the web server."""

from __future__ import annotations

import random

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ptproxy.codec.http2 import bridge as h2_bridge
from ptproxy.codec.http2.bridge import BridgeH2
from ptproxy.codec.http2.frames import (
    FRAME_HEAD,
    MAX_FRAME,
    PREFACE,
    SETTINGS,
    SETTINGS_ACK,
    frame_head,
    headers_frames,
    settings_frame,
)
from ptproxy.codec.http2.own import FIRST_WINDOW, BodyReceived, RequestEnded, StreamGone
from ptproxy.codec.http2.plain import encode_plainly
from ptproxy.errors import CodecError

PATH, OURS = "/live", "session=ours"


def no_judge(stream, fields, ends):
    raise AssertionError("nobody said what could be a client's")


def config(**sides):
    return h2.config.H2Configuration(header_encoding="latin-1", **sides)


class Rig:
    """Client, bridge and web server; bytes move in random pieces, answers are checked by the caller."""

    def __init__(self, seed=0, *, take=True, window=None, table=None):
        self.random = random.Random(seed)
        self.client = h2.connection.H2Connection(config(client_side=True))
        self.site = h2.connection.H2Connection(config(client_side=False))
        self.bridge = BridgeH2(PATH, "session", self.judge)
        self.take, self.judged = take, []
        self.bodies, self.complete, self.gone = {}, set(), set()
        self.got, self.heads, self.ended, self.resets = {}, {}, set(), {}  # at the client
        self.site_requests, self.site_bodies = {}, {}
        self.site_answers = {}
        self.site_raw = self.client_raw = b""
        self.client.initiate_connection()
        if window is not None:
            self.client.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
        if table is not None:
            self.client.update_settings({h2.settings.SettingCodes.HEADER_TABLE_SIZE: table})
        self.site.initiate_connection()

    def judge(self, stream, fields, ends):
        self.judged.append((stream, dict(fields), ends))
        return self.take

    def request(self, path, body=None, cookie=OURS):
        stream = self.client.get_next_available_stream_id()
        fields = [
            (":method", "POST" if body is not None else "GET"), (":scheme", "https"),
            (":authority", "a.example"), (":path", path), ("cookie", cookie), ("x-n", str(stream)),
        ]  # fmt: skip
        self.client.send_headers(stream, fields, end_stream=body is None)
        if body is not None:
            self.unsent = getattr(self, "unsent", {}) | {stream: body}
        return stream

    def send_bodies(self):
        for stream, body in list(getattr(self, "unsent", {}).items()):
            size = min(len(body), self.client.local_flow_control_window(stream), 16384)
            if size or not body:
                self.client.send_data(stream, body[:size], end_stream=size == len(body))
                self.unsent[stream] = body[size:]
                if size == len(body):
                    del self.unsent[stream]

    def pieces(self, data):
        while data:
            size = self.random.choice((1, 3, 9, 10, 100, 5000, 70000))
            yield data[:size]
            data = data[size:]

    def run(self):
        """Move everything until nothing moves."""
        moved = True
        while moved:
            moved = False
            self.send_bodies()
            for piece in self.pieces(self.client.data_to_send()):
                moved = True
                self.happened(self.bridge.receive_from_client(piece))
            for data in self.pieces(self.bridge.data_to_site()):
                moved = True
                self.site_raw += data
                for event in self.site.receive_data(data):
                    self.at_site(event)
            self.answer()
            for piece in self.pieces(self.site.data_to_send()):
                moved = True
                self.bridge.receive_from_site(piece)
            while True:
                data, events = self.bridge.data_to_client()
                self.happened(events)
                if not data:
                    break
                moved = True
                self.client_raw += data
                for piece in self.pieces(data):
                    for event in self.client.receive_data(piece):
                        self.at_client(event)

    def happened(self, events):
        for event in events:
            if isinstance(event, BodyReceived):
                self.bodies[event.stream] = self.bodies.get(event.stream, b"") + event.data
            elif isinstance(event, RequestEnded):
                self.complete.add(event.stream)
            elif isinstance(event, StreamGone):
                self.gone.add(event.stream)

    def at_site(self, event):
        if isinstance(event, h2.events.RequestReceived):
            self.site_requests[event.stream_id] = dict(event.headers)
            self.site_bodies[event.stream_id] = b""
        elif isinstance(event, h2.events.DataReceived):
            self.site_bodies[event.stream_id] += event.data
            self.site.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            size = int(self.site_requests[event.stream_id][":path"].partition("?=")[2] or 0)
            self.site.send_headers(
                event.stream_id, [(":status", "200"), ("x-site", "yes"), ("x-n", str(size))]
            )
            self.site_answers[event.stream_id] = bytes(i % 251 for i in range(size))

    def answer(self):
        for stream, body in list(self.site_answers.items()):
            size = min(len(body), self.site.local_flow_control_window(stream), 16384)
            if size or not body:
                self.site.send_data(stream, body[:size], end_stream=size == len(body))
                self.site_answers[stream] = body[size:]
                if size == len(body):
                    del self.site_answers[stream]

    def at_client(self, event):
        if isinstance(event, h2.events.ResponseReceived):
            self.heads[event.stream_id] = dict(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            self.got[event.stream_id] = self.got.get(event.stream_id, b"") + event.data
            self.client.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self.ended.add(event.stream_id)
        elif isinstance(event, h2.events.StreamReset):
            self.resets[event.stream_id] = event.error_code


def pattern(size):
    return bytes(i % 251 for i in range(size))


# ---- strangers -------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=60), max_size=8), st.booleans())
def test_a_strangers_bytes_are_passed_on_as_they_are(parts, begins_well):
    """Whatever they are: all but the beginning of a frame that may be a client's."""
    bridge = BridgeH2(PATH, "session", no_judge)
    said = [PREFACE, settings_frame([(4, 1 << 20)]), *parts] if begins_well else parts
    passed = b""
    for part in said:
        assert bridge.receive_from_client(part) == []
        passed += bridge.data_to_site()
    whole = b"".join(said)
    assert whole.startswith(passed)
    assert len(whole) - len(passed) < FRAME_HEAD + MAX_FRAME


@given(st.lists(st.binary(max_size=60), max_size=8))
@example([b"\0\0\1\4\0", b"\0\0\0\0"])
def test_the_web_servers_bytes_reach_a_stranger_as_they_are(parts):
    """Whatever they are: all but the beginning of a frame, and SETTINGS that are not complete."""
    bridge = BridgeH2(PATH, "session", no_judge)
    passed = b""
    for part in parts:
        bridge.receive_from_site(part)
        data, events = bridge.data_to_client()
        assert events == []
        passed += data
    whole = b"".join(parts)
    assert whole.startswith(passed)
    held = whole[len(passed) :]
    assert len(held) < FRAME_HEAD or (held[3] == SETTINGS and len(held) < FRAME_HEAD + MAX_FRAME)


def test_settings_longer_than_a_frame_may_be_are_not_waited_for():
    bridge = BridgeH2(PATH, "session", no_judge)
    said = frame_head(SETTINGS, 0, 0, MAX_FRAME + 6) + bytes(1000)
    bridge.receive_from_site(said)
    assert bridge.data_to_client()[0] == said


def test_nothing_is_held_of_what_cannot_be_a_request():
    bridge = BridgeH2(PATH, "session", no_judge)
    for part in (
        PREFACE[:5],
        PREFACE[5:],
        frame_head(0, 0, 1, 100),
        b"a",
        b"b" * 99,
    ):
        bridge.receive_from_client(part)
        assert bridge.data_to_site() == part
    broken = frame_head(1, 4, 1, 5) + b"\xff" * 5  # HEADERS that nobody can decode
    bridge.receive_from_client(broken)
    assert bridge.data_to_site() == broken
    bridge.receive_from_client(b"from here on it is not even looked at")
    assert bridge.data_to_site() == b"from here on it is not even looked at"


@pytest.mark.parametrize("seed", range(10))
def test_a_whole_visit_is_the_same_on_both_sides(seed):
    """With requests at our path, too, as long as the judge says no."""
    rig = Rig(seed, take=False)
    sent, received = b"", b""
    to_send = rig.client.data_to_send

    def noted(*args):
        nonlocal sent
        data = to_send(*args)
        sent += data
        return data

    rig.client.data_to_send = noted
    site_to_send = rig.site.data_to_send

    def noted_too(*args):
        nonlocal received
        data = site_to_send(*args)
        received += data
        return data

    rig.site.data_to_send = noted_too
    for path, body in (("/", None), (PATH, None), (f"{PATH}?=70000", b"x" * 30000), ("/b?=100000", None)):
        rig.request(path, body)
        rig.run()
    assert rig.site_raw == sent
    assert rig.client_raw == received
    assert [stream for stream, _, _ in rig.judged] == [3, 5]
    assert len(rig.site_requests) == 4


# ---- clients ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(15))
@pytest.mark.parametrize("window", [None, 1000, 1 << 20])
def test_streams_of_ours_and_of_the_web_server_side_by_side(seed, window):
    """Megabytes each way on both, so that every window is used up many times."""
    rig = Rig(seed, window=window)
    rig.client.increment_flow_control_window(rig.random.choice((1, 100000)))
    size = 60000 if window == 1000 else 400000
    ours, theirs = {}, {}
    for _ in range(12):
        body = pattern(rig.random.choice((0, 10, 50000))) if rig.random.random() < 0.5 else None
        if rig.random.random() < 0.5:
            ours[rig.request(PATH, body)] = body
        else:
            wanted = rig.random.choice((0, 5, size))
            theirs[rig.request(f"/page?={wanted}", body, cookie="a=b")] = (body, wanted)
        if rig.random.random() < 0.5:
            rig.run()
    rig.run()
    answers = {}
    for stream, body in ours.items():
        assert rig.bodies.get(stream, b"") == (body or b"")
        assert body is None or stream in rig.complete
        answers[stream] = pattern(rig.random.choice((0, 3, size)))
        rig.bridge.own.send_head(stream, [(":status", "200"), ("x-ours", "yes")], ends=not answers[stream])
        for at in range(0, len(answers[stream]), 50000):
            rig.bridge.own.send_body(stream, answers[stream][at : at + 50000])
        if answers[stream]:
            rig.bridge.own.end_body(stream)
    rig.run()
    for stream, answer in answers.items():
        assert rig.heads[stream] == {":status": "200", "x-ours": "yes"}
        assert rig.got.get(stream, b"") == answer
    for stream, (body, wanted) in theirs.items():
        assert rig.site_requests[stream]["x-n"] == str(stream)
        assert rig.site_bodies[stream] == (body or b"")
        assert rig.heads[stream]["x-site"] == "yes"
        assert rig.got.get(stream, b"") == pattern(wanted)
    assert rig.ended == {*ours, *theirs}
    assert rig.bridge.own.idle
    assert set(rig.site_requests) == set(theirs)
    # Neither side was given more of the connection's window than there is: h2 would have raised.
    last = rig.request("/last?=300000", cookie="a=b")
    rig.run()
    assert rig.got[last] == pattern(300000)


def test_the_web_servers_view_of_the_window_never_grows_by_ours():
    """A gigabyte of ours would overflow it, were it told of the credit."""
    rig = Rig()
    seen = []
    rig.run()
    for _ in range(40):
        stream = rig.request(PATH)
        rig.run()
        rig.bridge.own.send_head(stream, [(":status", "200")], ends=False)
        rig.bridge.own.send_body(stream, bytes(200000))
        rig.bridge.own.end_body(stream)
        rig.run()
        seen.append(rig.site.outbound_flow_control_window)
    assert max(seen) <= FIRST_WINDOW


def test_both_tables_stay_in_step():
    """Indexed fields of the web server's and of the client's, with ours in between."""
    rig = Rig(3)
    for path in ("/a?=1", PATH, "/b?=1", PATH, "/c?=1"):
        stream = rig.request(path)
        rig.run()
        if path == PATH:
            rig.bridge.own.send_head(
                stream, [(":status", "404"), ("x-site", "no"), ("x-long", "y" * 300)], ends=True
            )
            rig.run()
            assert rig.heads[stream]["x-long"] == "y" * 300
        else:
            assert rig.site_requests[stream][":path"] == path
            assert rig.heads[stream]["x-site"] == "yes"


def test_a_client_goes_on_when_the_web_server_has_closed():
    rig = Rig()
    kept = rig.request(PATH)
    rig.run()
    rig.site.close_connection(last_stream_id=0)
    rig.run()
    rig.bridge.site_ended()
    refused = rig.request("/a")
    rig.client.ping(b"12345678")
    rig.run()
    assert rig.resets == {refused: 7}
    rig.bridge.own.send_head(kept, [(":status", "200")], ends=False)
    rig.bridge.own.send_body(kept, b"on")
    assert not rig.bridge.own.idle
    rig.bridge.own.end_body(kept)
    rig.run()
    assert rig.got[kept] == b"on"
    assert kept in rig.ended
    assert rig.bridge.own.idle


def test_resets_of_both_sides_and_what_comes_after():
    rig = Rig()
    first, second = rig.request(PATH, b"x" * 10), rig.request(PATH)
    rig.run()
    rig.client.reset_stream(first)
    rig.bridge.own.reset(second)
    rig.run()
    assert rig.gone == {first}
    assert rig.resets == {second: 2}
    rig.bridge.own.send_head(first, [(":status", "200")], ends=False)  # too late, and no fault
    rig.bridge.own.send_body(first, b"x")
    rig.bridge.own.end_body(first)
    rig.run()
    assert rig.bridge.own.idle
    assert not rig.site_requests


def test_a_small_table_is_never_a_clients():
    """Ours would have to announce it in blocks of its own."""
    rig = Rig(table=0)
    rig.request(PATH)
    rig.run()
    assert rig.judged == []
    assert rig.site_requests


@pytest.mark.parametrize("cookie", ["a=b", OURS])
def test_a_stranger_who_asks_for_ever_is_passed_on_unread(cookie):
    """Two connections that did nothing but ask kept a bridge from everybody else for seconds."""
    judged = []

    def judge(stream, fields, ends):
        judged.append(stream)
        return False

    bridge = BridgeH2(PATH, "session", judge)
    request = encode_plainly([(":method", "GET"), (":path", PATH), ("cookie", cookie)])
    asked = (headers_frames(number, request, True, None) for number in range(1, 10_000, 2))
    said = b"".join((PREFACE, settings_frame([]), *asked))
    assert bridge.receive_from_client(said) == []
    assert bridge.data_to_site() == said
    seen = h2_bridge.MOST_READ // (3 + h2_bridge.REQUEST_COST + h2_bridge.JUDGED_COST) + 1
    assert len(judged) == (seen if cookie == OURS else 0)
    bridge.receive_from_client(headers_frames(1, request, True, None) * 100)  # nobody looks any more
    assert len(judged) == (seen if cookie == OURS else 0)


def test_a_client_that_breaks_rules_ends():
    rig = Rig()
    rig.request(PATH)
    rig.run()
    with pytest.raises(CodecError):
        rig.bridge.receive_from_client(frame_head(1, 4, 0, 1) + b"\x82")


def test_what_nobody_has_a_window_for_is_bounded():
    rig = Rig()
    stream = rig.request(PATH)
    rig.run()
    rig.bridge.own.send_head(stream, [(":status", "200")], ends=False)
    rig.bridge.own.send_body(stream, bytes(1 << 20))
    rig.bridge.data_to_client()  # the client's window is ours now
    frame = frame_head(0, 0, 1, 16384) + bytes(16384)
    for _ in range(h2_bridge.MOST_HELD // len(frame)):
        rig.bridge.receive_from_site(frame)
        assert rig.bridge.data_to_client() == (b"", [])
    with pytest.raises(CodecError):
        rig.bridge.receive_from_site(frame)


def test_plain_blocks_are_read_by_any_decoder():
    import hpack

    fields = [
        (":status", "200"),
        (":status", "418"),
        ("server", "nginx"),
        ("x-a", ""),
        ("x" * 200, "y" * 20000),
    ]
    decoder = hpack.Decoder(max_header_list_size=1 << 20)
    assert decoder.decode(encode_plainly(fields)) == fields
    assert not decoder.header_table.dynamic_entries
    assert SETTINGS_ACK
