"""FOUND, the answer that nobody signs: whoever may have sent it, no false record comes of it.

And nodes older than GET, the request that it answers.
"""

from __future__ import annotations

import random

import pytest
from dht_nodes import signed_contact
from dht_records import EPOCH, draw, flip, sealed
from test_dht_node import Net, search

from ptproxy.dht.contact import Address
from ptproxy.dht.diversity import ANY_NETWORK
from ptproxy.dht.identifier import NodeId
from ptproxy.dht.lookup import Lookup
from ptproxy.dht.lookup_rules import PRIVATE, LookupRules
from ptproxy.dht.messages import TAG, Find, Found, Get, Ping, Request, Seek, serialize_answer
from ptproxy.dht.record import judge
from ptproxy.dht.record_secret import RecordSecret
from ptproxy.dht.round_trips import RoundTrips
from ptproxy.dht.rpc import MAX_FALSE, Calls
from ptproxy.errors import DhtError

SEALED = sealed()
RECORD = SEALED.serialize()
PLACE, SECOND_PLACE, _ = SEALED.header.locations()
ONE = LookupRules(diversity=ANY_NETWORK)
OTHERS = sealed(secret=RecordSecret(draw("another reader's")(32))).serialize()
YESTERDAYS = sealed(epoch=EPOCH - 1).serialize()
RESIGNED = sealed(content=b"another", sequence=1).serialize()


class Asker:
    """Somebody who has asked nodes for the record, and every tag that it sent."""

    def __init__(self) -> None:
        self.tags: list[bytes] = []
        self._random = random.Random(4)
        self.calls = Calls(self._draw)

    def _draw(self, size: int) -> bytes:
        drawn = self._random.randbytes(size)
        if size == TAG:
            self.tags.append(drawn)
        return drawn

    def ask(self, place: NodeId, request: type[Request] = Get, number: int = 1) -> tuple[Lookup, bytes]:
        """A search at ``place`` by one node, and the tag that only that node was sent."""
        contact = signed_contact(number)
        lookup = Lookup(
            place, [contact], ONE, RoundTrips(), lambda *_: True, lambda data: judge(data, place, EPOCH)
        )
        assert len(lookup.queries_to_send(1.0)) == 1
        asked = request(None) if request is Ping else request(None, place)
        self.calls.ask(contact, asked, 1.0, lookup)
        return lookup, self.tags[-1]


def refused(asker: Asker, tag: bytes, record: bytes) -> bool:
    """Whether a FOUND counts as nothing, and its request goes on waiting."""
    waiting = len(asker.calls)
    try:
        asker.calls.receive_answer(serialize_answer(tag, Found(record)), 1.1)
    except DhtError:
        return len(asker.calls) == waiting
    return False


