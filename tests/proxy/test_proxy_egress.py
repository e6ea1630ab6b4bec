"""The egress over real sockets on loopback: literals, names, races, refusals, datagrams."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import itertools
import socket

import pytest
from free_ports import free_port
from hypothesis import given
from hypothesis import strategies as st
from proxy_live import LOOPS, echo, run, serving, until

from ptproxy.errors import DialError, Reason
from ptproxy.proxy import egress, egress_udp
from ptproxy.proxy.egress import EgressDialer, interleave, most_telling
from ptproxy.proxy.policy import EgressPolicy
from ptproxy.proxy.resolve import Resolver
from ptproxy.target import Target
from ptproxy.tunnel.tcp import BufferedReads

LOOPBACK = ["127.0.0.0/8", "::1"]


class Program(BufferedReads):
    """A protocol that keeps what it is told."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.made = 0
        self.lost = False

    def connection_made(self, transport) -> None:
        self.transport = transport
        self.made += 1

    def data_received(self, data) -> None:
        self.data += data

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc) -> None:
        self.lost = True


class Receiver:
    """An association's receiver that keeps what it is told."""

    def __init__(self) -> None:
        self.got: list[tuple[str, bytes]] = []
        self.lost: list[object] = []

    def datagram_received(self, source: Target, data: bytes) -> None:
        self.got.append((str(source), data))

    def association_lost(self, exc) -> None:
        self.lost.append(exc.reason if exc else None)


def dialer(names: dict[str, list[str]] | None = None, **options) -> EgressDialer:
    loop = asyncio.get_running_loop()

    def lookup(name: str):
        if name not in (names or {}):
            raise socket.gaierror(socket.EAI_NONAME, "no")
        return [(socket.AF_INET6 if ":" in ip else socket.AF_INET, 1, 6, "", (ip, 0)) for ip in names[name]]

    options.setdefault("policy", EgressPolicy.parse(allow=LOOPBACK))
    policy = options.pop("policy")
    return EgressDialer(loop, policy, Resolver(loop, lookup=lookup), **options)


async def reason(coroutine) -> Reason:
    with pytest.raises(DialError) as caught:
        await coroutine
    return caught.value.reason


