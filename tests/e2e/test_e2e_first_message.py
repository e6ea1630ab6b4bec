"""First messages between honest peers, and the same ones again: what both get, and when it is used up."""

import pytest
from agreement_pair import DAY, NOW, PAYLOAD, Peer, pair, refused

from ptproxy.e2e import (
    Authorship,
    KnownOpeningError,
    Suite,
    UnknownPrekeyError,
    examine,
    opening_key,
    opening_length,
)
from ptproxy.e2e.pqxdh import Encapsulation
from ptproxy.e2e.replay import ReplayCache
from ptproxy.errors import E2EError

SUITES = pytest.mark.parametrize("suite", Suite)
ONE_TIME = pytest.mark.parametrize("one_time", [True, False], ids=["one-time", "without"])


# --- what both sides get


@SUITES
@ONE_TIME
@pytest.mark.parametrize("authorship", Authorship)
def test_both_sides_agree(suite, one_time, authorship):
    alice, bob = pair(suite)
    beginning = alice.begin(bob, one_time=one_time, authorship=authorship)
    received = bob.accept(beginning.opening)
    assert received.agreement == beginning.agreement
    assert received.agreement.session_id == beginning.agreement.session_id
    assert (len(beginning.agreement.secret), len(beginning.agreement.associated_data)) == (32, 165)
    assert (received.peer, received.authorship) == (alice.public, authorship)
    assert received.payload == PAYLOAD
    assert received.use.key == beginning.key
    assert received.ratchet_pair.public == beginning.ratchet_key
    assert bob.prekeys.one_time_kept == (2 if one_time else 3)


@pytest.mark.parametrize("authorship", Authorship)
def test_only_what_is_accepted(authorship):
    alice, bob = pair()
    message = alice.begin(bob, authorship=authorship).opening + PAYLOAD
    saved = bob.prekeys.serialize()
    for accepted in [[authorship], Authorship]:
        assert examine(message, bob.owner, bob.prekeys, accepted).authorship is authorship
    for accepted in [[], set(Authorship) - {authorship}]:
        with pytest.raises(E2EError, match="not accepted"):
            examine(message, bob.owner, bob.prekeys, accepted)
    assert bob.prekeys.serialize() == saved


@SUITES
def test_openings_of_a_suite_are_alike(suite):
    """Neither the length nor any byte behind E tells who, with what prekey, signed or not."""
    openings = [
        Peer(name, suite).begin(Peer("bob", suite), one_time=one_time, authorship=authorship).opening
        for name in ("alice", "eve")
        for one_time in (True, False)
        for authorship in Authorship
    ]
    assert {len(opening) for opening in openings} == {opening_length(suite)}
    assert opening_length(suite) == {Suite.X3DH: 222, Suite.PQXDH_768: 1310, Suite.PQXDH_1024: 1790}[suite]
    assert {opening[:3] for opening in openings} == {bytes((1, suite, 5))}
    for position in range(35, opening_length(suite)):
        assert len({opening[position] for opening in openings}) > 1
    for opening in openings:
        for secret in (Peer("alice").public.signing.raw, Peer("alice").public.agreement.raw):
            assert secret not in opening


def test_no_two_agreements_are_the_same():
    alice, bob = pair()
    beginnings = [alice.begin(bob, one_time=False) for _ in range(3)]
    for field in ("secret", "associated_data", "session_id"):
        assert len({getattr(beginning.agreement, field) for beginning in beginnings}) == 3


def test_a_reload_between_any_two_steps():
    alice, bob = pair()
    bob.reload()
    beginning = alice.begin(bob)
    bob.reload()
    received = bob.examine(beginning.opening)
    bob.reload()
    received = bob.examine(beginning.opening)
    bob.prekeys.commit(received.use)
    bob.reload()
    refused(bob, beginning.opening, KnownOpeningError)


def test_the_session_that_an_opening_began_is_named_without_examining_it():
    """Even where the replay cache had no room for it: its second message must find its session."""
    alice, bob = pair()
    bob.prekeys.seen = ReplayCache(limit=0)
    beginning = alice.begin(bob)
    received = bob.accept(beginning.opening)
    assert opening_key(beginning.opening + b"second") == received.use.key == beginning.key
    refused(bob, beginning.opening, UnknownPrekeyError)
    for bad in (b"", beginning.opening[:34], b"\2" + beginning.opening[1:], b"\1\2\5" + bytes(32)):
        with pytest.raises(E2EError):
            opening_key(bad)


def test_early_messages_carry_the_same_opening_and_name_their_session():
    alice, bob = pair()
    beginning = alice.begin(bob)
    second = bob.accept(beginning.opening, b"the second came first")
    assert second.payload == b"the second came first"
    late = refused(bob, beginning.opening, KnownOpeningError, payload=b"the first")
    assert late.value.key == second.use.key == beginning.key


