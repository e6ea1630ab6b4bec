"""Vetting: signature, then work, each once."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from dht_records import CHEAP

from ptproxy.dht import vetting as module
from ptproxy.dht.admission import CHECKS_AT_ONCE, Admissions, mint
from ptproxy.dht.contact import Address, Contact
from ptproxy.dht.signing import SigningKey
from ptproxy.dht.vetting import Vetting


def genuine(number: int) -> Contact:
    key = SigningKey.generate(random.Random(number).randbytes)
    minted = mint(key.public, CHEAP, 0, 10_000)
    assert minted is not None
    return Contact.make(key, minted.id, bytes(32), minted.nonce, 1, Address(b"\x0b\0\0\1", 1))


def test_signed_with_work_passes_and_anything_else_does_not() -> None:
    vetting = Vetting(Admissions(CHEAP))
    contact = genuine(1)
    assert vetting.admit(contact, 0.0) is True
    assert vetting.admit(replace(contact, sequence=2), 0.0) is False
    key = SigningKey.generate(random.Random(1).randbytes)
    elsewhere = Contact.make(key, contact.id ^ 1, bytes(32), contact.nonce, 1, contact.address)
    elsewhere.verify()
    assert vetting.admit(elsewhere, 0.0) is False


def test_each_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    vetting = Vetting(Admissions(CHEAP))
    contact = genuine(1)
    forged = replace(contact, sequence=2)
    looked: list[Contact] = []
    verify = Contact.verify
    monkeypatch.setattr(Contact, "verify", lambda self: (looked.append(self), verify(self))[1])
    for _ in range(3):
        assert vetting.admit(contact, 0.0) is True
        assert vetting.admit(forged, 0.0) is False
    assert looked == [contact, forged]


def test_when_too_many_are_new_the_next_one_is_not_known_yet() -> None:
    admissions = Admissions(CHEAP)
    vetting = Vetting(admissions)
    assert admissions._bucket.take(CHECKS_AT_ONCE, 0.0)
    contact = genuine(1)
    assert vetting.admit(contact, 0.0) is None
    assert vetting.admit(contact, 10.0) is True


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REMEMBERED", 3)
    vetting = Vetting(Admissions(CHEAP))
    for number in range(6):
        assert vetting.admit(genuine(number), 0.0) is True
    assert len(vetting) == 3
