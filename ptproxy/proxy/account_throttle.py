"""An account's rate: so many bytes a second, shared evenly by the streams that want them.

Each direction has an :class:`Allowance`. A stream may go on while the account has
credit (a second's worth at most). What it moves beyond is its debt, and it stands
still until that is paid: the streams in debt pay alike, at the rate divided by their
number (processor sharing), so one that moves little waits little beside ten that
download. While all debts together are more than :data:`Allowance.most_debt` every
stream stands still: many new streams move no more than few.

Nothing is polled: while somebody is in debt there is one timer, for the next to go on.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Iterable
from typing import Any, Final, cast

from ptproxy.buffer import Buffer
from ptproxy.errors import DialError, Reason
from ptproxy.target import Target
from ptproxy.tunnel.relay import reset_stream
from ptproxy.tunnel.stream import Association, DatagramReceiver, Incoming, Stream

LEAST_DEBT: Final = 1 << 20
"""Bytes that an account's streams may be in debt before all stand still: a few reads of 256 KiB."""
LEAST_DELAY: Final = 0.001
"""Seconds: the loop's clock is hardly finer."""
LEAST_CHUNK: Final = 4096
"""Bytes that a stream may read at once however low the rate."""


class Flow:
    """One direction of one stream; ``hold`` and ``release`` are called in turn."""

    __slots__ = ("held", "hold", "release")

    def __init__(self, hold: Callable[[], None], release: Callable[[], None]) -> None:
        self.hold = hold
        self.release = release
        self.held = False


