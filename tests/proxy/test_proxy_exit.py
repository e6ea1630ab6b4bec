"""A bridge's exit: dials, refusals, services, associations, and streams that are given up."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from proxy_live import LOOPS, echo, run, serving, until

from ptproxy.errors import DialError, Reason
from ptproxy.proxy.bridge_exit import BridgeExit
from ptproxy.proxy.egress import EgressDialer
from ptproxy.proxy.policy import EgressPolicy
from ptproxy.target import Target
from ptproxy.tunnel.tcp import send_reset


class FakeStream(asyncio.Transport):
    """The tunnel's stream as the exit sees it."""

    def __init__(self, protocol) -> None:
        super().__init__()
        self.protocol = protocol
        self.written = bytearray()
        self.reset_reason: Reason | None = None
        self.ended = self.closed = self.paused = False

    def set_protocol(self, protocol) -> None:
        self.protocol = protocol

    def write(self, data) -> None:
        self.written += data

    def write_eof(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def close(self) -> None:
        self._over(None)

    def abort(self) -> None:
        self.reset(Reason.CANCELLED)

    def reset(self, reason: Reason) -> None:
        self.reset_reason = reason
        self._over(None)

    def lose(self, reason: Reason) -> None:
        """The far side reset it."""
        self._over(DialError(reason))

    def _over(self, exc) -> None:
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, exc)


class FakeAssociation:
    def __init__(self, receiver) -> None:
        self.receiver = receiver
        self.sent: list[tuple[str, bytes]] = []
        self.closed = False

    def send_datagram(self, target: Target, data: bytes) -> None:
        self.sent.append((str(target), data))

    def close(self) -> None:
        self.closed = True


class FakeIncoming:
    """A stream that a client opened."""

    def __init__(self, target: Target, first_data: bytes = b"") -> None:
        self.target = target
        self.first_data = first_data
        self.peer = "anna"
        self.cancelled = False
        self.refused: Reason | None = None
        self.stream: FakeStream | None = None
        self.association: FakeAssociation | None = None
        self._callback = lambda: None

    def on_cancel(self, callback) -> None:
        self._callback = callback

    def cancel(self) -> None:
        self.cancelled = True
        self._callback()

    def accept(self, protocol) -> FakeStream:
        assert not self.cancelled
        assert self.stream is self.refused is None
        self.stream = FakeStream(protocol)
        protocol.connection_made(self.stream)
        if self.first_data:
            asyncio.get_running_loop().call_soon(lambda: protocol.data_received(self.first_data))
        return self.stream

    def accept_association(self, receiver) -> FakeAssociation:
        assert not self.cancelled
        self.association = FakeAssociation(receiver)
        return self.association

    def refuse(self, reason: Reason) -> None:
        assert self.stream is None
        if not self.cancelled:
            assert self.refused is None
            self.refused = reason


class Gate:
    """A dialer that waits until told."""

    def __init__(self) -> None:
        self.waiting = 0
        self.cancelled = 0
        self.fail: Exception | None = None

    async def dial(self, target, protocol, first_data=b""):
        if self.fail is not None:
            raise self.fail
        self.waiting += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def associate(self, receiver):
        return await self.dial(None, None)


def egress() -> EgressDialer:
    return EgressDialer(asyncio.get_running_loop(), EgressPolicy.parse(allow=["127.0.0.1", "::1"]))


@contextlib.asynccontextmanager
async def exiting(dialer, **options):
    loop = asyncio.get_running_loop()
    bridge_exit = BridgeExit(loop, dialer, **options)
    yield bridge_exit
    await bridge_exit.close()
    if isinstance(dialer, EgressDialer):
        await dialer.close()
    await until(lambda: bridge_exit.streams == 0)


