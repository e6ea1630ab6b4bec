"""The rendezvous: two who meet, one who waits in vain, and who must not be joined."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers_live import PipeDialer, run, until

from ptproxy.config.model import RendezvousConfig
from ptproxy.errors import DialError, Reason
from ptproxy.peers import rendezvous, rendezvous_service
from ptproxy.peers.rendezvous import OPENING, PREFACE, RendezvousError, Side, meet, opening, parse_opening
from ptproxy.peers.rendezvous_service import RendezvousService
from ptproxy.target import Target

COOKIE = bytes(range(32))


class Peer(asyncio.Protocol):
    def __init__(self):
        self.received = bytearray()
        self.eof = False
        self.made = 0
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        self.made += 1

    def data_received(self, data):
        self.received += data

    def eof_received(self):
        self.eof = True
        return True

    def connection_lost(self, exc):
        self.lost.set_result(exc)


def service_of(**config):
    return RendezvousService(RendezvousConfig(offer=True, **config))


def going(service, side, cookie=COOKIE, account=None):
    """A peer and its meeting, under way."""
    peer = Peer()
    dialer = PipeDialer(account or side.name, service)
    return peer, asyncio.ensure_future(meet(dialer, cookie, side, peer))


async def a_pair(service, cookie=COOKIE):
    first, one = going(service, Side.FIRST, cookie)
    second, other = going(service, Side.SECOND, cookie)
    await asyncio.gather(one, other)
    return first, second


async def reason_of(meeting):
    with pytest.raises(DialError) as lost:
        await meeting
    return lost.value.reason


# ---- the wire -----------------------------------------------------------------------------------


@given(
    cookie=st.binary(min_size=32, max_size=32), side=st.sampled_from(Side), cut=st.integers(0, OPENING - 1)
)
def test_an_opening_comes_back(cookie, side, cut):
    data = opening(cookie, side)
    assert parse_opening(data) == (cookie, side)
    assert parse_opening(data + b"more") == (cookie, side)
    assert parse_opening(data[:cut]) is None


@given(data=st.binary(max_size=80))
def test_garbage_raises_only_what_is_documented(data):
    for start in (b"", PREFACE):
        try:
            parse_opening(start + data)
        except RendezvousError:
            pass


@pytest.mark.parametrize("side", [0, 3, 255])
def test_there_are_two_sides(side):
    with pytest.raises(RendezvousError):
        parse_opening(PREFACE + COOKIE + bytes((side,)))


def test_the_other_side():
    assert Side.FIRST.other is Side.SECOND
    assert Side.SECOND.other is Side.FIRST


# ---- who meets whom -----------------------------------------------------------------------------


@pytest.mark.parametrize("earlier", list(Side))
def test_two_meet_in_whatever_order_they_come(earlier):
    async def main():
        service = service_of()
        first, one = going(service, earlier)
        for _ in range(20):
            await asyncio.sleep(0)
        assert not one.done()
        second, other = going(service, earlier.other)
        await asyncio.gather(one, other)
        assert (first.made, second.made, service.pairs) == (1, 1, 1)
        first.transport.write(b"hello")
        second.transport.write(b"you")
        await until(lambda: first.received == b"you" and second.received == b"hello")
        first.transport.write_eof()
        await until(lambda: second.eof)
        assert not first.eof
        second.transport.write(b" too")
        second.transport.write_eof()
        await until(lambda: first.lost.done() and second.lost.done())
        assert first.received == b"you too"
        assert first.lost.result() is second.lost.result() is None
        assert service.pairs == 0
        assert not len(service._streams)
        assert not service._cookies
        assert not service._paired

    run(main)


def test_much_passes_with_back_pressure():
    async def main():
        service = service_of()
        first, second = await a_pair(service)
        data = random.Random(1).randbytes(2_000_000)
        second.transport.pause_reading()
        for start in range(0, 1_000_000, 20_000):
            first.transport.write(data[start : start + 20_000])
        for _ in range(50):
            await asyncio.sleep(0)
        assert first.transport.behind
        assert second.transport.waiting < 100_000
        second.transport.resume_reading()
        first.transport.write(data[1_000_000:])
        await until(lambda: len(second.received) == len(data))
        assert second.received == data

    run(main)


@pytest.mark.parametrize("first", [True, False], ids=["who waits", "who comes"])
def test_what_is_said_behind_the_opening_arrives(first):
    async def main():
        service = service_of()
        eager = Peer()
        dialer = PipeDialer("a", service)
        say = opening(COOKIE, Side.FIRST) + b"early"
        if first:
            await dialer.dial(Target.service("rendezvous"), eager, say)
        second, other = going(service, Side.SECOND)
        await until(lambda: len(service._cookies) == 1 or other.done())
        if not first:
            await dialer.dial(Target.service("rendezvous"), eager, say)
        await other
        await until(lambda: second.received == b"early")
        assert eager.received == b"\x01"

    run(main)


def test_who_says_too_much_at_once_waits_for_who_does_not_read():
    """More than a window behind the opening: the joined streams begin with back pressure."""

    class Slow(Peer):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.pause_reading()

    async def main():
        service = service_of()
        slow, eager = Slow(), Peer()
        dialers = PipeDialer("a", service), PipeDialer("b", service)
        pieces = iter([1])
        dialers[0].rng.choice = lambda sizes: next(
            pieces, sizes[-1]
        )  # the word that both are there by itself
        dialers[1].rng.choice = lambda sizes: sizes[-1]
        meeting = asyncio.ensure_future(meet(dialers[0], COOKIE, Side.SECOND, slow))
        await until(lambda: service._cookies)
        pieces = iter([1])
        said = opening(COOKIE, Side.FIRST) + bytes(200_000)
        stream = await dialers[1].dial(Target.service("rendezvous"), eager, said)
        await meeting
        for _ in range(40):
            stream.write(bytes(20_000))
            await asyncio.sleep(0)
        assert stream.other.paused
        assert slow.transport.waiting < 300_000
        slow.transport.resume_reading()
        await until(lambda: len(slow.received) == 1_000_000)

    run(main)


def test_a_break_breaks_both():
    async def main():
        service = service_of()
        first, second = await a_pair(service)
        first.transport.abort()
        assert (await second.lost).reason in (Reason.CANCELLED, Reason.CONNECTION_LOST)
        await until(lambda: service.pairs == 0)

    run(main)


def test_a_cookie_is_used_once():
    async def main():
        service = service_of(wait="20ms")
        await a_pair(service)
        _, one = going(service, Side.FIRST)
        assert await reason_of(one) is Reason.TIMED_OUT
        assert service.pairs == 1

    run(main)


def test_different_cookies_do_not_meet():
    async def main():
        service = service_of(wait="20ms")
        meetings = [going(service, Side.FIRST, bytes(32))[1], going(service, Side.SECOND, COOKIE)[1]]
        assert [await reason_of(meeting) for meeting in meetings] == [Reason.TIMED_OUT] * 2
        assert not service._cookies

    run(main)


def test_nobody_is_joined_with_themselves():
    """Who dials again because its first stream died does not talk to that one."""

    async def main():
        service = service_of()
        _, earlier = going(service, Side.FIRST)
        for _ in range(20):
            await asyncio.sleep(0)
        first, later = going(service, Side.FIRST)
        assert await reason_of(earlier) is Reason.CANCELLED
        second, other = going(service, Side.SECOND)
        await asyncio.gather(later, other)
        second.transport.write(b"to the newer")
        await until(lambda: first.received == b"to the newer")

    run(main)


def test_who_has_just_gone_is_not_joined():
    """Its stream is lost, and it is told so only on the loop's next turn."""

    async def main():
        service = service_of()
        _, one = going(service, Side.FIRST)
        for _ in range(20):
            await asyncio.sleep(0)
        [waiting] = service._streams
        second = Peer()
        dialer = PipeDialer("b", service)
        stream = await dialer.dial(Target.service("rendezvous"), second, opening(COOKIE, Side.SECOND)[:-1])
        await until(lambda: not stream.other.arrived)
        waiting.transport.lose(None)
        stream.other.protocol.data_received(b"\2")  # within the same turn
        assert service.pairs == 0
        assert service._cookies[COOKIE].side is Side.SECOND
        one.cancel()
        await asyncio.gather(one, return_exceptions=True)
        stream.abort()

    run(main)


