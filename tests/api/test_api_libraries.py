"""httpx, aiohttp and websockets through a tunnel: 64 MiB each, compared; TLS, names, failures, no leak."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random

import pytest
from api_live import pair, target_tls
from loops import run_in
from proxy_live import echo, serving

from ptproxy.target import Target
from ptproxy.tunnel.runtime import loop_factory

MIB = 1 << 20
SIZE = int(os.environ.get("PTPROXY_E2E_MIB", "64")) * MIB
"""Bytes of each transfer."""
STUCK = 120.0
"""Seconds after which a test is stuck."""


def run(main, loop="uvloop") -> None:
    async def bounded() -> None:
        async with asyncio.timeout(STUCK):
            await main()

    run_in(loop_factory(loop), bounded())


class Body:
    """Bytes that both sides know: a block of a seed, over and over."""

    def __init__(self, size: int = SIZE) -> None:
        self.size = size
        self.block = random.Random(size).randbytes(MIB)
        self.digest = self.hash(self.blocks())

    def blocks(self):
        for at in range(0, self.size, MIB):
            yield self.block[: min(MIB, self.size - at)]

    async def stream(self):
        for block in self.blocks():
            yield block

    @staticmethod
    def hash(pieces) -> str:
        digest = hashlib.sha256()
        for piece in pieces:
            digest.update(piece)
        return digest.hexdigest()


def site(body: Body):
    """A web server with ``GET /big`` and ``PUT /put``, whose answer is the hash of what came."""

    async def answer(reader, writer) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            path = head.split(b" ")[1]
            fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:-2])
            digest = hashlib.sha256()
            left = int(fields.get(b"content-length", 0))
            while left:
                data = await reader.read(min(left, 1 << 18))
                digest.update(data)
                left -= len(data)
            if path == b"/big":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % body.size)
                for block in body.blocks():
                    writer.write(block)
                    await writer.drain()
            else:
                said = digest.hexdigest().encode() + b" " + fields[b"host"]
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(said) + said)
                await writer.drain()

    return answer


@contextlib.asynccontextmanager
async def tls_site(handler, context):
    """The same inside TLS."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader, writer) -> None:
        tasks.add(asyncio.current_task())
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()
            tasks.discard(asyncio.current_task())

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def no_lookups(monkeypatch) -> list[str]:
    """The host names that this process looks up by itself: none, as the bridge does it."""
    looked_up: list[str] = []

    async def getaddrinfo(self, host, *args, **kwargs):
        looked_up.append(host)
        raise OSError("no look-up may happen here")

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    return looked_up


def named(client, port: int) -> None:
    """Let the name ``target.test`` stand for a port of loopback, at the far end of the tunnel."""
    real = client.dialer.dial

    async def dial(target, protocol, first_data=b""):
        if target.host == "target.test":
            target = Target.address("127.0.0.1", port)
        return await real(target, protocol, first_data)

    client.dialer.dial = dial


def test_httpx(tmp_path, no_lookups) -> None:
    httpx = pytest.importorskip("httpx")
    from ptproxy.api.httpx_transport import TunnelTransport

    body = Body()

    async def main() -> None:
        async with pair(tmp_path) as client, serving(site(body)) as (_, port):
            named(client, port)
            async with httpx.AsyncClient(transport=TunnelTransport(client), timeout=STUCK) as web:
                digest = hashlib.sha256()
                async with web.stream("GET", "http://target.test/big") as response:
                    async for piece in response.aiter_raw():
                        digest.update(piece)
                assert digest.hexdigest() == body.digest
                length = {"Content-Length": str(SIZE)}
                answer = await web.put("http://target.test/put", content=body.stream(), headers=length)
                assert answer.text == f"{body.digest} target.test"
                with pytest.raises(httpx.ConnectError):
                    await web.get("http://10.1.2.3/")
                wait = httpx.Timeout(STUCK, read=0.01)
                with pytest.raises(httpx.ReadTimeout):
                    async with serving(silence) as (_, silent):
                        await web.get(f"http://127.0.0.1:{silent}/", timeout=wait)

    run(main, "asyncio")
    assert no_lookups == []