class Allowance:
    """Bytes that an account may move one way."""

    def __init__(self, loop: asyncio.AbstractEventLoop, rate: int) -> None:
        """``rate``: bytes a second."""
        self.rate = rate
        self.most_debt = max(rate, LEAST_DEBT)
        self.debt = 0.0
        """Bytes that all its streams have moved too early."""
        self._loop = loop
        self._credit = float(rate)
        self._paid = 0.0  # bytes that each stream in debt has paid since the start
        self._at = loop.time()
        self._flows: dict[Flow, None] = {}
        self._debtors: list[tuple[float, int, Flow]] = []  # what must be paid until one is out of debt
        self._waiting: dict[Flow, None] = {}  # held, not in debt: until all debts are small enough
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    @property
    def chunk(self) -> int:
        """Bytes that are well read at once: a tenth of a second's."""
        return max(LEAST_CHUNK, self.rate // 10)

    def join(self, flow: Flow) -> None:
        """One more direction of a stream, which may be held at once."""
        self._advance()
        self._flows[flow] = None
        if self.debt > self.most_debt:
            self._wait(flow)
        self._arm()

    def leave(self, flow: Flow) -> None:
        """The stream is over; what it owes is paid by the others' waiting."""
        self._flows.pop(flow, None)
        self._waiting.pop(flow, None)

    def take(self, size: int) -> bool:
        """Whether ``size`` bytes may go at once, and no debt is made: for datagrams, which may be lost."""
        self._advance()
        if self.debt or size > self._credit:
            return False
        self._credit -= size
        return True

    def charge(self, flow: Flow, size: int) -> None:
        """``flow`` has moved ``size`` bytes."""
        self._advance()
        credit = min(self._credit, float(size))
        self._credit -= credit
        owed = size - credit
        if owed <= 0:
            return
        self.debt += owed
        heapq.heappush(self._debtors, (self._paid + owed, next(self._order), flow))
        self._waiting.pop(flow, None)
        if not flow.held:
            flow.held = True
            flow.hold()
        if self.debt > self.most_debt:
            for each in list(self._flows):
                if not each.held:
                    self._wait(each)
        self._arm()

    def close(self) -> None:
        """Nobody is held any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        held = [each for each in self._flows if each.held]
        self._debtors.clear()
        self._waiting.clear()
        self.debt = 0.0
        for flow in held:
            flow.held = False
            flow.release()

    # ---- inside ------------------------------------------------------------------------------

    def _wait(self, flow: Flow) -> None:
        flow.held = True
        self._waiting[flow] = None
        flow.hold()

    def _advance(self) -> None:
        """Time has gone by: debts are paid, and who may go on is released."""
        now = self._loop.time()
        passed, self._at = now - self._at, now
        while self._debtors and passed > 0:
            count = len(self._debtors)
            needed = (self._debtors[0][0] - self._paid) * count / self.rate
            step = min(passed, needed)
            passed -= step
            self._paid += step * self.rate / count
            self.debt -= step * self.rate
            if step < needed:
                break
            _, _, flow = heapq.heappop(self._debtors)
            if flow in self._flows:
                self._waiting[flow] = None
        if not self._debtors:
            self.debt = 0.0
            self._paid = 0.0
            self._credit = min(float(self.rate), self._credit + max(0.0, passed) * self.rate)
        if self._waiting and self.debt <= self.most_debt:
            in_debt = {flow for _, _, flow in self._debtors}
            free = [flow for flow in self._waiting if flow not in in_debt]
            self._waiting.clear()
            for flow in free:
                flow.held = False
            for flow in free:
                flow.release()

    def _arm(self) -> None:
        """One timer, for whoever may go on next; others' coming makes that later, which is seen then."""
        if not self._debtors:
            return
        delay = (self._debtors[0][0] - self._paid) * len(self._debtors) / self.rate
        if self._waiting:
            delay = min(delay, max(0.0, self.debt - self.most_debt) / self.rate)
        due = self._at + max(delay, LEAST_DELAY)
        if self._timer is not None:
            if self._timer_at <= due:
                return
            self._timer.cancel()
        self._timer_at = due
        self._timer = self._loop.call_later(due - self._at, self._due)

    def _due(self) -> None:
        self._timer = None
        self._advance()
        self._arm()


class ThrottledStream(asyncio.Transport, asyncio.Protocol):
    """A stream of a limited account: to the tunnel the protocol on it, to whoever took it the transport."""

    def __init__(self, protocol: asyncio.Protocol, up: Allowance, down: Allowance) -> None:
        super().__init__()
        self._protocol = protocol
        self._stream: asyncio.Transport = None  # type: ignore[assignment]  # set by connection_made
        self._up, self._down = up, down
        self._flow_up = Flow(self._look_reading, self._look_reading)
        self._flow_down = Flow(self._look_writing, self._look_writing)
        self._unread_wanted = False  # whoever took it does not want to read just now
        self._behind = False  # the client does not keep up
        self._told_behind = False

    # ---- the protocol, towards the tunnel ------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The stream is open."""
        self._stream = cast("asyncio.Transport", transport)
        self._protocol.connection_made(self)
        self._up.join(self._flow_up)
        self._down.join(self._flow_down)

    def data_received(self, data: Buffer) -> None:
        """From the client."""
        size = len(data)
        self._protocol.data_received(cast("bytes", data))
        self._up.charge(self._flow_up, size)

    def eof_received(self) -> bool | None:
        """From the client."""
        return self._protocol.eof_received()

    def pause_writing(self) -> None:
        """The client does not keep up."""
        self._behind = True
        self._look_writing()

    def resume_writing(self) -> None:
        """It does again."""
        self._behind = False
        self._look_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The stream is over."""
        self._up.leave(self._flow_up)
        self._down.leave(self._flow_down)
        self._protocol.connection_lost(exc)

    # ---- the transport, towards whoever took it ------------------------------------------------

    def write(self, data: Any) -> None:
        """To the client."""
        size = len(data)
        self._stream.write(data)
        self._down.charge(self._flow_down, size)

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        """To the client."""
        for data in list_of_data:
            self.write(data)

    def room(self) -> int:
        """Bytes that are well written at once."""
        room = getattr(self._stream, "room", None)
        return self._down.chunk if room is None else min(self._down.chunk, room())

    def pause_reading(self) -> None:
        """Keep what arrives."""
        self._unread_wanted = True
        self._look_reading()

    def resume_reading(self) -> None:
        """Hand it over again."""
        self._unread_wanted = False
        self._look_reading()

    def is_reading(self) -> bool:
        """Whether data is handed over as it arrives."""
        return self._stream.is_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand the stream to another protocol."""
        self._protocol = cast("asyncio.Protocol", protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol that is told."""
        return self._protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As the stream's."""
        return self._stream.get_extra_info(name, default)

    def is_closing(self) -> bool:
        """Whether the stream was closed or lost."""
        return self._stream.is_closing()

    def write_eof(self) -> None:
        """Nothing more will be written."""
        self._stream.write_eof()

    def can_write_eof(self) -> bool:
        """Streams can be half-closed."""
        return True

    def get_write_buffer_size(self) -> int:
        """As the stream's."""
        return self._stream.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Credit decides, as in the stream."""
        return 0, 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Accepted and ignored, as in the stream."""

    def close(self) -> None:
        """End both ways."""
        self._stream.close()

    def abort(self) -> None:
        """Break the stream off."""
        self._stream.abort()

    def reset(self, reason: Reason) -> None:
        """Break the stream off for ``reason``."""
        reset_stream(self._stream, reason)

    # ---- inside ----------------------------------------------------------------------------------

    def _look_reading(self) -> None:
        if self._stream.is_closing():
            return
        if self._unread_wanted or self._flow_up.held:
            self._stream.pause_reading()
        else:
            self._stream.resume_reading()

    def _look_writing(self) -> None:
        behind = self._behind or self._flow_down.held
        if behind != self._told_behind:
            self._told_behind = behind
            if behind:
                self._protocol.pause_writing()
            else:
                self._protocol.resume_writing()


class _ThrottledAssociation:
    """An association of a limited account: datagrams beyond its rate are lost."""

    def __init__(self, receiver: DatagramReceiver, up: Allowance, down: Allowance) -> None:
        self._receiver = receiver
        self._up, self._down = up, down
        self.association: Association = None  # type: ignore[assignment]  # set at once by whoever makes it

    def datagram_received(self, source: Target, data: bytes) -> None:
        """From the client."""
        if self._up.take(len(data)):
            self._receiver.datagram_received(source, data)

    def association_lost(self, exc: DialError | None) -> None:
        """No more will come."""
        self._receiver.association_lost(exc)

    def send_datagram(self, target: Target, data: bytes) -> None:
        """To the client."""
        if self._down.take(len(data)):
            self.association.send_datagram(target, data)

    def close(self) -> None:
        """End it."""
        self.association.close()


class ThrottledIncoming:
    """An :class:`~ptproxy.tunnel.stream.Incoming` that is throttled once it is taken."""

    def __init__(self, incoming: Incoming, up: Allowance, down: Allowance) -> None:
        self.target = incoming.target
        self.first_data = incoming.first_data
        self.peer = incoming.peer
        self._incoming = incoming
        self._up, self._down = up, down

    @property
    def cancelled(self) -> bool:
        """Whether the far side has given it up."""
        return self._incoming.cancelled

    @property
    def address(self) -> tuple[str, int] | None:
        """Where the request came from."""
        return self._incoming.address

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` when the far side gives up before anything was decided."""
        self._incoming.on_cancel(callback)

    def accept(self, protocol: asyncio.Protocol) -> Stream:
        """Take the stream."""
        stream = ThrottledStream(protocol, self._up, self._down)
        self._incoming.accept(stream)
        return stream

    def accept_association(self, receiver: DatagramReceiver) -> Association:
        """Take an association."""
        throttled = _ThrottledAssociation(receiver, self._up, self._down)
        throttled.association = self._incoming.accept_association(throttled)
        return throttled

    def refuse(self, reason: Reason) -> None:
        """Do not take it."""
        self._incoming.refuse(reason)
