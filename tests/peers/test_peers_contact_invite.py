"""Invites: both forms, what damages them, and the passes that they hold."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers_live import DAY, START, rng_of

from ptproxy.config.link import Link
from ptproxy.e2e import Fingerprint
from ptproxy.peers.contact_invite import DEPOSITS, FETCHES, MAX_INVITE, ContactInvite, InviteError
from ptproxy.peers.mailbox_requests import Right

LINK = Link(
    key=bytes(range(32)),
    host="bridge.example.org",
    port=443,
    path="/assets/live",
    server_name="bridge.example.org",
    codecs=("websocket", "http"),
    pin=bytes(32),
    token=bytes(16),
)


def made(seed=1, **changes):
    options = {"persons": 1, "days": 7} | changes
    rng = rng_of(seed)
    return ContactInvite.make(Fingerprint(rng(32)), LINK, rng(32), START, rng, **options)


INVITE = made()
TEXT = INVITE.serialize()


@given(st.integers(0, 1 << 30), st.integers(1, 256), st.integers(1, 365))
def test_both_forms_come_back(seed, persons, days):
    invite = made(seed, persons=persons, days=days)
    assert ContactInvite.parse(invite.serialize()) == invite
    assert ContactInvite.parse(invite.qr_text()) == invite


def test_white_space_of_a_mail_program_does_no_harm():
    broken = "\n".join(TEXT[start : start + 60] for start in range(0, len(TEXT), 60))
    assert ContactInvite.parse(f"  {broken}\r\n") == INVITE


def test_the_qr_form_is_of_the_alphanumeric_mode():
    assert set(INVITE.qr_text()) <= set("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:")
    assert len(INVITE.qr_text()) < 900


@given(st.data())
def test_a_slip_is_noticed(data):
    place = data.draw(st.integers(0, len(TEXT) - 1))
    letter = data.draw(st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_:= "))
    changed = TEXT[:place] + letter + TEXT[place + 1 :]
    if "".join(changed.split()) != TEXT:
        with pytest.raises(InviteError):
            ContactInvite.parse(changed)


@given(st.integers(1, 200))
def test_a_cut_is_noticed(length):
    for text in (TEXT, INVITE.qr_text()):
        with pytest.raises(InviteError):
            ContactInvite.parse(text[:-length])


@given(st.one_of(st.text(max_size=300), st.binary(max_size=300).map(lambda data: data.decode("latin-1"))))
def test_garbage_is_refused(text):
    for wrong in (text, "ptproxy-contact:" + text, "PTPROXY:CONTACT:" + text):
        with pytest.raises(InviteError):
            ContactInvite.parse(wrong)


def test_what_is_longer_than_any_is_not_looked_at():
    with pytest.raises(InviteError, match="longer than any"):
        ContactInvite.parse(TEXT + " " * MAX_INVITE)


@pytest.mark.parametrize("changes", [{"persons": 0}, {"persons": 257}])
def test_impossible_numbers_are_refused(changes):
    with pytest.raises(InviteError):
        ContactInvite.parse(dataclasses.replace(INVITE, **changes).serialize())


def test_the_passes_are_the_same_for_both_sides_and_of_one_day():
    invite = made(persons=3)
    other = ContactInvite.parse(invite.qr_text())
    fetching, depositing = other.fetching(), other.depositing()
    assert (fetching, depositing) == (invite.fetching(), invite.depositing())
    assert (fetching.right, fetching.count, fetching.uses) == (Right.FETCH, 1, 3 * FETCHES)
    assert (depositing.right, depositing.count, depositing.uses) == (Right.DEPOSIT, DEPOSITS, 3)
    assert fetching.expires == depositing.expires == invite.expires
    assert invite.expires * DAY >= START + 7 * DAY
    assert invite.expires % 7 == 0
    tokens = {token.id for each in (fetching, depositing) for token in each.tokens()}
    assert len(tokens) == DEPOSITS + 1


def test_two_invites_have_nothing_in_common_but_the_owner():
    one, other = made(1), made(2)
    assert one.id != other.id
    assert not {token.id for token in one.depositing().tokens()} & {
        token.id for token in other.depositing().tokens()
    }


def test_nothing_secret_is_shown():
    assert INVITE.secret.hex() not in repr(INVITE)
    assert str(INVITE.secret) not in repr(INVITE)
    assert "bridge.example.org" not in repr(INVITE)