@contextlib.contextmanager
def clogged(host: str, port: int = 0):
    """A listener whose queue is full: connects to it get no answer."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((host, port))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


# ---- streams ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LOOPS)
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_literal_is_dialled_without_tasks_or_threads(
    kind: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with serving(echo, host) as (_, port):
            egress_dialer = dialer()
            monkeypatch.setattr(loop, "run_in_executor", None, raising=False) if kind != "uvloop" else None
            program = Program()
            stream = await egress_dialer.dial(Target.address(host, port), program, b"first ")
            assert program.made == 1
            stream.write(b"second")
            await until(lambda: program.data == b"first second")
            assert asyncio.all_tasks() - {asyncio.current_task()} == _servers_tasks()
            assert egress_dialer.dials == 0
            stream.close()
            await until(lambda: program.lost)
            await egress_dialer.close()

    def _servers_tasks():
        return {task for task in asyncio.all_tasks() if "connected" in repr(task.get_coro())}

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_names_and_both_families(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with serving(echo, "127.0.0.1") as (_, port4), serving(echo, "::1") as (_, port6):
            names = {"both.example": ["::1", "127.0.0.1"], "one.example": ["127.0.0.1"]}
            egress_dialer = dialer(names)
            for name, port in [("both.example", port4), ("both.example", port6), ("one.example", port4)]:
                program = Program()
                stream = await egress_dialer.dial(Target.address(name, port), program, name.encode())
                await until(lambda program=program, name=name: program.data == name.encode())
                assert program.made == 1
                stream.close()
                await until(lambda program=program: program.lost)
            assert (
                await reason(egress_dialer.dial(Target.address("both.example", free_port()), Program()))
                is Reason.REFUSED
            )
            assert (
                await reason(egress_dialer.dial(Target.address("no.example", 80), Program()))
                is Reason.NAME_NOT_FOUND
            )
            await egress_dialer.close()

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_what_the_target_says_at_once_arrives(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The winner of a race gets every byte, the connection's protocol being swapped under way."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello\r\n" * 1000)
        await reader.read()

    async def main() -> None:
        async with serving(talk, "127.0.0.1") as (_, port):
            egress_dialer = dialer({"a.example": ["::1", "127.0.0.1"]})
            for _ in range(20):
                program = Program()
                stream = await egress_dialer.dial(Target.address("a.example", port), program)
                await until(lambda program=program: len(program.data) == 11000)
                stream.close()
                await until(lambda program=program: program.lost)
            await egress_dialer.close()

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_an_address_that_does_not_answer_is_passed(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(egress, "ATTEMPT_DELAY", 0.02)
        async with serving(echo, "127.0.0.1") as (_, port):
            with clogged("127.0.0.2", port):
                egress_dialer = dialer({"a.example": ["127.0.0.2", "127.0.0.1"]})
                program = Program()
                stream = await egress_dialer.dial(Target.address("a.example", port), program)
                assert stream.get_extra_info("peername")[0] == "127.0.0.1"
                stream.close()
                await until(lambda: program.lost)
                await egress_dialer.close()

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_the_first_to_connect_is_handed_over_open(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """... however the attempts end in the turn in which it wins."""

    async def main() -> None:
        async with serving(echo, "127.0.0.1") as (_, port), serving(echo, "127.0.0.2", port):
            egress_dialer = dialer({"a.example": ["127.0.0.1", "127.0.0.2"]})
            for attempt in range(200):
                monkeypatch.setattr(egress, "ATTEMPT_DELAY", attempt % 20 * 3e-5)
                program = Program()
                stream = await egress_dialer.dial(Target.address("a.example", port), program)
                assert not stream.is_closing()
                stream.abort()
                await until(lambda program=program: program.lost)
            await egress_dialer.close()

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_a_refusal_does_not_wait(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(egress, "ATTEMPT_DELAY", 1000.0)
        async with serving(echo, "127.0.0.1") as (_, port):
            egress_dialer = dialer({"a.example": ["127.0.0.2", "127.0.0.3", "127.0.0.1"]}, timeout=1000.0)
            program = Program()
            stream = await egress_dialer.dial(Target.address("a.example", port), program)
            stream.close()
            await until(lambda: program.lost)
            await egress_dialer.close()

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_time_outs_and_cancels_leave_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        with clogged("127.0.0.2") as port:
            names = {"a.example": ["127.0.0.2", "127.0.0.2"], "b.example": ["127.0.0.3", "127.0.0.2"]}
            hasty = dialer(names, timeout=0.05)
            for target in ("127.0.0.2", "a.example"):
                program = Program()
                assert await reason(hasty.dial(Target.address(target, port), program)) is Reason.TIMED_OUT
                assert program.made == 0
            # 127.0.0.3 refuses, which says more than the other's silence.
            assert await reason(hasty.dial(Target.address("b.example", port), Program())) is Reason.REFUSED
            patient = dialer(names, timeout=1000.0)
            for target in ("127.0.0.2", "a.example", "b.example"):
                waiting = asyncio.ensure_future(patient.dial(Target.address(target, port), Program()))
                await until(lambda: patient.dials == 1)
                await asyncio.sleep(0.01)
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
                assert waiting.cancelled()
                assert patient.dials == 0

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS[:2])
def test_the_policy_judges_the_address_dialled(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        contacts = []

        async def note(reader, writer) -> None:
            contacts.append(writer)

        async with serving(note, "127.0.0.1") as (_, port):
            names = {
                "rebound.example": ["127.0.0.1"],
                "mixed.example": ["127.0.0.1", "10.0.0.1", "169.254.169.254"],
                "mapped.example": ["::ffff:127.0.0.1"],
                "six.example": ["2a00::1"],
            }
            strict = dialer(names, policy=EgressPolicy(), own_name="Bridge.Example.")
            for host in (
                "127.0.0.1",
                "::1",
                "::ffff:127.0.0.1",
                *list(names)[:3],
                "bridge.example",
                "10.1.1.1",
            ):
                assert (
                    await reason(strict.dial(Target.address(host, port), Program())) is Reason.NOT_PERMITTED
                ), host
            four = dialer(names, ipv6=False)
            for host in ("::1", "six.example"):
                assert (
                    await reason(four.dial(Target.address(host, port), Program()))
                    is Reason.NETWORK_UNREACHABLE
                )
            program = Program()
            stream = await four.dial(Target.address("::ffff:127.0.0.1", port), program)
            stream.abort()
            await until(lambda: program.lost and len(contacts) == 1)
            names["mailbox.ptproxy.internal"] = ["127.0.0.1"]  # never looked up, whatever a resolver says
            reserved = Target.address("mailbox.ptproxy.internal", port)
            assert await reason(four.dial(reserved, Program())) is Reason.UNSUPPORTED
            for target in (Target.service("mailbox"), Target.datagrams()):
                assert await reason(strict.dial(target, Program())) is Reason.UNSUPPORTED

    run(kind, monkeypatch, main)


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        with clogged("127.0.0.1") as port:
            narrow = dialer(most_dials=1, most_associations=1, timeout=1000.0)
            first = asyncio.ensure_future(narrow.dial(Target.address("127.0.0.1", port), Program()))
            await until(lambda: narrow.dials == 1)
            assert await reason(narrow.dial(Target.address("127.0.0.1", port), Program())) is Reason.LIMIT
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            receiver = Receiver()
            await narrow.associate(receiver)
            assert await reason(narrow.associate(Receiver())) is Reason.LIMIT
            await narrow.close()
            assert receiver.lost == [Reason.SHUTDOWN]

            def full(*args, **kwargs):
                raise OSError(errno.EMFILE, "too many open files")

            monkeypatch.setattr(socket, "socket", full)
            assert await reason(narrow.dial(Target.address("127.0.0.1", port), Program())) is Reason.LIMIT
            monkeypatch.undo()

    run("asyncio", monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_a_winner_whose_dial_is_given_up_is_closed(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelled between the connection and the dial's end: the connection does not outlive it."""

    async def main() -> None:
        async with serving(echo, "127.0.0.1") as (_, port):
            egress_dialer = dialer({"a.example": ["127.0.0.2", "127.0.0.1"]})
            program = Program()
            waiting = asyncio.ensure_future(egress_dialer.dial(Target.address("a.example", port), program))
            made = program.connection_made

            def cancel(transport) -> None:
                made(transport)
                waiting.cancel()

            program.connection_made = cancel
            await asyncio.gather(waiting, return_exceptions=True)
            assert waiting.cancelled()
            await until(lambda: program.lost)
            await egress_dialer.close()

    run(kind, monkeypatch, main)


