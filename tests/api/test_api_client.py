"""``ptproxy.connect``: streams in asyncio's shape, TLS on them, sockets, datagrams, and how they end."""

from __future__ import annotations

import asyncio
import errno
import random
import socket
import ssl
from pathlib import Path

import pytest
from api_live import PLAIN, RNG, bridge_config, digest, pair, target_tls
from proxy_live import LOOPS, echo, run, serving, until

import ptproxy
from ptproxy.api import sockets, streams
from ptproxy.auth.access import AccessList
from ptproxy.auth.credentials import new_token
from ptproxy.errors import ConfigError, DialError, Reason, StartError
from ptproxy.state import Document
from ptproxy.target import Target

MIB = 1 << 20


async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> bytes:
    """Send all of ``data`` and the end; all that comes back."""

    async def send() -> None:
        writer.write(data)
        await writer.drain()
        writer.write_eof()

    sending = asyncio.ensure_future(send())
    back = await reader.read()
    await sending
    return back


@pytest.mark.parametrize("kind", LOOPS)
def test_a_stream_in_asyncios_own_shape(kind, tmp_path, monkeypatch) -> None:
    data = random.Random(1).randbytes(3 * MIB)

    async def main() -> None:
        async with pair(tmp_path) as client, serving(echo) as (host, port):
            reader, writer = await client.open_connection(host, port)
            assert digest(await talk(reader, writer, data)) == digest(data)
            writer.close()
            await writer.wait_closed()
            reader, writer = await client.open_connection(host, port, first_data=b"with the request")
            assert await reader.readexactly(16) == b"with the request"
            writer.close()

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_tls_with_the_target(kind, tmp_path, monkeypatch) -> None:
    data = random.Random(2).randbytes(MIB)
    server_context, context = target_tls(tmp_path)

    async def lines(reader, writer) -> None:
        writer.write(await reader.readexactly(len(data)))
        await writer.drain()
        await reader.read()

    async def main() -> None:
        server = await asyncio.start_server(
            lambda r, w: tasks.append(asyncio.ensure_future(close_after(lines, r, w))),
            "127.0.0.1", 0, ssl=server_context,
        )  # fmt: skip
        port = server.sockets[0].getsockname()[1]
        tasks: list[asyncio.Task[None]] = []
        async with pair(tmp_path) as client:
            reader, writer = await client.open_connection(
                "127.0.0.1", port, ssl=context, server_hostname="localhost"
            )
            assert writer.get_extra_info("ssl_object") is not None
            writer.write(data)
            assert digest(await reader.readexactly(len(data))) == digest(data)
            writer.close()
            await writer.wait_closed()
            with pytest.raises(ssl.SSLCertVerificationError):  # nobody vouches for it
                await client.open_connection("127.0.0.1", port, ssl=True, server_hostname="localhost")
            with pytest.raises(ssl.SSLCertVerificationError):  # not this name's
                await client.open_connection("127.0.0.1", port, ssl=context)
            with pytest.raises(ValueError, match="in the clear"):
                await client.open_connection("127.0.0.1", port, ssl=context, first_data=b"x")
        server.close()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()

    run(kind, monkeypatch, main)


async def close_after(handler, reader, writer) -> None:
    try:
        await handler(reader, writer)
    finally:
        writer.transport.abort()


def test_what_fails_is_an_os_error_with_the_far_sides_word(tmp_path, monkeypatch) -> None:
    async def main() -> None:
        async with pair(tmp_path) as client:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
                with pytest.raises(ConnectionError) as caught:
                    await client.open_connection("127.0.0.1", port)
            assert isinstance(caught.value, ptproxy.ConnectError)
            assert isinstance(caught.value, DialError)
            assert caught.value.reason is Reason.REFUSED
            assert caught.value.errno == errno.ECONNREFUSED
            with pytest.raises(ptproxy.ConnectError) as caught:
                await client.open_socket("10.1.2.3", 80)
            assert caught.value.reason is Reason.NOT_PERMITTED
            for host, port in (("not a host", 80), ("example.org", 0), ("fe80::1%eth0", 80)):
                with pytest.raises(ptproxy.ConnectError):
                    await client.open_connection(host, port)
            with pytest.raises(ptproxy.ConnectError) as caught:
                await client.open_service("nothing-here")
            assert caught.value.reason is Reason.UNSUPPORTED
            with pytest.raises(ValueError, match="service name"):
                await client.open_service("Not A Name")

    run("uvloop", monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS[:2])
