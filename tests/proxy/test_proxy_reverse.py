"""Services behind clients: the frames, and what either side does when the other does not keep to them."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy_live import LOOPS, Program, TableDialer, echo, run, serving, until
from test_proxy_exit import FakeIncoming

from ptproxy.auth.access import AccessList
from ptproxy.auth.access_record import Identity
from ptproxy.config.model import ReverseConfig
from ptproxy.config.reverses import Reverse
from ptproxy.errors import DialError, Reason, StartError
from ptproxy.proxy import reverse_client, reverse_offer, reverse_service
from ptproxy.proxy.bridge_exit import BridgeExit
from ptproxy.proxy.reverse_client import Offers
from ptproxy.proxy.reverse_frames import (
    FROM_BRIDGE,
    FROM_CLIENT,
    SERVICE,
    Alive,
    Arrived,
    FrameReader,
    Offer,
    Offered,
    Reach,
    Refused,
    ReverseError,
    Take,
    Why,
)
from ptproxy.proxy.reverse_service import ReverseService
from ptproxy.proxy.succession import Parts, Succession, _go_on_here
from ptproxy.target import Target
from ptproxy.tunnel.relay import StreamEnd

HOST = "127.0.0.78"
"""Nothing else listens on this address of loopback."""
PORT = 2222
TICKET = b"t" * 16

# ---- the wire -----------------------------------------------------------------------------------

frames = st.one_of(
    st.integers(1, 65535).map(Offer),
    st.binary(min_size=16, max_size=16).map(Take),
    st.binary(min_size=16, max_size=16).map(Arrived),
    st.sampled_from(Reach).map(Offered),
    st.sampled_from(Why).map(Refused),
    st.just(Alive()),
)


def read_all(reader):
    found = []
    while (frame := reader.next_frame()) is not None:
        found.append(frame)
    return found


@given(sent=st.lists(frames, max_size=5), cut=st.integers(0, 100))
def test_frames_come_back_however_they_are_cut(sent, cut):
    data = b"".join(frame.serialize() for frame in sent)
    reader = FrameReader(FROM_CLIENT | FROM_BRIDGE)
    found = []
    for part in (data[:cut], data[cut:]):
        reader.receive_data(part)
        found += read_all(reader)
    assert found == sent
    assert [type(frame) for frame in found] == [type(frame) for frame in sent]
    assert reader.take_rest() == b""


@given(st.binary(max_size=60), st.sampled_from([FROM_CLIENT, FROM_BRIDGE]))
def test_garbage_raises_only_what_is_documented(data, kinds):
    reader = FrameReader(kinds)
    reader.receive_data(data)
    try:
        read_all(reader)
    except ReverseError:
        pass


@pytest.mark.parametrize(
    "data",
    [b"\x01\x03\x02\0\x16", b"\x01\x03\x01\0\0", b"\x01\x02\x01\0", b"\x02\x01x", b"\x03\x01x", b"\x02\xff"],
)
def test_wrong_frames(data):
    reader = FrameReader(FROM_CLIENT)
    reader.receive_data(data)
    with pytest.raises(ReverseError):
        reader.next_frame()


@pytest.mark.parametrize("text", ["2222", "2222 ->", "0 -> 22", "70000 -> 22", "-1 -> 22", "2222 -> x", 22])
def test_wrong_reverses(text):
    with pytest.raises(ValueError, match=r"\S"):
        Reverse.parse(text)


def test_reverses():
    assert str(Reverse.parse("2222->22")) == "2222 -> 127.0.0.1:22"
    assert str(Reverse.parse("80 -> [::1]:8080")) == "80 -> [::1]:8080"
    assert Reverse.parse(str(Reverse.of("80", "nas.lan:445"))) == Reverse.of("80", "nas.lan:445")


# ---- the bridge's side ----------------------------------------------------------------------------


class FakeAccounts:
    """An access list in memory: anna may offer at one port."""

    def __init__(self) -> None:
        self.list = AccessList()
        self.on_change = []
        for name, ports in (("anna", (PORT,)), ("ben", (PORT,)), ("carl", ())):
            self.list.enrol(Identity(name.encode().ljust(32), name, 0, reverse=ports))

    def change(self, name, ports) -> None:
        identity = next(each for each in self.list.identities.values() if each.name == name)
        self.list.permit_reverse(identity, ports)
        for callback in self.on_change:
            callback()


class Bridge:
    """The service with an access list."""

    def __init__(self, **config) -> None:
        self.accounts = FakeAccounts()
        self.service = ReverseService(ReverseConfig(offer=True, listen=HOST, **config), self.accounts)

    async def __aenter__(self):
        await self.service.start(None)
        return self

    async def __aexit__(self, *_):
        await self.service.close()

    def opened(self, first=b"", account="anna", target=None):
        """A client's stream that says ``first``."""
        incoming = FakeIncoming(target or Target.service(SERVICE))
        incoming.peer = account
        self.service(incoming)
        if first and incoming.stream is not None:
            incoming.stream.protocol.data_received(first)
        return incoming

    async def offered(self, account="anna"):
        """A stream that holds an offer; there is one listening socket behind it."""
        incoming = self.opened(Offer(PORT).serialize(), account)
        stream = incoming.stream
        await until(lambda: stream.written or stream.closed)
        return stream


