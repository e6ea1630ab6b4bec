"""The sockets of the client's page: loopback only, one request a connection, everything bounded."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final, cast

from ptproxy import state
from ptproxy.buffer import Buffer
from ptproxy.config.quantities import Endpoint
from ptproxy.errors import StartError
from ptproxy.log import get_logger
from ptproxy.proxy.page.answers import Answer, Answers, refusal
from ptproxy.proxy.page.document import opening_file
from ptproxy.proxy.page.guard import Guard, Keys
from ptproxy.proxy.page.request import Refused, Request, RequestReader
from ptproxy.proxy.page.steering import Steering
from ptproxy.proxy.startup import cannot_listen
from ptproxy.tunnel.listen import Listener, listen_tcp
from ptproxy.tunnel.tcp import BufferedReads

OPENING: Final = "page.html"
"""The file that a browser opens."""
HEAD_PATIENCE: Final = 10.0
"""Seconds for a request's head to arrive: a browser on this machine needs none."""
PATIENCE: Final = 60.0
"""Seconds for all of it and its answer, once it is admitted: a photograph, a disk that is slow."""
MAX_CONNECTIONS: Final = 64
"""At once; further ones are closed. A browser holds six."""
MAX_ADMITTED: Final = 8
"""Requests with a good head at once: each may bring a photograph."""

log = get_logger(__name__)


class PagePort:
    """Serves the page of one client."""

    def __init__(self, loop: asyncio.AbstractEventLoop, steering: Steering, keys: Keys | None = None) -> None:
        self.keys = keys or Keys()
        self.connections: set[_Conversation] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.url = ""
        """The door's; a secret."""
        self._loop = loop
        self._steering = steering
        self._listener: Listener | None = None
        self._answers: Answers | None = None

    async def listen(self, place: Endpoint) -> Endpoint:
        """Listen there; returns where. Raises :class:`~ptproxy.errors.StartError`."""
        if not place.is_local or place.unix is not None:
            raise StartError("page: it is only for programs of this machine, as at 127.0.0.1:8080")
        try:
            self._listener = await listen_tcp(self._loop, self._arrived, place.literal, place.port)
        except OSError as error:
            raise cannot_listen(place, error) from None
        bound = Endpoint(*self._listener.sockets[0].getsockname()[:2])
        self._answers = Answers(Guard(str(bound), self.keys), self._steering)
        self.url = f"http://{bound}/{self.keys.door}"
        return bound

    def write_opening(self, folder: Path) -> Path:
        """Write the file that a browser opens; raises :class:`~ptproxy.errors.StartError`."""
        path = folder / OPENING
        state.write_file(path, opening_file(self.url))
        return path

    def _arrived(self) -> _Conversation:
        assert self._answers is not None
        return _Conversation(self, self._answers, self._loop)

    async def stop(self) -> None:
        """Stop listening and close what is open."""
        if self._listener is None:
            return
        self._listener.close()
        for connection in list(self.connections):
            connection.overdue()
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._listener.wait_closed()


class _Conversation(BufferedReads):
    """One connection: one request, one answer, and the end."""

    def __init__(self, port: PagePort, answers: Answers, loop: asyncio.AbstractEventLoop) -> None:
        self._port = port
        self._answers = answers
        self._loop = loop
        self._reader: RequestReader | None = RequestReader(answers.guard.body_of)
        self._timer: asyncio.TimerHandle | None = None
        self.is_admitted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A browser connected."""
        self._transport = cast("asyncio.Transport", transport)
        if len(self._port.connections) >= MAX_CONNECTIONS:
            self._loop.call_soon(self._transport.abort)
            return
        self._port.connections.add(self)
        self._wait(HEAD_PATIENCE)

    def data_received(self, data: Buffer) -> None:
        """Its request, whole or in pieces."""
        if self._reader is None or self not in self._port.connections:
            return
        try:
            request = self._reader.receive_data(data)
            if self._reader.is_judged and not self.is_admitted:
                self._admit()
        except Refused as error:
            self._end_with(refusal(error, self._reader.head))
            return
        if request is not None:
            self._reader = None
            task = self._loop.create_task(self._answer(request))
            self._port.tasks.add(task)
            task.add_done_callback(self._port.tasks.discard)

    def _admit(self) -> None:
        """Its head is good: it gets more time, if not too many have it."""
        if sum(each.is_admitted for each in self._port.connections) >= MAX_ADMITTED:
            raise Refused(503, "too many at once")
        self.is_admitted = True
        self._wait(PATIENCE)

    async def _answer(self, request: Request) -> None:
        try:
            answer = await self._answers.answer(request)
        except Refused as error:
            answer = refusal(error, request.head)
        except Exception as error:  # whoever waits for an answer gets one
            self._loop.call_exception_handler({"message": "the page failed", "exception": error})
            answer = refusal(Refused(500, "it failed"), request.head)
        if not self._transport.is_closing():
            self._end_with(answer, with_body=request.head.method != b"HEAD")

    def _end_with(self, answer: Answer, *, with_body: bool = True) -> None:
        self._reader = None
        self._transport.write(answer.serialize(with_body=with_body))
        self._transport.write_eof()  # what it still sends is read, or a reset would overtake the answer
        self._wait(HEAD_PATIENCE)

    def _wait(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self.overdue)

    def overdue(self) -> None:
        """It took too long."""
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        del exc
        self._port.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
