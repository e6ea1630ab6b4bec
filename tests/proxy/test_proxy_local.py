"""The local proxy over real sockets, with a dialer that does what a table says."""

from __future__ import annotations

import asyncio
import gc
import socket

import pytest
from free_ports import free_port
from proxy_live import LOOPS, Program, TableDialer, echo, local_proxy, run, serving, until

from ptproxy.errors import Reason
from ptproxy.front import Users, serialize_datagram
from ptproxy.proxy.local import LocalLimits
from ptproxy.target import Target
from ptproxy.tunnel.direct import DirectDialer

HELLO = b"\x05\x01\x00"
NAME = b"\x05\x01\x00\x03\x05a.net\x00\x50"
ACCEPTED = b"\x05\x00\x00\x01" + bytes(6)
CONNECT = b"CONNECT a.net:80 HTTP/1.1\r\n\r\n"
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
TARGET = "a.net:80"

OPENINGS = {
    "socks5": ([(HELLO, b"\x05\x00"), (NAME, ACCEPTED)]),
    "socks5 at once": ([(HELLO + NAME, b"\x05\x00" + ACCEPTED)]),
    "socks4a": ([(b"\x04\x01\x00\x50\x00\x00\x00\x01me\x00a.net\x00", b"\x00\x5a" + bytes(6))]),
    "http": ([(CONNECT, ESTABLISHED)]),
}


