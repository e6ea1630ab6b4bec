"""Attacks by somebody whom the bridge has let in: floods of OPENs, windows, padding, and lies about bytes."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

from attack_crowds import Against, Held, connect, crowd, lax
from honest_load import HEAD, HOST

from ptproxy.auth.credentials import StaticKey
from ptproxy.codec.ws_frames import masked_frame
from ptproxy.session import frames
from ptproxy.target import Target
from ptproxy.tunnel.client import ClientTunnel
from ptproxy.tunnel.client_carrier import ClientCarrier
from ptproxy.tunnel.client_tls import PythonTls
from ptproxy.tunnel.connect import Route
from ptproxy.tunnel.tls import ClientTrust

RNG = random.SystemRandom()
WAITS = 256 << 10
"""Unsent bytes above which the attacker waits for its own socket."""
OPENS_EACH = 5
"""OPENs for each connection that other cases make."""
LANES = 4
"""Sessions at once that say OPEN."""
BOMB = 64 << 20
"""Bytes of each bomb."""
MOST = 2**64 - 1


class Hostile:
    """A carrier whose frames are the attacker's own; what the bridge answers is counted by type."""

    def __init__(self, tunnel: ClientTunnel, carrier: ClientCarrier) -> None:
        self.carrier = carrier
        self.heard: Counter[int] = Counter()
        self.data = 0
        self._tunnel = tunnel
        self._parser = frames.FrameParser()
        [self.connection] = carrier.connections.values()
        carrier.on_payload = self._received
        carrier.session = None

    def _received(self, _carrier: object, data: Any) -> None:
        for frame in self._parser.receive_data(bytes(data)):
            self.heard[frame[0]] += 1
            if frame[0] == frames.DATA:
                self.data += len(frame[3])

    @property
    def ended(self) -> bool:
        return self.carrier.ended or self.connection.ended or self.connection.transport.is_closing()

    async def say(self, said: Iterable[bytes], *, raw: bool = False) -> None:
        """Send these (past the codec when ``raw``), as far as the bridge takes them."""
        for each in said:
            if self.ended:
                return
            if raw:
                self.connection.transport.write(each)
            else:
                self.carrier.send([each])
            while not self.ended and self.connection.transport.get_write_buffer_size() > WAITS:
                await asyncio.sleep(0.005)

    async def rests(self, seconds: float) -> bool:
        """Wait until the bridge has ended the connection; whether it has."""
        end = time.monotonic() + seconds
        while not self.ended and time.monotonic() < end:
            await asyncio.sleep(0.01)
        return self.ended

    def drop(self) -> None:
        self._tunnel.close()
        self.carrier.abort_connections()


@contextlib.asynccontextmanager
async def let_in(it: Against, codec: str = "websocket") -> AsyncIterator[Hostile]:
    """A session of a new key."""
    route = Route(it.line, StaticKey.generate(RNG), PythonTls(ClientTrust(pin=it.line.pin)), (codec,))
    tunnel = ClientTunnel(route, asyncio.get_running_loop())
    hostile = Hostile(tunnel, await tunnel.connect(codec))
    try:
        yield hostile
    finally:
        hostile.drop()


def opening(it: Against, stream: int, kind: bytes = b"E", size: int = 0, port: int = 0) -> bytes:
    """An OPEN of a stream to the target, or another port of this machine."""
    first = HEAD.pack(kind, 0, size)
    to = Target.address(HOST, port or it.target).serialize()
    return frames.open_header(stream, 0, 0, 1 << 16, to, len(first)) + first


# ---- floods --------------------------------------------------------------------------------------


async def opens(it: Against) -> dict[str, Any]:
    """So many OPENs, none ended, as fast as the bridge reads; a session that ends is followed by another."""
    count = OPENS_EACH * it.count
    began, sent = time.monotonic(), 0
    told: Counter[str] = Counter()

    async def lane() -> None:
        nonlocal sent
        while sent < count and not it.over:
            async with let_in(it) as hostile:
                told["sessions"] += 1
                stream = 2
                while sent < count and not hostile.ended and not it.over:
                    burst = range(stream, stream + 200, 2)
                    stream, sent = stream + 200, sent + 100
                    await hostile.say([b"".join(opening(it, number) for number in burst)])
                    await asyncio.sleep(0)
                await hostile.rests(2.0)
                told["opened"] += hostile.heard[frames.OPENED]
                told["refused"] += hostile.heard[frames.RESET]
                told["ended"] += hostile.ended
                told["most"] = max(told["most"], hostile.heard[frames.OPENED])

    await asyncio.gather(*(lane() for _ in range(LANES)))
    took = time.monotonic() - began
    note = (
        f"in {took:.1f} s and {told['sessions']} sessions, {told['ended']} ended by the bridge; "
        f"{told['opened']} opened, {told['refused']} refused"
    )
    wrong = [f"{told['most']} streams opened at once"] if told["most"] > 1024 else []
    return {"done": sent, "wrong": wrong, "note": note}


