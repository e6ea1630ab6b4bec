"""A peer's own prekeys: rotation, refill, deletion, wrong clocks, the stored form."""

from random import Random

import pytest
from agreement_pair import DAY, NOW, Peer, flip
from hypothesis import given, settings
from hypothesis import strategies as st

from ptproxy.e2e import Maintenance, OwnIdentity, PrekeyBundle, Prekeys, Suite, UnknownPrekeyError, verify
from ptproxy.e2e.bundle import BUNDLE_LIFE, ONE_TIME_LIFE, OneTimePrekey
from ptproxy.e2e.prekeys import EARLY, GRACE, MAX_ONE_TIME, MAX_STEP, ROTATION, WAITING, Use
from ptproxy.e2e.replay import KEY, MAX_BUNDLES, ReplayCache
from ptproxy.errors import E2EError, LocalProtocolError, StateError

NOTHING = Maintenance(bundle=False, one_time=False)
NEW_BUNDLE = Maintenance(bundle=True, one_time=False)


def bundle_id(peer):
    return PrekeyBundle.parse(peer.prekeys.bundle(peer.owner)).id


def maintain(peer, now):
    return peer.prekeys.maintain(peer.owner, now, peer.rng)


def classical(name="bob", one_time=0, now=NOW):
    """Without a KEM, where it does not matter: its keys cost half the time."""
    return Peer(name, Suite.X3DH, one_time, now)


def key(number):
    return number.to_bytes(KEY, "big")


def test_rotation_is_weekly():
    bob = classical()
    first = bob.prekeys.bundle(bob.owner)
    assert maintain(bob, NOW + ROTATION - 1) == NOTHING
    assert bob.prekeys.bundle(bob.owner) == first
    assert maintain(bob, NOW + ROTATION) == NEW_BUNDLE
    assert bob.prekeys.bundle(bob.owner) != first
    assert maintain(bob, NOW + ROTATION) == NOTHING


def test_a_private_half_is_deleted_when_its_grace_is_over():
    bob = classical()
    first = bundle_id(bob)
    bob.prekeys.commit(Use(first, 0, key(1)))
    for day in range(7, 35):
        maintain(bob, NOW + day * DAY)
        bob.prekeys.find(first, 0)
        assert key(1) in bob.prekeys.seen
    before = bob.prekeys.find(first, 0).signed.serialize_private()
    maintain(bob, NOW + 35 * DAY)
    with pytest.raises(UnknownPrekeyError):
        bob.prekeys.find(first, 0)
    assert before not in bob.prekeys.serialize()
    assert key(1) not in bob.prekeys.seen


def test_every_bundle_that_is_good_can_be_answered():
    """As long as its owner is there, a bundle expires no later than its private half goes."""
    bob = classical()
    first, data = bundle_id(bob), bob.prekeys.bundle(bob.owner)
    for day in range(40):
        maintain(bob, NOW + day * DAY)
        try:
            verify(data, None, bob.public.fingerprint, NOW + day * DAY, Suite)
        except E2EError:
            assert day * DAY >= BUNDLE_LIFE
        else:
            bob.prekeys.find(first, 0)


def test_mail_that_waited_while_we_were_away_can_still_be_read():
    bob = classical(one_time=1)
    first = bundle_id(bob)
    one_time = OneTimePrekey.parse(bob.mailbox[0])
    maintain(bob, NOW + 300 * DAY)
    bob.prekeys.find(first, one_time.id)


def test_a_hundred_wait_and_are_refilled():
    bob = classical()
    published = bob.prekeys.refill(bob.owner, 0, NOW, bob.rng)
    assert len(published) == bob.prekeys.one_time_kept == WAITING == 100
    assert len({OneTimePrekey.parse(data).id for data in published}) == 100
    for data in published:
        verify(bob.prekeys.bundle(bob.owner), data, bob.public.fingerprint, NOW, Suite)
    assert bob.prekeys.refill(bob.owner, 100, NOW, bob.rng) == []
    assert len(bob.prekeys.refill(bob.owner, 73, NOW, bob.rng)) == 27


@pytest.mark.parametrize(("available", "made"), [(-5, 100), (10**9, 0), (100, 0), (99, 1)])
def test_whatever_a_mailbox_says_it_has(available, made):
    bob = classical()
    assert len(bob.prekeys.refill(bob.owner, available, NOW, bob.rng)) == made


