"""``tests/vectors/codec.json``: PROTOCOL.md as bytes, for other implementations to check themselves.

Written anew (after a deliberate change of the wire format) by
``python tests/codec/test_codec_vectors.py``.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from ptproxy.codec import codec_table
from ptproxy.codec.cookie import NAMES, opening_from_cookie, opening_to_cookie, session_cookie_name
from ptproxy.codec.head import HttpHead
from ptproxy.codec.interface import CarrierEnded, CodecSettings, OpeningReceived, PayloadReceived
from ptproxy.codec.profile import CHROMIUM
from ptproxy.codec.random_records import keystream

FILE = Path(__file__).parent.parent / "vectors" / "codec.json"
SETTINGS = CodecSettings("example.org", "/news/live")
OPENING = bytes(range(200))
UP = [b"CONFIRM", b"\0" * 130, bytes(range(256)) * 2]
DOWN = [b"message 2", b"", bytes(range(255, -1, -1)) * 3]
NOTES = {
    "cookie": "names by host and path; openings as Cookie header values",
    "websocket": "the whole connection: the upgrade, one message for each payload, the client's close, "
    "the answer; {user-agent} stands for the User-Agent, which depends on the platform",
    "random": "the whole connection: the opening, one record for each payload, the client's end record; "
    "tag and words are the keystream's first bytes",
}


class Conversation:
    """Both ends with fixed generators, and all they write."""

    def __init__(self, name: str) -> None:
        codec = codec_table()[name]
        self.client = codec.client(SETTINGS, OPENING, random.Random(2026))
        self.link = self.client.open_link()
        self.bridge = codec.reception(SETTINGS, random.Random(1122)).open_link()
        self.up, self.down = bytearray(), bytearray()

    def pass_up(self) -> list:
        data = b"".join(self.link.data_to_send())
        self.up += data
        return self.bridge.receive_data(data, 0.0)

    def pass_down(self) -> list:
        data = b"".join(self.bridge.data_to_send())
        self.down += data
        return self.link.receive_data(data, 0.0)

    def run(self) -> tuple[bytes, bytes]:
        (offer,) = self.pass_up()
        carrier = offer.accept(bytes(32), 0.0)
        self.pass_down()
        for payload in UP:
            self.client.send_data([payload], 0.0)
            self.pass_up()
        for payload in DOWN:
            carrier.send_data([payload], 0.0)
            self.pass_down()
        self.client.close(0.0)
        self.pass_up()
        self.pass_down()
        return bytes(self.up), bytes(self.down)


def vectors() -> dict[str, Any]:
    ws_up, ws_down = Conversation("websocket").run()
    head, _, frames = ws_up.partition(b"\r\n\r\n")
    random_up, random_down = Conversation("random").run()
    openings = [bytes(range(16)), OPENING, bytes(2689)]
    names = [
        ("example.org", "/"),
        ("example.org", "/news/live"),
        ("Example.ORG:8443", "/news/live"),
        ("b.net", "/ws"),
    ]
    return {
        "notes": NOTES,
        "cookie": {
            "names": [[host, path, session_cookie_name(CodecSettings(host, path))] for host, path in names],
            "headers": [
                {"name": NAMES[5], "opening": opening.hex(), "value": opening_to_cookie(NAMES[5], opening)}
                for opening in openings
            ],
        },
        "websocket": {
            "host": SETTINGS.host,
            "path": SETTINGS.path,
            "opening": OPENING.hex(),
            "up_payload": b"".join(UP).hex(),
            "down_payload": b"".join(DOWN).hex(),
            "request": head.decode().replace(CHROMIUM.user_agent_for(), "{user-agent}").split("\r\n"),
            "up_frames": frames.hex(),
            "down": ws_down.hex(),
        },
        "random": {
            "path": SETTINGS.path,
            "opening": OPENING.hex(),
            "up_payload": b"".join(UP).hex(),
            "down_payload": b"".join(DOWN).hex(),
            "up": random_up.hex(),
            "down": random_down.hex(),
            "keystreams": [keystream_of(b"up", random_up), keystream_of(b"down", random_down)],
        },
    }


def keystream_of(direction: bytes, data: bytes) -> dict[str, Any]:
    tag, words = keystream(direction, SETTINGS.path, data[:16])
    return {
        "direction": direction.decode(),
        "nonce": data[:16].hex(),
        "tag": tag.hex(),
        "words": [f"{next(words):08x}" for _ in range(4)],
    }


@pytest.fixture(scope="module")
def known() -> dict[str, Any]:
    return json.loads(FILE.read_text())


def test_the_same_generators_give_the_same_bytes(known):
    assert vectors() == known


def test_cookies(known):
    for host, path, name in known["cookie"]["names"]:
        assert session_cookie_name(CodecSettings(host, path)) == name
    for each in known["cookie"]["headers"]:
        head = HttpHead([("Cookie", each["value"])], "GET", "/")
        assert opening_from_cookie(each["name"], head) == bytes.fromhex(each["opening"])


def read_up(name: str, data: bytes) -> tuple[bytes, bytes, list[str]]:
    """(opening, payload, how it ended) as a bridge reads it."""
    link = codec_table()[name].reception(SETTINGS, random.Random(5)).open_link()
    opening, payload, ends = b"", bytearray(), []
    events = link.receive_data(data, 0.0)
    while events:
        event = events.pop(0)
        if type(event) is OpeningReceived:
            opening = event.opening
            event.accept(bytes(32), 0.0)
            events += link.receive_data(b"", 0.0)
        elif type(event) is PayloadReceived:
            payload += event.data
        elif type(event) is CarrierEnded:
            ends.append(event.reason)
    return opening, bytes(payload), ends


def test_a_bridge_reads_the_recorded_clients(known):
    for name in ("websocket", "random"):
        each = known[name]
        if name == "websocket":
            request = "\r\n".join([*each["request"], "", ""]).replace("{user-agent}", "curl/8")
            data = request.encode() + bytes.fromhex(each["up_frames"])
        else:
            data = bytes.fromhex(each["up"])
        assert read_up(name, data) == (
            bytes.fromhex(each["opening"]),
            bytes.fromhex(each["up_payload"]),
            [""],
        )


def test_a_client_reads_the_recorded_bridges(known):
    for name in ("websocket", "random"):
        conversation = Conversation(name)  # the same key, so that the recorded accept value fits
        events = conversation.link.receive_data(bytes.fromhex(known[name]["down"]), 0.0)
        got = b"".join(bytes(event.data) for event in events if type(event) is PayloadReceived)
        assert got == bytes.fromhex(known[name]["down_payload"])


if __name__ == "__main__":
    FILE.write_text(json.dumps(vectors(), indent=1) + "\n")
