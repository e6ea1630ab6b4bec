"""One peer: beginning, sending, and what a changed identity stops."""

import pytest
from conversation_pair import DAY, NOW, Person, met

from ptproxy.e2e import Authorship, IdentityChangedError, OwnIdentity, Suite, succession, verify
from ptproxy.e2e.contact import Standing
from ptproxy.e2e.content import MAX_BODY, Kind
from ptproxy.e2e.conversation import MAX_SESSIONS, SESSION_LIFE
from ptproxy.e2e.session import MAX_OPENING_AGE
from ptproxy.errors import E2EError, LocalProtocolError


def test_begin_and_answer():
    alice, bob = Person("alice"), Person("bob")
    conversation = alice.begin(bob)
    assert not conversation.needs_beginning(NOW)
    received = bob.receive(alice.send(bob, b"hello"))
    assert (received.kind, received.body, received.standing) == (Kind.TEXT, b"hello", Standing.UNVERIFIED)
    assert received.authorship is Authorship.SIGNED
    assert received.conversation.contact.known == alice.fingerprint
    assert not received.conversation.needs_beginning(NOW)
    assert alice.read(bob.send(alice, b"and you")) == b"and you"


@pytest.mark.parametrize("suite", Suite)
def test_every_suite(suite):
    alice, bob = met(suite=suite)
    assert bob.read(alice.send(bob, b"more")) == b"more"


def test_the_opening_goes_with_each_message_until_one_is_answered():
    alice, bob = Person("alice"), Person("bob")
    alice.begin(bob)
    first, second, third = (alice.send(bob, text) for text in (b"1", b"2", b"3"))
    assert len(first) == len(second) == len(third) > 1_310
    assert bob.read(third) == b"3"
    assert bob.read(first) == b"1"
    answer = bob.send(alice, b"yes")
    assert len(answer) == 384
    assert bob.read(second) == b"2"
    assert alice.read(answer) == b"yes"
    assert len(alice.send(bob, b"4")) == 384
    assert len(bob.mine.find(alice.fingerprint).sessions) == 1


def test_nothing_is_sent_before_a_beginning():
    alice, bob = Person("alice"), Person("bob")
    conversation = alice.to(bob)
    assert conversation.needs_beginning(NOW)
    with pytest.raises(LocalProtocolError, match="not begun"):
        conversation.send(b"", NOW, alice.rng)


def test_another_peers_bundle_begins_nothing():
    alice, bob, carol = Person("alice"), Person("bob"), Person("carol")
    with pytest.raises(LocalProtocolError, match="another peer"):
        alice.to(bob).begin(carol.fetched(), NOW, alice.rng)
    assert not alice.to(bob).sessions


def test_a_text_that_is_too_long_changes_nothing():
    alice, bob = met()
    before = alice.mine.serialize()
    with pytest.raises(LocalProtocolError):
        alice.to(bob).send(bytes(MAX_BODY + 1), NOW, alice.rng)
    assert alice.mine.serialize() == before
    assert bob.read(alice.send(bob, bytes(MAX_BODY))) == bytes(MAX_BODY)


def test_a_changed_identity_stops_sending_and_beginning_but_not_reading():
    alice, bob = met()
    conversation, before = alice.to(bob), alice.to(bob).session.serialize()
    conversation.compare(bob.fingerprint.words())
    assert conversation.standing is Standing.VERIFIED
    other = OwnIdentity.generate(bob.rng).public.fingerprint
    conversation.see(other)
    with pytest.raises(IdentityChangedError):
        conversation.send(b"stop", NOW, alice.rng)
    with pytest.raises(IdentityChangedError):
        conversation.begin(bob.fetched(), NOW, alice.rng)
    assert conversation.session.serialize() == before
    received = alice.receive(bob.send(alice, b"still me"))
    assert (received.body, received.standing) == (b"still me", Standing.CHANGED)
    alice.restart()
    conversation = alice.to(bob)
    assert conversation.standing is Standing.CHANGED
    conversation.keep()
    assert conversation.standing is Standing.VERIFIED
    assert bob.read(alice.send(bob, b"on")) == b"on"