def test_the_most_telling_reason() -> None:
    assert most_telling([Reason.NETWORK_UNREACHABLE, Reason.TIMED_OUT, Reason.REFUSED]) is Reason.REFUSED
    assert most_telling([Reason.NETWORK_UNREACHABLE, Reason.HOST_UNREACHABLE]) is Reason.HOST_UNREACHABLE
    assert most_telling([Reason.CONNECTION_LOST]) is Reason.CONNECTION_LOST
    assert most_telling([]) is Reason.GENERAL


IPS = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))


@given(st.lists(IPS, unique=True, max_size=12))
def test_families_take_turns(addresses: list[ipaddress.IPv4Address | ipaddress.IPv6Address]) -> None:
    result = interleave(addresses)
    assert sorted(map(str, result)) == sorted(map(str, addresses))
    for version in (4, 6):
        assert [ip for ip in result if ip.version == version] == [
            ip for ip in addresses if ip.version == version
        ]
    if addresses:
        assert result[0] == addresses[0]
    fewer = min(sum(ip.version == 4 for ip in addresses), sum(ip.version == 6 for ip in addresses))
    assert all(one.version != two.version for one, two in itertools.pairwise(result[: 2 * fewer]))


# ---- datagrams --------------------------------------------------------------------------------


class UdpEcho(asyncio.DatagramProtocol):
    def connection_made(self, transport) -> None:
        self.transport = transport
        self.heard: list[tuple[bytes, object]] = []

    def datagram_received(self, data: bytes, addr) -> None:
        self.heard.append((data, addr))
        self.transport.sendto(data.upper(), addr)


