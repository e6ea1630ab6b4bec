"""Lookups: who is asked, when, and what of the answers counts."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import pytest
from dht_nodes import plain_contact
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.dht.contact import Contact
from ptproxy.dht.density import DensityCap
from ptproxy.dht.diversity import ANY_NETWORK, Diversity
from ptproxy.dht.identifier import NodeId
from ptproxy.dht.lookup import Lookup, Query
from ptproxy.dht.lookup_rules import OUT, Judge, LookupRules

TARGET = 0
PLAIN = LookupRules(diversity=ANY_NETWORK, cap=None)


@dataclass
class Patience:
    """A second, and until then nobody is slow."""

    slow: float = 1.0
    timeout: float = 1.0


def node(number: int) -> Contact:
    """The node at this distance of the target."""
    return plain_contact(TARGET ^ number)


def lookup(
    seeds: Sequence[Contact],
    rules: LookupRules = PLAIN,
    admit: Callable[[Contact, float], bool | None] = lambda _, now: True,
    judge: Judge | None = None,
    size: float | None = None,
    waits: Patience | None = None,
) -> Lookup:
    return Lookup(TARGET, seeds, rules, waits or Patience(), admit, judge, size)


def asked(queries: list[Query]) -> list[int]:
    return [query.contact.id ^ TARGET for query in queries]


def test_the_closest_are_asked_first_three_at_a_time() -> None:
    search = lookup([node(number) for number in (50, 10, 40, 20, 30)])
    assert asked(search.queries_to_send(0.0)) == [10, 20, 30]
    assert search.queries_to_send(0.0) == []
    search.receive_nodes(node(20).id, [node(5)], 0.1)
    assert asked(search.queries_to_send(0.1)) == [5]


def test_a_late_query_frees_its_place_and_its_answer_still_counts() -> None:
    search = lookup([node(number) for number in (10, 20, 30, 40)], judge=lambda _: 1)
    search.queries_to_send(0.0)
    assert search.deadline() == 1.0
    assert search.on_deadline(0.9) == []
    late = search.on_deadline(1.0)
    assert sorted(contact.id for contact in late) == [10, 20, 30]
    assert asked(search.queries_to_send(1.0)) == [40]
    assert search.receive_nodes(node(10).id, [node(1)], 1.5) == 1.5
    assert asked(search.queries_to_send(1.5)) == [1]


def test_it_ends_when_the_closest_have_all_answered() -> None:
    rules = replace(PLAIN, count=3)
    search = lookup([node(number) for number in (10, 20, 30, 40)], rules)
    search.queries_to_send(0.0)
    for number in (10, 20, 30):
        assert not search.finished
        search.receive_nodes(node(number).id, [], 0.1)
        search.queries_to_send(0.1)
    assert search.finished
    assert [contact.id for contact in search.closest()] == [10, 20, 30]
    assert search.deadline() is None


def test_silent_nodes_are_made_up_for_by_further_ones() -> None:
    rules = replace(PLAIN, count=2, parallel=2)
    search = lookup([node(number) for number in (10, 20, 30, 40)], rules)
    search.queries_to_send(0.0)
    search.receive_nodes(node(20).id, [], 0.1)
    search.on_deadline(1.0)
    assert asked(search.queries_to_send(1.0)) == [30]
    search.receive_nodes(node(30).id, [], 1.1)
    assert search.queries_to_send(1.1) == []
    assert [contact.id for contact in search.closest()] == [20, 30]


def test_a_node_does_not_ask_itself() -> None:
    search = Lookup(TARGET, [node(10)], PLAIN, Patience(), lambda _, now: True, own=5)
    search.queries_to_send(0.0)
    search.receive_nodes(10, [node(5), node(6)], 0.1)
    assert asked(search.queries_to_send(0.1)) == [6]


def test_nobody_to_ask_ends_it_at_once() -> None:
    search = lookup([])
    assert search.queries_to_send(0.0) == []
    assert search.finished
    assert search.closest() == []
    assert search.cache_at() is None
    assert search.depth() == 0


def test_no_node_is_asked_by_two_paths() -> None:
    rules = replace(PLAIN, parallel=4, paths=4)
    search = lookup([node(number) for number in range(1, 9)], rules)
    queries = search.queries_to_send(0.0)
    assert asked(queries) == [1, 2, 3, 4]
    assert [query.path for query in queries] == [0, 1, 2, 3]
    shared = [node(1_000)]
    everyone = asked(queries)
    while not search.finished:
        for number in list(everyone):
            search.receive_nodes(node(number).id, shared, 0.1)
        everyone += asked(search.queries_to_send(0.2))
    assert len(everyone) == len(set(everyone))


def test_what_one_path_hears_another_does_not() -> None:
    """A hostile answer on one path: the other goes on among those it knows."""
    rules = replace(PLAIN, count=2, parallel=2, paths=2, width=2)
    search = lookup([node(100), node(200), node(300), node(400)], rules)
    queries = search.queries_to_send(0.0)
    paths = {query.contact.id: query.path for query in queries}
    assert paths == {100: 0, 200: 1}
    search.receive_nodes(100, [node(1), node(2), node(3)], 0.1)
    search.receive_nodes(200, [node(50)], 0.1)
    queries = search.queries_to_send(0.1)
    assert {query.contact.id: query.path for query in queries} == {1: 0, 50: 1}


def test_a_path_asks_some_nodes_itself_though_others_have_asked_closer_ones() -> None:
    def count(width: int) -> int:
        search = lookup(
            [node(n) for n in range(1, 9)], replace(PLAIN, count=2, parallel=4, paths=4, width=width)
        )
        out = asked(search.queries_to_send(0.0))
        while out:
            search.receive_nodes(node(out.pop()).id, [], 0.1)
            out += asked(search.queries_to_send(0.1))
        return search.asked

    assert count(0) == 2
    assert count(2) == 8


def test_an_answer_names_twenty_at_most_and_two_of_a_network() -> None:
    search = lookup([node(1 << 200)], LookupRules(diversity=Diversity(), cap=None, parallel=50))
    search.queries_to_send(0.0)
    crowd = [plain_contact((1 << 100) + number, b"\x0b\0\0\1") for number in range(3)]
    named = [*crowd, *(node((1 << 101) + number) for number in range(17)), *(node(n) for n in range(1, 99))]
    search.receive_nodes(1 << 200, named, 0.1)
    assert asked(search.queries_to_send(0.1)) == [contact.id for contact in (*crowd[:2], *named[3:20])]


def test_nodes_that_may_not_be_asked_are_made_up_for() -> None:
    """Eight of one network are closest: four of them are asked, and one of the others for the fifth place."""
    rules = LookupRules(count=5, diversity=Diversity(), cap=None, parallel=50)
    crowd = [plain_contact(number, b"\x0b\0\0\1") for number in range(1, 9)]
    others = [plain_contact(number, bytes((number, 1, 1, 1))) for number in range(20, 26)]
    search = lookup(crowd + others, rules)
    assert asked(search.queries_to_send(0.0)) == [1, 2, 3, 4, 20]


def test_answers_that_nobody_waits_for_change_nothing() -> None:
    search = lookup([node(10), node(20)], judge=lambda _: 1)
    search.queries_to_send(0.0)
    assert search.receive_nodes(node(99).id, [node(1)], 0.1) is None
    assert search.receive_nodes(node(10).id, [], 0.1) == 0.1
    assert search.receive_nodes(node(10).id, [node(1)], 0.2) is None
    assert search.receive_record(node(99).id, b"x", 0.2) is None
    search.receive_refusal(node(99).id)
    assert search.queries_to_send(0.2) == []
    assert search.record is None


def test_a_forged_contact_is_not_asked_nor_what_its_source_named() -> None:
    forged = node(2)
    search = lookup([node(100), node(200)], replace(PLAIN, parallel=1), admit=lambda one, now: one != forged)
    search.queries_to_send(0.0)
    search.receive_nodes(100, [forged, node(3), node(4)], 0.1)
    assert asked(search.queries_to_send(0.1)) == [200]
    search.receive_nodes(200, [node(5)], 0.2)
    assert asked(search.queries_to_send(0.2)) == [5]
    search.receive_nodes(5, [], 0.3)
    assert search.queries_to_send(0.3) == []
    assert search.finished


@pytest.mark.parametrize("order", [(10, 20), (20, 10)])
def test_a_liar_does_not_take_away_what_honest_nodes_name_too(order: tuple[int, int]) -> None:
    """Else one hostile node would name all that are closest, and a forged contact, and nobody asked them."""
    search = lookup([node(10), node(20)], admit=lambda contact, now: contact.id != 1)
    assert asked(search.queries_to_send(0.0)) == [10, 20]
    named = {10: [node(1), node(2), node(3)], 20: [replace(node(3))]}
    for number in order:
        search.receive_nodes(node(number).id, named[number], 0.1)
    assert asked(search.queries_to_send(0.2)) == [3]


def test_who_agrees_with_a_forgery_has_lied_too() -> None:
    search = lookup([node(10), node(20)], admit=lambda contact, now: contact.id != 1)
    search.queries_to_send(0.0)
    search.receive_nodes(node(10).id, [node(1), node(2)], 0.1)
    search.receive_nodes(node(20).id, [replace(node(1)), node(3)], 0.1)
    assert asked(search.queries_to_send(0.2)) == []
    assert search.finished


def test_an_answer_full_of_forgeries_costs_one_check() -> None:
    """Of nodes that others have named, each with a sequence that would supersede what they said."""
    checked: list[Contact] = []

    def admit(contact: Contact, now: float) -> bool:
        checked.append(contact)
        return contact.sequence == 1

    search = lookup([node(10), node(20)], replace(PLAIN, parallel=2), admit=admit)
    search.queries_to_send(0.0)
    true = [node(number) for number in range(100, 119)]
    search.receive_nodes(node(10).id, true, 0.1)
    checked.clear()
    search.receive_nodes(node(20).id, [replace(one, sequence=2) for one in true], 0.1)
    assert len(checked) == 1


def test_a_contact_that_cannot_be_checked_now_is_nobodys_fault() -> None:
    unknown = node(2)
    search = lookup(
        [node(100)], replace(PLAIN, parallel=1), admit=lambda one, now: None if one == unknown else True
    )
    search.queries_to_send(0.0)
    search.receive_nodes(100, [unknown, node(3)], 0.1)
    assert asked(search.queries_to_send(0.1)) == [3]


def test_contacts_are_checked_when_they_are_about_to_be_asked() -> None:
    checked: list[NodeId] = []

    def admit(contact: Contact, now: float) -> bool:
        checked.append(contact.id)
        return True

    search = lookup([node(number) for number in range(1, 15)], admit=admit)
    search.queries_to_send(0.0)
    assert checked == [1, 2, 3]


@pytest.mark.parametrize("genuine_first", [True, False])
def test_a_false_contact_of_a_node_does_not_hide_the_true_one(genuine_first: bool) -> None:
    """Somebody names a node under another address, with a higher sequence than the true one's."""
    true = plain_contact(1, b"true", sequence=5)
    false = plain_contact(1, b"evil", sequence=99)
    search = lookup([node(100), node(200)], replace(PLAIN, parallel=2), admit=lambda one, now: one != false)
    search.queries_to_send(0.0)
    named = [true, false] if genuine_first else [false, true]
    search.receive_nodes(100, [named[0]], 0.1)
    search.receive_nodes(200, [named[1]], 0.1)
    assert [query.contact for query in search.queries_to_send(0.1)] == [true]


