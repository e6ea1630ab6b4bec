"""The routing table: who gets in, who stays, who is handed on."""

from __future__ import annotations

import random
import struct
from dataclasses import replace

import pytest
from dht_nodes import plain_contact
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.dht.bucket import FAILURES, LATEST, OLD, SPARES, Acquaintance, Bucket
from ptproxy.dht.contact import Contact
from ptproxy.dht.density import DensityCap
from ptproxy.dht.diversity import ANY_NETWORK, Diversity
from ptproxy.dht.identifier import NodeId, id_at_prefix, shared_prefix
from ptproxy.dht.probation import NO_PROBATION, Probation
from ptproxy.dht.table import REFRESH, K, RoutingTable
from ptproxy.errors import DhtError

OWN = 0
DAY = 86_400.0


def table(probation: Probation = NO_PROBATION, diversity: Diversity = ANY_NETWORK) -> RoutingTable:
    return RoutingTable(OWN, diversity, probation)


def bucket_of(shared: int, count: int, seed: int = 0) -> list[Contact]:
    """Nodes that share just ``shared`` bits with us."""
    rng = random.Random(seed)
    return [plain_contact(id_at_prefix(OWN, shared, rng.randbytes)) for _ in range(count)]


def ids(contacts: list[Contact]) -> list[NodeId]:
    return [contact.id for contact in contacts]


@given(st.integers(0, 2**32), st.integers(0, 2**256 - 1), st.sampled_from([0, 1, 19, 20, 60, 300]))
def test_the_closest_are_those_that_sorting_all_would_give(seed: int, target: NodeId, count: int) -> None:
    rng = random.Random(seed)
    known = table()
    for _ in range(count):
        place = rng.getrandbits(256) >> rng.randrange(9)
        known.answered(plain_contact(place), 1.0)
    everyone = sorted((one.contact.id for one in known), key=lambda place: place ^ target)
    assert ids(known.closest(target)) == everyone[:K]
    assert ids(known.handed_on(target, 1.0)) == everyone[:K]


def test_who_is_in_stays_and_newcomers_wait() -> None:
    known = table()
    first, later = bucket_of(0, K), bucket_of(0, 50, seed=1)
    for contact in first + later:
        known.answered(contact, 1.0)
    assert {one.contact.id for one in known} == set(ids(first))


def test_a_silent_node_goes_for_the_spare_seen_last() -> None:
    known = table()
    first, later = bucket_of(0, K), bucket_of(0, 2, seed=1)
    for contact in first + later:
        known.answered(contact, 1.0)
    for _ in range(FAILURES):
        assert known.get(first[3].id) is not None
        known.failed(first[3].id)
    assert known.get(first[3].id) is None
    assert known.get(later[1].id) is not None
    assert len(known) == K


def test_without_a_spare_a_silent_node_stays_but_is_not_handed_on() -> None:
    known = table()
    contact = bucket_of(0, 1)[0]
    known.answered(contact, 1.0)
    for _ in range(10):
        known.failed(contact.id)
    assert known.handed_on(0, 1.0) == []
    assert known.closest(0) == [contact]
    known.answered(contact, 2.0)
    assert known.handed_on(0, 2.0) == [contact]


def test_nodes_that_did_not_answer_lately_are_asked_last() -> None:
    known = table()
    contacts = bucket_of(1, 3)
    for contact in contacts:
        known.answered(contact, 1.0)
    target = contacts[1].id
    known.failed(target)
    assert known.closest(target)[-1].id == target


def test_the_nearest_may_be_a_spare_and_is_nobody_who_is_late() -> None:
    known = table()
    assert known.nearest(5) is None
    nodes, spares = bucket_of(0, K), bucket_of(0, 5, seed=1)
    for contact in nodes + spares:
        known.answered(contact, 1.0)
    assert known.nearest(spares[2].id) == spares[2]
    assert known.nearest(nodes[3].id) == nodes[3]
    known.failed(nodes[3].id)
    rest = [one for one in nodes + spares if one != nodes[3]]
    assert known.nearest(nodes[3].id) == min(rest, key=lambda one: one.id ^ nodes[3].id)
    known.answered(bucket_of(4, 1)[0], 1.0)
    assert known.nearest(bucket_of(9, 1)[0].id) == bucket_of(4, 1)[0]


