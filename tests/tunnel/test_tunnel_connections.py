"""Connections at their edges: a reset on the heels of data, dials given up, listeners out of room."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import socket
import ssl
import struct
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
from tunnel_live import make_certificate

from ptproxy.errors import DialError
from ptproxy.tunnel.listen import Listener, listen_tcp
from ptproxy.tunnel.polling import polled
from ptproxy.tunnel.tcp import FAST, BufferedReads, connect_tcp
from ptproxy.tunnel.tls import bridge_context

SAID = b"the last words" * 40
RESET = struct.pack("ii", 1, 0)


class Told(BufferedReads):
    """Collects what a connection says; ``over`` is set when it is lost."""

    def __init__(self, *, pause: bool = False) -> None:
        self.made = asyncio.Event()
        self.over = asyncio.Event()
        self.heard = bytearray()
        self.pause = pause
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.made.set()

    def data_received(self, data: Any) -> None:
        self.heard += data
        if self.pause:
            self.transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.over.set()


@contextlib.contextmanager
def peer(serve: Any, tls: ssl.SSLContext | None = None) -> Any:
    """A blocking server for one connection, which ``serve`` deals with; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def work() -> None:
            sock, _ = listener.accept()
            with contextlib.suppress(OSError):
                if tls is not None:
                    sock = tls.wrap_socket(sock, server_side=True)
                serve(sock)
            sock.close()

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(5)


def trusting(certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=certificate)
    context.check_hostname = False
    return context


def say_and_reset(sock: socket.socket) -> None:
    sock.recv(1000)
    sock.sendall(SAID)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def say_unheard(sock: socket.socket) -> None:
    """As a server that closes with a request still unread: the kernel resets."""
    sock.recv(1)
    sock.sendall(SAID)