def test_who_does_not_see_the_request_has_to_guess_its_tag() -> None:
    """Off the way: also a true record, or a tag that is a bit off, is no answer."""
    asker = Asker()
    lookup, tag = asker.ask(PLACE)
    guess = random.Random(9)
    assert all(refused(asker, guess.randbytes(TAG), RECORD) for _ in range(2_000))
    assert all(refused(asker, flip(tag, bit // 8, 1 << bit % 8), RECORD) for bit in range(8 * TAG))
    assert not lookup.holders
    assert asker.calls.receive_answer(serialize_answer(tag, Found(RECORD)), 1.1).answer == Found(RECORD)


@pytest.mark.parametrize(
    "false",
    [
        pytest.param(OTHERS, id="another secret's record"),
        pytest.param(YESTERDAYS, id="yesterday's record"),
        pytest.param(bytes(len(RECORD)), id="zeros"),
        pytest.param(RECORD[:58] + OTHERS[58:], id="the true header with another's content and signature"),
        pytest.param(OTHERS[:-64] + RECORD[-64:], id="another's record with the true signature"),
        pytest.param(RECORD[:58] + RESIGNED[58:], id="an older header with what came later"),
    ],
)
def test_who_sees_the_request_can_send_no_record_but_a_true_one(false: bytes) -> None:
    """On the way, or the node that was asked: it knows the tag, and has records of others, and older ones."""
    asker = Asker()
    lookup, tag = asker.ask(PLACE)
    assert refused(asker, tag, false)
    assert lookup.record is None
    assert not lookup.finished
    assert not asker.calls.receive_answer(serialize_answer(tag, Found(RECORD)), 1.1).signed


def test_no_byte_of_a_record_can_be_changed_on_its_way() -> None:
    for position in range(0, len(RECORD), 7):
        asker = Asker()
        _, tag = asker.ask(PLACE)
        assert refused(asker, tag, flip(RECORD, position, 1 << position % 8)), position


def test_a_record_goes_to_the_search_whose_request_it_answers() -> None:
    """A node repeats what it was asked in another search, or what another node was asked in this one."""
    asker = Asker()
    _, here = asker.ask(PLACE, number=1)
    _, elsewhere = asker.ask(12_345, number=2)
    there, second = asker.ask(SECOND_PLACE, number=3)
    assert refused(asker, elsewhere, RECORD)  # a true record, of another place
    answered = asker.calls.receive_answer(serialize_answer(second, Found(RECORD)), 1.1)
    assert answered.lookup is there
    assert refused(asker, second, RECORD)  # once
    assert asker.calls.receive_answer(serialize_answer(here, Found(RECORD)), 1.1).lookup is not there


@pytest.mark.parametrize("request_type", [Ping, Find, Seek])
def test_only_get_is_answered_without_a_signature(request_type: type[Request]) -> None:
    asker = Asker()
    _, tag = asker.ask(PLACE, request_type)
    assert refused(asker, tag, RECORD)


def test_false_answers_to_one_request_use_up_only_so_much() -> None:
    """Each costs the check of a signature; past the limit even the true one is lost, as if withheld."""
    asker, judged = Asker(), 0
    contact = signed_contact(1)

    def count(data: bytes) -> int | None:
        nonlocal judged
        judged += 1
        return judge(data, PLACE, EPOCH)

    lookup = Lookup(PLACE, [contact], ONE, RoundTrips(), lambda *_: True, count)
    assert lookup.queries_to_send(1.0)
    asker.calls.ask(contact, Get(None, PLACE), 1.0, lookup)
    tag = asker.tags[-1]
    forged = [flip(RECORD, 100 + number) for number in range(3 * MAX_FALSE)]
    assert all(refused(asker, tag, one) for one in forged)
    assert judged == MAX_FALSE
    assert refused(asker, tag, RECORD)


def test_a_request_or_an_answer_that_comes_back_to_its_sender_is_no_answer(grown: Net) -> None:
    client = grown.client()
    grown.run(2.0)
    client.look_up(PLACE, grown.now, ONE, lambda data: judge(data, PLACE, EPOCH))
    sent = client.messages_to_send(grown.now)
    assert sent
    for to, message in sent:
        with pytest.raises(DhtError):
            client.receive_message(message, to, grown.now)  # a client answers none
        node = grown.nodes[to]
        node.receive_message(message, to, grown.now)
        for _, answer in node.messages_to_send(grown.now):
            if answer[1] & 0x80:
                with pytest.raises(DhtError):
                    node.receive_message(answer, to, grown.now)  # it asked nobody for that


# ---- nodes that do not know GET -------------------------------------------------------------------------


class Older(Net):
    """Those of ``old`` know no GET, as before there was one; ``asked`` counts requests by their kind."""

    def __init__(self) -> None:
        super().__init__()
        self.old: set[Address] = set()
        self.asked: dict[int, int] = {}

    def arrive(self, address: Address, data: bytes) -> bool:
        """Whether that node takes the message: see :meth:`Net.run`."""
        kind = data[1]
        self.asked[kind] = self.asked.get(kind, 0) + 1
        return kind != Get.KIND or address not in self.old


@pytest.fixture(scope="module")
def grown() -> Older:
    net = Older()
    for _ in range(40):
        net.add()
        net.run(0.5)
    net.run(2.0)
    writer = net.client()
    net.run(3.0)
    place = search(net, writer, PLACE, PRIVATE)
    for contact in place.closest():
        writer.store(contact, PLACE, place.tokens[contact.id], RECORD, net.now)
    net.run(1.0)
    return net


@pytest.mark.parametrize("share", [0, 50, 100])
def test_who_asks_by_get_finds_a_record_among_nodes_that_do_not_know_it(grown: Older, share: int) -> None:
    addresses = [contact.address for contact in grown.contacts]
    grown.old = set(addresses[: len(addresses) * share // 100])
    for _ in range(3):
        reader = grown.client()
        grown.run(3.0)
        grown.asked.clear()
        lookup = search(grown, reader, PLACE, ONE, record=True)
        assert lookup.record is not None
        assert lookup.record.record == RECORD
        assert grown.asked[Get.KIND]
        assert share < 100 or grown.asked[Seek.KIND]


def test_what_ptproxy_itself_looks_for_is_never_asked_by_get(grown: Older) -> None:
    """So old nodes and new ones find each other's records."""
    grown.old = {contact.address for contact in grown.contacts}
    reader = grown.client()
    grown.run(3.0)
    grown.asked.clear()
    lookup = search(grown, reader, PLACE, PRIVATE, record=True)
    assert lookup.record is not None
    assert len(lookup.holders) >= 10
    assert Get.KIND not in grown.asked