def test_of_two_true_contacts_the_later_is_asked() -> None:
    old, new = plain_contact(1, b"oldd", sequence=5), plain_contact(1, b"neww", sequence=6)
    search = lookup([node(100), node(200), node(300)])
    search.queries_to_send(0.0)
    search.receive_nodes(100, [old], 0.1)
    search.receive_nodes(200, [new], 0.1)
    search.receive_nodes(300, [old], 0.1)
    assert [query.contact for query in search.queries_to_send(0.1)] == [new]


def test_a_record_that_is_accepted_ends_the_search() -> None:
    search = lookup([node(number) for number in (1, 2, 3, 4)], judge=lambda data: data[0])
    search.queries_to_send(0.0)
    search.receive_nodes(node(1).id, [], 0.1)
    assert search.receive_record(node(2).id, b"\7", 0.1) == 0.1
    assert search.finished
    assert search.queries_to_send(0.1) == []
    assert search.record is not None
    assert (search.record.record, search.record.sequence) == (b"\7", 7)
    assert search.holders == [node(2)]
    assert search.cache_at() == node(1)


def test_a_false_record_is_as_if_nobody_had_answered() -> None:
    search = lookup([node(number) for number in (1, 2)], judge=lambda data: 1 if data == b"true" else None)
    search.queries_to_send(0.0)
    assert search.receive_record(node(1).id, b"false", 0.1) is None
    assert search.record is None
    assert not search.finished
    search.receive_record(node(2).id, b"true", 0.1)
    assert search.record is not None
    assert search.closest() == [node(2)]


