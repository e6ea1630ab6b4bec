"""What a prober says above TLS: HTTP in order and out of order, HTTP/2, WebSocket upgrades."""

from __future__ import annotations

import struct
from random import Random
from typing import Final

from ptproxy.codec.http2.frames import (
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    frame_head,
    ping_frame,
    reset_frame,
    settings_frame,
    window_update_frame,
)
from ptproxy.inspect.probe import (
    Finish,
    Pause,
    Probe,
    SayGoodbye,
    Send,
    SendAfterEnd,
    Step,
    Tls,
    Visit,
    Watch,
)

CLOSE: Final = b"Connection: close\r\n"
_H2: Final = Tls(alpn=("h2", "http/1.1"))
_LONG_VALUE: Final = b"a" * 40_000
"""More than any web server takes in a line by default (nginx 8 KiB, Apache 8 KiB, caddy 1 MiB in all)."""
_LONG_TARGET: Final = b"/" + b"a" * 20_000


def http_probes(name: str, rng: Random) -> list[Probe]:
    """Requests in TLS."""
    asked = _requests(name.encode("ascii", "replace")) | {
        "random bytes, 200": rng.randbytes(200),
        "random bytes, 517": rng.randbytes(517),
        "random bytes and an empty line": rng.randbytes(200).replace(b"\n", b"x") + b"\r\n\r\n",
        "random bytes, 66 kB": rng.randbytes(517) * 128,
    }
    return [_in_tls(f"HTTP: {what}", "http", Send(data)) for what, data in asked.items()] + _habits(name)


def get(host: bytes, target: bytes = b"/", more: bytes = b"", version: bytes = b"HTTP/1.1") -> bytes:
    """A GET request."""
    return b"GET " + target + b" " + version + b"\r\nHost: " + host + b"\r\n" + more + b"\r\n"


def request(
    host: bytes, method: bytes, more: bytes = CLOSE, body: bytes = b"", target: bytes = b"/"
) -> bytes:
    """A request of any method."""
    return method + b" " + target + b" HTTP/1.1\r\nHost: " + host + b"\r\n" + more + b"\r\n" + body


def _requests(host: bytes) -> dict[str, bytes]:
    """What is sent in one piece, by what is odd about it."""
    return {**_targets(host), **_versions(host), **_bodies(host), **_methods(host), **_headers(host)}


def _targets(host: bytes) -> dict[str, bytes]:
    """GETs of one thing or another."""
    return {
        "GET": get(host, more=CLOSE),
        "GET, kept alive": get(host),
        "GET of nothing": get(host, b"/no/such/page", CLOSE),
        "GET of a dot file": get(host, b"/.git/config", CLOSE),
        "GET with a query": get(host, b"/?a=1&b=2", CLOSE),
        "GET above the root": get(host, b"/../../etc/passwd", CLOSE),
        "GET with a bad escape": get(host, b"/%zz", CLOSE),
        "GET with an escaped NUL": get(host, b"/%00", CLOSE),
        "GET with a space in it": get(host, b"/a b", CLOSE),
        "GET of a long target": get(host, _LONG_TARGET),
        "GET of an absolute target": get(host, b"https://" + host + b"/", CLOSE),
        "GET of another site": get(host, b"http://www.example.org/", CLOSE),
        "GET for another host": get(b"www.example.org", more=CLOSE),
        "GET without a host": b"GET / HTTP/1.1\r\n" + CLOSE + b"\r\n",
        "GET for two hosts": get(host, more=b"Host: www.example.org\r\n" + CLOSE),
        "GET for a bad host": get(b"a b", more=CLOSE),
        "two requests at once": get(host) + get(host, b"/no/such/page", CLOSE),
        "a request and random bytes": get(host) + b"\x93\x11\xf5\r\n\r\n",
        "an empty line": b"\r\n\r\n",
        "a TLS record in TLS": b"\x16\3\1\0\x05\1\0\0\1\3",
        "a password and an address": b"a" * 56 + b"\r\n\1\3\x0fwww.example.org\0P\r\n",
    }


def _versions(host: bytes) -> dict[str, bytes]:
    """Old, coming and impossible versions; lines that end oddly."""
    return {
        "GET of HTTP/1.0": get(host, version=b"HTTP/1.0"),
        "GET of HTTP/1.0 without a host": b"GET / HTTP/1.0\r\n\r\n",
        "GET of HTTP/0.9": b"GET /\r\n",
        "GET of HTTP/1.2": get(host, more=CLOSE, version=b"HTTP/1.2"),
        "GET of HTTP/2.0": get(host, more=CLOSE, version=b"HTTP/2.0"),
        "GET of HTTP/9.9": get(host, version=b"HTTP/9.9"),
        "GET of no version": get(host, version=b"FTP/1.1"),
        "GET with bare line feeds": b"GET / HTTP/1.1\nHost: " + host + b"\nConnection: close\n\n",
        "GET with bare carriage returns": b"GET / HTTP/1.1\rHost: " + host + b"\r\r",
        "GET after empty lines": b"\r\n\r\n" + get(host, more=CLOSE),
    }