def test_a_bundle_of_another_identity_is_seen():
    """What a program does with a mailbox's answer."""
    alice, bob, carol = Person("alice"), Person("bob"), Person("carol")
    conversation = alice.to(bob)
    with pytest.raises(IdentityChangedError):
        verify(carol.mine.bundle(), None, conversation.contact.known, NOW)
    conversation.see(carol.fingerprint)
    alice.save()
    assert alice.saved()
    assert conversation.standing is Standing.CHANGED


def test_a_succession_is_heard_and_accepted():
    alice, bob = met()
    heir = Person("bob's new device")
    statement = succession.declare(bob.mine.owner, heir.mine.owner, NOW)
    message = bob.to(alice).send_succession(statement, NOW, bob.rng)
    received = alice.receive(message)
    assert (received.kind, received.standing) == (Kind.SUCCESSION, Standing.CHANGED)
    conversation = received.conversation
    assert conversation.contact.vouched
    with pytest.raises(IdentityChangedError):
        conversation.send(b"stop", NOW, alice.rng)
    for wrong in (bob.fingerprint, alice.fingerprint):
        with pytest.raises(E2EError):
            alice.mine.accept(conversation, wrong)
    alice.restart()
    conversation = alice.to(bob)
    alice.mine.accept(conversation, heir.fingerprint)
    assert alice.to(heir) is conversation
    assert conversation.standing is Standing.UNVERIFIED
    assert conversation.needs_beginning(NOW)
    alice.begin(heir)
    assert heir.read(alice.send(heir, b"welcome")) == b"welcome"


def test_a_succession_of_somebody_else_is_not_believed():
    alice, bob = met()
    carol = Person("carol")
    statement = succession.declare(carol.mine.owner, Person("dave").mine.owner, NOW)
    message = bob.to(alice).send_succession(statement, NOW, bob.rng)
    received = alice.receive(message)
    assert (received.kind, received.standing) == (Kind.UNKNOWN, Standing.UNVERIFIED)
    with pytest.raises(E2EError):
        alice.to(bob).hear_succession(statement, NOW)


def test_a_kind_of_a_newer_program_is_handed_on():
    alice, bob = met()
    session = alice.to(bob).session
    for plaintext in (b"\xff" + bytes(8) + b"new", b"", b"\x01short"):
        message = session.ratchet.encrypt(plaintext, NOW, alice.rng)
        received = bob.receive(message)
        assert (received.kind, received.body) == (Kind.UNKNOWN, plaintext)


def winners(alice, bob):
    return alice.to(bob).session.key, bob.to(alice).session.key


@pytest.mark.parametrize("order", range(4))
def test_both_begin_at_once(order):
    """In whatever order it arrives, all of it is read, and both end in one session."""
    alice, bob = Person(f"alice {order}"), Person(f"bob {order}")
    alice.begin(bob)
    bob.begin(alice)
    up = [alice.send(bob, b"up %d" % number) for number in range(3)]
    down = [bob.send(alice, b"down %d" % number) for number in range(3)]
    if order % 2:
        up.reverse()
    assert {bob.read(message) for message in up} == {b"up 0", b"up 1", b"up 2"}
    if order // 2:
        assert alice.read(bob.send(alice, b"an answer overtakes")) == b"an answer overtakes"
    assert {alice.read(message) for message in down} == {b"down 0", b"down 1", b"down 2"}
    one, other = winners(alice, bob)
    assert one == other
    for number in range(3):
        assert bob.read(alice.send(bob, b"%d" % number)) == b"%d" % number
        assert alice.read(bob.send(alice, b"%d" % number)) == b"%d" % number
    sessions = alice.to(bob).sessions.values()
    assert len(sessions) == 2
    assert sorted(session.ratchet.turn for session in sessions)[1] >= 5
    assert winners(alice, bob) == (one, other)