def test_cancelling_gives_the_place_up():
    async def main():
        service = service_of()
        _, one = going(service, Side.FIRST)
        await until(lambda: service._cookies)
        one.cancel()
        await asyncio.gather(one, return_exceptions=True)
        await until(lambda: not len(service._streams))
        assert not service._cookies

    run(main)


# ---- bounds -------------------------------------------------------------------------------------


def test_one_account_waits_so_often(monkeypatch):
    monkeypatch.setattr(rendezvous_service, "WAITING_OF_ONE", 2)

    async def main():
        service = service_of()
        waiting = [going(service, Side.FIRST, bytes((n,)) * 32, "mallory")[1] for n in range(2)]
        await until(lambda: len(service._cookies) == 2)
        assert await reason_of(going(service, Side.FIRST, COOKIE, "mallory")[1]) is Reason.LIMIT
        await a_pair(service)
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    run(main)


def test_so_many_wait_and_so_many_pairs():
    async def main():
        service = RendezvousService(RendezvousConfig(offer=True, pairs=1), most_waiting=2)
        waiting = [going(service, Side.FIRST, bytes((n,)) * 32, "mallory")[1] for n in range(2)]
        await until(lambda: len(service._cookies) == 2)
        assert await reason_of(going(service, Side.FIRST, COOKIE, "mallory")[1]) is Reason.LIMIT
        waiting.append(going(service, Side.FIRST, COOKIE, "alice")[1])
        assert await reason_of(waiting[0]) is Reason.LIMIT  # the oldest of who has the most
        assert await reason_of(going(service, Side.FIRST, COOKIE, "bob")[1]) is Reason.LIMIT
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await until(lambda: not len(service._streams))
        first, _ = await a_pair(service)
        meetings = going(service, Side.FIRST)[1], going(service, Side.SECOND)[1]
        assert [await reason_of(meeting) for meeting in meetings] == [Reason.LIMIT] * 2
        first.transport.abort()
        await until(lambda: service.pairs == 0)
        await a_pair(service)

    run(main)


