"""Event loops, a dialer and small servers for tests of the local proxy over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from collections.abc import Awaitable, Callable

import pytest
from loops import run_in

from ptproxy.errors import DialError, Reason
from ptproxy.proxy.local import LocalProxy
from ptproxy.target import Target
from ptproxy.tunnel import tcp
from ptproxy.tunnel.runtime import loop_factory

PATIENCE = 60.0
"""Seconds after which a test that waits for something that never comes is a failure."""

LOOPS = ["uvloop", "asyncio", "asyncio without aiofastnet"]


def run(kind: str, monkeypatch: pytest.MonkeyPatch, main: Callable[[], Awaitable[None]]) -> None:
    """Run ``main`` on a loop of that kind; fails for tasks left behind and errors nobody caught."""
    if kind.endswith("without aiofastnet"):
        monkeypatch.setattr(tcp, "_fast", None)
        monkeypatch.setattr(tcp, "FAST", False)
    errors: list[dict[str, object]] = []

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        async with asyncio.timeout(PATIENCE):
            await main()
        for _ in range(5):
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_in(loop_factory(kind.partition(" ")[0]), watched())
    gc.collect()
    assert not errors, errors


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    while not condition():
        await asyncio.sleep(0.005)


class FakeAssociation:
    """A far side that answers every datagram with the same, from where it went."""

    def __init__(self, receiver) -> None:
        self.receiver = receiver
        self.sent: list[tuple[Target, bytes]] = []
        self.closed = False

    def send_datagram(self, target: Target, data: bytes) -> None:
        self.sent.append((target, data))
        self.receiver.datagram_received(target, data)

    def close(self) -> None:
        self.closed = True


class TableDialer:
    """Dials by TCP what its table says: a port on loopback, a reason for a refusal, or a gate to wait at."""

    def __init__(self, table: dict[str, tuple[str, int] | Reason | asyncio.Event] | None = None) -> None:
        self.table = table or {}
        self.dialled: list[str] = []
        self.first: list[bytes] = []
        self.cancelled = 0
        self.streams: list[asyncio.Transport] = []
        self.associations: list[FakeAssociation] = []
        self.association_reason: Reason | None = None

    async def dial(
        self, target: Target, protocol: asyncio.Protocol, first_data: bytes = b""
    ) -> asyncio.Transport:
        self.dialled.append(str(target))
        self.first.append(first_data)
        entry = self.table.get(str(target), Reason.NAME_NOT_FOUND)
        if isinstance(entry, asyncio.Event):
            try:
                await entry.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            entry = self.table[f"{target} then"]
        if isinstance(entry, Reason):
            raise DialError(entry)
        stream = await tcp.connect_tcp(asyncio.get_running_loop(), protocol, *entry, 5.0)
        if first_data:
            stream.write(first_data)
        self.streams.append(stream)
        return stream

    async def associate(self, receiver) -> FakeAssociation:
        if self.association_reason is not None:
            raise DialError(self.association_reason)
        self.associations.append(FakeAssociation(receiver))
        return self.associations[-1]


@contextlib.asynccontextmanager
async def serving(handler, host: str = "127.0.0.1", port: int = 0):
    """A small TCP server; gives its address.

    Its connections are waited for, but not after a failure, which would else be a test that hangs.
    """
    tasks = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            tasks.discard(asyncio.current_task())

    server = await asyncio.start_server(connected, host, port)
    try:
        yield server.sockets[0].getsockname()[:2]
    except BaseException:
        for task in list(tasks):
            task.cancel()
        raise
    finally:
        server.close()
        while tasks:
            await asyncio.sleep(0.005)
        await server.wait_closed()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


@contextlib.asynccontextmanager
async def local_proxy(dialer, host: str = "127.0.0.1", **options):
    """A local proxy on ``host``; gives it and its address. It must be empty of tasks at the end."""
    proxy = LocalProxy(asyncio.get_running_loop(), dialer, **options)
    address = await proxy.listen(host, 0)
    try:
        yield proxy, address
    finally:
        await proxy.stop()
        assert proxy.connections == 0
        assert not proxy.tasks
        assert proxy.associations == 0


class Program:
    """A local program's socket, used from the loop."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def connect(cls, address: tuple[str, int]) -> Program:
        sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
        return cls(sock)

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self.sock, data)

    async def read(self, size: int) -> bytes:
        """Exactly ``size`` bytes, fewer only at the end."""
        data = bytearray()
        while len(data) < size and (
            piece := await self._loop.sock_recv(self.sock, min(size - len(data), 1 << 18))
        ):
            data += piece
        return bytes(data)

    async def read_all(self) -> bytes:
        return await self.read(1 << 40)

    async def ask(self, data: bytes, size: int) -> bytes:
        await self.send(data)
        return await self.read(size)

    def end(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.sock.close()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()