OFFERED = Offered(Reach.OWN_MACHINE).serialize()


def refused(why):
    return Refused(why).serialize()


def test_who_is_let_in(monkeypatch):
    async def main():
        async with Bridge() as bridge:
            assert bridge.opened(account="carl").refused is Reason.NOT_PERMITTED
            assert bridge.opened(account="nobody").refused is Reason.NOT_PERMITTED
            # By name, any program at the client's proxy could come in, a web page among them.
            named = Target.address("reverse.ptproxy.internal", 80)
            assert bridge.opened(target=named).refused is Reason.NOT_PERMITTED
            other = bridge.opened(Offer(PORT + 1).serialize()).stream
            assert bytes(other.written) == refused(Why.NOT_PERMITTED)
            anna = await bridge.offered()
            assert bytes(anna.written) == OFFERED
            ben = bridge.opened(Offer(PORT).serialize(), "ben").stream
            assert bytes(ben.written) == refused(Why.TAKEN)
            for wrong in (b"GET / HTTP/1.1\r\n", Alive().serialize()):
                assert bridge.opened(wrong).stream.reset_reason is Reason.GENERAL
            assert bridge.opened(Take(TICKET).serialize()).stream.reset_reason is Reason.CONNECTION_LOST
            anna.protocol.data_received(Alive().serialize())
            assert not anna.closed
            anna.protocol.data_received(Offer(PORT).serialize())
            assert anna.reset_reason is Reason.GENERAL

    run(LOOPS[0], monkeypatch, main)


