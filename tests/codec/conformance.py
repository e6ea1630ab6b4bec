"""What every codec must do, as functions that take a :class:`~ptproxy.codec.interface.CodecType`.

For the built-in codecs (``test_codec_conformance.py``) and for any outside one::

    from conformance import CHECKS, Trial

    @pytest.mark.parametrize("check", CHECKS)
    @pytest.mark.parametrize("seed", range(5))
    def test_mine(check, seed):
        check(Trial(MY_CODEC, seed))

:class:`World` stands for the network and the tunnel: it opens the connections a
client wants, hands bytes over in pieces of random sizes, closes what turns
``closing``, and lets time pass when nothing else happens. Nothing in it sleeps.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise

from ptproxy.codec.interface import (
    CarrierCodec,
    CarrierEnded,
    CarrierWritable,
    ClientCodec,
    CodecSettings,
    CodecType,
    Link,
    NotMine,
    OpeningReceived,
    PayloadReceived,
    Reception,
)
from ptproxy.errors import CodecError

TOKEN_KEY = bytes(range(32))
STEPS = 200_000
"""Steps after which a world that has not come to rest is called livelocked."""
PATIENCE = 3600.0
"""Seconds of the world's clock within which every clean close must be through."""


@dataclass
class Trial:
    """A codec, and the seed of everything random about trying it."""

    codec: CodecType
    seed: int = 0
    settings: CodecSettings = field(default_factory=lambda: CodecSettings("example.org", "/chat/7f3a"))

    def rng(self, purpose: str) -> random.Random:
        """An independent generator for one purpose."""
        return random.Random(f"{self.codec.name} {self.seed} {purpose}")


class Pipe:
    """One connection: two links and the bytes between them."""

    def __init__(self, client: Link, bridge: Link) -> None:
        self.ends = [client, bridge]
        self.flight = [bytearray(), bytearray()]  # on the way from each end
        self.record = [bytearray(), bytearray()]  # everything each end ever wrote
        self.shut = [False, False]  # this end has closed: nothing more is taken from it
        self.told = [False, False]  # this end has been told the end of input


