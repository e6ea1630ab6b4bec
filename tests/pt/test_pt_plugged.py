"""A plugged-in bridge and its clients in one loop: what passes, what is refused, what is given back."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ptproxy.config.link import Link
from ptproxy.errors import DialError, FrontError, Reason
from ptproxy.pt import lines as lines_module
from ptproxy.pt.bridge_line import BridgeLine
from ptproxy.pt.doors import open_door, place_of
from ptproxy.pt.identity import hold_folder, load_identity
from ptproxy.pt.lines import Lines
from ptproxy.pt.parent import SERVICE, Parent, PlainPort
from ptproxy.pt.plugged import Plugged, make_config
from ptproxy.pt.wanted import Wanted
from ptproxy.target import Target
from ptproxy.tunnel.surroundings import Change
from ptproxy.ways import Degree, Gateway, Surroundings, Way


class Said(asyncio.Protocol):
    """What comes on a stream."""

    def __init__(self) -> None:
        self.data = b""
        self.news = asyncio.Event()
        self.lost = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.data += bytes(data)
        self.news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


class Nobody:
    """A receiver of datagrams that never come."""

    def datagram_received(self, source: Target, data: bytes) -> None:
        raise AssertionError

    def association_lost(self, exc: DialError | None) -> None:
        pass


PATIENCE = 60.0
"""Seconds after which something that should have happened counts as broken."""


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run a test; one that waits for what never comes is a failure, and does not hang."""
    asyncio.run(asyncio.wait_for(work, PATIENCE))


async def until(condition) -> None:
    while not condition():
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def plugged(folder: Path, port=None) -> AsyncIterator[tuple[Lines, BridgeLine, Parent]]:
    """A bridge before an echo server, and a client's lines."""
    loop = asyncio.get_running_loop()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    with hold_folder(folder) as state:
        identity = load_identity(state, Wanted())
        sock = open_door("127.0.0.1", 0)
        config = make_config(identity, Wanted(), folder, ["websocket"], place_of(sock))
        bridge = Plugged(loop, state)
        parent = Parent(loop, port or PlainPort(server.sockets[0].getsockname()))
        await bridge.start(config, [sock], {SERVICE: parent})
        host, number = place_of(sock)
        link = Link(
            key=identity.public, host=host, port=number, path=identity.path, server_name=identity.name,
            codecs=("websocket",), pin=identity.pin,
        )  # fmt: skip
        lines = Lines(loop)
        try:
            yield lines, BridgeLine(link, "python", "none"), parent
        finally:
            await lines.stop()
            await parent.close()
            await bridge.stop()
    server.close()
    await server.wait_closed()


def test_the_bridge_is_no_way_out(tmp_path: Path) -> None:
    async def main() -> None:
        async with plugged(tmp_path) as (lines, line, parent):
            for target, reason in (
                (Target("127.0.0.1", 80), Reason.NOT_PERMITTED),
                (Target.address("example.org", 443), Reason.NOT_PERMITTED),
                (Target.service("mailbox"), Reason.UNSUPPORTED),
            ):
                with pytest.raises(DialError) as caught:
                    await lines.dial(line, target, Said())
                assert caught.value.reason is reason
            with pytest.raises(DialError) as caught:
                await lines.associate(line, Nobody())
            assert caught.value.reason is Reason.NOT_PERMITTED
            assert parent.streams == 0

    run(main())


def test_streams_pass_and_are_counted_out(tmp_path: Path) -> None:
    async def main() -> None:
        async with plugged(tmp_path) as (lines, line, parent):
            said = [Said() for _ in range(8)]
            streams = [await lines.dial(line, Target.service(SERVICE), each, b"he") for each in said]
            assert len(lines) == 1
            for stream in streams:
                stream.write(b"llo")
            await until(lambda: all(each.data == b"hello" for each in said))
            assert parent.streams == 8
            for stream in streams:
                stream.close()
            await until(lambda: parent.streams == 0)

    run(main())


def test_a_dial_that_is_given_up_is_counted_out(tmp_path: Path) -> None:
    class Slow:
        """A parent that never answers."""

        def __init__(self) -> None:
            self.asked = 0

        async def connect(self, loop, protocol, client) -> None:
            self.asked += 1
            assert client[0] == "127.0.0.1"
            await loop.create_future()

    async def main() -> None:
        slow = Slow()
        async with plugged(tmp_path, slow) as (lines, line, parent):
            dials = [asyncio.create_task(lines.dial(line, Target.service(SERVICE), Said())) for _ in range(4)]
            await until(lambda: slow.asked == 4)
            for dial in dials:
                dial.cancel()
            await asyncio.gather(*dials, return_exceptions=True)
            await until(lambda: parent.streams == 0)

    run(main())