def test_one_account_has_so_many_pairs(monkeypatch):
    monkeypatch.setattr(rendezvous_service, "PAIRS_OF_ONE", 1)

    async def main():
        service = service_of()
        first, _ = await a_pair(service)
        meetings = going(service, Side.FIRST)[1], going(service, Side.SECOND, account="other")[1]
        assert [await reason_of(meeting) for meeting in meetings] == [Reason.LIMIT] * 2
        first.transport.abort()
        await until(lambda: service.pairs == 0)
        await a_pair(service)

    run(main)


@pytest.mark.parametrize("say", [b"GET / HTTP/1.1\r\n\r\n", PREFACE + COOKIE + b"\3", b"\x16\x03\x01"])
def test_what_is_no_opening_is_reset(say):
    async def main():
        service = service_of()
        raw = Peer()
        await PipeDialer("m", service).dial(Target.service("rendezvous"), raw, say)
        assert (await raw.lost).reason is Reason.GENERAL
        assert not len(service._streams)

    run(main)


@pytest.mark.parametrize(
    "say", [b"", PREFACE, opening(COOKIE, Side.FIRST)], ids=["nothing", "preface", "all"]
)
def test_who_waits_too_long_is_sent_away(say):
    async def main():
        service = service_of(wait="20ms")
        raw = Peer()
        await PipeDialer("m", service).dial(Target.service("rendezvous"), raw, say)
        assert (await raw.lost).reason is Reason.TIMED_OUT
        assert not len(service._streams)
        assert not service._cookies

    run(main)


def test_a_clean_end_while_waiting_gives_the_place_up():
    async def main():
        service = service_of()
        raw = Peer()
        await PipeDialer("m", service).dial(Target.service("rendezvous"), raw, PREFACE)
        raw.transport.close()
        await raw.lost
        assert not len(service._streams)

    run(main)


def test_stopping_sends_away_who_waits_and_leaves_pairs():
    async def main():
        service = service_of()
        first, second = await a_pair(service)
        _, one = going(service, Side.FIRST)
        await until(lambda: service._cookies)
        service.end_streams()
        assert await reason_of(one) is Reason.SHUTDOWN
        assert await reason_of(going(service, Side.FIRST)[1]) is Reason.SHUTDOWN
        first.transport.write(b"still there")
        await until(lambda: second.received == b"still there")

    run(main)


class Hostile:
    name = "rendezvous"

    def __call__(self, incoming):
        incoming.accept(Peer()).write(b"\2 something else")


def test_a_bridge_that_answers_something_else():
    async def main():
        with pytest.raises(RendezvousError):
            await meet(PipeDialer("a", Hostile()), COOKIE, Side.FIRST, Peer())

    run(main)


def test_a_bridge_that_never_answers(monkeypatch):
    monkeypatch.setattr(rendezvous, "MEET_WAIT", 0.02)

    async def main():
        service = service_of()
        assert await reason_of(going(service, Side.FIRST)[1]) is Reason.TIMED_OUT

    run(main)