class World:
    """A client's carrier and a bridge's listener, joined by pipes."""

    def __init__(self, trial: Trial, opening: bytes, *, cut: int | None = None) -> None:
        self.trial = trial
        self.rng = trial.rng("world")
        self.cut = cut  # greatest piece handed over at once; None: everything at once
        self.now = 1000.0
        self.client: ClientCodec = trial.codec.client(trial.settings, opening, trial.rng("client"))
        self.reception: Reception = trial.codec.reception(trial.settings, trial.rng("bridge"))
        self.bridge: CarrierCodec | None = None
        self.openings: list[bytes] = []
        self.pipes: list[Pipe] = []
        self.received: dict[int, bytearray] = defaultdict(bytearray)  # 0: at the client, 1: at the bridge
        self.ended: dict[int, list[str]] = defaultdict(list)
        self.strangers = 0  # connections that turned out not to be the codec's
        self.refuse = False
        self.authenticated = False

    # ---- what the tunnel does -------------------------------------------------------------------

    def happened(self, side: int, pipe: Pipe, events: list) -> None:
        for event in events:
            match event:
                case PayloadReceived():
                    assert event.carrier is (self.client, self.bridge)[side]
                    self.received[side] += event.data
                case CarrierEnded():
                    assert event.carrier is (self.client, self.bridge)[side]
                    self.ended[side].append(event.reason)
                case OpeningReceived():
                    assert side == 1
                    self.openings.append(event.opening)
                    if self.refuse:
                        event.refuse()
                        assert pipe.ends[1].receive_data(b"", self.now) == []
                        assert pipe.ends[1].data_to_send() == []
                    else:
                        assert self.bridge is None
                        self.bridge = event.accept(TOKEN_KEY, self.now)
                        self.happened(1, pipe, pipe.ends[1].receive_data(b"", self.now))
                case NotMine():
                    assert side == 1
                    self.strangers += 1
                case CarrierWritable():
                    assert event.carrier is (self.client, self.bridge)[side]
                    assert event.carrier.room() > 0

    def open_pipes(self) -> None:
        while self.client.links_wanted > sum(not pipe.shut[0] for pipe in self.pipes):
            self.pipes.append(Pipe(self.client.open_link(), self.reception.open_link()))

    def drain(self, pipe: Pipe, side: int) -> None:
        if pipe.shut[side]:
            return
        link = pipe.ends[side]
        for chunk in link.data_to_send():
            pipe.flight[side] += chunk
            pipe.record[side] += chunk
        pipe.shut[side] = link.closing

    def step(self) -> bool:
        """Something small; whether there was anything to do."""
        self.open_pipes()
        for pipe in self.pipes:
            self.drain(pipe, 0)
            self.drain(pipe, 1)
        ways = [(pipe, side) for pipe in self.pipes for side in (0, 1) if self.due(pipe, side)]
        if not ways:
            return False
        pipe, side = self.rng.choice(ways)
        link, other = pipe.ends[1 - side], 1 - side
        flight = pipe.flight[side]
        if flight:
            size = len(flight) if self.cut is None else self.rng.randrange(1, self.cut + 1)
            scratch = bytearray(flight[:size])
            del flight[:size]
            self.happened(other, pipe, link.receive_data(memoryview(scratch), self.now))
            scratch[:] = bytes(len(scratch))  # whoever kept a view of it reads zeros
        else:
            pipe.told[other] = True
            self.happened(other, pipe, link.receive_eof(self.now))
            pipe.shut[other] = True
        return True

    @staticmethod
    def due(pipe: Pipe, side: int) -> bool:
        """Whether the other end has something to be told of what this one did."""
        other = 1 - side
        if pipe.shut[other]:
            return False
        return bool(pipe.flight[side]) or (pipe.shut[side] and not pipe.told[other])

    def run(self) -> None:
        """Until nothing moves without time passing."""
        for _ in range(STEPS):
            if not self.step():
                return
        raise AssertionError("the world does not come to rest")

    def wait(self) -> bool:
        """Let the next deadline come; whether there was one."""
        sides = [self.client] if self.bridge is None else [self.client, self.bridge]
        deadlines = [(deadline, side) for side in sides if (deadline := side.deadline()) is not None]
        if not deadlines:
            return False
        self.now = max(self.now, min(deadline for deadline, _ in deadlines))
        for side, codec in enumerate(sides):
            deadline = codec.deadline()
            if deadline is not None and deadline <= self.now:
                self.happened(side, None, codec.on_deadline(self.now))  # type: ignore[arg-type]
        return True

    # ---- moves ------------------------------------------------------------------------------------

    def open(self) -> World:
        """Until both ends have a carrier, and the client has been told that message 2 verified."""
        self.run()
        assert self.bridge is not None, "the opening did not arrive"
        message2 = payload(self.trial, "message 2", 150)
        self.send(1, [message2])
        self.until(0, message2)
        if self.trial.settings.shape is not None and hasattr(self.bridge, "follow"):
            self.bridge.follow(self.trial.settings.shape)
        self.client.authenticated(TOKEN_KEY)
        self.run()
        self.received.clear()
        return self

    def until(self, side: int, data: bytes) -> None:
        """Until a side has received exactly this, waiting where the codec does."""
        give_up = self.now + PATIENCE
        self.run()
        while len(self.received[side]) < len(data) and not self.ended[side]:
            assert self.now < give_up, "payload does not arrive"
            assert self.wait(), "payload does not arrive"
            self.run()
        assert bytes(self.received[side]) == data

    def send(self, side: int, chunks: list[bytes]) -> None:
        """Send without looking at room(), as is allowed once."""
        codec = self.client if side == 0 else self.bridge
        assert codec is not None
        codec.send_data(chunks, self.now)

    def send_within_room(self, side: int, data: bytes) -> None:
        """Send all of it as room appears."""
        codec = self.client if side == 0 else self.bridge
        assert codec is not None
        view = memoryview(data)
        give_up = self.now + PATIENCE
        while view:
            room = codec.room()
            if room > 0:
                size = min(room, len(view), self.rng.choice((1, 64, 3000, 131072, 300_000)))
                half = self.rng.randrange(size + 1)
                codec.send_data([view[:half], view[half:size]], self.now)
                view = view[size:]
            if self.rng.random() < 0.5 or room <= 0:
                self.run()
            if codec.room() <= 0 and view:
                assert self.now < give_up
                assert self.wait(), "room never comes back"
                self.run()

    def settle(self) -> None:
        """Until every pipe is closed."""
        give_up = self.now + PATIENCE
        self.run()
        while not all(all(pipe.shut) for pipe in self.pipes):
            assert self.wait(), "connections stay open and nobody waits for anything"
            assert self.now < give_up, "connections stay open"
            self.run()


