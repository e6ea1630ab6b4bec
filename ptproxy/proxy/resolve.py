"""Names become addresses at the bridge, by the system's resolver, within bounds.

The system's resolver blocks, so each look-up has a thread of its own while it
lasts: at most :data:`MAX_THREADS` at once, others wait their turn. The threads
are daemons: a name server that never answers does not delay the bridge's end.
Look-ups of one name share one thread; answers are kept for a short time.

Whether an address may be dialled is decided after this, at each dial
(``policy.py``): a name that points elsewhere now gains nothing by it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from ptproxy.addresses import IP
from ptproxy.errors import DialError, Reason

MAX_THREADS: Final = 32
"""Look-ups at once: a page's worth of names for a few clients; a thread costs about 60 KiB."""
MAX_WAITING: Final = 1024
"""Names that wait for a thread; more are refused with :attr:`Reason.LIMIT`."""
TIMEOUT: Final = 10.0
"""Seconds a caller waits: glibc asks two servers twice in that time."""
KEEP: Final = 30.0
"""Seconds an answer is kept: the system does not tell its TTL, and few are shorter."""
KEEP_FAILURE: Final = 3.0
"""Seconds for which a failure is kept: a page asks for one name many times."""
MAX_KEPT: Final = 2048
"""Answers kept, about 1 KiB each; the oldest goes first."""
MAX_ADDRESSES: Final = 16
"""Addresses of one name that are looked at."""

Lookup = Callable[[str], Sequence[Any]]
"""A blocking look-up that answers as :func:`socket.getaddrinfo` does, and raises what it raises."""


def system_lookup(name: str) -> Sequence[Any]:
    """Both families in the order that the system prefers (RFC 6724)."""
    return socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)


class Resolver:
    """Resolves names for one event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        lookup: Lookup = system_lookup,
        timeout: float = TIMEOUT,
        threads: int = MAX_THREADS,
    ) -> None:
        self._loop = loop
        self._lookup = lookup
        self._timeout = timeout
        self._threads = threads
        self._running = 0
        self._queue: deque[str] = deque()
        self._pending: dict[str, asyncio.Future[tuple[IP, ...]]] = {}
        self._kept: dict[str, tuple[float, tuple[IP, ...] | DialError]] = {}
        self._closed = False

    async def resolve(self, name: str) -> tuple[IP, ...]:
        """The addresses of ``name``, at least one, best first.

        Raises :class:`~ptproxy.errors.DialError`: NAME_NOT_FOUND, TIMED_OUT
        (after ``timeout`` seconds), LIMIT, or GENERAL for a broken resolver.
        """
        known = self.known(name)
        if known is not None:
            return known
        pending = self._pending.get(name)
        if pending is None:
            pending = self._ask(name)
        try:
            async with asyncio.timeout(self._timeout):
                return await asyncio.shield(pending)
        except DialError as error:  # several may wait for it: each raises its own
            raise DialError(error.reason, str(error)) from None
        except TimeoutError:
            raise DialError(Reason.TIMED_OUT, "the name server did not answer in time") from None

    def known(self, name: str) -> tuple[IP, ...] | None:
        """The kept answer, None without one; raises DialError for a kept failure."""
        kept = self._kept.get(name)
        if kept is None:
            return None
        until, answer = kept
        if until < self._loop.time():
            del self._kept[name]
            return None
        if isinstance(answer, DialError):
            raise DialError(answer.reason, str(answer))
        return answer

    def close(self) -> None:
        """Nobody waits any more; threads that still run end by themselves."""
        self._closed = True
        self._queue.clear()
        for pending in self._pending.values():
            if not pending.done():
                pending.set_exception(DialError(Reason.SHUTDOWN))
        self._pending.clear()

    def _ask(self, name: str) -> asyncio.Future[tuple[IP, ...]]:
        """Begin a look-up, now or when a thread is free."""
        if self._closed:
            raise DialError(Reason.SHUTDOWN)
        if len(self._queue) >= MAX_WAITING:
            raise DialError(Reason.LIMIT, "too many names to look up")
        pending: asyncio.Future[tuple[IP, ...]] = self._loop.create_future()
        pending.add_done_callback(_retrieve)
        self._pending[name] = pending
        if self._running < self._threads:
            self._start(name)
        else:
            self._queue.append(name)
        return pending

    def _start(self, name: str) -> None:
        """Give ``name`` a thread."""
        self._running += 1
        threading.Thread(target=self._work, args=(name,), name="resolve", daemon=True).start()

    def _work(self, name: str) -> None:
        """One look-up, in its thread."""
        answer: tuple[IP, ...] | DialError
        try:
            answer = _addresses(self._lookup(name))
        except (OSError, UnicodeError) as error:
            answer = _failure(error)
        except Exception as error:  # whoever waits must hear of it
            answer = DialError(Reason.GENERAL, f"the resolver failed: {type(error).__name__}")
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(self._answered, name, answer)

    def _answered(self, name: str, answer: tuple[IP, ...] | DialError) -> None:
        """A thread is done."""
        self._running -= 1
        if self._queue:
            self._start(self._queue.popleft())
        self._kept.pop(name, None)
        if len(self._kept) >= MAX_KEPT:
            del self._kept[next(iter(self._kept))]
        keep = KEEP_FAILURE if isinstance(answer, DialError) else KEEP
        self._kept[name] = (self._loop.time() + keep, answer)
        pending = self._pending.pop(name, None)
        if pending is None or pending.done():
            return
        if isinstance(answer, DialError):
            pending.set_exception(answer)
        else:
            pending.set_result(answer)


def _addresses(found: Sequence[Any]) -> tuple[IP, ...]:
    """The distinct addresses in an answer of getaddrinfo, in its order."""
    seen: dict[IP, None] = {}
    for entry in found:
        if entry[0] in (socket.AF_INET, socket.AF_INET6):
            ip = ipaddress.ip_address(str(entry[4][0]).partition("%")[0])
            seen[ip] = None
    if not seen:
        raise socket.gaierror(socket.EAI_NONAME, "no address")
    return tuple(seen)[:MAX_ADDRESSES]


def _failure(error: Exception) -> DialError:
    """What a failed look-up means."""
    code = error.errno if isinstance(error, socket.gaierror) else None
    if code == socket.EAI_AGAIN:
        return DialError(Reason.NAME_NOT_FOUND, "no name server answered")
    if code in (socket.EAI_MEMORY, getattr(socket, "EAI_SYSTEM", None)) and code is not None:
        return DialError(Reason.GENERAL, "the resolver failed")
    return DialError(Reason.NAME_NOT_FOUND, "no such name")


def _retrieve(pending: asyncio.Future[tuple[IP, ...]]) -> None:
    """Look at the outcome, so that a failure nobody waited for is not reported as forgotten."""
    if not pending.cancelled():
        pending.exception()