@pytest.mark.parametrize("paused", [False, True], ids=["reading", "paused"])
@pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize("serve", [say_and_reset, say_unheard])
def test_a_reset_on_the_heels_of_data_is_noticed(
    run: Any, tmp_path: Path, serve: Any, secure: bool, paused: bool
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        tls = client = None
        if secure:
            certificate, private_key = make_certificate(tmp_path)
            tls, client = bridge_context(certificate, private_key), trusting(certificate)
        for _ in range(5):
            with peer(serve, tls) as port:
                told = Told(pause=paused)
                transport = await connect_tcp(
                    loop,
                    told,
                    "127.0.0.1",
                    port,
                    5,
                    tls=client,
                    server_hostname="localhost" if secure else None,
                )
                transport.write(b"a request that is not read to its end")
                await asyncio.sleep(0.02)  # both have arrived
                while paused and not told.over.is_set():
                    told.transport.resume_reading()
                    await asyncio.sleep(0)
                await told.over.wait()
                if not secure and serve is say_and_reset:
                    assert told.heard == SAID[: len(told.heard)]

    run(main())


def test_what_came_before_a_reset_is_delivered(run: Any) -> None:
    """... where the kernel still has it, and the descriptor is polled again once it is another's."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(20):
            with peer(say_unheard) as port:
                told = Told()
                transport = await connect_tcp(loop, told, "127.0.0.1", port, 5)
                transport.write(b"xy")
                await told.over.wait()
                assert told.heard == SAID

    run(main())


@pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])
def test_a_dial_that_is_given_up_leaves_nothing(run: Any, tmp_path: Path, secure: bool) -> None:
    """Cancelled after each number of loop turns that it may take: no socket stays, nothing is polled."""
    certificate, private_key = make_certificate(tmp_path)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        tls = bridge_context(certificate, private_key) if secure else None
        accepted: list[Told] = []

        def arrival() -> Told:
            accepted.append(Told())
            return accepted[-1]

        listener = await listen_tcp(loop, arrival, "127.0.0.1", 0, tls=tls)
        port = listener.sockets[0].getsockname()[1]
        client = trusting(certificate) if secure else None
        for turns in (*range(40), None):
            dial = loop.create_task(
                connect_tcp(
                    loop,
                    Told(),
                    "127.0.0.1",
                    port,
                    5,
                    tls=client,
                    server_hostname="localhost" if secure else None,
                )
            )
            if turns is not None:
                for _ in range(turns):
                    await asyncio.sleep(0)
                dial.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                (await dial).abort()
        while any(told.made.is_set() and not told.over.is_set() for told in accepted):
            await asyncio.sleep(0)
        assert accepted
        listener.close()
        await listener.wait_closed()
        assert not listener.handshakes
        if FAST:
            assert not polled(loop)._readers

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(main())
        gc.collect()


def test_handshakes_under_way_are_bounded(run: Any, tmp_path: Path) -> None:
    """Whoever connects and says nothing keeps no client out: the oldest makes room."""
    certificate, private_key = make_certificate(tmp_path)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        listener = await listen_tcp(
            loop, Told, "127.0.0.1", 0, tls=bridge_context(certificate, private_key), most_handshakes=8
        )
        port = listener.sockets[0].getsockname()[1]
        silent = []
        for _ in range(20):
            sock = socket.create_connection(("127.0.0.1", port))
            silent.append(sock)
        while listener.handshakes < 8:
            await asyncio.sleep(0)
        told = Told()
        await connect_tcp(
            loop, told, "127.0.0.1", port, 5, tls=trusting(certificate), server_hostname="localhost"
        )
        assert told.made.is_set()
        assert listener.handshakes <= 8
        told.transport.abort()
        for sock in silent[:12]:
            sock.settimeout(5)
            with contextlib.suppress(ConnectionResetError):
                assert sock.recv(1) == b""
        listener.close()
        await listener.wait_closed()
        for sock in silent:
            sock.settimeout(5)
            with contextlib.suppress(ConnectionResetError):
                assert sock.recv(1) == b""  # also those that were under way
            sock.close()

    run(main())


def test_a_handshake_that_does_not_end_is_ended(run: Any, tmp_path: Path) -> None:
    certificate, private_key = make_certificate(tmp_path)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        tls = bridge_context(certificate, private_key)
        listener = await listen_tcp(loop, Told, "127.0.0.1", 0, tls=tls, handshake_timeout=0.05)
        reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        while listener.handshakes:
            await asyncio.sleep(0)
        writer.close()
        listener.close()
        await listener.wait_closed()

    run(main())


def test_no_descriptor_for_another_connection(run: Any) -> None:
    """Accepting pauses while the process is out of descriptors, and goes on afterwards."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        arrived: list[Told] = []

        def arrival() -> Told:
            arrived.append(Told())
            return arrived[-1]

        listener = await listen_tcp(loop, arrival, "127.0.0.1", 0)
        address = listener.sockets[0].getsockname()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        sock = socket.create_connection(address)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (sock.fileno() + 1, hard))
            for _ in range(3):
                await asyncio.sleep(0)
            await asyncio.sleep(0.01)
            assert not arrived
            assert listener._pause is not None
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        while not arrived:
            await asyncio.sleep(0.01)
        await arrived[0].made.wait()
        sock.close()
        await arrived[0].over.wait()
        listener.close()
        await listener.wait_closed()

    run(main())


class NoReaders(asyncio.SelectorEventLoop):
    """A loop that cannot tell of a ready socket, as the completion loop of Windows."""

    def add_reader(self, *_: Any) -> None:
        raise NotImplementedError


def test_a_loop_that_knows_no_readers_accepts_too(monkeypatch: Any) -> None:
    monkeypatch.setattr("ptproxy.tunnel.tcp._fast", None)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        arrived = Told()
        listener: Listener = await listen_tcp(loop, lambda: arrived, "127.0.0.1", 0)
        told = Told()
        transport = await connect_tcp(loop, told, *listener.sockets[0].getsockname(), 5)
        await arrived.made.wait()
        transport.close()
        await arrived.over.wait()
        listener.close()
        await listener.wait_closed()
        with pytest.raises(DialError):
            await connect_tcp(loop, told, "127.0.0.1", 1, 5)

    with asyncio.Runner(loop_factory=NoReaders) as runner:
        runner.run(main())