def payload(trial: Trial, purpose: str, size: int) -> bytes:
    """Random bytes."""
    return trial.rng(purpose).randbytes(size)


def opening_of(trial: Trial) -> bytes:
    """As long as ptproxy's own openings are, give or take."""
    rng = trial.rng("opening")
    return rng.randbytes(rng.randrange(160, 700))


# ---- the checks -----------------------------------------------------------------------------------


def check_name(trial: Trial) -> None:
    """A name that a configuration can hold."""
    assert re.fullmatch(r"[a-z][a-z0-9_-]{0,31}", trial.codec.name)


def check_opening_arrives(trial: Trial) -> None:
    """The opening arrives whole, once, however the bytes are split."""
    opening = opening_of(trial)
    for cut in (None, 1, 40):
        world = World(trial, opening, cut=cut)
        world.run()
        assert world.openings == [opening]
        assert not world.strangers


def check_both_ways(trial: Trial) -> None:
    """Payload arrives whole and in order both ways at once."""
    world = World(trial, opening_of(trial), cut=trial.rng("cut").choice((None, 100, 70_000))).open()
    up, down = payload(trial, "up", 30_000), payload(trial, "down", 50_000)
    for start in range(0, len(up), 10_000):
        world.send_within_room(0, up[start : start + 10_000])
        world.send_within_room(1, down[start : start + 10_000])
    world.send_within_room(1, down[30_000:])
    world.until(0, down)
    world.until(1, up)
    assert not world.ended[0]
    assert not world.ended[1]


def check_large(trial: Trial) -> None:
    """One call far above room() is queued; a megabyte passes."""
    world = World(trial, opening_of(trial)).open()
    big = payload(trial, "big", 1_000_003)
    for side in (0, 1):
        world.send(side, [big[:7], b"", big[7:400_000], big[400_000:]])
        world.until(1 - side, big)
        world.received.clear()
        world.send_within_room(side, big)
        world.until(1 - side, big)
        world.received.clear()


def check_small_steps(trial: Trial) -> None:
    """64-byte messages to and fro, byte by byte."""
    world = World(trial, opening_of(trial), cut=1).open()
    for turn in range(6):
        side = turn % 2
        message = payload(trial, f"turn {turn}", 64)
        world.send(side, [message])
        world.until(1 - side, message)
        world.received.clear()


def check_empty_sends(trial: Trial) -> None:
    """Sending nothing carries nothing."""
    world = World(trial, opening_of(trial)).open()
    for side in (0, 1):
        world.send(side, [])
        world.send(side, [b"", b""])
        world.run()
    assert not any(world.received.values())


def check_early_payload(trial: Trial) -> None:
    """What a client sends before the bridge has answered is not lost, and waits for nothing but room."""
    world = World(trial, opening_of(trial))
    early = payload(trial, "early", 5000)
    world.send(0, [early])
    world.run()
    assert world.bridge is not None
    world.send(1, [b"message 2"])
    world.until(0, b"message 2")
    world.client.authenticated(TOKEN_KEY)
    world.until(1, early)


def check_close(trial: Trial) -> None:
    """Either side's close reaches the other cleanly and every connection is closed."""
    for side in (0, 1):
        world = World(trial, opening_of(trial), cut=50).open()
        data = payload(trial, "last words", 3000)
        world.send_within_room(side, data)
        world.until(1 - side, data)
        codec = world.client if side == 0 else world.bridge
        assert codec is not None
        codec.close(world.now)
        world.settle()
        assert world.ended[1 - side] == [""], "the peer of a clean close sees a clean close"
        assert len(world.ended[side]) <= 1
        assert world.client.links_wanted == 0


