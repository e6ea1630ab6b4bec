"""The websocket codec: the upgrade, what peers of other makers think of it, pings, closes, deadlines."""

from __future__ import annotations

import base64
import random

import pytest
import wsproto
import wsproto.events
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Opcode
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from ptproxy.codec.cookie import opening_to_cookie, session_cookie_name
from ptproxy.codec.interface import (
    CarrierEnded,
    CarrierWritable,
    CodecSettings,
    NotMine,
    OpeningReceived,
    PayloadReceived,
)
from ptproxy.codec.websocket import WEBSOCKET
from ptproxy.codec.ws_connection import CLOSE_TIMEOUT, MAX_MESSAGE, SERVER_FIRST
from ptproxy.codec.ws_frames import BINARY, CLOSE, PING, close_payload, masked_frame, unmasked_frame
from ptproxy.codec.ws_upgrade import accept_value, client_key, is_clients_key
from ptproxy.errors import CodecError, LocalProtocolError

SETTINGS = CodecSettings("example.org", "/chat")
OPENING = bytes(range(190))
COOKIE = opening_to_cookie(session_cookie_name(SETTINGS), OPENING)


def drain(link) -> bytes:
    return b"".join(link.data_to_send())


def payload_of(events) -> bytes:
    return b"".join(bytes(event.data) for event in events if type(event) is PayloadReceived)


def client():
    return WEBSOCKET.client(SETTINGS, OPENING, random.Random(1))


def bridge(settings=SETTINGS):
    return WEBSOCKET.reception(settings, random.Random(2)).open_link()


def opened():
    """A client and a bridge after the upgrade."""
    ours, theirs = client(), bridge()
    (offer,) = theirs.receive_data(drain(ours), 0.0)
    assert offer.accept(bytes(32), 0.0) is theirs
    (writable,) = ours.receive_data(drain(theirs), 0.0)
    assert type(writable) is CarrierWritable
    return ours, theirs


# ---- the upgrade ----------------------------------------------------------------------------------


def test_the_request_is_chromiums():
    lines = drain(client()).decode().split("\r\n")
    assert lines[0] == "GET /chat HTTP/1.1"
    assert lines[-2:] == ["", ""]
    names = [line.partition(": ")[0] for line in lines[1:-2]]
    assert names == [
        "Host", "Connection", "Pragma", "Cache-Control", "User-Agent", "Upgrade", "Origin",
        "Sec-WebSocket-Version", "Accept-Encoding", "Accept-Language", "Cookie", "Sec-WebSocket-Key",
        "Sec-WebSocket-Extensions",
    ]  # fmt: skip
    headers = dict(line.split(": ", 1) for line in lines[1:-2])
    assert headers["Origin"] == "https://example.org"
    assert headers["Cookie"] == COOKIE
    assert headers["Sec-WebSocket-Extensions"] == "permessage-deflate; client_max_window_bits"
    assert headers["Connection"] == "Upgrade"


REQUEST = (
    b"GET /chat HTTP/1.1\r\nHost: example.org\r\nUpgrade: WebSocket\r\nConnection: keep-alive, upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nCookie: a=b; "
    + COOKIE.encode()
    + b"\r\n\r\n"
)


def test_the_answer_of_rfc_6455():
    link = bridge()
    (offer,) = link.receive_data(REQUEST, 0.0)
    assert type(offer) is OpeningReceived
    assert offer.opening == OPENING
    assert link.data_to_send() == []
    offer.accept(bytes(32), 0.0)
    assert drain(link) == (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    )
    with pytest.raises(LocalProtocolError):
        offer.accept(bytes(32), 0.0)


def changed(old: bytes, new: bytes) -> bytes:
    assert old in REQUEST
    return REQUEST.replace(old, new)


def offering(key: str, offer: str) -> bytes:
    request = changed(b"dGhlIHNhbXBsZSBub25jZQ==", key.encode())
    return request.replace(b"Cookie:", f"Sec-WebSocket-Extensions: {offer}\r\nCookie:".encode(), 1)


def answer_to(request: bytes) -> bytes:
    link = bridge()
    (offer,) = link.receive_data(request, 0.0)
    offer.accept(bytes(32), 0.0)
    return drain(link)


CHROMIUMS_OFFER = "permessage-deflate; client_max_window_bits"
AGREED = b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"


