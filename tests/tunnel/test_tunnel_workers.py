"""What the workers of a bridge know of one another, and how they hand connections over."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import os
import random
import socket
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tunnel_live import Live

from ptproxy.auth.binding import Binding
from ptproxy.auth.keys import ticket
from ptproxy.auth.opening import ClientOpening, Hello
from ptproxy.auth.replay import ReplayFilter
from ptproxy.codec import codec_table
from ptproxy.codec.interface import CodecSettings
from ptproxy.tunnel import neighbours
from ptproxy.tunnel.bridge import Bridge
from ptproxy.tunnel.elsewhere import Place, PublishedTokens
from ptproxy.tunnel.neighbours import Handed, Neighbours
from ptproxy.tunnel.shared_tables import BUCKET, TOKENS_EACH, Crowd, TokenIndex
from ptproxy.tunnel.tickets import Prepared
from ptproxy.tunnel.tls import ClientTrust, client_context

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are for Linux")


def token(number: int) -> str:
    return random.Random(number).randbytes(16).hex()[:22]


def test_a_token_is_found_by_the_others_until_it_is_withdrawn() -> None:
    index = TokenIndex(3, 4)
    tables = []
    for worker in range(3):
        index.index = worker
        tables.append(PublishedTokens(index))
        for number in range(20):
            tables[worker][token(100 * worker + number)] = worker
    for worker in range(3):
        index.index = worker
        for other in range(3):
            for number in range(20):
                owner = index.owner(token(100 * other + number))
                assert owner == (None if other == worker else other)
    index.index = 1
    del tables[1][token(105)]
    index.index = 0
    assert index.owner(token(105)) is None
    assert index.owner(token(106)) == 1
    index.clear(1)
    assert index.owner(token(106)) is None
    assert index.owner(token(206)) == 2


def test_as_many_carriers_as_expected_have_room_and_more_do_no_harm() -> None:
    index = TokenIndex(2, 8)
    for number in range(8 * TOKENS_EACH):
        index.publish(token(number))
    index.index = 1
    assert all(index.owner(token(number)) == 0 for number in range(8 * TOKENS_EACH))
    index.index = 0
    words = (index._mask + 1) * BUCKET
    for number in range(8 * TOKENS_EACH, 3 * words):
        index.publish(token(number))
    for number in range(3 * words):
        index.withdraw(token(number))
    assert not any(index._memory[:])


def test_a_crowd_is_counted_over_all() -> None:
    crowd = Crowd(3)
    for worker in range(3):
        crowd.index = worker
        crowd.note(10 + worker, 20 + worker)
    assert crowd.all() == (33, 63)
    crowd.clear(1)
    assert crowd.all() == (22, 42)


@given(
    st.builds(
        Handed,
        st.binary(max_size=300),
        st.just(b"") | st.binary(min_size=32, max_size=32),
        st.none() | st.tuples(st.ip_addresses().map(str), st.integers(0, 65535)),
    )
)
def test_a_packet_says_what_was_put_in(handed: Handed) -> None:
    assert Handed.parse(handed.serialize()) == handed


@given(st.binary(max_size=400))
def test_garbage_is_refused(packet: bytes) -> None:
    try:
        Handed.parse(packet)
    except ValueError:  # UnicodeDecodeError is one
        pass


class Pair:
    """Two workers' ends, and what each has taken."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ends = (Neighbours([None, one]), Neighbours([other, None]))
        self.taken: list[tuple[Handed, bytes]] = []
        self.ends[0].begin(loop, self._take)
        self.hearing = False

    def hear(self) -> None:
        self.ends[1].begin(asyncio.get_running_loop(), self._take)

    def _take(self, handed: Handed, sock: socket.socket) -> None:
        with sock:
            self.taken.append((handed, sock.recv(100)))

    def close(self) -> None:
        for end in self.ends:
            end.close()


def hand(pair: Pair, said: bytes) -> bool:
    """Hand over one end of a connection whose other end has said ``said``."""
    here, there = socket.socketpair()
    with here:
        here.send(said)
        return pair.ends[0].hand(1, Handed(said), there.detach())


def test_what_is_handed_over_waits_for_a_neighbour_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "MOST_WAITING", 1000)

    async def main() -> None:
        before = len(os.listdir("/proc/self/fd"))
        pair = Pair()
        for number in range(600):  # more than a socket holds
            assert hand(pair, b"%d" % number + bytes(2000 * (number % 2)))
        assert pair.ends[0]._waiting
        pair.hear()
        while len(pair.taken) < 600:
            await asyncio.sleep(0)
        assert [int(handed.said.rstrip(b"\0")) for handed, _ in pair.taken] == list(range(600))
        assert all(data == handed.said[:100] for handed, data in pair.taken)
        assert not pair.ends[0]._waiting
        pair.close()
        assert len(os.listdir("/proc/self/fd")) == before

    asyncio.run(main())


def test_a_neighbour_that_takes_nothing_costs_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "MOST_WAITING", 5)

    async def main() -> None:
        before = len(os.listdir("/proc/self/fd"))
        pair = Pair()
        given = [hand(pair, bytes(5000)) for _ in range(400)]
        assert not given[-1]
        refused = given.index(False)
        assert not any(given[refused:])
        assert len(pair.ends[0]._waiting[1]) == 5
        pair.close()
        assert len(os.listdir("/proc/self/fd")) == before

    asyncio.run(main())


