"""We become the successor that we have announced: other keys, no session, the same contacts."""

import pytest
from conversation_pair import NOW, Person, met

from ptproxy.e2e.contact import Standing
from ptproxy.e2e.content import Kind
from ptproxy.e2e.identity import OwnIdentity
from ptproxy.e2e.refusals import UnknownPrekeyError
from ptproxy.e2e.succession import declare
from ptproxy.errors import E2EError, LocalProtocolError


def succeed(alice, successor=None):
    successor = successor or OwnIdentity.generate(alice.rng)
    alice.mine.succeed(successor, NOW, alice.rng)
    alice.mailbox = alice.mine.replace(NOW, alice.rng)
    alice.save()
    assert alice.saved()
    return successor


def test_contacts_stay_and_sessions_do_not():
    alice, bob = met()
    number, before = alice.to(bob).id, alice.fingerprint
    assert alice.to(bob).compare(bob.fingerprint.digits())
    successor = succeed(alice)
    for _ in range(2):
        assert alice.fingerprint == successor.public.fingerprint != before
        conversation = alice.to(bob)
        assert (conversation.id, conversation.standing) == (number, Standing.VERIFIED)
        assert conversation.session is None
        assert conversation.needs_beginning(NOW)
        with pytest.raises(LocalProtocolError, match="not begun"):
            conversation.send(b"x", NOW, alice.rng)
        alice.restart()


def test_who_was_told_goes_on_with_the_successor():
    alice, bob = met()
    successor = OwnIdentity.generate(alice.rng)
    statement = declare(alice.mine.owner, successor, NOW)
    told = bob.receive(alice.to(bob).send_succession(statement, NOW, alice.rng))
    assert told.kind is Kind.SUCCESSION
    conversation = bob.to(alice)
    assert (conversation.standing, conversation.contact.vouched) == (Standing.CHANGED, True)
    succeed(alice, successor)
    alice.begin(bob)
    came = bob.receive(alice.send(bob, b"it is me"))
    assert came.body == b"it is me"
    assert came.conversation is not conversation
    bob.mine.accept(conversation, successor.public.fingerprint)
    bob.save()
    assert bob.to(alice) is conversation
    assert alice.read(bob.send(alice, b"I see")) == b"I see"


def test_the_bundle_is_the_successors():
    alice, bob = Person("alice"), Person("bob")
    succeed(alice)
    bob.begin(alice)
    assert alice.read(bob.send(alice, b"hello")) == b"hello"


def test_what_was_under_way_is_lost_and_changes_nothing():
    alice, bob = met()
    later, carol = bob.send(alice, b"late"), Person("carol")
    carol.begin(alice)
    first = carol.send(alice, b"hello")
    succeed(alice)
    for message in (later, first):
        with pytest.raises(E2EError) as refused:  # to another identity: not even the gate opens
            alice.receive(message)
        assert not isinstance(refused.value, UnknownPrekeyError)
        assert alice.saved()


def test_an_old_state_is_over_too():
    alice, bob = met()
    alice.mine.start_anew(NOW, alice.rng)
    assert alice.to(bob).contact.stale
    succeed(alice)
    assert not alice.to(bob).contact.stale
    alice.begin(bob)
    assert alice.to(bob).session is not None


def test_a_successor_has_two_new_keys():
    alice, _ = met()
    before, old = alice.mine.serialize(), alice.mine.owner
    fresh = OwnIdentity.generate(alice.rng)
    for wrong in (old, OwnIdentity(old.signing, fresh.agreement), OwnIdentity(fresh.signing, old.agreement)):
        with pytest.raises(LocalProtocolError, match="two new keys"):
            alice.mine.succeed(wrong, NOW, alice.rng)
        assert alice.mine.serialize() == before