def _bodies(host: bytes) -> dict[str, bytes]:
    """Requests with a body, and ways to say how long it is."""
    length, chunked = b"Content-Length: ", b"Transfer-Encoding: chunked\r\n"
    both = length + b"4\r\n" + chunked + CLOSE
    return {
        "POST": request(host, b"POST", length + b"5\r\n" + CLOSE, b"hello"),
        "POST without a length": request(host, b"POST"),
        "POST of a bad length": request(host, b"POST", length + b"x\r\n" + CLOSE),
        "POST of two lengths": request(host, b"POST", length + b"4\r\n" + length + b"5\r\n", b"hello"),
        "POST of a huge length": request(host, b"POST", length + b"9999999999\r\n" + CLOSE),
        "POST in chunks": request(host, b"POST", chunked + CLOSE, b"5\r\nhello\r\n0\r\n\r\n"),
        "POST in bad chunks": request(host, b"POST", chunked, b"zz\r\n"),
        "POST in chunks and of a length": request(host, b"POST", both, b"0\r\n\r\n"),
        "POST in an unknown coding": request(host, b"POST", b"Transfer-Encoding: wonder\r\n" + CLOSE),
        "PUT": request(host, b"PUT", length + b"5\r\n" + CLOSE, b"hello"),
    }


def _methods(host: bytes) -> dict[str, bytes]:
    """Every method that means something, and some that do not."""
    asked = {
        name: request(host, name.encode()) for name in ("HEAD", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
    }
    return asked | {
        "OPTIONS of all": request(host, b"OPTIONS", target=b"*"),
        "an unknown method": request(host, b"FOO"),
        "a method in small letters": request(host, b"get"),
        "a method with a bad letter": request(host, b"G@T"),
        "CONNECT": b"CONNECT www.example.org:443 HTTP/1.1\r\nHost: www.example.org:443\r\n\r\n",
    }


def _headers(host: bytes) -> dict[str, bytes]:
    """Headers that change the answer, and headers that are none."""
    many = b"".join(b"X-%d: b\r\n" % number for number in range(300))
    lines = {
        "GET of a range": b"Range: bytes=0-3\r\n",
        "GET if changed": b"If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT\r\n",
        "GET, compressed": b"Accept-Encoding: gzip, deflate, br, zstd\r\n",
        "GET expecting 100": b"Expect: 100-continue\r\n",
        "GET expecting more": b"Expect: wonders\r\n",
        "a long header": b"X-A: " + _LONG_VALUE + b"\r\n",
        "many headers": many,
        "a header without a colon": b"wonder\r\n",
        "a header with a space in its name": b"X A: b\r\n",
        "a header with a bad byte": b"X-A: a\0b\r\n",
        "a folded header": b"X-A: a\r\n b\r\n",
        "a header without a name": b": b\r\n",
    }
    return {what: get(host, more=line + CLOSE) for what, line in lines.items()}


def _habits(name: str) -> list[Probe]:
    """How a connection begins, waits and ends."""
    host = name.encode("ascii", "replace")
    whole, kept = get(host, more=CLOSE), get(host)
    slow: tuple[Step, ...] = tuple(
        step for at in range(0, len(whole), 7) for step in (Send(whole[at : at + 7]), Pause(0.02))
    )
    body = request(host, b"POST", b"Content-Length: 300000\r\n", b"x" * 1000)
    return [
        _in_tls("HTTP: GET, slowly", "http", *slow),
        _in_tls("HTTP: GET, then FIN", "http", Send(kept), Finish()),
        _in_tls("HTTP: GET, then close_notify", "http", Send(kept), SayGoodbye()),
        _in_tls("HTTP: GET, then close_notify and FIN", "http", Send(kept), SayGoodbye(), Finish()),
        _in_tls("HTTP: GET, more after the end", "http", Send(whole), SendAfterEnd(kept)),
        _in_tls("HTTP: bad request, more after the end", "http", Send(b"\0\r\n\r\n"), SendAfterEnd(kept)),
        _in_tls("TLS: close_notify after the handshake", "silence", SayGoodbye()),
        _in_tls("TLS: FIN after the handshake", "silence", Finish()),
        _in_tls("TLS: silence after the handshake", "silence", watch=Watch.LONG),
        _in_tls("HTTP: half a request, then silence", "silence", Send(kept[:-2]), watch=Watch.LONG),
        _in_tls("HTTP: half a line, then silence", "silence", Send(b"GET / HT"), watch=Watch.LONG),
        _in_tls("HTTP: half a body, then silence", "silence", Send(body), watch=Watch.LONG),
        _in_tls("HTTP: a request, then silence", "silence", Send(kept), watch=Watch.LONG),
    ]


def http2_probes(name: str, rng: Random) -> list[Probe]:
    """HTTP/2 in order and out of order (RFC 9113)."""
    start = PREFACE + settings_frame([])
    block = b"\x82\x84\x87\x41" + _text(name.encode("ascii", "replace"))
    ask = frame_head(HEADERS, END_STREAM | END_HEADERS, 1, len(block)) + block
    nothing = b"\x82\x44\x0e/no/such/pages\x87" + block[3:]
    asked = {
        "GET": start + ask,
        "GET of nothing": start + frame_head(HEADERS, 5, 1, len(nothing)) + nothing,
        "preface only": PREFACE,
        "no SETTINGS": PREFACE + ask,
        "bad preface": PREFACE.replace(b"SM", b"MS") + settings_frame([]),
        "random bytes": rng.randbytes(200),
        "HTTP/1.1 request": get(name.encode("ascii", "replace")),
        "frame of an unknown type": start + frame_head(0x55, 0, 0, 4) + b"abcd" + ask,
        "frame too long": start + frame_head(0, 0, 1, 40_000) + bytes(40_000),
        "DATA on stream 0": start + frame_head(0, 0, 0, 4) + b"abcd",
        "HEADERS on an even stream": start + frame_head(HEADERS, 5, 2, len(block)) + block,
        "bad header compression": start + frame_head(HEADERS, 5, 1, 4) + b"\xff\xff\xff\xff",
        "headers without a path": start + frame_head(HEADERS, 5, 1, 2) + b"\x82\x87",
        "bad SETTINGS": start + settings_frame([(4, 0x80000000)]),
        "window overflow": start + window_update_frame(0, 0x7FFFFFFF),
        "window of nothing": start + window_update_frame(0, 0),
        "PING": start + ping_frame(b"12345678"),
        "GET and its reset": start + ask + reset_frame(1, 8),
        "GOAWAY": start + frame_head(7, 0, 0, 8) + struct.pack(">II", 0, 0),
        "RST_STREAM of nothing": start + reset_frame(7, 8),
    }
    probes = [Probe(f"HTTP/2: {what}", "h2", (Visit((Send(data),), _H2),)) for what, data in asked.items()]
    idle = Visit((Send(start + ask),), _H2, Watch.LONG)
    silent = Visit((), _H2, Watch.LONG)
    return [
        *probes,
        Probe("HTTP/2: a request, then silence", "silence", (idle,)),
        Probe("HTTP/2: silence after the handshake", "silence", (silent,)),
    ]


def _text(value: bytes) -> bytes:
    """A string of HPACK, without Huffman code (RFC 7541 section 5.2)."""
    size = len(value)
    return (bytes([size]) if size < 127 else bytes([127, size - 127 | 0x80, size - 127 >> 7])) + value


def websocket_probes(name: str, path: str | None) -> list[Probe]:
    """Upgrades, at the root, at a path that may not be there, and at the one that the operator names."""
    host = name.encode("ascii", "replace")
    cookie = b"Cookie: sid=" + b"A" * 43 + b"; session=" + b"B" * 250 + b"\r\n"
    asked: dict[str, bytes] = {}
    for where in ["/", "/ws", "/no/such/page", *([path] if path else [])]:
        target = where.encode("ascii", "replace")
        asked |= {
            f"upgrade of {where}": upgrade(host, target),
            f"upgrade of {where} with cookies": upgrade(host, target, more=cookie),
        }
    target = (path or "/").encode("ascii", "replace")
    asked |= {
        "upgrade of version 99": upgrade(host, target, version=b"99"),
        "upgrade without a key": upgrade(host, target, key=b""),
        "upgrade with a bad key": upgrade(host, target, key=b"x"),
        "upgrade to h2c": get(
            host,
            target,
            b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
        ),
    }
    if path:
        asked |= {
            "GET of the path": get(host, target, CLOSE),
            "GET of the path with cookies": get(host, target, cookie + CLOSE),
            "HEAD of the path": request(host, b"HEAD", target=target),
            "POST to the path": request(host, b"POST", b"Content-Length: 3\r\n" + CLOSE, b"abc", target),
            "POST to the path with cookies": request(
                host, b"POST", cookie + b"Content-Length: 3\r\n" + CLOSE, b"abc", target
            ),
            "GET below the path": get(host, target + b"/x", CLOSE),
        }
    return [_in_tls(f"WebSocket: {what}", "websocket", Send(data)) for what, data in asked.items()]


def upgrade(
    host: bytes,
    target: bytes,
    version: bytes = b"13",
    key: bytes = b"dGhlIHNhbXBsZSBub25jZQ==",
    more: bytes = b"",
) -> bytes:
    """A WebSocket upgrade (the key is RFC 6455's example)."""
    named = b"Sec-WebSocket-Key: " + key + b"\r\n" if key else b""
    lines = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: " + version + b"\r\n"
    return get(host, target, lines + named + more)


def _in_tls(name: str, family: str, *steps: Step, watch: Watch = Watch.SHORT) -> Probe:
    """A probe of one connection over TLS."""
    return Probe(name, family, (Visit(steps, Tls(), watch),))
