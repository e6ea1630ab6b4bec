"""Frames behind authentication, with live sessions, and sessions that change processes."""

from __future__ import annotations

from typing import Any

from fuzz_target import Reach, Table, Tape, cut, uncut

from ptproxy.errors import LocalProtocolError, Reason, SessionError, StateError
from ptproxy.session import BridgeSession, ClientSession, Limits, RetentionBudget, events, frames
from ptproxy.session.frames import FrameParser
from ptproxy.session.handover import SessionRecord
from ptproxy.session.limits import SessionExhausted
from ptproxy.target import Target
from ptproxy.tunnel.handover_record import BridgeRecord, EndRecord, Kind, TunnelRecord

TABLE = Table("session")
TARGET = Target("example.org", 443).serialize()
LIMITS = Limits(
    max_streams=8, max_tombstones=6, max_carriers=4, max_intervals=8, max_backlog=64, max_opaque=2
)
"""Low, so that short inputs reach them."""
MOST_STREAMS = 8
BIG = (1 << 62, (1 << 64) - 1, 65_536, 65_537, 1 << 32, 262_144)


class Live:
    """A session with carriers, the application above it, and a peer that says anything."""

    def __init__(self, tape: Tape, session: Any) -> None:
        self.tape = tape
        self.session = session
        self.now = 100.0
        self.next_carrier = 1
        self.unread: dict[Any, int] = {}

    def told(self, said: list[Any]) -> None:
        """Events: what the tunnel does with them, as the tape says."""
        for event in said:
            data = b""
            if isinstance(event, events.DataReceived):
                data = bytes(event.data)
            elif isinstance(event, events.StreamOpened):
                data = event.first_data
                if self.tape.byte() & 3:
                    self.application(event.stream.accept, self.now)
            elif isinstance(event, events.StreamReset):
                self.unread.pop(event.stream, None)
                continue
            if data:
                self.unread[event.stream] = self.unread.get(event.stream, 0) + len(data)
        assert len(self.session.streams) <= MOST_STREAMS, "more streams than permitted"

    def application(self, call: Any, *arguments: Any) -> Any:
        """A call of the application's, which may be one that the session forbids."""
        try:
            return call(*arguments)
        except (LocalProtocolError, SessionExhausted):
            return None

    def attach(self) -> None:
        """A carrier more."""
        if isinstance(self.session, ClientSession):
            made = self.application(self.session.next_carrier)
            if made is not None:
                self.told(self.session.attach_carrier(made[0], self.now))
                self.next_carrier = made[0] + 1
            return
        alive = tuple(number for number in self.session.carriers if self.tape.byte() & 1)
        self.told(self.session.attach_carrier(self.next_carrier, alive, self.now))
        self.next_carrier += 1

    def number(self, base: int = 0) -> int:
        """A number that is often right."""
        value = self.tape.byte()
        if value < 128:
            return base
        return BIG[value % len(BIG)] if value > 240 else max(base + (value & 7) - 3, 0)

    def frame(self) -> bytes:
        """A frame whose fields often fit."""
        tape = self.tape
        kind, number = tape.byte() % 18, tape.byte() & 15
        stream = self.session.streams.get(number)
        received = 0 if stream is None else stream.received
        high, limit = (0, 0) if stream is None else (stream.high, stream.limit)
        match kind:
            case 0 | 1 | 2:
                data = tape.piece()
                return frames.data_header(number, self.number(received), len(data)) + data
            case 3:
                return frames.eof(number, self.number(received))
            case 4 | 5:
                data = tape.piece()
                return (
                    frames.open_header(
                        number, tape.byte() & 3, tape.byte() & 1, self.number(65_536), TARGET, len(data)
                    )
                    + data
                )
            case 6:
                return frames.opened(number)
            case 7:
                return frames.window(number, self.number(high), self.number(limit))
            case 8 | 9:
                kinds = (frames.BIND, frames.MOVE)
                return frames.bind(
                    kinds[kind & 1], number, tape.byte() & 3, self.number(high), self.number(limit)
                )
            case 10:
                entries = [
                    (tape.byte() & 15, tape.byte() & 3, self.number(), self.number(65_536))
                    for _ in range(tape.byte() & 3)
                ]
                return frames.resume(entries)
            case 11:
                return frames.ask(number, self.number(high), self.number(limit))
            case 12:
                return frames.reset(number, tape.byte())
            case 13:
                return frames.gone(number)
            case 14:
                return frames.closed(number) if tape.byte() & 1 else frames.goaway(number)
            case 15:
                return frames.ping(frames.PING if tape.byte() & 1 else frames.PONG, self.number())
            case 16:
                address, data = (TARGET if tape.byte() & 1 else b""), tape.piece()
                return frames.datagram_header(number, address, len(data)) + data
            case _:
                return frames.opaque(
                    frames.CHALLENGE if tape.byte() & 1 else frames.PROOF, tape.piece() or b"x"
                )

    def use(self) -> None:
        """Something that the application does."""
        tape, session = self.tape, self.session
        kind = tape.byte()
        stream = session.streams.get(kind >> 4)
        match kind & 15:
            case 0:
                self.application(session.open_stream, TARGET, tape.piece(), self.now)
            case 1:
                self.application(session.open_association, TARGET, self.now)
            case 2 | 3 if stream is not None:
                size = min(tape.number(), self.unread.get(stream, 0))
                if size:
                    self.unread[stream] -= size
                    stream.consume(size, self.now)
            case 4 | 5 if stream is not None:
                self.application(stream.send_data, bytes(tape.byte()), self.now)
            case 6 if stream is not None:
                self.application(stream.send_eof, self.now)
            case 7 if stream is not None:
                stream.reset(Reason.CANCELLED, self.now)
                self.unread.pop(stream, None)
            case 8 if stream is not None:
                self.application(stream.send_datagram, b"", bytes(tape.byte()), self.now)
            case 9:
                self.application(session.send_challenge, 1, b"challenge")
            case 10:
                session.send_goaway(kind >> 4 or None)

    def run(self) -> None:
        """The whole tape."""
        tape, session = self.tape, self.session
        self.attach()
        while tape and not session.closed:
            order = tape.byte()
            carrier = 1 + (order >> 5)
            try:
                match order & 15:
                    case 0 | 1 | 2 | 3 | 4 | 5:
                        scratch = bytearray(self.frame())
                        self.told(session.receive_data(carrier, memoryview(scratch), self.now))
                        scratch[:] = bytes(len(scratch))
                    case 6:
                        self.told(session.receive_data(carrier, tape.piece(), self.now))
                    case 7 | 8 | 9:
                        self.use()
                    case 10:
                        self.attach()
                    case 11:
                        self.told(session.carrier_lost(carrier, self.now))
                    case 12 | 13:
                        self.now += (0.01, 0.5, 5.0, 60.0)[tape.byte() & 3]
                        due = session.deadline()
                        if due is not None and due <= self.now:
                            self.told(session.on_deadline(self.now))
                    case _:
                        for ready in sorted(session.ready):
                            session.data_to_send(ready, 1 << (tape.byte() & 15), self.now)
            except SessionError:
                session.close(Reason.GENERAL, self.now)
                assert not session.receive_data(1, frames.ping(frames.PING, 1), self.now), (
                    "an event after the end"
                )
                return