def test_a_record_that_was_not_sought_is_refused() -> None:
    search = lookup([node(1)])
    search.queries_to_send(0.0)
    assert search.receive_record(node(1).id, b"x", 0.1) is None
    assert search.closest() == []


def test_of_several_records_the_latest_counts() -> None:
    rules = replace(PLAIN, enough=0, parallel=4)
    search = lookup([node(number) for number in (1, 2, 3, 4)], rules, judge=lambda data: data[0])
    search.queries_to_send(0.0)
    for number, record in ((1, b"\3"), (2, b"\7"), (3, b"\5")):
        search.receive_record(node(number).id, record, 0.1)
    assert not search.finished
    search.receive_nodes(node(4).id, [], 0.1)
    assert search.queries_to_send(0.1) == []
    assert search.finished
    assert search.record is not None
    assert search.record.record == b"\7"
    assert len(search.holders) == 3


def test_an_answer_that_does_not_verify_is_as_if_nobody_had_answered() -> None:
    search = lookup([node(number) for number in (1, 2)])
    search.queries_to_send(0.0)
    search.receive_refusal(node(1).id)
    search.receive_nodes(node(2).id, [], 0.1)
    assert search.queries_to_send(0.1) == []
    assert search.closest() == [node(2)]


def test_one_network_is_asked_four_times_and_is_two_of_a_result() -> None:
    rules = LookupRules(diversity=Diversity(), cap=None)
    crowd = [plain_contact(number, b"\x0b\0\0" + bytes((number,))) for number in range(1, 11)]
    others = [plain_contact(number, bytes((number, 1, 1, 1))) for number in range(20, 26)]
    search = lookup(crowd + others, rules)
    out = search.queries_to_send(0.0)
    everyone = list(out)
    while out:
        search.receive_nodes(out.pop().contact.id, [], 0.1)
        more = search.queries_to_send(0.1)
        out += more
        everyone += more
    assert sum(query.contact in crowd for query in everyone) == 4
    assert [contact.id for contact in search.closest()] == [1, 2, 20, 21, 22, 23, 24, 25]


