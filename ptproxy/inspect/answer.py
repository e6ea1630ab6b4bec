"""What a server said above TLS, made comparable: values that vary by nature are masked, by name.

Every byte else counts: the order and case of headers, the body, what stands
where no message should. HTTP/2 is taken apart into frames, because its header
compression makes the same fields look different.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

import hpack

from ptproxy.codec.http2.frames import (
    ACK,
    CONTINUATION,
    FRAME_HEAD,
    GOAWAY,
    HEADERS,
    PING,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
)
from ptproxy.codec.http2.frames import DATA as DATA_FRAME

MASKED_HEADERS: Final = (
    "date", "etag", "last-modified", "expires", "age", "x-request-id", "x-amz-request-id", "cf-ray",
    "alt-svc", "report-to", "nel", "server-timing",
)  # fmt: skip
"""Headers whose values differ between two answers, or two copies of one file, by nature."""
MAX_FRAMES: Final = 64
"""HTTP/2 frames of an answer that are told."""
MAX_HEADER_LIST: Final = 64 * 1024
"""Bytes of an HTTP/2 header list that are unpacked."""
WIDTH: Final = 600
"""Bytes of a text that is shown; all of it counts when comparing, through a hash."""

_MASK = re.compile(
    rb"(?im)^((?:%s):[ \t]*)[^\r\n]*" % "|".join(map(re.escape, MASKED_HEADERS)).encode("ascii")
)
_COOKIE = re.compile(rb"(?im)^(set-cookie:[ \t]*[^=;\r\n]*=)[^;\r\n]*")
_NAMES: Final = {
    DATA_FRAME: "DATA", HEADERS: "HEADERS", PRIORITY: "PRIORITY", RST_STREAM: "RST_STREAM",
    SETTINGS: "SETTINGS", PING: "PING", GOAWAY: "GOAWAY", WINDOW_UPDATE: "WINDOW_UPDATE",
    CONTINUATION: "CONTINUATION",
}  # fmt: skip


def masked(data: bytes) -> bytes:
    """Bytes of HTTP/1 with the values of :data:`MASKED_HEADERS` and of cookies replaced by ``*``."""
    return _COOKIE.sub(rb"\1*", _MASK.sub(rb"\1*", data))


def answer_text(data: bytes) -> str:
    """Masked bytes as text that is equal where they are: heads readable, the rest as length and hash."""
    if not data:
        return ""
    if not data.startswith(b"HTTP/"):
        return _shown(data)
    parts = []
    for message in re.split(rb"(?=HTTP/1\.[01] [1-9])", masked(data)):
        head, end, body = message.partition(b"\r\n\r\n")
        if head:
            parts.append(_latin(head) + ("\r\n" + _summary(body) if end and body else ""))
    return "\r\n".join(parts)


def http2_text(data: bytes) -> str:
    """An HTTP/2 server's bytes as one line for each frame; HTTP/1 or anything else as :func:`answer_text`."""
    if data.startswith(b"HTTP/") or len(data) < FRAME_HEAD:
        return answer_text(data)
    decoder = hpack.Decoder(max_header_list_size=MAX_HEADER_LIST)
    lines: list[str] = []
    at = 0
    while at + FRAME_HEAD <= len(data) and len(lines) < MAX_FRAMES:
        size, kind, flags = int.from_bytes(data[at : at + 3]), data[at + 3], data[at + 4]
        stream = int.from_bytes(data[at + 5 : at + 9]) & 0x7FFFFFFF
        payload = data[at + FRAME_HEAD : at + FRAME_HEAD + size]
        name = _NAMES.get(kind, f"type {kind}")
        lines.append(f"{name} flags {flags:02x} stream {stream}: {_payload(kind, flags, payload, decoder)}")
        at += FRAME_HEAD + size
    if at < len(data) and len(lines) < MAX_FRAMES:
        lines.append(_shown(data[at:]))
    return "\r\n".join(lines)


def _payload(kind: int, flags: int, payload: bytes, decoder: hpack.Decoder) -> str:
    """A frame's payload as text."""
    if kind == HEADERS and not flags & 0x28:
        try:
            fields = [(_text(name), _text(value)) for name, value in decoder.decode(payload)]
        except hpack.HPACKError:
            return _shown(payload)
        return "; ".join(f"{name}: {_masked_value(name, value)}" for name, value in fields)
    if kind == DATA_FRAME:
        return _summary(payload)
    if kind == SETTINGS and flags & ACK:
        return "ack"
    return payload[:40].hex()


def _masked_value(name: str, value: str) -> str:
    if name in MASKED_HEADERS:
        return "*"
    return re.sub(r"=[^;]*", "=*", value, count=1) if name == "set-cookie" else value


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


def _summary(body: bytes) -> str:
    """Length and hash."""
    return f"[{len(body)} bytes, SHA-256 {hashlib.sha256(body).hexdigest()[:12]}]"


def _latin(head: bytes) -> str:
    """A head as text; a very long one by its beginning, length and hash."""
    text = head[:WIDTH].decode("latin-1")
    return text if len(head) <= WIDTH else f"{text} … {_summary(head)}"


def _shown(data: bytes) -> str:
    """Bytes that are no HTTP."""
    if len(data) <= 32:
        return f"bytes {data.hex()}"
    return f"bytes {data[:16].hex()} … {_summary(data)}"