def test_compression_is_agreed_with_our_own_client_and_not_used():
    ours, theirs = client(), bridge()
    (offer,) = theirs.receive_data(drain(ours), 0.0)
    offer.accept(bytes(32), 0.0)
    answer = drain(theirs)
    assert answer.endswith(AGREED)
    ours.receive_data(answer, 0.0)
    theirs.send_data([b"x" * 100], 0.0)
    assert drain(theirs) == unmasked_frame(BINARY, b"x" * 100)
    with pytest.raises(CodecError, match="reserved bits"):
        ours.receive_data(b"\xc2\x01x", 0.0)


@pytest.mark.parametrize("offer", [CHROMIUMS_OFFER, "permessage-deflate", "x-other, permessage-deflate"])
def test_any_offer_of_our_clients_is_agreed_to(offer):
    assert answer_to(offering(client_key("/chat", random.Random(3)), offer)).endswith(AGREED)


@pytest.mark.parametrize(
    ("key", "offer"),
    [
        ("dGhlIHNhbXBsZSBub25jZQ==", CHROMIUMS_OFFER),  # a browser's key: it would compress
        (client_key("/chaT", random.Random(3)), CHROMIUMS_OFFER),
        (client_key("/chat", random.Random(3)), "permessage-deflat"),
        (client_key("/chat", random.Random(3)), "x-webkit-deflate-frame; permessage-deflate"),
    ],
)
def test_nothing_is_agreed_with_others(key, offer):
    assert b"Extensions" not in answer_to(offering(key, offer))


def test_keys_are_fresh():
    rng = random.Random(4)
    keys = {client_key("/chat", rng) for _ in range(50)}
    assert len(keys) == len({key[:10] for key in keys}) == len({key[-12:] for key in keys}) == 50


@given(st.binary(min_size=16, max_size=16))
def test_a_random_key_is_nobodys(raw):
    assert not is_clients_key(base64.b64encode(raw).decode(), "/chat")


def test_server_and_date_where_the_site_has_them():
    options = {"server": "nginx", "clock_offset": "784111677"}
    link = bridge(CodecSettings("example.org", "/chat", options))
    (offer,) = link.receive_data(REQUEST, 0.0)
    offer.accept(bytes(32), 100.5)
    head = drain(link).decode().split("\r\n")
    assert head[1:3] == ["Server: nginx", "Date: Sun, 06 Nov 1994 08:49:37 GMT"]