def check_late_calls(trial: Trial) -> None:
    """After the end every call is harmless and returns nothing."""
    world = World(trial, opening_of(trial)).open()
    world.client.close(world.now)
    world.settle()
    assert world.bridge is not None
    for pipe in world.pipes:
        for link in pipe.ends:
            assert link.receive_data(b"late", world.now) == []
            assert link.receive_eof(world.now) == []
            assert link.data_to_send() == []
            assert link.closing
    for codec in (world.client, world.bridge):
        codec.send_data([b"late"], world.now)
        codec.close(world.now)
        codec.on_deadline(world.now + PATIENCE)
        assert not any(link.data_to_send() for link in codec.links_to_flush())


def check_broken_connections(trial: Trial) -> None:
    """When every connection breaks, both sides are told once, with a reason."""
    world = World(trial, opening_of(trial)).open()
    for pipe in world.pipes:
        for side in (0, 1):
            world.happened(side, pipe, pipe.ends[side].receive_eof(world.now))
            pipe.shut[side] = True
    give_up = world.now + PATIENCE
    while not (world.ended[0] and world.ended[1]) and world.now < give_up:
        if world.client.links_wanted > sum(not pipe.shut[0] for pipe in world.pipes):
            pipe = Pipe(world.client.open_link(), world.reception.open_link())
            pipe.shut = [True, True]
            world.pipes.append(pipe)
            world.happened(0, pipe, pipe.ends[0].receive_eof(world.now))
        elif not world.wait():
            break
    for side in (0, 1):
        assert len(world.ended[side]) == 1, "each side learns of it once"
        assert world.ended[side] != [""], "and not as a clean close"


def check_refusal(trial: Trial) -> None:
    """A refused opening leaves nothing of the codec on the connection."""
    for cut in (None, 1):
        world = World(trial, opening_of(trial), cut=cut)
        world.refuse = True
        world.run()
        assert len(world.openings) == 1
        (pipe,) = world.pipes
        assert not pipe.record[1]
        assert pipe.ends[1].receive_data(b"more", world.now) == []
        assert pipe.ends[1].receive_eof(world.now) == []
        assert not pipe.ends[1].closing


