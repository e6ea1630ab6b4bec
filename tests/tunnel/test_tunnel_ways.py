"""A bridge by several fronts and codecs: what is blocked is left, and the same streams go on."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from dataclasses import replace
from typing import Any

import pytest
from chaos_relay import ChaosRelay, Fate, Kind
from tunnel_live import ECHO, Collect, live

from ptproxy.errors import DialError
from ptproxy.tunnel import client, connect, dial
from ptproxy.tunnel.connect import Reaching, interleaved
from ptproxy.tunnel.dial import TunnelDialer
from ptproxy.tunnel.tls import bridge_context
from ptproxy.ways import Degree, Flow, memory

MORE = 4 << 20
"""Bytes of a transfer that is blocked in the middle."""


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for a silent front to time out never comes to an end here."""
    monkeypatch.setattr(connect, "CONNECT_TIMEOUT", 3600.0)
    monkeypatch.setattr(client, "OPENING_TIMEOUT", 3600.0)


def dialer_by(bridge: Any, ports: list[int], codecs: tuple[str, ...] = ("websocket",)) -> TunnelDialer:
    routes = [replace(bridge.route(port=port), codecs=codecs) for port in ports]
    routes = [replace(route, line=replace(route.line, codecs=codecs)) for route in routes]
    dialer = TunnelDialer(bridge.loop, replace(routes[0], fronts=tuple(routes[1:])), carriers=2)
    bridge.dialers.append(dialer)
    return dialer


def way(dialer: TunnelDialer, front: int, codec: str = "websocket") -> Degree:
    """What that front (counted from 1) met with last."""
    [found] = [each for each in dialer.approaches.state() if (each.front, each.codec) == (front, codec)]
    return found.degree


@pytest.mark.parametrize(
    ("kind", "degree"),
    [(Kind.HELLO, Degree.HELLO_RESET), (Kind.BLACKHOLE, None)],
)
def test_a_blocked_front_is_passed_by(run: Any, tmp_path: Any, kind: Kind, degree: Degree | None) -> None:
    async def main() -> None:
        async with live(tmp_path) as bridge:
            relay = ChaosRelay(bridge.port, lambda: Fate(kind))
            dialer = dialer_by(bridge, [await relay.start(), bridge.port])
            await dialer.start()
            local = Collect()
            await dialer.dial(ECHO, local, b"through")
            assert await local.until(7) == b"through"
            assert relay.accepted == 1
            if degree is not None:
                assert way(dialer, 1) is degree
            assert way(dialer, 2) is Degree.OPEN
            await relay.stop()

    run(main())


def test_a_refused_front_is_known_and_comes_last_next_time(run: Any, tmp_path: Any) -> None:
    async def main() -> None:
        async with live(tmp_path) as bridge:
            with socket.create_server(("127.0.0.1", 0)) as taken:
                closed = taken.getsockname()[1]
            dialer = dialer_by(bridge, [closed, bridge.port])
            await dialer.start()
            assert way(dialer, 1) is Degree.REFUSED
            assert [each.front for each in dialer.approaches.state()] == [2, 1]
            assert dialer.approaches.state()[1].rests > 0

    run(main())


def test_a_replaced_certificate_and_a_page_are_told_apart(run: Any, tmp_path: Any) -> None:
    async def main() -> None:
        (tmp_path / "other").mkdir()
        async with live(tmp_path) as bridge, live(tmp_path / "other") as stranger:
            wrong, relay = bridge.route(), ChaosRelay(bridge.port)
            page = replace(wrong, line=replace(wrong.line, path="/wrong", port=await relay.start()))
            fronts = (page, bridge.route(port=stranger.port), bridge.route())
            dialer = TunnelDialer(bridge.loop, replace(fronts[0], fronts=fronts[1:]))
            bridge.dialers.append(dialer)
            await dialer.start()
            assert way(dialer, 1) is Degree.PAGE
            assert way(dialer, 2) is Degree.CERTIFICATE
            assert way(dialer, 3) is Degree.OPEN
            await relay.stop()

    run(main())


def test_a_dial_that_is_swallowed_is_repeated_beside(run: Any, tmp_path: Any) -> None:
    """One bridge, one front, one codec: what swallowed one dial lets the next one through."""

    async def main() -> None:
        async with live(tmp_path) as bridge:
            fates = [Fate(Kind.BLACKHOLE)]
            relay = ChaosRelay(bridge.port, lambda: fates.pop() if fates else Fate())
            dialer = dialer_by(bridge, [await relay.start()])
            await dialer.start()
            assert relay.accepted == 2
            await relay.stop()

    run(main())


