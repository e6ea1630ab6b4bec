"""Streams between peers over rendezvous in memory: opened, broken, met again, refused, bounded, attacked."""

from __future__ import annotations

import asyncio
import random

import pytest
from peers_live import run, until
from streams_live import Party, Talker, acquainted, at_home, sever

from ptproxy.e2e.stream import EndSignal, FinishedSignal, MeetSignal, OpenSignal, parse_signal
from ptproxy.e2e.stream.frames import Data
from ptproxy.e2e.stream.records import SIZES
from ptproxy.errors import DialError, LocalProtocolError, Reason
from ptproxy.peers import peer_meetings, peer_streams
from ptproxy.peers.peer_meetings import Home

TALK = b"talk"


def data_of(seed, size):
    return random.Random(seed).randbytes(size)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Attempts follow one another at once."""
    monkeypatch.setattr(peer_meetings, "RETRY_FIRST", 0.005)
    monkeypatch.setattr(peer_meetings, "RETRY_LAST", 0.02)
    monkeypatch.setattr(peer_meetings, "HASTE", 0.001)


def conversation(main, **options):
    """Run ``main(alice, bob)`` with two who have streams, and close them."""

    async def whole():
        alice, bob = acquainted(**options)
        at_home(alice, bob)
        try:
            await main(alice, bob)
        finally:
            await alice.streams.close()
            await bob.streams.close()

    run(whole)


def taken_by(party, talker):
    """Whoever opens a stream to ``party`` gets ``talker``; the streams."""
    taken = []
    party.streams.offer(TALK, lambda incoming: taken.append(incoming.accept(talker)))
    return taken


async def opened(alice, bob, here=None, there=None):
    """A stream from Alice to Bob and both ends' protocols."""
    here, there = here or Talker(end=False), there or Talker(end=False)
    taken = taken_by(bob, there)
    stream = await alice.streams.open_stream(Party.CONTACT, TALK, here)
    await until(lambda: there.made)
    return stream, taken[0], here, there


def kinds(party):
    return [type(parse_signal(body)) for body in party.signals]


# ---- what an application sees --------------------------------------------------------------------


def test_a_stream_carries_bytes_both_ways_and_ends_cleanly():
    async def main(alice, bob):
        here, there = Talker(data_of(1, 1_000_000)), Talker(data_of(2, 300_000))
        stream, taken, *_ = await opened(alice, bob, here, there)
        assert (await here.lost, await there.lost) == (None, None)
        assert (here.received, there.received) == (there.data, here.data)
        assert here.eof
        assert there.eof
        assert (here.made, there.made, stream.meetings, taken.meetings) == (1, 1, 1, 1)
        await until(
            lambda: not alice.streams.streams(Party.CONTACT) and not bob.streams.streams(Party.CONTACT)
        )
        assert kinds(alice) == [OpenSignal]
        assert kinds(bob) == []
        assert stream.get_extra_info("contact") == Party.CONTACT
        assert stream.get_extra_info("purpose") == TALK

    conversation(main)


def test_one_direction_ends_by_itself():
    async def main(alice, bob):
        here, there = Talker(b"question"), Talker(end=False)
        await opened(alice, bob, here, there)
        await until(lambda: there.eof)
        assert there.received == b"question"
        there.transport.write(b"answer")
        there.transport.write_eof()
        await here.lost
        assert here.received == b"answer"

    conversation(main)


def test_who_does_not_read_holds_the_other_back():
    async def main(alice, bob):
        class Slow(Talker):
            def connection_made(self, transport):
                super().connection_made(transport)
                transport.pause_reading()

        here, there = Talker(data_of(3, 3_000_000)), Slow(end=False)
        _stream, taken, *_ = await opened(alice, bob, here, there)
        await until(lambda: here.paused)
        assert here.sent <= (256 << 10) + 20_000
        assert not taken.is_reading()
        assert not there.received
        there.transport.resume_reading()
        await until(lambda: there.eof)
        assert there.received == here.data
        there.transport.write_eof()
        assert await here.lost is None

    conversation(main)


def test_an_abort_is_a_reset_for_the_peer():
    async def main(alice, bob):
        stream, _, here, there = await opened(alice, bob)
        stream.abort()
        assert (await there.lost).reason is Reason.CANCELLED
        assert await here.lost is None
        await until(
            lambda: not alice.streams.streams(Party.CONTACT) and not bob.streams.streams(Party.CONTACT)
        )
        stream.write(b"too late")
        stream.write_eof()
        stream.close()
        stream.abort()

    conversation(main)


