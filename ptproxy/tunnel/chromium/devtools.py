"""The DevTools protocol over a pair of pipes: commands out, answers and events in.

Both ways JSON texts, each ended by a NUL (``--remote-debugging-pipe``). A
command has an ``id`` that its answer repeats, and a ``sessionId`` where it is
meant for one page; events have neither an ``id`` nor an answer. The pipe
belongs to this process alone: when it closes, by whatever end of ours, the
browser ends, and when the browser ends it closes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, Final, cast

from ptproxy.buffer import Buffer
from ptproxy.errors import DialError, Reason
from ptproxy.log import get_logger

MAX_MESSAGE: Final = 16 << 20
"""Bytes of one message from the browser: several times the largest that we ask for (a page's chain
of certificates, kilobytes); more is a browser gone mad."""
MAX_CALLS: Final = 256
"""Commands unanswered at once: a browser that answers none must not make us grow."""
CALL_TIMEOUT: Final = 10.0
"""Seconds for the answer to a command; the browser answers within milliseconds."""

Params = dict[str, Any]
OnEvent = Callable[[Params], None]

log = get_logger(__name__)


class BrowserError(DialError):
    """The browser, not the way to the site, is the trouble: a fresh one may do better."""

    def __init__(self, text: str) -> None:
        super().__init__(Reason.TUNNEL_DOWN, text)


class CommandRefused(BrowserError):  # noqa: N818  (an answer, not a fault)
    """The browser does not do what a command asked for."""


class PageCrashedError(BrowserError):
    """A page is gone; another one of the same browser may do."""

    def __init__(self) -> None:
        super().__init__("a page of the browser crashed")


class MessageReader:
    """Splits what comes from the pipe into messages, however it was cut."""

    __slots__ = ("_parts", "_size")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def receive_data(self, data: Buffer) -> list[bytes]:
        """The messages that ``data`` completes; ValueError above :data:`MAX_MESSAGE`."""
        *whole, rest = bytes(data).split(b"\0")
        if whole:
            whole[0] = b"".join((*self._parts, whole[0]))
            self._parts, self._size = [], 0
        if rest:
            self._parts.append(rest)
            self._size += len(rest)
        if self._size > MAX_MESSAGE or any(len(one) > MAX_MESSAGE for one in whole):
            raise ValueError(f"a message of more than {MAX_MESSAGE} bytes")
        return whole


class DevTools(asyncio.Protocol):
    """The client's end of the pipe that the browser writes to; commands go into the other one."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.closed = loop.create_future()
        """Done when the browser is gone or speaks nonsense."""
        self._loop = loop
        self._out: asyncio.WriteTransport | None = None
        self._in: asyncio.ReadTransport | None = None
        self._reader = MessageReader()
        self._calls: dict[int, tuple[str, asyncio.Future[Params]]] = {}
        self._next = 1
        self._listeners: dict[tuple[str, str], OnEvent] = {}

    # ---- commands and events ---------------------------------------------------------------------

    async def call(
        self, method: str, session: str = "", *, within: float | None = CALL_TIMEOUT, **params: Any
    ) -> Params:
        """Send a command and wait for its result, ``within`` so many seconds (None: for ever).

        Raises :class:`CommandRefused`, or :class:`BrowserError` where the
        browser is gone or does not answer in time.
        """
        number = self.send(method, session, **params)
        answer: asyncio.Future[Params] = self._loop.create_future()
        self._calls[number] = session, answer
        try:
            async with asyncio.timeout(within):
                return await answer
        except TimeoutError:
            raise BrowserError(f"the browser does not answer {method}") from None
        finally:
            self._calls.pop(number, None)

    def send(self, method: str, session: str = "", **params: Any) -> int:
        """Send a command whose answer nobody waits for; its number."""
        out = self._out
        if out is None or out.is_closing() or self.closed.done() or len(self._calls) >= MAX_CALLS:
            raise gone()
        number, self._next = self._next, self._next + 1
        message = {"id": number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        out.write(json.dumps(message).encode() + b"\0")
        return number

    def listen(self, session: str, method: str, on_event: OnEvent | None) -> None:
        """Call ``on_event(params)`` for each such event of a session ("" for the browser); None: no more."""
        if on_event is None:
            self._listeners.pop((session, method), None)
        else:
            self._listeners[session, method] = on_event

    def forget(self, session: str) -> None:
        """No more events of a session, whose page is gone, and no more answers."""
        for of, answer in self._calls.values():
            if of == session and not answer.done():
                answer.set_exception(PageCrashedError())
        for key in [key for key in self._listeners if key[0] == session]:
            del self._listeners[key]

    def deafen(self) -> None:
        """No more events at all: the browser is about to end."""
        self._listeners.clear()

    # ---- the pipes -------------------------------------------------------------------------------

    def opened(self, out: asyncio.WriteTransport) -> None:
        """Where commands go."""
        self._out = out

    def close(self) -> None:
        """Close both pipes: the browser then ends by itself."""
        for transport in (self._out, self._in):
            if transport is not None:
                transport.close()
        self._gone("closed")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The pipe to read from."""
        self._in = cast("asyncio.ReadTransport", transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        """Whatever the browser said."""
        try:
            messages = [json.loads(message) for message in self._reader.receive_data(data)]
        except (ValueError, RecursionError) as error:
            log.warning("the browser speaks nonsense", error=str(error))
            self.close()
            return
        for message in messages:
            self._received(message)

    def connection_lost(self, exc: Exception | None) -> None:
        """The browser is gone."""
        del exc
        self._gone("ended")

    def _received(self, message: Params) -> None:
        number = message.get("id")
        if number is None:
            listener = self._listeners.get((message.get("sessionId", ""), message.get("method", "")))
            if listener is not None:
                listener(message.get("params", {}))
            return
        _, answer = self._calls.get(number, ("", None))
        if answer is None or answer.done():
            return
        if "error" in message:
            answer.set_exception(CommandRefused(str(message["error"].get("message", "refused"))))
        else:
            answer.set_result(message.get("result", {}))

    def _gone(self, how: str) -> None:
        if not self.closed.done():
            self.closed.set_result(how)
        for _, answer in self._calls.values():
            if not answer.done():
                answer.set_exception(gone())
        self._listeners.clear()


class PipeOut(asyncio.BaseProtocol):
    """The pipe that commands go into needs nothing said."""


def gone() -> BrowserError:
    """What is raised where the browser is no longer there."""
    return BrowserError("the browser is gone")
