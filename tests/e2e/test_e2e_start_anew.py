"""A state that was put back goes on: its old sessions are read and no longer written in."""

from random import Random

import pytest
from conversation_pair import DAY, NOW, Person, met

from ptproxy.e2e.contact import Contact
from ptproxy.e2e.ratchet import AlreadyReadError
from ptproxy.e2e.refusals import UnknownPrekeyError
from ptproxy.e2e.suite import Suite
from ptproxy.errors import LocalProtocolError


def put_back(lines=3):
    """Alice goes on from a copy of her store that was made before some lines."""
    alice, bob = met()
    backup = dict(alice.store)
    for _ in range(lines):
        assert bob.read(alice.send(bob, b"forgotten")) == b"forgotten"
    alice.store = backup
    alice.restart()
    return alice, bob


def start_anew(alice, now=NOW):
    alice.mine.start_anew(now, alice.rng)
    alice.mailbox = alice.mine.replace(now, alice.rng)
    alice.save()
    assert alice.saved()


def same_session(alice, bob):
    assert alice.to(bob).session.key == bob.to(alice).session.key
    for number in range(3):
        assert bob.read(alice.send(bob, b"%d" % number)) == b"%d" % number
        assert alice.read(bob.send(alice, b"%d" % number)) == b"%d" % number


def test_why_it_has_to_be_said():
    """Otherwise the old ratchet goes on: its messages are under numbers that the peer has read."""
    alice, bob = put_back()
    with pytest.raises(AlreadyReadError):
        bob.receive(alice.send(bob, b"lost"))


def test_nothing_is_sent_until_there_is_a_beginning():
    alice, bob = put_back()
    start_anew(alice)
    conversation = alice.to(bob)
    assert conversation.session is None
    assert conversation.needs_beginning(NOW)
    with pytest.raises(LocalProtocolError, match="not begun"):
        conversation.send(b"x", NOW, alice.rng)
    alice.begin(bob)
    assert bob.read(alice.send(bob, b"anew")) == b"anew"
    same_session(alice, bob)


def test_it_is_still_so_after_a_restart():
    alice, bob = put_back()
    start_anew(alice)
    alice.restart()
    assert alice.to(bob).session is None
    alice.begin(bob)
    alice.save()
    alice.restart()
    assert bob.read(alice.send(bob, b"anew")) == b"anew"


def test_what_comes_in_an_old_session_is_read():
    alice, bob = put_back(lines=0)
    start_anew(alice)
    assert alice.read(bob.send(alice, b"under way")) == b"under way"
    assert alice.to(bob).session is None


def test_a_beginning_of_the_others_is_good_as_well():
    alice, bob = put_back()
    start_anew(alice)
    bob.begin(alice)
    assert alice.read(bob.send(alice, b"anew")) == b"anew"
    assert not alice.to(bob).needs_beginning(NOW)
    same_session(alice, bob)


def test_one_that_does_not_outrank_the_old_sessions_is_not_enough():
    """Alice's clock was ahead once, so that a session of the old state wins over the other's new one."""
    alice, bob = met()
    alice.begin(bob, NOW + 30 * DAY)
    alice.save()
    alice.restart()
    start_anew(alice)
    bob.begin(alice)
    assert alice.read(bob.send(alice, b"anew")) == b"anew"
    assert alice.to(bob).session is None
    alice.begin(bob)
    assert bob.read(alice.send(bob, b"and mine")) == b"and mine"
    same_session(alice, bob)


def test_both_at_once():
    alice, bob = put_back()
    start_anew(alice)
    alice.begin(bob)
    bob.begin(alice)
    one, other = alice.send(bob, b"one"), bob.send(alice, b"other")
    assert (bob.read(one), alice.read(other)) == (b"one", b"other")
    same_session(alice, bob)


def test_a_first_message_for_the_old_prekeys_is_refused():
    """It may have been read already, by the state that was lost."""
    alice, bob = met()
    bob.begin(alice)
    first = bob.send(alice, b"first")
    backup = dict(alice.store)
    assert alice.read(first) == b"first"
    alice.store = backup
    alice.restart()
    start_anew(alice)
    with pytest.raises(UnknownPrekeyError):
        alice.receive(first)


def test_with_nobody_there_is_nothing_to_begin():
    alice, bob = met()
    for session in list(alice.to(bob).sessions.values()):
        alice.to(bob).drop(session)
    start_anew(alice)
    assert not alice.to(bob).contact.stale


def test_a_stranger_of_the_old_state_that_is_accepted():
    """The sessions come over and are as old as they were."""
    alice, bob = met()
    other = Person("bob with another key")
    alice.mailbox = alice.mine.refill(96, NOW, alice.rng)
    other.begin(alice)
    assert alice.read(other.send(alice, b"it is me")) == b"it is me"
    start_anew(alice)
    conversation = alice.to(bob)
    conversation.see(other.fingerprint)
    alice.mine.accept(conversation, other.fingerprint)
    alice.save()
    assert conversation.contact.known == other.fingerprint
    assert conversation.sessions
    assert conversation.session is None
    alice.restart()
    assert alice.to(other).session is None
    alice.begin(other)
    assert other.read(alice.send(other, b"anew")) == b"anew"


def test_stored():
    _, bob = met()
    contact = Contact(bob.fingerprint, stale=True)
    assert contact.serialize()[1] == 16
    assert Contact.parse(contact.serialize()) == contact


@pytest.mark.parametrize("seed", range(12))
def test_put_back_again_and_again(seed):
    """Either side, to any earlier state: what is written after it has written once is all read."""
    chance = Random(f"start anew {seed}")
    people = list(met(suite=Suite.X3DH))
    backups = [[dict(person.store)] for person in people]
    now = NOW

    def line(one, other):
        nonlocal now
        now += 1 + chance.randrange(600)
        if one.to(other).needs_beginning(now):
            other.mailbox = other.mine.refill(99, now, other.rng)
            one.begin(other, now)
        text = chance.randbytes(20)
        assert other.read(one.send(other, text, now), now) == text

    for _ in range(40):
        place = chance.randrange(2)
        one, other = people[place], people[1 - place]
        if chance.random() < 0.2:
            one.store = dict(chance.choice(backups[place]))
            one.restart()
            start_anew(one, now)
        line(one, other)
        if chance.random() < 0.3:
            backups[place].append(dict(one.store))
    line(*people)
    line(*people[::-1])
    same_session(*people)
