"""``tests/vectors/http.json``: the http section of PROTOCOL.md as bytes.

Written anew (after a deliberate change of the wire format) by
``python tests/codec/test_codec_http_vectors.py``.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from ptproxy.codec.http import HTTP
from ptproxy.codec.http_records import POLL, POST, STREAM, token_text
from ptproxy.codec.interface import CarrierEnded, CodecSettings, OpeningReceived, PayloadReceived
from ptproxy.codec.profile import CHROMIUM
from ptproxy.codec.shape import BodySizes, ClassShape, Down, Up

FILE = Path(__file__).parent.parent / "vectors" / "http.json"
SETTINGS = CodecSettings("example.org", "/news/live")
OPENING = bytes(range(200))
KEY = bytes(range(100, 132))
NOTES = {
    "tokens": "kind, number, token in base64url, all under token_key",
    "stream, poll, shaped": "a whole carrier, shaped being one whose ends follow post_body [320, 700] and "
    "bodies of 13 bytes: each request with the answer it got, in the order of their beginning; "
    "the first is the opening; {user-agent}, {platform} and {mobile} depend on the system it was written on",
}


SHAPE = ClassShape("browse", ("http",), up=Up(post_body=(320, 700)), down=Down(body=BodySizes((13,))))


def conversation(mode: str, shape: ClassShape | None = None) -> list[dict[str, str]]:
    """A carrier that sends a little each way and is closed by the client: its requests and answers."""
    now = 0.0
    settings = CodecSettings(SETTINGS.host, SETTINGS.path, {"download": mode}, shape=shape)
    client = HTTP.client(settings, OPENING, random.Random(1))
    reception = HTTP.reception(SETTINGS, random.Random(2))
    pairs: list[tuple[Any, Any]] = []
    exchanges: list[dict[str, Any]] = []
    current: dict[Any, dict[str, Any]] = {}
    carriers = []

    def settle() -> None:
        busy = True
        while busy:
            busy = False
            while client.links_wanted > len(pairs):
                pairs.append((client.open_link(), reception.open_link()))
            for link, bridge in pairs:
                if request := b"".join(link.data_to_send()):
                    busy = True
                    current[link] = {"request": request, "answer": b""}
                    exchanges.append(current[link])
                    for event in bridge.receive_data(request, now):
                        if type(event) is OpeningReceived:
                            carriers.append(event.accept(KEY, now))
                            carriers[0].send_data([b"message 2"], now)
            for carrier in carriers:
                carrier.links_to_flush()
            for link, bridge in pairs:
                if answer := b"".join(map(bytes, bridge.data_to_send())):
                    busy = True
                    current[link]["answer"] += answer
                    link.receive_data(answer, now)

    settle()
    if shape is not None:
        carriers[0].follow(shape)
    client.authenticated(KEY)
    client.send_data([b"CONFIRM"], now)
    settle()
    client.send_data([b"up ", b"and up"], now)
    carriers[0].send_data([b"down"], now)
    settle()
    carriers[0].send_data([b" and down"], now)
    settle()
    client.close(now)
    settle()
    return [{key: latin(value) for key, value in exchange.items()} for exchange in exchanges]


def latin(data: bytes) -> str:
    """As text, byte for byte, without what depends on the system."""
    text = data.decode("latin-1").replace(CHROMIUM.user_agent_for(), "{user-agent}")
    lines = text.split("\r\n")
    for index, line in enumerate(lines):
        name, colon, _ = line.partition(": ")
        if colon and name == "sec-ch-ua-platform":
            lines[index] = name + ": {platform}"
        elif colon and name == "sec-ch-ua-mobile":
            lines[index] = name + ": {mobile}"
    return "\r\n".join(lines)


def vectors() -> dict[str, Any]:
    return {
        "notes": NOTES,
        "host": SETTINGS.host,
        "path": SETTINGS.path,
        "opening": OPENING.hex(),
        "token_key": KEY.hex(),
        "tokens": [
            [kind, number, token_text(KEY, kind, number).decode()]
            for kind in (POST, STREAM, POLL)
            for number in (0, 1, 2, 255, 2**32, 2**64 - 1)
        ],
        "up_payload": "CONFIRMup and up",
        "down_payload": "message 2down and down",
        "stream": conversation("stream"),
        "poll": conversation("poll"),
        "shaped": conversation("auto", SHAPE),
    }


@pytest.fixture(scope="module")
def known() -> dict[str, Any]:
    return json.loads(FILE.read_text())


def test_the_same_generators_give_the_same_bytes(known):
    assert vectors() == known


@pytest.mark.parametrize("mode", ["stream", "poll", "shaped"])
def test_a_bridge_reads_the_recorded_requests_in_any_order(known, mode):
    exchanges = known[mode]
    posts = [each["request"].encode("latin-1") for each in exchanges if each["request"].startswith("POST")]
    for seed in range(10):
        reception = HTTP.reception(SETTINGS, random.Random(5))
        (event,) = reception.open_link().receive_data(exchanges[0]["request"].encode("latin-1"), 0.0)
        assert event.opening.hex() == known["opening"]
        event.accept(bytes.fromhex(known["token_key"]), 0.0)
        random.Random(seed).shuffle(posts)
        events = [event for post in posts for event in reception.open_link().receive_data(post, 0.0)]
        got = b"".join(bytes(event.data) for event in events if type(event) is PayloadReceived)
        assert got.decode() == known["up_payload"]
        assert [event.reason for event in events if type(event) is CarrierEnded] == [""]


@pytest.mark.parametrize(("mode", "kind"), [("stream", STREAM), ("poll", POLL), ("shaped", POLL)])
def test_a_client_reads_the_recorded_answers(known, mode, kind):
    answers = {}
    for each in known[mode]:
        for number in range(1, 9):
            if token_text(KEY, kind, number).decode() in each["request"]:
                answers[number] = each["answer"].encode("latin-1")
    shaped = mode == "shaped"
    options = {} if shaped else {"download": mode}
    client_shape = SHAPE if shaped else None
    settings = CodecSettings(SETTINGS.host, SETTINGS.path, options, shape=client_shape)
    client = HTTP.client(settings, OPENING, random.Random(7))
    links = [client.open_link()]
    assert links[0].data_to_send()
    events = links[0].receive_data(known[mode][0]["answer"].encode("latin-1"), 0.0)
    client.authenticated(KEY)
    for number in sorted(answers):
        while client.links_wanted > len(links):
            links.append(client.open_link())
        for link in links:
            link.data_to_send()
        asked = [link for link in links if link.exchange is not None and link.exchange.number == number]
        if asked:
            events += asked[0].receive_data(answers[number], 0.0)
    got = b"".join(bytes(event.data) for event in events if type(event) is PayloadReceived)
    assert got.decode() == known["down_payload"]
    assert type(events[-1]) is CarrierEnded
    assert events[-1].reason == ""


if __name__ == "__main__":
    FILE.write_text(json.dumps(vectors(), indent=1) + "\n")
