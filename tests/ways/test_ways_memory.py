"""What is remembered of ways: for each network, for a time, and nothing in clear."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ways_walk import NOW, way

from ptproxy.errors import StateError
from ptproxy.ways import Degree, Gateway, Surroundings, Ways
from ptproxy.ways.memory import MAX_NETWORKS, MAX_RECORDS
from ptproxy.ways.portal import LOGIN, MOST
from ptproxy.ways.race import STAGGER, STAGGER_LEAST
from ptproxy.ways.way import FORGET, PAUSE_FIRST, PAUSE_LAST

SECRET = bytes(range(32))
HOME = Surroundings(frozenset({"192.168.1.7"}), (Gateway("wlan0", "192.168.1.1", "aa:bb:cc:dd:ee:ff"),))


def ways():
    made = Ways(SECRET)
    made.enter("home", NOW)
    return made


def test_what_failed_comes_last_until_its_pause_is_over():
    known, three = ways(), [way(1), way(2), way(3)]
    assert known.ordered(three, NOW) == three
    known.failed(way(1), Degree.OPENING_RESET, NOW)
    assert known.ordered(three, NOW) == [way(2), way(3), way(1)]
    assert known.ordered(three, NOW + PAUSE_FIRST) == three


def test_pauses_grow_and_a_success_ends_them():
    known = ways()
    for count in range(30):
        known.failed(way(1), Degree.PAGE, NOW)
        assert known.rests_until(way(1), NOW) == NOW + min(PAUSE_FIRST * 2**count, PAUSE_LAST)
    known.opened(way(1), 0.2, NOW)
    assert known.rests_until(way(1), NOW) == 0.0


def test_slower_than_another_way_is_no_reason_for_longer_and_longer_pauses():
    known = ways()
    for number in range(5):
        known.failed(way(1), Degree.LATE, NOW + number)
        assert known.rests_until(way(1), NOW + number) == NOW + number + PAUSE_FIRST
    known.failed(way(1), Degree.SILENT, NOW + 9)
    assert known.rests_until(way(1), NOW + 9) == NOW + 9 + 2 * PAUSE_FIRST


def test_what_befell_an_address_counts_for_all_its_codecs():
    known = ways()
    known.failed(way(1, "http"), Degree.SILENT, NOW)
    assert known.rests_until(way(1, "random"), NOW)
    known = ways()
    known.failed(way(1, "http"), Degree.PAGE, NOW)
    assert not known.rests_until(way(1, "random"), NOW)


def test_no_network_is_nobodys_fault():
    known = ways()
    known.failed(way(1), Degree.OFFLINE, NOW)
    assert not known.rests_until(way(1), NOW)


def test_another_network_knows_nothing_of_it():
    known = ways()
    known.failed(way(1), Degree.SILENT, NOW)
    known.enter("cafe", NOW)
    assert not known.rests_until(way(1), NOW)
    known.enter("home", NOW)
    assert known.rests_until(way(1), NOW)


def test_a_way_that_is_cut_by_rule_rests_though_it_opens():
    known = ways()
    for _ in range(3):
        known.opened(way(1), 0.1, NOW)
        known.cut(way(1), 1 << 20, 1.0, NOW)
    assert known.record(way(1), NOW).degree is Degree.CUT_BYTES
    assert known.rests_until(way(1), NOW) == NOW + PAUSE_FIRST
    known.opened(way(1), 0.1, NOW + 40)
    assert known.cut(way(1), 1 << 20, 1.0, NOW + 40) is Degree.CUT_BYTES
    assert known.rests_until(way(1), NOW + 40) == NOW + 40 + 2 * PAUSE_FIRST
    assert known.cut(way(1), 50 << 20, 600.0, NOW + 50) is None
    assert not known.rests_until(way(1), NOW + 50)


def test_records_fade_and_are_forgotten():
    known = ways()
    for _ in range(8):
        known.failed(way(1), Degree.SILENT, NOW)
    known.failed(way(1), Degree.SILENT, NOW + 90_000)
    assert known.record(way(1).front, NOW + 90_000).failures == 5
    assert known.record(way(1).front, NOW + 90_000 + FORGET).failures == 0


def test_a_clock_that_was_put_back_makes_no_endless_pause():
    known = ways()
    known.failed(way(1), Degree.SILENT, NOW + 1e6)
    assert known.rests_until(way(1), NOW) <= NOW + PAUSE_FIRST


def test_the_stagger_is_the_ways_own_time():
    known = ways()
    assert known.stagger(way(1), NOW) == STAGGER
    known.opened(way(1), 0.6, NOW)
    assert known.stagger(way(1), NOW) == 1.2
    known.opened(way(2), 0.001, NOW)
    assert known.stagger(way(2), NOW) == STAGGER_LEAST


def test_tables_are_bounded():
    known = ways()
    for number in range(MAX_RECORDS + 10):
        known.failed(way(number % 250, f"codec{number // 250}"), Degree.PAGE, NOW + number)
    for number in range(MAX_NETWORKS + 5):
        known.enter(f"network {number}", NOW + number)
    kept = known.to_dict()["networks"]
    assert len(kept) == MAX_NETWORKS
    assert max(len(network["records"]) for network in kept.values()) <= MAX_RECORDS


def test_what_is_kept_names_nothing():
    known = Ways(SECRET)
    known.enter(HOME.name(SECRET), NOW)
    known.failed(way(1), Degree.SILENT, NOW)
    text = json.dumps(known.to_dict())
    for told in ("192.0.2.1", "192.168", "aa:bb", "http", bytes([1]).hex() * 8):
        assert told not in text
    again = Ways(SECRET)
    again.load(json.loads(text))
    again.enter(HOME.name(SECRET), NOW)
    assert again.rests_until(way(1), NOW)
    stranger = Ways(bytes(32))
    stranger.load(json.loads(text))
    stranger.enter(HOME.name(bytes(32)), NOW)
    assert not stranger.rests_until(way(1), NOW)


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(junk)
def test_junk_is_refused_whole(data):
    known = ways()
    known.failed(way(1), Degree.SILENT, NOW)
    with contextlib.suppress(StateError):
        known.load(data)
    assert known.rests_until(way(1), NOW)


@given(st.data())
def test_a_damaged_record_raises_only_state_errors(data):
    known = ways()
    known.opened(way(1), 0.3, NOW)
    known.cut(way(1), 5, 5.0, NOW)
    kept = known.to_dict()
    records = kept["networks"]["home"]["records"]
    record = records[data.draw(st.sampled_from(sorted(records)))]
    record[data.draw(st.sampled_from(sorted(record)))] = data.draw(junk)
    other = Ways(SECRET)
    try:
        other.load(kept)
    except StateError:
        return
    other.enter("home", NOW)
    other.ordered([way(1)], NOW)
    assert other.to_dict()["version"] == 1


def test_a_replaced_certificate_counts_once_another_front_opens():
    known = ways()
    assert known.portal.judge(way(1), Degree.CERTIFICATE, NOW) is Degree.PORTAL
    known.failed(way(1), Degree.PORTAL, NOW)
    assert known.degree(way(1), NOW) is Degree.PORTAL
    assert not known.rests_until(way(1), NOW)
    known.opened(way(2), 0.1, NOW + 1)
    assert known.degree(way(1), NOW + 1) is Degree.CERTIFICATE
    assert known.rests_until(way(1), NOW + 1)


def test_a_front_that_was_answered_for_and_opens_was_behind_a_login_page():
    known = ways()
    for number in (1, 2):
        known.portal.judge(way(number), Degree.CERTIFICATE, NOW)
    known.opened(way(1, "other codec"), 0.1, NOW + 1)
    assert known.degree(way(1), NOW + 1) is known.degree(way(2), NOW + 1) is Degree.OPEN
    assert not known.rests_until(way(2), NOW + 1)


def test_nobody_takes_for_ever_to_log_in():
    known = ways()
    assert known.portal.judge(way(1), Degree.CERTIFICATE, NOW) is Degree.PORTAL
    assert known.portal.judge(way(1), Degree.CERTIFICATE, NOW + MOST) is Degree.CERTIFICATE
    assert not known.portal.stands(NOW + MOST)
    assert known.portal.is_young(NOW + LOGIN - 1)
    assert not known.portal.is_young(NOW + LOGIN)
    known.enter("cafe", NOW + MOST)
    assert known.portal.judge(way(1), Degree.CERTIFICATE, NOW + MOST) is Degree.PORTAL


@pytest.mark.parametrize("degree", [each for each in Degree if each is not Degree.CERTIFICATE])
def test_nothing_else_is_put_down_to_a_login_page(degree):
    known = ways()
    assert known.portal.judge(way(1), degree, NOW) is degree
    assert not known.portal.stands(NOW)


def test_the_hardware_address_is_learnt_and_forgotten_without_a_change():
    bare = Surroundings(HOME.addresses, (Gateway("wlan0", "192.168.1.1"),))
    assert bare == HOME
    assert not HOME.is_elsewhere(bare)
    assert not bare.is_elsewhere(HOME)
    assert bare.remembering(HOME).name(SECRET) == HOME.name(SECRET)
    assert bare.name(SECRET) != HOME.name(SECRET)
    twin = Surroundings(HOME.addresses, (Gateway("wlan0", "192.168.1.1", "00:11:22:33:44:55"),))
    assert twin.is_elsewhere(HOME)
    far = Surroundings(frozenset({"10.0.0.9"}), bare.gateways)
    assert far.remembering(HOME).gateways[0].hardware == ""


def test_one_more_way_out_is_no_other_network():
    both = Surroundings(HOME.addresses | {"2001:db8::7"}, (*HOME.gateways, Gateway("wlan0", "fe80::1")))
    assert both.name(SECRET) == HOME.name(SECRET)
    assert not both.is_elsewhere(HOME)
    assert both.is_elsewhere(Surroundings())
    assert not Surroundings().is_elsewhere(both)


def test_what_was_seen_before_a_network_had_its_name_goes_along():
    known = ways()
    known.failed(way(1), Degree.SILENT, NOW)
    known.enter("weak", NOW + 10)
    known.failed(way(2), Degree.PAGE, NOW + 11)
    known.opened(way(1), 0.5, NOW + 12)
    known.learn_name("home", NOW + 13)
    assert known.record(way(2), NOW + 13).degree is Degree.PAGE
    assert known.degree(way(1), NOW + 13) is Degree.OPEN  # and what was known at home has followed
    assert not known.rests_until(way(1), NOW + 13)
    known.enter("weak", NOW + 14)
    assert known.record(way(2), NOW + 14).failures == 0


def test_networks_are_told_apart():
    cafe = Surroundings(HOME.addresses, (Gateway("wlan0", "192.168.1.1", "00:11:22:33:44:55"),))
    assert HOME.name(SECRET) != cafe.name(SECRET)
    assert HOME.name(SECRET) != HOME.name(bytes(32))
    assert Surroundings(HOME.addresses).name(SECRET) == ""
    other = Surroundings(frozenset({"10.0.0.9"}), HOME.gateways)
    assert other.name(SECRET) == HOME.name(SECRET)  # another lease in the same network
    assert other.lost_since(HOME) == {"192.168.1.7"}


def test_without_a_hardware_address_the_prefix_tells_networks_apart():
    one = Surroundings(frozenset({"10.1.0.9"}), (Gateway("tun0", "10.1.0.1"),))
    assert one.name(SECRET) == Surroundings(frozenset({"10.1.0.200"}), one.gateways).name(SECRET)
    assert one.name(SECRET) != Surroundings(frozenset({"10.2.0.9"}), one.gateways).name(SECRET)


@pytest.mark.parametrize("text", ["fe80::1", "nonsense", "2001:db8::1"])
def test_any_address_has_its_place(text):
    assert Surroundings(frozenset({text}), (Gateway("tun0", "10.1.0.1"),)).name(SECRET)
