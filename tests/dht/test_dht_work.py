"""Work: against Argon2id by its RFC, and what no work is."""

import pytest
from dht_records import CHEAP, draw
from hypothesis import given
from hypothesis import strategies as st
from naive_argon2id import argon2id

from ptproxy.dht import work
from ptproxy.dht.work import NONCE, WorkTarget, compute, search
from ptproxy.errors import LocalProtocolError

LABEL = b"ptproxy test wor"


@pytest.mark.parametrize("memory", [8, 9, 64, work.MEMORY])
def test_it_is_argon2id_of_the_rfc(memory):
    subject, nonce = draw("subject")(40), draw("nonce")(NONCE)
    assert compute(LABEL, subject, nonce, memory) == argon2id(subject + nonce, LABEL, memory)


@given(bits=st.integers(0, 40), value=st.integers(0, 2**256 - 1))
def test_leading_zeros(bits, value):
    digits = f"{value:0256b}"
    assert WorkTarget(bits).reached_by(value.to_bytes(32, "big")) == digits.startswith("0" * bits)


def test_the_first_nonce_that_does_is_found():
    found = search(LABEL, b"subject", WorkTarget(6, 8), 0, 10_000)
    number = int.from_bytes(found.nonce, "big")
    works = [compute(LABEL, b"subject", nonce.to_bytes(NONCE, "big"), 8) for nonce in range(number + 1)]
    assert [work[0] < 4 for work in works] == [False] * number + [True]
    assert works[-1] == found.work


def test_a_search_is_bounded_and_goes_on_where_it_ended():
    target = WorkTarget(6, 8)
    found = search(LABEL, b"subject", target, 0, 10_000)
    number = int.from_bytes(found.nonce, "big")
    assert number > 2
    assert search(LABEL, b"subject", target, 0, number) is None
    assert search(LABEL, b"subject", target, number, 1) == found
    assert search(LABEL, b"subject", WorkTarget(40, 8), 0, 5) is None


def test_how_many_tries_it_takes():
    """2^bits on average: 40 searches for 4 bits, whose sum has a deviation of 98 around 640."""
    tries = 0
    for subject in range(40):
        found = search(LABEL, bytes((subject,)), WorkTarget(4, 8), 0, 1_000)
        tries += int.from_bytes(found.nonce, "big") + 1
    assert 340 < tries < 940


def test_work_for_one_purpose_serves_no_other():
    found = search(LABEL, b"subject", WorkTarget(12, 8), 0, 100_000)
    assert not WorkTarget(12, 8).reached_by(compute(b"ptproxy other wo", b"subject", found.nonce, 8))
    assert not WorkTarget(12, 8).reached_by(compute(LABEL, b"another", found.nonce, 8))
    assert not WorkTarget(12, 8).reached_by(compute(LABEL, b"subject", found.nonce, 16))


@pytest.mark.parametrize(("bits", "memory"), [(-1, 8), (41, 8), (0, 7)])
def test_targets_that_cannot_be(bits, memory):
    with pytest.raises(LocalProtocolError):
        WorkTarget(bits, memory)


def test_lengths_are_fixed():
    """So that no subject, label and nonce run into one another."""
    with pytest.raises(LocalProtocolError):
        compute(b"short", b"subject", bytes(NONCE), CHEAP.memory)
    with pytest.raises(LocalProtocolError):
        compute(LABEL, b"subject", bytes(NONCE - 1), CHEAP.memory)