def test_secrets_are_not_shown():
    alice, bob = pair()
    beginning = alice.begin(bob)
    received = bob.examine(beginning.opening)
    for shown in (repr(beginning), repr(received), repr(bob.prekeys), repr(bob.owner)):
        assert repr(beginning.agreement.secret)[2:-1] not in shown
        assert "CurveKeyPair" not in shown
    assert "secret" not in repr(Encapsulation(b"", b"", b"secret"))


# --- replay, reuse, exhaustion, rotation


@ONE_TIME
def test_a_replayed_first_message(one_time):
    alice, bob = pair()
    beginning = alice.begin(bob, one_time=one_time)
    bob.accept(beginning.opening)
    for _ in range(3):
        refused(bob, beginning.opening, KnownOpeningError)
        refused(bob, beginning.opening, KnownOpeningError, payload=b"another payload")
        bob.reload()


def test_a_replay_is_refused_as_long_as_it_could_be_read_and_cannot_be_read_afterwards():
    alice, bob = pair(Suite.X3DH)
    beginning = alice.begin(bob, one_time=False)
    bob.accept(beginning.opening)
    errors = []
    for day in range(1, 60):
        bob.prekeys.maintain(bob.owner, NOW + day * DAY, bob.rng)
        errors.append(refused(bob, beginning.opening).type)
    known, unknown = errors.count(KnownOpeningError), errors.count(UnknownPrekeyError)
    assert known + unknown == 59
    assert errors == [KnownOpeningError] * known + [UnknownPrekeyError] * unknown
    assert known == 34


def test_one_time_prekey_reuse():
    """A mailbox hands one out twice: the second message is refused, the first session is untouched."""
    alice, carol, bob = Peer("alice"), Peer("carol"), Peer("bob")
    published = bob.mailbox[-1]
    first = alice.begin(bob)
    bob.mailbox.append(published)
    second = carol.begin(bob)
    bob.accept(first.opening)
    refused(bob, second.opening, UnknownPrekeyError, "one-time")


def test_two_examined_one_committed():
    """Both were examined before either was committed; the one-time prekey still serves one."""
    alice, carol, bob = Peer("alice"), Peer("carol"), Peer("bob")
    published = bob.mailbox[-1]
    first = bob.examine(alice.begin(bob).opening)
    bob.mailbox.append(published)
    second = bob.examine(carol.begin(bob).opening)
    bob.prekeys.commit(first.use)
    saved = bob.prekeys.serialize()
    with pytest.raises(UnknownPrekeyError):
        bob.prekeys.commit(second.use)
    with pytest.raises(KnownOpeningError):
        bob.prekeys.commit(first.use)
    assert bob.prekeys.serialize() == saved


def test_exhaustion_of_one_time_prekeys():
    """Everybody after the last one begins without, until there are new ones."""
    bob = Peer("bob", one_time=2)
    peers = [Peer(f"peer {number}") for number in range(4)]
    for peer in peers:
        beginning = peer.begin(bob, one_time=bool(bob.mailbox))
        assert bob.accept(beginning.opening).peer == peer.public
    assert bob.prekeys.one_time_kept == 0
    bob.mailbox = bob.prekeys.refill(bob.owner, 0, NOW, bob.rng)
    assert len(bob.mailbox) == 100
    assert bob.accept(Peer("late").begin(bob).opening).use.one_time_id


def test_rotation():
    """To the bundle before, while its grace lasts; not afterwards."""
    alice, bob = pair()
    to_old = [alice.begin(bob, one_time=one_time) for one_time in (True, False, True)]
    bob.prekeys.maintain(bob.owner, NOW + 7 * DAY, bob.rng)
    bob.accept(to_old[0].opening)
    for week in range(2, 5):
        bob.prekeys.maintain(bob.owner, NOW + 7 * week * DAY, bob.rng)
    bob.accept(to_old[1].opening)
    bob.prekeys.maintain(bob.owner, NOW + 35 * DAY, bob.rng)
    refused(bob, to_old[2].opening, UnknownPrekeyError, "signed prekey")


def test_a_full_replay_cache_refuses_only_what_it_alone_protects():
    alice, bob = pair()
    bob.prekeys.seen = ReplayCache(limit=1)
    bob.accept(alice.begin(bob, one_time=False).opening)
    refused(bob, alice.begin(bob, one_time=False).opening, match="full")
    with_one_time = alice.begin(bob)
    bob.accept(with_one_time.opening)
    refused(bob, with_one_time.opening, UnknownPrekeyError)


def test_both_sides_starting_at_once():
    """Both sessions are good, and both sides choose the same one to send in."""
    for seed in range(8):
        alice, bob = Peer(f"alice {seed}", Suite.X3DH), Peer(f"bob {seed}", Suite.X3DH)
        by_alice, by_bob = alice.begin(bob), bob.begin(alice)
        at_bob, at_alice = bob.accept(by_alice.opening), alice.accept(by_bob.opening)
        assert at_bob.agreement == by_alice.agreement != by_bob.agreement == at_alice.agreement
        ids = [by_alice.agreement.session_id, at_alice.agreement.session_id]
        assert min(ids) == min(by_bob.agreement.session_id, at_bob.agreement.session_id)
        assert len(set(ids)) == 2