def message_for_the_second(live: Live) -> bytes:
    """An opening that names a session at the second of two workers."""
    return ClientOpening(
        live.key.public, live.client_key, "websocket", live.seal, Binding.certificate(live.digest),
        Hello(b"\1" * 16, 1, (), int(time.time()), b""), random.SystemRandom(),
    ).message1  # fmt: skip


async def answer_to(live: Live, port: int, request: bytes) -> bytes:
    """The beginning of what the bridge at ``port`` answers."""
    trust = ClientTrust(pin=live.digest)
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=client_context(trust), server_hostname="localhost"
    )
    try:
        writer.write(request)
        return await reader.read(12)
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


@pytest.mark.parametrize("mangled", [False, True])
def test_an_opening_is_judged_where_it_came_and_answered_where_its_session_is(
    tmp_path: Path, mangled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other worker takes one's word for that opening alone: of another one it asks the filter."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        places = [
            Place(number, 2, Neighbours(ends), Crowd(2), TokenIndex(2, 4))
            for number, ends in enumerate(([None, one], [other, None]))
        ]
        live, openings = Live(tmp_path), ReplayFilter(time.time() - 30)
        await live.start(place=places[0], replay=openings)
        second = Bridge(loop, live.settings(place=places[1], replay=openings), live.exit, live.site)
        hand, handed_over = places[0].neighbours.hand, []

        def remember(to: int, handed: Handed, descriptor: int) -> bool:
            handed_over.append(to)
            if mangled:
                handed = dataclasses.replace(handed, judged=bytes(32))
            return hand(to, handed, descriptor)

        monkeypatch.setattr(places[0].neighbours, "hand", remember)
        message = message_for_the_second(live)
        settings = CodecSettings(f"localhost:{live.port}", "/live")
        codec = codec_table()["websocket"].client(settings, message, random.SystemRandom())
        request = b"".join(codec.open_link().data_to_send())
        first = await answer_to(live, live.port, request)
        assert (first == b"HTTP/1.1 101") != mangled
        assert handed_over == [1]
        assert await answer_to(live, live.port, request) != b"HTTP/1.1 101"
        assert handed_over == [1]
        await live.stop()
        await second.stop(0)

    asyncio.run(main())


class Two:
    """Two workers of one bridge in one process; connections come to the first."""

    def __init__(self, folder: Path) -> None:
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        tokens = TokenIndex(2, 4)
        theirs = copy.copy(tokens)  # the same memory, of which each writes its own part
        theirs.index = 1
        self.places = [
            Place(0, 2, Neighbours([None, one]), Crowd(2), tokens),
            Place(1, 2, Neighbours([other, None]), Crowd(2), theirs),
        ]
        self.live = Live(folder)

    async def start(self) -> None:
        live, openings = self.live, ReplayFilter(time.time() - 30)
        await live.start(place=self.places[0], replay=openings)
        settings = live.settings(place=self.places[1], replay=openings)
        self.second = Bridge(asyncio.get_running_loop(), settings, live.exit, live.site)

    async def stop(self) -> None:
        await self.live.stop()
        await self.second.stop(0)

    def request(self, message: bytes) -> bytes:
        """A WebSocket's beginning with this opening."""
        settings = CodecSettings(f"localhost:{self.live.port}", "/live")
        codec = codec_table()["websocket"].client(settings, message, random.SystemRandom())
        return b"".join(codec.open_link().data_to_send())


class Over:
    """A session that has ended as its ticket is taken."""

    closed = True


def test_a_ticket_is_shown_where_it_came_and_taken_where_its_session_is(tmp_path: Path) -> None:
    async def main() -> None:
        two = Two(tmp_path)
        await two.start()
        tickets, taken = two.second.gate.tickets, []
        key = bytes(range(32))
        opening = SimpleNamespace(keys=SimpleNamespace(token_key=key))
        tunnel = Over()
        tickets.begin(cast("Any", tunnel))
        tickets.keep(Prepared(*cast("tuple[Any, ...]", (opening, None, None, tunnel))))
        take = tickets.take

        def noted(name: bytes) -> Prepared | None:
            taken.append(name)
            return take(name)

        tickets.take = noted  # type: ignore[method-assign]
        request = two.request(ticket(key))
        for _ in range(2):  # then it is nobody's any more
            assert await answer_to(two.live, two.live.port, request) == b"HTTP/1.1 404"
            assert taken == [ticket(key)]
        assert not any(two.places[0].tokens._memory[:])
        await two.stop()

    asyncio.run(main())


def test_a_worker_that_stops_passes_on_what_is_open_at_another_as_long_as_streams_may(tmp_path: Path) -> None:
    """Its own streams have ended; those of others', whose carriers it accepted, have their time, too."""

    async def main() -> None:
        two = Two(tmp_path)
        await two.start()
        live = two.live
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", live.port, ssl=client_context(ClientTrust(pin=live.digest)),
            server_hostname="localhost",
        )  # fmt: skip
        writer.write(two.request(message_for_the_second(live)))
        assert await reader.read(12) == b"HTTP/1.1 101"
        stopping = asyncio.ensure_future(live.bridge.stop(3600))
        await asyncio.wait({stopping}, timeout=0.5)
        assert not stopping.done()
        assert live.bridge.gate.passing
        await two.second.stop(0)  # there it is over
        async with asyncio.timeout(60):
            while await reader.read(4096):
                pass
            await stopping
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
        await two.stop()

    asyncio.run(main())
