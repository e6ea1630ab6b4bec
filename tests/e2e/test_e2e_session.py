"""Sessions: their stored form, and which of several wins."""

import pytest
from conversation_pair import DAY, NOW, met
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.e2e.session import MAX_OPENING_AGE, MAX_UNANSWERED, Session
from ptproxy.errors import StateError

ALICE, BOB = met()
STORED = [next(iter(person.mine.conversations.values())).session.serialize() for person in (ALICE, BOB)]


@pytest.mark.parametrize("stored", STORED, ids=["begun", "answered"])
def test_what_was_stored_comes_back(stored):
    assert Session.parse(stored).serialize() == stored
    assert len(stored) < 4_096
    for length in range(len(stored)):
        with pytest.raises(StateError):
            Session.parse(stored[:length])
    with pytest.raises(StateError):
        Session.parse(stored + b"\0")


@given(st.sampled_from(STORED), st.integers(0, 4_095), st.integers(1, 255))
def test_damage_is_noticed_or_is_another_session(stored, place, value):
    damaged = bytearray(stored)
    damaged[place % len(damaged)] ^= value
    try:
        session = Session.parse(bytes(damaged))
    except StateError:
        return
    assert session.serialize() == damaged


def test_a_session_that_nobody_answers_asks_for_another():
    session = Session.parse(STORED[0])
    assert not session.wants_another(NOW)
    for _ in range(MAX_UNANSWERED):
        assert not session.wants_another(NOW)
        session.ratchet.encrypt(b"", NOW, ALICE.rng)
    assert session.wants_another(NOW)


def test_an_opening_that_is_too_old_asks_for_another():
    session = Session.parse(STORED[0])
    session.opening = b"opening"
    assert not session.wants_another(session.heard + MAX_OPENING_AGE - 1)
    assert session.wants_another(session.heard + MAX_OPENING_AGE)
    session.opening = b""
    assert not session.wants_another(session.heard + 365 * DAY)


def test_nothing_secret_is_shown():
    session = Session.parse(STORED[0])
    for secret in (session.ratchet._state.root.key, session.ratchet._state.ad):
        assert repr(secret)[2:12] not in repr(session)
