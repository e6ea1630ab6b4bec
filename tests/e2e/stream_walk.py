"""A random walk of one stream: two sides, connections that are cut anywhere, altered and lost, signals that
come late, a conversation whose ratchet turns meanwhile, and programs that read when they like.

What is shown: each side reads exactly what the other wrote, an end only behind all of it; a RESET is told
once; whatever broke, the two come together again and finish; no key seals two records with one
nonce; what is on the way has only the sizes of a record; after a turn there are new keys.
"""

import contextlib
from collections import Counter, deque
from random import Random
from unittest import mock

from conversation_pair import NOW, Person

from ptproxy.e2e.stream import (
    DataReceived,
    EndSignal,
    EofReceived,
    FinishedSignal,
    MeetingFailed,
    MeetSignal,
    Role,
    SealedStream,
    Seed,
    StreamFailed,
    StreamReset,
    Summons,
    TurnsApartError,
    TurnSecrets,
    hello,
    meeting,
    parse_signal,
    receiving,
    records,
    sending,
    stream,
)
from ptproxy.e2e.suite import Suite
from ptproxy.errors import Reason

STEPS = 250
MOST = (0, 40, 3_000, 20_000)
"""Bytes that a side writes at most, one of these."""


class Fault(Exception):
    """Something happened that must not."""


class Nonces:
    """AES-GCM that notices a nonce that comes twice under one key."""

    def __init__(self):
        self.seen = set()
        real = records.AESGCM

        class Watched:
            def __init__(this, key):
                this.key, this.real = bytes(key), real(key)

            def encrypt(this, nonce, data, ad):
                if (this.key, bytes(nonce)) in self.seen:
                    raise Fault("a nonce twice under one key")
                self.seen.add((this.key, bytes(nonce)))
                return this.real.encrypt(nonce, data, ad)

            def decrypt(this, nonce, data, ad):
                return this.real.decrypt(nonce, data, ad)

        self.type = Watched


@contextlib.contextmanager
def small(nonces):
    """Limits small enough that a short walk meets all of them."""
    with contextlib.ExitStack() as stack:
        for module, changes in (
            (sending, {"INITIAL_WINDOW": 1500, "MAX_RETAINED": 3000}),
            (receiving, {"INITIAL_WINDOW": 1500, "MAX_WINDOW": 4000, "ACK_BYTES": 700}),
            (stream, {"SEND_BATCH": 2000}),
            (meeting, {"REKEY_EVERY": 2.0, "REKEY_RECORDS": 40}),
            (records, {"AESGCM": nonces.type}),
            (hello, {"AESGCM": nonces.type}),
        ):
            for name, value in changes.items():
                stack.enter_context(mock.patch.object(module, name, value))
        yield