def test_closing_discards_what_comes_and_sends_what_was_written():
    async def main(alice, bob):
        stream, taken, here, there = await opened(alice, bob, Talker(data_of(4, 500_000), end=False))
        taken.write(bytes(400_000))
        stream.close()
        written = here.data[: here.sent]
        await until(lambda: there.eof)
        assert there.received == written
        taken.close()
        assert (await here.lost, await there.lost) == (None, None)
        assert not here.eof

    conversation(main)


# ---- what breaks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("whose", ["alice", "bob", "both"])
def test_a_stream_outlives_its_connections(whose):
    async def main(alice, bob):
        breaking = {"alice": [alice], "bob": [bob], "both": [alice, bob]}[whose]

        class Cutting(Talker):
            cuts = 0

            def data_received(self, data):
                super().data_received(data)
                if len(self.received) > (self.cuts + 1) * 500_000 and self.cuts < 5:
                    self.cuts += 1
                    asyncio.get_running_loop().call_soon(sever, *breaking)

        here, there = Talker(data_of(5, 4_000_000)), Cutting(data_of(6, 2_000_000))
        _, taken, *_ = await opened(alice, bob, here, there)
        assert (await here.lost, await there.lost) == (None, None)
        assert (here.received, there.received) == (there.data, here.data)
        assert there.cuts == 5
        assert taken.meetings > 3

    conversation(main)


def test_places_alternate_and_one_without_rendezvous_is_passed_over():
    async def main(alice, bob):
        del alice.homes[Home.THEIRS], bob.homes[Home.OURS]  # Bob's bridge offers none
        stream, _, here, there = await opened(alice, bob)
        assert stream.sealed.number == 2
        sever(alice)
        await until(lambda: stream.meetings == 2)
        assert stream.sealed.number == 4
        here.transport.write_eof()
        there.transport.write_eof()
        await here.lost

    conversation(main)


def test_without_any_rendezvous_there_is_no_stream():
    async def main(alice, bob):
        alice.homes, bob.homes = {}, {}
        taken_by(bob, Talker())
        with pytest.raises(DialError) as lost:
            await alice.streams.open_stream(Party.CONTACT, TALK, Talker())
        assert lost.value.reason is Reason.UNSUPPORTED

    conversation(main)


def test_lost_signals_are_repeated():
    """MEET gets lost; who waits in vain says it again."""

    async def whole():
        alice, bob = acquainted()
        at_home(alice, bob, wait="30ms")
        stream, _, here, there = await opened(alice, bob)
        alice.deaf = bob.deaf = True
        stream.sealed.number += 3  # as if Alice had tried elsewhere
        sever(alice)
        await until(lambda: len(alice.signals) > 2)
        alice.deaf = bob.deaf = False
        await until(lambda: stream.meetings == 2)
        here.transport.write_eof()
        there.transport.write_eof()
        assert await here.lost is None
        await alice.streams.close()
        await bob.streams.close()

    run(whole)


def test_the_last_word_may_get_lost():
    """Bob has finished and is asked again: he says so, and Alice ends cleanly."""

    async def main(alice, bob):
        stream, _taken, here, there = await opened(alice, bob, Talker(b"all"), Talker(b"of it"))
        await here.lost
        await there.lost
        await until(lambda: not bob.streams.streams(Party.CONTACT))
        bob.streams.signal_received(Party.CONTACT, MeetSignal(stream.sealed.seed.stream, 2).serialize())
        await until(lambda: kinds(bob) == [FinishedSignal])

    conversation(main)


def test_finished_in_mid_life_is_an_error():
    async def main(alice, bob):
        stream, _, here, _ = await opened(alice, bob)
        alice.streams.signal_received(Party.CONTACT, FinishedSignal(stream.sealed.seed.stream).serialize())
        assert (await here.lost).reason is Reason.GENERAL

    conversation(main)


def test_a_peer_that_stays_away_is_given_up():
    async def whole():
        alice, bob = acquainted(linger=0.2)
        at_home(alice, bob, wait="20ms")
        _stream, _, here, _there = await opened(alice, bob)
        await bob.streams.close()
        sever(alice)
        error = await here.lost
        assert error.reason in (Reason.TIMED_OUT, Reason.SHUTDOWN, Reason.SESSION_LOST)
        await alice.streams.close()

    run(whole)