class Wordy(Told):
    """Writes more than the kernel takes, as soon as it can."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.write(bytes(30_000_000))


@pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])
def test_a_dial_given_up_with_bytes_waiting_ends_at_once(run: Any, tmp_path: Path, secure: bool) -> None:
    """Its socket is not closed under it: the next connection with that descriptor works."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        tls = client = name = None
        if secure:
            certificate, private_key = make_certificate(tmp_path)
            tls, client = bridge_context(certificate, private_key), trusting(certificate)
            name = "localhost"
        arrived: list[Told] = []  # the loop itself holds no connection that is paused

        def arrival() -> Told:
            arrived.append(Told(pause=True))
            return arrived[-1]

        listener = await listen_tcp(loop, arrival, "127.0.0.1", 0, tls=tls)
        address = listener.sockets[0].getsockname()
        for _ in range(10):
            wordy = Wordy()
            dial = loop.create_task(connect_tcp(loop, wordy, *address, 5, tls=client, server_hostname=name))
            while not wordy.made.is_set():
                await asyncio.sleep(0)
            dial.cancel()
            with pytest.raises(asyncio.CancelledError):
                await dial
            await wordy.over.wait()
            told = Told()
            transport = await connect_tcp(loop, told, *address, 5, tls=client, server_hostname=name)
            transport.abort()
            await told.over.wait()
        listener.close()
        await listener.wait_closed()

    run(main())


class Shy(Told):
    """Does not read until it is told to."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.pause_reading()


def test_who_pauses_from_the_start_is_left_alone(run: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with peer(say_and_reset) as port:
            shy = Shy()
            transport = await connect_tcp(loop, shy, "127.0.0.1", port, 5)
            transport.write(b"anything")
            if FAST:
                await asyncio.sleep(0.05)
                assert not polled(loop)._readers
            assert not shy.heard
            transport.resume_reading()
            await shy.over.wait()

    run(main())


def test_an_error_of_an_earlier_connection_is_not_the_next_ones(run: Any) -> None:
    """A duplicate of its socket, say a child's, stays in the kernel's table under its number."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as server:
            first, second = Told(), Told()
            transport = await connect_tcp(loop, first, *server.getsockname(), 5)
            far, _ = server.accept()
            number = transport.get_extra_info("socket").fileno()
            with transport.get_extra_info("socket").dup():
                transport.abort()
                await first.over.wait()
                transport = await connect_tcp(loop, second, *server.getsockname(), 5)
                near, _ = server.accept()
                assert transport.get_extra_info("socket").fileno() == number
                far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                far.close()
                await asyncio.sleep(0.02)
                near.sendall(SAID)
                while second.heard != SAID:
                    await asyncio.sleep(0)
                near.close()
                await second.over.wait()

    run(main())


def test_neither_end_waits_for_more_to_send() -> None:
    """Nagle's algorithm is off where a connection is dialled and where it is accepted.

    Else a stream that comes in pieces, as a web server in front cuts it, stands still for 40 ms.
    """

    async def main() -> None:
        loop = asyncio.get_running_loop()
        accepted, dialled = Told(), Told()
        listener = await listen_tcp(loop, lambda: accepted, "127.0.0.1", 0)
        await connect_tcp(loop, dialled, "127.0.0.1", listener.sockets[0].getsockname()[1], 10.0)
        await asyncio.wait_for(accepted.made.wait(), 10)
        for end in (accepted, dialled):
            sock = end.transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            end.transport.abort()
        listener.close()
        await listener.wait_closed()

    asyncio.run(main())
