"""Make a browser's data file and golden conversations from recordings of ``capture.py``.

    python capture_profile.py RAW.json BROWSERS_FOLDER VECTORS_FOLDER

The data file (``codec/browsers/NAME-MAJOR.yaml``) holds what was seen, request
kind by request kind, with values that vary replaced by named variables. A
golden conversation (``tests/vectors/h2-NAME.json``) is one connection's writes
of both sides in order, each request of the client told by kind and variables
only, so that a test can ask a client for the same and compare bytes. Bodies
are all zeros in these recordings and written as a count.
"""

from __future__ import annotations

import json
import re
import struct
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hpack
import yaml

GOLDEN = ("simple", "rich", "idle", "cookie")
"""Series whose connections become golden conversations."""
KINDS = {
    "document": "navigation", "style": "style", "font": "font", "iframe": "frame", "video": "video",
    "manifest": "manifest",
}  # fmt: skip
VARIABLES = {
    "content-length": "length", "content-type": "content_type", "referer": "referer", "origin": "origin",
    "if-none-match": "etag", "if-modified-since": "last_modified",
}  # fmt: skip
VALUES = {
    "sec-ch-ua": "brands", "sec-ch-ua-mobile": "mobile", "sec-ch-ua-platform": "platform",
    "user-agent": "user_agent", "accept-language": "accept_language",
}  # fmt: skip
"""Fields whose value is the build's, the system's or the user's, with the name it has in the data file."""


class Pair(list[Any]):
    """A list written on one line."""


yaml.SafeDumper.add_representer(
    Pair, lambda dumper, pair: dumper.represent_sequence("tag:yaml.org,2002:seq", pair, flow_style=True)
)


HABITS: dict[str, dict[str, Any]] = {
    "chromium": {
        "hpack": {"unindexed": [":method", ":path", ":scheme"]},
        "weights": Pair([256, 220, 183, 147, 110]),
        "initial_streams": 100, "most_streams": 256, "body_piece": 16375,
        "renew_after": 5.0, "ping_after": 10.0, "ping_wait": 10.0, "resets_304": True,
    },
    "firefox": {
        "hpack": {"unindexed": [":path"], "never_indexed": ["authorization"], "short_cookie": 20,
                  "huffman_always": True, "highest_name": True, "literal": [":path"]},
        "weights": Pair([42, 32, 23, 22, 13, 12, 11, 2]),
        "initial_streams": 100, "most_streams": 256, "body_piece": 16000,
        "renew_after": None, "ping_after": None, "ping_wait": 10.0, "resets_304": False,
    },
}  # fmt: skip
"""What one recording cannot show; from net/spdy (read 2026-11) and several recordings side by side."""