async def opened(program: Program, kind: str = "socks5") -> None:
    for said, answer in OPENINGS[kind]:
        assert await program.ask(said, len(answer)) == answer


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("opening", list(OPENINGS))
@pytest.mark.parametrize("kind", LOOPS)
def test_tunnels(kind: str, opening: str, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with (
            serving(echo, host) as server,
            local_proxy(TableDialer({TARGET: server}), host) as (proxy, address),
        ):
            with await Program.connect(address) as program:
                await opened(program, opening)
                for message in (b"x" * 64, bytes(300000)):
                    task = asyncio.ensure_future(program.send(message))
                    assert await program.read(len(message)) == message
                    await task
                assert proxy.connections == 1
                program.end()
                assert await program.read_all() == b""
            await until(lambda: proxy.connections == 0)

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_direct_dialer(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a tunnel it is a plain SOCKS proxy; datagrams are refused."""

    async def main() -> None:
        dialer = DirectDialer(asyncio.get_running_loop())
        async with (
            serving(echo) as server,
            serving(echo, "::1") as server6,
            local_proxy(dialer) as (_, address),
        ):
            for host, port in (server, server6, ("localhost", server[1])):
                head = HELLO + b"\x05\x01\x00" + Target(host, port).serialize()
                with await Program.connect(address) as program:
                    await program.send(head + b"early ")
                    assert await program.read(12) == b"\x05\x00" + ACCEPTED
                    await program.send(b"and late")
                    program.end()
                    assert await program.read_all() == b"early and late"
            port = free_port()
            with await Program.connect(address) as program:
                head = HELLO + b"\x05\x01\x00" + Target("127.0.0.1", port).serialize()
                assert await program.ask(head, 12) == b"\x05\x00\x05\x05\x00\x01" + bytes(6)
            with await Program.connect(address) as program:
                answer = await program.ask(HELLO + b"\x05\x03\x00\x01" + bytes(6), 12)
                assert answer == b"\x05\x00\x05\x07\x00\x01" + bytes(6)

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_refusals(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        dialer = TableDialer()
        async with local_proxy(dialer) as (proxy, address):
            for reason, code, status in (
                (Reason.REFUSED, 5, b"502"),
                (Reason.HOST_UNREACHABLE, 4, b"502"),
                (Reason.NETWORK_UNREACHABLE, 3, b"502"),
                (Reason.NOT_PERMITTED, 2, b"403"),
                (Reason.TIMED_OUT, 6, b"504"),
                (Reason.TUNNEL_DOWN, 1, b"503"),
            ):
                dialer.table[TARGET] = reason
                with await Program.connect(address) as program:
                    await program.send(HELLO + NAME)
                    assert await program.read_all() == b"\x05\x00\x05" + bytes((code, 0, 1)) + bytes(6)
                with await Program.connect(address) as program:
                    await program.send(b"\x04\x01\x00\x50\x00\x00\x00\x01\x00a.net\x00")
                    assert await program.read_all() == b"\x00\x5b" + bytes(6)
                for head in (CONNECT, b"GET http://a.net/ HTTP/1.1\r\n\r\n"):
                    with await Program.connect(address) as program:
                        await program.send(head)
                        assert (await program.read_all()).startswith(b"HTTP/1.1 " + status)
            for garbage, answer in (
                (b"\x16\x03\x01", b""),
                (b"\0", b""),
                (b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 400 "),
            ):
                with await Program.connect(address) as program:
                    await program.send(garbage)
                    assert (await program.read_all()).startswith(answer)
            await until(lambda: proxy.connections == 0)

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_users(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with (
            serving(echo) as server,
            local_proxy(TableDialer({TARGET: server}), users=Users({"ann": "x"})) as (_, address),
        ):
            with await Program.connect(address) as program:
                await program.send(b"\x05\x01\x02\x01\x03ann\x01x" + NAME)
                assert await program.read(14) == b"\x05\x02\x01\x00" + ACCEPTED
            with await Program.connect(address) as program:
                await program.send(b"\x05\x01\x02\x01\x03ann\x01y" + NAME)
                assert await program.read_all() == b"\x05\x02\x01\x01"
            with await Program.connect(address) as program:
                await program.send(CONNECT)
                assert (await program.read_all()).startswith(b"HTTP/1.1 407 ")

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_early_data_is_kept_bounded_and_in_order(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        gate = asyncio.Event()
        size = 24 << 20
        async with serving(echo) as server:
            dialer = TableDialer({TARGET: gate, f"{TARGET} then": server})
            async with local_proxy(dialer) as (_, address):
                with await Program.connect(address) as program:
                    block = bytes(range(256)) * 4096
                    sent = 0

                    async def pour() -> None:
                        nonlocal sent
                        await program.send(HELLO + NAME + block)
                        for _ in range(size // len(block) - 1):
                            await program.send(block)
                            sent += len(block)
                        program.end()

                    task = asyncio.ensure_future(pour())
                    before = -1
                    while sent != before:
                        before = sent
                        await asyncio.sleep(0.2)
                    assert sent < size - (1 << 20)
                    gate.set()
                    assert await program.read(12) == b"\x05\x00" + ACCEPTED
                    assert await program.read_all() == block * (size // len(block))
                    await task
            assert len(dialer.first[0]) <= 16384

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_program_that_leaves_takes_the_dial_along(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        dialer = TableDialer({TARGET: asyncio.Event()})
        async with local_proxy(dialer) as (proxy, address):
            for leave in (Program.reset, Program.end, lambda program: program.sock.close()):
                for head in (HELLO + NAME, CONNECT):
                    before = dialer.cancelled
                    with await Program.connect(address) as program:
                        await program.send(head)
                        await until(lambda before=before: len(dialer.dialled) > before)
                        leave(program)
                        await until(lambda before=before: dialer.cancelled == before + 1)
                        await until(lambda: proxy.connections == 0)
            with await Program.connect(address) as program:
                await program.send(b"GET http://a.net/ HTTP/1.1\r\n\r\n")
                await until(lambda: len(dialer.dialled) == 7)
                program.reset()
                await until(lambda: dialer.cancelled == 7)

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_breaks_pass_both_ways(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        broken = asyncio.Event()

        async def fragile(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                if await reader.read(1) == b"!":
                    writer.get_extra_info("socket").setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0"
                    )
                    writer.transport.abort()
                else:
                    await reader.read(1)
            except ConnectionResetError:
                broken.set()

        async with serving(fragile) as server, local_proxy(TableDialer({TARGET: server})) as (proxy, address):
            with await Program.connect(address) as program:
                await opened(program)
                with pytest.raises(ConnectionResetError):
                    await program.ask(b"!", 1)
            with await Program.connect(address) as program:
                await opened(program)
                await program.send(b"?")
                await asyncio.sleep(0)
                program.reset()
                await broken.wait()
            await until(lambda: proxy.connections == 0)

    run(kind, monkeypatch, main)


# ---- plain HTTP --------------------------------------------------------------------------------------


async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says how many requests came on this connection, what was asked for, and how long the body was."""
    count = 0
    while True:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        count += 1
        line = head.split("\r\n")[0]
        length = sum(int(row[15:]) for row in head.split("\r\n") if row.startswith("Content-Length:"))
        body = await reader.readexactly(length)
        text = f"{count} {line} {len(body)}".encode()
        if "/open" in line:
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + text)
            return
        if "/broken" in line:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + text)
            return
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text) + text)
        if "/last" in line:
            return


