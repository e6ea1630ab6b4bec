"""A connect that is decided at once, later, or never."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ptproxy.tunnel.connecting import connect


@contextlib.contextmanager
def unconnected() -> Iterator[socket.socket]:
    with socket.socket() as sock:
        sock.setblocking(False)
        yield sock


class Slow:
    """A socket whose connect is decided when its other half is read from."""

    def __init__(self, verdict: int) -> None:
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        self.asked = 0
        self._verdict = verdict
        with contextlib.suppress(BlockingIOError):
            while True:
                self.near.send(bytes(1 << 16))

    def connect_ex(self, address: tuple[str, int]) -> int:
        self.asked += 1
        return errno.EINPROGRESS if self.asked == 1 else errno.EALREADY

    def fileno(self) -> int:
        return self.near.fileno()

    def getsockopt(self, level: int, option: int) -> int:
        assert (level, option) == (socket.SOL_SOCKET, socket.SO_ERROR)
        return self._verdict

    def decide(self) -> None:
        """There is room: the near half can be written to."""
        while len(self.far.recv(1 << 20)) == 1 << 20:
            pass

    def close(self) -> None:
        self.near.close()
        self.far.close()


def test_what_is_near_is_connected_without_a_turn_of_the_loop(run: Callable[[Any], Any]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as server, unconnected() as sock:
            turns = 0

            def turn() -> None:
                nonlocal turns
                turns += 1

            loop.call_soon(turn)
            await connect(loop, sock, server.getsockname())
            assert not turns
            far, _ = server.accept()
            with far:
                sock.send(b"x")
                assert far.recv(9) == b"x"

    run(main())


def test_a_refusal_is_the_error_that_it_is(run: Callable[[Any], Any]) -> None:
    async def main() -> None:
        with socket.socket() as bound, unconnected() as sock:
            bound.bind(("127.0.0.1", 0))  # and does not listen
            with pytest.raises(ConnectionRefusedError):
                await connect(asyncio.get_running_loop(), sock, bound.getsockname())

    run(main())


@pytest.mark.parametrize(("verdict", "error"), [(0, None), (errno.EHOSTUNREACH, OSError)])
def test_what_takes_its_time_is_waited_for(
    run: Callable[[Any], Any], verdict: int, error: type[OSError] | None
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with contextlib.closing(Slow(verdict)) as slow:
            waiting = loop.create_task(connect(loop, slow, ("192.0.2.1", 1)))  # type: ignore[arg-type]
            await asyncio.sleep(0.01)
            assert not waiting.done()
            slow.decide()
            if error is None:
                await waiting
            else:
                with pytest.raises(error) as caught:
                    await waiting
                assert caught.value.errno == verdict
            assert not loop.remove_writer(slow.fileno())

    run(main())


def test_whoever_gives_up_leaves_nothing_watched(run: Callable[[Any], Any]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with contextlib.closing(Slow(0)) as slow:
            waiting = loop.create_task(connect(loop, slow, ("192.0.2.1", 1)))  # type: ignore[arg-type]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert not loop.remove_writer(slow.fileno())
            slow.decide()  # nobody is told
            await asyncio.sleep(0)

    run(main())
