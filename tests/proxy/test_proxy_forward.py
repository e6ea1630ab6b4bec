"""Forwarded ports over real sockets: what the program believes to be the target is the target."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest
from proxy_live import LOOPS, Program, TableDialer, echo, local_proxy, run, serving, until

from ptproxy.errors import DialError, Reason
from ptproxy.proxy import forward
from ptproxy.proxy.forward import UdpForward
from ptproxy.target import Target

TARGET = Target.address("target.test", 22)


@pytest.mark.parametrize("kind", LOOPS)
def test_both_ways_with_half_close_and_a_server_that_speaks_first(kind, monkeypatch) -> None:
    data = bytes(range(256)) * 4000

    async def greet(reader, writer) -> None:
        writer.write(b"220 hello\r\n")
        await echo(reader, writer)

    async def main() -> None:
        async with serving(greet) as address, local_proxy(TableDialer({str(TARGET): address})) as (proxy, _):
            with await Program.connect(await proxy.forward("127.0.0.1", 0, TARGET)) as program:
                assert await program.read(11) == b"220 hello\r\n"
                sending = asyncio.ensure_future(program.send(data))
                assert await program.read(len(data)) == data
                await sending
                program.end()
                assert await program.read_all() == b""
            with await Program.connect(await proxy.forward("127.0.0.1", 0, TARGET)) as program:
                program.end()  # it has nothing to say, and wants to hear
                assert await program.read_all() == b"220 hello\r\n"
            await until(lambda: proxy.connections == 0)

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_what_is_sent_early_waits_and_a_program_that_leaves_takes_its_dial_along(kind, monkeypatch) -> None:
    async def main() -> None:
        gate = asyncio.Event()
        async with serving(echo) as address:
            dialer = TableDialer({str(TARGET): gate, f"{TARGET} then": address})
            async with local_proxy(dialer) as (proxy, _):
                local = await proxy.forward("127.0.0.1", 0, TARGET)
                with await Program.connect(local) as leaving:
                    await until(lambda: len(dialer.dialled) == 1)
                    leaving.reset()
                await until(lambda: dialer.cancelled == 1)
                with await Program.connect(local) as program:
                    await program.send(b"x" * 50_000)
                    await until(lambda: len(dialer.dialled) == 2)
                    gate.set()
                    assert await program.read(50_000) == b"x" * 50_000

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_a_target_that_is_not_reached_resets_the_program(kind, monkeypatch) -> None:
    async def main() -> None:
        async with local_proxy(TableDialer({str(TARGET): Reason.REFUSED})) as (proxy, _):
            local = await proxy.forward("127.0.0.1", 0, TARGET)
            with await Program.connect(local) as program, pytest.raises(ConnectionResetError):
                await program.read(1)
            await until(lambda: proxy.connections == 0)

    run(kind, monkeypatch, main)


@contextlib.asynccontextmanager
async def udp_forward(dialer):
    port = UdpForward(asyncio.get_running_loop(), dialer, TARGET)
    try:
        yield port, await port.listen("127.0.0.1", 0)
    finally:
        await port.stop()
        assert not port.senders


def udp() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    return sock


async def hear(sock: socket.socket) -> bytes:
    ready = asyncio.get_running_loop().create_future()
    loop = asyncio.get_running_loop()
    loop.add_reader(sock, lambda: ready.done() or ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(sock)
    return sock.recv(65536)


@pytest.mark.parametrize("kind", LOOPS[:2])
def test_datagrams_of_two_programs_stay_apart(kind, monkeypatch) -> None:
    async def main() -> None:
        dialer = TableDialer()
        async with udp_forward(dialer) as (_, address):
            with udp() as one, udp() as other:
                one.sendto(b"one", address)
                assert await hear(one) == b"one"
                other.sendto(b"other", address)
                assert await hear(other) == b"other"
                one.sendto(b"one again", address)
                assert await hear(one) == b"one again"
            assert [each.sent for each in dialer.associations] == [
                [(TARGET, b"one"), (TARGET, b"one again")], [(TARGET, b"other")],
            ]  # fmt: skip
        assert all(each.closed for each in dialer.associations)

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS[:2])
def test_associations_are_bounded_and_end_in_silence(kind, monkeypatch) -> None:
    monkeypatch.setattr(forward, "MAX_SENDERS", 3)

    async def main() -> None:
        dialer = TableDialer()
        async with udp_forward(dialer) as (port, address):
            with contextlib.ExitStack() as stack:
                for _ in range(5):
                    sock = stack.enter_context(udp())
                    sock.sendto(b"x", address)
                    assert await hear(sock) == b"x"
            assert len(port.senders) == 3
            assert [each.closed for each in dialer.associations] == [True, True, False, False, False]
            for sender in port.senders.values():
                sender.heard -= forward.IDLE
            port._look()
            assert not port.senders
            assert all(each.closed for each in dialer.associations)

    run(kind, monkeypatch, main)


def test_an_association_that_is_refused_or_lost_is_opened_again(monkeypatch) -> None:
    async def main() -> None:
        dialer = TableDialer()
        refused = asyncio.Event()

        async def refuse(receiver) -> None:
            refused.set()
            raise DialError(Reason.LIMIT)

        real, dialer.associate = dialer.associate, refuse
        async with udp_forward(dialer) as (port, address):
            with udp() as sock:
                sock.sendto(b"lost", address)
                await refused.wait()
                await until(lambda: not port.senders)
                dialer.associate = real
                sock.sendto(b"here", address)
                assert await hear(sock) == b"here"
                dialer.associations[0].receiver.association_lost(DialError(Reason.SHUTDOWN))
                assert not port.senders
                sock.sendto(b"again", address)
                assert await hear(sock) == b"again"

    run("asyncio", monkeypatch, main)