STRANGERS = (
    b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n",
    b"GET /chat/7f3a HTTP/1.1\r\nHost: example.org\r\n\r\n",
    b"POST /chat/7f3a HTTP/1.1\r\nHost: example.org\r\nContent-Length: 3\r\n\r\nabc",
    (
        b"GET /chat/7f3a HTTP/1.1\r\nHost: example.org\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00" + bytes(200),
    b"SSH-2.0-OpenSSH_9.2p1\r\n" + bytes(100),
    b"\x05\x01\x00" + bytes(100),
    b"EHLO example.org\r\nGET / HTTP/1.1\r\n\r\n",
    bytes(4096),
    b"\r\n\r\n" * 100,
    b"A" * 20000,
)


def stranger(trial: Trial, data: bytes, cuts: list[int]) -> str:
    """What a bridge makes of a connection that carries these bytes, then ends."""
    link = trial.codec.reception(trial.settings, trial.rng("bridge")).open_link()
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    events: list = []
    try:
        for start, end in pairwise(edges):
            events += link.receive_data(data[start:end], 0.0)
        outcome = "judged" if events else "waited"
        events += link.receive_eof(0.0)
    except CodecError:
        return "judged"
    for event in events:
        if type(event) is OpeningReceived:  # of a form that may be one; authentication knows better
            event.refuse()
            assert not link.data_to_send()
            return "judged"
    assert not link.data_to_send(), "a stranger hears nothing of the codec"
    assert [type(event) for event in events] == [NotMine]
    assert link.receive_data(b"more", 0.0) == []
    return outcome


def check_strangers(trial: Trial) -> None:
    """Whatever is not an opening is NotMine, answered with nothing, whatever the split."""
    rng = trial.rng("strangers")
    for data in (*STRANGERS, *(rng.randbytes(rng.randrange(1, 400)) for _ in range(50))):
        whole = stranger(trial, data, [])
        assert stranger(trial, data, [rng.randrange(10_000) for _ in range(rng.randrange(20))]) == whole
        if len(data) >= 40 and b"\n\r\n" not in data and not data.isascii():
            assert whole == "judged", "garbage is not waited for"


def check_other_path(trial: Trial) -> None:
    """An opening for another path is a stranger's."""
    world = World(trial, opening_of(trial))
    world.reception = trial.codec.reception(CodecSettings("example.org", "/another"), trial.rng("bridge"))
    world.run()
    assert not world.openings
    assert world.strangers == 1


def check_garbage(trial: Trial) -> None:
    """After the opening, garbage in place of either side's bytes raises only CodecError."""
    rng = trial.rng("garbage")
    for _ in range(30):
        world = World(trial, opening_of(trial)).open()
        side = rng.randrange(2)
        pipe = rng.choice(world.pipes)
        data = rng.randbytes(rng.randrange(1, 300))
        try:
            for start in range(0, len(data), 50):
                pipe.ends[side].receive_data(data[start : start + 50], world.now)
            pipe.ends[side].receive_eof(world.now)
        except CodecError:
            pass


def check_damage(trial: Trial) -> None:
    """One flipped bit raises nothing but CodecError, and never makes more payload than was sent."""
    rng = trial.rng("damage")
    for _ in range(20):
        world = World(trial, opening_of(trial), cut=60).open()
        data = payload(trial, "data", 2000)
        world.send(0, [data[:1000]])
        world.open_pipes()
        for pipe in world.pipes:
            world.drain(pipe, 0)
            if pipe.flight[0]:
                pipe.flight[0][rng.randrange(len(pipe.flight[0]))] ^= 1 << rng.randrange(8)
        world.send(0, [data[1000:]])
        try:
            world.run()
        except CodecError:
            pass
        assert len(world.received[1]) <= len(data) + 70_000


def check_split_independence(trial: Trial) -> None:
    """The same bytes fed in two ways give the same payload and the same bytes back."""
    opening = opening_of(trial)
    outcomes = set()
    for cut in (None, 1, 7, 1000):
        world = World(trial, opening, cut=cut).open()
        world.send(0, [payload(trial, "a", 300), payload(trial, "b", 900)])
        world.until(1, payload(trial, "a", 300) + payload(trial, "b", 900))
        outcomes.add(bytes(world.received[1]))
    assert len(outcomes) == 1


def check_differs_between_carriers(trial: Trial) -> None:
    """Two carriers with the same settings do not begin with the same bytes, opening aside."""
    firsts = set()
    for seed in range(8):
        other = Trial(trial.codec, trial.seed * 1000 + seed, trial.settings)
        world = World(other, bytes(range(200)))
        world.open_pipes()
        world.drain(world.pipes[0], 0)
        firsts.add(sha256(world.pipes[0].record[0]).digest())
    assert len(firsts) == 8


CHECKS = tuple(check for name, check in sorted(globals().items()) if name.startswith("check_"))
"""Every check above; each takes a :class:`Trial`."""


def check_no_constant_bytes(trial: Trial, carriers: int = 400, depth: int = 120) -> None:
    """For codecs that promise it: among many carriers no byte position favours a value, in either direction.

    The payload is random, as the tunnel's handshake and sealed records are. A
    value holds a position in 1/256 of the carriers; more than 5 % of 400 would
    come about by chance once in 10**12 positions.
    """
    seen: list[list[bytes]] = [[], []]
    for number in range(carriers):
        one = Trial(trial.codec, trial.seed * 100_000 + number, trial.settings)
        world = World(one, opening_of(one)).open()
        world.send(0, [payload(one, "up", 100)])
        world.run()
        for side in (0, 1):
            seen[side].append(bytes(world.pipes[0].record[side]))
    for records in seen:
        for position in range(depth):
            column = [record[position] for record in records if len(record) > position]
            if len(column) > carriers // 2:
                top = max(column.count(value) for value in set(column))
                assert top <= carriers * 0.05, f"byte {position} is too often the same"