def test_a_cut_transfer_never_looks_complete(kind, tmp_path, monkeypatch) -> None:
    async def cut(reader, writer) -> None:
        writer.write(b"half of it")
        await writer.drain()
        await reader.readexactly(3)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with pair(tmp_path) as client, serving(cut) as (host, port):
            reader, writer = await client.open_connection(host, port)
            assert await reader.readexactly(10) == b"half of it"
            writer.write(b"cut")
            with pytest.raises(ptproxy.StreamLostError) as caught:
                await reader.read()
            assert isinstance(caught.value, ConnectionResetError)
            assert caught.value.reason is Reason.CONNECTION_LOST
            writer.close()
            sock = await client.open_socket(host, port)
            with sock:
                assert await loop.sock_recv(sock, 10) == b"half of it"
                await loop.sock_sendall(sock, b"cut")
                with pytest.raises(ConnectionResetError):
                    await loop.sock_recv(sock, 10)

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS[:2])
def test_closing_ends_a_stream_whose_target_never_does(kind, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(streams, "CLOSE_WAIT", 0.05)
    got: list[bytes] = []
    gone: list[BaseException] = []

    async def chatter(reader, writer) -> None:
        got.append(await reader.read())  # all of it, and the end
        try:
            while True:  # talks on, whatever the other side has said
                writer.write(bytes(1000))
                await writer.drain()
                await asyncio.sleep(0.001)
        except ConnectionError as error:
            gone.append(error)

    async def main() -> None:
        async with pair(tmp_path) as client, serving(chatter) as (host, port):
            _, writer = await client.open_connection(host, port)
            writer.write(b"x" * 300_000)
            writer.close()
            await writer.wait_closed()
            await until(lambda: bool(gone))
            assert [len(data) for data in got] == [300_000]

    run(kind, monkeypatch, main)


def test_closing_ends_a_stream_whose_target_only_stays(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(streams, "CLOSE_WAIT", 0.02)
    monkeypatch.setattr(streams, "SILENT_WAIT", 0.1)
    gate = asyncio.Event()

    async def staying(reader, writer) -> None:
        assert await reader.read() == b"all"
        await gate.wait()

    async def main() -> None:
        async with pair(tmp_path) as client, serving(staying) as (host, port):
            _, writer = await client.open_connection(host, port)
            writer.write(b"all")
            writer.close()
            await writer.wait_closed()
            gate.set()

    run("asyncio", monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS[:2])
def test_closing_waits_for_a_target_that_is_slow_to_take_what_was_written(
    kind, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(streams, "CLOSE_WAIT", 0.02)
    monkeypatch.setattr(streams, "SILENT_WAIT", 0.02)
    real, looks = streams.StreamWriter._look, []

    def look(self, arrived_at: float | None, received: int) -> None:
        looks.append(self._stream.state.retained)
        real(self, arrived_at, received)

    monkeypatch.setattr(streams.StreamWriter, "_look", look)
    got: list[int] = []
    gate = asyncio.Event()

    async def slow(reader, writer) -> None:
        await gate.wait()
        got.append(len(await reader.read()))

    async def main() -> None:
        async with pair(tmp_path) as client, serving(slow) as (host, port):
            _, writer = await client.open_connection(host, port)
            writer.write(bytes(40 * MIB))  # more than every buffer on the way
            writer.close()
            await until(lambda: len(looks) > 5)
            monkeypatch.setattr(streams, "SILENT_WAIT", 60.0)  # for what is between bridge and target now
            gate.set()
            await writer.wait_closed()
            await until(lambda: got == [40 * MIB])
            assert min(looks[:5]) > 0

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_a_stream_as_a_real_socket(kind, tmp_path, monkeypatch) -> None:
    data = random.Random(3).randbytes(3 * MIB)

    async def main() -> None:
        async with pair(tmp_path) as client, serving(echo) as (host, port):
            reader, writer = await asyncio.open_connection(sock=await client.open_socket(host, port))
            assert digest(await talk(reader, writer, data)) == digest(data)
            writer.close()
            await writer.wait_closed()

    run(kind, monkeypatch, main)


def test_sockets_end_with_their_client(tmp_path, monkeypatch) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with serving(echo) as (host, port):
            async with pair(tmp_path) as client:
                sock = await client.open_socket(host, port)
                await loop.sock_sendall(sock, b"hello")
                assert await loop.sock_recv(sock, 5) == b"hello"
            with sock, pytest.raises(ConnectionResetError):
                await loop.sock_recv(sock, 5)

    run("asyncio", monkeypatch, main)


def test_a_stranger_does_not_get_into_a_socket_pair(monkeypatch) -> None:
    """Another program of this machine connects first: it is turned away, and the pair is a pair."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        strangers: list[socket.socket] = []
        real = loop.sock_connect

        async def slow(sock, address) -> None:
            stranger = socket.socket()
            stranger.setblocking(False)
            strangers.append(stranger)
            await real(stranger, address)
            await real(sock, address)

        class Loop:
            sock_connect = staticmethod(slow)
            sock_accept = staticmethod(loop.sock_accept)

        near, far = await sockets.socket_pair(Loop())
        with near, far, strangers[0]:
            assert near.getpeername() == far.getsockname()
            assert near.getsockname() == far.getpeername()
            await loop.sock_sendall(near, b"to the other end")
            assert await loop.sock_recv(far, 100) == b"to the other end"
            assert await loop.sock_recv(strangers[0], 100) == b""

    run("asyncio", monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS[:2])
def test_datagrams(kind, tmp_path, monkeypatch) -> None:
    class Echo(asyncio.DatagramProtocol):
        def connection_made(self, transport) -> None:
            self.transport = transport

        def datagram_received(self, data, addr) -> None:
            self.transport.sendto(data[::-1], addr)

    async def main() -> None:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            Echo, local_addr=("127.0.0.1", 0)
        )
        address = transport.get_extra_info("sockname")
        async with pair(tmp_path) as client:
            async with await client.open_datagrams() as datagrams:
                datagrams.send(b"abc", address)
                assert await datagrams.receive() == (b"cba", address)
                with pytest.raises(ValueError, match="at most"):
                    datagrams.send(bytes(70_000), address)
            with pytest.raises(ptproxy.StreamLostError):
                await datagrams.receive()
            left = await client.open_datagrams()
            waiting = asyncio.ensure_future(left.receive())
        with pytest.raises(ptproxy.StreamLostError):  # the client is gone
            await waiting
        transport.close()
        await asyncio.sleep(0)

    run(kind, monkeypatch, main)


def test_datagrams_that_nobody_receives_are_bounded() -> None:
    datagrams = ptproxy.Datagrams()
    source = Target.address("192.0.2.1", 53)
    for number in range(3000):
        datagrams.datagram_received(source, number.to_bytes(2, "big"))
    assert len(datagrams._waiting) == 1024
    assert datagrams._waiting[-1][0] == (2999).to_bytes(2, "big")
    for _ in range(100):
        datagrams.datagram_received(source, bytes(60_000))
    assert sum(len(data) for data, _ in datagrams._waiting) == datagrams._bytes <= 1 << 20


def test_the_lower_stream_and_association(tmp_path, monkeypatch) -> None:
    class Collect(asyncio.Protocol):
        data = b""

        def data_received(self, data) -> None:
            self.data += bytes(data)

    async def main() -> None:
        async with pair(tmp_path) as client, serving(echo) as (host, port):
            protocol = Collect()
            stream = await client.dial(Target.address(host, port), protocol, b"first ")
            stream.write(b"then")
            await until(lambda: protocol.data == b"first then")
            stream.abort()

    run("uvloop", monkeypatch, main)


# ---- what connect() is given -----------------------------------------------------------------------


def test_a_link_with_a_folder_keeps_its_key(tmp_path, monkeypatch) -> None:
    """An invite's key is made once, enrols once, and comes back."""
    token = new_token(RNG)
    access = AccessList()
    access.invite(token, "anna")
    Document(tmp_path / "bridge-state", "access").write(access.to_dict())

    async def main() -> None:
        async with ptproxy.serve(bridge_config(tmp_path, access="enrolled")) as bridge:
            link = bridge.link(token.secret)
            with pytest.raises(StartError, match="state=FOLDER"):
                async with ptproxy.connect(link, **PLAIN):
                    pass
            for _ in range(2):
                async with (
                    ptproxy.connect(link.serialize(), state=tmp_path / "mine", **PLAIN) as client,
                    serving(echo) as (host, port),
                ):
                    reader, writer = await client.open_connection(host, port, first_data=b"in")
                    assert await reader.readexactly(2) == b"in"
                    writer.close()
            with pytest.raises(StartError, match="used-up invite"):
                async with ptproxy.connect(link, state=tmp_path / "other", **PLAIN):
                    pass
        assert (tmp_path / "mine" / "client.key").stat().st_mode & 0o777 == 0o600

    run("asyncio", monkeypatch, main)


def test_a_configuration_file(tmp_path, monkeypatch) -> None:
    import yaml

    async def main() -> None:
        async with ptproxy.serve(bridge_config(tmp_path)) as bridge:
            async with ptproxy.connect(bridge.link(), state=tmp_path / "client", **PLAIN):
                pass  # makes the key
            path = tmp_path / "client" / "client.yaml"
            settings = {
                "role": "client", "listen": "127.0.0.1:1080", "bridge": bridge.link().serialize(),
                "key": "client.key", "state": "state", **PLAIN,
            }  # fmt: skip
            path.write_text(yaml.safe_dump(settings))
            async with ptproxy.connect(path) as client, serving(echo) as (host, port):
                reader, writer = await client.open_connection(host, port, first_data=b"in")
                assert await reader.readexactly(2) == b"in"
                writer.close()
            with pytest.raises(ConfigError, match="names its own"):
                async with ptproxy.connect(path, state=tmp_path):
                    pass
            with pytest.raises(ConfigError, match="write it into the configuration"):
                async with ptproxy.connect(path, shape="none"):
                    pass

    run("asyncio", monkeypatch, main)


def test_what_keeps_a_client_from_starting(tmp_path: Path, monkeypatch) -> None:
    secret = "AAAAAAAAAAAAAAAAAAAAAA"

    async def main() -> None:
        link = f"ptproxy://{'A' * 43}@127.0.0.1:9?codecs=websocket"
        cases = {
            "not reached": (link, {}),
            "no codec": (link.replace("websocket", "unknown") + "&x=1", {}),
            "damaged": (f"{link}&token={secret}&colour=red", {}),
            "fingerprint": (link, {"tls": {"fingerprint": "lynx"}}),
            "is not for connect": (link, {"listen": "127.0.0.1:1"}),
            "Extra inputs": (link, {"colour": "red"}),
            "no such file": (str(tmp_path / "missing.yaml"), {}),
            "keeps its profile": (link, {"tls": {"fingerprint": "browser"}}),
        }
        for expected, (source, options) in cases.items():
            with pytest.raises((StartError, ConfigError)) as caught:
                async with ptproxy.connect(source, **(PLAIN | options)):
                    pass
            assert expected in str(caught.value) or expected == "no codec", str(caught.value)
            assert secret not in str(caught.value)

    run("asyncio", monkeypatch, main)