async def silent_targets(it: Against) -> dict[str, Any]:
    """Streams to a target that answers no SYN, by several keys, as many as each may have and again."""
    told: Counter[str] = Counter()
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(_deaf())

        async def lane() -> None:
            while not it.over:
                async with let_in(it) as hostile:
                    stream = 2
                    while not hostile.ended and not it.over:
                        burst = range(stream, stream + 200, 2)
                        stream, told["sent"] = stream + 200, told["sent"] + 100
                        await hostile.say([b"".join(opening(it, number, port=port) for number in burst)])
                        await asyncio.sleep(0.1)
                    told["opened"] += hostile.heard[frames.OPENED]
                    told["refused"] += hostile.heard[frames.RESET]
                    told["sessions"] += 1

        await asyncio.gather(*(lane() for _ in range(LANES)))
    note = f"{told['sessions']} sessions, {told['refused']} refused"
    wrong = [f"{told['opened']} opened: the target is not silent"] if told["opened"] else []
    return {"done": told["sent"], "wrong": wrong, "note": note}


@contextlib.contextmanager
def _deaf() -> Iterator[int]:
    """A port whose queue of connections is full: further SYNs are not answered."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((HOST, 0))
        listener.listen(0)
        for _ in range(4):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


async def windows(it: Against) -> dict[str, Any]:
    """Endless credit for endless downloads that nobody reads or acknowledges, and floods of small frames."""
    told: list[str] = []
    wrong: list[str] = []
    async with let_in(it) as hostile:
        await hostile.say([opening(it, stream, b"D", 1 << 40) for stream in range(2, 66, 2)])
        await hostile.say([frames.window(stream, 0, MOST) for stream in range(2, 66, 2)])
        await asyncio.sleep(0.5)
        hostile.connection.transport.pause_reading()
        await asyncio.sleep(it.seconds / 4)
        told.append(f"{hostile.data >> 20} MiB taken with endless credit")
    floods = {
        "WINDOW": frames.window(2, 0, 1 << 20),
        "PING": frames.ping(frames.PING, 7),
        "BIND": frames.bind(frames.BIND, 2, 1, 0, 1 << 20),
        "RESUME": frames.resume([(2, 1, 0, 1 << 20)] * frames.MAX_RESUME),
        "RESET of none": frames.reset(1 << 20, 1),
    }
    for name, frame in floods.items():
        async with let_in(it) as hostile:
            await hostile.say([opening(it, 2)])
            hostile.connection.transport.pause_reading()
            block = frame * (max(1, 16384 // len(frame)))
            most = min(BOMB // 4, it.count * 1024)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(it.seconds / 4):
                    await hostile.say([block] * (most // len(block)))
            hostile.connection.transport.resume_reading()
            told.append(f"{name} {'ended' if await hostile.rests(1.0) else 'taken'}")
    return {"done": len(floods) + 1, "wrong": wrong, "note": ", ".join(told)}


async def heads(it: Against) -> dict[str, Any]:
    """Requests whose head has no end: one field, many fields, and a body of no end behind a right one."""
    context, seen = lax(), Counter[str]()
    path, name = it.line.path.encode(), it.line.server_name.encode()
    start = b"GET " + path + b" HTTP/1.1\r\nHost: " + name + b"\r\n"
    kinds = {
        "one field": (start + b"Cookie: ", b"a" * 16384),
        "many fields": (start, b"X-A: b\r\n" * 2048),
        "a long target": (b"GET " + path, b"/" * 16384),
        "chunks": (
            b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"1\r\na\r\n" * 2700,
        ),
        "no HTTP": (b"\x00\x01", b"\xff" * 16384),
    }
    taken: Counter[str] = Counter()
    numbers = iter(range(1 << 30))

    async def one(source: str) -> None:
        kind, (first, more) = list(kinds.items())[next(numbers) % len(kinds)]
        held = await connect(it, source, lambda: Held(seen), context)
        held.transport.write(first)
        for _ in range(64):  # 1 MiB
            if held.transport.is_closing() or held.first.done():
                break
            held.transport.write(more)
            taken[kind] += len(more)
            while held.transport.get_write_buffer_size() > WAITS and not held.transport.is_closing():
                await asyncio.sleep(0.005)
            await asyncio.sleep(0)
        held.transport.abort()

    done = await crowd(it, one)
    sizes = ", ".join(f"{kind} {size >> 20} MiB" for kind, size in taken.items())
    return {"done": done, "wrong": [], "note": sizes}


async def padding(it: Against) -> dict[str, Any]:
    """Records of nothing but padding, empty frames and PONGs: bytes that stand for none."""
    told = []
    size = min(BOMB, it.count << 14)
    for codec in ("random", "websocket"):
        async with let_in(it, codec) as hostile:
            began = time.monotonic()
            sent = 0
            noise = RNG.randbytes(32767)
            while sent < size and not hostile.ended and time.monotonic() - began < it.seconds / 2:
                if codec == "random":
                    words = hostile.carrier.codec._writer._words  # type: ignore[attr-defined]
                    record = struct.pack(">I", 32767 ^ next(words)) + noise
                else:
                    record = (
                        masked_frame(2, b"", b"\1\2\3\4") * 2000
                        + masked_frame(10, b"x" * 125, b"\1\2\3\4") * 100
                    )
                await hostile.say([record], raw=True)
                sent += len(record)
                await asyncio.sleep(0)
            # It is still a carrier, and of use.
            await hostile.say([opening(it, 2)])
            end = time.monotonic() + 5
            while not hostile.heard[frames.OPENED] and not hostile.ended and time.monotonic() < end:
                await asyncio.sleep(0.01)
            end_of_it = "then served" if hostile.heard[frames.OPENED] else "then not served"
            told.append(f"{codec} {sent >> 20} MiB, {end_of_it}")
    return {"done": len(told), "wrong": [], "note": ", ".join(told)}


# ---- lies ----------------------------------------------------------------------------------------


def lies(it: Against) -> dict[str, list[bytes]]:
    """What no client of ours says, by name; each is to cost the liar the session and nobody anything."""
    first = opening(it, 2)
    said = HEAD.size
    return {
        "DATA beyond the limit": [first, frames.data_header(2, 1 << 40, 4) + b"gone"],
        "DATA with a gap": [first, frames.data_header(2, said + 999, 4) + b"hole"],
        "DATA beyond EOF": [first, frames.eof(2, said), frames.data_header(2, said, 4) + b"late"],
        "two ends": [first, frames.eof(2, said), frames.eof(2, said + 1)],
        "EOF before what was said": [first, frames.eof(2, 1)],
        "EOF far beyond": [first, frames.eof(2, MOST)],
        "acknowledges what never was": [first, frames.window(2, 1 << 50, 1 << 60)],
        "acknowledges everything": [first, frames.window(2, MOST, MOST)],
        "a stream that never was": [frames.data_header(77 * 2, 0, 1) + b"x"],
        "a stream of the bridge's": [opening(it, 3)],
        "BIND of another's stream": [frames.bind(frames.BIND, 2, 5, 0, 1 << 20)],
        "BIND with an acknowledgement": [first, frames.bind(frames.BIND, 2, 5, 1 << 40, 1 << 41)],
        "ASK": [first, frames.ask(2, 0, 1 << 20)],
        "CLOSED of carriers that never were": [frames.closed(number) for number in range(9, 20_000, 2)],
        "GONE in mid-life": [first, frames.gone(2)],
        "a frame of no type": [b"\x7f\0\0\1\0\0\0\0x"],
        "a frame of 16 MiB": [b"\x01\xff\xff\xff\0\0\0\2" + bytes(8)],
        "OPEN of a target of nonsense": [frames.open_header(2, 0, 0, 1 << 16, b"\xff" * 512, 0)],
        "a proof that nobody asked for": [frames.opaque(frames.PROOF, b"x" * 1024)] * 100,
    }


MAY_STAY = {"OPEN of a target of nonsense", "a proof that nobody asked for", "DATA with a gap"}
"""What ends a stream or a carrier at most."""


async def lying(it: Against) -> dict[str, Any]:
    """Each lie in a session of its own, again and again."""
    outcome: Counter[str] = Counter()
    rounds = 0
    stayed: set[str] = set()
    while not rounds or (not it.over and rounds * 20 < it.count):
        rounds += 1
        for name, said in lies(it).items():
            if it.over and rounds > 1:
                break
            async with let_in(it) as hostile:
                await hostile.say(said)
                ended = await hostile.rests(3.0 if rounds == 1 else 0.5)
                outcome["ended" if ended else "stays"] += 1
                if not ended and rounds == 1:
                    stayed.add(name)
    wrong = [f"{name}: goes on" for name in sorted(stayed - MAY_STAY)]
    note = f"{outcome['ended']} ended, {outcome['stays']} went on ({', '.join(sorted(stayed)) or 'none'})"
    return {"done": outcome.total(), "wrong": wrong, "note": note}


CASES = {
    "opens": opens,
    "silent-targets": silent_targets,
    "windows": windows,
    "heads": heads,
    "padding": padding,
    "lies": lying,
}
