"""Carriers opened ahead: their handshake over a carrier that is there already, their connection by a ticket.

A WebSocket's upgrade has no room for an opening that a browser's would not have, but for the 16 random
bytes of its key. So the whole handshake of ``auth/PROTOCOL.md`` is made beforehand, on a stream of the same
session to the bridge's service :data:`SERVICE`::

    client   length u16 | message 1         with the OPEN; of this session and key, for the codec websocket
    bridge   the answer
    client   CONFIRM
    bridge   u8 = 1                         the ticket is good now

The ticket (``auth/keys.py``) is known to both then. Whoever shows it on a connection within :data:`LIFE`
seconds, once, has the carrier there; the client does so on a connection to the certificate that message 1 is
bound to. What is lost on the way, or shown too late, is answered by the site, and the client opens as it
would have without.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Final

from ptproxy.auth.keys import ticket
from ptproxy.auth.opening import MAX_MESSAGE1, Answer, BridgeOpening, ClientOpening, PeerHello, Verdict
from ptproxy.buffer import Buffer
from ptproxy.errors import AuthenticationError, DialError, PtproxyError, Reason
from ptproxy.log import get_logger
from ptproxy.target import Target
from ptproxy.tunnel.stream import Exit, Incoming, TunnelStream

if TYPE_CHECKING:
    from ptproxy.tunnel.bridge_tunnel import BridgeTunnel
    from ptproxy.tunnel.shared_tables import TokenIndex
    from ptproxy.tunnel.tunnel import Tunnel

SERVICE: Final = "carrier"
"""The bridge's service, as a target has it."""
CODEC: Final = "websocket"
"""The codec whose openings can be tickets."""
LIFE: Final = 30.0
"""Seconds that a ticket is good: a page load and two handshakes over a slow line."""
MOST_OUT: Final = 4
"""Tickets of one session that are out at once: it opens one WebSocket at a time, or two."""
CONFIRM_WITHIN: Final = 10.0
"""Seconds that a bridge waits for CONFIRM, as it does on a connection."""
PATIENCE: Final = 3.0
"""Seconds that a client waits for a ticket: the carrier may be dead, and there is another way."""
REST: Final = 60.0
"""Seconds for which a client asks for none after one was refused, or could not be had."""

log = get_logger(__name__)


@dataclass(slots=True)
class Prepared:
    """At a bridge: an opening that is confirmed and waits for its connection."""

    opening: BridgeOpening
    peer: PeerHello
    answer: Answer
    tunnel: BridgeTunnel


class BridgeTickets:
    """The tickets that are out."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        make_opening: Callable[[str, bool], BridgeOpening],
        admit: Callable[[PeerHello], object],
        find_session: Callable[[PeerHello], Answer],
        rng: Random,
    ) -> None:
        self.loop = loop
        self.make_opening = make_opening
        self.admit = admit
        self.find_session = find_session
        self.rng = rng
        self.index: TokenIndex | None = None
        """Where the bridge's other workers find whose a ticket is, if there are any."""
        self._out: dict[bytes, tuple[Prepared, asyncio.TimerHandle]] = {}
        self._of: Counter[BridgeTunnel] = Counter()

    def stream_opened(self, incoming: Incoming) -> None:
        """A client asks for one."""
        incoming.accept(_Asked(self))

    def room_for(self, tunnel: BridgeTunnel) -> bool:
        """Whether this session may have one more."""
        return self._of[tunnel] < MOST_OUT

    def begin(self, tunnel: BridgeTunnel) -> None:
        """One is being made: until it is kept and taken, or given up, it counts as one that is out."""
        self._of[tunnel] += 1

    def give_up(self, tunnel: BridgeTunnel) -> None:
        """One that was begun counts no more."""
        self._of[tunnel] -= 1
        if not self._of[tunnel]:
            del self._of[tunnel]

    def keep(self, prepared: Prepared) -> None:
        """The opening that was begun is confirmed: its ticket is good."""
        name = ticket(prepared.opening.keys.token_key)
        self._out[name] = prepared, self.loop.call_later(LIFE, self.take, name)
        if self.index is not None:
            self.index.publish(token_of(name))

    def take(self, name: bytes) -> Prepared | None:
        """The opening that a ticket names; it names none from now on."""
        prepared, timer = self._out.pop(name, (None, None))
        if prepared is None or timer is None:
            return None
        timer.cancel()
        if self.index is not None:
            self.index.withdraw(token_of(name))
        self.give_up(prepared.tunnel)
        return None if prepared.tunnel.closed else prepared

    def clear(self) -> None:
        """None is good any more."""
        for name in list(self._out):
            self.take(name)


def token_of(name: bytes) -> str:
    """A ticket as the workers' index has it: as it is on the wire, 48 bits of it in eight characters."""
    return base64.b64encode(name).decode("ascii")


class BesideExit:
    """A bridge's exit, but for the streams that ask for tickets."""

    def __init__(self, exit_: Exit, tickets: BridgeTickets) -> None:
        self._exit = exit_
        self._tickets = tickets

    def stream_opened(self, incoming: Incoming) -> None:
        """As an exit's; must not block."""
        target = incoming.target
        ours = target.kind == "service" and target.host == SERVICE
        (self._tickets if ours else self._exit).stream_opened(incoming)