def test_a_crowd_at_the_target_does_not_push_out_those_around_it() -> None:
    """A thousand hostile nodes next to the target name each other, and honest ones name their neighbours."""
    rng = random.Random(1)
    cap = DensityCap()
    rules = LookupRules(diversity=ANY_NETWORK, cap=cap)
    honest = [plain_contact(rng.getrandbits(256)) for _ in range(400)]
    evil = [plain_contact(rng.getrandbits(120)) for _ in range(1_000)]
    near = sorted(honest, key=lambda one: one.id)
    wicked = {one.id for one in evil}
    search = lookup([*rng.sample(honest, 15), *rng.sample(evil, 5)], rules, size=400)
    out = search.queries_to_send(0.0)
    while out:
        contact = out.pop(0).contact
        if contact.id in wicked:
            named = rng.sample(evil, 20)
        else:
            named = [*sorted(evil, key=lambda one: one.id)[:5], *near[:15]]
        search.receive_nodes(contact.id, named, 0.1)
        out += search.queries_to_send(0.1)
    found = search.closest()
    assert len(found) == 20
    assert sum(one.id in wicked for one in found) == cap.floor
    assert search.asked < 80


def test_silent_nodes_of_a_crowd_are_not_asked_one_by_one() -> None:
    rng = random.Random(1)
    evil = [plain_contact(rng.getrandbits(120)) for _ in range(1_000)]
    search = lookup(evil, LookupRules(diversity=ANY_NETWORK), size=1e6)
    now = 0.0
    while not search.finished:
        search.queries_to_send(now)
        now += 1.0
        search.on_deadline(now)
    assert search.asked == DensityCap().floor


def test_a_lookup_asks_only_so_many() -> None:
    """Every answer names twenty new nodes that are closer."""
    rules = replace(PLAIN, max_asked=50)
    search = lookup([node(1 << 200)], rules)
    distance = 1 << 199
    out = search.queries_to_send(0.0)
    while out:
        named = []
        for _ in range(20):
            distance -= 1 << 180
            named.append(node(distance))
        search.receive_nodes(out.pop().contact.id, named, 0.1)
        out += search.queries_to_send(0.1)
    assert search.finished
    assert search.asked == 50


