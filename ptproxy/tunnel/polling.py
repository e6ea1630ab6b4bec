"""The event loop as aiofastnet's transports see it, with faults of that pair mended.

- uvloop ends the polling of a descriptor on which an error is pending (libuv
  reports EBADF and stops), after one last call of the reader. A transport that
  reads what has arrived before the error, as they all do, is then never called
  again: a peer whose last bytes and reset come together would leave a connection
  that never ends. :class:`PolledLoop` watches for errors beside uvloop, and
  calls the reader until it has come to the end.
- aiofastnet's transports begin to poll a turn after they are made, even if they
  were closed or paused meanwhile; the descriptor may by then be another connection's.
- They call a stranger's broken connection an unforeseen error.
- One that is given up in its handshake is kept by that one's timer, with 50 KiB, until the time is over: a
  thousand silent strangers a second would cost a bridge 500 MiB. :meth:`PolledLoop.handshake_over` ends it.
"""

from __future__ import annotations

import asyncio
import functools
import select
import socket
from collections.abc import Callable
from typing import Any, Final

_BOUND: Final = (
    "add_writer", "call_at", "call_soon", "create_future", "create_task", "get_debug", "getaddrinfo",
    "is_closed", "remove_writer", "sock_connect", "time",
)  # fmt: skip
"""What transports ask of a loop and get from it directly."""

RETRY: Final = 0.2
"""Seconds until errors of a descriptor are watched for again after the kernel had no room for that."""

_HANDSHAKE_TIMER: Final = "_check_handshake_timeout"
"""What a transport calls when the time of its handshake is over."""

_ATTRIBUTE: Final = "_ptproxy_polled"
"""Where a loop keeps its :class:`PolledLoop`, so that both end together."""


def polled(loop: asyncio.AbstractEventLoop) -> PolledLoop:
    """The one of this loop."""
    known: PolledLoop | None = getattr(loop, _ATTRIBUTE, None)
    if known is None:
        known = PolledLoop(loop)
        setattr(loop, _ATTRIBUTE, known)
    return known


class PolledLoop:
    """Stands for an event loop towards transports; only readers and timers of handshakes go their own way."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._readers: dict[int, Callable[..., object]] = {}
        self._errors: select.epoll | None = None
        self._handshakes: dict[int, asyncio.TimerHandle] = {}
        on_uvloop = any(kind.__module__.startswith("uvloop") for kind in type(loop).__mro__)
        self._ends_polling = on_uvloop and hasattr(select, "epoll")
        for name in _BOUND:
            setattr(self, name, getattr(loop, name))

    def __getattr__(self, name: str) -> Any:
        """Whatever else is asked of a loop."""
        return getattr(self._loop, name)

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, **options: Any
    ) -> asyncio.TimerHandle:
        """As the loop's; what ends a handshake is known by its socket until :meth:`handshake_over`."""
        timer = self._loop.call_later(delay, callback, *args, **options)
        if getattr(callback, "__name__", "") == _HANDSHAKE_TIMER:
            transport = getattr(callback, "__self__", None)
            sock = transport.get_extra_info("socket") if transport is not None else None
            if sock is not None:
                self._handshakes[id(getattr(sock, "_sock", sock))] = timer  # asyncio wraps them
        return timer

    def handshake_over(self, sock: socket.socket) -> None:
        """Nobody waits for the handshake on ``sock`` any more, if there is one."""
        timer = self._handshakes.pop(id(sock), None)
        if timer is not None:
            timer.cancel()

    def add_reader(self, descriptor: int, reader: Callable[..., object], *args: Any) -> None:
        """Call ``reader`` whenever there is something to read, an end or an error."""
        transport = getattr(reader, "__self__", None)
        if transport is not None and _reads_no_more(transport):
            return
        call = functools.partial(reader, *args) if args else reader
        self._loop.add_reader(descriptor, call)
        self._readers[descriptor] = call
        if self._ends_polling:
            self._watch(descriptor)

    def remove_reader(self, descriptor: int) -> bool:
        """Call it no more; whether there was one."""
        self._readers.pop(descriptor, None)
        return self._loop.remove_reader(descriptor)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Tell the loop of what went wrong, but not of connections that broke, as asyncio's transports do."""
        error = context.get("exception")
        broke = issubclass(error if isinstance(error, type) else type(error), OSError)
        if not broke or str(context.get("message", "")).startswith("protocol."):  # the protocol's own fault
            self._loop.call_exception_handler(context)

    def _watch(self, descriptor: int) -> None:
        """Have errors of a descriptor told once each; one that is there already is told at once."""
        try:
            if self._errors is None:
                self._errors = select.epoll()
                self._loop.add_reader(self._errors.fileno(), self._errors_pending)
            try:
                self._errors.register(descriptor, select.EPOLLET)
            except FileExistsError:  # reading was paused meanwhile
                self._errors.modify(descriptor, select.EPOLLET)
        except OSError:  # no descriptor, no memory
            self._loop.call_later(RETRY, self._watch_again, descriptor, self._readers[descriptor])

    def _watch_again(self, descriptor: int, reader: Callable[..., object]) -> None:
        if self._readers.get(descriptor) is reader:
            self._watch(descriptor)

    def _errors_pending(self) -> None:
        """uvloop has ended the polling of these, or is about to."""
        if self._errors is None:
            return
        for descriptor, event in self._errors.poll(0):
            reader = self._readers.get(descriptor)
            if reader is not None and event & select.EPOLLERR and _has_error(descriptor):
                self._loop.remove_reader(descriptor)
                self._loop.call_soon(self._read_on, descriptor, reader)

    def _read_on(self, descriptor: int, reader: Callable[..., object]) -> None:
        """Let a transport read once a turn until it has met the error: nothing more can arrive."""
        if self._readers.get(descriptor) is not reader:
            return
        if _has_error(descriptor):
            self._loop.call_soon(self._read_on, descriptor, reader)
            reader()
        else:  # it was met by a write, or mended: uvloop can watch again
            self._loop.add_reader(descriptor, reader)


def _has_error(descriptor: int) -> bool:
    """Whether an error is pending on it: what epoll told may be of a duplicate of an earlier descriptor."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _reads_no_more(transport: Any) -> bool:
    """Whether it is a plain transport, closed or paused; one with TLS polls as its very first act."""
    is_reading = getattr(transport, "is_reading", None)  # a listener has none
    return is_reading is not None and not is_reading() and transport.get_extra_info("sslcontext") is None
