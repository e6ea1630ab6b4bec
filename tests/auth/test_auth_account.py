"""Accounts: what the keys of one name may together, when a month begins, and who is told what."""

import datetime
import json
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.auth import Access, AccessList, Identity, Token, new_token
from ptproxy.auth.account import MIN_RATE, TOLD_FOR, Account, Lapse, Used, month_of
from ptproxy.errors import AuthenticationError, ConfigError

NOW = 1_800_000_000
TOKEN = Token(b"t" * 16)
ALICE, BOB, CARL = b"a" * 32, b"b" * 32, b"c" * 32


def having(devices=2, **limits):
    """A list with the account anna, and an invite for five devices of it."""
    access = AccessList()
    access.keep_account(Account("anna", NOW, devices=devices, **limits))
    access.invite(TOKEN, "anna", uses=5, account="anna")
    return access


def enter(access, public=ALICE, token=TOKEN.secret, now=NOW):
    return access.spend(access.decide(public, token, now), now)


def refused(access, public=ALICE, token=TOKEN.secret, now=NOW):
    with pytest.raises(AuthenticationError) as error:
        enter(access, public, token, now)
    return str(error.value)


def test_devices_share_a_name_up_to_their_number():
    access = having()
    assert enter(access).name == enter(access, BOB).name == "anna"
    uses = access.invites[TOKEN.id].uses_left
    assert "all its devices" in refused(access, CARL)
    assert access.invites[TOKEN.id].uses_left == uses == 3
    assert enter(access, BOB).name == "anna"  # one that is in is in
    access.revoke(ALICE)
    assert enter(access, CARL).name == "anna"
    assert "revoked" in refused(access)


def test_of_two_that_would_be_the_last_device_one_wins():
    access = having(devices=1)
    first, second = (access.decide(public, TOKEN.secret, NOW) for public in (ALICE, BOB))
    access.spend(second, NOW)
    with pytest.raises(AuthenticationError, match="all its devices"):
        access.spend(first, NOW)


def test_another_invite_never_leads_into_an_account():
    access = having()
    other = new_token(Random(1))
    access.invite(other, "anna", uses=9)
    assert enter(access, CARL, other.secret).name == "anna 1"
    assert access.identities[CARL].name not in access.accounts


def test_a_disabled_account_is_out_and_comes_back():
    access = having()
    enter(access)
    access.keep_account(replace(access.accounts["anna"], enabled=False))
    assert "disabled" in refused(access)
    assert access.lapse(ALICE, NOW) is None
    assert access.kept_out(ALICE) == "disabled"
    assert access.reverse_ports("anna", NOW) == ()
    access.keep_account(replace(access.accounts["anna"], enabled=True))
    access.check(ALICE, NOW)


def test_an_account_that_ends_takes_its_devices_along_and_they_are_told_for_a_week():
    access = having(expires_at=NOW + 100)
    enter(access)
    enter(access, BOB)
    assert access.lapse(ALICE, NOW + 99) is None
    assert "expired" in refused(access, token=b"", now=NOW + 100)
    assert "not in force" in refused(access, now=NOW + 100)  # its invite neither
    for public in (ALICE, BOB):
        assert access.lapse(public, NOW + 100) is access.lapse_of("anna", NOW + 100) is Lapse.EXPIRED
        assert access.standing(public, NOW + 100).lapse is Lapse.EXPIRED
        assert access.lapse(public, NOW + 100 + TOLD_FOR) is None
    with pytest.raises(AuthenticationError):
        access.check(ALICE, NOW + 100 + TOLD_FOR)


def test_one_device_of_several_that_expires_is_out_without_a_word():
    access = having()
    access.enrol(Identity(ALICE, "anna", NOW, NOW + 10))
    enter(access, BOB)
    assert access.lapse(ALICE, NOW + 10) is access.lapse_of("anna", NOW + 10) is None
    with pytest.raises(AuthenticationError, match="expired"):
        access.check(ALICE, NOW + 10)
    access.check(BOB, NOW + 10)


def test_an_identity_alone_is_told_that_it_has_expired():
    access = AccessList()
    access.enrol(Identity(ALICE, "alice", NOW, NOW + 10))
    assert access.lapse(ALICE, NOW + 9) is None
    assert access.lapse(ALICE, NOW + 10) is Lapse.EXPIRED
    assert access.lapse(BOB, NOW) is None


def test_a_quota_counts_both_ways_for_one_month():
    access = having(quota=1000, reset_day=5)
    enter(access)
    since, resets = month_of(5, NOW)
    access.used["anna"] = Used(since, 400, 599)
    access.check(ALICE, NOW)
    assert access.standing(ALICE, NOW).used == 999
    access.used["anna"] = Used(since, 400, 600)
    assert "quota" in refused(access)
    assert access.lapse(ALICE, NOW) is Lapse.QUOTA
    standing = access.standing(ALICE, NOW)
    assert (standing.used, standing.quota, standing.resets_at) == (1000, 1000, resets)
    access.check(ALICE, resets)
    assert access.standing(ALICE, resets).used == 0


