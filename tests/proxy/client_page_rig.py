"""Requests to the client's page as a browser sends them, and a client that is stood in for."""

from __future__ import annotations

from typing import Any

from ptproxy.proxy.page.guard import Guard, Keys
from ptproxy.proxy.page.request import Request, RequestReader
from ptproxy.proxy.page.steering import Phase, Snapshot

AUTHORITY = "127.0.0.1:8080"
KEYS = Keys()
BOUNDARY = "----WebKitFormBoundaryAbCdEf0123456789"


def request_head(method="GET", path="", *, authority=AUTHORITY, keys=KEYS, cookie=None, **fields):
    """A head as Chromium sends it; ``fields`` with _ for -, None leaves one out."""
    said = {
        "host": authority,
        "connection": "keep-alive",
        "accept-language": "en-US,en;q=0.9",
        "sec-fetch-site": "same-origin",
        "cookie": f"ptproxy={keys.cookie}" if cookie is None else cookie,
    }
    if method == "POST":
        said["origin"] = f"http://{authority}"
        said["content-type"] = f"multipart/form-data; boundary={BOUNDARY}"
    said |= {name.replace("_", "-"): value for name, value in fields.items()}
    lines = [f"{method} /{keys.place}/{path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in said.items() if value]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def form_body(fields: dict[str, bytes], boundary=BOUNDARY):
    parts = b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + value + b"\r\n"
        for name, value in fields.items()
    )
    return parts + f"--{boundary}--\r\n".encode()


def post(path, fields, *, keys=KEYS, token=None, **others):
    body = form_body({"token": (keys.form if token is None else token).encode()} | fields)
    return request_head("POST", path, keys=keys, content_length=str(len(body)), **others) + body


def read(data: bytes, authority=AUTHORITY, keys=KEYS) -> Request | None:
    return RequestReader(Guard(authority, keys).body_of).receive_data(data)


def client_state(**changes: Any) -> dict[str, Any]:
    """A client's status as the control socket tells it."""
    way = {
        "front": 1, "codec": "http", "degree": "open", "failed_at": None, "rests": 0.0, "took": 0.1,
        "done": "",
    }  # fmt: skip
    return {
        "role": "client", "condition": "connected", "why": "", "fingerprint": "chrome",
        "process": {"program": "0.1"}, "listening": ["127.0.0.1:1080", "http://127.0.0.1:1081/proxy.pac"],
        "last_block": None, "choice": [],
        "bridges": [
            {"bridge": "bridge.example:443", "carriers": [{}], "streams": 0, "ways": [way], "account": None}
        ],
    } | changes  # fmt: skip


class StoodIn:
    """A client whose page does what a test says."""

    takes_links = True
    reads_pictures = True

    def __init__(self, state=None, phase=Phase.RUNNING, why="") -> None:
        self.snapshot = Snapshot(phase, state, why)
        self.taken: list[bytes] = []
        self.chosen: list[str] = []
        self.started = 0

    async def look(self):
        return self.snapshot

    async def take(self, given):
        self.taken.append(given)
        return "said_taken"

    async def choose(self, bridge):
        self.chosen.append(bridge)
        return "said_chosen"

    async def again(self):
        self.started += 1
        return "said_again"