@contextlib.asynccontextmanager
async def udp_echo(host: str):
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        UdpEcho, local_addr=(host, 0)
    )
    try:
        yield protocol, transport.get_extra_info("sockname")[1]
    finally:
        transport.close()
        await asyncio.sleep(0)


@pytest.mark.parametrize("kind", LOOPS[:2])
def test_datagrams_of_both_families_and_names(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with udp_echo("127.0.0.1") as (_, port4), udp_echo("::1") as (_, port6):
            egress_dialer = dialer({"u.example": ["127.0.0.1"]})
            receiver = Receiver()
            association = await egress_dialer.associate(receiver)
            for host, port in (
                ("127.0.0.1", port4),
                ("::1", port6),
                ("u.example", port4),
                ("u.example", port4),
            ):
                association.send_datagram(Target.address(host, port), f"to {host}".encode())
            await until(lambda: len(receiver.got) == 4)
            assert sorted(receiver.got) == [
                (f"127.0.0.1:{port4}", b"TO 127.0.0.1"),
                (f"127.0.0.1:{port4}", b"TO U.EXAMPLE"),
                (f"127.0.0.1:{port4}", b"TO U.EXAMPLE"),
                (f"[::1]:{port6}", b"TO ::1"),
            ]
            association.send_datagram(Target.address("no.example", port4), b"lost")
            association.send_datagram(Target.address("127.0.0.1", port4), bytes(70000))
            association.send_datagram(Target.service("mailbox"), b"lost")
            association.close()
            association.close()
            association.send_datagram(Target.address("127.0.0.1", port4), b"late")
            assert not egress_dialer.associations
            await egress_dialer.close()
            assert receiver.lost == []

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS[:2])
def test_datagrams_are_judged_and_strangers_not_heard(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with udp_echo("127.0.0.1") as (allowed, port), udp_echo("127.0.0.2") as (denied, other):
            policy = EgressPolicy.parse(allow=["127.0.0.1", "127.0.0.3"])
            egress_dialer = dialer({"rebound.example": ["127.0.0.2"]}, policy=policy)
            receiver = Receiver()
            association = await egress_dialer.associate(receiver)
            for host in ("127.0.0.2", "rebound.example", "::ffff:127.0.0.2"):
                association.send_datagram(Target.address(host, other), b"never")
            association.send_datagram(Target.address("127.0.0.1", port), b"one")
            await until(lambda: len(receiver.got) == 1)
            # Somebody whom the client never sent to speaks first.
            denied.transport.sendto(b"unasked", ("127.0.0.1", allowed.heard[0][1][1]))
            association.send_datagram(Target.address("127.0.0.1", port), b"two")
            await until(lambda: len(receiver.got) == 2)
            assert [data for _, data in receiver.got] == [b"ONE", b"TWO"]
            assert denied.heard == []
            await egress_dialer.close()
            assert receiver.lost == [Reason.SHUTDOWN]

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS[:2])
def test_a_silent_association_ends(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(egress_udp, "MAX_PEERS", 2)
        loop = asyncio.get_running_loop()
        ended = []
        receiver = Receiver()

        async def nowhere(host: str, port: int):
            await asyncio.sleep(1000)

        association = egress_udp.EgressAssociation(
            loop, receiver, lambda ip, port: ip, nowhere, ended.append, idle=0.05
        )
        await association.open(ipv6=True)
        for number in range(1, 6):
            association.send_datagram(Target.address(f"127.0.0.{number}", 9), b"x")
        for number in range(40):
            association.send_datagram(Target.address("slow.example", 9), b"x" * number)
            association.send_datagram(Target.address(f"slow{number}.example", 9), b"x")
        await until(lambda: bool(receiver.lost))
        assert receiver.lost == [Reason.TIMED_OUT]
        assert ended == [association]

    run(kind, monkeypatch, main)