@given(
    st.integers(0, 2**32),
    st.sampled_from([(1, 1, 0), (3, 1, 0), (8, 8, 3), (4, 2, 0)]),
    st.sampled_from([1, 3]),
)
def test_whatever_is_answered_it_ends_and_keeps_its_rules(
    seed: int, shape: tuple[int, int, int], enough: int
) -> None:
    """Random answers, losses, late and false ones, in any order."""
    rng = random.Random(seed)
    parallel, paths, width = shape
    rules = LookupRules(5, parallel, paths, width, 60, Diversity(), DensityCap(), enough)
    bad = {rng.getrandbits(256) >> rng.randrange(64) for _ in range(10)}
    pool = [plain_contact(rng.getrandbits(256) >> rng.randrange(64)) for _ in range(60)]
    pool += [plain_contact(place) for place in bad]
    judge: Judge = lambda data: data[0] if data[0] else None  # noqa: E731
    search = lookup(
        rng.sample(pool, 6), rules, lambda one, now: one.id not in bad, judge, 200.0, Patience(0.15)
    )
    now, out, everyone = 0.0, [], []
    for _ in range(2_000):
        new = search.queries_to_send(now)
        out += new
        everyone += new
        assert sum(path.asking for path in search._paths) <= parallel
        assert sum(path.out for path in search._paths) == len(search.waiting())
        for path in search._paths:
            assert path.asking <= path.out <= OUT * parallel // paths
            assert path.asking == path.out or search._hasty
            assert not path.idle or path.next_heard(5, width, search._has_room) is None
        if search.finished:
            break
        now += 0.1
        search.on_deadline(now)
        if not out:
            continue
        place = out.pop(rng.randrange(len(out))).contact.id
        match rng.randrange(5):
            case 0 | 1:
                search.receive_nodes(place, rng.sample(pool, rng.randrange(30)), now)
            case 2:
                search.receive_record(place, bytes((rng.randrange(3),)), now)
            case 3:
                search.receive_refusal(place)
    assert search.finished
    ids = [query.contact.id for query in everyone]
    assert len(ids) == len(set(ids)) == search.asked <= 60
    assert not bad & set(ids)
    assert {one.id for one in search.closest()} <= set(ids)


HASTY = replace(PLAIN, enough=1)
NEAR, FAR = 1 << 200, 1 << 255
"""Among a thousand nodes: one of the closest, and one that is half way round."""


def hasty(numbers: Sequence[int], rules: LookupRules = HASTY, size: float | None = 1_000.0) -> Lookup:
    return lookup(
        [node(number) for number in numbers], rules, judge=lambda _: 1, size=size, waits=Patience(0.1)
    )


def test_who_should_have_the_record_is_asked_alone() -> None:
    search = hasty([NEAR + number for number in range(5)])
    assert asked(search.queries_to_send(0.0)) == [NEAR]
    assert search.queries_to_send(0.05) == []
    search.receive_record(node(NEAR).id, b"record", 0.06)
    assert search.finished
    assert search.asked == 1


def test_the_other_seeds_are_not_even_looked_at_until_they_are_needed() -> None:
    taken = []

    def seeds() -> Iterator[Contact]:
        for number in range(5):
            taken.append(number)
            yield node(NEAR + number)

    search = Lookup(TARGET, seeds(), HASTY, Patience(0.1), lambda *_: True, lambda _: 1, 1_000.0)
    (query,) = search.queries_to_send(0.0)
    assert (query.hoped, taken) == (True, [0])
    search.receive_nodes(node(NEAR).id, [], 0.05)
    queries = search.queries_to_send(0.05)
    assert taken == [0, 1, 2, 3, 4]
    assert [query.hoped for query in queries] == [False] * 3


def test_if_the_hoped_for_contact_is_forged_the_others_are_asked() -> None:
    seeds = [node(NEAR + number) for number in range(3)]
    search = Lookup(
        TARGET, seeds, HASTY, Patience(0.1), lambda contact, _: contact != seeds[0], lambda _: 1, 1_000.0
    )
    assert asked(search.queries_to_send(0.0)) == [NEAR + 1]
    search.receive_record(seeds[1].id, b"record", 0.1)
    assert search.finished