@pytest.mark.parametrize("kind", LOOPS)
def test_plain_http(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with serving(web) as one, serving(web) as two:
            dialer = TableDialer({"a.net:80": one, "b.net:80": two})
            async with local_proxy(dialer) as (proxy, address):
                with await Program.connect(address) as program:

                    async def get(path: str, rest: str = "", line: str = "GET") -> str:
                        await program.send(
                            f"{line} http://{path} HTTP/1.1\r\n{rest or chr(13) + chr(10)}".encode()
                        )
                        head = b""
                        while not head.endswith(b"\r\n\r\n"):
                            head += await program.read(1)
                        return (
                            await program.read(int(head.split(b"Content-Length: ")[1].split()[0]))
                        ).decode()

                    assert await get("a.net/1") == "1 GET /1 HTTP/1.1 0"
                    assert (
                        await get("a.net/2", "Content-Length: 5\r\n\r\nhello", "POST")
                        == "2 POST /2 HTTP/1.1 5"
                    )
                    assert await get("b.net/3") == "1 GET /3 HTTP/1.1 0"
                    assert await get("b.net/last") == "2 GET /last HTTP/1.1 0"
                    await until(lambda: len(dialer.streams) == 2 and dialer.streams[1].is_closing())
                    assert await get("b.net/4") == "1 GET /4 HTTP/1.1 0"
                    assert dialer.dialled == ["a.net:80", "b.net:80", "b.net:80"]
                    await program.send(
                        b"GET http://a.net/5 HTTP/1.1\r\n\r\nGET http://a.net/open HTTP/1.1\r\n\r\n"
                    )
                    answer = await program.read_all()
                    assert answer.count(b"HTTP/1.1 200 OK") == 2
                    assert answer.endswith(b"2 GET /open HTTP/1.1 0")
                with await Program.connect(address) as program:
                    await program.send(b"GET http://a.net/broken HTTP/1.1\r\n\r\n")
                    with pytest.raises(ConnectionResetError):
                        await program.read_all()
                await until(lambda: proxy.connections == 0)

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_plain_http_stops_for_a_clogged_reader(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        size = 32 << 20
        sent = 0

        async def big(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            for _ in range(size >> 16):
                writer.write(bytes(65536))
                await writer.drain()
                sent += 65536
            await reader.read()

        async with serving(big) as server, local_proxy(TableDialer({TARGET: server})) as (_, address):
            with await Program.connect(address) as program:
                await program.send(b"GET http://a.net/ HTTP/1.1\r\n\r\n")
                before = -1
                while sent != before or not sent:
                    before = sent
                    await asyncio.sleep(0.2)
                assert sent < size - (1 << 20)
                head = await program.read(45)
                assert head.endswith(b"\r\n\r\n")
                assert len(await program.read(size)) == size

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_plain_http_stops_for_a_clogged_origin(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        size = 32 << 20
        go = asyncio.Event()

        async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await go.wait()
            await reader.readuntil(b"\r\n\r\n")
            got = await reader.readexactly(size)
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n%d!" % (len(got) == size)
            )

        async with serving(slow) as server, local_proxy(TableDialer({TARGET: server})) as (_, address):
            with await Program.connect(address) as program:
                sent = 0

                async def pour() -> None:
                    nonlocal sent
                    await program.send(
                        b"POST http://a.net/ HTTP/1.1\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
                        % size
                    )
                    for _ in range(size >> 16):
                        await program.send(bytes(65536))
                        sent += 65536

                task = asyncio.ensure_future(pour())
                before = -1
                while sent != before or not sent:
                    before = sent
                    await asyncio.sleep(0.2)
                assert sent < size - (1 << 20)
                go.set()
                await task
                assert (await program.read_all()).endswith(b"\r\n\r\n1!")

    run(kind, monkeypatch, main)


# ---- datagrams -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("kind", LOOPS)
def test_datagrams(kind: str, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        dialer = TableDialer()
        target = Target("dns.example", 53)
        async with local_proxy(dialer, host) as (proxy, address):
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            with (
                await Program.connect(address) as program,
                socket.socket(family, socket.SOCK_DGRAM) as first,
                socket.socket(family, socket.SOCK_DGRAM) as second,
            ):
                for sock in (first, second):
                    sock.setblocking(False)
                    sock.bind((host, 0))
                reply = await program.ask(HELLO + b"\x05\x03\x00\x01" + bytes(6), 24 if ":" in host else 12)
                assert reply[:5] == b"\x05\x00\x05\x00\x00"
                bound = Target.parse(reply[5:])
                assert bound.host == host
                assert proxy.associations == 1
                (association,) = dialer.associations
                association.receiver.datagram_received(target, b"before anything was sent")
                first.sendto(b"garbage", (host, bound.port))
                first.sendto(b"\0\0\1" + target.serialize() + b"piece", (host, bound.port))
                first.sendto(serialize_datagram(target, b"question"), (host, bound.port))
                assert await loop.sock_recv(first, 65536) == serialize_datagram(target, b"question")
                second.sendto(serialize_datagram(target, b"stranger"), (host, bound.port))
                large = serialize_datagram(target, bytes(60000))
                first.sendto(large, (host, bound.port))
                assert await loop.sock_recv(first, 65536) == large
                assert [data for _, data in association.sent] == [b"question", bytes(60000)]
                await program.send(b"noise on the connection is ignored")
                program.end()
                assert await program.read_all() == b""
            await until(lambda: association.closed and proxy.associations == 0)

            with await Program.connect(address) as program:  # the far side ends it
                await program.ask(HELLO + b"\x05\x03\x00\x01" + bytes(6), 24 if ":" in host else 12)
                dialer.associations[1].receiver.association_lost(None)
                assert await program.read_all() == b""
            await until(lambda: proxy.associations == 0)

    run(kind, monkeypatch, main)


def test_datagrams_from_the_port_that_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        dialer = TableDialer()
        async with local_proxy(dialer) as (_, address):
            with (
                await Program.connect(address) as program,
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as named,
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
            ):
                for sock in (named, other):
                    sock.setblocking(False)
                    sock.bind(("127.0.0.1", 0))
                port = named.getsockname()[1]
                reply = await program.ask(HELLO + b"\x05\x03\x00\x01" + bytes(4) + port.to_bytes(2), 12)
                bound = Target.parse(reply[5:])
                for sock in (other, named):
                    sock.sendto(serialize_datagram(bound, b"x"), (bound.host, bound.port))
                await loop.sock_recv(named, 100)
                assert len(dialer.associations[0].sent) == 1

    run("asyncio", monkeypatch, main)


# ---- limits and stopping ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LOOPS)
def test_overdue_requests(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        limits = LocalLimits(head_timeout=0.05, linger=0.05)
        async with serving(web) as server:
            dialer = TableDialer({TARGET: server})
            async with local_proxy(dialer, limits=limits) as (proxy, address):
                for said in (b"", b"\x05", HELLO, b"GET http://a.net/ HTTP/1.1\r\n"):
                    with await Program.connect(address) as program:
                        await program.send(said)
                        answer = await program.read_all()
                        assert answer in (b"", b"\x05\x00")
                        await until(lambda: proxy.connections == 0)  # though it never closed its side
                assert not dialer.dialled

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_kept_connection_that_idles(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        limits = LocalLimits(head_timeout=0.3, linger=0.05)
        async with serving(web) as server:
            dialer = TableDialer({TARGET: server})
            async with local_proxy(dialer, limits=limits) as (proxy, address):
                with await Program.connect(address) as program:
                    await program.send(b"GET http://a.net/ HTTP/1.1\r\n\r\n")
                    answer = await program.read_all()
                    assert answer.endswith(b"1 GET / HTTP/1.1 0") or not dialer.dialled
                await until(lambda: proxy.connections == 0)
                assert all(stream.is_closing() for stream in dialer.streams)

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_limits(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        limits = LocalLimits(connections=2, associations=1)
        dialer = TableDialer()
        associate = HELLO + b"\x05\x03\x00\x01" + bytes(6)
        async with local_proxy(dialer, limits=limits) as (proxy, address):
            with await Program.connect(address) as one, await Program.connect(address) as two:
                assert (await one.ask(associate, 12))[3] == 0
                assert (await two.ask(HELLO, 2)) == b"\x05\x00"
                with await Program.connect(address) as three, pytest.raises(ConnectionResetError):
                    await three.read_all()
                await two.send(associate[3:])
                assert (await two.read(10))[1] == 1
                dialer.association_reason = Reason.TUNNEL_DOWN
                one.reset()
                await until(lambda: proxy.associations == 0)
            await until(lambda: proxy.connections == 0)
            with await Program.connect(address) as program:
                assert (await program.ask(associate, 12))[3] == 1
            await until(lambda: proxy.connections == 0)

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_stop_drains_then_breaks_off(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with serving(echo) as server:
            dialer = TableDialer({TARGET: server, "b.net:80": asyncio.Event()})
            async with local_proxy(dialer) as (proxy, address):
                busy, idle = await Program.connect(address), await Program.connect(address)
                await opened(busy)
                stopping = asyncio.ensure_future(proxy.stop(drain=10.0))
                assert await idle.read_all() == b""
                idle.sock.close()
                with pytest.raises(ConnectionRefusedError):
                    await Program.connect(address)
                assert await busy.ask(b"still served", 12) == b"still served"
                assert not stopping.done()
                busy.end()
                assert await busy.read_all() == b""
                busy.sock.close()
                await stopping
            async with local_proxy(dialer) as (proxy, address):
                with await Program.connect(address) as busy, await Program.connect(address) as dialling:
                    await opened(busy)
                    await dialling.ask(HELLO + NAME.replace(b"a.", b"b."), 2)
                    await until(lambda: "b.net:80" in dialer.dialled)
                    await proxy.stop(drain=0.05)
                    assert dialer.cancelled == 1
                    for program in (busy, dialling):
                        with pytest.raises(ConnectionResetError):
                            await program.read_all()

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_many_connections_leave_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with serving(echo) as server, local_proxy(TableDialer({TARGET: server})) as (proxy, address):

            async def one(number: int) -> None:
                with await Program.connect(address) as program:
                    await opened(program, list(OPENINGS)[number % 4])
                    assert await program.ask(b"x" * 64, 64) == b"x" * 64
                    if number % 3 == 0:
                        program.reset()
                    elif number % 3 == 1:
                        program.end()
                        assert await program.read_all() == b""

            for _ in range(5):
                await asyncio.gather(*map(one, range(60)))
            await until(lambda: proxy.connections == 0)

    run(kind, monkeypatch, main)


def test_a_bug_in_the_dialer_is_a_failure_for_the_program_and_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Buggy(TableDialer):
        async def dial(self, target, protocol, first_data=b""):
            raise ZeroDivisionError

        async def associate(self, receiver):
            raise ZeroDivisionError

    async def main() -> None:
        reported = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: reported.append(context["exception"])
        )
        async with local_proxy(Buggy()) as (_, address):
            for request in (NAME, b"\x05\x03\x00\x01" + bytes(6)):
                with await Program.connect(address) as program:
                    await program.send(HELLO + request)
                    assert await program.read_all() == b"\x05\x00\x05\x01\x00\x01" + bytes(6)
        gc.collect()
        assert [type(exception) for exception in reported] == [ZeroDivisionError] * 2

    run("asyncio", monkeypatch, main)


def test_a_taken_port_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with local_proxy(TableDialer()) as (proxy, address):
            with pytest.raises(OSError, match="in use"):
                await proxy.listen(*address)

    run("asyncio", monkeypatch, main)
