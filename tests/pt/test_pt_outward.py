"""A client's way out: from a chosen address, and through the proxies of its own network."""

from __future__ import annotations

import asyncio
import socket

import pytest
from pt_live import Threads, echo, exactly

from ptproxy.config.upstream import UpstreamProxy
from ptproxy.errors import DialError
from ptproxy.tunnel.outward import Outward
from ptproxy.tunnel.tcp import connect_tcp

asked: list[bytes] = []


def socks5_proxy(connection: socket.socket) -> None:
    """RFC 1928 and 1929, for one user; plays the target itself."""
    _, count = exactly(connection, 2)
    assert 2 in exactly(connection, count)
    connection.sendall(b"\x05\x02")
    user = exactly(connection, exactly(connection, 2)[1])
    password = exactly(connection, exactly(connection, 1)[0])
    right = (user, password) == (b"anna", b"s3cret")
    connection.sendall(b"\x01\x00" if right else b"\x01\x01")
    if not right:
        return
    head = exactly(connection, 4)
    size = {1: 4, 4: 16}.get(head[3]) or exactly(connection, 1)[0]
    host, port = exactly(connection, size), exactly(connection, 2)
    asked.append(host + port)
    connection.sendall(b"\x05\x00\x00\x01" + bytes(6))
    echo(connection)


def socks4a_proxy(connection: socket.socket) -> None:
    """SOCKS4a: the name stands behind the user."""
    head = exactly(connection, 8)
    rest = b""
    while rest.count(b"\0") < 2:
        rest += exactly(connection, 1)
    asked.append(rest.split(b"\0")[1] + head[2:4])
    connection.sendall(b"\x00\x5a" + bytes(6))
    echo(connection)


def http_proxy(connection: socket.socket) -> None:
    """CONNECT (RFC 9110 section 9.3.6)."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += exactly(connection, 1)
    asked.append(head.split(b" ")[1])
    if b"Proxy-Authorization: Basic YW5uYTpzM2NyZXQ=" not in head:
        connection.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        return
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    echo(connection)


class Said(asyncio.Protocol):
    """Keeps what comes."""

    def __init__(self) -> None:
        self.data = b""
        self.over = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.data += bytes(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.over.set_result(exc)


async def say(outward: Outward, host: str, port: int) -> bytes:
    loop = asyncio.get_running_loop()
    said = Said()
    transport = await connect_tcp(loop, said, host, port, 60.0, outward=outward)
    transport.write(b"hello")
    transport.write_eof()
    await said.over
    return said.data


@pytest.mark.parametrize(
    ("url", "serve", "expected"),
    [
        ("socks5://anna:s3cret@{}", socks5_proxy, b"bridge.invalid\x01\xbb"),
        ("socks4a://anna@{}", socks4a_proxy, b"bridge.invalid\x01\xbb"),
        ("http://anna:s3cret@{}", http_proxy, b"bridge.invalid:443"),
    ],
)
def test_names_go_through_the_proxy_unresolved(url: str, serve, expected: bytes) -> None:
    asked.clear()
    with Threads(serve) as proxy:
        outward = Outward(UpstreamProxy.parse(url.format(proxy.place)))
        assert asyncio.run(say(outward, "bridge.invalid", 443)) == b"hello"
    assert asked == [expected]


@pytest.mark.parametrize(
    ("url", "serve"), [("socks5://anna:wrong@{}", socks5_proxy), ("http://{}", http_proxy)]
)
def test_a_proxy_that_refuses_is_a_failed_dial(url: str, serve) -> None:
    with Threads(serve) as proxy:
        outward = Outward(UpstreamProxy.parse(url.format(proxy.place)))
        with pytest.raises(DialError, match="upstream proxy") as caught:
            asyncio.run(say(outward, "127.0.0.1", 443))
    assert "wrong" not in str(caught.value)


def test_a_proxy_that_is_not_there_is_a_failed_dial() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(DialError):
        asyncio.run(say(Outward(UpstreamProxy("http", "127.0.0.1", port)), "127.0.0.1", 443))


def test_connections_come_from_the_chosen_address() -> None:
    seen: list[str] = []

    def note(connection: socket.socket) -> None:
        seen.append(connection.getpeername()[0])
        echo(connection)

    with Threads(note) as server:
        assert asyncio.run(say(Outward(ipv4="127.0.0.3"), "127.0.0.1", server.port)) == b"hello"
    assert seen == ["127.0.0.3"]


@pytest.mark.parametrize("scheme", ["socks5", "socks4a", "http"])
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x05\xff",
        b"\x05\x00\x05\x00\x00\x03\x02\xff\xff\x00\x01",  # SOCKS5's bound name is no UTF-8
        b"\x00\xff" + bytes(6),
        b"\xff\xfe\r\n\r\n",
        b"HTTP/1.1 407 \xff\r\n\r\n",
    ],
)
def test_a_proxy_that_answers_nonsense_is_a_failed_dial(scheme: str, answer: bytes) -> None:
    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1024)
        writer.write(answer)
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(answers, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        outward = Outward(UpstreamProxy.parse(f"{scheme}://127.0.0.1:{port}"))
        try:
            with pytest.raises((DialError, OSError)):
                await outward.connect(asyncio.get_running_loop(), ("example.org", 443))
        finally:
            server.close()
            await server.wait_closed()

    asyncio.run(main())
