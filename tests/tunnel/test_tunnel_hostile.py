"""Peers that do what no client or bridge of ours does: nothing is left of them, and others are served."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import pytest
from tunnel_live import ECHO, RNG, Collect, live

from ptproxy.auth.binding import Binding
from ptproxy.auth.opening import ClientOpening, Hello
from ptproxy.codec import codec_table
from ptproxy.codec.interface import CodecSettings
from ptproxy.codec.ws_frames import masked_frame
from ptproxy.errors import DialError, Reason
from ptproxy.session import Limits
from ptproxy.session.frames import CHALLENGE
from ptproxy.tunnel import bridge as bridge_module
from ptproxy.tunnel import carrier as carrier_module
from ptproxy.tunnel import client as client_module
from ptproxy.tunnel import dial as dial_module
from ptproxy.tunnel import tcp as tcp_module
from ptproxy.tunnel.client import ClientTunnel
from ptproxy.tunnel.dial import TunnelDialer
from ptproxy.tunnel.redial import AT_ONCE, EVERY
from ptproxy.tunnel.tls import ClientTrust, bridge_context, client_context


async def until(happened: Any) -> None:
    """Wait until ``happened()`` is true; the test's own time-out is the limit."""
    while not happened():
        await asyncio.sleep(0.01)


# ---- clients against a bridge -----------------------------------------------------------------------


def test_a_carrier_that_cannot_be_attached_leaves_no_session(run: Any, tmp_path: Any) -> None:
    """An impossible ALIVE in the first opening of a session: the session lingers, and is gone."""

    async def main() -> None:
        async with live(tmp_path, linger=0.1) as bridge:
            dialer = bridge.dialer()
            session = dialer.tunnel.client_session
            alive = tuple(range(1, 40))
            session._pending[40] = ()
            session.next_carrier = lambda: (40, alive)  # type: ignore[method-assign]
            carrier = await dialer.tunnel.connect("websocket")
            await until(lambda: carrier.ended)
            await until(lambda: not bridge.bridge.sessions and not bridge.bridge.gate.carriers)

    run(main())


def test_a_carrier_number_used_twice_leaves_the_first_alone(run: Any, tmp_path: Any) -> None:
    async def main() -> None:
        async with live(tmp_path, linger=0.1) as bridge:
            dialer = await bridge.client()
            [tunnel] = bridge.bridge.sessions.values()
            [first] = tunnel.carriers.values()
            twin = ClientTunnel(bridge.route(), bridge.loop)
            twin.session_id = dialer.tunnel.session_id
            second = await twin.connect("websocket")
            await until(lambda: second.ended)
            assert list(tunnel.carriers.values()) == [first]
            local = Collect()
            await dialer.dial(ECHO, local, b"still here")
            assert await local.until(10) == b"still here"
            await dialer.stop()
            twin.close()
            for known in twin.dialled:
                known.abort_connections()
            await until(lambda: not bridge.bridge.sessions)

    run(main())


def test_idle_strangers_keep_no_client_out(run: Any, tmp_path: Any) -> None:
    """Where too many are undecided, whoever has been silent longest is the site's."""

    async def main() -> None:
        async with live(tmp_path, most_undecided=3) as bridge:
            tls = client_context(ClientTrust(pin=bytes(32)))
            strangers = [
                await asyncio.open_connection("127.0.0.1", bridge.port, ssl=tls, server_hostname="localhost")
                for _ in range(5)
            ]
            strangers[-1][1].write(b"GET /")
            dialer = await bridge.client()
            local = Collect()
            await dialer.dial(ECHO, local, b"let in")
            assert await local.until(6) == b"let in"
            assert len(bridge.site.received) == 3
            assert (await strangers[0][0].read()).startswith(b"HTTP/1.1 404")
            for _, writer in strangers:
                writer.transport.abort()

    run(main())


def test_a_client_that_never_answers_the_close_loses_its_connection(
    run: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carrier_module, "CLOSE_TIMEOUT", 0.1)
    monkeypatch.setattr(tcp_module, "SHUTDOWN_TIMEOUT", 0.1)

    async def main() -> None:
        async with live(tmp_path) as bridge:
            dialer = await bridge.client()
            [carrier] = dialer.tunnel.carriers.values()
            [connection] = carrier.connections.values()
            connection.transport.pause_reading()
            [tunnel] = bridge.bridge.sessions.values()
            tunnel.close(Reason.NOT_PERMITTED)
            await until(lambda: not bridge.bridge.gate.connections and not bridge.bridge.gate._open)

    run(main())


def test_pings_from_a_client_that_never_reads_do_not_fill_memory(
    run: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carrier_module, "MOST_UNSENT", 128 * 1024)

    async def main() -> None:
        async with live(tmp_path) as bridge:
            dialer = await bridge.client()
            [carrier] = dialer.tunnel.carriers.values()
            [connection] = carrier.connections.values()
            connection.transport.pause_reading()
            gate = bridge.bridge.gate
            [arrival] = gate.connections.values()
            ping = masked_frame(9, bytes(125), bytes(4))
            most = 0
            for _ in range(2_000_000):
                if arrival.ended or connection.transport.is_closing():
                    break
                connection.transport.write(ping)
                if connection.transport.get_write_buffer_size():
                    await asyncio.sleep(0)
                most = max(most, arrival.transport.get_write_buffer_size())
                arrival.data_received(ping)  # as if each came in a read of its own
            assert arrival.ended
            assert most < 512 * 1024
            connection.transport.resume_reading()
            await until(lambda: carrier.ended and dialer.tunnel.carriers)

    run(main())