def test_a_quota_of_an_open_bridge_holds_for_its_keys():
    access = AccessList(Access.OPEN)
    access.enrol(Identity(ALICE, "anna", NOW, NOW + 1))
    access.keep_account(Account("anna", NOW, quota=10))
    access.check(ALICE, NOW + 5)
    access.used["anna"] = Used(month_of(1, NOW)[0], 10, 0)
    assert "quota" in refused(access, token=b"")


def test_who_was_removed_stays_out_also_with_an_invite():
    access = having()
    enter(access)
    access.remove_account("anna")
    assert TOKEN.id not in access.invites
    other = new_token(Random(1))
    access.invite(other, "new", uses=9)
    assert "revoked" in refused(access, token=other.secret)
    with pytest.raises(KeyError):
        access.remove_account("anna")


def test_an_expired_device_with_an_own_invite_leaves_the_account():
    access = having(expires_at=NOW + 10)
    enter(access)
    other = new_token(Random(1))
    access.invite(other, "guest")
    assert enter(access, token=other.secret, now=NOW + 20).name == "guest"
    access.check(ALICE, NOW + 20)


def test_ports_are_the_accounts():
    access = having(reverse=(22,))
    assert access.reverse_ports("anna", NOW) == ()  # nobody is there
    enter(access)
    enter(access, BOB)
    assert access.reverse_ports("anna", NOW) == (22,)
    access.permit_reverse(access.accounts["anna"], (80,))
    assert access.reverse_ports("anna", NOW) == (80,)


def test_what_was_touched_is_known():
    access = having()
    assert access.touched == {("accounts", "anna"), ("invites", TOKEN.id)}
    access.touched.clear()
    enter(access)
    assert access.touched == {("identities", ALICE), ("invites", TOKEN.id)}
    access.take_in("identities", ALICE, None)
    assert access.touched == {("invites", TOKEN.id)}
    assert access.named("anna") == []


# ---- months ---------------------------------------------------------------------------------------


@given(day=st.integers(1, 28), now=st.integers(0, 4_000_000_000))
def test_every_moment_lies_in_one_month(day, now):
    since, until = month_of(day, now)
    assert since <= now < until
    for moment in (since, until):
        begin = datetime.datetime.fromtimestamp(moment, datetime.UTC)
        assert (begin.day, begin.hour, begin.minute, begin.second) == (day, 0, 0, 0)
    assert month_of(day, until)[0] == until
    assert 28 * 86_400 <= until - since <= 31 * 86_400


# ---- stored form ----------------------------------------------------------------------------------

texts = st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), min_size=1, max_size=64)
numbers = st.integers(0, 2**53 - 1)
accounts = st.builds(
    Account,
    texts,
    numbers,
    st.booleans(),
    st.none() | numbers,
    st.integers(1, 1000),
    st.none() | st.integers(0, 1 << 60),
    st.integers(1, 28),
    st.none() | st.integers(MIN_RATE, 1 << 40),
    texts,
    st.lists(texts, max_size=3).map(tuple),
    st.none() | st.lists(texts, max_size=3).map(tuple),
    st.sets(st.integers(1, 65535), max_size=3).map(tuple),
)


@given(st.lists(accounts, unique_by=lambda account: account.name, max_size=4))
def test_comes_back_through_json(known):
    access = AccessList()
    for each in known:
        access.keep_account(each)
    data = json.loads(json.dumps(access.to_dict()))
    assert data["version"] == (3 if known else 1)
    again = AccessList.from_dict(data)
    assert again.accounts == access.accounts
    assert again.to_dict() == data


json_values = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.lists(st.integers() | st.text())
)


@given(field=st.sampled_from(sorted(Account("anna", NOW).serialize())), value=json_values)
def test_any_value_in_any_field(field, value):
    data = having().to_dict()
    data["accounts"][0][field] = value
    try:
        assert isinstance(AccessList.from_dict(data), AccessList)
    except ConfigError:
        pass


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("name", "", "a name is"),
        ("enabled", 1, "'enabled'"),
        ("devices", 0, "'devices' is a number from 1"),
        ("devices", True, "'devices'"),
        ("reset_day", 29, "'reset_day' is a number from 1 to 28"),
        ("quota", -1, "'quota'"),
        ("rate", 10, "'rate' is a number from 1024"),
        ("note", "a\nb", "a note"),
        ("targets", None, "'targets' is a list"),
        ("targets", [5], "each of 'targets'"),
        ("services", "shape", "'services' is a list"),
        ("reverse", [0], "ports are numbers"),
        ("expires_at", 1.5, "times"),
    ],
)
def test_damage_says_what_and_where(field, value, text):
    data = having().to_dict()
    data["accounts"][0][field] = value
    with pytest.raises(ConfigError, match=r"accounts\[0\]: .*" + text):
        AccessList.from_dict(data)
