"""The built-in site beside a real nginx: the same answer, byte for byte, to hundreds of odd requests."""

from __future__ import annotations

import asyncio
import re
from email.utils import formatdate
from pathlib import Path

import pytest
from proxy_live import run
from site_live import nginx, say, visited

from ptproxy.proxy.site import BUILTIN, BuiltinSite

H = "Host: a.example\r\n"
C = "Connection: close\r\n"


def ask(line: str, headers: str = H + C, body: str = "") -> bytes:
    return f"{line}\r\n{headers}\r\n{body}".encode("latin-1")


def odd_requests() -> dict[str, bytes]:
    """Requests by name."""
    status = (BUILTIN / "index.html").stat()
    etag = f'"{int(status.st_mtime):x}-{status.st_size:x}"'
    lm = formatdate(int(status.st_mtime), usegmt=True)
    asked: dict[str, bytes] = {}
    for m in [
        "GET",
        "HEAD",
        "POST",
        "PUT",
        "OPTIONS",
        "DELETE",
        "TRACE",
        "PATCH",
        "FOO",
        "M-SEARCH",
        "X_Y",
        "CONNECT",
    ]:
        for u in ["/", "/nothing", "/style.css", "/plots", "/plots/", "/nothing/", "/style.css/"]:
            asked[f"{m} {u}"] = ask(f"{m} {u} HTTP/1.1")
    for u in [
        "/%",
        "/%zz",
        "/%00",
        "/..",
        "/../",
        "/a/../style.css",
        "/a/../../x",
        "//style.css",
        "/./style.css",
        "/plots/.",
        "/plots/..",
        "/style.css?x=1",
        "/plots?x=1",
        "/style.css#f",
        "/%73tyle.css",
        "/plots%2f",
        "/%2e%2e/",
        "*",
        "style.css",
        "http://b.example/",
        "http://b.example/plots",
        "http://b.example",
        "HTTPS://b.example:44/plots?q",
        "a.example:443",
        "http:/x",
        "ftp://x/",
        "/a b",
        "/\x01",
        "/\x7f",
        "/\xff",
        "/plots/%e4",
        "/..;/x",
        "/a/..",
        "/a/./",
        "/a//b",
        "?x",
        "/?x",
        "/index.html",
        "/index.html/",
        "/.",
        "/...",
        "/x%3f",
        "http://b_c/",
        "http://[::1]/plots",
        "http://u@b/",
    ]:
        asked["URI " + u] = ask(f"GET {u} HTTP/1.1")
    for v in [
        "HTTP/1.0",
        "HTTP/1.1 ",
        "HTTP/1.2",
        "HTTP/0.9",
        "HTTP/2.0",
        "HTTP/3.0",
        "HTTP/1",
        "HTTP/1.",
        "http/1.1",
        "HTTP/1.1x",
        "HTTP/01.1",
        "HTTP/1.01",
        "HTTP/1.999",
        "HTTP/1.1000",
        "HTTX/1.1",
        "HTTP/11.1",
        "HTTP/00.9",
    ]:
        asked["VER " + v] = ask(f"GET / {v}")
    asked["0.9"] = b"GET /\r\n"
    asked["0.9 404"] = b"GET /no\r\n"
    asked["0.9 post"] = b"POST /\r\n"
    asked["0.9sp"] = b"GET / \r\n"
    asked["pri"] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    asked["tls"] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
    asked["lower"] = b"get / HTTP/1.1\r\n" + (H + C).encode() + b"\r\n"
    asked["junk"] = b"\x00\x01\x02"
    asked["ssh"] = b"SSH-2.0-OpenSSH_9\r\n"
    asked["crlfs"] = b"\r\n\r\n" + ask("GET / HTTP/1.1")
    asked["lf"] = b"GET / HTTP/1.1\nHost: x\nConnection: close\n\n"
    asked["lead sp"] = b" " + ask("GET / HTTP/1.1")
    asked["two sp"] = ask("GET  /  HTTP/1.1")
    asked["tab"] = ask("GET\t/ HTTP/1.1")
    asked["cr"] = b"GET / HTTP/1.1\rHost: a\r\n\r\n"
    for h in [
        "",
        "Host: \r\n",
        "Host: a\r\nHost: a\r\n",
        "Host: a/b\r\n",
        "Host: a:b\r\n",
        "Host: a b\r\n",
        "Host: a:80\r\n",
        "Host: [::1]\r\n",
        "Host: [::1\r\n",
        "Host: a..b\r\n",
        "Host: a.\r\n",
        "Host: A.B\r\n",
        "Host : a\r\n",
        " Host: a\r\n",
        "Host:a\r\n",
        "Host:\ta\r\n",
        "Host: a@b\r\n",
        "Host: ..\r\n",
        "Host: a_b\r\n",
        "Host: a\xff\r\n",
        "Host: :80\r\n",
        "Host: a:\r\n",
    ]:
        asked["HOST " + h] = ask("GET / HTTP/1.1", h + C)
        asked["HOSTP " + h] = ask("GET /plots HTTP/1.1", h + C)
        asked["HOST10 " + h] = ask("GET / HTTP/1.0", h)
    for h in [
        "X(Y: 1\r\n",
        "X_Y: 1\r\n",
        ": 1\r\n",
        "X\r\n",
        "X: a\x01\r\n",
        "X: a\x00b\r\n",
        "X\x00: b\r\n",
        "X Y: 1\r\n",
        "X: 1\r\n folded\r\n",
        "X: a\rb\r\n",
        "\xff: 1\r\n",
        "X;: 1\r\n",
        "X\t: 1\r\n",
        "Content-Length: 0\r\n",
        "Content-Length: x\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 1 1\r\n",
        "Content-Length: 0\r\nContent-Length: 0\r\n",
        "Content-Length: \r\n",
        "Content-Length: 1048577\r\n",
        "Content-Length: 99999999999999999999999\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: Chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Expect: 100-continue\r\n",
        "Expect: x\r\n",
        "Upgrade: websocket\r\n",
        "Range: bytes=0-3\r\n",
        "Range: bytes=5-\r\n",
        "Range: bytes=-4\r\n",
        "Range: bytes=9999999-\r\n",
        "Range: bytes=5-2\r\n",
        "Range: bytes=x\r\n",
        "Range: bytes=\r\n",
        "Range: bits=1-2\r\n",
        "Range: bytes=0-99999999\r\n",
        "Range: bytes=-99999999\r\n",
        "Range: bytes=-0\r\n",
        "Range: bytes=-\r\n",
        "Range: bytes= 1 - 2 \r\n",
        "Range: Bytes=1-2\r\n",
        'Range: bytes=0-0\r\nIf-Range: "x"\r\n',
        f"Range: bytes=0-0\r\nIf-Range: {etag}\r\n",
        f"Range: bytes=0-0\r\nIf-Range: {lm}\r\n",
        f"If-Modified-Since: {lm}\r\n",
        "If-Modified-Since: Fri, 01 Jan 2038 00:00:00 GMT\r\n",
        f"If-None-Match: {etag}\r\n",
        f"If-None-Match: W/{etag}\r\n",
        "If-None-Match: *\r\n",
        'If-None-Match: "x"\r\n',
        f'If-None-Match: "x", {etag}\r\n',
        f'If-None-Match: "x"\r\nIf-Modified-Since: {lm}\r\n',
        'If-Match: "x"\r\n',
        f"If-Match: {etag}\r\n",
        "If-Match: *\r\n",
        "If-Unmodified-Since: Fri, 01 Jan 1999 00:00:00 GMT\r\n",
        f"If-Unmodified-Since: {lm}\r\n",
    ]:
        asked["HDR " + h] = ask("GET / HTTP/1.1", H + C + h)
        asked["HDRP " + h] = ask("POST / HTTP/1.1", H + C + h)
        asked["HDR404 " + h] = ask("HEAD /no HTTP/1.1", H + C + h)
    asked["long uri"] = ask("GET /" + "a" * 9000 + " HTTP/1.1")
    asked["long hdr"] = ask("GET / HTTP/1.1", H + C + "X: " + "a" * 9000 + "\r\n")
    asked["many hdr"] = ask("GET / HTTP/1.1", H + C + ("X: " + "a" * 4000 + "\r\n") * 12)
    asked["uri 8180"] = ask("GET /" + "a" * 8160 + " HTTP/1.1")
    asked["long uri cut"] = b"GET /" + b"a" * 9000
    asked["long method"] = b"A" * 9000
    asked["pipe"] = (
        ask("GET / HTTP/1.1", H)
        + ask("POST / HTTP/1.1", H + "Content-Length: 3\r\n", "abc")
        + ask("HEAD /no HTTP/1.1")
    )
    asked["chunked pipe"] = ask(
        "GET /no HTTP/1.1", H + "Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n1;x=y\r\nd\r\n0\r\n\r\n"
    ) + ask("GET / HTTP/1.1")
    asked["chunked trailers"] = ask(
        "GET /no HTTP/1.1", H + "Transfer-Encoding: chunked\r\n", "0\r\nA: b\r\n\r\n"
    ) + ask("GET / HTTP/1.1")
    asked["chunked bad"] = ask("GET /no HTTP/1.1", H + "Transfer-Encoding: chunked\r\n", "z\r\n") + ask(
        "GET / HTTP/1.1"
    )
    asked["expect body"] = ask(
        "GET / HTTP/1.1", H + C + "Expect: 100-continue\r\nContent-Length: 3\r\n", "abc"
    )
    asked["expect post"] = ask(
        "POST / HTTP/1.1", H + C + "Expect: 100-continue\r\nContent-Length: 3\r\n", "abc"
    )
    asked["ka10"] = ask("GET / HTTP/1.0", H + "Connection: keep-alive\r\n") + ask("GET / HTTP/1.0", H)
    asked["conn x"] = ask("GET /no HTTP/1.1", H + "Connection: Upgrade\r\n") + ask("GET / HTTP/1.1")
    asked["conn 2"] = ask("GET /no HTTP/1.1", H + "Connection: keep-alive, Close\r\n") + ask("GET / HTTP/1.1")
    return asked


def without_time_and_port(answer: bytes) -> bytes:
    answer = re.sub(rb"Date: [^\r]*", b"Date: D", answer)
    return re.sub(rb"(?<=:)\d{4,5}(?=/)", b"P", answer)


@pytest.mark.program("nginx")
def test_answers_like_nginx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o755)
    different = {}

    async def main() -> None:
        site = BuiltinSite(asyncio.get_running_loop(), scheme="http")
        with nginx(tmp_path, BUILTIN) as real:
            async with visited(site) as ours:
                for name, request in odd_requests().items():
                    there = without_time_and_port(await say(real, request, end=True))
                    here = without_time_and_port(await say(ours, request, end=True))
                    if there != here:
                        different[name] = there, here

    run("asyncio", monkeypatch, main)
    assert different == {}
    assert len(odd_requests()) > 400
