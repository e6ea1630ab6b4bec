"""The access list: who is let in, and what a token buys."""

import copy
import json
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from ptproxy.auth import Access, AccessList, Identity, Invite, Token, new_token
from ptproxy.errors import AuthenticationError, ConfigError

NOW = 1_800_000_000
TOKEN = Token(b"t" * 16)
ALICE, BOB = b"a" * 32, b"b" * 32


def invited(**options):
    access = AccessList()
    access.invite(TOKEN, "guest", **options)
    return access


def enter(access, public=ALICE, token=TOKEN.secret, now=NOW):
    return access.spend(access.decide(public, token, now), now)


def refused(access, public=ALICE, token=TOKEN.secret, now=NOW):
    with pytest.raises(AuthenticationError) as error:
        enter(access, public, token, now)
    return str(error.value)


def test_an_open_bridge_admits_every_key_but_a_revoked_one():
    access = AccessList(Access.OPEN)
    admission = access.decide(ALICE, TOKEN.secret, NOW)
    assert (admission.name, admission.invite) == ("", "")
    assert access.spend(admission, NOW) is None
    access.enrol(Identity(ALICE, "alice", NOW, NOW + 1))
    assert access.decide(ALICE, b"", NOW + 5).name == "alice"
    access.revoke(ALICE)
    assert "revoked" in refused(access)


def test_unknown_keys_stay_out():
    assert "without an invite" in refused(AccessList(), token=b"")
    assert "unknown invite" in refused(AccessList())
    assert "unknown invite" in refused(invited(), token=b"T" * 16)


def test_a_single_use_enrols_one_key():
    access = invited()
    assert enter(access) == Identity(ALICE, "guest", NOW, None, False, TOKEN.id)
    assert "used up" in refused(access, BOB)
    access.check(ALICE, NOW)
    with pytest.raises(AuthenticationError):
        access.check(BOB, NOW)


def test_a_token_again_by_the_key_it_enrolled_is_fine_and_free():
    access = invited(uses=2)
    first = enter(access)
    for _ in range(5):
        assert enter(access) is first
    assert access.invites[TOKEN.id].uses_left == 1
    access.withdraw(TOKEN.id)
    assert enter(access) is first


def test_deciding_changes_nothing():
    access = invited()
    before = copy.deepcopy(access.to_dict())
    for public in (ALICE, BOB):
        access.decide(public, TOKEN.secret, NOW)
    assert access.to_dict() == before


def test_of_two_openings_at_once_one_wins():
    access = invited()
    first, second = (access.decide(public, TOKEN.secret, NOW) for public in (ALICE, BOB))
    assert access.spend(second, NOW).public == BOB
    with pytest.raises(AuthenticationError, match="used up"):
        access.spend(first, NOW)
    assert ALICE not in access.identities


def test_two_carriers_of_one_key_at_once_spend_one_use():
    access = invited(uses=3)
    admissions = [access.decide(ALICE, TOKEN.secret, NOW) for _ in range(3)]
    assert len({access.spend(admission, NOW) for admission in admissions}) == 1
    assert access.invites[TOKEN.id].uses_left == 2


@pytest.mark.parametrize("change", ["withdrawn", "expired", "revoked"])
def test_what_changes_between_deciding_and_confirm_counts(change):
    access = invited(expires_at=NOW + 10)
    admission = access.decide(ALICE, TOKEN.secret, NOW)
    now = NOW
    if change == "withdrawn":
        access.withdraw(TOKEN.id)
    elif change == "expired":
        now = NOW + 10
    else:
        access.enrol(Identity(ALICE, "alice", NOW, revoked=True))
    with pytest.raises(AuthenticationError):
        access.spend(admission, now)


def test_a_known_key_revoked_before_confirm():
    access = AccessList()
    access.enrol(Identity(ALICE, "alice", NOW))
    admission = access.decide(ALICE, b"", NOW)
    access.revoke(ALICE)
    with pytest.raises(AuthenticationError, match="revoked"):
        access.spend(admission, NOW)