def test_undecided_streams_are_few_and_do_not_stay(monkeypatch):
    monkeypatch.setattr(reverse_service, "UNDECIDED_OF_ONE", 3)
    monkeypatch.setattr(reverse_service, "FIRST_WORD", 0.05)

    async def main():
        async with Bridge() as bridge:
            silent = [bridge.opened().stream for _ in range(3)]
            assert bridge.opened().refused is Reason.LIMIT
            assert bridge.opened(account="ben").refused is None
            await until(lambda: all(each.reset_reason is Reason.TIMED_OUT for each in silent))
            await until(lambda: bridge.opened().refused is None)

    run(LOOPS[0], monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_a_connection_waits_until_it_is_taken(kind, monkeypatch):
    async def main():
        async with Bridge() as bridge:
            control = await bridge.offered()
            with await Program.connect((HOST, PORT)) as program:
                await program.send(b"early")
                await until(lambda: len(control.written) == len(OFFERED) + 18)
                ticket = bytes(control.written[-16:])
                stranger = bridge.opened(Take(ticket).serialize(), "ben").stream
                assert stranger.reset_reason is Reason.CONNECTION_LOST
                stream = bridge.opened(Take(ticket).serialize() + b"220 hello").stream
                assert await program.read(9) == b"220 hello"
                await until(lambda: stream.written == b"early")
                assert not stream.paused
                again = bridge.opened(Take(ticket).serialize()).stream
                assert again.reset_reason is Reason.CONNECTION_LOST
                program.end()
                await until(lambda: stream.ended)
                stream.protocol.data_received(b"bye")
                stream.protocol.eof_received()
                assert await program.read_all() == b"bye"
            assert not bridge.service.offers[PORT].waiting

    run(kind, monkeypatch, main)


def test_a_client_that_is_gone_comes_back_and_is_told_who_waits(monkeypatch):
    async def main():
        async with Bridge() as bridge:
            first = await bridge.offered()
            first.lose(Reason.CONNECTION_LOST)
            await until(lambda: bridge.service.offers[PORT].owner is None)
            with await Program.connect((HOST, PORT)) as program:
                await until(lambda: bool(bridge.service.offers[PORT].waiting))
                second = await bridge.offered()
                ticket = bytes(second.written[-16:])
                assert bytes(second.written) == OFFERED + Arrived(ticket).serialize()
                third = await bridge.offered()  # another one with the same key
                assert bytes(second.written).endswith(refused(Why.REPLACED))
                assert bytes(third.written) == OFFERED + Arrived(ticket).serialize()
                bridge.opened(Take(ticket).serialize() + b"hello")
                assert await program.read(5) == b"hello"

    run(LOOPS[0], monkeypatch, main)


def test_a_client_that_does_not_read_has_nothing_kept_for_it(monkeypatch):
    async def main():
        async with Bridge() as bridge:
            control = await bridge.offered()
            waiting = bridge.service.offers[PORT].waiting
            control.protocol.pause_writing()
            for _ in range(3):
                program = await Program.connect((HOST, PORT))
                await until(lambda: bool(waiting))
                program.reset()
                await until(lambda: not waiting)
            with await Program.connect((HOST, PORT)):
                await until(lambda: bool(waiting))
                assert control.written == OFFERED
                control.protocol.resume_writing()
                assert control.written == OFFERED + Arrived(next(iter(waiting))).serialize()

    run(LOOPS[0], monkeypatch, main)


def test_who_does_not_come_back_loses_the_port(monkeypatch):
    monkeypatch.setattr(reverse_offer, "KEPT", 0.05)
    monkeypatch.setattr(reverse_offer, "TAKEN_WITHIN", 0.05)

    async def main():
        async with Bridge() as bridge:
            control = await bridge.offered()
            with await Program.connect((HOST, PORT)) as program, pytest.raises(ConnectionResetError):
                await program.read(1)  # nobody takes it
            control.lose(Reason.CONNECTION_LOST)
            await until(lambda: not bridge.service.offers)
            await until(lambda: not bridge.service._tasks)
            with pytest.raises(ConnectionRefusedError):
                await Program.connect((HOST, PORT))

    run(LOOPS[0], monkeypatch, main)


def test_a_silent_client_counts_as_gone(monkeypatch):
    monkeypatch.setattr(reverse_service, "SILENT", 0.05)

    async def main():
        async with Bridge() as bridge:
            control = await bridge.offered()
            await until(lambda: control.reset_reason is Reason.TIMED_OUT)
            assert bridge.service.offers[PORT].owner is None

    run(LOOPS[0], monkeypatch, main)


def test_a_permission_that_is_taken_back_ends_everything(monkeypatch):
    async def main():
        async with Bridge(connections=1) as bridge:
            control = await bridge.offered()
            with await Program.connect((HOST, PORT)) as program:
                await until(lambda: len(control.written) > len(OFFERED))
                stream = bridge.opened(Take(bytes(control.written[-16:])).serialize()).stream
                with await Program.connect((HOST, PORT)) as second, pytest.raises(ConnectionResetError):
                    await second.read(1)  # one connection is all that this bridge has for a service
                bridge.accounts.change("anna", ())
                assert bytes(control.written).endswith(refused(Why.NOT_PERMITTED))
                with pytest.raises(ConnectionResetError):
                    await program.read(1)
                await until(lambda: stream.closed)
            assert not bridge.service.offers

    run(LOOPS[0], monkeypatch, main)


def test_a_bridge_that_is_not_replaced_after_all_goes_on_with_it(monkeypatch):
    class Standing:
        def go_on(self) -> None:
            pass

    async def main():
        accounts = FakeAccounts()
        config = SimpleNamespace(reverse=ReverseConfig(offer=True, listen=HOST))
        exit_ = BridgeExit(asyncio.get_running_loop(), TableDialer())
        parts = Parts(config, None, accounts, *(None,) * 4, exit_, *(None,) * 4)
        await parts.start_services(())
        for service in parts.services:  # as it is done before anything is given to a new process
            service.end_streams()
        await parts.close_services()
        await _go_on_here(parts, Standing(), Succession([], tuple))
        incoming = FakeIncoming(Target.service(SERVICE))
        exit_.stream_opened(incoming)
        assert incoming.refused is None
        incoming.stream.protocol.data_received(Offer(PORT).serialize())
        await until(lambda: incoming.stream.written == OFFERED)
        await parts.close_services()

    run(LOOPS[0], monkeypatch, main)


# ---- the client's side ------------------------------------------------------------------------------


class FakeBridge:
    """A dialer whose service "reverse" is in the test's hands."""

    def __init__(self, *answers) -> None:
        self.answers = list(answers)
        self.said: list[bytes] = []
        self.streams: list[object] = []

    async def dial(self, target, protocol, first_data=b""):
        assert target == Target.service(SERVICE)
        answer = self.answers.pop(0) if self.answers else OFFERED
        if isinstance(answer, Reason):
            raise DialError(answer)
        incoming = FakeIncoming(target)
        stream = incoming.accept(protocol)
        self.said.append(first_data)
        self.streams.append(stream)
        if first_data[0] == Offer.KIND:
            asyncio.get_running_loop().call_soon(protocol.data_received, answer)
        return stream


def offers_of(bridge, address):
    reverse = Reverse.of(str(PORT), f"{address[0]}:{address[1]}")
    return Offers(asyncio.get_running_loop(), bridge, [reverse])


@pytest.mark.parametrize("kind", LOOPS)
def test_a_client_takes_who_connects_to_its_service(kind, monkeypatch):
    async def main():
        bridge = FakeBridge()
        async with serving(echo) as address:
            offers = offers_of(bridge, address)
            offers.start()
            await offers.answered()
            assert bridge.said == [Offer(PORT).serialize()]
            bridge.streams[0].protocol.data_received(Arrived(TICKET).serialize())
            await until(lambda: len(bridge.streams) == 2)
            stream = bridge.streams[1]
            assert bridge.said[1] == Take(TICKET).serialize()
            await until(lambda: isinstance(stream.protocol, StreamEnd))  # the service is reached
            assert not stream.paused
            stream.protocol.data_received(b"hello")
            await until(lambda: stream.written == b"hello")
            stream.lose(Reason.CONNECTION_LOST)
            await until(lambda: offers.exit.streams == 0)
            await offers.stop()
            await until(lambda: bridge.streams[0].closed)

    run(kind, monkeypatch, main)


def test_a_service_that_is_not_there_and_a_visitor_that_leaves(monkeypatch):
    async def main():
        bridge = FakeBridge()
        offers = offers_of(bridge, ("127.0.0.1", 1))
        near = offers.exit._dialer = TableDialer({"127.0.0.1:1": Reason.REFUSED})
        offers.start()
        await offers.answered()
        control = bridge.streams[0].protocol
        control.data_received(Arrived(TICKET).serialize())
        await until(lambda: len(bridge.streams) == 2 and bridge.streams[1].reset_reason is Reason.REFUSED)
        near.table = {"127.0.0.1:1": asyncio.Event()}  # it does not answer
        control.data_received(Arrived(TICKET).serialize())
        await until(lambda: len(near.dialled) == 2)
        bridge.streams[2].lose(Reason.CONNECTION_LOST)
        await until(lambda: offers.exit.streams == 0)
        assert near.cancelled == 1
        assert bridge.streams[2].reset_reason is None
        await offers.stop()

    run(LOOPS[0], monkeypatch, main)


@pytest.mark.parametrize(
    "answer", [Reason.NOT_PERMITTED, Reason.UNSUPPORTED, refused(Why.NOT_PERMITTED), refused(Why.TAKEN)]
)
def test_what_is_refused_is_said(answer, monkeypatch):
    async def main():
        bridge = FakeBridge(answer)
        offers = offers_of(bridge, ("127.0.0.1", 1))
        offers.start()
        with pytest.raises(StartError, match=f"port {PORT}: "):
            await offers.answered()
        await offers.stop()

    run(LOOPS[0], monkeypatch, main)


def test_an_offer_that_is_lost_is_made_again(monkeypatch):
    monkeypatch.setattr(reverse_client, "AGAIN", 0.01)
    monkeypatch.setattr(reverse_client, "ALIVE", (0.01, 0.02))

    async def main():
        bridge = FakeBridge(Reason.TUNNEL_DOWN, OFFERED, b"garbage", refused(Why.TAKEN), OFFERED * 2)
        offers = offers_of(bridge, ("127.0.0.1", 1))
        offers.start()
        await offers.answered()
        bridge.streams[0].lose(Reason.SESSION_LOST)
        await until(lambda: len(bridge.streams) == 5)
        assert bridge.streams[1].reset_reason is Reason.CANCELLED  # for the garbage
        assert bridge.streams[3].reset_reason is Reason.CANCELLED  # offered twice
        await until(lambda: Alive().serialize() in bytes(bridge.streams[4].written))
        await offers.stop()
        assert set(bridge.said) == {Offer(PORT).serialize()}

    run(LOOPS[0], monkeypatch, main)


def test_a_bridge_cannot_have_a_client_do_endlessly_much(monkeypatch):
    monkeypatch.setattr(reverse_client, "MAX_TAKEN", 4)

    async def main():
        bridge = FakeBridge()
        offers = offers_of(bridge, ("127.0.0.1", 1))
        offers.start()
        await offers.answered()
        bridge.streams[0].protocol.data_received(Arrived(TICKET).serialize() * 100)
        assert len(offers.tasks) == 4
        await offers.stop()

    run(LOOPS[0], monkeypatch, main)