def test_a_stranger_is_worth_a_ping_while_there_is_a_place_or_an_old_spare() -> None:
    known = table()
    crowd, stranger = bucket_of(0, K + SPARES), bucket_of(0, 1, seed=2)[0]
    for number, contact in enumerate(crowd):
        assert known.has_use_for(stranger, 1.0), number
        known.answered(contact, float(number))
    assert not known.has_use_for(stranger, 50.0)
    assert known.has_use_for(bucket_of(1, 1)[0], 50.0)
    assert known.has_use_for(stranger, K + OLD)
    known.failed(crowd[-1].id)  # a spare goes at once
    assert known.has_use_for(stranger, 50.0)


def test_buckets_without_spares_share_nothing_that_one_could_write_to() -> None:
    first, second = table(), table()
    for contact in bucket_of(0, K + 1):
        first.answered(contact, 1.0)
    for contact in bucket_of(0, K):
        second.answered(contact, 1.0)
    second.failed(bucket_of(0, K)[0].id)
    second.forget(bucket_of(0, K)[1].id)
    assert second.met(bucket_of(0, K + 1)[K].id) is None
    assert first.met(bucket_of(0, K + 1)[K].id) is not None


def test_times_that_no_clock_has_are_kept_within_bounds() -> None:
    known = table()
    early, late = bucket_of(3, 2)
    known.answered(early, -5.0)
    known.answered(late, 1e30)
    assert [(one.since, one.seen) for one in known] == [(0, 0), (LATEST, LATEST)]


def test_an_answer_after_a_loss_forgives_it() -> None:
    known = table()
    first, later = bucket_of(0, K), bucket_of(0, 1, seed=1)
    for contact in first + later:
        known.answered(contact, 1.0)
    for _ in range(5):
        known.failed(first[0].id)
        known.answered(first[0], 2.0)
    assert known.get(first[0].id) is not None


def test_a_liar_is_forgotten_and_a_spare_comes_in() -> None:
    known = table()
    first, later = bucket_of(0, K), bucket_of(0, 1, seed=1)
    for contact in first + later:
        known.answered(contact, 1.0)
    known.forget(first[0].id)
    assert known.get(first[0].id) is None
    assert known.get(later[0].id) is not None


def test_of_one_node_the_later_contact_counts() -> None:
    known = table()
    old = plain_contact(2**255, sequence=5)
    for sequence, host in ((5, b"aaaa"), (7, b"bbbb"), (6, b"cccc")):
        known.answered(plain_contact(old.id, host, sequence), 1.0)
    found = known.get(old.id)
    assert found is not None
    assert (found.contact.sequence, found.contact.address.host) == (7, b"bbbb")
    assert found.since == 1.0


def test_we_are_not_in_our_own_table() -> None:
    known = table()
    known.answered(plain_contact(OWN), 1.0)
    known.failed(OWN)
    known.forget(OWN)
    assert known.get(OWN) is None
    assert len(known) == 0


def test_one_network_has_two_places_in_a_bucket_and_a_reply() -> None:
    known = table(diversity=Diversity())
    for number, contact in enumerate(bucket_of(0, 30)):
        known.answered(replace(contact, address=plain_contact(number, b"\x0b\0\0\1").address), 1.0)
    assert len(known) == 2
    for number, contact in enumerate(bucket_of(1, 30)):
        known.answered(replace(contact, address=plain_contact(number, b"\x0b\0\0\1").address), 1.0)
    assert len(known) == 4
    assert len(known.handed_on(0, 1.0)) == 2


def test_a_place_of_a_network_comes_free_again() -> None:
    known = table(diversity=Diversity())
    crowd = [replace(one, address=plain_contact(1, b"\x0b\0\0\1").address) for one in bucket_of(0, 3)]
    for contact in crowd:
        known.answered(contact, 1.0)
    assert known.get(crowd[2].id) is None
    known.forget(crowd[0].id)
    assert known.get(crowd[2].id) is not None


def test_spares_are_bounded() -> None:
    known = table()
    for contact in bucket_of(0, K + 5 * SPARES):
        known.answered(contact, 1.0)
    bucket = known._buckets[0]
    assert (len(bucket.nodes), len(bucket.spares)) == (K, SPARES)


