"""Carries a probe's steps out on real connections and notes what a prober can see of the server."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ptproxy.inspect.answer import answer_text, http2_text
from ptproxy.inspect.observation import Observation
from ptproxy.inspect.probe import (
    SERVER_NAME,
    Finish,
    Pause,
    Probe,
    Repeat,
    SayGoodbye,
    Send,
    SendAfterEnd,
    Ticket,
    Tls,
    Visit,
    Watch,
)
from ptproxy.inspect.server_flight import (
    ALERT,
    CHANGE_CIPHER_SPEC,
    describe,
    looks_like_tls,
    split_records,
)
from ptproxy.inspect.wire import Wire
from ptproxy.tunnel.tcp import reason_of

HANDSHAKE_TIMEOUT: Final = 10.0
"""Seconds for a TLS handshake."""
_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
RECORD_OVERHEAD: Final = 17
"""Bytes of a TLS 1.3 record beside what it carries: content type and tag (RFC 8446 section 5.2)."""


@dataclass(frozen=True, slots=True)
class Server:
    """Whom a probe asks: an IP literal and port, and the name it is asked for by."""

    address: tuple[str, int]
    name: str


@dataclass(slots=True)
class _Memory:
    """What a probe's connection leaves to the next one."""

    context: ssl.SSLContext | None = None
    session: ssl.SSLSession | None = None
    sent: bytes = b""


async def run_probe(server: Server, probe: Probe, seconds: Mapping[Watch, float]) -> Observation:
    """Make a probe's connections, one after another; what the last one showed.

    ``seconds`` says how long each kind of watch is. Never raises for anything a
    server does.
    """
    memory = _Memory()
    seen = Observation()
    for visit in probe.visits:
        try:
            wire = await Wire.open(server.address)
        except OSError as error:
            return Observation(reached=reason_of(error).name.lower().replace("_", " "))
        with contextlib.closing(wire):
            seen = await _Conversation(wire, visit, server, memory).watched(seconds[visit.watch])
        memory.sent = bytes(wire.sent)
    return seen


class _Conversation:
    """One connection."""

    def __init__(self, wire: Wire, visit: Visit, server: Server, memory: _Memory) -> None:
        self._wire = wire
        self._visit = visit
        self._memory = memory
        self._seen = Observation()
        self._application = bytearray()
        self._said_goodbye = False  # the server, that is
        self._broken = False  # nothing of TLS can be read any more
        self._flight = 0  # bytes received when the handshake was done
        self._first_byte: float | None = None
        self._tls: _TlsLayer | None = None
        if visit.tls is not None:
            self._tls = _TlsLayer(visit.tls, server.name, memory)

    async def watched(self, seconds: float) -> Observation:
        """Take the steps, watch for ``seconds``, and tell."""
        loop, wire = asyncio.get_running_loop(), self._wire
        if self._tls is None or await self._shake_hands():
            for step in self._visit.steps:
                await self._take(step)
        last = loop.time()
        while not wire.ended and loop.time() < last + seconds:
            if self._feed(await wire.receive(last + seconds)) and self._first_byte is None:
                self._first_byte = loop.time() - last
        for step in self._visit.steps:
            if isinstance(step, SendAfterEnd):
                await wire.send_after_end(self._sealed(step.data))
        self._note(last)
        return self._seen

    async def _shake_hands(self) -> bool:
        """Whether there is a TLS connection now."""
        assert self._tls is not None
        tls, wire = self._tls, self._wire
        until = asyncio.get_running_loop().time() + HANDSHAKE_TIMEOUT
        while True:
            done = tls.handshake()
            if leaving := tls.outgoing.read():
                await wire.send(leaving)
            if done is not None:
                break
            data = await wire.receive(until)
            if not data:
                done = "no answer" if not wire.ended else f"ended by {wire.ended}"
                break
            tls.incoming.write(data)
        self._flight = len(wire.received)
        self._broken = bool(done)
        self._seen.handshake = f"none: {done}" if done else tls.agreed()
        self._seen.certificate = "" if done else tls.certificate()
        return not done

    async def _take(self, step: object) -> None:
        """Do one thing."""
        wire, tls = self._wire, self._tls
        if isinstance(step, Send):
            await wire.send(self._sealed(step.data))
        elif isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
        elif isinstance(step, Repeat):
            await wire.send(self._memory.sent)
        elif isinstance(step, Finish):
            wire.finish()
        elif isinstance(step, SayGoodbye) and tls is not None:
            with contextlib.suppress(ssl.SSLError):
                tls.connection.unwrap()
            await wire.send(tls.outgoing.read())

    def _sealed(self, data: bytes) -> bytes:
        """Bytes as they go on the wire."""
        if self._tls is None:
            return data
        with contextlib.suppress(ssl.SSLError):
            self._tls.connection.write(data)
        return self._tls.outgoing.read()

    def _feed(self, data: bytes) -> bool:
        """Take what arrived; whether any of it is meant for an application."""
        if self._tls is None or self._broken or not data:
            return bool(data) and self._tls is None
        before = len(self._application)
        self._tls.incoming.write(data)
        try:
            while not self._said_goodbye:
                piece = self._tls.connection.read(1 << 16)
                self._application += piece
                self._said_goodbye = not piece
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._said_goodbye = True
        except ssl.SSLError as error:
            self._seen.alerts = ((error.reason or "broken off").lower().replace("_", " "),)
            self._broken = True
        return len(self._application) > before

    def _note(self, last: float) -> None:
        """What the bytes received show."""
        seen, wire = self._seen, self._wire
        ends = ["close_notify"] if self._said_goodbye else []
        seen.end = ", ".join([*ends, wire.ended or "open"])
        seen.ended = max(0.0, wire.ended_at - last) if wire.ended else None
        seen.first_byte = self._first_byte
        if self._tls is None:
            self._note_clear(bytes(wire.received))
            return
        before, _ = split_records(wire.received[: self._flight] if not self._broken else wire.received)
        seen.clear = describe(before)
        if self._broken and not self._flight:
            return
        after, _ = split_records(wire.received[self._flight :])
        seen.flight_sizes = tuple(len(record.content) for record in before)
        seen.sizes = tuple(len(record.content) for record in after)
        http2 = self._tls.connection.selected_alpn_protocol() == "h2"
        if http2:  # which frames share a record is chance
            seen.sizes = (sum(seen.sizes) - RECORD_OVERHEAD * len(seen.sizes),)
        seen.answer = (http2_text if http2 else answer_text)(bytes(self._application))
        self._memory.session = self._tls.session()
        seen.tickets = self._tls.ticket()

    def _note_clear(self, data: bytes) -> None:
        """A connection that was not made TLS: records if it answered with records, else bytes."""
        if not looks_like_tls(data):
            self._seen.answer = answer_text(data)
            return
        records, rest = split_records(data)
        self._seen.clear = describe(records)
        self._seen.flight_sizes = tuple(
            len(record.content) for record in records if record.kind not in (ALERT, CHANGE_CIPHER_SPEC)
        )
        self._seen.answer = answer_text(rest)


