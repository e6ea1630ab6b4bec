"""An identity names its successor, and nobody else does."""

from random import Random

import pytest
from agreement_pair import NOW, flip
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.e2e import Identity, OwnIdentity, Succession
from ptproxy.e2e.signing import SigningKey
from ptproxy.e2e.succession import LENGTH, MAX_AHEAD, declare, verify
from ptproxy.errors import E2EError, LocalProtocolError

OLD, NEW, OTHER = (OwnIdentity.generate(Random(name).randbytes) for name in ("old", "new", "other"))
KNOWN = OLD.public.fingerprint
STATEMENT = declare(OLD, NEW, NOW)


def test_a_statement():
    assert len(STATEMENT) == LENGTH == 269
    assert verify(STATEMENT, KNOWN, NOW) == Succession(OLD.public, NEW.public, NOW)


def test_any_byte_changed():
    for position in range(LENGTH):
        with pytest.raises(E2EError):
            verify(flip(STATEMENT, position, 0x10), KNOWN, NOW)


def test_by_somebody_else():
    with pytest.raises(E2EError, match="another identity"):
        verify(declare(OTHER, NEW, NOW), KNOWN, NOW)
    with pytest.raises(E2EError, match="another identity"):
        verify(STATEMENT, OTHER.public.fingerprint, NOW)


def resigned(new_public, old_signing, new_signing):
    said = b"\x01" + OLD.public.serialize() + new_public.serialize() + NOW.to_bytes(8, "big")
    return (
        said
        + old_signing.sign(b"ptproxy 1 e2e succession", said)
        + new_signing.sign(b"ptproxy 1 e2e successor", said)
    )


def test_naming_somebody_elses_identity_as_ones_own():
    with pytest.raises(E2EError, match="signature"):
        verify(resigned(OTHER.public, OLD.signing, OLD.signing), KNOWN, NOW)


def test_taking_over_without_the_old_key():
    with pytest.raises(E2EError, match="signature"):
        verify(resigned(NEW.public, NEW.signing, NEW.signing), KNOWN, NOW)


def test_the_two_signatures_do_not_change_places():
    said, by_old, by_new = STATEMENT[:-128], STATEMENT[-128:-64], STATEMENT[-64:]
    with pytest.raises(E2EError, match="signature"):
        verify(said + by_new + by_old, KNOWN, NOW)


def test_keeping_a_key_is_no_succession():
    half = OwnIdentity(SigningKey(bytes(range(32))), OLD.agreement)
    with pytest.raises(LocalProtocolError):
        declare(OLD, half, NOW)
    kept = Identity(half.signing.public, OLD.public.agreement)
    with pytest.raises(E2EError, match="two new keys"):
        verify(resigned(kept, OLD.signing, half.signing), KNOWN, NOW)


def test_from_the_future():
    assert verify(STATEMENT, KNOWN, NOW - MAX_AHEAD).made == NOW
    with pytest.raises(E2EError, match="clock"):
        verify(STATEMENT, KNOWN, NOW - MAX_AHEAD - 1)


@given(data=st.binary(max_size=300) | st.binary(min_size=LENGTH, max_size=LENGTH))
def test_garbage(data):
    with pytest.raises(E2EError):
        verify(data, KNOWN, NOW)
