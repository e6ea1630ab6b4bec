"""Whose is the connection: strangers get the site and all they said, clients get in, once."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from types import SimpleNamespace
from typing import Any

import pytest
from tunnel_live import ECHO, RNG, Collect, live, make_certificate

from ptproxy.auth.access import Access, AccessList
from ptproxy.auth.credentials import StaticKey, new_token
from ptproxy.errors import AuthenticationError, DialError, Reason
from ptproxy.tunnel.client import OpeningRefused
from ptproxy.tunnel.tls import ClientTrust, bridge_context, check_leaf, client_context, leaf_digest

CODECS = ["websocket", "http", "random"]


UPGRADE = (
    b"GET /live HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


async def say(port: int, *pieces: bytes) -> bytes:
    """What a stranger gets back over TLS."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=client_context(ClientTrust(pin=bytes(32))), server_hostname="localhost"
    )
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0.02)
    data = await reader.read()
    writer.close()
    await writer.wait_closed()
    return data


@pytest.mark.parametrize(
    "pieces",
    [
        [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"],
        [b"GET / HT", b"TP/1.1\r\nHost: x\r\n", b"\r\n"],
        [b"GET /live HTTP/1.1\r\nHost: x\r\nCookie: a=" + b"A" * 300 + b"\r\n\r\n"],
        [b"POST /live HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"],
        [UPGRADE],
        [bytes(70_000)],
    ],
    ids=["page", "split", "cookie", "post", "upgrade", "garbage"],
)  # fmt: skip
def test_strangers_get_the_site_with_all_they_said(run: Any, tmp_path: Any, pieces: list[bytes]) -> None:
    async def main() -> None:
        async with live(tmp_path) as bridge:
            assert (await say(bridge.port, *pieces)).startswith(b"HTTP/1.1 404")
            [received] = bridge.site.received  # at once where no codec could want more
            assert received
            assert b"".join(pieces).startswith(received)

    run(main())


@pytest.mark.parametrize("codec", CODECS)
def test_another_bridges_client_gets_the_site(run: Any, tmp_path: Any, codec: str) -> None:
    async def main() -> None:
        async with live(tmp_path) as bridge:
            with pytest.raises((OpeningRefused, DialError)):
                await bridge.dialer(codec, key=StaticKey.generate(RNG).public).start()
            assert len(bridge.site.received) == 1
            assert not bridge.bridge.sessions

    run(main())


@pytest.mark.parametrize("codec", ["websocket", "http"])
@pytest.mark.parametrize("hours", [-30, 5])
def test_a_wrong_clock_is_put_right_by_the_sites(
    run: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, codec: str, hours: int
) -> None:
    async def main() -> None:
        async with live(tmp_path) as bridge:
            wrong = SimpleNamespace(time=lambda: time.time() + 3600 * hours)
            monkeypatch.setattr("ptproxy.tunnel.client.time", wrong)
            dialer = await bridge.client(codec)
            assert abs(dialer.tunnel.clock_offset + 3600 * hours) < 60
            assert len(bridge.site.received) == 1
            local = Collect()
            await dialer.dial(ECHO, local, b"on time")
            assert await local.until(7) == b"on time"

    run(main())


def test_wrong_pin_and_wrong_name_are_told(run: Any, tmp_path: Any) -> None:
    async def main() -> None:
        async with live(tmp_path) as bridge:
            with pytest.raises(AuthenticationError, match="another certificate"):
                await bridge.dialer(pin=bytes(32)).start()
            dialer = bridge.dialer(pin=None)
            with pytest.raises(AuthenticationError, match="not trusted"):
                await dialer.start()

    run(main())


def test_nobody_listens(run: Any, tmp_path: Any) -> None:
    async def main() -> None:
        async with live(tmp_path) as bridge:
            dialer = bridge.dialer()
            await bridge.stop()
            with pytest.raises(DialError) as caught:
                await dialer.start()
            assert caught.value.reason is Reason.REFUSED

    run(main())


def test_single_use_invite(run: Any, tmp_path: Any) -> None:
    """A token enrols one key; that key comes again without it, another key does not come in."""

    async def main() -> None:
        async with live(tmp_path) as bridge:
            access = AccessList(Access.ENROLLED)
            bridge.access = access
            bridge.bridge.settings.access = access
            token = new_token(RNG)
            access.invite(token, "guest")
            with pytest.raises((OpeningRefused, DialError)):
                await bridge.dialer().start()
            await bridge.client(token=token.secret)
            await bridge.client()
            bridge.client_key = StaticKey.generate(RNG)
            with pytest.raises((OpeningRefused, DialError)):
                await bridge.dialer(token=token.secret).start()

    run(main())


def test_a_revoked_identity_loses_its_session_at_once(run: Any, tmp_path: Any) -> None:
    async def main() -> None:
        async with live(tmp_path) as bridge:
            dialer = await bridge.client()
            local = Collect()
            await dialer.dial(ECHO, local)
            bridge.bridge.settings.access = AccessList(Access.ENROLLED)
            bridge.bridge.access_changed()
            error = await local.lost
            assert isinstance(error, DialError)
            assert not bridge.bridge.sessions

    run(main())


def test_carriers_are_verified_again(run: Any, tmp_path: Any) -> None:
    async def main() -> None:
        async with live(tmp_path) as bridge:
            dialer = await bridge.client()
            [tunnel] = bridge.bridge.sessions.values()
            for _ in range(3):
                [state] = tunnel.verified.values()
                state.due = 0.0
                tunnel.verify_due(bridge.loop.time())
                assert state.waiting_since is not None
                while state.waiting_since is not None:
                    await asyncio.sleep(0.01)
            local = Collect()
            await dialer.dial(ECHO, local, b"still here")
            assert await local.until(10) == b"still here"

    run(main())


def test_a_wrong_proof_ends_the_carrier(run: Any, tmp_path: Any) -> None:
    async def main() -> None:
        async with live(tmp_path) as bridge:
            dialer = await bridge.client()
            [tunnel] = bridge.bridge.sessions.values()
            [number] = tunnel.carriers
            [carrier] = dialer.tunnel.carriers.values()
            carrier.verification = SimpleNamespace(prove=lambda challenge: bytes(96))
            [state] = tunnel.verified.values()
            state.due = 0.0
            tunnel.verify_due(bridge.loop.time())
            while number in tunnel.carriers:
                await asyncio.sleep(0.01)

    run(main())


def test_a_client_certificate_can_be_required(run: Any, tmp_path: Any) -> None:
    async def main() -> None:
        async with live(tmp_path) as bridge:
            certificate, key = make_certificate(tmp_path, "client")
            tls = bridge_context(bridge.certificate, bridge.private_key, client_authorities=certificate)
            server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=tls)
            port = server.sockets[0].getsockname()[1]
            trust = ClientTrust(pin=bridge.digest, certificate=certificate, private_key=key)
            _, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=client_context(trust), server_hostname="localhost"
            )
            assert check_leaf(writer.get_extra_info("ssl_object"), bridge.digest) == leaf_digest(
                bridge.certificate
            )
            writer.close()
            await writer.wait_closed()
            reader, writer = await asyncio.open_connection(
                "127.0.0.1",
                port,
                ssl=client_context(ClientTrust(pin=bridge.digest)),
                server_hostname="localhost",
            )
            with contextlib.suppress(ssl.SSLError, ConnectionError):
                assert await reader.read() == b""
            writer.close()
            server.close()

    run(main())