def test_probation_hands_on_only_old_acquaintances() -> None:
    known = table(Probation(founded=0.0))
    old, new = bucket_of(0, 2)
    known.answered(old, 10 * DAY)
    known.answered(new, 13 * DAY)
    assert set(ids(known.closest(0))) == {old.id, new.id}
    assert ids(known.handed_on(0, 13 * DAY)) == []  # asks for 3.25 days
    assert ids(known.handed_on(0, 13.4 * DAY)) == [old.id]
    assert set(ids(known.handed_on(0, 18 * DAY))) == {old.id, new.id}


@pytest.mark.parametrize(
    ("age", "required"), [(0, 0.0), (1, 0.25), (8, 2.0), (16, 4.0), (1_000, 4.0), (-5, 0.0)]
)
def test_probation_grows_with_the_networks_age(age: float, required: float) -> None:
    assert Probation(founded=100.0).required(100.0 + age * DAY) == pytest.approx(required * DAY)


def test_of_a_crowd_at_a_place_a_few_are_named() -> None:
    """Four hundred nodes, forty of them at the target: without the cap a reply is only of those."""
    rng = random.Random(5)
    target = rng.getrandbits(256)
    known = RoutingTable(target ^ 1 << 240, ANY_NETWORK, NO_PROBATION, size=100)
    crowd = {target ^ rng.getrandbits(100) for _ in range(40)}
    for place in [*crowd, *(rng.getrandbits(256) for _ in range(400))]:
        known.answered(plain_contact(place), 1.0)
    cap = DensityCap()
    assert set(ids(known.handed_on(target, 1.0))) <= crowd
    named = known.handed_on(target, 1.0, cap.seats(400))
    assert len(named) == K
    assert len(set(ids(named)) & crowd) == cap.floor
    began = known.closest(target, cap.seats(400))
    assert len(set(ids(began)) & crowd) == cap.floor


def test_records_are_ours_if_few_nodes_are_closer() -> None:
    """Whoever is among the twenty closest of a thousand knows it from the hundred that are in its table."""
    rng = random.Random(1)
    known = table()
    everyone = [rng.getrandbits(256) for _ in range(1_000)]
    for place in everyone:
        known.answered(plain_contact(place), 1.0)
    assert known.is_near(OWN)
    assert known.is_near(OWN ^ 1 << 240)
    places = [rng.getrandbits(256) for _ in range(300)]
    holders = [place for place in places if sum(one ^ place < OWN ^ place for one in everyone) < K]
    assert holders
    assert all(known.is_near(place) for place in holders)
    assert sum(known.is_near(place) for place in places) < 150


def test_buckets_that_no_lookup_went_through_are_due() -> None:
    known = table()
    for shared in (0, 1, 4):
        known.answered(bucket_of(shared, 1, seed=shared)[0], 1_000.0)
    rng = random.Random(1)
    targets = known.refresh(1_000.0, rng.randbytes)  # 2 and 3 are empty, and were never looked through
    assert [shared_prefix(OWN, target) for target in targets] == [2, 3]
    known.touch(id_at_prefix(OWN, 4, rng.randbytes), 2_000.0)
    due = known.refresh(1_000.0 + REFRESH, rng.randbytes)
    assert sorted(shared_prefix(OWN, target) for target in due) == [0, 1, 2, 3]
    assert known.refresh(1_000.0 + REFRESH, rng.randbytes) == []


def test_an_empty_table_has_nothing_to_refresh() -> None:
    assert table().refresh(DAY, random.Random(1).randbytes) == []
    assert table().closest(5) == []


def test_those_not_seen_for_long_are_pinged_when_somebody_waits_for_their_place() -> None:
    known = table()
    first = bucket_of(0, K)
    for seen, contact in enumerate(first):
        known.answered(contact, 100.0 + seen)
    assert known.questionable(1e9, 3) == []
    known.answered(bucket_of(0, 1, seed=1)[0], 200.0)
    assert ids(known.questionable(110.0, 3)) == ids(first[:3])
    assert len(known.questionable(1e9, 100)) == K


@given(st.binary(max_size=240))
def test_kept_garbage_is_refused_or_in_its_one_form(data: bytes) -> None:
    try:
        known = Acquaintance.parse(data)
    except DhtError:
        return
    assert known.serialize() == data