def test_aiohttp(tmp_path, no_lookups) -> None:
    aiohttp = pytest.importorskip("aiohttp")
    from ptproxy.api.aiohttp_connector import TunnelConnector

    body = Body()

    async def main() -> None:
        async with pair(tmp_path) as client, serving(site(body)) as (_, port):
            named(client, port)
            async with aiohttp.ClientSession(connector=TunnelConnector(client)) as web:
                digest = hashlib.sha256()
                async with web.get("http://target.test/big") as response:
                    async for piece in response.content.iter_any():
                        digest.update(piece)
                assert digest.hexdigest() == body.digest
                length = {"Content-Length": str(SIZE)}
                async with web.put("http://target.test/put", data=body.stream(), headers=length) as response:
                    assert await response.text() == f"{body.digest} target.test"
                with pytest.raises(aiohttp.ClientConnectorError):
                    await web.get("http://10.1.2.3/")

    run(main, "asyncio")
    assert no_lookups == []


def test_websockets(tmp_path, no_lookups) -> None:
    from websockets.asyncio.server import serve
    from websockets.exceptions import InvalidMessage

    from ptproxy.api.websockets_client import connect

    block = random.Random(7).randbytes(MIB)
    count = SIZE // MIB

    async def back(connection) -> None:
        async for message in connection:
            await connection.send(message)

    async def main() -> None:
        async with (
            pair(tmp_path) as client,
            serve(back, "127.0.0.1", 0, compression=None, max_size=None) as server,
        ):
            port = next(iter(server.sockets)).getsockname()[1]
            named(client, port)
            async with connect(
                client, f"ws://target.test:{port}/", compression=None, max_size=None
            ) as connection:
                for number in range(count):
                    await connection.send(number.to_bytes(4, "big") + block)
                    assert await connection.recv() == number.to_bytes(4, "big") + block
            with pytest.raises(OSError, match=r"."):
                async with connect(client, "ws://10.1.2.3/"):
                    pass
            async with serving(echo) as (_, other):
                with pytest.raises(InvalidMessage):
                    async with connect(client, f"ws://127.0.0.1:{other}/"):
                        pass

    run(main, "asyncio")
    assert no_lookups == []


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("library", ["httpx", "aiohttp", "websockets"])
def test_tls_is_with_the_target(library, loop, tmp_path) -> None:
    if library != "websockets":
        pytest.importorskip(library)
    server_context, context = target_tls(tmp_path)
    body = Body(MIB)

    async def by_httpx(client, port) -> None:
        import httpx

        from ptproxy.api.httpx_transport import TunnelTransport

        async with httpx.AsyncClient(transport=TunnelTransport(client, verify=context), timeout=STUCK) as web:
            answer = await web.get(f"https://localhost:{port}/big")
            assert Body.hash([answer.content]) == body.digest
            with pytest.raises(httpx.ConnectError, match="mismatch"):
                await web.get(f"https://127.0.0.1:{port}/big")

    async def by_aiohttp(client, port) -> None:
        import aiohttp

        from ptproxy.api.aiohttp_connector import TunnelConnector

        async with aiohttp.ClientSession(connector=TunnelConnector(client, ssl=context)) as web:
            async with web.get(f"https://localhost:{port}/big") as response:
                assert Body.hash([await response.read()]) == body.digest
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await web.get(f"https://127.0.0.1:{port}/big")

    async def by_websockets(client, port) -> None:
        from ssl import SSLCertVerificationError

        from websockets.asyncio.server import serve

        from ptproxy.api.websockets_client import connect

        async def back(connection) -> None:
            async for message in connection:
                await connection.send(message)

        async with serve(back, "127.0.0.1", 0, ssl=server_context) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            async with connect(client, f"wss://localhost:{port}/", ssl=context) as connection:
                await connection.send("hello")
                assert await connection.recv() == "hello"
            with pytest.raises(SSLCertVerificationError):
                async with connect(client, f"wss://127.0.0.1:{port}/", ssl=context):
                    pass

    async def main() -> None:
        async with pair(tmp_path) as client, tls_site(site(body), server_context) as port:
            await {"httpx": by_httpx, "aiohttp": by_aiohttp, "websockets": by_websockets}[library](
                client, port
            )

    run(main, loop)


async def silence(reader, writer) -> None:
    await reader.read()
