"""The relay over real socket pairs: both directions, ends, breaks, a clogged reader."""

from __future__ import annotations

import asyncio
import hashlib
import random
import socket

import pytest
from proxy_live import LOOPS, Program, run, until

from ptproxy.errors import DialError, Reason
from ptproxy.tunnel import tcp
from ptproxy.tunnel.relay import StreamEnd, TcpEnd, couple


class Pair:
    """Two coupled TCP connections, and the programs at their other sides."""

    async def open(self) -> Pair:
        loop = asyncio.get_running_loop()
        self.ends = 0
        self.tcp, self.stream = TcpEnd(), StreamEnd()
        couple(self.tcp, self.stream, self._ended)
        self.left, self.right = [], []
        listening = socket.create_server(("127.0.0.1", 0))
        self.programs = []
        waiting = []
        for _ in range(2):
            program = socket.create_connection(listening.getsockname())
            program.setblocking(False)
            self.programs.append(Program(program))
            waiting.append(listening.accept()[0])
        listening.close()
        create = tcp._fast.create_connection if tcp._fast is not None else type(loop).create_connection
        # Reading starts before both are there, as for a bridge: what comes early waits in the kernel.
        holder = TcpEnd()
        holder.data_received = lambda data: pytest.fail("nothing was sent yet")
        local, _ = await create(loop, lambda: holder, sock=waiting[0])
        self.tcp.transport = local
        self.stream.data_received = local.write
        stream, _ = await create(loop, lambda: self.stream, sock=waiting[1])
        self.tcp.data_received = stream.write
        local.set_protocol(self.tcp)
        self.local, self.remote = local, stream
        return self

    def _ended(self) -> None:
        self.ends += 1

    def close(self) -> None:
        for program in self.programs:
            program.sock.close()


@pytest.mark.parametrize("kind", LOOPS)
def test_both_ways_and_both_ends(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        for first in (0, 1):
            pair = await Pair().open()
            one, other = pair.programs if first == 0 else pair.programs[::-1]
            for message in (b"x", b"y" * 64, bytes(70000)):
                await one.send(message)
                assert await other.read(len(message)) == message
                await other.send(message)
                assert await one.read(len(message)) == message
            await one.send(b"last")
            one.end()
            assert await other.read_all() == b"last"
            await other.send(b"still open")
            assert await one.read(10) == b"still open"
            assert pair.ends == 0
            other.end()
            assert await one.read_all() == b""
            await until(lambda pair=pair: pair.ends == 1)
            pair.close()

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_clogged_reader(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 48 << 20

    async def main() -> None:
        for writer in (0, 1):
            pair = await Pair().open()
            source, sink = pair.programs[writer], pair.programs[1 - writer]
            block = random.Random(7).randbytes(1 << 20)
            sent = 0

            async def pour(source=source, block=block) -> None:
                nonlocal sent
                for _ in range(size >> 20):
                    await source.send(block)
                    sent += len(block)
                source.end()

            task = asyncio.ensure_future(pour())
            before = -1
            while sent != before:  # it stops by itself once everything on the way is full
                before = sent
                await asyncio.sleep(0.2)
            assert sent < size
            assert pair.local.get_write_buffer_size() < 2 << 20
            assert pair.remote.get_write_buffer_size() < 2 << 20
            got, digest = 0, hashlib.sha256()
            while data := await asyncio.get_running_loop().sock_recv(sink.sock, 1 << 20):
                digest.update(data)
                got += len(data)
            await task
            assert got == size
            assert digest.digest() == hashlib.sha256(block * (size >> 20)).digest()
            sink.end()
            await until(lambda pair=pair: pair.ends == 1)
            pair.close()

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_reset_passes_on(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        for first in (0, 1):
            pair = await Pair().open()
            one, other = pair.programs if first == 0 else pair.programs[::-1]
            assert await one.send(b"x") is None
            assert await other.read(1) == b"x"
            one.reset()
            with pytest.raises(ConnectionResetError):
                await other.read(1)
            await until(lambda pair=pair: pair.ends == 1)
            pair.close()

    run(kind, monkeypatch, main)


class FakeStream(asyncio.Transport):
    """A tunnel's stream that notes what is done to it."""

    def __init__(self) -> None:
        super().__init__()
        self.did: list[object] = []
        self.closing = False

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data) -> None:
        self.did.append(bytes(data))

    def write_eof(self) -> None:
        self.did.append("eof")

    def pause_reading(self) -> None:
        self.did.append("pause")

    def resume_reading(self) -> None:
        self.did.append("resume")

    def close(self) -> None:
        self.closing = True
        self.did.append("close")

    def abort(self) -> None:
        self.closing = True
        self.did.append("abort")

    def reset(self, reason: Reason) -> None:
        self.closing = True
        self.did.append(reason)


def fakes():
    local, remote = TcpEnd(), StreamEnd()
    ended = []
    couple(local, remote, lambda: ended.append(True))
    for end in (local, remote):
        end.connection_made(FakeStream())
    local.data_received = remote.transport.write
    remote.data_received = local.transport.write
    return local, remote, ended


def test_local_reset_is_told_to_the_stream() -> None:
    local, remote, ended = fakes()
    local.connection_lost(ConnectionResetError())
    assert remote.transport.did == [Reason.CONNECTION_LOST]
    assert not ended
    remote.connection_lost(None)
    assert ended == [True]


def test_local_close_without_an_end_cancels_the_stream() -> None:
    local, remote, ended = fakes()
    local.eof_received()
    local.connection_lost(None)
    assert remote.transport.did == ["eof", Reason.CANCELLED]
    remote.connection_lost(None)
    assert ended == [True]


def test_stream_reset_resets_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    local, remote, ended = fakes()
    broken = []
    monkeypatch.setattr("ptproxy.tunnel.relay.send_reset", broken.append)
    remote.connection_lost(DialError(Reason.REFUSED))
    assert broken == [local.transport]
    local.connection_lost(None)
    assert ended == [True]


def test_flow_and_ends_reach_the_other_side() -> None:
    local, remote, ended = fakes()
    local.pause_writing()
    local.resume_writing()
    remote.pause_writing()
    remote.resume_writing()
    local.data_received(memoryview(b"up"))
    assert remote.eof_received() is True
    assert local.eof_received() is True
    assert remote.transport.did == ["pause", "resume", b"up", "close"]
    assert local.transport.did == ["pause", "resume", "eof", "close"]
    for end in (local, remote):
        end.pause_writing()
        end.resume_writing()
    assert remote.transport.did[-1] == local.transport.did[-1] == "close"
    local.connection_lost(None)
    remote.connection_lost(None)
    assert ended == [True]


def test_half_close_of_a_connection_that_is_reset_already() -> None:
    local, remote, ended = fakes()

    def refuse() -> None:
        raise OSError(107, "Transport endpoint is not connected")

    local.transport.write_eof = refuse
    assert remote.eof_received() is True
    assert local.transport.did == ["abort"]
    local.connection_lost(None)
    assert remote.transport.did == [Reason.CANCELLED]
    remote.connection_lost(None)
    assert ended == [True]
