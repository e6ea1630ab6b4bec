"""``ptproxy.connect_blocking``: the same tunnel for programs without an event loop.

The tunnel lives in a thread of its own; what a program gets of it are real
sockets, so that time-outs, ``makefile``, ``select`` and ``ssl`` work as ever.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import socket
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from ptproxy.api.client import Client, connect
from ptproxy.api.failures import ConnectError
from ptproxy.api.source import ClientSource
from ptproxy.errors import Reason
from ptproxy.tunnel.runtime import loop_factory

T = TypeVar("T")

CLOSE_TIMEOUT: Final = 30.0
"""Seconds that :meth:`BlockingClient.close` waits for its thread; the tunnel's own limits are shorter."""


class BlockingClient:
    """A client of one bridge, usable from any thread; :func:`connect_blocking` makes it."""

    def __init__(self, source: ClientSource, options: dict[str, Any]) -> None:
        self._source = source
        self._options = options
        self._started: concurrent.futures.Future[Client] = concurrent.futures.Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._starting: tuple[asyncio.AbstractEventLoop, asyncio.Task[None]] | None = None
        self._given_up = False
        self._closing = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="ptproxy", daemon=True)
        self._thread.start()
        try:
            self._client = self._started.result()
        except BaseException:
            self._give_up()  # Ctrl-C: nobody waits for the tunnel any more
            self._thread.join(CLOSE_TIMEOUT)
            raise

    def create_connection(self, address: tuple[str, int], timeout: float | None = None) -> socket.socket:
        """A socket to ``address``, in the shape of :func:`socket.create_connection`.

        ``timeout`` holds for the dial and then for the socket (None: for ever).
        Raises ``OSError``: :class:`~ptproxy.api.failures.ConnectError`, ``TimeoutError``.
        """
        host, port = address
        sock = self._wait(self._open(host, port, timeout))
        sock.settimeout(timeout)
        return sock

    def close(self) -> None:
        """End the tunnel and every socket of it; harmless when it has ended."""
        with self._closing:
            loop, stop = self._loop, self._stop
            self._loop = None
        if loop is not None and stop is not None:
            loop.call_soon_threadsafe(stop.set)
        self._thread.join(CLOSE_TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _give_up(self) -> None:
        """Have the thread end, wherever it is."""
        with self._closing:
            self._given_up = True
            if self._starting is not None:
                loop, task = self._starting
                with contextlib.suppress(RuntimeError):  # it has just ended by itself
                    loop.call_soon_threadsafe(task.cancel)

    # ---- the thread --------------------------------------------------------------------------------

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Have the thread do ``work``, and wait for it."""
        with self._closing:
            if self._loop is None:
                work.close()
                raise ConnectError(Reason.SHUTDOWN, "the client is closed")
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise ConnectError(Reason.SHUTDOWN, "the client was closed") from None
        except BaseException:
            future.cancel()  # Ctrl-C: nobody waits for it any more
            raise

    async def _open(self, host: str, port: int, timeout: float | None) -> socket.socket:  # noqa: ASYNC109  (the dial's)
        async with asyncio.timeout(timeout):
            return await self._client.open_socket(host, port)

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(self._hold())
        except BaseException as error:  # told to whoever waits in another thread
            if self._given_up:
                return
            if self._started.done():
                raise
            self._started.set_exception(error)

    async def _hold(self) -> None:
        """The tunnel, until it is to end."""
        task = asyncio.current_task()
        assert task is not None
        with self._closing:
            self._starting = asyncio.get_running_loop(), task
            if self._given_up:
                return
        async with connect(self._source, **self._options) as client:
            self._stop = asyncio.Event()
            self._loop = asyncio.get_running_loop()
            self._started.set_result(client)
            await self._stop.wait()


def connect_blocking(
    source: ClientSource, *, state: str | os.PathLike[str] | None = None, **options: Any
) -> BlockingClient:
    """A tunnel to a bridge, in a thread: ``with ptproxy.connect_blocking(link) as client``.

    The arguments and errors are :func:`ptproxy.connect`'s; it returns when the tunnel stands.
    """
    return BlockingClient(source, {"state": state, **options})