def test_a_parent_that_cannot_be_served_refuses_each_stream(tmp_path: Path) -> None:
    class Broken:
        async def connect(self, loop, protocol, client) -> None:
            raise FrontError("no cookie")

    async def main() -> None:
        async with plugged(tmp_path, Broken()) as (lines, line, parent):
            for _ in range(3):
                with pytest.raises(DialError):
                    await lines.dial(line, Target.service(SERVICE), Said())
            assert parent.streams == 0

    run(main())


def test_a_bridge_that_nobody_uses_is_left_and_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines_module, "IDLE", 0.0)
    monkeypatch.setattr(lines_module, "LOOK_EVERY", 0.02)

    async def main() -> None:
        async with plugged(tmp_path) as (lines, line, parent):
            for _ in range(2):
                stream = await lines.dial(line, Target.service(SERVICE), said := Said(), b"hello")
                await until(lambda said=said: said.data == b"hello")
                assert len(lines) == 1  # not left while there is a stream
                stream.close()
                await until(lambda: not len(lines))
            await until(lambda: parent.streams == 0)

    run(main())


def test_only_so_many_bridges_are_in_use_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines_module, "MAX_LINES", 1)

    async def main() -> None:
        async with plugged(tmp_path) as (lines, line, _):
            stream = await lines.dial(line, Target.service(SERVICE), Said())
            with pytest.raises(DialError) as caught:
                await lines.dial(BridgeLine(line.link, "python", "chat"), Target.service(SERVICE), Said())
            assert caught.value.reason is Reason.LIMIT
            stream.close()

    run(main())


def test_a_bridge_that_nobody_uses_makes_room_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines_module, "MAX_LINES", 1)

    async def main() -> None:
        async with plugged(tmp_path) as (lines, line, parent):
            for shape in ("none", "none", "chat"):
                other = BridgeLine(line.link, "python", shape)
                stream = await lines.dial(other, Target.service(SERVICE), said := Said(), b"hello")
                await until(lambda said=said: said.data == b"hello")
                stream.abort()
                await until(lambda: parent.streams == 0)
                assert len(lines) == 1

    run(main())


def test_one_that_is_left_while_another_is_stopped_is_not_left_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its place may be empty, which ended the looks for good, or be another one's by then."""
    monkeypatch.setattr(lines_module, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(lines_module, "IDLE", 0.0)

    class Idle:
        is_idle, used_at, stops = True, -1.0, 0

        async def stop(self) -> None:
            self.stops += 1

    class InUse(Idle):
        is_idle = False

    async def main() -> None:
        lines: Any = Lines(asyncio.get_running_loop())
        left, replaced, new, last = Idle(), Idle(), InUse(), Idle()

        class First(Idle):
            async def stop(self) -> None:
                del lines._open["left"]
                lines._open |= {"replaced": new, "last": last}

        lines._open |= {"first": First(), "left": left, "replaced": replaced}
        await until(lambda: last.stops == 1)
        assert [each.stops for each in (left, replaced, new)] == [0, 0, 0]
        assert lines._open == {"replaced": new}
        await lines.stop()

    run(main())


def test_what_is_known_of_ways_is_of_all_lines_and_of_the_network_where_they_are(tmp_path: Path) -> None:
    """A certificate replaced beside a line that works is no login page's; elsewhere that says nothing."""

    async def main() -> None:
        async with plugged(tmp_path) as (lines, line, _):
            await lines.dial(line, Target.service(SERVICE), Said(), b"he")
            other = replace(line, link=replace(line.link, key=bytes(32), pin=bytes(32)))
            with pytest.raises(DialError):
                await lines.dial(other, Target.service(SERVICE), Said())
            ways, now = lines._ways, time.time()
            front = Way(other.link.key, other.link.host, other.link.port)
            assert not ways.portal.stands(now)
            assert ways.degree(front, now) is Degree.CERTIFICATE
            assert ways.rests_until(front, now)
            elsewhere = Surroundings(frozenset({"192.0.2.7"}), (Gateway("wlan0", "192.0.2.1"),))
            lines._watch._changed(Change(elsewhere))
            assert ways.degree(front, now) is Degree.OPEN

    run(main())