def test_a_bridge_that_alters_bytes_breaks_the_meeting_and_nothing_else(monkeypatch):
    async def main(alice, bob):
        here, there = Talker(data_of(7, 2_000_000)), Talker()
        _stream, taken, *_ = await opened(alice, bob, here, there)
        original, altered = taken.received, []

        def received(connection, data):
            data = bytearray(data)
            if len(there.received) > 400_000 * (len(altered) + 1):
                data[len(data) // 2] ^= 0x40
                altered.append(1)
            original(connection, data)

        taken.received = received
        assert (await here.lost, await there.lost) == (None, None)
        assert len(altered) >= 3
        assert there.received == here.data
        assert taken.meetings > 2

    conversation(main)


def test_a_silent_meeting_is_given_up(monkeypatch):
    """The connection stands, and nothing comes any more."""
    from ptproxy.e2e.stream import stream as sealed_stream

    async def main(alice, bob):
        stream, taken, _here, there = await opened(alice, bob)
        monkeypatch.setattr(sealed_stream, "STALL", 0.05)
        number = taken.sealed.number
        taken._connection.data_received = lambda data: None
        taken._connection.transport.protocol.data_received = lambda data: None
        stream.write(b"is somebody there")
        await until(lambda: taken.sealed.number > number)
        monkeypatch.setattr(sealed_stream, "STALL", 60.0)
        await until(lambda: there.received == b"is somebody there")

    conversation(main)


# ---- keys ----------------------------------------------------------------------------------------


def test_keys_follow_the_ratchet(monkeypatch):
    from ptproxy.e2e.stream import meeting

    monkeypatch.setattr(meeting, "REKEY_EVERY", 0.0)

    async def main(alice, bob):
        stream, taken, here, there = await opened(alice, bob)
        before = stream.sealed.meeting.turn.number
        for line in range(5):
            alice.chat()
            stream.write(b"%d" % line)
            taken.write(b"%d" % line)
            await until(lambda n=line: len(there.received) == len(here.received) == n + 1)
        assert stream.sealed.meeting.turn.number >= before + 6
        assert stream.sealed.meeting.turn == taken.sealed.meeting.turn
        assert stream.meetings == 1

    conversation(main)


def test_an_identity_that_changed_gets_no_stream(monkeypatch):
    async def main(alice, bob):
        stream, _, here, _there = await opened(alice, bob)
        alice.conversation.see(type(alice.conversation.contact.known)(bytes(32)))
        with pytest.raises(DialError) as lost:
            await alice.streams.open_stream(Party.CONTACT, TALK, Talker())
        assert lost.value.reason is Reason.NOT_PERMITTED
        alice.streams.offer(TALK, lambda incoming: pytest.fail("offered"))
        alice.streams.signal_received(Party.CONTACT, OpenSignal(bytes(16), bytes(32), TALK).serialize())
        sever(alice)
        alice.conversation.keep()
        await until(lambda: stream.meetings == 2)
        alice.conversation.see(type(alice.conversation.contact.known)(bytes(32)))
        alice.streams.end_contact(Party.CONTACT)
        assert (await here.lost).reason is Reason.NOT_PERMITTED

    conversation(main)


class NoWay:
    """A bridge that is not reached."""

    def __init__(self):
        self.dials = 0

    async def dial(self, target, protocol, first_data=b""):
        self.dials += 1
        raise DialError(Reason.TUNNEL_DOWN)

    def sever(self):
        """Nothing is there."""


def test_two_whose_bridges_fail_do_not_drive_each_other_on(monkeypatch):
    """Each MEET ends the other's pause: there is a floor under the attempts all the same."""
    monkeypatch.setattr(peer_meetings, "HASTE", 1e6)

    async def main(alice, bob):
        for party in (alice, bob):
            party.homes = dict.fromkeys(Home, NoWay())
        taken = taken_by(bob, Talker())
        opening = asyncio.ensure_future(alice.streams.open_stream(Party.CONTACT, TALK, Talker()))
        dials = [party.homes[Home.OURS] for party in (alice, bob)]
        await until(lambda: all(bridge.dials >= peer_meetings.AT_ONCE for bridge in dials))
        name = taken[0].sealed.seed.stream
        for number in range(100, 120):
            for party in (alice, bob):
                party.streams.signal_received(Party.CONTACT, MeetSignal(name, number).serialize())
            for _ in range(5):
                await asyncio.sleep(0)
        assert [bridge.dials for bridge in dials] == [peer_meetings.AT_ONCE] * 2
        opening.cancel()  # and the floor holds nobody up who leaves
        with pytest.raises(asyncio.CancelledError):
            await opening
        await until(lambda: not alice.streams.streams(Party.CONTACT))

    conversation(main)


def test_a_meeting_without_a_common_turn_was_begun_all_the_same():
    """Alice has no session when the two are joined, and no signal arrives: both go to the next number."""

    async def main(alice, bob):
        stream, taken, here, there = await opened(alice, bob)
        alice.deaf = bob.deaf = True
        alice.streams.session = lambda contact: None
        sever(alice)
        await until(lambda: stream.sealed.number > 3)
        assert abs(taken.sealed.number - stream.sealed.number) <= 1
        alice.streams.session = alice.session
        await until(lambda: stream.meetings == taken.meetings == 2)
        here.transport.write_eof()
        there.transport.write_eof()
        assert await here.lost is None

    conversation(main)


# ---- who may what --------------------------------------------------------------------------------


def test_refused():
    async def main(alice, bob):
        bob.streams.offer(TALK, lambda incoming: incoming.refuse())
        with pytest.raises(DialError) as lost:
            await alice.streams.open_stream(Party.CONTACT, TALK, Talker())
        assert lost.value.reason is Reason.NOT_PERMITTED

    conversation(main)


@pytest.mark.parametrize("ignored", [True, False], ids=["ignored", "no such purpose"])
def test_who_is_ignored_learns_nothing(ignored):
    async def main(alice, bob):
        if ignored:
            bob.streams.offer(TALK, lambda incoming: incoming.ignore())
        with pytest.raises(DialError) as lost:
            await alice.streams.open_stream(Party.CONTACT, TALK, Talker(), wait=0.05)
        assert lost.value.reason is Reason.TIMED_OUT
        await until(lambda: EndSignal in kinds(alice))
        stream = parse_signal(alice.signals[0]).stream
        bob.streams.signal_received(Party.CONTACT, MeetSignal(stream, 9).serialize())
        await asyncio.sleep(0.01)
        assert bob.signals == []

    conversation(main)


def test_limits(monkeypatch):
    monkeypatch.setattr(peer_streams, "MAX_STREAMS_OF_ONE", 2)

    async def main(alice, bob):
        here = [(await opened(alice, bob))[2] for _ in range(2)]
        with pytest.raises(DialError) as lost:
            await alice.streams.open_stream(Party.CONTACT, TALK, Talker())
        assert lost.value.reason is Reason.LIMIT
        bob.streams.signal_received(Party.CONTACT, OpenSignal(bytes(16), bytes(32), TALK).serialize())
        await until(lambda: len(bob.streams.streams(Party.CONTACT)) == 2)
        assert parse_signal(bob.signals[-1]) == EndSignal(bytes(16), Reason.LIMIT)
        assert not any(talker.lost.done() for talker in here)

    conversation(main)


def test_purposes_are_short_words():
    async def main(alice, bob):
        for purpose in (b"", b"two words", bytes(33), "é".encode()):
            with pytest.raises(LocalProtocolError):
                await alice.streams.open_stream(Party.CONTACT, purpose, Talker())

    conversation(main)


def test_repeated_and_foreign_signals_are_ignored():
    async def main(alice, bob):
        stream, _, _here, there = await opened(alice, bob)
        for body in (alice.signals[0], b"", b"garbage", bytes(200), MeetSignal(bytes(16), 3).serialize()):
            bob.streams.signal_received(Party.CONTACT, body)
        assert len(bob.streams.streams(Party.CONTACT)) == 1
        assert bob.signals == []
        stream.write(b"still there")
        await until(lambda: there.received == b"still there")

    conversation(main)


def test_a_stream_belongs_to_its_contact():
    """Another contact that has learnt a stream's id can neither end nor move it."""

    async def main(alice, bob):
        stream, taken, _here, there = await opened(alice, bob)
        name = stream.sealed.seed.stream
        for signal in (EndSignal(name, Reason.LIMIT), MeetSignal(name, 9), FinishedSignal(name)):
            bob.streams.signal_received(b"somebody else...", signal.serialize())
        stream.write(b"still there")
        await until(lambda: there.received == b"still there")
        assert taken.sealed.number == 1

    conversation(main)


def test_cancelling_gives_it_up():
    async def main(alice, bob):
        opening = asyncio.ensure_future(alice.streams.open_stream(Party.CONTACT, TALK, Talker()))
        await until(lambda: alice.signals)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await until(lambda: not alice.streams.streams(Party.CONTACT))

    conversation(main)


def test_closing_ends_everything_and_tells_the_peer():
    async def main(alice, bob):
        _stream, _, here, there = await opened(alice, bob)
        await alice.streams.close()
        assert (await here.lost).reason is Reason.SHUTDOWN
        assert (await there.lost).reason is Reason.SHUTDOWN
        with pytest.raises(DialError):
            await alice.streams.open_stream(Party.CONTACT, TALK, Talker())

    conversation(main)


def test_what_is_kept_for_a_reader_that_stops_is_no_more_than_its_bytes():
    """A hostile contact sends single bytes in the longest records."""

    async def main(alice, bob):
        stream, taken, _, there = await opened(alice, bob)
        taken.pause_reading()
        meeting = stream.sealed.meeting
        for offset in range(20):
            parts = [Data.header(offset, 1), b"x"]
            taken.received(taken._connection, meeting.seal(parts, 12, len(SIZES) - 1))
        assert type(taken._unread) is bytearray
        assert len(taken._unread) == 20
        taken.resume_reading()
        await until(lambda: there.received == b"x" * 20)
        stream.abort()

    conversation(main)


def test_who_knows_only_the_seed_is_not_taken_for_the_contact():
    """Joined with us at the cookie and with a good hello, but without the conversation's secrets."""

    async def main(alice, bob):
        class Guessed:
            def __init__(self, session):
                self.key, self.ratchet = session.key, self
                self.turn, self.heard_turn = session.ratchet.turn, session.ratchet.heard_turn

            def export(self, label, length, turn):
                return bytes(length)

        known = bob.session
        bob.streams.session = lambda contact: Guessed(known(contact))
        there = Talker()
        taken = taken_by(bob, there)
        with pytest.raises(DialError):
            await alice.streams.open_stream(Party.CONTACT, TALK, Talker(), wait=0.3)
        assert taken[0].sealed.number > 2  # they were joined, again and again
        assert not there.made

    conversation(main)


def test_a_contact_takes_no_other_contacts_turn_to_be_told():
    """Mallory has us say thousands of things; Bob hears at once what is for him."""

    async def main(alice, bob):
        said, gate = [], asyncio.Event()

        async def signal(contact, body):
            await gate.wait()
            said.append(contact)

        streams = peer_streams.PeerStreams(lambda *_: None, signal, lambda _: None)
        for number in range(1, 3_000):
            streams.tell(b"mallory", MeetSignal(bytes(16), number))
            streams.tell(b"mallory", EndSignal(bytes(16), Reason.LIMIT))
        streams.tell(b"bob", EndSignal(bytes(16), Reason.LIMIT))
        streams.tell(b"bob", EndSignal(bytes(16), Reason.LIMIT))
        gate.set()
        await until(lambda: b"bob" in said and streams._sender is None)
        assert said.index(b"bob") <= 2
        assert said.count(b"bob") == 1  # the same twice is said once
        assert said.count(b"mallory") <= peer_streams.MAX_SIGNALS + 1
        await streams.close()

    conversation(main)


def test_a_contact_displaces_nothing_that_is_remembered_of_others():
    async def main(alice, bob):
        stream, _, here, _there = await opened(alice, bob, Talker(b"all"), Talker(b"of it"))
        await here.lost
        streams, name = alice.streams, stream.sealed.seed.stream
        streams.session, streams.dialer, told = lambda _: bob.session(Party.CONTACT), lambda *_: None, []
        streams.offer(TALK, lambda incoming: incoming.accept(Talker()))
        for number in range(400):
            opening = OpenSignal(number.to_bytes(16), bytes(32), TALK)
            streams.signal_received(b"mallory", opening.serialize())
            streams.signal_received(b"mallory", EndSignal(opening.stream, Reason.LIMIT).serialize())
            await until(lambda: not streams.streams(b"mallory"))

        async def signal(contact, body):
            told.append((contact, parse_signal(body)))

        streams._signal = signal
        streams.signal_received(Party.CONTACT, MeetSignal(name, 7).serialize())
        await until(lambda: told)
        assert told == [(Party.CONTACT, FinishedSignal(name))]

    conversation(main)
