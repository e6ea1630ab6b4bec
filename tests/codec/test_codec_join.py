"""What the client and a browser's page say to one another on the local socket."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.codec.cookie import session_cookie_name
from ptproxy.codec.head import HttpHead
from ptproxy.codec.http_records import CLOSE, DATA, END, HELLO, record_head
from ptproxy.codec.interface import (
    CarrierEnded,
    CarrierWritable,
    CodecSettings,
    PayloadReceived,
    SiteAnswered,
)
from ptproxy.codec.join import LOST, REFUSED, join_request, page_origin
from ptproxy.codec.join_http import JOINED_HTTP, SLOTS, PageRecord, PageRecordReader
from ptproxy.codec.join_websocket import JOINED_WEBSOCKET
from ptproxy.codec.ws_frames import BINARY, TEXT, UnmaskedFrameReader, close_payload, masked_frame
from ptproxy.codec.ws_frames import CLOSE as CLOSE_FRAME
from ptproxy.errors import CodecError, LocalProtocolError

SETTINGS = CodecSettings("site.example", "/assets/live")
OPENING = bytes(range(200))
MASK = b"\x11\x22\x33\x44"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
TOKEN_KEY = bytes(32)


def said(data: bytes) -> bytes:
    """A message of the page's."""
    return masked_frame(BINARY, data, MASK)


def closed(code: int) -> bytes:
    return masked_frame(CLOSE_FRAME, close_payload(code), MASK)


def record(kind: int, number: int, content: bytes = b"") -> bytes:
    return len(content).to_bytes(4, "big") + bytes([kind]) + number.to_bytes(4, "big") + content


def messages(link) -> list[bytes]:
    """Payload of the frames that the client has to say; each is whole here."""
    data = b"".join(bytes(chunk) for chunk in link.data_to_send())
    return [bytes(item) for item in Unchecked().receive_data(data)]


class Unchecked(UnmaskedFrameReader):
    """Takes text too, as a browser does."""

    def _check_first(self, first: int, length: int) -> None:
        if first & 0x0F != TEXT:
            super()._check_first(first, length)


# ---- who may join ------------------------------------------------------------------------------


def request(**changes: str | None) -> HttpHead:
    headers = {
        "Host": "127.0.0.1:4711",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Origin": "https://site.example",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": KEY,
    }
    method = changes.pop("method", "GET")
    for name, value in changes.items():
        headers[name.replace("_", "-")] = value
    return HttpHead([pair for pair in headers.items() if pair[1] is not None], method, "/token")


def joins(head: HttpHead) -> tuple[str, str] | None:
    return join_request(head, "127.0.0.1:4711", page_origin(SETTINGS))


def test_the_page_joins() -> None:
    assert joins(request()) == ("token", KEY)


@pytest.mark.parametrize(
    "changes",
    [
        {"Origin": "https://other.example"},
        {"Origin": "http://site.example"},
        {"Origin": "https://site.example:8443"},
        {"Origin": "null"},
        {"Origin": None},
        {"Host": "site.example:4711"},
        {"Host": "localhost:4711"},
        {"Host": None},
        {"Upgrade": "h2c"},
        {"Connection": "keep-alive"},
        {"Sec_WebSocket_Version": "8"},
        {"Sec_WebSocket_Key": "c2hvcnQ="},
        {"Sec_WebSocket_Key": "%%%"},
        {"method": "POST"},
    ],
)
def test_nobody_else_does(changes: dict[str, str | None]) -> None:
    assert joins(request(**changes)) is None


def test_the_origin_names_a_port_other_than_443() -> None:
    assert page_origin(CodecSettings.of("site.example", 8443, "/x")) == "https://site.example:8443"


# ---- websocket ---------------------------------------------------------------------------------


def websocket():
    return JOINED_WEBSOCKET.client(SETTINGS, OPENING, random.Random(1))


def test_the_task_has_the_opening_as_a_cookie() -> None:
    codec = websocket()
    link = codec.open_link()
    (task,) = messages(link)
    asked = json.loads(task)
    assert asked["do"] == "websocket"
    assert asked["url"] == "wss://site.example/assets/live"
    assert asked["path"] == "/assets/live"
    assert asked["cookie"].startswith(f"{session_cookie_name(SETTINGS)}=")
    with pytest.raises(LocalProtocolError):
        codec.open_link()


def test_nobody_else_is_to_connect() -> None:
    for codec in (websocket(), http()):
        assert codec.links_wanted == 1
        link = codec.open_link()
        assert codec.links_wanted == 0
        link.receive_eof(0.0)
        assert codec.links_wanted == 0


