"""``ptproxy.serve``: a bridge inside a program, with services of the program's own."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Final

from ptproxy.api.source import BridgeSource, bridge_config
from ptproxy.api.streams import LIMIT, ReaderProtocol, StreamWriter
from ptproxy.config.link import Link
from ptproxy.config.model import BridgeConfig
from ptproxy.config.quantities import parse_address
from ptproxy.errors import Reason, StartError
from ptproxy.log import get_logger
from ptproxy.peers.seats import Seats
from ptproxy.proxy.bridge import run_bridge
from ptproxy.proxy.reverse_frames import SERVICE as REVERSE_SERVICE
from ptproxy.proxy.startup import Signals, load_key
from ptproxy.state import StateFolder
from ptproxy.target import Target, TargetError
from ptproxy.tunnel.recognise import SHAPE_SERVICE
from ptproxy.tunnel.relay import reset_stream
from ptproxy.tunnel.stream import BridgeService, Incoming, Stream
from ptproxy.tunnel.tls import leaf_digest

MAX_STREAMS: Final = 4096
"""Streams of one service at a time; whoever has most of them then gives one up to who has fewer."""
MAX_OF_ONE: Final = 1024
"""... of one client; further ones are refused."""

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
        that terminates TLS has its certificate pinned, as nobody else can vouch for it here; where the
        system chose its port (``listen: 127.0.0.1:0``), the link has that port.
        """
        config = self.config
        certificate = config.tls.certificate if config.mode == "standalone" else None
        pin = leaf_digest(certificate) if certificate is not None else None
        link = config.link(load_key(config.key).public, pin, token)
        chosen = len(config.listen) == 1 and config.listen[0].unix is None and not config.listen[0].port
        if chosen and config.mode == "standalone" and self.addresses:
            link = dataclasses.replace(link, port=parse_address(self.addresses[0]).port)
        return link

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
        if name in (SHAPE_SERVICE, REVERSE_SERVICE):
            raise StartError(f"services: {name!r} is the bridge's own")
        self._serve = serve_one
        self._seats: Seats[asyncio.Task[None]] = Seats(MAX_STREAMS, MAX_OF_ONE)
        self._accounts: dict[asyncio.Task[None], str] = {}
        self._ending = False

    async def start(self, state: StateFolder) -> None:
        """Nothing is kept."""

    def __call__(self, incoming: Incoming) -> None:
        """Take a stream."""
        account = incoming.peer
        if self._ending or not self._seats.may_sit(account):
            incoming.refuse(Reason.SHUTDOWN if self._ending else Reason.LIMIT)
            return
        if incoming.target.kind == "datagrams" or incoming.cancelled:
            incoming.refuse(Reason.UNSUPPORTED)
            return
        oldest = self._seats.crowded_out()
        if oldest is not None:
            self._seats.leave(self._accounts[oldest], oldest)
            oldest.cancel()
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=LIMIT, loop=loop)
        protocol = ReaderProtocol(reader, loop)
        stream = incoming.accept(protocol)
        task = loop.create_task(self._talk(reader, StreamWriter(stream, protocol, reader, loop)))
        self._accounts[task] = account
        self._seats.sit(account, task)
        task.add_done_callback(functools.partial(self._over, stream))

    def _over(self, stream: Stream, task: asyncio.Task[None]) -> None:
        self._seats.leave(self._accounts.pop(task), task)
        if task.cancelled():  # maybe before it began
            reset_stream(stream, Reason.SHUTDOWN)

    def end_streams(self) -> None:
        """Take no more; those under way may end by themselves."""
        self._ending = True

    async def close(self) -> None:
        """End what is left."""
        tasks = list(self._accounts)
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
