"""Two ends coupled so that each end's peer observes what the other's does: bytes, farewells, FIN, RST.

Each way holds at most one piece that its target has not taken, and reads on only
then; so a pair costs no buffers, and is as slow as its slower side. What a peer
of one end says comes to the other in order: bytes, close_notify, FIN. A reset of
either is a reset of both. When both have ended, both are closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from ptproxy.tunnel.beside.ends import RawEnd
from ptproxy.tunnel.polling import polled

ROUNDS: Final = 16
"""Pieces passed on in one turn of the loop, after which others get theirs."""
BURST: Final = 128 * 1024
"""Bytes passed up in one go."""
RESET_DELAY: Final = 0.02
"""Seconds after which a reset is looked for that answers something said too late."""
FINISHED_TIMEOUT: Final = 60.0
"""Seconds without a byte after which a pair is dropped whose server has ended and whose stranger has not:
as long as the kernel remembers a connection that a web server has closed (tcp_fin_timeout)."""


class Couple:
    """A stranger's end and the web server's; owns both. ``on_end`` is called once, when both are closed."""

    __slots__ = ("_on_end", "_overdue", "closed", "flows", "loop", "near", "polled", "server")

    rounds = ROUNDS

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        near: RawEnd,
        server: RawEnd,
        on_end: Callable[[], None],
        *,
        early: bytes = b"",
        server_early: bytes = b"",
    ) -> None:
        """Begin, with what was read of the stranger and of the web server already."""
        self.loop = loop
        self._on_end = on_end
        self._overdue: asyncio.TimerHandle | None = None
        self.near, self.server = near, server
        self.closed = False
        self.polled = polled(loop)
        up, down = Flow(self, near, server), Flow(self, server, near)
        self.flows = up, down
        up.piece, down.piece = early, server_early
        for flow in self.flows:
            flow.watch()
            loop.call_soon(flow.run)  # TLS may have read what the socket does not tell of

    def close(self) -> None:
        """Break both off."""
        self._end(reset=True)

    def fetch(self, flow: Flow) -> bytes:
        """The next piece for a flow's target.

        Downward one record at a time, which keeps their sizes; upward all that is there, so that it
        reaches the web server at once as it reached us: what it has not got when it closes is a reset.
        """
        if flow is self.flows[1]:
            return flow.source.read()
        return read_on(flow.source)

    def passes_end(self, flow: Flow) -> bool:  # noqa: ARG002  (another kind of pair looks)
        """Whether what ends or breaks a flow's source is its target's to know."""
        return True

    def stirred(self, flow: Flow) -> None:
        """Something was passed on, or came to an end."""
        up, down = self.flows
        if self.near.failure is not None or self.server.failure is not None:
            if flow is up and self.near.failure is None:
                self._hear_out()
            self._failed()
            return
        if up.done and down.done:
            self._end(reset=False)
        elif down.done and (self._overdue is None or flow is up):
            if self._overdue is not None:
                self._overdue.cancel()
            self._overdue = self.loop.call_later(FINISHED_TIMEOUT, self._end_late)
            self._look_for_reset()
            self.loop.call_later(RESET_DELAY, self._look_for_reset)

    def _look_for_reset(self) -> None:
        """A web server that has closed answers what it still gets with a reset, which no read tells."""
        if not self.closed and self.server.is_broken():
            self._failed()

    def _hear_out(self) -> None:
        """A write met a reset of the web server's: what it said before is still there, and the stranger's."""
        near, server, (_, down) = self.near, self.server, self.flows
        failure = server.failure
        while not down.piece and (piece := server.read()):
            if near.write(piece) < len(piece):
                break
        if server.notified:
            near.notify()
        if isinstance(failure, BrokenPipeError):  # what Linux says of a reset behind a FIN
            near.finish()
        server.failure = failure

    def _end_late(self) -> None:
        self._end(reset=False)

    def _failed(self) -> None:
        """One is broken, so is the other; a stranger whose TLS is wrong has had its alert and is closed."""
        failure = self.near.failure
        if failure is None or not isinstance(failure, ConnectionAbortedError):
            self._end(reset=True)
            return
        self.server.reset()
        self._end(reset=False)

    def _end(self, *, reset: bool) -> None:
        if self.closed:
            return
        self.closed = True
        if self._overdue is not None:
            self._overdue.cancel()
        for flow in self.flows:
            flow.unwatch()
        for end in (self.near, self.server):
            if reset:
                end.reset()
            else:
                end.close()
        self._on_end()


def read_on(source: RawEnd) -> bytes:
    """All that is there, up to :data:`BURST`."""
    pieces, size = [], 0
    while size < BURST and (piece := source.read()):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)


class Flow:
    """One direction."""

    __slots__ = (
        "_couple", "_reading", "_sent", "_source_fd", "_target", "_target_fd", "_told", "_writing",
        "deaf", "done", "piece", "source",
    )  # fmt: skip

    def __init__(self, couple: Couple, source: RawEnd, target: RawEnd) -> None:
        self._couple = couple
        self.source, self._target = source, target
        self._source_fd, self._target_fd = source.sock.fileno(), target.sock.fileno()
        self._reading = self._writing = False
        self._told = False
        self._sent = 0
        self.piece = b""
        """Read, and not yet taken by the target from ``_sent`` on."""
        self.deaf = False
        """The source is not listened to any more."""
        self.done = False
        """The source has ended, and its FIN is passed on."""

    def run(self) -> None:
        """Pass on what there is."""
        if self._couple.closed:
            return
        for _ in range(self._couple.rounds):
            if not self._pass_on():
                break
        else:
            self._couple.loop.call_soon(self.run)
        if not self._couple.closed:
            self._couple.stirred(self)

    def _pass_on(self) -> bool:
        """Write what waits, then read; whether there may be more."""
        source, target = self.source, self._target
        if self.piece:
            self._sent += target.write(self.piece, self._sent)
            if self._sent < len(self.piece):
                self._wait_for_room()
                return False
            self.piece, self._sent = b"", 0
        if not self._couple.passes_end(self):
            self._go_on()
            self.piece = self._couple.fetch(self)
            return bool(self.piece)
        if source.notified and not self._told:
            self._told = target.notify()
            if not self._told:
                self._wait_for_room()
                return False
        if source.finished:
            if not self.done:
                self.done = True
                target.finish()
            self.unwatch()
            return False
        if source.failure is not None or target.failure is not None:
            return False
        self._go_on()
        notified = source.notified
        self.piece = self._couple.fetch(self)
        return bool(self.piece) or source.finished or source.notified is not notified

    # ---- readiness ---------------------------------------------------------------------------------

    def watch(self) -> None:
        """Read when there is something."""
        if not self._reading and not self.deaf:
            self._reading = True
            self._couple.polled.add_reader(self._source_fd, self.run)

    def unwatch(self) -> None:
        """Neither read nor write any more."""
        if self._reading:
            self._reading = False
            self._couple.polled.remove_reader(self._source_fd)
        self._stop_writing()

    def _wait_for_room(self) -> None:
        """The target takes no more for now: nor is the source read."""
        if self._target.failure is not None:
            return
        if self._reading:
            self._reading = False
            self._couple.polled.remove_reader(self._source_fd)
        if not self._writing:
            self._writing = True
            self._couple.loop.add_writer(self._target_fd, partial(Flow.run, self))

    def _go_on(self) -> None:
        """The target has room."""
        self._stop_writing()
        self.watch()

    def _stop_writing(self) -> None:
        if self._writing:
            self._writing = False
            self._couple.loop.remove_writer(self._target_fd)
