"""The probe battery against real servers: what is alike shows no difference, what is not shows many."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from pathlib import Path

import hpack
import pytest
from inspect_servers import NAME, nginx_pair, python_server

from ptproxy.codec.client_hello import ClientHelloReader
from ptproxy.codec.http2.frames import PREFACE
from ptproxy.errors import StartError
from ptproxy.inspect.battery import battery
from ptproxy.inspect.hello_variants import usual_hello, variants, wire
from ptproxy.inspect.probe import Finish, Pause, Probe, SayGoodbye, Send, SendAfterEnd, Tls, Visit, Watch
from ptproxy.inspect.side_by_side import compare_servers
from ptproxy.inspect.visit import Server, run_probe

BRIEF = {Watch.SHORT: 0.5, Watch.LONG: 0.5}
"""Seconds: servers on this machine answer at once."""


def probes(only: str = "") -> list[Probe]:
    return [probe for probe in battery(NAME, random.Random(5)) if only in probe.name]


def compared(first: int, second: int, asked: list[Probe], progress=lambda done, total: None):
    servers = (Server(("127.0.0.1", port), NAME) for port in (first, second))
    return asyncio.run(compare_servers(*servers, asked, BRIEF, progress))


def seen(port: int, *steps, tls: Tls | None = None, watch: float = 0.5):
    probe = Probe("one", "one", (Visit(steps, tls),))
    server = Server(("127.0.0.1", port), NAME)
    return asyncio.run(run_probe(server, probe, {Watch.SHORT: watch, Watch.LONG: watch}))


def test_the_battery_asks_more_than_a_hundred_different_things() -> None:
    asked = battery(NAME, random.Random(1), path="/secret", opening=b"GET /secret HTTP/1.1\r\n\r\n")
    assert len(asked) > 200
    assert len({probe.name for probe in asked}) == len(asked)
    assert [probe.long for probe in asked] == sorted((probe.long for probe in asked), reverse=True)
    assert {probe.family for probe in asked} == {
        "clear", "h2", "http", "replay", "silence", "tls", "websocket",
    }  # fmt: skip
    assert any(b"/secret" in step.data for probe in asked for visit in probe.visits for step in visit.steps
               if isinstance(step, Send) and probe.family == "websocket")  # fmt: skip


def test_the_same_random_numbers_ask_the_same() -> None:
    assert battery(NAME, random.Random(1)) == battery(NAME, random.Random(1))
    assert battery(NAME, random.Random(1)) != battery(NAME, random.Random(2))


def test_a_long_name_is_a_string_of_hpack() -> None:
    for name in ("a" * 126, "a" * 127, "a" * 253):
        (ask,) = (probe for probe in battery(name, random.Random(1)) if probe.name == "HTTP/2: GET")
        block = ask.visits[0].steps[0].data[len(PREFACE) + 18 :]
        assert dict(hpack.Decoder().decode(block))[":authority"] == name


def test_every_odd_hello_is_another_one() -> None:
    made = variants(NAME, random.Random(1))
    assert len(set(made.values())) == len(made) > 60
    usual = ClientHelloReader().receive_data(made["hello"])
    assert usual == usual_hello(NAME, random.Random(1))
    assert wire(usual) == made["hello"]


@pytest.mark.program("nginx")
def test_two_alike_nginx_show_no_difference(tmp_path: Path) -> None:
    asked, told = probes(), []
    with nginx_pair(tmp_path) as (first, second):
        report = compared(first, second, asked, lambda done, total: told.append((done, total)))
    assert [(one.probe.name, one.differences) for one in report.differing] == []
    assert report.certificates_equal
    assert [one.probe for one in report.compared] == asked
    assert told[-1][0] == told[-1][1] >= len(asked)


@pytest.mark.program("nginx")
@pytest.mark.parametrize(
    ("more", "only", "observable"),
    [
        ("ssl_session_timeout 9m;", "TLS: 1.3, GET", "tickets"),
        ("ssl_session_tickets off;", "TLS: 1.3, resumed", "handshake"),
        ("server_tokens off;", "HTTP: GET of nothing", "answer"),
        ("location / { return 444; }", "HTTP: HEAD", "answer"),
        ("ssl_ecdh_curve secp384r1;", "TLS: hello", "clear"),
        ("location = /ws { return 400; }", "WebSocket: upgrade of /ws", "answer"),
        ("client_header_timeout 1s;", "HTTP: half a line, then silence", "ended"),
        ("http2_max_concurrent_streams 7;", "HTTP/2: preface only", "answer"),
    ],
)
def test_one_setting_of_nginx_is_found(tmp_path: Path, more: str, only: str, observable: str) -> None:
    asked = [probe for probe in probes() if probe.name == only]
    with nginx_pair(tmp_path, more) as ports:
        servers = (Server(("127.0.0.1", port), NAME) for port in ports)
        seconds = {Watch.SHORT: 0.5, Watch.LONG: 2.0}
        report = asyncio.run(compare_servers(*servers, asked, seconds, lambda *_: None))
    assert asked
    for one in report.compared:
        assert observable in {difference.observable for difference in one.differences}, one


@pytest.mark.program("nginx")
def test_a_server_of_pythons_is_nothing_like_nginx(tmp_path: Path) -> None:
    (tmp_path / "nginx").mkdir()

    async def main(first: int):
        async with python_server(tmp_path) as second:
            servers = (Server(("127.0.0.1", port), NAME) for port in (first, second))
            return await compare_servers(*servers, asked, BRIEF, lambda *_: None)

    asked = [probe for probe in probes() if not probe.long][::5]
    with nginx_pair(tmp_path / "nginx") as (first, _):
        report = asyncio.run(main(first))
    assert not report.certificates_equal
    assert len(report.differing) > 0.8 * len(asked)
    told = {difference.observable for one in report.differing for difference in one.differences}
    assert {"tickets", "answer", "clear", "end", "sizes"} <= told
    assert "flight_sizes" not in told  # another certificate has another length


@pytest.mark.program("nginx")
def test_what_a_prober_notes(tmp_path: Path) -> None:
    ask = Send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    with nginx_pair(tmp_path) as (port, _):
        got = seen(port, ask, tls=Tls())
        assert got.handshake.startswith("TLSv1.3, TLS_AES_256_GCM_SHA384, ALPN http/1.1, new")
        assert got.answer.startswith("HTTP/1.1 200 OK\r\nServer: nginx")
        assert "Date: *" in got.answer
        assert got.end == "close_notify, FIN"
        assert got.ended is not None
        assert len(got.sizes) == 4  # two tickets, the answer, close_notify
        assert got.tickets == "for 300 s"
        assert seen(port, ask, tls=Tls(highest="1.2")).handshake.startswith("TLSv1.2")
        unknown = seen(port, ask, tls=Tls(alpn=("foo/1",)))
        assert unknown.handshake.startswith("none: ")
        assert unknown.clear == ("alert fatal no_application_protocol",)
        assert seen(port, ask).answer.startswith("HTTP/1.1 400 Bad Request")
        assert seen(port, Send(b"\x16\3\1\0\5hello")).clear == ("alert fatal unexpected_message",)
        assert seen(port).end == "open"
        assert seen(port, Finish()).end == "FIN"
        assert seen(port, SayGoodbye(), tls=Tls()).end == "FIN"
        assert seen(port, Pause(0.01), ask, SendAfterEnd(b"more"), tls=Tls()).end == (
            "close_notify, FIN, RST when written to"
        )
        http2 = seen(port, Send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), tls=Tls(alpn=("h2",)))
        assert http2.answer.startswith("SETTINGS flags 00 stream 0")


def test_a_reset_is_told_from_an_end() -> None:
    def server(listener: socket.socket) -> None:
        sock, _ = listener.accept()
        sock.recv(100)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sock.close()

    import threading

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server, args=(listener,))
        thread.start()
        got = seen(listener.getsockname()[1], Send(b"x"), watch=5.0)
        thread.join()
    assert got.end == "RST"
    assert got.answer == ""


def test_a_server_that_is_not_there_is_no_finding() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(StartError, match="cannot be reached: refused"):
        compared(port, port, probes("clear: SSH"))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")
def test_whoever_is_interrupted_leaves_no_connection() -> None:
    def sockets() -> int:
        found = [os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")
                 if os.path.islink(f"/proc/self/fd/{name}")]  # fmt: skip
        return sum(name.startswith("socket:") for name in found)

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
            server = Server(listener.getsockname()[:2], NAME)
            before = sockets()
            seconds = {Watch.SHORT: 60.0, Watch.LONG: 60.0}
            task = asyncio.create_task(
                compare_servers(server, server, probes("clear"), seconds, lambda *_: None)
            )
            while sockets() < before + 8:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert sockets() == before

    asyncio.run(main())
