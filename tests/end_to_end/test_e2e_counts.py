"""Thousands of streams, and peers that read slowly or never: memory and descriptors come back.

Memory is what client and bridge have resident. After peers that do not read it is back where it was, but for
:data:`SLACK`. Of thousands of streams Python's own allocator keeps what a first round took (about 20 MiB), so
that round is the measure: an idle stream takes 8 KiB at each end, and streams that stay would add 32 MiB in
those after it. Descriptors come back exactly.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import socket
import socketserver
import struct
import sys
import threading

import pytest
from live import CODECS, HOST, MIB, PATIENCE, Bridge, Client, read_exactly, serving, through, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

IDLE = 2000
"""Streams open at once."""
ROUNDS = 3
OPENED = 10_000
"""Streams opened and closed, :data:`AT_ONCE` at a time, in all parts together."""
PART = 2500
AT_ONCE = 100
SLACK = 16 * MIB
"""Bytes by which resident memory may differ for the allocators' reasons."""
MOST_STREAMS = 4096
"""The limit that both ends are given, above :data:`IDLE`."""
BULK = 32 * MIB
"""Bytes that a source sends."""
STUCK = 8
"""Streams that nobody reads, at once."""
MOST_HELD = 64 * MIB
"""Most that :data:`STUCK` streams may make one end hold; they are offered 256 MiB."""


@pytest.fixture(scope="module", params=CODECS)
def pair(request, tmp_path_factory):
    """A bridge and a client of their own, so that nothing else is counted."""
    folder = tmp_path_factory.mktemp("pair")
    # Without a shape: carriers opened ahead, and left when they are old, are descriptors and memory, too.
    limits = {"limits__streams": MOST_STREAMS, "shape": "none"}
    with (
        Bridge(folder / "bridge", **limits) as bridge,
        Client(folder / request.param, bridge.link, request.param, **limits) as client,
    ):
        yield bridge, client


EACH = (1, 3)
"""Descriptors of a connection between the two at the bridge and at the client: curl, which makes a
browser's hello, has two more."""


class Marks:
    """What bridge and client hold at one moment."""

    def __init__(self, pair):
        self.programs = [role.program for role in pair]
        self.carriers_port = int(pair[0].address.split(":")[1])
        self.rss = self.rss_now()
        self.descriptors = self.descriptors_now()

    def rss_now(self):
        return [program.rss() for program in self.programs]

    def descriptors_now(self):
        """Of each, without the connections between the two: codecs and load decide how many those are."""
        between = held(self.carriers_port)
        return [
            program.descriptors() - each * count
            for program, each, count in zip(self.programs, EACH, between, strict=True)
        ]

    def grown(self):
        """Bytes by which the larger growth exceeds then."""
        return max(now - then for now, then in zip(self.rss_now(), self.rss, strict=True))

    def descriptors_are_back(self):
        """Wait until neither has more descriptors than then."""
        until(
            lambda: all(
                now <= then for now, then in zip(self.descriptors_now(), self.descriptors, strict=True)
            ),
            lambda: f"{self.descriptors_now()} descriptors go back to {self.descriptors}",
        )

    def memory_is_back(self):
        """Wait until neither has more memory than then."""
        print(f"memory {self.rss_now()}, before {self.rss}")
        until(lambda: self.grown() <= SLACK, lambda: f"memory {self.rss_now()} goes back to {self.rss}")


class EchoProtocol(asyncio.Protocol):
    """Everything comes back."""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class Programs:
    """Local programs and their target, thousands of each, in one event loop."""

    def __init__(self, port):
        self.port = port
        self.gate = asyncio.Semaphore(AT_ONCE)

    async def __aenter__(self):
        self.server = await asyncio.get_running_loop().create_server(EchoProtocol, HOST, 0, backlog=1024)
        self.target = target = self.server.sockets[0].getsockname()[1]
        self.request = b"\x05\x01\x00\x05\x01\x00\x01" + socket.inet_aton(HOST) + struct.pack(">H", target)
        return self

    async def __aexit__(self, *_):
        self.server.close()

    async def open(self, number):
        """A stream through the client that has carried a word each way; its writer."""
        async with self.gate:
            reader, writer = await asyncio.open_connection(HOST, self.port)
            writer.write(self.request[:3])
            assert await reader.readexactly(2) == b"\x05\x00"
            writer.write(self.request[3:])
            assert (await reader.readexactly(10))[1] == 0
            word = struct.pack(">Q", number) * 8
            writer.write(word)
            assert await reader.readexactly(len(word)) == word
            return writer

    async def marks(self, pair):
        """What is held without streams, after some: codecs open connections as they need them."""
        await asyncio.gather(*map(self.open_and_close, range(AT_ONCE)))
        await asyncio.to_thread(until, lambda: not connections(self.target), "the bridge leaves the target")
        await asyncio.to_thread(until, lambda: not connections(self.port), "the client's port is left")
        mark = Marks(pair)
        while True:  # a connection that is being made or closed has not all its descriptors
            await asyncio.sleep(1.0)
            before, mark = mark, Marks(pair)
            if mark.descriptors == before.descriptors:
                return mark

    async def open_and_close(self, number):
        writer = await self.open(number)
        writer.close()
        await writer.wait_closed()


