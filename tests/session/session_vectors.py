"""Makes tests/vectors/session.json: one frame of each type, refused frames, and a short conversation.

Run it as a script after a change of the wire format; test_session_frames.py
checks that the file is what this makes. Every byte is hexadecimal. Fields stand in
the order of the wire; payloads are hexadecimal too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from session_pair import Pair

from ptproxy.session import frames

PATH = Path(__file__).parent.parent / "vectors" / "session.json"

TARGET = bytes.fromhex("030b6578616d706c652e6f726701bb")


def frame_vectors() -> list[dict[str, Any]]:
    """Each type once, with its fields."""
    return [
        {"type": "DATA", "stream": 2, "offset": 4294967297, "payload": "68656c6c6f"},
        {"type": "EOF", "stream": 2, "final": 4294967302},
        {"type": "OPEN", "stream": 4, "generation": 1, "flags": 0, "limit": 65536,
         "target": TARGET.hex(), "data": "6869"},
        {"type": "OPEN", "stream": 3, "generation": 0, "flags": 1, "limit": 0, "target": "06", "data": ""},
        {"type": "OPENED", "stream": 4},
        {"type": "WINDOW", "stream": 4, "received": 2, "limit": 65538},
        {"type": "BIND", "stream": 4, "generation": 2, "received": 7, "limit": 262144},
        {"type": "MOVE", "stream": 4, "generation": 3, "received": 8, "limit": 262144},
        {"type": "RESUME", "entries": [[4, 5, 9, 262144], [3, 1, 0, 0]]},
        {"type": "ASK", "stream": 4, "received": 2, "limit": 65538},
        {"type": "RESET", "stream": 4, "reason": 5},
        {"type": "GONE", "stream": 4},
        {"type": "CLOSED", "carrier": 7},
        {"type": "PING", "value": 1},
        {"type": "PONG", "value": 1},
        {"type": "DATAGRAM", "stream": 3, "address": "017f0000010035", "data": "00ff"},
        {"type": "GOAWAY", "carrier": 0},
        {"type": "CHALLENGE", "data": "c0ffee"},
        {"type": "PROOF", "data": "decade"},
    ]  # fmt: skip


def fields_of(vector: dict[str, Any]) -> list[Any]:
    """Its fields in the order of the wire."""
    fields = [value for name, value in vector.items() if name not in ("type", "hex")]
    return [bytes.fromhex(value) if isinstance(value, str) else value for value in fields]


def serialize(vector: dict[str, Any]) -> bytes:
    """The bytes of one of :func:`frame_vectors`."""
    kind = getattr(frames, vector["type"])
    fields = [
        bytes.fromhex(v) if isinstance(v, str) else v for k, v in vector.items() if k not in ("type", "hex")
    ]
    match vector["type"]:
        case "DATA":
            stream, offset, payload = fields
            return frames.data_header(stream, offset, len(payload)) + payload
        case "OPEN":
            *head, data = fields
            return frames.open_header(*head, len(data)) + data
        case "DATAGRAM":
            stream, address, data = fields
            return frames.datagram_header(stream, address, len(data)) + data
        case "RESUME":
            return frames.resume([tuple(entry) for entry in fields[0]])
        case "BIND" | "MOVE":
            return frames.bind(kind, *fields)
        case "PING" | "PONG":
            return frames.ping(kind, fields[0])
        case "CHALLENGE" | "PROOF":
            return frames.opaque(kind, fields[0])
        case name:
            return getattr(frames, name.lower())(*fields)


def refused() -> list[dict[str, str]]:
    """Bytes that a receiver must refuse on sight, and why."""
    return [
        {"why": "unknown type", "hex": "1300000000000000"},
        {"why": "type 0", "hex": "0000000000000000"},
        {"why": "DATA without payload", "hex": "01000008000000020000000000000000"},
        {"why": "DATA of 262,145 bytes", "hex": "01040009000000020000000000000000"},
        {"why": "DATA on stream 0", "hex": "0100000900000000000000000000000000"},
        {"why": "EOF with a body too many", "hex": "020000090000000200000000000000"},
        {"why": "PING on a stream", "hex": "0d00000800000002"},
        {"why": "OPEN with unknown flags", "hex": "0300000f00000002" + "00000000" + "02" + "00" * 10},
        {"why": "OPEN whose target is longer than it", "hex": "0300000f00000002" + "00" * 14 + "01"},
        {"why": "RESUME cut inside an entry", "hex": "0800001900000000" + "00000002" + "00" * 21},
        {"why": "RESUME of stream 0", "hex": "0800001800000000" + "00" * 24},
        {"why": "CLOSED of carrier 0", "hex": "0c0000040000000000000000"},
        {"why": "DATAGRAM whose address is longer than the frame", "hex": "0f000002000000020001"},
        {"why": "CHALLENGE of 1,025 bytes", "hex": "1100040100000000"},
    ]  # fmt: skip


def conversation() -> list[dict[str, str]]:
    """A stream from OPEN to its end over a carrier that dies on the way; default limits, no time passes."""
    pair = Pair()
    said: list[dict[str, str]] = []

    def carry(carrier: int, keep: int | None = None) -> None:
        for name, side in (("client", pair.client), ("bridge", pair.bridge)):
            data = pair.drain(side, carrier)
            if data:
                said.append({"from": name, "carrier": str(carrier), "hex": data.hex()})
                pair.give(pair.other(side), carrier, data[:keep])

    near = pair.client.open_stream(TARGET, b"hello", pair.now)
    carry(1)
    far = pair.bridge.streams[near.id]
    far.accept(pair.now)
    far.send_data(b"world", pair.now)
    carry(1)
    near.send_data(b"again", pair.now)
    near.send_eof(pair.now)
    carry(1, keep=18)
    pair.lose(1)
    pair.attach()
    while pair.client.ready or pair.bridge.ready:
        carry(2)
    far.send_eof(pair.now)
    while pair.client.ready or pair.bridge.ready:
        carry(2)
    return said


def make() -> str:
    """The file's text."""
    vectors = {
        "about": "Session frames of ptproxy/session/PROTOCOL.md, made by tests/session/session_vectors.py",
        "frames": [{**vector, "hex": serialize(vector).hex()} for vector in frame_vectors()],
        "refused": refused(),
        "conversation": conversation(),
    }
    return json.dumps(vectors, indent=1) + "\n"


if __name__ == "__main__":
    PATH.write_text(make())
