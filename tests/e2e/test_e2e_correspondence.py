"""Many peers: whose a message is, what is saved, who is let in."""

import pytest
from conversation_pair import NOW, Person, met
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.e2e import Authorship, KnownOpeningError, UnknownPrekeyError, opening_length, succession
from ptproxy.e2e.contact import Standing
from ptproxy.e2e.conversation import SESSION_LIFE
from ptproxy.e2e.correspondence import MAX_CONVERSATIONS, MAX_STRANGERS, Correspondence
from ptproxy.e2e.fingerprint import Fingerprint
from ptproxy.e2e.ratchet import SIZES, AlreadyReadError, RatchetError, UnreadableError
from ptproxy.e2e.suite import Suite
from ptproxy.errors import E2EError, LocalProtocolError, StateError


def refused(person, message, error):
    before = person.mine.serialize()
    with pytest.raises(error) as caught:
        person.mine.receive(message, NOW, person.rng)
    assert person.mine.serialize() == before
    assert person.mine.take_unsaved() == {}
    return caught.value


def test_lengths_say_which_messages_have_an_opening():
    for suite in Suite:
        assert not {opening_length(suite) + size for size in SIZES} & set(SIZES)


def test_a_message_finds_its_session_among_many():
    bob = Person("bob", one_time=8)
    others = [Person(f"peer {number}") for number in range(5)]
    for other in others:
        other.begin(bob)
        assert bob.read(other.send(bob, other.name.encode())) == other.name.encode()
        assert other.read(bob.send(other, b"yes")) == b"yes"
    for other in others[::-1]:
        received = bob.receive(other.send(bob, b"now"))
        assert received.conversation is bob.mine.find(other.fingerprint)


def test_a_message_is_read_once():
    alice, bob = Person("alice"), Person("bob")
    alice.begin(bob)
    first = alice.send(bob, b"first")
    bob.read(first)
    refused(bob, first, AlreadyReadError)
    alice.read(bob.send(alice, b"answer"))
    later = alice.send(bob, b"later")
    bob.read(later)
    refused(bob, later, AlreadyReadError)
    refused(bob, first, RatchetError)
    bob.restart()
    refused(bob, first, RatchetError)


def test_a_first_message_of_a_session_that_is_gone():
    alice, bob = Person("alice"), Person("bob")
    alice.begin(bob)
    first = alice.send(bob, b"first")
    bob.mine.remove(bob.receive(first).conversation)
    bob.save()
    refused(bob, first, KnownOpeningError)
    bob.restart()
    refused(bob, first, KnownOpeningError)


def test_forged_and_reflected_messages_change_nothing():
    alice, bob = Person("alice"), Person("bob")
    alice.begin(bob)
    first = alice.send(bob, b"first")
    refused(alice, first, RatchetError)
    for place in range(0, len(first), 7):
        refused(bob, first[:place] + bytes((first[place] ^ 1,)) + first[place + 1 :], E2EError)
    bob.read(first)
    answer = bob.send(alice, b"answer")
    refused(bob, answer, UnreadableError)
    for place in range(0, len(answer), 7):
        refused(alice, answer[:place] + bytes((answer[place] ^ 1,)) + answer[place + 1 :], UnreadableError)
    refused(Person("carol"), answer, UnreadableError)
    assert alice.read(answer) == b"answer"


ALICE, BOB = met()


@given(
    st.binary(max_size=3_000)
    | st.sampled_from(SIZES).map(bytes)
    | st.binary(max_size=99).map(b"\x01\x02".__add__)
)
def test_garbage_is_refused(data):
    refused(BOB, data, E2EError)


def test_an_opening_that_a_session_has_with_another_suite_or_none():
    alice, bob = met()
    key = next(iter(bob.to(alice).sessions))
    session = alice.to(bob).sessions[key]
    assert session.opening == b""
    carol = Person("carol")
    carol.begin(bob)
    first = carol.send(bob, b"first")
    bob.read(first)
    for suite in range(256):
        refused(bob, first[:1] + bytes((suite,)) + first[2:], E2EError)
    refused(bob, first[:40], E2EError)