OPENED = (
    b"\x00\x04\x02\5hello\0\0\0\x01\x00\x00\x02\4more\0\x07\x22\0\4\x0e\x0f"
    b"\x00\x03\x02\0\x07\x24\5\x0e\x0f\x00\x07\x02\0\0\x00\x0c\x02\1"
)
MOVED = b"\x07\0\4data\x0e\x0f\x0a\x0b\x20\x09\x01\1\0\0\x0c\x03\x0e\x0f\x2b\x0a\x0c\2"


@TABLE.target("bridge", Reach.AFTER, "bridge", seeds=lambda: [OPENED, OPENED + MOVED, MOVED], longest=2048)
def bridge(data: bytes) -> None:
    """A client that says anything to a bridge's session."""
    budget = RetentionBudget(1 << 20, 1 << 16)
    Live(Tape(data), BridgeSession(LIMITS, budget, 100.0)).run()


@TABLE.target("client", Reach.AFTER, "client", seeds=lambda: [OPENED, OPENED + MOVED, MOVED], longest=2048)
def client(data: bytes) -> None:
    """A bridge that says anything to a client's session."""
    Live(Tape(data), ClientSession(LIMITS, None, 100.0)).run()


@TABLE.target(
    "frames",
    Reach.AFTER,
    "bridge, client",
    seeds=lambda: uncut(
        frames.data_header(2, 0, 3) + b"abc" + frames.eof(2, 3),
        frames.open_header(2, 0, 0, 65_536, TARGET, 2) + b"hi",
        frames.window(2, 1, 2)
        + frames.resume([(2, 0, 1, 2)])
        + frames.opaque(frames.PROOF, b"p")
        + frames.datagram_header(2, TARGET, 1)
        + b"d",
    ),
)
def frames_in_pieces(data: bytes) -> None:
    """Frames however they are cut: the same ones, DATA in parts."""
    parser = FrameParser()
    for part in cut(data):
        parser.receive_data(part)
        if parser.error is not None:
            assert isinstance(parser.error, SessionError)
            return


# ---- a bridge's sessions that another process takes over -----------------------------------------


def _session(*unread: bytes) -> BridgeSession:
    made = BridgeSession(Limits(), None, 0.0)
    made.attach_carrier(1, (), 0.0)
    for number, data in enumerate(unread, 1):
        made.receive_data(1, frames.open_header(2 * number, 0, 0, 1 << 16, TARGET, len(data)) + data, 0.0)
    made.carrier_lost(1, 0.0)
    return made


def _record() -> bytes:
    one = _session(b"abc", b"", b"d")
    ends = [
        EndRecord(2, Kind.OPENING, unread=b"abc"),
        EndRecord(4, Kind.COUPLED, socket=1),
        EndRecord(6, Kind.COUPLED, socket=0, unread=b"d"),
    ]
    return BridgeRecord(
        {"version": 1}, ["0.0.0.0:443"], [TunnelRecord(b"s" * 16, b"p" * 32, "anna", one.to_record(), ends)]
    ).serialize()


@TABLE.target(
    "handover",
    Reach.LOCAL,
    "bridge",
    StateError,
    seeds=lambda: [b"\0" + _session(b"abc", b"").to_record().serialize(), b"\1" + _record()],
)
def handover(data: bytes) -> None:
    """What a former process says of its sessions; a sound one goes on, and comes back as it was."""
    if data[:1] == b"\1":
        whole = BridgeRecord.parse(data[1:], 3)
        assert BridgeRecord.parse(whole.serialize(), 3) == whole
        return
    record = SessionRecord.parse(data[1:])
    session = BridgeSession.from_record(record, Limits(), None, 100.0)
    assert session.to_record().serialize() == data[1:], "a session that comes back otherwise"
    number = max(end for _, end in record.dead) + 1 if record.dead else 1
    if number < 1 << 32:
        session.attach_carrier(number, (), 100.0)
        session.data_to_send(number, 1 << 17, 100.0)
    session.on_deadline(200.0)
