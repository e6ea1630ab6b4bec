"""A bridge's way to the directory: each stream of a client is passed on to one of its two guards, unread.

The guards are pinned by the bridge's operator, and they alone learn where the bridge is. Streams
are given to them in turn, so that one client's lookups go over both; a guard that is not reached is left
out for that stream. The bridge has one key of its own for its guards, which never changes, so that a guard
can enrol it and count what it sends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from ptproxy.buffer import Buffer
from ptproxy.errors import DialError, Reason, StartError
from ptproxy.log import get_logger
from ptproxy.peers import find_guard, find_way
from ptproxy.peers.seats import Seats
from ptproxy.state import StateFolder
from ptproxy.target import Target
from ptproxy.tunnel.relay import StreamEnd, couple, reset_stream
from ptproxy.tunnel.stream import Dialer, Incoming

MAX_STREAMS: Final = 96
"""Streams of all clients: three quarters of what two guards give one bridge, so that fairness is ours."""
STREAMS_OF_ONE: Final = 4
"""... of one client: two at a time, and those that it has not heard the end of."""
GUARD_WAIT: Final = 12.0
"""Seconds for one guard to take a stream before the other one is asked."""
DOCUMENT: Final = "directory-relay"
KEY: Final = 32

log = get_logger(__name__)


class RelayService:
    """A bridge's lookups (a :class:`~ptproxy.tunnel.stream.BridgeService`)."""

    name = find_way.SERVICE

    def __init__(
        self,
        dial_with: Callable[[bytes], Mapping[str, Dialer]],
        rng: Callable[[int], bytes],
        close: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """``dial_with`` gives the guards' dialers by name for the bridge's own X25519 private key, 32 bytes.

        ``close`` closes them.
        """
        self._dial_with = dial_with
        self._rng = rng
        self._close = close
        self._dialers: dict[str, Dialer] = {}
        self._next = 0
        self._streams: Seats[_Passing] = Seats(MAX_STREAMS, STREAMS_OF_ONE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def start(self, state: StateFolder) -> None:
        """Make or read the key; raises :class:`~ptproxy.errors.StartError`."""
        document = state.document(DOCUMENT)
        kept = document.read()
        if kept is None:
            kept = {"key": self._rng(KEY).hex()}
            document.write(kept)
        try:
            key = bytes.fromhex(kept["key"])
            if len(key) != KEY:
                raise ValueError("another length")
        except (KeyError, TypeError, ValueError):
            raise StartError(f"{document.path} is damaged: delete it, and enrol at the guards anew") from None
        self._dialers = dict(self._dial_with(key))

    def __call__(self, incoming: Incoming) -> None:
        """A client's stream."""
        if self._closed:
            incoming.refuse(Reason.SHUTDOWN)
        elif not self._streams.may_sit(incoming.peer):
            incoming.refuse(Reason.LIMIT)
        else:
            oldest = self._streams.crowded_out()
            if oldest is not None:
                oldest.end(Reason.LIMIT)
            passing = _Passing(incoming, self._gone)
            self._streams.sit(incoming.peer, passing)
            task = passing.task = asyncio.get_running_loop().create_task(self._connect(passing))
            self._tasks.add(task)
            task.add_done_callback(self._decided)
            incoming.on_cancel(passing.give_up)

    def _decided(self, task: asyncio.Task[None]) -> None:
        """A stream is passed on, or refused; anything else is a fault of ours."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a way to a guard failed in an unforeseen way", "exception": error, "task": task}
            )

    async def _connect(self, passing: _Passing) -> None:
        """Find a guard for a stream, the next one in turn first."""
        names = list(self._dialers)
        first, self._next = self._next, self._next + 1
        try:
            for name in (names[(first + place) % len(names)] for place in range(len(names))):
                if await self._reach(name, passing):
                    return
            passing.refuse(Reason.HOST_UNREACHABLE)
        except asyncio.CancelledError:
            passing.refuse(Reason.SHUTDOWN if self._closed else Reason.CANCELLED)
            raise

    async def _reach(self, name: str, passing: _Passing) -> bool:
        """Whether a guard has taken a stream."""
        try:
            async with asyncio.timeout(GUARD_WAIT):
                await self._dialers[name].dial(Target.service(find_guard.SERVICE), _GuardEnd(passing))
        except TimeoutError:
            log.warning("a guard does not answer", guard=name)
            return False
        except DialError as error:
            log.warning("a guard does not take a stream", guard=name, why=str(error))
            return False
        return True

    def _gone(self, passing: _Passing) -> None:
        self._streams.leave(passing.incoming.peer, passing)

    def end_streams(self) -> None:
        """The bridge is stopping."""
        self._closed = True
        for passing in list(self._streams):
            passing.end(Reason.SHUTDOWN)

    async def close(self) -> None:
        """Give up every dial, and close the tunnels to the guards."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._close is not None:
            await self._close()


class _Passing:
    """A client's stream that waits for a guard, or is coupled with one's."""

    __slots__ = ("_gone", "_inside", "_over", "incoming", "task")

    def __init__(self, incoming: Incoming, gone: Callable[[_Passing], None]) -> None:
        self.incoming = incoming
        self.task: asyncio.Task[None] | None = None
        self._gone = gone
        self._inside: StreamEnd | None = None
        self._over = False

    def join(self, outside: _GuardEnd) -> bool:
        """Take the client's stream and couple it with the guard's, unless nobody waits any more."""
        if self._over or self.incoming.cancelled or self._inside is not None:
            return False
        self._inside = StreamEnd()
        self._inside.data_received = outside.transport.write
        couple(outside, self._inside, self._left)
        outside.data_received = self.incoming.accept(self._inside).write
        outside.transport.set_protocol(outside)  # which takes up the line above
        return True

    def refuse(self, reason: Reason) -> None:
        """There is no guard for it."""
        if not self._over and self._inside is None:
            self._left()
            self.incoming.refuse(reason)

    def give_up(self, reason: Reason = Reason.CANCELLED) -> None:
        """Nobody waits any longer. Its place is free now: a task that has not begun would never say so."""
        if self.task is not None:
            self.task.cancel()
        self.refuse(reason)

    def end(self, reason: Reason) -> None:
        """End it, wherever it is."""
        if self._inside is not None:
            reset_stream(self._inside.transport, reason)
        else:
            self.give_up(reason)

    def _left(self) -> None:
        if not self._over:
            self._over = True
            self._gone(self)


class _GuardEnd(StreamEnd):
    """The guard's end; the client's stream is accepted the moment it is there, before it can speak."""

    __slots__ = ("_joined", "_passing")

    def __init__(self, passing: _Passing) -> None:
        super().__init__()
        self.data_received = _too_early
        self._passing = passing
        self._joined = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Couple the two."""
        super().connection_made(transport)
        self._joined = self._passing.join(self)
        if not self._joined:
            asyncio.get_running_loop().call_soon(self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """The guard is gone."""
        if self._joined:
            super().connection_lost(exc)


def _too_early(data: Buffer) -> None:
    """Nothing is delivered before ``connection_made`` has said where it goes."""