def test_who_reads_and_is_killed_before_the_save_reads_again():
    alice, bob = Person("alice"), Person("bob")
    alice.begin(bob)
    first = alice.send(bob, b"first")
    for _ in range(3):
        assert bob.mine.receive(first, NOW, bob.rng).body == b"first"
        bob.restart()
    assert bob.read(first) == b"first"
    bob.restart()
    refused(bob, first, AlreadyReadError)


def test_who_is_killed_between_the_save_and_the_sending_sends_the_same_bytes():
    alice, bob = met()
    kept = alice.send(bob, b"kept")
    alice.restart()
    later = alice.send(bob, b"later")
    assert bob.read(later) == b"later"
    assert bob.read(kept) == b"kept"
    refused(bob, kept, AlreadyReadError)


def test_half_a_save_of_a_first_message_would_lose_or_repeat_it():
    """Why it is one transaction."""
    alice, bob = Person("alice"), Person("bob")
    alice.begin(bob)
    first = alice.send(bob, b"first")
    bob.mine.receive(first, NOW, bob.rng)
    unsaved = bob.mine.take_unsaved()
    assert sorted(name.split()[0] for name in unsaved) == ["contact", "prekeys", "session"]
    bob.mine = Correspondence.parse({**bob.store, "prekeys": unsaved["prekeys"]})
    with pytest.raises(KnownOpeningError):
        bob.mine.receive(first, NOW, bob.rng)


def test_a_line_saves_its_session_and_nothing_else():
    alice, bob = met()
    alice.to(bob).send(b"line", NOW, alice.rng)
    ((name, data),) = alice.mine.take_unsaved().items()
    assert name.startswith("session ")
    assert len(data) < 1_000


def test_what_was_stored_comes_back():
    alice, bob = met()
    alice.begin(bob, NOW + 1)
    alice.mine.add(Fingerprint(bytes(32)), alice.rng)
    alice.to(bob).see(Fingerprint(bytes(32)))
    alice.save()
    assert alice.saved()
    assert Correspondence.parse(alice.store).serialize() == alice.store
    assert Correspondence.parse(dict(reversed(alice.store.items()))).serialize() == alice.store


def test_a_damaged_store_says_which_piece():
    alice, _ = met()
    for name, data in alice.store.items():
        with pytest.raises(StateError, match=f"store: {name}: "):
            Correspondence.parse({**alice.store, name: data[:-1]})
    contact = next(name for name in alice.store if name.startswith("contact"))
    session = next(name for name in alice.store if name.startswith("session"))
    for name, data in [
        ("something", b""),
        ("contact 00", alice.store[contact]),
        ("contact " + "00" * 16, alice.store[contact]),
        ("session " + "00" * 16, alice.store[session]),
    ]:
        with pytest.raises(StateError):
            Correspondence.parse({**alice.store, name: data})
    for missing in ("identity", "prekeys", contact):
        with pytest.raises(StateError):
            Correspondence.parse({name: data for name, data in alice.store.items() if name != missing})
    without = Correspondence.parse({name: data for name, data in alice.store.items() if name != session})
    assert len(without.conversations) == 1


def test_strangers_are_bounded_and_keep_nobody_else_out(monkeypatch):
    monkeypatch.setattr("ptproxy.e2e.correspondence.MAX_STRANGERS", 2)
    bob, known = Person("bob", one_time=9), Person("known")
    bob.to(known)
    strangers = [Person(f"stranger {number}") for number in range(3)]
    for stranger in (*strangers, known):
        stranger.begin(bob)
    firsts = [stranger.send(bob, b"hello") for stranger in strangers]
    bob.read(firsts[0])
    bob.read(firsts[1])
    assert "too many" in str(refused(bob, firsts[2], E2EError))
    assert bob.read(known.send(bob, b"it is me")) == b"it is me"
    bob.send(strangers[0], b"come in")
    assert bob.read(firsts[2]) == b"hello"


def test_conversations_are_bounded(monkeypatch):
    monkeypatch.setattr("ptproxy.e2e.correspondence.MAX_CONVERSATIONS", 2)
    alice = Person("alice")
    for number in range(2):
        alice.mine.add(Fingerprint(bytes([number]) * 32), alice.rng)
    alice.mine.add(Fingerprint(bytes(32)), alice.rng)
    with pytest.raises(LocalProtocolError):
        alice.mine.add(Fingerprint(b"\x09" * 32), alice.rng)
    assert MAX_STRANGERS < MAX_CONVERSATIONS