def test_drained_prekeys_are_not_replaced_for_ever():
    """A mailbox that always says "none left" gets a thousand, not more; those handed out stay good."""
    bob = classical()
    published = [data for _ in range(15) for data in bob.prekeys.refill(bob.owner, 0, NOW, bob.rng)]
    assert len(published) == bob.prekeys.one_time_kept == MAX_ONE_TIME
    bob.prekeys.find(bundle_id(bob), OneTimePrekey.parse(published[0]).id)
    assert len(bob.prekeys.serialize()) < 180_000


def test_drained_prekeys_make_room_after_their_grace():
    """Whoever fetches a thousand bundles leaves the next four weeks without one-time prekeys, no longer."""
    bob = classical()
    for _ in range(MAX_ONE_TIME // WAITING):
        drained = bob.prekeys.refill(bob.owner, 0, NOW, bob.rng)
    for day in range(1, 28):
        maintain(bob, NOW + day * DAY)
        assert bob.prekeys.refill(bob.owner, 0, NOW + day * DAY, bob.rng) == []
    bob.prekeys.find(bundle_id(bob), OneTimePrekey.parse(drained[0]).id)
    maintain(bob, NOW + 28 * DAY)
    assert len(bob.prekeys.refill(bob.owner, 0, NOW + 28 * DAY, bob.rng)) == WAITING
    assert bob.prekeys.one_time_kept == WAITING


def test_prekeys_that_may_still_wait_are_not_dropped_for_new_ones():
    bob = classical(one_time=2)
    for _ in range(MAX_ONE_TIME // WAITING):
        bob.prekeys.refill(bob.owner, 1, NOW, bob.rng)
    for day in range(0, 50, 5):
        maintain(bob, NOW + day * DAY)
        bob.prekeys.refill(bob.owner, 1, NOW + day * DAY, bob.rng)
    bob.prekeys.find(bundle_id(bob), OneTimePrekey.parse(bob.mailbox[0]).id)
    assert bob.prekeys.one_time_kept == MAX_ONE_TIME


def test_unused_one_time_prekeys_go_in_the_end():
    bob = classical(one_time=2)
    unused = OneTimePrekey.parse(bob.mailbox[0])
    days = (ONE_TIME_LIFE + GRACE) // DAY
    for day in range(1, days):
        maintain(bob, NOW + day * DAY)
    bob.prekeys.find(bundle_id(bob), unused.id)
    maintain(bob, NOW + days * DAY)
    with pytest.raises(UnknownPrekeyError):
        bob.prekeys.find(bundle_id(bob), unused.id)


def test_one_time_prekeys_are_replaced_before_a_bundle_outlives_them():
    bob = classical(one_time=2)
    handed_out = OneTimePrekey.parse(bob.mailbox[0])
    for day in range(1, 200):
        now = NOW + day * DAY
        said = maintain(bob, now)
        if said.one_time:
            bob.mailbox = bob.prekeys.replace(bob.owner, now, bob.rng)
            assert len(bob.mailbox) == WAITING
            assert maintain(bob, now) == NOTHING
        current = PrekeyBundle.parse(bob.prekeys.bundle(bob.owner))
        assert all(OneTimePrekey.parse(data).expires >= current.expires for data in bob.mailbox[:1])
        if day == 60:
            bob.prekeys.find(current.id, handed_out.id)
    assert said == NOTHING


def test_a_refill_beside_old_ones_does_not_make_them_young():
    bob = classical(one_time=2)
    asked = []
    for day in range(1, 70):
        bob.prekeys.refill(bob.owner, 99, NOW + day * DAY, bob.rng)
        asked.append(maintain(bob, NOW + day * DAY).one_time)
    assert any(asked)


def test_a_clock_of_1970_changes_nothing():
    """A machine without a battery for its clock, several starts a day, a clock that is right in between."""
    bob = classical(one_time=2)
    first, one_time = bundle_id(bob), OneTimePrekey.parse(bob.mailbox[0])
    for day in range(1, 7):
        for minute in range(0, 600, 60):
            assert maintain(bob, minute) == NOTHING
            assert bob.prekeys.refill(bob.owner, 0, minute, bob.rng) == []
        bob.reload()
        assert maintain(bob, NOW + day * DAY) == NOTHING
    assert bundle_id(bob) == first
    bob.prekeys.find(first, one_time.id)


def test_a_clock_that_was_ahead_heals_within_a_day():
    bob = classical(one_time=2)
    first, one_time = bundle_id(bob), OneTimePrekey.parse(bob.mailbox[0])
    ahead = NOW + 5000 * DAY
    assert maintain(bob, ahead).bundle
    bob.mailbox = bob.prekeys.replace(bob.owner, ahead, bob.rng)
    now = NOW + DAY
    assert maintain(bob, now) == NOTHING
    assert maintain(bob, now + EARLY - 1) == NOTHING
    assert maintain(bob, now + EARLY) == Maintenance(bundle=True, one_time=True)
    bob.mailbox = bob.prekeys.replace(bob.owner, now + EARLY, bob.rng)
    verify(bob.prekeys.bundle(bob.owner), bob.mailbox[0], bob.public.fingerprint, now + EARLY, {Suite.X3DH})
    bob.prekeys.find(first, one_time.id)


def test_a_clock_that_runs_backwards_leaves_no_more_than_the_bound():
    """Each day of it brings a new bundle and ages none: the oldest have to go."""
    bob, clock = classical(), NOW
    for _ in range(2 * MAX_BUNDLES):
        maintain(bob, clock - 3 * DAY)
        clock -= 2 * DAY
        assert maintain(bob, clock).bundle
        bob.reload()
        assert bob.prekeys.serialize()[26] <= MAX_BUNDLES


def test_a_replacement_that_finds_no_room_empties_the_list():
    bob = classical()
    for _ in range(MAX_ONE_TIME // WAITING):
        bob.prekeys.refill(bob.owner, 0, NOW, bob.rng)
    later = NOW + 60 * DAY
    assert maintain(bob, later).one_time  # one step: they are seven days old, and keep their place
    assert bob.prekeys.replace(bob.owner, 5, bob.rng) == []
    assert maintain(bob, later).one_time
    assert bob.prekeys.replace(bob.owner, later, bob.rng) == []
    assert maintain(bob, later) == NOTHING


def test_a_full_replay_list_brings_the_next_bundle_early_but_not_at_once():
    bob = classical()
    bob.prekeys.seen = ReplayCache(limit=2)
    first = bundle_id(bob)
    for number in range(2):
        bob.prekeys.commit(Use(first, 0, key(number)))
    with pytest.raises(E2EError, match="full"):
        bob.prekeys.find(first, 0)
    with pytest.raises(E2EError, match="full"):
        bob.prekeys.commit(Use(first, 0, key(3)))
    assert maintain(bob, NOW + EARLY - 1) == NOTHING
    assert maintain(bob, NOW + EARLY) == NEW_BUNDLE
    bob.prekeys.find(bundle_id(bob), 0)
    with pytest.raises(E2EError, match="full"):
        bob.prekeys.find(first, 0)


def test_early_bundles_do_not_push_out_others():
    bob = classical()
    bob.prekeys.seen = ReplayCache(limit=1)
    first = bundle_id(bob)
    for day in range(1, 60):
        if not bob.prekeys.seen.full(bundle_id(bob)):
            bob.prekeys.commit(Use(bundle_id(bob), 0, key(day)))
        maintain(bob, NOW + day * DAY)
        if day < 29:
            with pytest.raises(E2EError, match="full"):  # there, and full
                bob.prekeys.find(first, 0)


def test_one_time_messages_are_taken_though_the_replay_list_is_full():
    bob = classical(one_time=3)
    bob.prekeys.seen = ReplayCache(limit=1)
    current = bundle_id(bob)
    ids = [OneTimePrekey.parse(data).id for data in bob.mailbox]
    for number, one_time in enumerate(ids):
        bob.prekeys.commit(Use(current, one_time, key(number)))
        with pytest.raises(UnknownPrekeyError):
            bob.prekeys.find(current, one_time)
    assert bob.prekeys.one_time_kept == 0
    assert len(bob.prekeys.seen) == 1


def test_unknown_prekeys_are_refused_and_change_nothing():
    bob = classical(one_time=1)
    saved = bob.prekeys.serialize()
    known = OneTimePrekey.parse(bob.mailbox[0]).id
    for use in [Use(1, 0, key(1)), Use(1, known, key(1)), Use(bundle_id(bob), 1, key(1))]:
        with pytest.raises(UnknownPrekeyError):
            bob.prekeys.commit(use)
    assert bob.prekeys.serialize() == saved


def test_another_identitys_prekeys_are_noticed():
    bob = classical()
    with pytest.raises(LocalProtocolError, match="another identity"):
        bob.prekeys.bundle(OwnIdentity.generate(Random(9).randbytes))


def test_random_numbers_that_repeat_are_noticed():
    owner = classical().owner
    with pytest.raises(LocalProtocolError, match="repeat"):
        Prekeys.create(owner, Suite.X3DH, NOW, lambda length: bytes(length))
    prekeys = Prekeys.create(owner, Suite.X3DH, NOW, lambda length: b"\x01" * length)
    with pytest.raises(LocalProtocolError, match="repeat"):
        prekeys.refill(owner, 0, NOW, lambda length: b"\x01" * length)


@pytest.mark.parametrize("suite", Suite)
def test_stored_form(suite):
    bob = Peer("bob", suite)
    bob.prekeys.commit(Use(bundle_id(bob), 0, key(1)))
    maintain(bob, NOW + 8 * DAY)
    saved = bob.prekeys.serialize()
    again = Prekeys.parse(saved)
    assert again.serialize() == saved
    assert again.bundle(bob.owner) == bob.prekeys.bundle(bob.owner)
    assert repr(again) == f"<Prekeys {suite.name}, 2 signed, 3 one-time>"
    for cut in (*range(0, len(saved), 17), len(saved) - 1):
        with pytest.raises(StateError):
            Prekeys.parse(saved[:cut])
    with pytest.raises(StateError):
        Prekeys.parse(saved + b"\0")
    for position in (0, 1, 26):
        with pytest.raises(StateError):
            Prekeys.parse(flip(saved, position, 0x40))


@given(data=st.binary(max_size=400))
def test_garbage(data):
    for candidate in (data, b"\1\1" + data):
        with pytest.raises(StateError):
            Prekeys.parse(candidate)


def test_states_that_are_never_left():
    """Right in form, wrong in what they say: read as damaged, not as a state to go on from."""
    bob = classical(one_time=1)
    saved = bob.prekeys.serialize()
    head, signed, one_time, tail = saved[:26], saved[27:107], saved[109:181], saved[181:]
    assert (saved[26], saved[107:109], tail) == (1, b"\0\1", b"\0")

    def state(signeds, one_times):
        counts = bytes((len(signeds),)), len(one_times).to_bytes(2, "big")
        return head + counts[0] + b"".join(signeds) + counts[1] + b"".join(one_times) + tail

    def numbered(number):
        return number.to_bytes(4, "big") + signed[4:]

    assert Prekeys.parse(state([signed], [one_time])).serialize() == saved
    for signeds, one_times in [
        ([], [one_time]),
        ([signed, signed], [one_time]),
        ([numbered(0)], [one_time]),
        ([numbered(number + 1) for number in range(MAX_BUNDLES + 1)], []),
        ([signed, b"\1\2\3\4" + signed[4:12] + GRACE.to_bytes(4, "big") + signed[16:]], []),
        ([signed], [one_time, one_time]),
        ([signed], [bytes(4) + one_time[4:]]),
        ([signed], [(number + 1).to_bytes(4, "big") + one_time[4:] for number in range(MAX_ONE_TIME + 1)]),
    ]:
        with pytest.raises(StateError, match="damaged"):
            Prekeys.parse(state(signeds, one_times))


clocks = st.one_of(
    st.tuples(st.just("pass"), st.integers(0, 3 * DAY)),
    st.tuples(st.just("away"), st.integers(7 * DAY, 400 * DAY)),
    st.tuples(st.just("wrong"), st.integers(0, 2**33)),
    st.tuples(st.just("reload"), st.just(0)),
)


@settings(max_examples=60)
@given(walk=st.lists(clocks, max_size=40))
def test_whatever_the_clock_does(walk):
    """Bounded always; nothing is deleted before its time has really passed; what is published is good.

    ``spent`` is the time that could really have passed: of each step, a week at most.
    """
    bob, now = classical(one_time=1), NOW
    first, one_time, spent = bundle_id(bob), OneTimePrekey.parse(bob.mailbox[0]).id, 0
    wrong_lately = False
    for what, how_long in walk:
        if what == "reload":
            bob.reload()
            continue
        if what == "wrong":
            said = maintain(bob, how_long)
            spent += MAX_STEP
            wrong_lately = True
        else:
            now += how_long
            said = maintain(bob, now)
            spent += min(how_long, MAX_STEP)
            if not wrong_lately:
                data = bob.prekeys.bundle(bob.owner)
                verify(data, None, bob.public.fingerprint, now, {Suite.X3DH})
        assert bob.prekeys.serialize()[26] <= MAX_BUNDLES
        if spent < GRACE and not wrong_lately:
            bob.prekeys.find(first, 0)
        if spent < GRACE + ONE_TIME_LIFE:
            bob.prekeys.find(bundle_id(bob), one_time)
        assert said.bundle in (False, True)
    for _ in range(12):
        now += 4 * DAY
        maintain(bob, now)
    if wrong_lately and now < 2**33 and walk[-1][0] == "wrong" and walk[-1][1] > now:
        return
    verify(bob.prekeys.bundle(bob.owner), None, bob.public.fingerprint, now, {Suite.X3DH})
    with pytest.raises(UnknownPrekeyError):
        bob.prekeys.find(first, 0)