def test_expiry_of_an_invite():
    access = invited(expires_at=NOW + 10)
    assert "expired" in refused(access, now=NOW + 10)
    assert enter(access, now=NOW + 9).name == "guest"
    access.check(ALICE, NOW + 100)


def test_expiry_of_an_identity_and_its_return():
    access = invited(uses=2, lifetime=100)
    assert enter(access).expires_at == NOW + 100
    access.check(ALICE, NOW + 99)
    with pytest.raises(AuthenticationError, match="expired"):
        access.check(ALICE, NOW + 100)
    assert enter(access, now=NOW + 200).expires_at == NOW + 300
    assert "used up" in refused(access, now=NOW + 400)


def test_a_revoked_key_stays_out_whatever_it_brings():
    access = invited(uses=9)
    enter(access)
    access.revoke(ALICE)
    assert "revoked" in refused(access)
    assert "revoked" in refused(access, now=NOW + 10**6)
    assert access.invites[TOKEN.id].uses_left == 8


def test_names_are_told_apart():
    access = invited(uses=20)
    names = [enter(access, bytes([number]) * 32).name for number in range(3)]
    assert names == ["guest", "guest 2", "guest 3"]
    other = new_token(Random(1))
    access.invite(other, "n" * 64, uses=20)
    names = [enter(access, bytes([number]) * 32, other.secret).name for number in range(50, 62)]
    assert len(set(names)) == 12
    assert max(map(len, names)) == 64


def test_prune_keeps_what_can_still_be_used():
    access = invited()
    access.invite(Token(b"u" * 16), "late", expires_at=NOW)
    kept = access.invite(Token(b"v" * 16), "kept", expires_at=NOW + 1)
    enter(access)
    access.prune(NOW)
    assert list(access.invites.values()) == [kept]
    assert ALICE in access.identities


def test_revoking_and_withdrawing_what_is_not_there():
    with pytest.raises(KeyError):
        AccessList().revoke(ALICE)
    with pytest.raises(KeyError):
        AccessList().withdraw(TOKEN.id)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Identity(b"short", "x", NOW),
        lambda: Identity(ALICE, "", NOW),
        lambda: Identity(ALICE, "x" * 65, NOW),
        lambda: Identity(ALICE, "new\nline", NOW),
        lambda: Identity(ALICE, "x", -1),
        lambda: Identity(ALICE, "x", NOW, 1.5),
        lambda: Identity(ALICE, "x", NOW, None, 1),
        lambda: Identity(ALICE, "x", NOW, None, False, "id"),
        lambda: Invite("id", "x", 1),
        lambda: Invite(TOKEN.id, "x", -1),
        lambda: Invite(TOKEN.id, "x", True),
        lambda: Invite(TOKEN.id, "x", 10**7),
        lambda: Invite(TOKEN.id, "x", 1, True),
    ],
)
def test_impossible_values(make):
    with pytest.raises(ValueError, match=r"."):
        make()


# ---- stored form ----------------------------------------------------------------------------------

names = st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), min_size=1, max_size=64)
times = st.integers(0, 2**53 - 1)
ids = st.binary(min_size=32, max_size=32).map(bytes.hex)
identities = st.builds(
    Identity,
    st.binary(min_size=32, max_size=32),
    names,
    times,
    st.none() | times,
    st.booleans(),
    st.just("") | ids,
)
invites = st.builds(Invite, ids, names, st.integers(0, 9), st.none() | times, st.none() | times)


@given(
    known=st.lists(identities, unique_by=lambda identity: identity.public, max_size=4),
    open_invites=st.lists(invites, unique_by=lambda invite: invite.id, max_size=4),
)
def test_comes_back_through_json(known, open_invites):
    access = AccessList()
    access.identities = {identity.public: identity for identity in known}
    access.invites = {invite.id: invite for invite in open_invites}
    again = AccessList.from_dict(json.loads(json.dumps(access.to_dict())), Access.OPEN)
    assert again.identities == access.identities
    assert again.invites == access.invites
    assert again.access is Access.OPEN
    assert again.to_dict() == access.to_dict()