def test_payload_waits_until_the_site_has_switched() -> None:
    codec = websocket()
    link = codec.open_link()
    messages(link)
    codec.send_data([b"early"], 0.0)
    assert codec.room() == 0
    assert messages(link) == []
    events = link.receive_data(said(b"\x01"), 0.0)
    assert [type(event) for event in events] == [CarrierWritable]
    assert codec.room() > 0
    assert messages(link) == [b"early"]
    codec.send_data([b"one ", b"message"], 0.0)
    assert messages(link) == [b"one message"]


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=8), st.data())
def test_payload_survives_any_split(payloads: list[bytes], draw: st.DataObject) -> None:
    data = said(b"\x01") + b"".join(map(said, payloads)) + closed(1000)
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=6)))
    codec = websocket()
    link = codec.open_link()
    events = []
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        for event in link.receive_data(data[start:end], 0.0):
            events.append(bytes(event.data) if type(event) is PayloadReceived else type(event))
    assert events[0] is CarrierWritable
    assert events[-1] is CarrierEnded
    assert b"".join(events[1:-1]) == b"".join(payloads)
    assert link.closing


def test_a_site_that_refuses_is_no_end_of_a_carrier_but_an_error() -> None:
    codec = websocket()
    link = codec.open_link()
    with pytest.raises(CodecError, match="refused the opening"):
        link.receive_data(closed(REFUSED), 0.0)
    assert link.closing
    assert codec.links_wanted == 0
    assert link.receive_data(said(b"late"), 0.0) == []


@pytest.mark.parametrize(
    ("code", "reason"),
    [(1000, ""), (1001, ""), (LOST, "lost its connection"), (1011, "code 1011")],
)
def test_how_a_carrier_ended(code: int, reason: str) -> None:
    link = websocket().open_link()
    link.receive_data(said(b"\x01"), 0.0)
    (event,) = link.receive_data(closed(code), 0.0)
    assert type(event) is CarrierEnded
    assert (event.reason == "") == (reason == "")
    assert reason in event.reason


def test_a_page_that_is_gone() -> None:
    link = websocket().open_link()
    (event,) = link.receive_eof(0.0)
    assert event.reason == "the browser's page is gone"
    assert link.receive_eof(0.0) == []


def test_a_page_that_speaks_another_language() -> None:
    link = websocket().open_link()
    with pytest.raises(CodecError):
        link.receive_data(said(b"\x02"), 0.0)


def test_given_up_before_the_answer() -> None:
    codec = websocket()
    link = codec.open_link()
    codec.close(0.0)
    assert link.closing


@given(st.binary(max_size=400))
def test_garbage_raises_only_codec_errors(garbage: bytes) -> None:
    for codec in (websocket(), http()):
        link = codec.open_link()
        link.data_to_send()
        try:
            link.receive_data(garbage, 0.0)
        except CodecError:
            assert link.receive_data(garbage, 0.0) == []


# ---- http --------------------------------------------------------------------------------------


def http():
    return JOINED_HTTP.client(SETTINGS, OPENING, random.Random(1))


def asked(link) -> list[tuple[int, int, bytes, bytes]]:
    """Requests that the page is to make: kind, id, cookie, body."""
    found = []
    for message in messages(link):
        if message[:1] == b"{":
            assert json.loads(message)["do"] == "http"
            continue
        kind, number, size = (
            message[0],
            int.from_bytes(message[1:5], "big"),
            int.from_bytes(message[5:7], "big"),
        )
        found.append((kind, number, message[7 : 7 + size], message[7 + size :]))
    return found


def status(code: int, date: str = "") -> bytes:
    return code.to_bytes(2, "big") + date.encode()


def opened():
    """A carrier whose opening was answered with message 2, and the number of the GET that goes on."""
    codec = http()
    link = codec.open_link()
    ((kind, number, cookie, body),) = asked(link)
    assert (kind, body) == (0, b"")
    assert cookie.startswith(session_cookie_name(SETTINGS).encode() + b"=")
    body = record_head(DATA, 9) + b"message 2" + record_head(END, 0)
    events = link.receive_data(
        said(record(0, number, status(200)) + record(1, number, body) + record(2, number)), 0.0
    )
    assert [bytes(event.data) for event in events if type(event) is PayloadReceived] == [b"message 2"]
    codec.authenticated(TOKEN_KEY)
    ((kind, number, cookie, body),) = asked(link)
    assert kind == 0
    return codec, link, number