@pytest.mark.parametrize("codec", ["websocket", "http", "random"])
def test_nonsense_behind_an_opening_is_no_error_of_ours(run: Any, tmp_path: Any, codec: str) -> None:
    """In the same read as an opening that is accepted: the connection ends, nothing is raised."""

    async def main() -> None:
        async with live(tmp_path) as bridge:
            errors: list[Any] = []
            bridge.loop.set_exception_handler(lambda loop, context: errors.append(context))
            gate = bridge.bridge.gate
            settings = CodecSettings(f"localhost:{bridge.port}", "/live")
            for _ in range(10):
                opening = ClientOpening(
                    bridge.key.public, bridge.client_key, codec, False, Binding.certificate(bridge.digest),
                    Hello(b"", 1, (), int(time.time()), b""), RNG,
                )  # fmt: skip
                link = codec_table()[codec].client(settings, opening.message1, RNG).open_link()
                said = b"".join(map(bytes, link.data_to_send())) + b"\xff" * 400
                tls = client_context(ClientTrust(pin=bytes(32)))
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", bridge.port, ssl=tls, server_hostname="localhost"
                )
                writer.write(said)
                with contextlib.suppress(ConnectionError):
                    await reader.read(1)
                writer.transport.abort()
            await until(lambda: not gate._open)
            assert not errors
            assert not bridge.bridge.sessions

    run(main())


def test_one_key_does_not_take_all_sessions(run: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge_module, "MOST_OF_ONE_KEY", 2)

    async def main() -> None:
        async with live(tmp_path) as bridge:
            for _ in range(2):
                await bridge.client()
            third = ClientTunnel(bridge.route(), bridge.loop)
            carrier = await third.connect("websocket")
            await until(lambda: carrier.ended)
            assert len(bridge.bridge.sessions) == 2
            third.close()
            for known in third.dialled:
                known.abort_connections()

    run(main())


# ---- bridges against a client -----------------------------------------------------------------------


class Mute(asyncio.Protocol):
    """Accepts and says nothing."""


def test_openings_without_an_answer_use_up_no_carriers(
    run: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "OPENING_TIMEOUT", 0.02)

    async def main() -> None:
        async with live(tmp_path) as bridge:
            tls = bridge_context(bridge.certificate, bridge.private_key)
            server = await asyncio.get_running_loop().create_server(Mute, "127.0.0.1", 0, ssl=tls)
            tunnel = ClientTunnel(bridge.route(port=server.sockets[0].getsockname()[1]), bridge.loop)
            for _ in range(Limits().max_carriers + 4):
                with pytest.raises(DialError) as caught:
                    await tunnel.connect("websocket")
                assert caught.value.reason is Reason.TUNNEL_DOWN
            assert not tunnel.client_session._pending
            for carrier in tunnel.dialled:
                carrier.abort_connections()
            tunnel.close()
            server.close()

    run(main())


def test_dials_after_goaway_and_beyond_the_limit_are_dial_errors(run: Any, tmp_path: Any) -> None:
    async def main() -> None:
        async with live(tmp_path) as bridge:
            dialer = TunnelDialer(bridge.loop, bridge.route(), limits=Limits(max_streams=1))
            bridge.dialers.append(dialer)
            await dialer.start()
            await dialer.dial(ECHO, Collect())
            with pytest.raises(DialError) as caught:
                await dialer.dial(ECHO, Collect())
            assert caught.value.reason is Reason.LIMIT
            dialer.tunnel.session._goaway_received = True  # not yet told to the tunnel
            with pytest.raises(DialError):
                await dialer.dial(ECHO, Collect())
            with pytest.raises(DialError):
                await dialer.associate(None)  # type: ignore[arg-type]

    run(main())


def test_a_flood_of_challenges_ends_the_carrier_alone(run: Any, tmp_path: Any) -> None:
    async def main() -> None:
        async with live(tmp_path) as bridge:
            dialer = await bridge.client()
            errors: list[Any] = []
            bridge.loop.set_exception_handler(lambda loop, context: errors.append(context))
            [tunnel] = bridge.bridge.sessions.values()
            [state] = tunnel.verified.values()
            challenge = state.verification.challenge()
            [carrier] = tunnel.session.carriers.values()
            carrier.opaque.extend([(CHALLENGE, challenge)] * 12)
            [victim] = dialer.tunnel.carriers.values()
            tunnel.session._mark(carrier)
            tunnel.schedule()
            await until(lambda: victim.ended)
            local = Collect()
            await dialer.dial(ECHO, local, b"again")
            assert await local.until(5) == b"again"
            assert not errors
            await dialer.stop()

    run(main())