def test_a_record_is_judged_once() -> None:
    judged = []

    def judge(record: bytes) -> int | None:
        judged.append(record)
        return 1 if record == b"record" else None

    search = Lookup(TARGET, [node(NEAR)], HASTY, Patience(0.1), lambda *_: True, judge, 1_000.0)
    search.queries_to_send(0.0)
    record = b"record"
    assert not search.is_ended_by(node(NEAR + 1).id, record)  # was not asked
    assert not search.is_ended_by(node(NEAR).id, b"false")
    assert search.is_ended_by(node(NEAR).id, record)
    search.receive_record(node(NEAR).id, record, 0.1)
    assert search.finished
    assert judged == [b"false", b"record"]
    assert not search.is_ended_by(node(NEAR).id, record)


def test_the_next_one_is_asked_when_it_is_slow_and_whoever_answers_first_counts() -> None:
    search = hasty([NEAR + number for number in range(5)])
    search.queries_to_send(0.0)
    assert search.deadline() == 0.1
    assert search.on_deadline(0.1) == []
    assert asked(search.queries_to_send(0.1)) == [NEAR + 1]
    assert search.deadline() == 0.2
    search.receive_record(node(NEAR).id, b"record", 0.15)
    assert search.finished
    assert search.waiting() == [(node(NEAR + 1).id, 1.1)]


@pytest.mark.parametrize("says", ["other nodes", "a false record", "what cannot be"])
def test_when_who_should_have_it_does_not_the_search_goes_on_as_any_other(says: str) -> None:
    search = hasty([NEAR + number for number in range(5)])
    search.queries_to_send(0.0)
    if says == "other nodes":
        search.receive_nodes(node(NEAR).id, [], 0.05)
    elif says == "a false record":
        search._judge = lambda _: None
        search.receive_record(node(NEAR).id, b"record", 0.05)
    else:
        search.receive_refusal(node(NEAR).id)
    assert asked(search.queries_to_send(0.05)) == [NEAR + 1, NEAR + 2, NEAR + 3]


def test_nodes_that_are_far_away_are_asked_three_at_a_time() -> None:
    search = hasty([FAR + number for number in range(5)])
    assert len(search.queries_to_send(0.0)) == 3
    search.receive_nodes(node(FAR).id, [node(NEAR), node(NEAR + 1)], 0.05)
    assert asked(search.queries_to_send(0.05)) == [NEAR]
    search.receive_nodes(node(FAR + 1).id, [], 0.05)
    assert search.queries_to_send(0.05) == []


@pytest.mark.parametrize(
    ("rules", "size"),
    [
        (HASTY, None),
        (replace(PLAIN, enough=0), 1_000.0),
        (replace(PLAIN, enough=2), 1_000.0),
        (replace(PLAIN, enough=1, parallel=8, paths=8, width=8), 1_000.0),
        (replace(PLAIN, enough=0, parallel=8, paths=8, width=8), 1_000.0),
    ],
)
def test_nobody_is_asked_alone_where_one_answer_is_not_enough(rules: LookupRules, size: float | None) -> None:
    search = hasty([NEAR + number for number in range(20)], rules, size)
    assert len(search.queries_to_send(0.0)) == rules.parallel


def test_slow_nodes_free_no_place_on_disjoint_paths() -> None:
    for paths in (1, 8):
        rules = replace(PLAIN, enough=0, parallel=8, paths=paths)
        search = hasty([NEAR + number for number in range(20)], rules)
        search.queries_to_send(0.0)
        assert search.deadline() == 1.0
        search.on_deadline(0.9)
        assert search.queries_to_send(0.9) == []


def test_only_so_many_slow_queries_are_waited_for() -> None:
    search = hasty([NEAR + number for number in range(64)])
    now, out = 0.0, 0
    for _ in range(40):
        out += len(search.queries_to_send(now))
        now += 0.02
        search.on_deadline(now)
    assert out == len(search.waiting()) == 8  # one each tenth of a second
    quick = Patience(0.001, 10.0)
    search = lookup([node(NEAR + n) for n in range(64)], HASTY, judge=lambda _: 1, size=1_000.0, waits=quick)
    for step in range(100):
        search.queries_to_send(step * 0.01)
        search.on_deadline(step * 0.01)
    assert len(search.waiting()) == OUT * HASTY.parallel
