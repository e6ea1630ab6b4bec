"""Admission: ids that their owner did not choose, and what checking them may cost."""

import hashlib

import pytest
from dht_records import NOW, draw, flip
from naive_argon2id import argon2id

from ptproxy.dht import admission, work
from ptproxy.dht.admission import AdmissionError, Admissions, TooManyChecksError, check, mint
from ptproxy.dht.work import WorkTarget
from ptproxy.errors import DhtError, LocalProtocolError

KEY = draw("node")(32)
TARGET = WorkTarget(4, 8)
NODE = mint(KEY, TARGET, 0, 1_000)


def count_computations(monkeypatch):
    calls = []
    real = work.compute

    def counted(*arguments):
        calls.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(work, "compute", counted)
    return calls


def test_the_id_by_its_definition():
    found = argon2id(KEY + NODE.nonce, b"ptproxy 1 dht id", TARGET.memory)
    assert found[0] < 16
    assert NODE.id == int.from_bytes(hashlib.sha256(found).digest(), "big")


def test_at_full_price():
    """One id of a network that asks for little work, with the memory of the public one."""
    node = mint(KEY, WorkTarget(2), 0, 100)
    found = argon2id(KEY + node.nonce, b"ptproxy 1 dht id", 512)
    assert node.id == int.from_bytes(hashlib.sha256(found).digest(), "big")
    check(node.id, KEY, node.nonce, WorkTarget(2))


def test_a_true_claim():
    check(NODE.id, KEY, NODE.nonce, TARGET)


@pytest.mark.parametrize(
    ("place", "key", "nonce"),
    [
        (NODE.id ^ 1, KEY, NODE.nonce),
        (NODE.id ^ 1 << 255, KEY, NODE.nonce),
        (NODE.id, flip(KEY, 0), NODE.nonce),
        (NODE.id, KEY, flip(NODE.nonce, 15)),
        (NODE.id, KEY[:-1], NODE.nonce),
        (NODE.id, KEY, NODE.nonce + b"\0"),
        (NODE.id, KEY + NODE.nonce[:1], NODE.nonce[1:]),
    ],
)
def test_false_claims(place, key, nonce):
    with pytest.raises(AdmissionError):
        check(place, key, nonce, TARGET)


def test_too_little_work():
    number = int.from_bytes(NODE.nonce, "big")
    assert number > 0
    nonce = (number - 1).to_bytes(16, "big")
    place = mint(KEY, WorkTarget(0, 8), number - 1, 1).id
    check(place, KEY, nonce, WorkTarget(0, 8))
    with pytest.raises(AdmissionError, match="too little work"):
        check(place, KEY, nonce, TARGET)


def test_minting_is_bounded():
    assert mint(KEY, WorkTarget(40, 8), 0, 3) is None
    with pytest.raises(LocalProtocolError):
        mint(KEY[1:], TARGET, 0, 1)


def test_ids_are_spread_evenly():
    """Zeros lead the work, not the id: of 200 ids about half begin with a one."""
    ids = [mint(bytes(31) + bytes((number,)), WorkTarget(2, 8), 0, 100).id for number in range(200)]
    assert 60 < sum(place >> 255 for place in ids) < 140


def test_a_claim_is_looked_at_once(monkeypatch):
    admissions, calls = Admissions(TARGET), count_computations(monkeypatch)
    assert admissions.known(NODE.id, KEY, NODE.nonce) is None
    for _ in range(5):
        admissions.check(NODE.id, KEY, NODE.nonce, NOW)
        with pytest.raises(AdmissionError):
            admissions.check(NODE.id + 1, KEY, NODE.nonce, NOW)
    assert len(calls) == 2
    assert admissions.known(NODE.id, KEY, NODE.nonce) is True
    assert admissions.known(NODE.id + 1, KEY, NODE.nonce) is False


def test_checks_have_a_budget_and_what_is_known_costs_none(monkeypatch):
    monkeypatch.setattr(admission, "CHECKS_AT_ONCE", 10)
    monkeypatch.setattr(admission, "CHECKS_PER_SECOND", 2)
    admissions, calls = Admissions(TARGET), count_computations(monkeypatch)
    admissions.check(NODE.id, KEY, NODE.nonce, NOW)
    busy = 0
    for number in range(50):
        try:
            admissions.check(number, KEY, NODE.nonce, NOW)
        except TooManyChecksError:
            busy += 1
        except AdmissionError:
            pass
    assert (busy, len(calls)) == (41, 10)
    admissions.check(NODE.id, KEY, NODE.nonce, NOW)
    with pytest.raises(TooManyChecksError):
        admissions.check(77, KEY, NODE.nonce, NOW)
    assert admissions.known(77, KEY, NODE.nonce) is None
    with pytest.raises(AdmissionError):
        admissions.check(77, KEY, NODE.nonce, NOW + 1)


def test_memory_is_bounded_and_what_is_used_stays(monkeypatch):
    monkeypatch.setattr(admission, "MAX_REMEMBERED", 8)
    admissions, calls = Admissions(TARGET), count_computations(monkeypatch)
    admissions.check(NODE.id, KEY, NODE.nonce, NOW)
    for number in range(30):
        with pytest.raises(AdmissionError):
            admissions.check(number, KEY, NODE.nonce, NOW)
        admissions.check(NODE.id, KEY, NODE.nonce, NOW)
    assert (len(admissions), len(calls)) == (8, 31)
    assert admissions.known(NODE.id, KEY, NODE.nonce) is True


def test_garbage_raises_documented_errors_only():
    for length in range(40):
        with pytest.raises(DhtError):
            Admissions(TARGET).check(5, bytes(length), bytes(length), NOW)
