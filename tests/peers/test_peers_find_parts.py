"""The small pieces: frames however they are cut, signed lists, what sources have said, texts over TLS."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import datetime
import random
import socket
import ssl

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from peers_live import run, until

from ptproxy.config.link import Link
from ptproxy.dht.contact import Address, Contact
from ptproxy.dht.diversity import ANY_NETWORK
from ptproxy.dht.first_nodes import FirstNodes
from ptproxy.dht.lookup_rules import LookupRules
from ptproxy.dht.probation import NO_PROBATION
from ptproxy.dht.sealing import SealedRequest
from ptproxy.dht.signing import SigningKey
from ptproxy.dht.table import RoutingTable
from ptproxy.dht.work import WorkTarget
from ptproxy.errors import DhtError, LocalProtocolError, StateError
from ptproxy.peers import find_asking
from ptproxy.peers.directory_network import write_first_nodes
from ptproxy.peers.find_asking import AskingNode
from ptproxy.peers.find_bridges import MAX_LINES, MAX_SOURCES, KnownBridges
from ptproxy.peers.find_fetch import FetchError, fetch
from ptproxy.peers.find_frames import (
    MAX_LETTER,
    FindFrameError,
    FrameReader,
    Letter,
    NetworkFrame,
)
from ptproxy.peers.find_list import BridgeList, BridgeListError
from ptproxy.peers.find_network import KnownNetwork
from ptproxy.tunnel.certificate import self_signed
from ptproxy.tunnel.direct import DirectDialer

LETTER = Letter(Address(b"\x0b\x01\x02\x03", 4_000), b"\x02" + bytes(300))
NETWORK = NetworkFrame(bytes(range(32)), "ptproxy-nodes:AAAA")
SIGNER = SigningKey(bytes(range(32)))
NOW = 1_800_000_000.0


def link(number, port=443):
    rng = random.Random(number)
    host = f"bridge{number}.example.org"
    return Link(rng.randbytes(32), host, port, "/", host, ("http",))


# ---- frames -----------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 700), max_size=8))
def test_frames_are_the_same_however_they_are_cut(cuts):
    data = NETWORK.serialize() + LETTER.serialize() * 2
    reader, found, at = FrameReader(), [], 0
    for size in [*cuts, len(data)]:
        found += reader.receive_data(memoryview(data)[at : at + size])
        at += size
    assert found == [NETWORK, LETTER, LETTER]


@given(st.binary(max_size=200))
def test_garbage_is_refused_or_waits(data):
    with contextlib.suppress(FindFrameError):
        FrameReader().receive_data(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\x04\x00\x01x",
        b"\x02" + (MAX_LETTER + 1).to_bytes(2, "big"),
        b"\x01\xff\xff",
        b"\x01\x00\x20" + bytes(32),
        b"\x01\x00\x21" + bytes(32) + b"\xff",
        b"\x02\x00\x08" + b"\x05\x0b\x01\x02\x03\x0f\xa0\x02",
        b"\x02\x00\x08" + b"\x04\x0b\x01\x02\x03\x0f\xa0\x01",
        b"\x02\x00\x07" + b"\x04\x0b\x01\x02\x03\x0f\xa0",
        b"\x02\x00\x08" + b"\x04\x0b\x01\x02\x03\x00\x00\x02",
    ],
)
def test_what_is_no_frame(data):
    with pytest.raises(FindFrameError):
        FrameReader().receive_data(data)


# ---- whom a client asks, and how ---------------------------------------------------------------------------


def asking():
    """An asking node, and what it posts."""
    posted = []
    table = RoutingTable(1, ANY_NETWORK, NO_PROBATION)
    rng = random.Random(4).randbytes
    return AskingNode(table, lambda *_: True, rng, LookupRules(), posted.append), posted


def contact(number):
    """A contact whose seal key is one."""
    signer = SigningKey(number.to_bytes(32, "big"))
    key = X25519PrivateKey.from_private_bytes(number.to_bytes(32, "big"))
    address = Address(b"\x0b\x01\x02\x03", number)
    return Contact.make(signer, number, key.public_key().public_bytes_raw(), bytes(16), 1, address), key


def test_a_write_goes_the_way_of_the_question():
    """Tokens are for the address that asked: of one node and place they are good by one path only."""
    node, posted = asking()
    one, _ = contact(5)
    for place, path in ((1, 3), (2, 6), (1, None), (2, None), (9, None)):
        node.post(one, b"message", place, path)
    assert [each.path for each in posted] == [3, 6, 3, 6, 0]
    assert {each.letter.address for each in posted} == {one.address}


def test_an_answer_is_opened_once_and_by_its_own_request():
    node, posted = asking()
    one, key = contact(5)
    other, _ = contact(6)
    for number in range(3):
        node.post(one, b"question %d" % number, None, 0)
    node.post(other, b"question", None, 0)
    sealed = SealedRequest(posted[1].letter.message, key)
    assert sealed.request == b"question 1"
    answer = Letter(one.address, sealed.seal_answer(b"answer", bytes))
    with pytest.raises(DhtError):
        node.open(Letter(other.address, answer.message))
    assert node.open(answer) == (one.id, b"answer")
    with pytest.raises(DhtError):
        node.open(answer)


def test_keys_of_requests_are_bounded(monkeypatch):
    monkeypatch.setattr(find_asking, "MAX_CALLS", 4)
    monkeypatch.setattr(find_asking, "MAX_REMEMBERED", 4)
    node, posted = asking()
    one, key = contact(5)
    for number in range(9):
        node.post(one, b"question", number, 1)
    assert len(node._out_there) == len(node._paths) == 4
    late = SealedRequest(posted[0].letter.message, key)
    with pytest.raises(DhtError):
        node.open(Letter(one.address, late.seal_answer(b"answer", bytes)))


def test_a_seal_key_that_nothing_can_be_sealed_for_is_a_silent_node():
    node, posted = asking()
    one, _ = contact(5)
    node.post(dataclasses.replace(one, seal_key=bytes(32)), b"question", None, 0)
    assert posted == []


def test_of_two_lists_the_newer_counts():
    one, _ = contact(5)

    def listed(sequence):
        work = WorkTarget(1, 8)
        first = FirstNodes(sequence, int(NOW), int(NOW) + 60, int(NOW), work, work, None, (one,))
        return write_first_nodes(first.sign(SIGNER))

    network = KnownNetwork()
    assert network.offer(SIGNER.public, listed(9), NOW)
    assert not network.offer(SIGNER.public, listed(8), NOW)
    assert not network.offer(SIGNER.public, listed(9), NOW)
    assert network.begin(NOW).sequence == 9
    network.met([one])
    again = KnownNetwork.from_dict(network.to_dict())
    assert again.contacts == (one,)
    assert again.begin(NOW).sequence == 9
    with pytest.raises(DhtError):
        again.begin(NOW + 60)
    assert again.offer(SIGNER.public, listed(7), NOW)  # an expired one is none


def test_nodes_that_answered_last_are_remembered_longest():
    contacts = [contact(number)[0] for number in range(1, 5)]
    network = KnownNetwork(contacts=tuple(contacts[:3]))
    network.met([contacts[0], contacts[3]])
    assert network.contacts == (contacts[1], contacts[2], contacts[0], contacts[3])


# ---- a signed list ------------------------------------------------------------------------------------


def test_a_list_is_read_by_who_knows_its_signer():
    text = BridgeList.sign(SIGNER, 7, int(NOW) + 60, (link(1), link(2)))
    found = BridgeList.parse(f" {text}\n", SIGNER.public, NOW)
    assert (found.sequence, found.bridges) == (7, (link(1), link(2)))
    for wrong in (
        lambda: BridgeList.parse(text, SigningKey(bytes(32)).public, NOW),
        lambda: BridgeList.parse(text, SIGNER.public, NOW + 60),
        lambda: BridgeList.parse(text[:-4], SIGNER.public, NOW),
    ):
        with pytest.raises(BridgeListError):
            wrong()


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_list_that_was_changed_is_none(place, change):
    text = BridgeList.sign(SIGNER, 7, int(NOW) + 60, (link(1),))
    prefix, _, body = text.partition(":")
    data = bytearray(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    data[place % len(data)] ^= change
    changed = f"{prefix}:{base64.urlsafe_b64encode(data).decode().rstrip('=')}"
    with pytest.raises(BridgeListError):
        BridgeList.parse(changed, SIGNER.public, NOW)


@given(st.text(max_size=100))
def test_text_that_is_no_list(text):
    for each in (text, f"ptproxy-bridges:{text}"):
        with pytest.raises(BridgeListError):
            BridgeList.parse(each, SIGNER.public, NOW)


@pytest.mark.parametrize("bridges", [(), (link(1), link(1)), tuple(link(n) for n in range(65))])
def test_lists_that_cannot_be(bridges):
    with pytest.raises(LocalProtocolError):
        BridgeList.sign(SIGNER, 0, 1, bridges)


# ---- what sources have said -------------------------------------------------------------------------------


def test_sources_are_merged_in_order_with_their_names():
    known = KnownBridges()
    assert known.learn("lines", [link(1), link(2)], NOW)
    assert known.learn("invite", [link(3), link(2)], NOW + 1)
    known.keep(["invite", "lines"])
    merged = known.merged()
    assert [each.link for each in merged] == [link(3), link(2), link(1)]
    assert [each.origins for each in merged] == [("invite",), ("invite", "lines"), ("lines",)]
    again = KnownBridges.from_dict(known.to_dict())
    assert again.merged() == merged
    known.keep(["lines"])
    assert [each.link for each in known.merged()] == [link(1), link(2)]


def test_the_newer_line_of_one_address_counts():
    known = KnownBridges()
    moved = Link(bytes(32), link(1).host, 443, "/", link(1).host, ("http",))
    known.learn("lines", [link(1)], NOW)
    known.learn("invite", [moved], NOW + 9)
    assert [each.link for each in known.merged()] == [moved]


def test_an_older_word_is_not_believed_again():
    known = KnownBridges()
    assert known.learn("invite", [link(2)], NOW, (5, 2))
    assert not known.learn("invite", [link(1)], NOW, (5, 1))
    assert not known.learn("invite", [link(2)], NOW, (6, 0))
    assert known.learn("invite", [], NOW, (6, 1))
    assert known.merged() == []


def test_what_is_known_is_bounded():
    known = KnownBridges()
    known.learn("list", [link(number) for number in range(2 * MAX_LINES)], NOW)
    assert len(known.merged()) == MAX_LINES
    for number in range(2 * MAX_SOURCES):
        known.learn(str(number), [link(number)], NOW)
    assert len(known.to_dict()["sources"]) == MAX_SOURCES


@pytest.mark.parametrize(
    "data", [{}, {"sources": 1}, {"sources": [{}]}, {"sources": [{"name": "x", "links": ["y"]}]}]
    + [{"sources": [{"name": "x", "links": [], "seen": seen, "order": [0, 0]}]}
       for seen in (10**400, float("inf"), float("nan"), -1, 1e300)]
    + [{"sources": [{"name": "x", "links": [], "seen": 1, "order": [0, float("inf")]}]}]
)  # fmt: skip
def test_damaged_memory(data):
    with pytest.raises(StateError):
        KnownBridges.from_dict(data)


@pytest.mark.parametrize(
    "data", [{}, {"key": "zz", "list": "", "nodes": []}, {"key": "", "list": 5, "nodes": []},
             {"key": "", "list": "", "nodes": ["x"]}, {"key": "00", "list": "", "nodes": []}]
)  # fmt: skip
def test_damaged_memory_of_a_network(data):
    with pytest.raises(StateError):
        KnownNetwork.from_dict(data)


# ---- a text over TLS --------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def web(folder, answer, name="localhost", *, rude=False):
    """A web server on loopback that says ``answer``; its URL and a context that trusts it.

    A rude one ends the connection and not TLS.
    """
    rng = random.Random(3)
    certificate, key = self_signed(name, datetime.datetime.now(datetime.UTC), rng)
    (folder / "cert.pem").write_bytes(certificate)
    (folder / "key.pem").write_bytes(key)
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(folder / "cert.pem", folder / "key.pem")

    tasks = set()

    async def serve(reader, writer):
        tasks.add(asyncio.current_task())
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"GET /list?a=1 HTTP/1.0\r\nHost: localhost:")
            writer.write(answer)
            await writer.drain()
        if rude:
            writer.get_extra_info("socket").shutdown(socket.SHUT_WR)
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()
        tasks.discard(asyncio.current_task())

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"https://localhost:{port}/list?a=1", ssl.create_default_context(cafile=folder / "cert.pem")
    finally:
        server.close()
        await until(lambda: not tasks)
        await server.wait_closed()


def test_a_text_is_fetched(tmp_path):
    async def main():
        answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nptproxy-bridges:AA"
        async with web(tmp_path, answer) as (url, context):
            dialer = DirectDialer(asyncio.get_running_loop())
            assert await fetch(url, dialer, 1_000, context) == "ptproxy-bridges:AA"
            with pytest.raises(FetchError, match="trusted"):
                await fetch(url, dialer, 1_000)
            with pytest.raises(FetchError, match="too long"):
                await fetch(url, dialer, 5, context)

    run(main)


def test_the_end_of_an_answer_may_be_the_connections(tmp_path):
    """Servers of HTTP/1.0 close without a word of TLS; what was said is signed."""

    async def main():
        async with web(tmp_path, b"HTTP/1.0 200 OK\r\n\r\nptproxy-bridges:AA", rude=True) as (url, context):
            dialer = DirectDialer(asyncio.get_running_loop())
            assert await fetch(url, dialer, 1_000, context) == "ptproxy-bridges:AA"

    run(main)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 404 No\r\n\r\n", b"SSH-2.0\r\n", b"", b"HTTP/1.1\r\n\r\n"])
def test_answers_that_are_no_text(tmp_path, answer):
    async def main():
        async with web(tmp_path, answer) as (url, context):
            with pytest.raises(FetchError):
                await fetch(url, DirectDialer(asyncio.get_running_loop()), 1_000, context)

    run(main)


def test_a_server_of_another_name_is_not_believed(tmp_path):
    async def main():
        async with web(tmp_path, b"", "other.example") as (url, context):
            with pytest.raises(FetchError):
                await fetch(url, DirectDialer(asyncio.get_running_loop()), 1_000, context)

    run(main)


@pytest.mark.parametrize(
    "url", ["http://a.example/", "https:///x", "https://a.example:99999/", "x", "https://127.0.0.1/\u00fc"]
)
def test_addresses_that_are_not_read(url):
    async def main():
        with pytest.raises(FetchError):
            await fetch(url, DirectDialer(asyncio.get_running_loop()), 1_000)

    run(main)
