"""One session over its carriers, driven by the event loop: what happens to every byte.

The session (no I/O) decides what to send on which carrier; this rim asks it,
once a loop turn, and hands what it says happened to the streams' transports.

    carrier reads ─▶ received() ─▶ session ─▶ events ─▶ TunnelStream.deliver ─▶ protocol
    TunnelStream.write ─▶ session ─▶ schedule() ─▶ (end of the turn) carrier.pump() ─▶ codec ─▶ TLS

There is no task and no future for any read or write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final

from ptproxy.buffer import Buffer
from ptproxy.errors import Reason, SessionError
from ptproxy.log import get_logger
from ptproxy.session import Session, events
from ptproxy.session import Stream as SessionStream
from ptproxy.tunnel.carrier import Carrier
from ptproxy.tunnel.totals import Totals

TIMER_SLACK: Final = 0.02
"""Seconds by which the session's timer may be late: its deadlines are 100 ms and more."""

FOREVER: Final = float("inf")

log = get_logger(__name__)


class Tunnel:
    """A session, its live carriers, and the transports of its streams.

    ``ClientTunnel`` and ``BridgeTunnel`` say what a remote open means and what
    follows when a carrier ends.
    """

    def __init__(self, session: Session, loop: asyncio.AbstractEventLoop) -> None:
        self.session = session
        self.loop = loop
        self.now: Callable[[], float] = loop.time
        self.carriers: dict[int, Carrier] = {}
        self.totals = Totals()
        """Of carriers that have ended; a role has one for all its tunnels."""
        self.closed = False
        self.scheduled = False
        """Whether the end of this turn is waited for."""
        self._progress: dict[int, tuple[int, float]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    # ---- sending ------------------------------------------------------------------------------

    def schedule(self) -> None:
        """Have what the session wants to say written at the end of this turn of the loop."""
        if not self.scheduled and not self.closed:
            self.scheduled = True
            self.loop.call_soon(self._pump)

    def _pump(self) -> None:
        self.scheduled = False
        if self.closed:
            return
        carriers = self.carriers
        for number in tuple(self.session.ready):
            carrier = carriers.get(number)
            if carrier is not None:
                carrier.pump()
        self._arm()

    def _arm(self) -> None:
        """Keep one timer running, never later than the session's next deadline (plus slack)."""
        deadline = self.session.deadline()
        if deadline is None:
            return
        if self._timer is not None:
            if self._timer_at <= deadline + TIMER_SLACK:
                return
            self._timer.cancel()
        self._timer_at = max(deadline, self.now()) + TIMER_SLACK
        self._timer = self.loop.call_at(self._timer_at, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if not self.closed:
            self.dispatch(self.session.on_deadline(self.now()))
            self.schedule()
            self._arm()

    # ---- receiving ----------------------------------------------------------------------------

    def received(self, carrier: Carrier, data: Buffer) -> None:
        """A live carrier's byte stream brought ``data`` (valid during the call only)."""
        session = self.session
        try:
            happened = session.receive_data(carrier.number, data, self.now())
        except SessionError as error:
            self.broken(error)
            return
        for event in happened:
            if type(event) is events.DataReceived:
                owner = event.stream.owner
                if owner is not None:
                    owner.deliver(event.data)
            else:
                self._happened(event)
        if session.ready:
            self.schedule()
        else:
            self._arm()

    def dispatch(self, happened: Iterable[Any]) -> None:
        """Tell the streams what the session says."""
        for event in happened:
            self._happened(event)

    def _happened(self, event: Any) -> None:
        kind = type(event)
        if kind is events.DataReceived:
            if event.stream.owner is not None:
                event.stream.owner.deliver(event.data)
        elif kind is events.StreamWritable:
            if event.stream.owner is not None:
                event.stream.owner.writable()
        elif kind is events.EofReceived:
            if event.stream.owner is not None:
                event.stream.owner.deliver_eof()
        elif kind is events.StreamAccepted:
            opened = event.stream.owner.opened if event.stream.owner is not None else None
            if opened is not None and not opened.done():
                opened.set_result(None)
        elif kind is events.StreamReset:
            self._ended(event.stream, event.reason)
        elif kind is events.StreamFinished:
            self._ended(event.stream, None)
        elif kind is events.DatagramReceived:
            if event.stream.owner is not None:
                event.stream.owner.datagram(event.address, event.data)
        elif kind is events.StreamOpened:
            self.stream_opened(event.stream, event.first_data)
        elif kind is events.CarrierGivenUp:
            carrier = self.carriers.pop(event.carrier, None)
            if carrier is not None:
                self.totals.add(carrier)
                carrier.end("given up", told_session=True)
                self.carrier_ended(carrier)
        else:
            self.carrier_event(event)

    def _ended(self, stream: SessionStream, reason: Reason | None) -> None:
        owner, stream.owner = stream.owner, None
        if owner is not None:
            owner.lost(reason)

    def sweep(self, now: float, idle: float, half_open: float) -> None:
        """Reset streams without progress for ``idle`` seconds, ``half_open`` once one way has ended.

        0 means never. Progress is a byte taken or acknowledged; associations have
        time-outs of their own. To be called every few seconds.
        """
        before, self._progress = self._progress, {}
        for number, stream in list(self.session.streams.items()):
            if stream.is_association or not stream.accepted:
                continue
            mark = stream.received + stream.acknowledged
            known = before.get(number)
            if known is None or known[0] != mark:
                known = (mark, now)
            self._progress[number] = known
            half = stream.final is not None or stream.peer_final is not None
            most = min(idle or FOREVER, half_open or FOREVER) if half else idle or FOREVER
            if now - known[1] >= most and stream.owner is not None:
                stream.reset(Reason.TIMED_OUT, now)
                self._ended(stream, Reason.TIMED_OUT)
                self.schedule()

    # ---- what the two sides decide --------------------------------------------------------------

    def stream_opened(self, stream: SessionStream, first_data: Buffer) -> None:
        """The peer opened a stream; here: nothing is offered."""
        del first_data
        stream.reset(Reason.UNSUPPORTED, self.now())

    def carrier_event(self, event: Any) -> None:
        """CarrierSuspected, ChallengeReceived, ProofReceived, GoawayReceived: here ignored."""

    def carrier_ended(self, carrier: Carrier) -> None:
        """A live carrier is gone; its streams wait in the session."""

    def broken(self, error: SessionError) -> None:
        """The peer broke the session's rules: every stream ends, every carrier closes."""
        log.warning("session broken by the peer", error=str(error))
        self.close(Reason.GENERAL)

    # ---- carriers ------------------------------------------------------------------------------

    def carrier_lost(self, carrier: Carrier, reason: str) -> None:
        """A live carrier's connection ended: its streams move or wait."""
        if self.carriers.get(carrier.number) is not carrier:
            return  # never attached, or another one has its number
        del self.carriers[carrier.number]
        self.totals.add(carrier)
        if not self.closed:
            log.debug(
                "carrier ended", carrier=carrier.number, codec=carrier.codec_name, reason=reason or "closed"
            )
            self.dispatch(self.session.carrier_lost(carrier.number, self.now()))
            self.carrier_ended(carrier)
            self.schedule()

    def farewell(self, reason: Reason) -> None:
        """Reset every stream for ``reason`` and say that no more are wanted, as far as it leaves at once."""
        now = self.now()
        for stream in list(self.session.streams.values()):
            owner, stream.owner = stream.owner, None
            stream.reset(reason, now)
            if owner is not None:
                owner.lost(reason)
        self.session.send_goaway(None)
        for carrier in list(self.carriers.values()):
            carrier.pump()

    def close(self, reason: Reason = Reason.SHUTDOWN) -> None:
        """End every stream (told ``reason``) and close every carrier."""
        if self.closed:
            return
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        self.dispatch(self.session.close(reason, self.now()))
        for stream in list(self.session.streams.values()):
            self._ended(stream, reason)
        for carrier in list(self.carriers.values()):
            self.totals.add(carrier)
            carrier.end("session closed", told_session=True)
        self.carriers.clear()