LOADING: dict[str, dict[str, Any]] = {
    "chromium": {
        "roles": {
            "style": Pair([0, 0, "scan"]), "style_body": Pair([2, 2, "scan"]),
            "style_print": Pair([4, 4, "scan"]), "style_preload": Pair([0, 0, "scan"]),
            "script": Pair([1, 1, "scan"]), "script_body": Pair([2, 2, "scan"]),
            "script_deferred": Pair([3, 3, "scan"]), "script_preload": Pair([1, 1, "scan"]),
            "module": Pair([1, 1, "scan"]), "module_preload": Pair([1, 1, "scan"]),
            "font": Pair([0, 0, "layout"]), "font_preload": Pair([1, 1, "scan"]),
            "frame": Pair([0, 0, "layout"]), "picture": Pair([3, 3, "scan"]),
            "picture_first": Pair([2, 2, "scan"]), "picture_high": Pair([1, 1, "scan"]),
            "picture_low": Pair([3, 3, "scan"]), "picture_lazy": Pair([3, 3, "layout"]),
            "picture_preload": Pair([3, 3, "scan"]), "background": Pair([3, 3, "layout"]),
            "poster": Pair([3, 3, "scan"]), "prefetch": Pair([4, 4, "scan"]), "icon": Pair([1, 1, "icon"]),
        },
        "most_urgent_first": True, "first_pictures": 5, "in_sight": 1,
        "tight_from": 2, "tight_limit": 2, "http1_patient": Pair([]),
        "delays": {
            "hello": Pair([0.0001, 0.0003]), "request": Pair([0.0, 0.00005]), "scan": Pair([0.016, 0.045]),
            "scan_more": Pair([0.001, 0.006]), "pictures": None,
            "layout": Pair([0.005, 0.012]), "fonts": Pair([0.0004, 0.015]), "sight": Pair([0.001, 0.008]),
            "broken": Pair([0.0015, 0.004]), "icon": Pair([0.020, 0.060]),
            "ask_gap": Pair([0.0005, 0.004]), "ask_pause": Pair([0.004, 0.012]),
        },
        "ask_together": 0.65,
        "ask_pauses": 0.2,
    },
    "firefox": {
        "roles": {
            "style": Pair([3, 2, "scan"]), "style_body": Pair([3, 2, "scan"]),
            "style_print": Pair([3, 4, "layout"]), "style_preload": Pair([0, 0, "scan"]),
            "script": Pair([3, 2, "scan"]), "script_body": Pair([3, 3, "scan"]),
            "script_deferred": Pair([3, 3, "scan"]), "script_preload": Pair([0, 1, "scan"]),
            "module": Pair([3, 3, "scan"]), "module_preload": Pair([0, 1, "scan"]),
            "font": Pair([1, 3, "layout"]), "font_preload": Pair([1, 2, "scan"]),
            "frame": Pair([3, 4, "layout"]), "picture": Pair([5, 5, "pictures"]),
            "picture_first": Pair([5, 5, "pictures"]), "picture_high": Pair([1, 3, "scan"]),
            "picture_low": Pair([7, 6, "pictures"]), "picture_lazy": Pair([5, 5, "layout"]),
            "picture_preload": Pair([6, 5, "pictures"]), "background": Pair([4, 4, "layout"]),
            "poster": Pair([5, 5, "pictures"]), "prefetch": Pair([7, 6, "pictures"]),
            "icon": Pair([3, 6, "icon"]),
        },
        "most_urgent_first": False, "first_pictures": 0, "in_sight": None,
        "tight_from": None, "tight_limit": 0, "http1_patient": Pair(["image", "empty"]),
        "delays": {
            "request": Pair([0.05, 0.25]), "scan": Pair([0.05, 0.18]),
            "scan_more": Pair([0.001, 0.006]), "pictures": Pair([0.0005, 0.015]),
            "layout": Pair([0.03, 0.12]), "fonts": Pair([0.0005, 0.02]), "sight": None, "broken": None,
            "icon": Pair([0.03, 0.2]), "ask_gap": Pair([0.0002, 0.0012]), "ask_pause": Pair([0.002, 0.012]),
        },
        "ask_together": 0.0,
        "ask_pauses": 0.1,
    },
}  # fmt: skip
"""How each loads a page (``codec/page/habits.py``), from the series "rich" and "simple", several times, with
answers after 20 to 60 ms; Chromium's delays from cover record by record, Firefox's from a machine that was
slow with it. To look at again when a browser has a new version: nothing of this is made from a recording."""


@dataclass
class Request:
    """One HEADERS frame from the browser."""

    stream: int
    fields: list[tuple[str, str]]
    weight: int
    exclusive: bool

    def get(self, name: str) -> str:
        """A field's value, "" without it."""
        return dict(self.fields).get(name, "")

    @property
    def said(self) -> int:
        """The urgency in the priority field (RFC 9218 section 4.1)."""
        found = re.search(r"u=([0-7])", self.get("priority"))
        return int(found[1]) if found else 3

    @property
    def kind(self) -> str:
        """What is asked for, from method, destination and mode."""
        target, mode = self.get("sec-fetch-dest"), self.get("sec-fetch-mode")
        if "prefetch" in self.get("sec-purpose"):
            return "prefetch"
        if target == "empty":
            return "post" if self.get(":method") == "POST" else "fetch"
        if target == "script":
            return "module" if mode == "cors" else "script"
        if target == "image":
            return "icon" if re.search("icon", self.get(":path")) else "image"
        if target == "font" and self.said in (1, 2):
            return "font_preload"
        return KINDS.get(target, target)


@dataclass
class Connection:
    """One recorded connection, decoded."""

    host: str
    steps: list[dict[str, Any]] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    settings: list[tuple[int, int]] = field(default_factory=list)
    increments: dict[int, int] = field(default_factory=dict)


