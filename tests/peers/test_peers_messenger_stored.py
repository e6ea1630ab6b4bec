"""Everything that a messenger stores comes back, and what is damaged says so."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from messenger_live import link_of
from peers_live import DAY, START, rng_of

from ptproxy.e2e import Fingerprint, OwnIdentity
from ptproxy.errors import StateError
from ptproxy.peers.contact_invite import ContactInvite
from ptproxy.peers.dialers import Errand
from ptproxy.peers.mailbox_delivery import DeliveryPass
from ptproxy.peers.mailbox_requests import Right
from ptproxy.peers.messenger_contact import MAX_OWED, ContactRecord
from ptproxy.peers.messenger_events import Direction, Line, LineState
from ptproxy.peers.messenger_line import parse_line, serialize_line
from ptproxy.peers.messenger_outbox import Sealed, Waiting
from ptproxy.peers.messenger_passes import (
    MAX_GIVEN,
    MAX_HELD,
    MAX_RETIRED,
    Given,
    GivenPasses,
    HeldPasses,
    PassState,
)
from ptproxy.peers.messenger_profile import FormerBox, OwnInvite, Profile

ID = bytes(range(16))
RNG = rng_of("stored")


def a_pass(right=Right.DEPOSIT, count=8, uses=1, days=100):
    return DeliveryPass.make(RNG, START, seconds=days * DAY, count=count, uses=uses, right=right)


def a_record():
    record = ContactRecord(ID, "mine", "theirs", link_of(), RNG(32))
    record.held.add(a_pass(), invite=True)
    record.held.add(a_pass(Right.FETCH, 1, 8), invite=False)
    assert record.held.take(START)
    fetching = record.held.fetching(START)
    assert fetching
    record.held.fetched(fetching)
    record.given.add(Given(a_pass(count=11), PassState.TOLD, 0b101))
    record.given.add(Given(a_pass(Right.FETCH, 1, 8)))
    record.owes_hello = record.pass_due = record.owes_succession = True
    record.last_number, record.read, record.unread = 1 << 40, 7, 3
    record.oldest, record.kept, record.told = 5, 1 << 33, 1 << 40
    record.owed_delivered, record.owed_read = [5, 6], [1 << 61]
    return record


def a_profile():
    profile = Profile.make("me ☺", link_of(), RNG)
    profile.revoke([RNG(32), RNG(32)])
    profile.successor = OwnIdentity.generate(RNG).serialize()
    profile.former = [FormerBox(link_of(RNG(32)), RNG(32), 20_000, RNG(32)), FormerBox(link_of(), RNG(32), 1)]
    return profile


def an_invite():
    invite = ContactInvite.make(Fingerprint(RNG(32)), link_of(), RNG(32), START, RNG, persons=3, days=7)
    return OwnInvite(invite, "for Bob", 2, PassState.GRANTED, [ID])


STORED = {
    "contact": (a_record().serialize(), lambda data: ContactRecord.parse(ID, data)),
    "profile": (a_profile().serialize(), Profile.parse),
    "invite": (an_invite().serialize(), OwnInvite.parse),
    "sealed": (Sealed(RNG(32), RNG(32), (1, 9), RNG(2048)).serialize(), Sealed.parse),
}


@pytest.mark.parametrize("name", STORED)
def test_it_comes_back(name):
    data, parse = STORED[name]
    assert parse(data).serialize() == data


@pytest.mark.parametrize("name", STORED)
@given(data=st.data())
def test_what_is_damaged_says_so(name, data):
    whole, parse = STORED[name]
    changed = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    for wrong in (bytes(changed), whole[: data.draw(st.integers(0, len(whole) - 1))], b"\2" + whole[1:]):
        try:
            parse(wrong).serialize()
        except StateError:
            pass


@pytest.mark.parametrize("name", STORED)
def test_another_version_is_refused(name):
    whole, parse = STORED[name]
    with pytest.raises(StateError):
        parse(b"\x7f" + whole[1:])


@pytest.mark.parametrize("name", ["contact", "profile", "invite"])
def test_what_is_cut_is_refused(name):
    whole, parse = STORED[name]
    for length in range(len(whole)):
        with pytest.raises(StateError):
            parse(whole[:length])


@given(
    st.sampled_from(Direction),
    st.sampled_from(LineState),
    st.integers(0, 1 << 42),
    st.integers(0, 1 << 42),
    st.integers(0, 1 << 62),
    st.text(min_size=1, max_size=100),
)
def test_a_line_comes_back(direction, state, written, arrived, said, text):
    line = Line(7, direction, state, written / 1000, arrived / 1000, text)
    assert parse_line(7, serialize_line(line, said)) == (line, said)


@given(st.binary(max_size=60))
def test_garbage_is_no_line_and_nothing_that_waits(data):
    for wrong in (data, b"\1" + data):
        for parse in (parse_line, Waiting.parse):
            try:
                parse(1, wrong)
            except StateError:
                pass


def test_what_waits_comes_back():
    waiting = Waiting(3, 9, 1234, b"part")
    assert Waiting.parse(3, waiting.serialize()) == waiting


def test_nothing_secret_is_shown():
    record, profile = a_record(), a_profile()
    secrets = [held.given.secret for held in record.held.passes]
    secrets += [given.given.secret for given in record.given.passes]
    secrets += [record.prekeys_key, profile.box_seed, profile.dialling, profile.prekeys_key]
    shown = f"{record!r} {profile!r} {an_invite()!r} {record.given.passes!r} {record.held.passes!r}"
    shown += repr(profile.purpose(Errand.DEPOSIT, link_of(), ID))
    assert not any(str(secret) in shown or secret.hex() in shown for secret in secrets)
    assert str(link_of().key) not in shown


def test_keys_for_errands_differ_and_stay():
    profile = a_profile()
    other = link_of(bytes(32))
    keys = [
        profile.purpose(errand, link, contact).key
        for errand in Errand
        for link in (link_of(), other)
        for contact in (b"", ID)
    ]
    assert len(set(keys)) == len(keys)
    again = Profile.parse(profile.serialize())
    assert again.purpose(Errand.OWN_BOX, link_of()) == profile.purpose(Errand.OWN_BOX, link_of())


# ---- passes


def test_tokens_are_taken_in_order_each_once():
    held = HeldPasses()
    first, second = a_pass(count=2), a_pass(count=1)
    held.add(first, invite=False)
    held.add(second, invite=False)
    held.add(first, invite=False)
    assert held.left(Right.DEPOSIT, START) == 3
    taken = [held.take(START) for _ in range(4)]
    assert taken == [first.token(0), first.token(1), second.token(0), None]
    assert held.prune(START)
    assert not held.passes


def test_an_invites_passes_go_when_others_come():
    held = HeldPasses()
    held.add(a_pass(), invite=True)
    held.add(a_pass(Right.FETCH, 1, 4), invite=True)
    given = a_pass()
    held.add(given, invite=False)
    assert [each.given.right for each in held.passes] == [Right.FETCH, Right.DEPOSIT]
    assert held.take(START) == given.token(0)


def test_what_was_fetched_is_counted_and_nothing_else():
    held = HeldPasses()
    held.add(a_pass(Right.FETCH, 1, 2), invite=False)
    token = held.fetching(START)
    assert token is not None
    for _ in range(10):
        assert held.fetching(START) == token  # whoever asks in vain may ask again
    held.fetched(token)
    assert held.left(Right.FETCH, START) == 1
    held.fetched(token)
    held.fetched(token)
    assert held.left(Right.FETCH, START) == 0
    assert held.fetching(START) is None


def test_the_newest_pass_to_fetch_is_used():
    """Whoever gives another one has had the mailbox forget the one before."""
    held = HeldPasses()
    older, newer = a_pass(Right.FETCH, 1, 8), a_pass(Right.FETCH, 1, 8)
    held.add(older, invite=False)
    held.add(newer, invite=False)
    token = held.fetching(START)
    assert token == newer.token(0)
    held.fetched(token)
    assert [each.used for each in held.passes] == [0, 1]


def test_expired_passes_serve_nothing():
    held = HeldPasses()
    held.add(a_pass(days=10), invite=False)
    late = START + 20 * DAY
    assert held.left(Right.DEPOSIT, late) == 0
    assert held.take(late) is None


def test_a_contact_cannot_fill_the_store():
    held = HeldPasses()
    for _ in range(100):
        held.add(a_pass(), invite=False)
    assert len(held.passes) == MAX_HELD
    record = ContactRecord(ID)
    for number in range(1, 3 * MAX_OWED):
        record.owe(record.owed_read, number)
    assert len(record.owed_read) == MAX_OWED
    assert record.owed_read[-1] == 3 * MAX_OWED - 1


def test_the_oldest_given_pass_retires_and_still_opens_what_waits():
    given = GivenPasses()
    first = Given(a_pass(count=4), PassState.TOLD, 0b0011)
    assert given.add(first) == []
    for _ in range(MAX_GIVEN - 1):
        assert given.add(Given(a_pass())) == []
    assert given.add(Given(a_pass())) == [token.id for token in first.tokens[2:]]
    assert first in given.passes
    assert first not in given.good()
    assert given.add(Given(a_pass(Right.FETCH, 1, 8))) == []
    assert len(given.add(Given(a_pass(Right.FETCH, 1, 8)))) == 1
    for _ in range(3 * MAX_RETIRED):
        given.add(Given(a_pass()))
    assert len(given.passes) == MAX_RETIRED + MAX_GIVEN + 1
    assert len(given.of(Right.DEPOSIT)) == MAX_GIVEN


def test_any_number_of_identities_may_turn_out_to_be_one_peer():
    """Each of them was given passes: their count is one byte, and some are enough."""
    mine = GivenPasses()
    for _ in range(60):
        other = GivenPasses()
        for _ in range(MAX_GIVEN + MAX_RETIRED):
            other.add(Given(a_pass(count=2), PassState.TOLD, 0b01))
        newest = Given(a_pass(count=2))
        other.add(newest)
        other.add(Given(a_pass(Right.FETCH, 1, 8)))
        before = mine.good()
        revoked = mine.take_over(other)
        assert revoked == [
            token.id
            for each in before
            for token in each.tokens
            if not (each.used and token is each.tokens[0])
        ]
        assert newest in mine.good()
        assert len(mine.passes) == MAX_GIVEN + 1 + MAX_RETIRED
    record = ContactRecord(ID, given=mine)
    assert ContactRecord.parse(ID, record.serialize()).serialize() == record.serialize()


def test_a_record_of_before_histories_had_an_end():
    record = a_record()
    data = bytearray(record.serialize())
    data[0] = 1
    del data[22:46]
    old = ContactRecord.parse(ID, bytes(data))
    assert (old.oldest, old.kept) == (1, 0)
    old.oldest, old.kept, old.told = record.oldest, record.kept, record.told
    assert old.serialize() == record.serialize()


def test_a_profile_of_before_boxes_could_move():
    profile = a_profile()
    profile.former = []
    old = Profile.parse(b"\1" + profile.serialize()[1:-1])
    assert old.serialize() == profile.serialize()


def test_a_pass_that_can_have_mail_is_kept():
    given = GivenPasses()
    given.add(Given(a_pass(count=2, days=10), PassState.TOLD, 0b01))
    assert not given.prune(START + 40 * DAY)
    assert given.prune(START + 90 * DAY)
    given.add(Given(a_pass(count=2), PassState.TOLD, 0b11))
    assert given.prune(START)