def test_no_token_is_stored_or_shown():
    access = invited()
    shown = json.dumps(access.to_dict()) + repr(access) + repr(access.invites)
    assert TOKEN.serialize() not in shown
    assert TOKEN.secret.hex() not in shown


def stored(**over):
    access = invited()
    access.enrol(Identity(ALICE, "alice", NOW))
    data = access.to_dict()
    for path, value in over.items():
        kind, field = path.split("__")
        data[kind][0][field] = value
    return data


def permitting(**over):
    """A list that lets somebody offer services, damaged as :func:`stored` does."""
    access = AccessList.from_dict(stored())
    access.permit_reverse(access.identities[ALICE], (2222,))
    data = access.to_dict()
    for path, value in over.items():
        kind, field = path.split("__")
        data[kind][0][field] = value
    return data


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (None, "expected version 1"),
        ([], "expected version 1"),
        ({}, "expected version 1"),
        ({**stored(), "version": 4}, "expected version 1"),
        ({**stored(), "version": True}, "expected version 1"),
        ({**stored(), "version": 2}, r"identities\[0\]: must have exactly the fields"),
        (stored(identities__reverse=[]), r"identities\[0\]: must have exactly the fields"),
        (permitting(identities__reverse=7), r"identities\[0\]: 'reverse' is a list"),
        (permitting(identities__reverse=[0]), r"identities\[0\]: ports are numbers"),
        (permitting(identities__reverse=[True]), r"identities\[0\]: ports are numbers"),
        (permitting(identities__reverse=[22, 22]), r"identities\[0\]: a port stands twice"),
        (permitting(invites__reverse=list(range(1, 66))), r"invites\[0\]: at most 64"),
        ({**stored(), "extra": 1}, "unknown field 'extra'"),
        ({"version": 1, "invites": []}, "identities must be a list"),
        ({"version": 1, "identities": []}, "invites must be a list"),
        ({**stored(), "identities": [7]}, r"identities\[0\]: must have exactly the fields"),
        ({**stored(), "identities": [{"key": "x"}]}, r"identities\[0\]: must have exactly"),
        ({**stored(), "identities": stored()["identities"] * 2}, r"identities\[1\]: the key is there twice"),
        ({**stored(), "invites": stored()["invites"] * 2}, r"invites\[1\]: the id is there twice"),
        (stored(identities__key="AAAA"), r"identities\[0\]: a key is 43 characters"),
        (stored(identities__key=7), r"identities\[0\]: a key is text"),
        (stored(identities__name=7), r"identities\[0\]: a name"),
        (stored(identities__revoked="no"), r"identities\[0\]: 'revoked'"),
        (stored(identities__enrolled_at="now"), r"identities\[0\]: times"),
        (stored(identities__enrolled_at=None), r"identities\[0\]: times"),
        (stored(invites__id="zz"), r"invites\[0\]: an invite's id"),
        (stored(invites__id=None), r"invites\[0\]: an invite's id"),
        (stored(invites__uses_left=-1), r"invites\[0\]: uses"),
        (stored(invites__expires_at=1.5), r"invites\[0\]: times"),
    ],
)
def test_damaged_state_says_what_and_where(data, text):
    assert len(AccessList.from_dict(stored()).identities) == 1
    with pytest.raises(ConfigError, match=text):
        AccessList.from_dict(data)


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(ConfigError) as error:
        AccessList.from_dict(stored(identities__name="", invites__uses_left=-1))
    assert len(error.value.problems) == 2


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["key", "name", "id", "uses_left", "x"]), inner, max_size=5)
    ),
    max_leaves=10,
)


@given(known=json_values, open_invites=json_values)
def test_any_json_is_a_list_or_a_config_error(known, open_invites):
    try:
        AccessList.from_dict({"version": 1, "identities": known, "invites": open_invites})
    except ConfigError:
        pass


@given(key=st.sampled_from(sorted(stored()["identities"][0])), value=json_values)
def test_any_value_in_any_field(key, value):
    data = stored()
    data["identities"][0][key] = value
    try:
        AccessList.from_dict(data)
    except ConfigError:
        pass


