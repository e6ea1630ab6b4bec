"""The local proxy used by curl: each protocol, kept connections, uploads, users; h11 is the web server."""

from __future__ import annotations

import asyncio
import hashlib
import random

import h11
import pytest
from proxy_live import LOOPS, TableDialer, local_proxy, run, serving

from ptproxy.errors import Reason
from ptproxy.front import Users

pytestmark = pytest.mark.program("curl")

BIG = random.Random(11).randbytes(8 << 20)

PROXIES = {
    "socks5": ["--socks5-hostname", "{}"],
    "socks5 on its own resolving": ["--socks5", "{}", "--resolve", "a.net:80:127.0.0.77"],
    "socks4a": ["--socks4a", "{}"],
    "connect": ["--proxytunnel", "--proxy", "http://{}"],
    "plain": ["--proxy", "http://{}"],
}


async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers each request with its number on the connection and the digest of its body; /big with much."""
    connection = h11.Connection(h11.SERVER)
    count = 0

    async def next_event():
        while (event := connection.next_event()) is h11.NEED_DATA:
            if connection.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[], reason="Continue")
                writer.write(connection.send(go_on))
            connection.receive_data(await reader.read(65536))
        return event

    while True:
        request = await next_event()
        if not isinstance(request, h11.Request):
            return
        assert request.target.startswith(b"/")
        assert not [name for name, _ in request.headers if name.startswith(b"proxy-")]
        count += 1
        digest = hashlib.sha256()
        size = 0
        while isinstance(event := await next_event(), h11.Data):
            digest.update(event.data)
            size += len(event.data)
        text = BIG if request.target == b"/big" else f"{count} {size} {digest.hexdigest()[:8]}\n".encode()
        framing = (
            ("Transfer-Encoding", "chunked")
            if b"chunked" in request.target
            else ("Content-Length", str(len(text)))
        )
        writer.write(connection.send(h11.Response(status_code=200, headers=[framing])))
        if request.method != b"HEAD":
            for start in range(0, len(text), 100000):
                writer.write(connection.send(h11.Data(data=text[start : start + 100000])))
                await writer.drain()
        writer.write(connection.send(h11.EndOfMessage()))
        if connection.our_state is not h11.DONE:
            return
        connection.start_next_cycle()


async def curl(*arguments: str, stdin: bytes = b"") -> tuple[int, bytes, str]:
    """curl's exit status, output and complaints."""
    process = await asyncio.create_subprocess_exec(
        "curl", "--silent", "--show-error", "--max-time", "15", "--noproxy", "", *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate(stdin)
    assert process.returncode is not None
    return process.returncode, out, err.decode()


def through(name: str, address: tuple[str, int]) -> list[str]:
    host, port = address
    return [part.format(f"[{host}]:{port}" if ":" in host else f"{host}:{port}") for part in PROXIES[name]]


def answer(number: int, body: bytes = b"") -> bytes:
    return f"{number} {len(body)} {hashlib.sha256(body).hexdigest()[:8]}\n".encode()


@pytest.mark.parametrize("name", list(PROXIES))
@pytest.mark.parametrize("kind", LOOPS)
def test_transfers(kind: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        host = "::1" if kind == "uvloop" else "127.0.0.1"
        async with serving(web, host) as server:
            dialer = TableDialer({"a.net:80": server, "127.0.0.77:80": server})
            async with local_proxy(dialer, host) as (_, address):
                proxy = through(name, address)
                status, out, err = await curl(
                    *proxy, "http://a.net/1", "http://a.net/chunked", "http://a.net/3"
                )
                assert (status, err) == (0, "")
                assert out == answer(1) + answer(2) + answer(3)
                assert len(dialer.dialled) == 1
                assert await curl(*proxy, "http://a.net/big") == (0, BIG, "")
                for arguments in (
                    ["--data-binary", "@-"],  # curl expects 100-continue above a megabyte
                    ["--upload-file", "-", "--header", "Transfer-Encoding: chunked"],
                    ["--upload-file", "-", "--header", "Transfer-Encoding: chunked", "--header", "Expect:"],
                    ["--http1.0", "--data-binary", "@-"],
                ):
                    status, out, err = await curl(*proxy, *arguments, "http://a.net/up", stdin=BIG)
                    assert (status, out, err) == (0, answer(1, BIG), "")
                status, out, err = await curl(
                    *proxy, "--head", "http://a.net/", "--next", *proxy, "http://a.net/"
                )
                assert (status, err) == (0, "")
                assert out.startswith(b"HTTP/1.1 200")
                assert out.endswith(answer(2))

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_users(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with serving(web) as server:
            dialer = TableDialer({"a.net:80": server})
            async with local_proxy(dialer, users=Users({"ann": "p:w"})) as (_, address):
                for name in ("socks5", "connect", "plain"):
                    proxy = through(name, address)
                    assert await curl(*proxy, "--proxy-user", "ann:p:w", "http://a.net/") == (
                        0,
                        answer(1),
                        "",
                    )
                    arguments = [*proxy, "--proxy-anyauth", "--proxy-user", "ann:p:w", "http://a.net/"]
                    assert await curl(*arguments) == (0, answer(1), "")
                    before = len(dialer.dialled)
                    status, out, err = await curl(*proxy, "--proxy-user", "ann:x", "--fail", "http://a.net/")
                    assert status in (97, 56, 22), err
                    assert out == b""
                    assert len(dialer.dialled) == before

    run(kind, monkeypatch, main)


@pytest.mark.parametrize(
    ("reason", "socks", "http"),
    [
        (Reason.REFUSED, "(5)", "502"),
        (Reason.HOST_UNREACHABLE, "(4)", "502"),
        (Reason.NAME_NOT_FOUND, "(4)", "502"),
        (Reason.NETWORK_UNREACHABLE, "(3)", "502"),
        (Reason.NOT_PERMITTED, "(2)", "403"),
        (Reason.TIMED_OUT, "(6)", "504"),
        (Reason.TUNNEL_DOWN, "(1)", "503"),
    ],
)
def test_curl_says_why(reason: Reason, socks: str, http: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with local_proxy(TableDialer({"a.net:80": reason})) as (_, address):
            status, _, err = await curl(*through("socks5", address), "http://a.net/")
            assert status == 97
            assert socks in err
            status, _, err = await curl(*through("connect", address), "http://a.net/")
            assert status == 56
            assert http in err
            status, out, _ = await curl(
                *through("plain", address), "--write-out", "%{http_code}", "http://a.net/"
            )
            assert status == 0
            assert out.decode().endswith(http)
            status, _, err = await curl(*through("socks4a", address), "http://a.net/")
            assert status == 97
            assert "(91)" in err

    run("uvloop", monkeypatch, main)