def test_a_carrier_over_fetches() -> None:
    codec, link, number = opened()
    body = record_head(HELLO, 0) + record_head(DATA, 4) + b"down"
    events = link.receive_data(said(record(0, number, status(200)) + record(1, number, body)), 0.0)
    assert [bytes(event.data) for event in events if type(event) is PayloadReceived] == [b"down"]
    assert codec.download == "stream"
    codec.send_data([b"up"], 0.0)
    ((kind, post, _, body),) = asked(link)
    assert kind == 1
    assert body[:6] == b"\x00\x00\x00\x02up"
    assert link.receive_data(said(record(0, post, status(200)) + record(2, post)), 0.0) == []


def test_requests_of_a_carrier_are_numbered_anew_and_few_are_under_way() -> None:
    codec, link, _ = opened()
    numbers = []
    for _ in range(3 * SLOTS):
        codec.send_data([b"x"], 0.0)
        numbers += [number for _, number, _, _ in asked(link)]
    assert len(set(numbers)) == len(numbers) == 4
    assert codec.room() == 0


def test_a_failed_post_is_made_again_with_the_same_payload() -> None:
    codec, link, _ = opened()
    codec.send_data([b"once"], 0.0)
    ((_, post, cookie, body),) = asked(link)
    assert link.receive_data(said(record(3, post)), 0.0) == []
    ((_, again, cookie2, body2),) = asked(link)
    assert again != post
    assert (body2[:8], cookie2.partition(b"=")[2][:24]) == (body[:8], cookie.partition(b"=")[2][:24])
    (event,) = link.receive_data(said(record(3, again)), 0.0)
    assert type(event) is CarrierEnded


def test_a_stranger_is_answered_as_one() -> None:
    codec = http()
    link = codec.open_link()
    ((_, number, _, _),) = asked(link)
    with pytest.raises(SiteAnswered) as raised:
        link.receive_data(said(record(0, number, status(404, "Mon, 23 Nov 2026 00:00:00 GMT"))), 0.0)
    assert raised.value.date == "Mon, 23 Nov 2026 00:00:00 GMT"
    assert codec.links_wanted == 0
    link.data_to_send()
    assert link.closing


def test_nothing_is_heard_of_a_page_after_the_end() -> None:
    link = http().open_link()
    ((_, number, _, _),) = asked(link)
    with pytest.raises(SiteAnswered):
        link.receive_data(said(record(0, number, status(404))), 0.0)
    link.data_to_send()
    assert link.closing
    assert link.receive_data(b"late, and no frame", 0.0) == []


def test_the_end_of_the_page_is_the_carriers() -> None:
    codec, link, _ = opened()
    (event,) = link.receive_eof(0.0)
    assert type(event) is CarrierEnded
    assert codec.links_wanted == 0
    codec, link, _ = opened()
    (event,) = link.receive_data(closed(LOST), 0.0)
    assert "lost" in event.reason


def test_the_bridge_closes_cleanly() -> None:
    _, link, number = opened()
    body = record_head(HELLO, 0) + record_head(CLOSE, 0)
    events = link.receive_data(said(record(0, number, status(200)) + record(1, number, body)), 0.0)
    assert [event.reason for event in events if type(event) is CarrierEnded] == [""]
    link.data_to_send()
    assert link.closing


def test_answers_to_what_was_given_up_are_passed_over() -> None:
    _, link, _ = opened()
    assert link.receive_data(said(record(1, 999, b"late") + record(2, 999)), 0.0) == []


RECORDS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 2**32 - 1), st.binary(max_size=60)), max_size=8
)


@given(RECORDS, st.data())
def test_records_survive_any_split(records: list[tuple[int, int, bytes]], draw: st.DataObject) -> None:
    data = b"".join(record(*one) for one in records)
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=8)))
    reader, out = PageRecordReader(), []
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        for one in reader.receive_data(data[start:end]):
            last = out[-1] if out else None
            if one.kind == 1 and last is not None and last[0] == 1 and last[1] == one.number and last[3]:
                last[2] += bytes(one.content)
            else:
                out.append([one.kind, one.number, bytes(one.content), True])
        assert all(isinstance(one, PageRecord) for one in reader.receive_data(b""))
    expected: list[list] = []
    for kind, number, content in records:
        if kind == 1 and not content:
            continue
        if kind == 1 and expected and expected[-1][0] == 1 and expected[-1][1] == number:
            expected[-1][2] += content
        else:
            expected.append([kind, number, content, True])
    assert out == expected


@pytest.mark.parametrize(
    "data", [record(4, 1), b"\xff\xff\xff\xff\x01\0\0\0\x01", b"\0\0\x10\0\x00\0\0\0\x01"]
)
def test_nonsense_from_the_page(data: bytes) -> None:
    with pytest.raises(CodecError):
        PageRecordReader().receive_data(data)
