"""The DNS port: questions over one stream, answers to whom they belong, nothing for garbage."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy_live import LOOPS, TableDialer, run, serving, until

from ptproxy.errors import Reason
from ptproxy.proxy import dns
from ptproxy.proxy.dns import DnsError, DnsPort, Query
from ptproxy.target import Target

RESOLVER = Target.address("192.0.2.53", 53)


def question(name: str = "example.org", number: int = 0x1234, *, size: int = 0) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    opt = b"\0\0\x29" + size.to_bytes(2, "big") + bytes(6) if size else b""
    counts = b"\0\1\0\0\0\0" + (b"\0\1" if size else b"\0\0")
    return number.to_bytes(2, "big") + b"\1\0" + counts + labels + b"\0\0\1\0\1" + opt


def reply(asked: bytes, size: int = 0) -> bytes:
    """An answer with ``size`` bytes of records."""
    end = dns.question_end(asked)
    return asked[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + asked[12:end] + bytes(size)


def udp() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    return sock


async def hear(sock: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(sock, lambda: ready.done() or ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(sock)
    return sock.recv(65536)


@contextlib.asynccontextmanager
async def dns_port(table):
    dialer = TableDialer(table)
    port = DnsPort(asyncio.get_running_loop(), dialer, RESOLVER)
    try:
        yield port, await port.listen("127.0.0.1", 0), dialer
    finally:
        await port.stop()
        assert not port.waiting


async def resolver(reader, writer) -> None:
    """Answers pairs of questions in the wrong order, names that begin with ``big`` at length."""
    while True:
        messages = []
        for _ in range(2):
            messages.append(await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big")))
        for message in reversed(messages):
            answer = reply(message, 1200 if b"big" in message else 16)
            writer.write(len(answer).to_bytes(2, "big") + answer)


@pytest.mark.parametrize("kind", LOOPS)
def test_answers_go_to_whom_they_belong(kind, monkeypatch) -> None:
    async def main() -> None:
        async with serving(resolver) as address, dns_port({str(RESOLVER): address}) as (_, here, dialer):
            with udp() as one, udp() as other:
                one.sendto(question("one.test", 7), here)  # the same id, different programs
                other.sendto(question("other.test", 7), here)
                assert await hear(one) == reply(question("one.test", 7), 16)
                assert await hear(other) == reply(question("other.test", 7), 16)
                one.sendto(question("big.test", 8), here)
                other.sendto(question("big.test", 9, size=1400), here)
                cut = await hear(one)
                assert cut[:4] == b"\0\x08\x83\x80"  # TC: it is to ask over TCP
                assert len(cut) == len(question("big.test"))
                assert await hear(other) == reply(question("big.test", 9), 1200)
            assert dialer.dialled == [str(RESOLVER)]  # one stream for all of them

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS[:2])
def test_a_resolver_that_is_not_reached_or_leaves(kind, monkeypatch) -> None:
    async def leaving(reader, writer) -> None:
        await reader.readexactly(2)

    async def main() -> None:
        async with dns_port({str(RESOLVER): Reason.REFUSED}) as (_, here, _dialer):
            with udp() as sock:
                sock.sendto(question(number=5), here)
                assert await hear(sock) == b"\0\5\x81\x82\0\1" + bytes(6) + question()[12:]
        async with serving(leaving) as address, dns_port({str(RESOLVER): address}) as (_, here, dialer):
            with udp() as sock:
                for number in (6, 7):
                    sock.sendto(question(number=number), here)
                    assert (await hear(sock))[:4] == bytes((0, number, 0x81, 0x82))
            assert len(dialer.dialled) == 2

    run(kind, monkeypatch, main)


def test_those_who_wait_are_bounded_and_a_stream_that_nobody_uses_ends(monkeypatch) -> None:
    monkeypatch.setattr(dns, "MAX_WAITING", 4)

    async def silent(reader, writer) -> None:
        await reader.read(1 << 20)
        await reader.read()

    async def main() -> None:
        async with serving(silent) as address, dns_port({str(RESOLVER): address}) as (port, here, dialer):
            with udp() as sock:
                for number in range(8):
                    sock.sendto(question(number=number), here)
                await until(lambda: len(port.waiting) == 4 and bool(dialer.streams))
                await until(lambda: port._stream is not None)
                for waiting in port.waiting.values():
                    waiting.since -= dns.PATIENCE
                port._asked_at -= dns.IDLE
                port._look()
                assert not port.waiting
                assert port._stream is None

    run("asyncio", monkeypatch, main)


def test_a_resolver_that_says_nothing_is_left_and_one_that_does_not_read_is_spared(monkeypatch) -> None:
    async def silent(reader, writer) -> None:
        await reader.read()

    async def main() -> None:
        async with serving(silent) as address, dns_port({str(RESOLVER): address}) as (port, here, dialer):
            with udp() as sock:
                sock.sendto(question(number=1), here)
                await until(lambda: port._stream is not None)
                port._stream.full = True
                sock.sendto(question(number=2), here)
                port.local_query(question(number=3), ("127.0.0.1", 9))
                assert len(port.waiting) == 1  # its buffer takes no more
                port._stream.full = False
                for waiting in port.waiting.values():
                    waiting.since -= dns.PATIENCE
                port._stream.heard -= dns.PATIENCE
                port._look()
                assert port._stream is None
                sock.sendto(question(number=4), here)
                await until(lambda: len(dialer.dialled) == 2)

    run("asyncio", monkeypatch, main)


@given(st.lists(st.binary(max_size=30), max_size=8), st.lists(st.integers(1, 40)))
def test_answers_are_cut_out_of_the_stream_however_it_is_split(messages, cuts) -> None:
    heard: list[bytes] = []

    class Port:
        answered = staticmethod(heard.append)

    async def main() -> None:
        stream = dns._Resolver(Port(), 0.0)
        data = b"".join(len(each).to_bytes(2, "big") + each for each in messages)
        for cut in cuts:
            stream.data_received(data[:cut])
            data = data[cut:]
        stream.data_received(data)

    asyncio.run(main())
    assert heard == messages


@given(st.binary(max_size=80))
def test_garbage_is_no_query(data: bytes) -> None:
    try:
        query = Query.parse(data)
    except DnsError:
        return
    assert query.question in data
    assert 512 <= query.room <= 4096


@given(st.binary(max_size=80), st.sampled_from([512, 600]))
def test_garbage_is_no_answer(data: bytes, size: int) -> None:
    query = Query.parse(question(size=size))
    for answer in (data, question()[:2] + b"\x81" + data, reply(question())[:12] + data):
        try:
            passed = query.answer(answer)
        except DnsError:
            continue
        assert passed[:2] == b"\x12\x34"
        assert len(passed) <= query.room


def test_an_answer_to_another_question_is_not_passed_on() -> None:
    query = Query.parse(question("example.org"))
    with pytest.raises(DnsError, match="another question"):
        query.answer(reply(question("example.net")))
    assert query.answer(reply(question("EXAMPLE.org")))  # case is nobody's business