def test_not_with_oneself():
    alice, bob = met()
    with pytest.raises(LocalProtocolError):
        alice.mine.add(alice.fingerprint, alice.rng)
    alice.to(bob).see(alice.fingerprint)
    with pytest.raises(E2EError):
        alice.mine.accept(alice.to(bob), alice.fingerprint)


def test_a_proof_that_is_not_accepted():
    alice, bob = Person("alice"), Person("bob")
    alice.to(bob).begin(bob.fetched(), NOW, alice.rng, Authorship.DENIABLE)
    first = alice.send(bob, b"deniable")
    with pytest.raises(E2EError, match="not accepted"):
        bob.mine.receive(first, NOW, bob.rng, {Authorship.SIGNED})
    received = bob.receive(first)
    assert received.authorship is Authorship.DENIABLE


def test_an_heir_that_wrote_as_a_stranger_comes_home():
    """The new device writes before its statement is accepted: its session stays, the stranger goes."""
    alice, bob = met()
    heir = Person("bob's new device")
    statement = succession.declare(bob.mine.owner, heir.mine.owner, NOW)
    heir.begin(alice)
    stranger = alice.receive(heir.send(alice, b"it is me")).conversation
    conversation = alice.to(bob)
    assert stranger is not conversation
    conversation.hear_succession(statement, NOW)
    alice.mine.accept(conversation, heir.fingerprint)
    alice.save()
    assert alice.saved()
    assert list(alice.mine.conversations.values()) == [conversation]
    assert alice.mine.find(bob.fingerprint) is None
    assert heir.read(alice.send(heir, b"so it is")) == b"so it is"
    alice.restart()
    assert alice.read(heir.send(alice, b"good")) == b"good"
    assert alice.to(heir).standing is Standing.UNVERIFIED


def test_prekeys_are_saved_with_what_changes_them():
    bob = Person("bob", one_time=0)
    assert len(bob.mine.refill(90, NOW, bob.rng)) == 10
    bob.save()
    assert bob.saved()
    bob.mine.replace(NOW, bob.rng)
    bob.save()
    assert bob.saved()
    later = NOW + 8 * 86_400
    bundle = bob.mine.bundle()
    assert bob.mine.maintain(later, bob.rng).bundle
    bob.save()
    assert bob.saved()
    assert bob.mine.bundle() != bundle


def test_a_one_time_prekey_is_used_once():
    alice, carol, bob = Person("alice"), Person("carol"), Person("bob")
    verified = bob.fetched()
    for person in (alice, carol):
        person.to(bob).begin(verified, NOW, person.rng)
    assert bob.read(alice.send(bob, b"first")) == b"first"
    refused(bob, carol.send(bob, b"second"), UnknownPrekeyError)


def test_a_comparison_with_an_heir_comes_along():
    alice, bob = met()
    heir = Person("bob's new device")
    heir.begin(alice)
    stranger = alice.receive(heir.send(alice, b"it is me")).conversation
    assert stranger.compare(heir.fingerprint.digits())
    conversation = alice.to(bob)
    conversation.see(heir.fingerprint)
    alice.mine.accept(conversation, heir.fingerprint)
    assert conversation.standing is Standing.VERIFIED
    alice.save()
    assert alice.saved()


def test_the_old_identity_comes_back_as_a_stranger():
    alice, bob = met()
    heir = Person("bob's new device")
    conversation = alice.to(bob)
    conversation.see(heir.fingerprint)
    alice.mine.accept(conversation, heir.fingerprint)
    alice.save()
    refused(alice, bob.send(alice, b"late"), UnreadableError)
    bob.begin(alice, NOW + 1)
    received = alice.receive(bob.send(alice, b"still here", NOW + 1), NOW + 1)
    assert received.conversation is not conversation
    assert not received.conversation.contact.added


def test_maintenance_drops_what_is_too_old():
    alice, bob = met()
    alice.begin(bob, NOW + 1)
    bob.read(alice.send(bob, b"anew", NOW + 1))
    assert len(bob.to(alice).sessions) == 2
    bob.mine.maintain(NOW + SESSION_LIFE, bob.rng)
    bob.save()
    assert bob.saved()
    assert len(bob.to(alice).sessions) == 1