def test_the_last_begun_wins():
    alice, bob = met()
    old = alice.to(bob).session.key
    bob.begin(alice, NOW + 60)
    assert alice.read(bob.send(alice, b"anew", NOW + 60)) == b"anew"
    new, same = winners(alice, bob)
    assert new == same != old


def test_who_begins_with_a_clock_that_is_behind_wins_too():
    alice, bob = met()
    old = bob.to(alice).session
    bob.begin(alice, NOW - 80_000)
    assert bob.to(alice).session.begun == old.begun + 1
    assert alice.read(bob.send(alice, b"anew")) == b"anew"
    assert len(set(winners(alice, bob))) == 1


def test_who_lost_its_state_begins_anew():
    alice, bob = met()
    bob.mine.remove(bob.to(alice))
    bob.save()
    with pytest.raises(E2EError):
        bob.receive(alice.send(bob, b"lost"))
    bob.begin(alice, NOW + 60)
    assert alice.read(bob.send(alice, b"I lost it all", NOW + 60)) == b"I lost it all"
    assert bob.read(alice.send(bob, b"again", NOW + 60)) == b"again"


def test_sessions_are_bounded_and_the_winner_stays():
    alice, bob = Person("alice", one_time=20), Person("bob", one_time=20)
    for number in range(MAX_SESSIONS + 3):
        alice.begin(bob, NOW + number)
        assert bob.read(alice.send(bob, b"line", NOW + number), NOW + number) == b"line"
    assert len(alice.to(bob).sessions) == len(bob.to(alice).sessions) == MAX_SESSIONS
    assert len(set(winners(alice, bob))) == 1
    assert alice.to(bob).session.begun == NOW + MAX_SESSIONS + 2
    bob.save()
    assert bob.saved()
    assert sum(name.startswith("session") for name in bob.store) == MAX_SESSIONS


def test_the_winner_stays_however_silent_it_is():
    """A peer that loses its state again and again, with a clock that is behind its first one."""
    alice, bob = Person("alice", one_time=20), Person("bob", one_time=20)
    alice.begin(bob, NOW + 80_000)
    winner = bob.receive(alice.send(bob, b"line")).conversation.session
    for number in range(1, MAX_SESSIONS + 3):
        alice.mine.remove(alice.to(bob))
        alice.begin(bob, NOW + number)
        assert bob.read(alice.send(bob, b"line", NOW + number), NOW + number) == b"line"
    sessions = bob.to(alice).sessions
    assert len(sessions) == MAX_SESSIONS
    assert sessions[winner.key] is bob.to(alice).session is winner


def test_a_session_that_lost_and_fell_silent_goes():
    alice, bob = met()
    alice.begin(bob, NOW + 60)
    assert bob.read(alice.send(bob, b"anew", NOW + 60), NOW + 60) == b"anew"
    for later, left in ((SESSION_LIFE - 1, 2), (SESSION_LIFE, 1), (100 * SESSION_LIFE, 1)):
        bob.to(alice).expire(NOW + later)
        bob.save()
        assert bob.saved()
        assert len(bob.to(alice).sessions) == left


def test_an_opening_that_was_never_answered_is_made_anew():
    alice, bob = Person("alice"), Person("bob")
    conversation = alice.begin(bob)
    assert not conversation.needs_beginning(NOW + MAX_OPENING_AGE - 1)
    assert conversation.needs_beginning(NOW + MAX_OPENING_AGE)
    later = NOW + 30 * DAY
    bob.mine.maintain(later, bob.rng)
    conversation.begin(bob.fetched(later), later, alice.rng)
    assert not conversation.needs_beginning(later)
    assert bob.read(alice.send(bob, b"late", later), later) == b"late"


def test_a_peer_with_an_impossible_clock_breaks_nothing():
    alice, bob = met()
    session = alice.to(bob).session
    session.begun = 2**64 - 1
    alice.begin(bob)
    for person, other in ((alice, bob), (bob, alice)) * 2:
        assert other.read(person.send(other, b"on")) == b"on"
        person.restart()