def content(role, start, end):
    """What a side writes, by offset."""
    return bytes((index * 31 + index // 251 + role * 7) & 0xFF for index in range(start, end))


class Connection:
    """Bytes on their way between two, until it is cut."""

    def __init__(self):
        self.ways = (bytearray(), bytearray())
        self.sent = [0, 0]
        self.cut = self.altered = False


class Side:
    """One program's rim, as peers/ has it, without sockets."""

    def __init__(self, walk, index, seed):
        self.walk = walk
        self.index = index
        self.role = Role(index + 1)
        self.stream = SealedStream(seed, self.role)
        self.connection = None
        self.forgotten = False
        self.written = self.read = self.unread = 0
        self.wants = walk.random.randint(0, walk.random.choice(MOST))
        self.reading = walk.random.random() < 0.7
        self.eof = False
        self.reset_told = 0
        self.ended_by = None

    @property
    def other(self):
        return self.walk.sides[1 - self.index]

    def turns(self):
        return self.walk.turns(self.index)

    def signal(self, signal):
        self.walk.signals[self.index].append(signal.serialize())

    # ---- connections

    def lose(self):
        """The connection is gone, and this side has noticed."""
        if self.connection is not None:
            self.connection.cut = True
            self.connection = None
        if not self.forgotten and self.stream.meeting is not None:
            self.stream.end_meeting()
            self.settle()
            if not self.forgotten:
                self.signal(MeetSignal(self.stream.seed.stream, self.stream.number))

    def joined(self, connection):
        self.connection = connection
        try:
            self.stream.begin_meeting(self.turns, self.walk.now, self.walk.rng)
        except TurnsApartError:
            raise Fault("no turns") from None

    def hear(self, body):
        signal = parse_signal(body)
        if self.forgotten:
            if isinstance(signal, MeetSignal):
                self.signal(FinishedSignal(signal.stream))
            return
        match signal:
            case MeetSignal(_, number):
                match self.stream.summoned(number):
                    case Summons.FOLLOW if self.connection is not None:
                        self.connection.cut = True
                        self.connection = None
                    case Summons.CORRECT:
                        self.signal(MeetSignal(signal.stream, self.stream.number))
            case FinishedSignal():
                both = self.stream.outgoing.final is not None and self.stream.incoming.final is not None
                if not both and not self.stream.over:
                    raise Fault("told that it is finished in mid-life")
                self.forget()
            case EndSignal():
                raise Fault("nobody gave the stream up")

    def forget(self):
        self.forgotten = True
        if self.connection is not None:
            self.connection.cut = True  # what was sent still comes
            self.connection = None

    def settle(self):
        """Whether it is over for this side, and what leaves then has left."""
        if self.stream.finished:
            self.pump()
            self.forget()

    # ---- bytes

    def pump(self):
        way = None if self.connection is None else self.connection.ways[self.index]
        while True:
            batch = self.stream.data_to_send(self.walk.now)
            if not batch:
                break
            for record in batch:
                if len(record) not in records.SIZES:
                    raise Fault(f"{len(record)} bytes on the way")
                self.walk.figures["records"] += 1
            if way is not None and not self.connection.cut:
                for record in batch:
                    way += record

    def receive(self, data):
        for event in self.stream.receive_data(data, self.walk.now):
            match event:
                case DataReceived(data):
                    data = bytes(data)
                    start = self.read + self.unread
                    if data != content(self.other.role, start, start + len(data)):
                        raise Fault("other bytes than were written")
                    self.unread += len(data)
                case EofReceived():
                    if self.eof or self.read + self.unread != self.other.wants:
                        raise Fault("an end where none is")
                    self.eof = True
                case StreamReset(reason):
                    self.reset_told += 1
                    if self.reset_told > 1 or reason is not Reason.LIMIT or not self.other.ended_by:
                        raise Fault("a reset told twice, or by nobody")
                case StreamFailed(error):
                    raise Fault(f"a rule broken: {error}")
                case MeetingFailed(error):
                    self.walk.figures[type(error).__name__] += 1
                    if not self.connection.altered and not isinstance(error, TurnsApartError):
                        raise Fault("what nobody touched does not verify")
                    self.lose()
                    return
        self.settle()

    def work(self):
        """The application: write, read."""
        if self.forgotten or self.ended_by:
            return
        random = self.walk.random
        if self.written < self.wants and self.stream.send_room() > 0 and not self.stream.over:
            size = min(self.wants - self.written, random.choice((1, 17, 300, 2500)))
            self.stream.send_data(content(self.role, self.written, self.written + size))
            self.written += size
        elif self.written == self.wants:
            self.stream.send_eof()
        if self.unread and self.reading:
            size = random.randint(1, self.unread)
            self.stream.consume(size)
            self.read += size
            self.unread -= size


class Walk:
    """One walk, all from its seed."""

    def __init__(self, seed, say=lambda line: None):
        self.random = Random(f"stream {seed}")
        self.rng = self.random.randbytes
        self.say = say
        self.now = float(NOW)
        self.figures = Counter()
        self.people = [Person(f"{name} {seed}", Suite.X3DH, one_time=2) for name in ("a", "b")]
        self.mail = (deque(), deque())
        self.signals = (deque(), deque())
        a, b = self.people
        a.begin(b)
        b.read(a.send(b, b"hello"))
        if self.random.random() < 0.7:
            a.read(b.send(a, b"hello"))
        self.sides = []
        self.bad = self.random.choice((0.0, 0.02, 0.1))
        self.resets = self.random.random() < 0.2
        self.turns_used = set()

    def begin(self):
        seed = Seed(self.rng(16), self.rng(32))
        self.sides = [Side(self, index, seed) for index in (0, 1)]
        if self.random.random() < 0.5:
            self.sides.reverse()
            for index, side in enumerate(self.sides):
                side.index = index

    def turns(self, index):
        """What a side's ratchet knows."""
        me, peer = self.people[index], self.people[1 - index]
        session = me.to(peer).session
        return TurnSecrets.of(session, self.sides[0].stream.seed.stream)

    # ---- steps

    def step(self, bad):
        random = self.random
        self.now += random.choice((0.0, 0.01, 0.3, 1.5))
        side = random.choice(self.sides)
        if random.random() < bad:
            self.misfortune(side)
        action = random.randrange(8)
        if action == 0:
            side.work()
        elif action == 1 and not side.forgotten:
            side.pump()
            side.settle()
        elif action in (2, 3):
            self.deliver(side)
        elif action == 4:
            self.join()
        elif action == 5 and self.signals[side.index]:
            side.other.hear(self.signals[side.index].popleft())
        elif action == 6:
            self.chat(side.index)
        elif action == 7:
            connection = side.connection
            if connection is not None and connection.cut and not connection.ways[1 - side.index]:
                side.lose()
        self.note_turns()

    def misfortune(self, side):
        random = self.random
        connection = side.connection
        kind = random.randrange(6)
        if kind == 0 and connection is not None:
            self.say("cut")
            self.figures["cuts"] += 1
            connection.cut = True
            for way in connection.ways:
                del way[random.randint(0, len(way)) :]
        elif kind == 1 and connection is not None and any(connection.ways):
            way = random.choice([way for way in connection.ways if way])
            way[random.randrange(len(way))] ^= 1 << random.randrange(8)
            self.figures["altered"] += 1
            connection.altered = True
        elif kind == 2 and not side.forgotten:
            side.reading = not side.reading
        elif kind == 3 and not side.forgotten and side.connection is None:
            side.stream.skip_meeting()
            side.signal(MeetSignal(side.stream.seed.stream, side.stream.number))
        elif kind == 4 and connection is not None:
            self.figures["left"] += 1
            side.lose()
        elif kind == 5 and self.resets and not side.forgotten and not side.stream.over:
            side.ended_by = True
            side.stream.reset(Reason.LIMIT)
            self.figures["resets"] += 1

    def join(self):
        """The rendezvous: two whose cookies are equal are joined."""
        one, other = self.sides
        for side in self.sides:
            if side.forgotten or side.stream.meeting is not None:
                return
        if (
            one.connection is None
            and other.connection is None
            and one.stream.cookie() == other.stream.cookie()
        ):
            connection = Connection()
            self.figures["meetings"] += 1
            for side in self.sides:
                side.joined(connection)

    def deliver(self, side):
        """Some of what is under way to a side."""
        connection = side.connection
        if connection is None:
            return
        way = connection.ways[1 - side.index]
        size = self.random.choice((1, 100, 256, 5000, 100_000))
        data = bytes(way[:size])
        del way[:size]
        if data:
            side.receive(memoryview(data))

    def chat(self, index):
        """Somebody writes a line, or one arrives: the ratchet turns."""
        me, peer = self.people[index], self.people[1 - index]
        if self.random.random() < 0.5:
            if self.mail[1 - index]:
                me.read(self.mail[1 - index].popleft(), self.now)
        elif len(self.mail[index]) < 4:
            self.mail[index].append(me.send(peer, b"line", self.now))

    def note_turns(self):
        for side in self.sides:
            now_on = side.stream.meeting
            if now_on is not None and now_on.established:
                self.turns_used.add((now_on.number, now_on.turn.number))

    # ---- the whole of it

    def run(self):
        nonces = Nonces()
        with small(nonces):
            self.begin()
            for _ in range(STEPS):
                self.step(self.bad)
            self.come_to_rest()
        self.figures["rekeyed"] = len(self.turns_used) - len({number for number, _ in self.turns_used})
        self.figures["bytes"] = sum(side.read for side in self.sides)
        return self.figures

    def come_to_rest(self):
        """Nothing goes wrong any more: both finish."""
        for side in self.sides:
            side.reading = True
        for _ in range(20_000):
            self.step(0.0)
            for side in self.sides:
                if side.stream.stalled(self.now):
                    self.figures["stalls"] += 1
                    side.lose()
            if all(side.forgotten for side in self.sides):
                break
        else:
            raise Fault(f"they do not finish: {[side.stream for side in self.sides]}")
        if any(side.ended_by for side in self.sides):
            return
        for side in self.sides:
            if not side.eof or side.read + side.unread != side.other.wants:
                raise Fault("finished without everything")