def split_frames(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """(type, flags, stream, payload) of each frame; the recorded sides end writes at frame ends."""
    if data.startswith(b"PRI"):
        data = data[24:]
    found = []
    while data:
        size = int.from_bytes(data[:3], "big")
        found.append((data[3], data[4], int.from_bytes(data[5:9], "big"), data[9 : 9 + size]))
        data = data[9 + size :]
    return found


def compact(data: bytes) -> str:
    """Hex, with a long run of zeros at the end as a count."""
    bare = data.rstrip(b"\0")
    zeros = len(data) - len(bare)
    return f"{bare.hex()}+{zeros}" if zeros > 64 else data.hex()


def first_writes(connection: Connection) -> list[int]:
    """Bytes of the first writes, each a TLS record 17 (in nDPI's and SHAPES.md's count) bytes longer."""
    writes = [step["client"] for step in connection.steps if "client" in step]
    return [len(bytes.fromhex(text.partition("+")[0])) for text in writes[:3]]


class ConnectionReader:
    """Decodes one connection and tells it as steps that a test can follow."""

    def __init__(self, host: str, weights: list[int]) -> None:
        self.connection = Connection(host)
        self._weights = weights
        self._decoder = hpack.Decoder(max_header_list_size=1 << 20)
        self._urgency: dict[int, int] = {}
        self._early: list[dict[str, Any]] | None = []  # said by the server before the SETTINGS ack
        self._children = 0  # PRIORITY frames of streams that only follow another one's change

    def server(self, now: float, data: bytes) -> None:
        """A write of the server; those before the client's SETTINGS ack are told right before that."""
        (self.connection.steps if self._early is None else self._early).append(
            {"at": now, "server": compact(data)}
        )

    def client(self, now: float, data: bytes) -> None:
        """A TLS record of the client: first what it was asked for, then what it wrote."""
        steps = self.connection.steps
        for kind, flags, stream, payload in split_frames(data):
            if kind == 0:
                step = next(one for one in reversed(steps) if one.get("number") == stream)
                step["body"] = step.get("body", 0) + len(payload)
                if payload.strip(b"\0"):
                    step["text"] = payload.decode()
            elif kind == 1:
                self._request(now, stream, payload, bool(flags & 1))
            elif kind == 2:
                self._priority(stream, payload)
            elif kind == 4 and not flags & 1:
                self.connection.settings = list(struct.iter_unpack(">HI", payload))
            elif kind == 4 and self._early is not None:
                steps += self._early
                self._early = None
            elif kind == 8:
                self.connection.increments.setdefault(stream, int.from_bytes(payload, "big"))
        steps.append({"client": compact(data)})

    def _request(self, now: float, stream: int, payload: bytes, ends: bool) -> None:
        word = int.from_bytes(payload[:4], "big")
        fields = [(name, value) for name, value in self._decoder.decode(payload[5:])]
        request = Request(stream, fields, payload[4] + 1, bool(word >> 31))
        self.connection.requests.append(request)
        urgency = self._urgency[stream] = self._weights.index(request.weight)
        self._parent(word & 0x7FFFFFFF, urgency, 0)
        self.connection.steps.append({"at": now} | request_step(request, urgency, ends))

    def _priority(self, stream: int, payload: bytes) -> None:
        urgency = self._weights.index(payload[4] + 1)
        self._parent(int.from_bytes(payload[:4], "big") & 0x7FFFFFFF, urgency, self._children)
        if urgency == self._urgency[stream]:
            self._children += 1
            return
        steps = self.connection.steps
        steps.insert(len(steps) - self._children, {"change": stream, "urgency": urgency})
        self._urgency[stream], self._children = urgency, 0

    def _parent(self, parent: int, urgency: int, back: int) -> None:
        """A parent less urgent than its child has moved before, and no frame had to say so."""
        if self._urgency.get(parent, 0) > urgency:
            steps = self.connection.steps
            steps.insert(len(steps) - back, {"change": parent, "urgency": urgency})
            self._urgency[parent] = urgency


def read_connection(host: str, entries: list[list[Any]], weights: list[int]) -> Connection:
    """Decode one recorded connection."""
    reader = ConnectionReader(host, weights)
    for when, side, text in entries:
        side_said = reader.server if side == "S" else reader.client
        side_said(when / 1000, bytes.fromhex(text))
    return reader.connection


def request_step(request: Request, urgency: int, ends: bool) -> dict[str, Any]:
    """A request as a test asks for it."""
    variables = {"host": request.get(":authority"), "path": request.get(":path")}
    variables |= {VARIABLES[name]: value for name, value in request.fields if name in VARIABLES}
    if not ends:
        variables["length"] = request.get("content-length")
    step: dict[str, Any] = {"number": request.stream, "kind": request.kind, "urgency": urgency}
    step["said"] = request.said
    cookies = [value for name, value in request.fields if name == "cookie"]
    return step | {"variables": variables} | ({"cookies": cookies} if cookies else {})


def merged_fields(requests: list[Request]) -> list[Pair]:
    """The header list of a kind: every field any of its requests had, where it had it."""
    merged: list[Pair] = []
    for request in sorted(requests, key=lambda one: -len(one.fields)):
        place = 0
        for name, value in request.fields:
            known = [one[0] for one in merged]
            if name in known:
                place = known.index(name) + 1
                continue
            merged.insert(place, Pair([name, template(name, value)]))
            place += 1
    return merged


def template(name: str, value: str) -> str:
    """A value with what varies as a variable."""
    if name in VARIABLES:
        return "{" + VARIABLES[name] + "}"
    if name in VALUES:
        return "{" + VALUES[name] + "}"
    fixed = {":authority": "{host}", ":path": "{path}", "cookie": "{cookie}", "priority": "{priority}"}
    return fixed.get(name, value)


def upgrade_line(line: str, host: str, values: dict[str, str]) -> Pair:
    """A header line of a WebSocket upgrade (HTTP/1.1), as name and template."""
    name, _, value = line.partition(": ")
    fixed = {"Cookie": "{cookie}", "Sec-WebSocket-Key": "{key}", "User-Agent": "{user_agent}"}
    if value == values["accept_language"]:
        return Pair([name, "{accept_language}"])
    return Pair([name, fixed.get(name, value.replace(host, "{host}"))])


def profile(raw: dict[str, Any], connections: list[Connection], upgrade: str) -> dict[str, Any]:
    """The data file's content."""
    chromium = raw["browser"] == "chromium"
    habits = dict(HABITS[raw["browser"]])
    requests = [request for one in connections for request in one.requests]
    first = next(one for one in connections if one.requests)
    settings = dict(first.settings)
    stream_increment = 0 if chromium else first.increments[first.requests[0].stream]
    whole = settings[4] + stream_increment
    kinds: dict[str, Any] = {}
    for kind in sorted({request.kind for request in requests}):
        alike = [request for request in requests if request.kind == kind]
        weight, said = Counter((request.weight, request.said) for request in alike).most_common(1)[0][0]
        kinds[kind] = {
            "urgency": habits["weights"].index(weight),
            "said": said,
            "incremental": any(request.get("priority").endswith("i") for request in alike),
            "fields": merged_fields(alike),
        }
    values = {VALUES[name]: value for name, value in requests[0].fields if name in VALUES}
    values["user_agent"] = values["user_agent"].replace("X11; Linux x86_64", "{system}")
    return {
        "browser": raw["browser"],
        "version": raw["version"],
        "recorded": raw["date"],
        "platform": raw["platform"],
        "first_writes": Pair(first_writes(first)),
        "http2": {
            "settings": [Pair(pair) for pair in first.settings],
            "connection_increment": first.increments[0],
            "stream_increment": stream_increment,
            "first_stream": first.requests[0].stream,
            "in_line": first.requests[0].exclusive,
            "renew_stream_at": whole // 2 + 1 if chromium else 4 << 20,
            "renew_connection_at": (first.increments[0] + 65535) // 2 + 1 if chromium else 4 << 20,
            **habits,
        },
        "values": values,
        "requests": kinds,
        "websocket_upgrade": [
            upgrade_line(line, raw["host"], values) for line in upgrade.split("\r\n")[1:-2]
        ],
        "loading": LOADING[raw["browser"]],
    }


def main() -> int:
    raw = json.loads(Path(sys.argv[1]).read_text())
    browsers, vectors = Path(sys.argv[2]), Path(sys.argv[3])
    weights = HABITS[raw["browser"]]["weights"]
    connections, golden, upgrade = [], [], ""
    for visit in raw["visits"]:
        for one in visit["connections"]:
            if one["alpn"] != "h2":
                upgrade = bytes.fromhex(one["entries"][0][2]).decode("latin-1")
                continue
            if visit["series"] == "window" or len(one["entries"]) < 5:
                continue
            connection = read_connection(raw["host"], one["entries"], weights)
            if connection.requests[0].get("pragma"):
                continue  # Firefox reloads the page of a session that was ended by a signal
            connections.append(connection)
            if visit["series"] in GOLDEN:
                name = f"{visit['series']} {visit['visit']} {visit['page']}"
                golden.append({"name": name, "steps": connection.steps})
    data = profile(raw, connections, upgrade)
    major = raw["version"].split(".")[0]
    head = f"# What {raw['browser']} {raw['version']} sent; made by scripts/capture_profile.py, not edited.\n"
    text = yaml.safe_dump(data, sort_keys=False, width=110, allow_unicode=True)
    (browsers / f"{raw['browser']}-{major}.yaml").write_text(head + text)
    content = {
        "source": {key: raw[key] for key in ("browser", "version", "date", "platform", "host", "delay_ms")},
        "conversations": golden,
    }
    (vectors / f"h2-{raw['browser']}.json").write_text(json.dumps(content, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