def test_where_every_way_is_blocked_the_most_telling_failure_is_told(run: Any, tmp_path: Any) -> None:
    async def main() -> None:
        async with live(tmp_path) as bridge:
            relay = ChaosRelay(bridge.port, lambda: Fate(Kind.HELLO))
            dialer = dialer_by(bridge, [await relay.start()], ("websocket", "http"))
            with pytest.raises(DialError, match="TLS reset at ClientHello"):
                await dialer.start()
            assert relay.accepted == 1  # another codec would have met with the same
            await relay.stop()

    run(main())


class Censor:
    """Terminates TLS as a CDN does, and resets what its rule says of the plain text."""

    def __init__(self, bridge: Any) -> None:
        self.bridge = bridge
        self.blocked = b""
        self.hits = 0
        self._writers: dict[asyncio.StreamWriter, bytes] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        tls = bridge_context(self.bridge.certificate, self.bridge.private_key)
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        return int(self._server.sockets[0].getsockname()[1])

    def block(self, what: bytes) -> None:
        """From now on: connections that began with it as well as new ones."""
        self.blocked = what
        for writer, first in list(self._writers.items()):
            if what in first:
                self.hits += 1
                writer.transport.abort()

    async def stop(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        plain = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        plain.check_hostname, plain.verify_mode = False, ssl.CERT_NONE
        far_writer = None
        try:
            first = await reader.read(65536)
            self._writers[writer] = first
            if self.blocked and self.blocked in first:
                self.hits += 1
                return
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.bridge.port, ssl=plain)
            far_writer.write(first)
            await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))
        except OSError:
            pass
        finally:
            self._writers.pop(writer, None)
            writer.transport.abort()
            if far_writer is not None:
                far_writer.transport.abort()

    @staticmethod
    async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError


async def half(dialer: TunnelDialer) -> tuple[Any, Collect, bytes]:
    """A transfer of which the first half has come back."""
    local, sent = Collect(), os.urandom(MORE)
    stream = await dialer.dial(ECHO, local)
    stream.write(sent[: MORE // 2])
    await local.until(MORE // 4)
    return stream, local, sent


def codecs_of(dialer: TunnelDialer) -> set[str]:
    return {carrier.codec_name for carrier in dialer.tunnel.carriers.values()}


def test_the_codec_blocked_by_content_in_mid_transfer(run: Any, tmp_path: Any) -> None:
    async def main() -> None:
        async with live(tmp_path) as bridge:
            censor = Censor(bridge)
            dialer = dialer_by(bridge, [await censor.start()], ("websocket", "http"))
            await dialer.start()
            stream, local, sent = await half(dialer)
            assert codecs_of(dialer) == {"websocket"}
            censor.block(b"Upgrade: websocket")
            stream.write(sent[MORE // 2 :])
            assert await local.until(MORE) == sent
            assert codecs_of(dialer) == {"http"}
            assert censor.hits >= 2
            assert len(bridge.exit.asked) == 1
            assert way(dialer, 1) in (Degree.OPENING_RESET, Degree.PAGE)
            await dialer.stop()
            await censor.stop()

    run(main())


@pytest.mark.parametrize("kind", [Kind.HELLO, Kind.BLACKHOLE])
def test_the_front_blocked_by_address_or_port_in_mid_transfer(run: Any, tmp_path: Any, kind: Kind) -> None:
    async def main() -> None:
        async with live(tmp_path) as bridge:
            fates = [Fate(Kind.STALL if kind is Kind.BLACKHOLE else Kind.CUT, MORE // 2)]
            relay = ChaosRelay(bridge.port, lambda: fates.pop() if fates else Fate(kind))
            other = ChaosRelay(bridge.port)
            dialer = dialer_by(bridge, [await relay.start(), await other.start()])
            await dialer.start()
            assert (relay.accepted, other.accepted) == (1, 0)
            stream, local, sent = await half(dialer)
            stream.write(sent[MORE // 2 :])
            assert await local.until(MORE) == sent
            assert other.accepted >= 1
            assert len(bridge.exit.asked) == 1
            await dialer.stop()
            await relay.stop()
            await other.stop()

    run(main())


def test_a_throttled_front_is_left_while_the_stream_goes_on(
    run: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What counts as throttled is test_ways_degrees's; here it is left, and nothing is cut for that."""
    monkeypatch.setattr(dial, "SWEEP_EVERY", 0.02)
    for limit in ("STAGGER", "STAGGER_LEAST", "STAGGER_MOST"):
        monkeypatch.setattr(memory, limit, 3600.0)  # the first front is taken, however busy the machine is
    throttled: list[Degree] = []
    monkeypatch.setattr(Flow, "look", lambda *_: throttled.pop() if throttled else None)

    async def main() -> None:
        async with live(tmp_path) as bridge:
            relay, other = ChaosRelay(bridge.port), ChaosRelay(bridge.port)
            ports = [await relay.start(), await other.start()]
            dialer = dialer_by(bridge, ports)
            await dialer.start()
            [slow] = dialer.tunnel.carriers
            stream, local, sent = await half(dialer)
            throttled.append(Degree.THROTTLED)
            while slow in dialer.tunnel.carriers:
                await asyncio.sleep(0.01)
            stream.write(sent[MORE // 2 :])
            assert await local.until(MORE) == sent
            assert {one._route.line.port for one in dialer.tunnel.carriers.values()} == {ports[1]}  # type: ignore[attr-defined]
            assert relay.accepted <= 2  # a carrier, and what was ready beside it
            assert way(dialer, 1) is Degree.THROTTLED
            assert len(bridge.exit.asked) == 1
            await dialer.stop()
            await relay.stop()
            await other.stop()

    run(main())


def test_a_front_that_cuts_after_so_many_bytes_is_left(run: Any, tmp_path: Any) -> None:
    async def main() -> None:
        async with live(tmp_path) as bridge:
            relay = ChaosRelay(bridge.port, lambda: Fate(Kind.CUT, 256 << 10))
            other = ChaosRelay(bridge.port)
            dialer = dialer_by(bridge, [await relay.start(), await other.start()])
            await dialer.start()
            local, sent = Collect(), bytearray()
            stream = await dialer.dial(ECHO, local)
            while not other.accepted or len(sent) < MORE:
                await local.writable.wait()
                block = os.urandom(64 << 10)
                stream.write(block)
                sent += block
                await asyncio.sleep(0)
            assert await local.until(len(sent)) == sent
            assert way(dialer, 1) is Degree.CUT_BYTES
            assert relay.strikes[Kind.CUT] >= 3
            await dialer.stop()
            await relay.stop()
            await other.stop()

    run(main())


def test_carriers_that_we_end_are_no_cuts(run: Any, tmp_path: Any) -> None:
    async def main() -> None:
        async with live(tmp_path) as bridge:
            dialer = dialer_by(bridge, [bridge.port])
            await dialer.start()
            for reason in ("spare", "its address is gone"):
                [carrier] = dialer.tunnel.carriers.values()
                carrier.end(reason)
                await dialer.ready()
            ways = dialer.approaches.ways
            assert not ways.record(dialer.approaches.fronts[0].way("websocket"), 0.0).cuts.ends

    run(main())


@pytest.mark.parametrize("codec", ["websocket", "random"])
def test_carriers_that_a_bridge_leaves_are_no_cuts(run: Any, tmp_path: Any, codec: str) -> None:
    # As at a bridge that is replaced again and again: each carrier ends young, with few bytes.
    async def main() -> None:
        async with live(tmp_path) as bridge:
            dialer = dialer_by(bridge, [bridge.port], (codec,))
            await dialer.start()
            for _ in range(4):
                await dialer.ready()
                before = list(dialer.tunnel.carriers.values())
                [session] = bridge.bridge.sessions.values()
                while len(session.carriers) < len(before):
                    await asyncio.sleep(0.01)
                session.leave_carriers()
                while any(carrier in dialer.tunnel.carriers.values() for carrier in before):
                    await asyncio.sleep(0.01)
            await dialer.ready()
            ways = dialer.approaches.ways
            assert not ways.record(dialer.approaches.fronts[0].way(codec), 0.0).cuts.ends
            assert way(dialer, 1, codec) is Degree.OPEN

    run(main())


def test_what_a_bridge_refuses_while_it_is_being_replaced_is_no_block(run: Any, tmp_path: Any) -> None:
    async def main() -> None:
        async with live(tmp_path) as bridge:
            dialer = await bridge.client()
            local = Collect()
            stream = await dialer.dial(ECHO, local, b"before ")
            assert await local.until(7) == b"before "
            bridge.bridge.stand_still()
            stream.write(b"after")
            while not bridge.site.received:  # its page answers an opening
                await asyncio.sleep(0.001)
            while not dialer.last_error:
                await asyncio.sleep(0.001)
            [state] = dialer.approaches.state()
            assert (state.degree, state.rests) == (Degree.OPEN, 0.0)
            bridge.bridge.go_on()
            assert await local.until(12) == b"before after"
            await dialer.stop()

    run(main())


def test_a_carrier_that_lost_a_race_is_closed(run: Any, tmp_path: Any) -> None:
    """Both fronts work, the first one late: one session, one carrier, nothing left of the other try."""

    async def main() -> None:
        async with live(tmp_path) as bridge:
            late = ChaosRelay(bridge.port, lambda: Fate(Kind.BLACKHOLE))
            dialer = dialer_by(bridge, [await late.start(), bridge.port])
            await dialer.start()
            await dialer.approaches.close()
            assert len(dialer.tunnel.carriers) == 1
            assert len(bridge.bridge.sessions) == 1
            assert not dialer.approaches._losers
            await late.stop()

    run(main())


def test_a_network_that_is_gone_takes_its_carriers_along(run: Any, tmp_path: Any) -> None:
    async def main() -> None:
        async with live(tmp_path) as bridge:
            dialer = await bridge.client()
            local = Collect()
            stream = await dialer.dial(ECHO, local, b"before")
            await local.until(6)
            [before] = dialer.tunnel.carriers
            dialer.network_changed({"192.0.2.99"})  # not ours
            assert list(dialer.tunnel.carriers) == [before]
            dialer.network_changed({"127.0.0.1"})
            assert before not in dialer.tunnel.carriers
            stream.write(b"after")
            assert await local.until(11) == b"beforeafter"

    run(main())


def test_the_return_of_the_network_ends_the_pause(run: Any, tmp_path: Any, monkeypatch: Any) -> None:
    """Dials that failed while there was no network are not waited for when it is back."""

    async def main() -> None:
        async with live(tmp_path) as bridge:
            dialer = await bridge.client()
            monkeypatch.setattr("ptproxy.tunnel.dial.BACKOFF_FIRST", 3600.0)
            monkeypatch.setattr("ptproxy.tunnel.rest.DEMAND_PAUSE", 3600.0)
            up = asyncio.Event()
            opened = dialer.approaches.open
            failures = []

            async def away(*arguments: Any) -> Any:
                if not up.is_set():
                    failures.append(1)
                    raise DialError(connect.Reason.NETWORK_UNREACHABLE)
                return await opened(*arguments)

            monkeypatch.setattr(dialer.approaches, "open", away)
            dialer.network_changed({"127.0.0.1"})
            while not failures:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            assert not dialer.tunnel.carriers
            up.set()
            dialer.network_changed(())
            await dialer.ready()
            assert len(dialer.tunnel.carriers) == 1

    run(main())


def test_addresses_of_both_families_take_turns() -> None:
    assert interleaved(["::1", "::2", "::3", "192.0.2.1"]) == ["::1", "192.0.2.1", "::2", "::3"]
    assert interleaved(["192.0.2.1", "192.0.2.2", "::1"]) == ["192.0.2.1", "::1", "192.0.2.2"]


def test_the_first_address_that_answers_counts(run: Any) -> None:
    async def main() -> None:
        asked = []

        class Ways:
            async def connect(self, loop: Any, address: tuple[str, int]) -> socket.socket:
                asked.append(address)
                if address[0] == "silent":
                    await loop.create_future()
                if address[0] == "refused":
                    raise ConnectionRefusedError
                return socket.socket()

        loop = asyncio.get_running_loop()
        reaching = Reaching(Ways(), ["refused", "silent", "good", "never"])  # type: ignore[arg-type]
        sock = await reaching.connect(loop, ("good", 443))
        sock.close()
        assert reaching.reached == "good"
        assert [host for host, _ in asked] == ["refused", "silent", "good"]
        reaching.leave()
        assert reaching.hosts == ["refused", "silent", "never"]

    run(main())


def test_who_gives_up_while_losers_are_closing_leaves_no_socket(run: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("ptproxy.ways.race.STAGGER", 0.001)

    async def main() -> None:
        closing, end = asyncio.Event(), asyncio.Event()
        made = []

        class Ways:
            async def connect(self, loop: Any, address: tuple[str, int]) -> socket.socket:
                if address[0] == "silent":
                    try:
                        await loop.create_future()
                    finally:
                        closing.set()
                        await end.wait()
                made.append(socket.socket())
                return made[0]

        loop = asyncio.get_running_loop()
        reaching = Reaching(Ways(), ["silent", "good"])  # type: ignore[arg-type]
        dial = loop.create_task(reaching.connect(loop, ("good", 443)))
        await closing.wait()
        dial.cancel()
        await asyncio.wait({dial})
        end.set()
        assert [sock.fileno() for sock in made] == [-1]

    run(main())


def test_one_carrier_more_that_is_not_reached_is_not_dialled_for_ever(
    run: Any, tmp_path: Any, monkeypatch: Any
) -> None:
    """There is one that works: the next dial is for somebody who needs it."""

    async def main() -> None:
        async with live(tmp_path) as bridge:
            monkeypatch.setattr("ptproxy.tunnel.dial.BACKOFF_FIRST", 0.001)
            monkeypatch.setattr("ptproxy.tunnel.dial.BACKOFF_LAST", 0.001)
            dialer = await bridge.client(carriers=2)
            dials = []

            async def silent(*arguments: Any) -> Any:
                del arguments
                dials.append(1)
                raise DialError(connect.Reason.TIMED_OUT)

            monkeypatch.setattr(dialer.approaches, "open", silent)
            for asked in (1, 2):
                dialer._grow(dialer.tunnel)
                while len(dials) < asked or dialer._wanted > 1:
                    await asyncio.sleep(0.001)
                    assert len(dials) < 50
                assert len(dials) == asked

    run(main())