@pytest.mark.parametrize("kind", LOOPS)
def test_a_stream_both_ways_and_its_ends(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with serving(echo) as (host, port), exiting(egress()) as bridge_exit:
            incoming = FakeIncoming(Target.address(host, port), b"first ")
            bridge_exit.stream_opened(incoming)
            assert bridge_exit.streams == 1
            await until(lambda: incoming.stream is not None)
            stream = incoming.stream
            stream.protocol.data_received(b"second")
            await until(
                lambda: bytes(stream.written) == b"first second" or bytes(stream.written) == b"secondfirst "
            )
            assert stream.protocol.eof_received()
            await until(lambda: stream.ended or stream.closed)
            await until(lambda: stream.closed and bridge_exit.streams == 0)
            assert stream.reset_reason is None

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_what_a_target_says_first_arrives(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello")
        writer.close()

    async def main() -> None:
        async with serving(greet) as (host, port), exiting(egress()) as bridge_exit:
            for _ in range(30):
                incoming = FakeIncoming(Target.address(host, port))
                bridge_exit.stream_opened(incoming)
                await until(lambda incoming=incoming: incoming.stream is not None and incoming.stream.ended)
                assert incoming.stream.written == b"220 hello"
                incoming.stream.protocol.eof_received()

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_resets_pass_both_ways(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        broken = []

        async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                if await reader.read(5) == b"break":
                    send_reset(writer.transport)
                else:
                    await reader.read()
            except ConnectionError as error:
                broken.append(error)

        async with serving(wait) as (host, port), exiting(egress()) as bridge_exit:
            one = FakeIncoming(Target.address(host, port), b"stays")
            bridge_exit.stream_opened(one)
            await until(lambda: one.stream is not None)
            one.stream.lose(Reason.CANCELLED)
            await until(lambda: len(broken) == 1)
            two = FakeIncoming(Target.address(host, port), b"break")
            bridge_exit.stream_opened(two)
            await until(lambda: two.stream is not None and two.stream.closed)
            assert two.stream.reset_reason is Reason.CONNECTION_LOST

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS[:2])
def test_refusals_tell_why(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with serving(echo) as (host, port):
            pass  # nobody listens there any more
        async with exiting(egress(), most_streams=3) as bridge_exit:
            expected = {
                Target.address(host, port): Reason.REFUSED,
                Target.address("10.0.0.1", 80): Reason.NOT_PERMITTED,
                Target.service("mailbox"): Reason.UNSUPPORTED,
            }
            for target, reason in expected.items():
                incoming = FakeIncoming(target)
                bridge_exit.stream_opened(incoming)
                await until(lambda incoming=incoming: incoming.refused is not None)
                assert incoming.refused is reason
                assert bridge_exit.streams == 0
        gate = Gate()
        async with exiting(gate, most_streams=1) as bridge_exit:
            first, second = FakeIncoming(Target.address("a.example", 1)), FakeIncoming(Target.datagrams())
            bridge_exit.stream_opened(first)
            bridge_exit.stream_opened(second)
            assert (first.refused, second.refused) == (None, Reason.LIMIT)
        assert first.refused is Reason.SHUTDOWN
        late = FakeIncoming(Target.address("a.example", 1))
        bridge_exit.stream_opened(late)
        assert late.refused is Reason.SHUTDOWN

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS[:2])
@pytest.mark.parametrize("target", [Target.address("a.example", 1), Target.datagrams()])
@pytest.mark.parametrize("turns", [0, 3])
def test_what_is_given_up_is_not_dialled_on(
    kind: str, target: Target, turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        gate = Gate()
        async with exiting(gate) as bridge_exit:
            incoming = FakeIncoming(target)
            bridge_exit.stream_opened(incoming)
            for _ in range(turns):
                await asyncio.sleep(0)
            incoming.cancel()
            await until(lambda: bridge_exit.streams == 0)
            assert gate.waiting == gate.cancelled == (1 if turns else 0)

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("target", [Target.address("a.example", 1), Target.datagrams()])
def test_silent_targets_of_one_client_leave_places_to_others(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        gate = Gate()
        async with exiting(gate, most_dials=8, most_associations=8) as bridge_exit:
            greedy = [FakeIncoming(target) for _ in range(20)]
            for incoming in greedy:
                bridge_exit.stream_opened(incoming)
            assert [each.refused for each in greedy] == [None] * 8 + [Reason.LIMIT] * 12
            others = [FakeIncoming(target) for _ in range(3)]
            for incoming in others:
                incoming.peer = "ben"
                bridge_exit.stream_opened(incoming)
            await until(lambda: gate.waiting == 8)
            assert [each.refused for each in greedy[:8]] == [None] * 5 + [Reason.LIMIT] * 3
            assert not any(each.refused for each in others)
            assert bridge_exit.streams == 8

    run("asyncio", monkeypatch, main)


def test_an_open_association_gives_its_place_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with exiting(egress(), most_associations=3) as bridge_exit:
            greedy = [FakeIncoming(Target.datagrams()) for _ in range(3)]
            for incoming in greedy:
                bridge_exit.stream_opened(incoming)
            await until(lambda: all(each.association is not None for each in greedy))
            other = FakeIncoming(Target.datagrams())
            other.peer = "ben"
            bridge_exit.stream_opened(other)
            await until(lambda: other.association is not None)
            assert [each.association.closed for each in greedy] == [False, False, True]
            assert bridge_exit.streams == 3
            for each in (*greedy[:2], other):
                each.association.receiver.association_lost(None)
            await until(lambda: bridge_exit.streams == 0)
            bridge_exit.stream_opened(again := FakeIncoming(Target.datagrams()))
            await until(lambda: again.association is not None)
            again.association.receiver.association_lost(None)

    run("asyncio", monkeypatch, main)


def test_a_bug_in_a_dialer_refuses_and_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        reported = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: reported.append(context["exception"])
        )
        gate = Gate()
        gate.fail = ZeroDivisionError()
        async with exiting(gate) as bridge_exit:
            incoming = FakeIncoming(Target.address("a.example", 1))
            bridge_exit.stream_opened(incoming)
            await until(lambda: incoming.refused is not None)
            assert incoming.refused is Reason.GENERAL
            assert reported == [gate.fail]

    run("asyncio", monkeypatch, main)


def test_services_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        got = []
        async with exiting(Gate(), services={"mailbox": got.append}) as bridge_exit:
            incoming = FakeIncoming(Target.service("mailbox"))
            bridge_exit.stream_opened(incoming)
            assert got == [incoming]
            assert bridge_exit.streams == 0

    run("asyncio", monkeypatch, main)


def test_services_by_their_reserved_host_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """For programs that only have the client's port; such a name is never dialled, known or not."""

    async def main() -> None:
        got = []
        gate = Gate()
        async with exiting(gate, services={"mailbox": got.append}) as bridge_exit:
            for host in ("mailbox.ptproxy.internal", "MAILBOX.ptproxy.Internal."):
                incoming = FakeIncoming(Target.address(host, 80))
                bridge_exit.stream_opened(incoming)
                assert got.pop() is incoming
            for host in ("ptproxy.internal", "other.ptproxy.internal", "a.mailbox.ptproxy.internal"):
                incoming = FakeIncoming(Target.address(host, 80))
                bridge_exit.stream_opened(incoming)
                assert incoming.refused is Reason.UNSUPPORTED
            assert not got
            assert bridge_exit.streams == 0

    run("asyncio", monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS[:2])
def test_datagrams_both_ways(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Upper(asyncio.DatagramProtocol):
        def connection_made(self, transport) -> None:
            self.transport = transport

        def datagram_received(self, data, addr) -> None:
            self.transport.sendto(data.upper(), addr)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(Upper, local_addr=("127.0.0.1", 0))
        target = Target.address("127.0.0.1", transport.get_extra_info("sockname")[1])
        dialer = egress()
        async with exiting(dialer) as bridge_exit:
            for far_side_ends in (True, False):
                incoming = FakeIncoming(Target.datagrams())
                bridge_exit.stream_opened(incoming)
                await until(lambda incoming=incoming: incoming.association is not None)
                association = incoming.association
                association.receiver.datagram_received(target, b"hello")
                await until(lambda association=association: association.sent == [(str(target), b"HELLO")])
                if far_side_ends:
                    association.receiver.association_lost(None)
                else:
                    for outside in list(dialer.associations):
                        outside.lose(DialError(Reason.TIMED_OUT))
                assert association.closed
                assert not dialer.associations
                assert bridge_exit.streams == 0
        transport.close()
        await asyncio.sleep(0)

    run(kind, monkeypatch, main)