# ---- a random walk --------------------------------------------------------------------------------


class Walk(RuleBasedStateMachine):
    """Openings that are decided, confirmed late or never, invites, revocations and time."""

    tokens = Bundle("tokens")
    pending = Bundle("pending")

    def __init__(self):
        super().__init__()
        self.access = AccessList()
        self.now = NOW
        self.rng = Random(5)
        self.granted = {}
        self.enrolled = {}
        self.revoked = set()

    @rule(target=tokens, uses=st.integers(1, 3), ends=st.none() | st.integers(0, 50))
    def invite(self, uses, ends):
        token = new_token(self.rng)
        self.access.invite(token, "guest", uses=uses, expires_at=None if ends is None else self.now + ends)
        self.granted[token.id] = uses
        return token

    @rule(target=pending, token=tokens, who=st.integers(0, 5))
    def opening(self, token, who):
        public = bytes([who]) * 32
        try:
            return self.access.decide(public, token.secret, self.now)
        except AuthenticationError:
            return None

    @rule(admission=consumes(pending))
    def confirm(self, admission):
        if admission is None:
            return
        before = self.access.to_dict()
        try:
            identity = self.access.spend(admission, self.now)
        except AuthenticationError:
            assert self.access.to_dict() == before
            return
        assert identity.public not in self.revoked
        if identity.public not in self.enrolled:
            self.enrolled[identity.public] = identity.invite

    @rule(who=st.integers(0, 5))
    def revoke(self, who):
        public = bytes([who]) * 32
        if public in self.access.identities:
            self.access.revoke(public)
            self.revoked.add(public)

    @rule(passed=st.integers(1, 30))
    def time(self, passed):
        self.now += passed
        self.access.prune(self.now)

    @rule()
    def restart(self):
        self.access = AccessList.from_dict(json.loads(json.dumps(self.access.to_dict())))

    @invariant()
    def no_invite_enrols_more_than_it_may(self):
        for invite_id, uses in self.granted.items():
            assert sum(invite == invite_id for invite in self.enrolled.values()) <= uses

    @invariant()
    def everybody_enrolled_is_in_unless_revoked(self):
        for public in self.enrolled:
            admitted = replace(self.access.identities[public])
            assert admitted.revoked == (public in self.revoked)


TestWalk = Walk.TestCase


def test_ports_are_a_second_version_and_only_where_there_are_any():
    access = AccessList.from_dict(stored())
    assert access.to_dict() == stored()
    assert access.to_dict()["version"] == 1
    assert access.reverse_ports("alice", NOW) == ()
    access.permit_reverse(access.identities[ALICE], (2222, 80))
    data = access.to_dict()
    assert data["version"] == 2
    again = AccessList.from_dict(data)
    assert again.to_dict() == data
    assert again.reverse_ports("alice", NOW) == (2222, 80)
    again.permit_reverse(again.identities[ALICE], ())
    assert again.to_dict() == stored()


def test_who_may_offer_what():
    access = AccessList()
    access.enrol(Identity(ALICE, "alice", NOW, NOW + 10, reverse=(22,)))
    assert access.reverse_ports("alice", NOW + 9) == (22,)
    assert access.reverse_ports("alice", NOW + 10) == ()  # expired
    assert access.reverse_ports("ben", NOW) == ()
    assert access.reverse_ports("", NOW) == ()
    access.enrol(Identity(BOB, "alice", NOW))
    assert access.reverse_ports("alice", NOW) == ()  # which of the two?
    access.revoke(BOB)
    assert access.reverse_ports("alice", NOW) == (22,)
    access.revoke(ALICE)
    assert access.reverse_ports("alice", NOW) == ()


def test_an_invite_hands_its_ports_on():
    access = AccessList()
    invite = access.invite(TOKEN, "anna", uses=2)
    access.permit_reverse(invite, (22,))
    identity = access.spend(access.decide(ALICE, TOKEN.secret, NOW), NOW)
    assert identity is not None
    assert access.reverse_ports("anna", NOW) == identity.reverse == (22,)
