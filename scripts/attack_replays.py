"""Every byte string of a recorded connection, said again: raw, and in a TLS connection of the attacker's.

Each read or write alone, every beginning and every end of them; and, as a censor may cut anywhere, beginnings
and ends at each of the first :data:`EVERY` bytes and at :data:`CUTS` places drawn from the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from typing import Any

from attack_crowds import SOURCES, Against, Held, connect, lax
from honest_load import HEAD, HOST

from ptproxy.auth.credentials import StaticKey
from ptproxy.config.link import Link
from ptproxy.target import Target
from ptproxy.tunnel.client_tls import PythonTls
from ptproxy.tunnel.connect import Route
from ptproxy.tunnel.dial import TunnelDialer
from ptproxy.tunnel.tls import ClientTrust

RNG = random.SystemRandom()
WORD = b"the recorded word"
EVERY = 256
"""Bytes of a recording after each of which it is cut."""
CUTS = 200
"""Further places at which it is cut."""


class Recorder:
    """A relay that keeps what the client says, read by read."""

    def __init__(self, it: Against) -> None:
        self._it = it
        self.said: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far, to = await asyncio.open_connection(self._it.line.host, self._it.line.port)

        async def pass_on(
            source: asyncio.StreamReader, sink: asyncio.StreamWriter, kept: list[bytes] | None
        ) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(65536):
                    if kept is not None:
                        kept.append(data)
                    sink.write(data)
                sink.close()

        await asyncio.gather(pass_on(reader, to, self.said), pass_on(far, writer, None))


async def record(it: Against, codec: str) -> tuple[list[bytes], list[bytes]]:
    """A client's connection with one stream: what it wrote before TLS, and what left as TLS."""
    recorder = Recorder(it)
    server = await asyncio.start_server(recorder, HOST, 0)
    port = server.sockets[0].getsockname()[1]
    line = Link(**{name: getattr(it.line, name) for name in it.line.__dataclass_fields__} | {"port": port})
    route = Route(line, StaticKey.generate(RNG), PythonTls(ClientTrust(pin=line.pin)), (codec,))
    dialer = TunnelDialer(asyncio.get_running_loop(), route, carriers=1)
    plain: list[bytes] = []
    from ptproxy.tunnel.carrier import Connection  # noqa: PLC0415  (watched here alone)

    flush = Connection.flush

    def watched(self: Connection) -> None:
        link = self.link
        if link is not None and self.transport is not None and not self.transport.is_closing():
            chunks = [bytes(chunk) for chunk in link.data_to_send()]
            plain.extend(chunks)
            self.transport.writelines(chunks)
            if link.closing:
                self.transport.close()

    Connection.flush = watched  # type: ignore[method-assign]
    try:
        await dialer.start()
        echoed = Held(Counter())
        await dialer.dial(Target.address(HOST, it.target), echoed, HEAD.pack(b"E", 0, 0) + WORD)
        assert await echoed.first == WORD
        await dialer.stop()
    finally:
        Connection.flush = flush  # type: ignore[method-assign]
        server.close()
    return plain, recorder.said


async def replays(it: Against) -> dict[str, Any]:
    """Nothing of a connection opens anything a second time, alone, in order, or after any beginning."""
    wrong: Counter[str] = Counter()
    told = []
    done = 0
    context = lax()

    async def say(pieces: list[bytes], tls: bool, what: str) -> None:
        nonlocal done
        done += 1
        with contextlib.suppress(OSError):
            held = await connect(it, SOURCES[done % 90], lambda: Held(Counter()), context if tls else None)
            for piece in pieces:
                held.transport.write(piece)
            with contextlib.suppress(TimeoutError):
                first = await asyncio.wait_for(held.first, 0.3)
                if first.startswith(b"HTTP/1.1 101") or WORD in first:
                    wrong[f"{what} was answered as a client's"] += 1
            held.transport.abort()

    for codec in ("websocket", "http", "random"):
        plain, raw = await record(it, codec)
        told.append(f"{codec}: {len(plain)} writes, {len(raw)} reads")
        for pieces, tls, what in ((plain, True, f"{codec} inside TLS"), (raw, False, f"{codec} raw")):
            tries = [[piece] for piece in pieces]
            tries += [pieces[:number] for number in range(2, len(pieces) + 1)]
            tries += [pieces[number:] for number in range(1, len(pieces))]
            whole = b"".join(pieces)
            cuts = {*range(1, EVERY), *RNG.sample(range(EVERY, len(whole)), min(CUTS, len(whole) - EVERY))}
            places = sorted(cuts)[:: max(1, len(cuts) // max(1, it.count // 6))]
            tries += [[part] for cut in places for part in (whole[:cut], whole[cut:])]
            for start in range(0, len(tries), 32):
                await asyncio.gather(*(say(one, tls, what) for one in tries[start : start + 32]))
    return {
        "done": done,
        "wrong": [f"{text} ({times} times)" for text, times in wrong.items()],
        "note": "; ".join(told),
    }


CASES = {"replays": replays}
