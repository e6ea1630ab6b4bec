"""``ptproxy.serve``: a bridge inside a program, with services of the program's own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Final

from ptproxy.api.source import BridgeSource, bridge_config
from ptproxy.api.streams import LIMIT, ReaderProtocol, StreamWriter
from ptproxy.config.link import Link
from ptproxy.config.model import BridgeConfig
from ptproxy.errors import Reason, StartError
from ptproxy.log import get_logger
from ptproxy.proxy.bridge import run_bridge
from ptproxy.proxy.startup import Signals, load_key
from ptproxy.state import StateFolder
from ptproxy.target import Target, TargetError
from ptproxy.tunnel.recognise import SHAPE_SERVICE
from ptproxy.tunnel.relay import reset_stream
from ptproxy.tunnel.stream import BridgeService, Incoming
from ptproxy.tunnel.tls import leaf_digest

MAX_STREAMS: Final = 4096
"""Streams of one service at a time; further ones are refused."""

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Talks to one client, as with :func:`asyncio.start_server`; the stream ends when it returns."""

log = get_logger(__name__)


class Bridge:
    """A running bridge; :func:`serve` makes it."""

    def __init__(self, config: BridgeConfig) -> None:
        self.config = config
        self.addresses: list[str] = []
        """Where it listens."""
        self.reload: Callable[[], None] = lambda: None
        """Read certificates, shape and access list again, as SIGHUP has a bridge do."""
        self._signals: Signals | None = None

    def link(self, token: bytes = b"") -> Link:
        """The link for its clients; ``token`` is an invite's (``ptproxy invite new`` makes them).

        Raises :class:`~ptproxy.errors.StartError` for an unreadable key or certificate. A bridge
        that terminates TLS has its certificate pinned, as nobody else can vouch for it here.
        """
        config = self.config
        certificate = config.tls.certificate if config.mode == "standalone" else None
        pin = leaf_digest(certificate) if certificate is not None else None
        return config.link(load_key(config.key).public, pin, token)

    def stop(self) -> None:
        """Ask it to stop: open streams have ``limits.drain`` to end, a second call ends them."""
        if self._signals is not None:
            self._signals.ask()

    def _signals_of(self, loop: asyncio.AbstractEventLoop, reload: Callable[[], None]) -> Signals:
        self.reload = reload
        self._signals = Signals(loop, stopping=())
        return self._signals


@contextlib.asynccontextmanager
async def serve(
    source: BridgeSource, *, services: Mapping[str, Serve] | None = None
) -> AsyncIterator[Bridge]:
    """A bridge: ``async with ptproxy.serve("bridge.yaml") as bridge``.

    ``source`` is a bridge's configuration file, or the model of it. ``services``
    are offered to clients by name (:meth:`Client.open_service`): each is a
    coroutine function that takes a reader and a writer.

    It listens when the block begins, leaves the program's signals alone, and is
    drained at the end of the block (at once after an exception). Raises
    :class:`~ptproxy.errors.ConfigError` or :class:`~ptproxy.errors.StartError`.
    """
    config = bridge_config(source)
    offered: list[BridgeService] = [_Service(name, each) for name, each in (services or {}).items()]
    bridge = Bridge(config)
    listening = asyncio.Event()

    def ready(addresses: object) -> None:
        bridge.addresses = list(addresses)  # type: ignore[call-overload]
        listening.set()

    running = asyncio.ensure_future(
        run_bridge(config, services=offered, ready=ready, signals_of=bridge._signals_of)
    )
    try:
        waiting = asyncio.ensure_future(listening.wait())
        await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if running.done():
            running.result()
        yield bridge
        bridge.stop()
        await running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


class _Service:
    """A coroutine function offered on streams (a :class:`~ptproxy.tunnel.stream.BridgeService`)."""

    def __init__(self, name: str, serve_one: Serve) -> None:
        try:
            self.name = Target.service(name).host
        except TargetError as error:
            raise StartError(f"services: {name!r}: {error}") from None
        if name == SHAPE_SERVICE:
            raise StartError(f"services: {name!r} is the bridge's own")
        self._serve = serve_one
        self._tasks: set[asyncio.Task[None]] = set()
        self._ending = False

    async def start(self, state: StateFolder) -> None:
        """Nothing is kept."""

    def __call__(self, incoming: Incoming) -> None:
        """Take a stream."""
        if self._ending or len(self._tasks) >= MAX_STREAMS:
            incoming.refuse(Reason.SHUTDOWN if self._ending else Reason.LIMIT)
            return
        if incoming.target.kind == "datagrams" or incoming.cancelled:
            incoming.refuse(Reason.UNSUPPORTED)
            return
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=LIMIT, loop=loop)
        protocol = ReaderProtocol(reader, loop)
        stream = incoming.accept(protocol)
        task = loop.create_task(self._talk(reader, StreamWriter(stream, protocol, reader, loop)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def end_streams(self) -> None:
        """Take no more; those under way may end by themselves."""
        self._ending = True

    async def close(self) -> None:
        """End what is left."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _talk(self, reader: asyncio.StreamReader, writer: StreamWriter) -> None:
        try:
            await self._serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            log.debug("a client left", service=self.name, why=str(error))
            writer.close()
        except Exception:
            log.exception("a service failed", service=self.name)
            reset_stream(writer.transport, Reason.GENERAL)  # type: ignore[arg-type]  # a stream's
        except BaseException:
            reset_stream(writer.transport, Reason.SHUTDOWN)  # type: ignore[arg-type]
            raise
        else:
            writer.close()