class _TlsLayer:
    """OpenSSL between two buffers, so that its records can be counted on the wire."""

    def __init__(self, plan: Tls, name: str, memory: _Memory) -> None:
        resumes = plan.ticket is Ticket.RESUME
        if memory.context is None or not resumes:
            memory.context, memory.session = _context(plan), None
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.connection = memory.context.wrap_bio(
            self.incoming,
            self.outgoing,
            server_hostname=name if plan.name == SERVER_NAME else plan.name,
            session=memory.session if resumes else None,
        )

    def handshake(self) -> str | None:
        """Go on with it: None while it waits, empty when done, else why it failed."""
        try:
            self.connection.do_handshake()
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLError as error:
            return (error.reason or "broken off").lower().replace("_", " ")
        return ""

    def agreed(self) -> str:
        """What both sides settled on."""
        connection = self.connection
        cipher = connection.cipher()
        return (
            f"{connection.version()}, {cipher[0] if cipher else '?'}, "
            f"ALPN {connection.selected_alpn_protocol() or 'none'}, "
            f"{'resumed' if connection.session_reused else 'new'}"
        )

    def certificate(self) -> str:
        """Beginning of the leaf's SHA-256."""
        return hashlib.sha256(self.connection.getpeercert(binary_form=True) or b"").hexdigest()[:16]

    def session(self) -> ssl.SSLSession | None:
        """What a ticket resumes."""
        try:
            return self.connection.session
        except ValueError:  # OpenSSL cannot write this one down, and so nobody can resume it
            return None

    def ticket(self) -> str:
        """What the server said of its tickets."""
        session = self.session()
        if session is None or not session.has_ticket:
            return "none"
        return f"for {session.ticket_lifetime_hint} s"


def _context(plan: Tls) -> ssl.SSLContext:
    """As little of our own opinion as OpenSSL permits: the server's is what is asked for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers(plan.ciphers or "DEFAULT:@SECLEVEL=0")
    if plan.alpn:
        context.set_alpn_protocols(list(plan.alpn))
    context.maximum_version = _VERSIONS[plan.highest]
    return context