def held(port):
    """Sockets that the one who listens on ``port`` holds, and those connected to it (proc_net_tcp).

    What is closed and not yet forgotten by the kernel has no inode, nor has what is not yet accepted.
    """
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table.readlines()[1:]]
    ends = f":{port:04X}"
    live = [row for row in rows if row[3] not in ("06", "0A") and row[9] != "0"]
    return [sum(row[1].endswith(ends) for row in live), sum(row[2].endswith(ends) for row in live)]


def connections(port):
    """Sockets of this machine that are connected to ``port`` of loopback (proc_net_tcp; 06: TIME_WAIT)."""
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table.readlines()[1:]]
    return sum(row[2].endswith(f":{port:04X}") and row[3] != "06" for row in rows)


def patiently(coroutine):
    async def bounded():
        async with asyncio.timeout(4 * PATIENCE):
            return await coroutine

    return asyncio.run(bounded())


class TestManyStreams:
    def test_idle_streams_leave_nothing_behind(self, pair):
        async def rounds():
            async with Programs(pair[1].port) as programs:
                before, first = await programs.marks(pair), None
                for _ in range(ROUNDS):
                    writers = await asyncio.gather(*map(programs.open, range(IDLE)))
                    open_now = before.descriptors_now()
                    for writer in writers:
                        writer.close()
                    await asyncio.gather(*(writer.wait_closed() for writer in writers))
                    assert min(open_now) > IDLE
                    await asyncio.to_thread(before.descriptors_are_back)
                    first = first or Marks(pair)
                await asyncio.to_thread(first.memory_is_back)

        patiently(rounds())

    def test_ten_thousand_short_streams_leave_nothing_behind(self, pair):
        async def rounds():
            async with Programs(pair[1].port) as programs:
                before, first = await programs.marks(pair), None
                for start in range(0, OPENED, PART):
                    numbers = range(start, start + PART)
                    await asyncio.gather(*map(programs.open_and_close, numbers))
                    await asyncio.to_thread(before.descriptors_are_back)
                    first = first or Marks(pair)
                await asyncio.to_thread(first.memory_is_back)

        patiently(rounds())


class Source(socketserver.BaseRequestHandler):
    """Sends :data:`BULK` bytes of a seed, whether they are read or not."""

    def handle(self):
        rng = random.Random(BULK)
        with contextlib.suppress(OSError):
            for _ in range(BULK // MIB):
                self.request.sendall(rng.randbytes(MIB))
            self.request.shutdown(socket.SHUT_WR)


class Sink(socketserver.BaseRequestHandler):
    """Never reads, and ends when it is told to."""

    over = threading.Event()

    def handle(self):
        self.over.wait(4 * PATIENCE)


def digest_of_source():
    rng = random.Random(BULK)
    digest = hashlib.sha256()
    for _ in range(BULK // MIB):
        digest.update(rng.randbytes(MIB))
    return digest.hexdigest()


def read_all(sock, between=None):
    """SHA-256 of all that comes; ``between`` is called after every MiB."""
    digest, size = hashlib.sha256(), 0
    while data := sock.recv(1 << 16):
        digest.update(data)
        if between is not None and size // MIB != (size + len(data)) // MIB:
            between()
        size += len(data)
    return digest.hexdigest()


class TestSlowPeers:
    def test_a_slow_reader_gets_every_byte_and_holds_up_nobody(self, pair, echo):
        port = pair[1].port
        with serving(Source) as source, through(port, source) as slow, through(port, echo) as other:
            turns = 0

            def talk():
                nonlocal turns
                for _ in range(20):
                    other.sendall(b"x" * 1000)
                    assert read_exactly(other, 1000) == b"x" * 1000
                turns += 1

            talk()  # before the first byte is read
            assert read_all(slow, talk) == digest_of_source()
            assert turns > BULK // MIB

    def test_those_who_never_read_hold_up_nobody_and_leave_nothing_behind(self, pair):
        port, wanted = pair[1].port, digest_of_source()
        with serving(Source) as source:
            with through(port, source) as sock:
                assert read_all(sock) == wanted
            before = Marks(pair)
            for _ in range(ROUNDS):
                with contextlib.ExitStack() as stack:
                    for _ in range(STUCK):
                        stack.enter_context(through(port, source))
                    with through(port, source) as sock:
                        assert read_all(sock) == wanted
                    assert before.grown() <= MOST_HELD
                until(lambda: not connections(source), "the bridge leaves the targets")
            before.memory_is_back()

    def test_targets_that_never_read_hold_up_nobody_and_leave_nothing_behind(self, pair, echo):
        port = pair[1].port
        block = bytes(MIB)
        with serving(Sink) as sink, through(port, echo) as other:
            before = Marks(pair)
            for _ in range(ROUNDS):
                Sink.over.clear()
                with contextlib.ExitStack() as stack:
                    for _ in range(STUCK):
                        sock = stack.enter_context(through(port, sink))
                        sock.setblocking(False)
                        with contextlib.suppress(BlockingIOError):
                            for _ in range(BULK // MIB):
                                sock.send(block)
                    for _ in range(200):
                        other.sendall(b"x" * 1000)
                        assert read_exactly(other, 1000) == b"x" * 1000
                    assert before.grown() <= MOST_HELD
                Sink.over.set()
                until(lambda: not connections(sink), "the bridge leaves the targets")
            before.memory_is_back()