def test_a_kept_acquaintance_that_is_cut_or_has_a_tail_is_refused() -> None:
    whole = Acquaintance(plain_contact(5), 1.0, 2.0).serialize()
    assert Acquaintance.parse(whole).seen == 2.0
    for data in (whole[:15], whole[:-1], whole + b"x"):
        with pytest.raises(DhtError):
            Acquaintance.parse(data)


def test_a_kept_acquaintance_of_an_impossible_time_is_refused() -> None:
    for times in ((LATEST + 1, 0), (0, 2**64 - 1)):
        with pytest.raises(DhtError):
            Acquaintance.parse(struct.pack(">QQ", *times) + plain_contact(5).serialize())
    known = table()
    known.restore(Acquaintance.parse(struct.pack(">QQ", LATEST, LATEST) + plain_contact(5).serialize()))
    assert [one.since for one in map(Acquaintance.parse, (one.serialize() for one in known))] == [LATEST]


def test_who_moves_into_a_network_without_a_place_waits_among_the_spares() -> None:
    known = table(diversity=Diversity())
    first, second, mover = bucket_of(0, 3)
    for contact in (first, second):
        known.answered(replace(contact, address=plain_contact(1, b"\x0b\0\0\1").address), 1.0)
    known.answered(mover, 2.0)
    assert known.get(mover.id) is not None
    moved = replace(mover, sequence=2, address=plain_contact(1, b"\x0b\0\0\2").address)
    known.answered(moved, 3.0)
    assert known.get(mover.id) is None
    known.forget(first.id)
    assert known.get(mover.id) == Acquaintance(moved, 2.0, 3.0)


@given(st.integers(0, 50), st.lists(st.tuples(st.sampled_from("afg"), st.integers(0, 49))), st.booleans())
def test_a_bucket_does_what_its_rules_say(filled: int, steps: list[tuple[str, int]], limited: bool) -> None:
    """Against the same rules written with dictionaries; "f" is as often as a node may fail."""
    diversity = Diversity() if limited else ANY_NETWORK
    pool = [replace(one, address=plain_contact(n % 20).address) for n, one in enumerate(bucket_of(0, 50))]
    bucket, nodes, spares = Bucket(K, diversity, 0.0), {}, {}

    def has_room(number: int) -> bool:
        return sum(other % 20 == number % 20 for other in nodes) < diversity.in_bucket

    def let_in() -> bool:
        for number in reversed(spares):
            if has_room(number):
                nodes[number] = spares.pop(number)
                return True
        return False

    for now, (step, number) in enumerate([("a", number) for number in range(filled)] + steps):
        node = pool[number].id
        if step == "a":
            bucket.answered(pool[number], now)
            since = nodes.get(number, spares.pop(number, (now,)))[0]
            if number in nodes or (len(nodes) < K and has_room(number)):
                nodes[number] = (since, now, 0)
            else:
                spares[number] = (since, now, 0)
                if len(spares) > SPARES:
                    del spares[next(iter(spares))]
        elif step == "g":
            bucket.forget(node)
            spares.pop(number, None)
            if nodes.pop(number, None):
                let_in()
        else:
            for _ in range(FAILURES):
                bucket.failed(node)
            spares.pop(number, None)
            if number in nodes:
                since, seen, failures = nodes.pop(number)
                if not let_in():
                    nodes[number] = (since, seen, failures + FAILURES)
        expected = {pool[one].id: said for one, said in nodes.items()}
        assert {one.contact.id: (one.since, one.seen, one.failures) for one in bucket.nodes} == expected
        assert [one.contact for one in bucket.spares] == [pool[one] for one in spares]


def test_a_table_comes_back_with_what_was_known_of_everybody() -> None:
    known = table(Probation(founded=0.0))
    for contact in bucket_of(0, 3) + bucket_of(1, 3):
        known.answered(contact, 10 * DAY)
    again = table(Probation(founded=0.0))
    for one in known:
        again.restore(Acquaintance.parse(one.serialize()))
        again.restore(Acquaintance.parse(one.serialize()))
    assert sorted(ids(again.closest(0))) == sorted(ids(known.closest(0)))
    assert len(again.handed_on(0, 30 * DAY)) == 6
