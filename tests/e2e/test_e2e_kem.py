"""ML-KEM keys: typed, canonical, and a clear word where the library lacks them."""

import sys
from random import Random

import naive_mlkem
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.e2e import kem
from ptproxy.e2e.kem import Kem, KemKey, KemKeyPair
from ptproxy.errors import E2EError, StartError

SIZES = {Kem.ML_KEM_768: 768, Kem.ML_KEM_1024: 1024}
every_kem = pytest.mark.parametrize("which", Kem)


@every_kem
def test_both_ways_with_the_naive_implementation(which):
    seed = Random(1).randbytes(64)
    pair = KemKeyPair(which, seed)
    assert pair.public.raw == naive_mlkem.key_pair(SIZES[which], seed)[0]
    secret, ciphertext = pair.public.encapsulate()
    assert naive_mlkem.decapsulate(SIZES[which], seed, ciphertext) == secret
    secret, ciphertext = naive_mlkem.encapsulate(SIZES[which], pair.public.raw, Random(2).randbytes(32))
    assert pair.decapsulate(ciphertext) == secret
    assert (len(pair.public.serialize()), len(ciphertext)) == (which.encoded, which.ciphertext)


@every_kem
def test_a_ciphertext_that_is_none_gives_a_secret_that_nobody_has(which):
    seed = Random(1).randbytes(64)
    bad = bytes(which.ciphertext)
    secret = KemKeyPair(which, seed).decapsulate(bad)
    assert secret == naive_mlkem.decapsulate(SIZES[which], seed, bad)
    with pytest.raises(E2EError, match="ciphertext"):
        KemKeyPair(which, seed).decapsulate(bad[1:])


@every_kem
@given(data=st.data())
def test_no_coefficient_may_be_3329_or_more(which, data):
    """FIPS 203 section 7.2: every place, every value that 12 bits can say too much."""
    raw = KemKeyPair(which, bytes(64)).public.raw
    coefficients = naive_mlkem.PARAMETERS[SIZES[which]][0] * 256
    place = data.draw(st.integers(0, coefficients - 1))
    value = data.draw(st.integers(3329, 4095))
    number = int.from_bytes(raw[:-32], "little")
    number ^= (number >> 12 * place & 4095 ^ value) << 12 * place
    with pytest.raises(E2EError, match="canonical"):
        KemKey.parse(which, which.type + number.to_bytes(len(raw) - 32, "little") + raw[-32:])


@every_kem
@given(data=st.binary(max_size=40) | st.binary(max_size=1600))
def test_garbage_or_one_encoding(which, data):
    for candidate in (data, which.type + data):
        try:
            key = KemKey.parse(which, candidate)
        except E2EError:
            continue
        assert key.serialize() == candidate


@every_kem
@pytest.mark.parametrize("type_byte", [b"", b"\x00", b"\x05", b"\x06", b"\x09"])
def test_a_key_of_another_kind_is_none(which, type_byte):
    with pytest.raises(E2EError):
        KemKey.parse(which, type_byte + KemKeyPair(which, bytes(64)).public.raw)


def test_parameter_sets_do_not_mix():
    small, large = (KemKeyPair(which, bytes(64)).public.serialize() for which in Kem)
    for which, data in [(Kem.ML_KEM_768, large), (Kem.ML_KEM_1024, small)]:
        with pytest.raises(E2EError):
            KemKey.parse(which, data)
        with pytest.raises(E2EError):
            KemKey.parse(which, which.type + data[1:])


def test_missing_ml_kem_is_said_in_one_line(monkeypatch):
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import asymmetric
    from cryptography.hazmat.primitives.asymmetric import mlkem

    class Missing:
        @staticmethod
        def from_seed_bytes(seed):
            raise UnsupportedAlgorithm("not here")

    kem.require.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(mlkem, "MLKEM768PrivateKey", Missing)
        with pytest.raises(StartError, match="OpenSSL"):
            kem.require(Kem.ML_KEM_768)
    with monkeypatch.context() as patch:
        patch.delattr(asymmetric, "mlkem")
        patch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.mlkem", None)
        with pytest.raises(StartError, match="install cryptography"):
            kem.require(Kem.ML_KEM_768)
    kem.require(Kem.ML_KEM_768)


def test_secrets_are_not_shown():
    pair = KemKeyPair.generate(Kem.ML_KEM_768, Random(1).randbytes)
    assert repr(pair) == "<KemKeyPair>"
    assert KemKeyPair(Kem.ML_KEM_768, pair.serialize_private()).public == pair.public