def test_carriers_that_are_cut_at_once_make_no_storm(
    run: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dial_module, "BACKOFF_FIRST", 0.1)

    async def main() -> None:
        async with live(tmp_path) as bridge, asyncio.timeout(60):
            openings = 0
            confirmed = bridge.bridge.gate._confirmed

            def cut(opened: Any, frames: Any) -> None:
                nonlocal openings
                openings += 1
                confirmed(opened, frames)
                for connection in list(bridge.bridge.gate.connections.values()):
                    connection.abort()

            bridge.bridge.gate._confirmed = cut
            began = time.monotonic()
            dialer = await bridge.client()
            while openings <= AT_ONCE:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.5)
            assert openings <= AT_ONCE + 2 + (time.monotonic() - began) / (0.75 * EVERY)
            bridge.bridge.gate._confirmed = confirmed
            local = Collect()
            await dialer.dial(ECHO, local, b"at last")
            assert await local.until(7) == b"at last"

    run(main())


@pytest.mark.parametrize("error", [OSError(24, "too many open files"), None], ids=["sockets", "closed"])
def test_the_keeper_survives(
    run: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, error: OSError | None
) -> None:
    """No socket to be had for once; a session given up while it was dialled for."""

    async def main() -> None:
        async with live(tmp_path) as bridge:
            dialer = await bridge.client()
            real = ClientTunnel.attempt
            failed = asyncio.Event()

            async def attempt(tunnel: ClientTunnel, *arguments: Any) -> Any:
                if failed.is_set():
                    return await real(tunnel, *arguments)
                failed.set()
                if error is not None:
                    raise error
                tunnel.close(Reason.TUNNEL_DOWN)
                raise DialError(Reason.REFUSED)

            monkeypatch.setattr(ClientTunnel, "attempt", attempt)
            [carrier] = dialer.tunnel.carriers.values()
            carrier.end("test")
            await failed.wait()
            await until(lambda: dialer.tunnel.carriers and not dialer.tunnel.closed)
            local = Collect()
            await dialer.dial(ECHO, local, b"again")
            assert await local.until(5) == b"again"

    run(main())


def test_streams_of_a_retired_session_end_with_its_last_carrier(
    run: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dial_module, "SWEEP_EVERY", 0.05)

    async def main() -> None:
        async with live(tmp_path) as bridge:
            dialer = await bridge.client()
            old = Collect()
            await dialer.dial(ECHO, old)
            retired = dialer.tunnel
            retired.goaway = True
            await dialer.dial(ECHO, Collect())
            assert dialer.tunnel is not retired
            for carrier in list(retired.carriers.values()):
                carrier.end("test")
            error = await old.lost
            assert isinstance(error, DialError)
            assert error.reason is Reason.CONNECTION_LOST
            assert retired not in dialer._retired

    run(main())


def test_what_is_read_after_the_end_leaves_the_budget(run: Any, tmp_path: Any) -> None:
    """A stream that finished while its reader paused counts as open until it is read, and no longer."""

    async def main() -> None:
        async with live(tmp_path) as bridge:
            dialer = await bridge.client()
            local = Collect()
            stream = await dialer.dial(ECHO, local)
            stream.pause_reading()
            stream.write(b"x" * 5000)
            stream.write_eof()
            session = dialer.tunnel.session
            await until(lambda: not session.streams)
            assert session._unread_over == 1
            assert not local.data
            stream.resume_reading()
            assert await local.until(5000) == b"x" * 5000
            assert await local.lost is None
            assert local.eof.is_set()
            assert session._unread_over == session._granted_unread == session._windows == 0

    run(main())


def test_nothing_is_delivered_after_an_abort(run: Any, tmp_path: Any) -> None:
    async def main() -> None:
        async with live(tmp_path) as bridge:
            dialer = await bridge.client()

            class Aborting(Collect):
                def data_received(self, data: Any) -> None:
                    super().data_received(data)
                    self.transport.abort()

            local = Aborting()
            stream: Any = await dialer.dial(ECHO, local)
            stream.deliver(b"one")
            stream.deliver(b"two")
            stream.deliver_eof()
            assert await local.lost is None
            assert local.data == b"one"
            assert not local.eof.is_set()

    run(main())


def test_http_connections_on_which_nothing_is_asked_are_closed(run: Any, tmp_path: Any) -> None:
    async def main() -> None:
        async with live(tmp_path) as bridge:
            dialer = await bridge.client("http")
            gate = bridge.bridge.gate
            local = Collect()
            stream = await dialer.dial(ECHO, local, b"one")
            assert await local.until(3) == b"one"
            arrivals = list(gate.connections.values())
            gate.sweep(bridge.loop.time())
            assert list(gate.connections.values()) == arrivals
            gate.sweep(bridge.loop.time() + 100)
            answering = [known for known in arrivals if not known.ended]
            assert len(answering) == 1  # the download goes on
            stream.write(b"two")
            assert await local.until(6) == b"onetwo"
            assert len(bridge.bridge.sessions) == 1
            [tunnel] = bridge.bridge.sessions.values()
            assert len(tunnel.carriers) == 1

    run(main())
