"""Connections without TLS are made at once, and end well whatever happens before their first turn."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from ptproxy.tunnel import tcp
from ptproxy.tunnel.listen import Listener, bind_tcp, bind_unix


class Told(tcp.BufferedReads):
    """What a connection was told, in order."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.heard = b""
        self.over = asyncio.Event()
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.calls.append("made")

    def data_received(self, data: Any) -> None:
        self.calls.append("data")
        self.heard += bytes(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append("lost")
        self.over.set()


@pytest.fixture(params=["at once", "by coroutines", "asyncio's"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The ways in which an accepted connection gets its transport."""
    if request.param != "at once":
        monkeypatch.setattr(tcp, "_PlainTransport", None)
    elif not tcp.FAST:
        pytest.skip("aiofastnet is not there")
    if request.param == "asyncio's":
        monkeypatch.setattr(tcp, "_fast", None)
        monkeypatch.setattr(tcp, "FAST", False)
    return str(request.param)


def bound(family: str, folder: Path) -> socket.socket:
    return bind_tcp("127.0.0.1", 0) if family == "tcp" else bind_unix(str(folder / "s"))


def connected(listener: Listener) -> socket.socket:
    """A blocking connection that the kernel has accepted and the listener has not."""
    sock = socket.socket(listener.sockets[0].family, socket.SOCK_STREAM)
    sock.connect(listener.sockets[0].getsockname())
    return sock


@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_a_connection_is_made_heard_and_lost(run: Any, way: str, family: str, tmp_path: Path) -> None:
    async def main() -> None:
        loop, told = asyncio.get_running_loop(), Told()
        listener = Listener(loop, lambda: told, bound(family, tmp_path))
        assert tcp.makes_plain(loop) == (way == "at once")  # a new aiofastnet is to be looked at, and let in
        with connected(listener) as sock:
            sock.sendall(b"hello")
            sock.shutdown(socket.SHUT_WR)
            await told.over.wait()
        assert told.calls == ["made", "data", "lost"]
        assert told.heard == b"hello"
        listener.close()
        await listener.wait_closed()

    run(main())


def test_nothing_is_left_of_what_came_as_the_listener_closed(run: Any, way: str) -> None:
    """Accepted in the very turn of the close: never made, or made and lost; the program sees an end."""
    del way

    async def main() -> None:
        loop, told = asyncio.get_running_loop(), Told()
        listener = Listener(loop, lambda: told, bind_tcp("127.0.0.1", 0))
        sock = connected(listener)
        listener._accept()
        listener.close()
        await listener.wait_closed()
        assert told.calls in ([], ["made", "lost"])
        sock.setblocking(False)
        try:
            assert await loop.sock_recv(sock, 1) == b""
        except ConnectionResetError:
            pass
        sock.close()

    run(main())


def test_a_descriptor_that_follows_an_aborted_connection_is_left_alone(run: Any, way: str) -> None:
    """One aborted as it is made, whose number is at once another's: that one is heard."""
    del way

    async def main() -> None:
        loop = asyncio.get_running_loop()
        made: list[Told] = []

        class Aborted(Told):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                super().connection_made(transport)
                loop.call_soon(self.transport.abort)

        def factory() -> Told:
            made.append(Told() if len(made) % 2 else Aborted())
            return made[-1]

        listener = Listener(loop, factory, bind_tcp("127.0.0.1", 0))
        for _ in range(10):
            with connected(listener):
                while not (made and len(made) % 2 and made[-1].over.is_set()):
                    await asyncio.sleep(0)
                with connected(listener) as second:
                    second.sendall(b"x")
                    second.shutdown(socket.SHUT_WR)
                    while len(made) % 2:
                        await asyncio.sleep(0)
                    await made[-1].over.wait()
                    assert made[-1].calls == ["made", "data", "lost"]
        listener.close()
        await listener.wait_closed()

    run(main())