class _Asked(asyncio.Protocol):
    """The bridge's end of one stream."""

    def __init__(self, tickets: BridgeTickets) -> None:
        self._tickets = tickets
        self._stream: TunnelStream | None = None
        self._received = bytearray()
        self._opening: BridgeOpening | None = None
        self._peer: PeerHello | None = None
        self._answer: Answer | None = None
        self._overdue: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client has some seconds."""
        assert isinstance(transport, TunnelStream)
        self._stream = transport
        self._overdue = self._tickets.loop.call_later(CONFIRM_WITHIN, transport.reset, Reason.GENERAL)

    def data_received(self, data: Buffer) -> None:
        """Message 1, then CONFIRM; whatever does not verify resets the stream."""
        stream = self._stream
        assert stream is not None
        try:
            if self._answer is None:
                self._received += data
                self._read_message1(stream)
            else:
                self._read_confirm(stream, data)
        except AuthenticationError as error:
            log.debug("no ticket", why=str(error))
            stream.reset(Reason.NOT_PERMITTED)

    def _read_message1(self, stream: TunnelStream) -> None:
        length = int.from_bytes(self._received[:2], "big")
        if len(self._received) < 2 or len(self._received) < 2 + length <= 2 + MAX_MESSAGE1:
            return
        tickets, tunnel = self._tickets, _bridge_tunnel(stream)
        if len(self._received) != 2 + length or not tickets.room_for(tunnel):
            raise AuthenticationError("not one message 1, or too many tickets")
        opening = tickets.make_opening(CODEC, False)
        peer = opening.examine(bytes(self._received[2:]), time.time())
        answer = tickets.find_session(peer)
        if answer.verdict is not Verdict.ATTACHED or answer.session_id != tunnel.session_id:
            raise AuthenticationError("for another session")
        tickets.admit(peer)
        tickets.begin(tunnel)
        self._opening, self._peer, self._answer = opening, peer, answer
        stream.write(opening.answer(answer, tickets.rng))

    def _read_confirm(self, stream: TunnelStream, data: Buffer) -> None:
        opening, peer, answer = self._opening, self._peer, self._answer
        if opening is None or peer is None or answer is None:
            raise AuthenticationError("more than CONFIRM")
        rest = opening.receive_confirm(data)
        if rest is None:
            return
        if rest:
            raise AuthenticationError("more than CONFIRM")
        self._opening = None
        self._tickets.keep(Prepared(opening, peer, answer, _bridge_tunnel(stream)))
        stream.write(b"\x01")
        stream.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Over, however it went; a ticket that was given stays good."""
        del exc
        if self._overdue is not None:
            self._overdue.cancel()
        if self._opening is not None and self._stream is not None:
            self._opening = None
            self._tickets.give_up(_bridge_tunnel(self._stream))


def _bridge_tunnel(stream: TunnelStream) -> BridgeTunnel:
    from ptproxy.tunnel.bridge_tunnel import BridgeTunnel  # noqa: PLC0415  (it opens streams at our callers)

    assert isinstance(stream.tunnel, BridgeTunnel)
    return stream.tunnel


# ---- the client ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ahead:
    """At a client: a carrier that is open but for its connection."""

    number: int
    opening: ClientOpening
    answer: Answer
    digest: bytes
    """SHA-256 of the certificate that the connection is to show."""
    ticket: bytes = field(repr=False)


class ClientTickets:
    """When a client asks for tickets."""

    __slots__ = ("_not_before",)

    def __init__(self) -> None:
        self._not_before = 0.0

    def rest(self, now: float) -> None:
        """One was refused, or could not be had: the bridge is an older one, or its front keeps them out."""
        self._not_before = now + REST

    def may_ask(self, now: float) -> bool:
        """Whether it is worth it."""
        return now >= self._not_before

    async def ask(
        self, tunnel: Tunnel, over: int, number: int, opening: ClientOpening, digest: bytes
    ) -> Ahead:
        """Open carrier ``number`` over the carrier ``over``.

        Raises :class:`~ptproxy.errors.PtproxyError` where that fails, and asks for none for a while.
        """
        asking = _Asking(opening, asyncio.get_running_loop().create_future())
        message = opening.message1
        first = len(message).to_bytes(2, "big") + message
        stream = TunnelStream(tunnel, asking)
        stream.state = tunnel.session.open_stream(
            Target.service(SERVICE).serialize(), first, tunnel.now(), over
        )
        stream.state.owner = stream
        tunnel.schedule()
        stream.start()
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await asking.done
        except TimeoutError:
            stream.abort()
            self.rest(tunnel.now())
            raise DialError(Reason.TIMED_OUT, "no ticket in time") from None
        except PtproxyError:
            stream.abort()
            self.rest(tunnel.now())
            raise
        except BaseException:
            stream.abort()
            raise
        stream.close()
        return Ahead(number, opening, answer, digest, ticket(opening.keys.token_key))


class _Asking(asyncio.Protocol):
    """The client's end of one stream."""

    def __init__(self, opening: ClientOpening, done: asyncio.Future[Answer]) -> None:
        self.done = done
        self._opening = opening
        self._answer: Answer | None = None
        self._stream: TunnelStream | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Message 1 went with the OPEN."""
        assert isinstance(transport, TunnelStream)
        self._stream = transport

    def data_received(self, data: Buffer) -> None:
        """The answer, then the word that the ticket is good."""
        assert self._stream is not None
        if self.done.done():
            return
        try:
            rest: Buffer = data
            if self._answer is None:
                answered = self._opening.receive_data(data)
                if answered is None:
                    return
                self._answer, rest = answered
                self._stream.write(self._opening.confirm())
            if rest:
                if bytes(rest) != b"\x01":
                    raise AuthenticationError("ticket: not the word that was due")
                self.done.set_result(self._answer)
        except AuthenticationError as error:
            self.done.set_exception(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """It ended before there was one."""
        if not self.done.done():
            self.done.set_exception(
                exc if isinstance(exc, PtproxyError) else DialError(Reason.GENERAL, "no ticket was given")
            )
