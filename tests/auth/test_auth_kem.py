"""ML-KEM-768: agreement, refusals, and a clear word where it is missing."""

import sys
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.auth import kem
from ptproxy.errors import AuthenticationError, StartError


def test_both_ends_agree():
    key = kem.DecapsulationKey(Random(1))
    shared, ciphertext = kem.encapsulate(key.public)
    assert (len(key.public), len(ciphertext), len(shared)) == (
        kem.ENCAPSULATION_KEY,
        kem.CIPHERTEXT,
        kem.SHARED_SECRET,
    )
    assert key.decapsulate(ciphertext) == shared
    assert key.decapsulate(bytes(kem.CIPHERTEXT)) != shared


def test_a_key_is_made_from_rng_alone():
    assert kem.DecapsulationKey(Random(1)).public == kem.DecapsulationKey(Random(1)).public
    assert kem.DecapsulationKey(Random(1)).public != kem.DecapsulationKey(Random(2)).public


@given(public=st.binary(max_size=40) | st.binary(min_size=1184, max_size=1184))
def test_any_bytes_as_key(public):
    try:
        shared, _ = kem.encapsulate(public)
    except AuthenticationError:
        return
    assert len(shared) == 32


def test_bytes_that_are_no_key_or_ciphertext():
    with pytest.raises(AuthenticationError, match="encapsulation key"):
        kem.encapsulate(b"\xff" * 1184)
    with pytest.raises(AuthenticationError, match="ciphertext"):
        kem.DecapsulationKey(Random(1)).decapsulate(b"short")


def test_require_says_what_is_missing(monkeypatch):
    kem.require()
    kem.require.cache_clear()
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.mlkem", None)
    with pytest.raises(StartError, match="install cryptography 48"):
        kem.require()


def test_require_says_when_openssl_is_too_old(monkeypatch):
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import mlkem

    class Missing:
        @staticmethod
        def from_seed_bytes(seed):
            raise UnsupportedAlgorithm("ML-KEM-768 is not supported")

    kem.require.cache_clear()
    monkeypatch.setattr(mlkem, "MLKEM768PrivateKey", Missing)
    with pytest.raises(StartError, match="OpenSSL"):
        kem.require()


def test_repr():
    assert repr(kem.DecapsulationKey(Random(1))) == "<DecapsulationKey>"