@pytest.mark.parametrize(
    "request_bytes",
    [
        changed(b"GET", b"POST"),
        changed(b"GET /chat", b"GET /cha"),
        changed(b"GET /chat", b"GET /chat?x"),
        changed(b"GET /chat", b"GET /CHAT"),
        changed(b"HTTP/1.1", b"HTTP/1.0"),
        changed(b"Host: example.org\r\n", b""),
        changed(b"Host: example.org", b"Host: a\r\nHost: b"),
        changed(b"Upgrade: WebSocket", b"Upgrade: h2c"),
        changed(b"keep-alive, upgrade", b"keep-alive"),
        changed(b"Version: 13", b"Version: 8"),
        changed(b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhlIHNhbXBsZSBub25j"),
        changed(b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhlIHNhbXBsZSBub25jZQ"),
        b"get /chat HTTP/1.1\r\n",
        b"GEX",
        b"\x16\x03\x01",
    ],
)
def test_what_is_not_an_upgrade_of_ours(request_bytes):
    whole = bridge()
    assert whole.receive_data(request_bytes, 0.0) == [NotMine()]
    link = bridge()
    events = [event for byte in request_bytes for event in link.receive_data(bytes([byte]), 0.0)]
    assert events == [NotMine()]
    assert link.data_to_send() == []
    assert not link.closing


def test_a_get_is_held_as_long_whatever_its_path():
    """Otherwise the time until the site answers a stalled request would tell how much of it is right."""
    for start in (b"GET /chat HTTP/1.1\r\nHost: a", b"GET /chax HTTP/1.1\r\nHost: a", b"GET /x"):
        link = bridge()
        assert link.receive_data(start, 0.0) == []
        assert link.receive_eof(0.0) == [NotMine()]


def test_frames_right_behind_the_request_are_payload():
    for tail in (b"", masked_frame(BINARY, b" and more", b"wxyz")):
        link = bridge()
        (offer,) = link.receive_data(REQUEST + masked_frame(BINARY, b"early", b"abcd")[:7], 0.0)
        offer.accept(bytes(32), 0.0)
        events = link.receive_data(b"", 0.0)
        events += link.receive_data(masked_frame(BINARY, b"early", b"abcd")[7:] + tail, 0.0)
        assert payload_of(events) == (b"early and more" if tail else b"early")


GOOD = (
    "HTTP/1.1 101 Switching Protocols",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Accept: {}",
)


@pytest.mark.parametrize(
    "lines",
    [
        ("HTTP/1.1 404 Not Found", "Content-Length: 0"),
        ("HTTP/1.1 200 OK", *GOOD[1:]),
        ("HTTP/1.0 101 Switching Protocols", *GOOD[1:]),
        (GOOD[0], *GOOD[2:]),
        (*GOOD[:2], "Connection: keep-alive", GOOD[3]),
        (*GOOD[:3], "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        GOOD[:3],
        (*GOOD, "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=10"),
        (*GOOD, "Sec-WebSocket-Extensions: permessage-deflate, x-other"),
        (*GOOD, "Sec-WebSocket-Protocol: chat"),
        ("SSH-2.0-OpenSSH",),
    ],
)
def test_answers_that_the_client_refuses(lines):
    ours = client()
    key = drain(ours).decode().split("Sec-WebSocket-Key: ")[1].split("\r\n")[0]
    with pytest.raises(CodecError):
        ours.receive_data(("\r\n".join(lines) + "\r\n\r\n").format(accept_value(key)).encode(), 0.0)
    assert (ours.closing, ours.links_wanted, ours.room()) == (True, 0, 0)
    assert ours.receive_data(b"x", 0.0) == []
    assert ours.receive_eof(0.0) == []


def test_a_client_whose_connection_ends_before_the_answer():
    ours = client()
    (ended,) = ours.receive_eof(0.0)
    assert type(ended) is CarrierEnded
    assert "before the upgrade" in ended.reason


def test_one_connection_only():
    ours = client()
    assert ours.links_wanted == 1
    assert ours.open_link() is ours
    with pytest.raises(LocalProtocolError):
        ours.open_link()


# ---- other makers' ends -----------------------------------------------------------------------------

conversation = st.lists(st.tuples(st.booleans(), st.binary(min_size=1, max_size=400)), max_size=8)


@given(conversation)
def test_websockets_as_the_server(messages):
    server = ServerProtocol()
    ours = client()
    server.receive_data(drain(ours))
    (request,) = server.events_received()
    server.send_response(server.accept(request))
    assert type(ours.receive_data(b"".join(server.data_to_send()), 0.0)[0]) is CarrierWritable
    for up, message in messages:
        if up:
            ours.send_data([message[:1], message[1:]], 0.0)
            server.receive_data(drain(ours))
            (frame,) = server.events_received()
            assert (frame.opcode, bytes(frame.data), frame.fin) == (Opcode.BINARY, message, True)
        else:
            server.send_binary(message[:2], fin=False)
            server.send_ping(message[:5])
            server.send_continuation(message[2:], fin=True)
            assert payload_of(ours.receive_data(b"".join(server.data_to_send()), 0.0)) == message
            server.receive_data(drain(ours))
            (frame,) = server.events_received()
            assert (frame.opcode, bytes(frame.data)) == (Opcode.PONG, message[:5])
    ours.close(5.0)
    server.receive_data(drain(ours))
    assert server.close_rcvd.code == 1000
    (ended,) = ours.receive_data(b"".join(server.data_to_send()), 5.0)
    assert ended.reason == ""


@given(conversation)
def test_websockets_as_the_client(messages):
    peer = ClientProtocol(parse_uri("wss://example.org/chat"))
    request = peer.connect()
    request.headers["Cookie"] = COOKIE
    peer.send_request(request)
    link = bridge()
    (offer,) = link.receive_data(b"".join(peer.data_to_send()), 0.0)
    offer.accept(bytes(32), 0.0)
    peer.receive_data(drain(link))
    assert peer.handshake_exc is None
    peer.events_received()
    for up, message in messages:
        if up:
            peer.send_binary(message)
            assert payload_of(link.receive_data(b"".join(peer.data_to_send()), 0.0)) == message
        else:
            link.send_data([message], 0.0)
            peer.receive_data(drain(link))
            (frame,) = peer.events_received()
            assert bytes(frame.data) == message
    peer.send_close(1001)
    (ended,) = link.receive_data(b"".join(peer.data_to_send()), 0.0)
    assert (ended.reason, link.closing) == ("", True)
    peer.receive_data(drain(link))
    assert peer.close_rcvd.code == 1001


@given(conversation, st.integers(1, 50))
def test_wsproto_as_the_server(messages, step):
    server = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
    ours = client()
    server.receive_data(drain(ours))
    (request,) = server.events()
    assert type(request) is wsproto.events.Request
    answer = server.send(wsproto.events.AcceptConnection())
    for start in range(0, len(answer), step):
        ours.receive_data(answer[start : start + step], 0.0)
    assert ours.room() > 0
    for up, message in messages:
        if up:
            ours.send_data([message], 0.0)
            server.receive_data(drain(ours))
            assert b"".join(bytes(event.data) for event in server.events()) == message
        else:
            data = server.send(wsproto.events.BytesMessage(data=message))
            got = b"".join(
                payload_of(ours.receive_data(data[start : start + step], 0.0))
                for start in range(0, len(data), step)
            )
            assert got == message


@given(conversation, st.integers(1, 50))
def test_wsproto_as_the_client(messages, step):
    peer = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
    data = peer.send(
        wsproto.events.Request(
            host="example.org", target="/chat", extra_headers=[(b"Cookie", COOKIE.encode())]
        )
    )
    link = bridge()
    events = [
        event
        for start in range(0, len(data), step)
        for event in link.receive_data(data[start : start + step], 0.0)
    ]
    events[0].accept(bytes(32), 0.0)
    peer.receive_data(drain(link))
    assert [type(event) for event in peer.events()] == [wsproto.events.AcceptConnection]
    for up, message in messages:
        if up:
            half = len(message) // 2
            data = peer.send(wsproto.events.BytesMessage(data=message[:half], message_finished=False))
            data += peer.send(wsproto.events.BytesMessage(data=message[half:]))
            got = b"".join(
                payload_of(link.receive_data(data[start : start + step], 0.0))
                for start in range(0, len(data), step)
            )
            assert got == message
        else:
            link.send_data([message], 0.0)
            peer.receive_data(drain(link))
            assert b"".join(bytes(event.data) for event in peer.events()) == message


# ---- open -----------------------------------------------------------------------------------------------


def test_one_send_is_one_message_and_a_bridge_copies_no_large_chunk():
    ours, theirs = opened()
    chunks = [bytes(50_000), bytes(60_000)]
    theirs.send_data(chunks, 0.0)
    out = theirs.data_to_send()
    assert len(out) == 3
    assert out[1] is chunks[0]
    assert out[2] is chunks[1]
    ours.send_data([b"a", b"b"], 0.0)
    (frame,) = ours.data_to_send()
    assert len(frame) == 2 + 4 + 2


def test_more_than_a_message_holds_becomes_several():
    ours, theirs = opened()
    data = random.Random(0).randbytes(2 * MAX_MESSAGE + 5)
    for sender, receiver in ((ours, theirs), (theirs, ours)):
        sender.send_data([data[: MAX_MESSAGE + 7], data[MAX_MESSAGE + 7 :]], 0.0)
        assert payload_of(receiver.receive_data(drain(sender), 0.0)) == data


def test_masks_come_from_the_generator_and_differ():
    ours, _ = opened()
    masks = set()
    for _ in range(3000):
        ours.send_data([b"\0\0\0\0"], 0.0)
        frame = drain(ours)
        assert frame[2:6] == frame[6:]
        masks.add(frame[2:6])
    assert len(masks) > 2990


def test_payload_streams_while_a_frame_arrives():
    ours, _ = opened()
    data = unmasked_frame(BINARY, bytes(range(250)))
    assert payload_of(ours.receive_data(data[:3], 0.0)) == b""
    assert payload_of(ours.receive_data(data[3:100], 0.0)) == bytes(range(96))
    assert payload_of(ours.receive_data(data[100:], 0.0)) == bytes(range(96, 250))


def test_of_many_pings_the_latest_is_answered():
    ours, _ = opened()
    assert ours.links_to_flush()
    pings = b"".join(unmasked_frame(PING, str(number).encode()) for number in range(1000))
    assert ours.receive_data(pings, 0.0) == []
    assert ours.links_to_flush() == (ours,)
    assert ours.links_to_flush() == ()
    pong = drain(ours)
    assert len(pong) == 2 + 4 + 3
    assert bytes(byte ^ pong[2 + i % 4] for i, byte in enumerate(pong[6:])) == b"999"
    assert ours.data_to_send() == []


def test_a_pong_is_ignored_and_nothing_is_sent_on_its_own():
    ours, theirs = opened()
    assert ours.receive_data(unmasked_frame(10, b"x"), 0.0) == []
    assert ours.data_to_send() == []
    assert ours.deadline() is None
    assert theirs.deadline() is None
    assert ours.on_deadline(1e9) == []


@pytest.mark.parametrize(
    ("frame", "code"),
    [(b"\x81\x01x", 1003), (b"\x82\x81", 1002), (b"\x88\x02\x03\xec", 1002), (b"\x88\x03\x03\xe8\xff", 1007)],
)
def test_an_error_is_said_in_a_close_frame(frame, code):
    ours, theirs = opened()
    with pytest.raises(CodecError):
        ours.receive_data(frame, 0.0)
    assert ours.closing
    (ended,) = theirs.receive_data(drain(ours), 0.0)
    assert str(code) in ended.reason
    assert ours.receive_data(b"more", 0.0) == []


# ---- the end --------------------------------------------------------------------------------------------


def test_a_client_that_closes_leaves_the_connection_to_the_bridge():
    ours, theirs = opened()
    ours.send_data([b"last"], 10.0)
    ours.close(10.0)
    ours.send_data([b"after"], 10.0)
    assert ours.deadline() == 10.0 + CLOSE_TIMEOUT
    events = theirs.receive_data(drain(ours), 11.0)
    assert payload_of(events) == b"last"
    assert events[-1] == CarrierEnded(theirs, "")
    assert theirs.closing
    (ended,) = ours.receive_data(drain(theirs), 12.0)
    assert ended == CarrierEnded(ours, "")
    assert not ours.closing
    assert ours.deadline() == 12.0 + SERVER_FIRST
    assert ours.on_deadline(13.9) == []
    assert not ours.closing
    assert ours.on_deadline(14.0) == []
    assert ours.closing
    assert ours.deadline() is None


def test_a_bridge_that_closes_waits_for_the_clients_close_frame():
    ours, theirs = opened()
    theirs.close(10.0)
    theirs.close(11.0)
    ours.send_data([b"crossing"], 10.0)
    crossing = drain(ours)
    (ended,) = ours.receive_data(drain(theirs), 10.5)
    assert ended.reason == ""
    assert payload_of(theirs.receive_data(crossing, 10.6)) == b"crossing"
    assert not theirs.closing
    assert theirs.receive_data(drain(ours), 10.7) == [CarrierEnded(theirs, "")]
    assert theirs.closing
    assert ours.receive_eof(11.0) == []
    assert ours.closing
    assert ours.deadline() is None


def test_a_close_frame_that_nobody_answers():
    ours, _ = opened()
    ours.close(10.0)
    (ended,) = ours.on_deadline(10.0 + CLOSE_TIMEOUT)
    assert "in time" in ended.reason
    assert ours.closing


def test_a_connection_that_breaks():
    ours, theirs = opened()
    for end in (ours, theirs):
        (ended,) = end.receive_eof(0.0)
        assert "without a close frame" in ended.reason
        assert end.closing
        assert end.receive_eof(0.0) == []


def test_a_peer_that_closes_with_an_error_code():
    ours, _ = opened()
    (ended,) = ours.receive_data(unmasked_frame(CLOSE, close_payload(1011)), 0.0)
    assert "1011" in ended.reason


def test_a_close_before_the_answer_just_drops_the_connection():
    ours = client()
    drain(ours)
    ours.close(0.0)
    assert (ours.closing, ours.data_to_send(), ours.receive_data(b"HTTP", 0.0)) == (True, [], [])
