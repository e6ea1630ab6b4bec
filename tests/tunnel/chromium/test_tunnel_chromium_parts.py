"""The parts of the browser tier without a browser: DevTools messages, the door, the program that is found."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.codec.interface import CodecSettings
from ptproxy.codec.join import page_origin
from ptproxy.config.link import Link
from ptproxy.errors import AuthenticationError, StartError
from ptproxy.tunnel.beginning import _Nobody
from ptproxy.tunnel.carrier import Connection
from ptproxy.tunnel.chromium import browser as browser_module
from ptproxy.tunnel.chromium import devtools as devtools_module
from ptproxy.tunnel.chromium import door as door_module
from ptproxy.tunnel.chromium.browser import check_line, check_pin
from ptproxy.tunnel.chromium.devtools import BrowserError, CommandRefused, DevTools, MessageReader
from ptproxy.tunnel.chromium.door import Door
from ptproxy.tunnel.chromium.process import Process
from ptproxy.tunnel.chromium.program import Program
from ptproxy.tunnel.tls import ClientTrust

ORIGIN = page_origin(CodecSettings("site.example", "/assets/live"))

# ---- DevTools ----------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=40).filter(lambda one: b"\0" not in one), max_size=6), st.data())
def test_messages_survive_any_split(messages: list[bytes], draw: st.DataObject) -> None:
    data = b"".join(message + b"\0" for message in messages)
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=6)))
    reader, out = MessageReader(), []
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        out += reader.receive_data(data[start:end])
    assert out == messages


def test_a_message_without_end_is_not_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devtools_module, "MAX_MESSAGE", 100)
    reader = MessageReader()
    reader.receive_data(bytes([1]) * 100)
    with pytest.raises(ValueError, match="more than"):
        reader.receive_data(b"\x01")


class Out:
    """The pipe that commands go into."""

    def __init__(self) -> None:
        self.written: list[dict[str, Any]] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written.append(json.loads(data.removesuffix(b"\0")))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def spoken(loop: asyncio.AbstractEventLoop) -> tuple[DevTools, Out]:
    devtools, out = DevTools(loop), Out()
    devtools.opened(out)  # type: ignore[arg-type]
    return devtools, out


def told(devtools: DevTools, **message: Any) -> None:
    devtools.data_received(json.dumps(message).encode() + b"\0")


def test_commands_are_answered_whatever_the_order() -> None:
    async def main() -> None:
        devtools, out = spoken(asyncio.get_running_loop())
        first = asyncio.ensure_future(devtools.call("A.one", "S", value=1))
        second = asyncio.ensure_future(devtools.call("B.two"))
        await asyncio.sleep(0)
        assert out.written[0] == {"id": 1, "method": "A.one", "params": {"value": 1}, "sessionId": "S"}
        told(devtools, id=2, error={"message": "no such thing"})
        told(devtools, id=99, result={})
        told(devtools, id=1, result={"it": "is"})
        assert await first == {"it": "is"}
        with pytest.raises(CommandRefused, match="no such thing"):
            await second

    asyncio.run(main())


def test_events_go_to_who_listens() -> None:
    async def main() -> None:
        devtools, _ = spoken(asyncio.get_running_loop())
        heard: list[Any] = []
        devtools.listen("S", "Page.loaded", heard.append)
        told(devtools, method="Page.loaded", params={"n": 1}, sessionId="S")
        told(devtools, method="Page.loaded", params={"n": 2}, sessionId="T")
        told(devtools, method="Page.other", params={"n": 3}, sessionId="S")
        devtools.forget("S")
        told(devtools, method="Page.loaded", params={"n": 4}, sessionId="S")
        assert heard == [{"n": 1}]

    asyncio.run(main())


def test_a_browser_that_goes_takes_its_commands_along() -> None:
    async def main() -> None:
        devtools, _ = spoken(asyncio.get_running_loop())
        call = asyncio.ensure_future(devtools.call("A.one"))
        await asyncio.sleep(0)
        devtools.connection_lost(None)
        with pytest.raises(BrowserError):
            await call
        with pytest.raises(BrowserError):
            await devtools.call("A.two")
        assert devtools.closed.done()

    asyncio.run(main())


@pytest.mark.parametrize("nonsense", [b"{\0", b"[" * 100_000 + b"\0", b"\xff\0"])
def test_nonsense_closes_the_pipes(nonsense: bytes) -> None:
    async def main() -> None:
        devtools, out = spoken(asyncio.get_running_loop())
        devtools.data_received(nonsense)
        assert out.closed
        assert devtools.closed.done()

    asyncio.run(main())


def test_unanswered_commands_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(devtools_module, "MAX_CALLS", 3)
        devtools, out = spoken(asyncio.get_running_loop())
        calls = [asyncio.ensure_future(devtools.call("A.one")) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(BrowserError):
            await devtools.call("A.one")
        assert len(out.written) == 3
        devtools.close()
        await asyncio.gather(*calls, return_exceptions=True)

    asyncio.run(main())


# ---- the door ----------------------------------------------------------------------------------

REQUEST = (
    "GET /{token} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Origin: {origin}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


async def knock(door: Door, **changes: str) -> bytes:
    """What comes back for a request, up to its end; b"" for a connection dropped without a word."""
    fields = {"token": "none", "host": door.host, "origin": ORIGIN} | changes
    host, _, port = door.host.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(REQUEST.format(**fields).encode())
        return await reader.readuntil(b"\r\n\r\n")
    except (ConnectionError, asyncio.IncompleteReadError):
        return b""
    finally:
        writer.close()


def test_only_who_is_expected_comes_in_and_only_once() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        door = Door(loop, ORIGIN)
        await door.open()
        connection = Connection(_Nobody(), loop)
        expected = door.expect(connection)
        good = door.url(expected).rpartition("/")[2]
        assert door.url(expected).startswith("ws://127.0.0.1:")
        assert await knock(door) == b""
        assert await knock(door, token=good[:-1]) == b""
        assert await knock(door, token=good, origin="https://other.example") == b""
        assert await knock(door, token=good, host="rebound.example") == b""
        assert not expected.joined.done()
        answer = await knock(door, token=good)
        assert answer.startswith(b"HTTP/1.1 101 ")
        assert await knock(door, token=good) == b""
        await door.wait(expected)
        assert not door.visitors
        door.close()
        await asyncio.sleep(0.01)
        assert connection.ended

    asyncio.run(main())


def test_a_join_that_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(door_module, "JOIN_TIMEOUT", 0.01)
        loop = asyncio.get_running_loop()
        door = Door(loop, ORIGIN)
        await door.open()
        expected = door.expect(Connection(_Nobody(), loop))
        with pytest.raises(BrowserError):
            await door.wait(expected)
        assert await knock(door, token=door.url(expected).rpartition("/")[2]) == b""
        door.close()

    asyncio.run(main())


def test_visitors_that_say_nothing_do_not_keep_the_page_out() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        door = Door(loop, ORIGIN)
        await door.open()
        host, _, port = door.host.partition(":")
        silent = [await asyncio.open_connection(host, int(port)) for _ in range(door_module.MAX_VISITORS)]
        expected = door.expect(Connection(_Nobody(), loop))
        answer = await knock(door, token=door.url(expected).rpartition("/")[2])
        assert answer.startswith(b"HTTP/1.1 101 ")
        for _, writer in silent:
            writer.close()
        door.close()

    asyncio.run(main())


def test_visitors_that_say_nothing_are_few_and_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(door_module, "MAX_VISITORS", 3)
        monkeypatch.setattr(door_module, "HEAD_TIMEOUT", 0.1)
        loop = asyncio.get_running_loop()
        door = Door(loop, ORIGIN)
        await door.open()
        host, _, port = door.host.partition(":")
        connections = [await asyncio.open_connection(host, int(port)) for _ in range(6)]
        for reader, writer in connections:
            writer.write(b"GET /")
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
            writer.close()
        assert not door.visitors
        door.close()

    asyncio.run(main())


# ---- the program -------------------------------------------------------------------------------


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_what_is_found_says_its_version(tmp_path: Path) -> None:
    path = script(tmp_path / "chrome", "echo 'Google Chrome 156.0.8078.79 unknown'")
    program = Program.find(path)
    assert (program.major, program.name) == (156, "Google Chrome")
    assert "Chrome/156.0.0.0 Safari" in program.user_agent()
    assert "Headless" not in program.user_agent()
    assert not program.changed()
    os.utime(path, ns=(1, 1))
    assert program.changed()
    path.unlink()
    assert program.changed()


def test_edge_calls_itself_edge(tmp_path: Path) -> None:
    program = Program.find(script(tmp_path / "edge", "echo 'Microsoft Edge 150.0.1.2'"))
    assert program.user_agent().endswith("Chrome/150.0.0.0 Safari/537.36 Edg/150.0.0.0")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("echo 'Chromium 123.0.1.2'", "is version 123; 124"),
        ("echo hello", "says no version"),
        ("exit 1", "says no version"),
    ],
)
def test_what_does_not_serve(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(StartError, match=said):
        Program.find(script(tmp_path / "browser", text))


def test_none_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StartError, match=r"apt install chromium.*tls\.browser"):
        Program.find(None)
    with pytest.raises(StartError, match="is not a program"):
        Program.find(tmp_path / "nothing")


def test_the_command_line_names_the_bridge_alone_and_no_secret(tmp_path: Path) -> None:
    program = Program.find(script(tmp_path / "browser", "echo 'Chromium 156.0.1.2'"))
    command = program.command(tmp_path / "profile", "site.example", "2001:db8::1", "SPKI")
    rules = next(one for one in command if one.startswith("--host-resolver-rules="))
    assert rules.endswith("=MAP site.example [2001:db8::1],MAP * ~NOTFOUND,EXCLUDE 127.0.0.1")
    assert "--ignore-certificate-errors-spki-list=SPKI" in command
    assert ("--no-sandbox" in command) == (os.geteuid() == 0)
    assert not any("ignore-certificate-errors" in one for one in program.command(tmp_path, "a", "b", ""))


def test_a_browser_that_ends_at_once_says_why(tmp_path: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        path = script(tmp_path / "browser", "echo 'no usable sandbox' >&2; exit 1")
        with pytest.raises(BrowserError, match="no usable sandbox"):
            await browser_module.Run.start(loop, [str(path)], ORIGIN)
        with pytest.raises(BrowserError, match="does not start"):
            await browser_module.Run.start(loop, [str(tmp_path / "nothing")], ORIGIN)

    asyncio.run(main())


def test_a_browser_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr("ptproxy.tunnel.chromium.process.END_TIMEOUT", 0.05)
        path = script(tmp_path / "browser", "trap '' TERM; exec sleep 1000")
        process = await Process.start(asyncio.get_running_loop(), [str(path)])
        await process.end()
        with pytest.raises(ProcessLookupError):
            os.kill(process.pid, 0)

    asyncio.run(main())


def test_nothing_of_ours_reaches_the_browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        path = script(tmp_path / "browser", "ls /proc/self/fd >&2; echo environment $SECRET >&2")
        kept = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 200)  # as every descriptor that Python opens
        process = await Process.start(asyncio.get_running_loop(), [str(path)])
        await process.devtools.closed
        while not process._words.text.endswith(b"environment\n"):
            await asyncio.sleep(0.01)
        said = process._words.text.decode().split()
        os.close(kept)
        await process.end()
        assert {"0", "1", "2", "3", "4"} <= set(said)
        assert str(kept) not in said

    monkeypatch.setenv("SECRET", "do not tell")
    asyncio.run(asyncio.wait_for(main(), 20))


# ---- what a bridge line must be ----------------------------------------------------------------


def line(**changes: Any) -> Link:
    fields: dict[str, Any] = {
        "key": bytes(32),
        "host": "192.0.2.1",
        "port": 443,
        "path": "/assets/live",
        "server_name": "site.example",
        "codecs": ("websocket", "http"),
        "pin": None,
        "seal": True,
        "binding": True,
        "token": b"",
    }
    return Link(**(fields | changes))


def test_a_usable_line() -> None:
    check_line(line(), ClientTrust())


@pytest.mark.parametrize(
    ("changes", "trust", "said"),
    [
        ({"seal": False}, ClientTrust(), "seal=1"),
        ({"path": "/"}, ClientTrust(), "path of the bridge's own"),
        ({"path": "/a;b"}, ClientTrust(), "path of the bridge's own"),
        ({}, ClientTrust(authorities=Path("ca.pem")), "pin or the system"),
        ({}, ClientTrust(certificate=Path("me.pem")), "pin or the system"),
    ],
)
def test_lines_that_a_browser_cannot_serve(changes: dict[str, Any], trust: ClientTrust, said: str) -> None:
    with pytest.raises(StartError, match=said):
        check_line(line(**changes), trust)


def test_another_leaf_than_the_pinned_one() -> None:
    with pytest.raises(AuthenticationError):
        check_pin(b"leaf", bytes(32))
