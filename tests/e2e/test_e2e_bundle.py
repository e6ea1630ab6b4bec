"""Bundles: what a mailbox can do to one, byte by byte, and what it cannot."""

from dataclasses import replace

import pytest
from agreement_pair import DAY, NOW, Peer, flip
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.e2e import ExpiredError, IdentityChangedError, OwnIdentity, PrekeyBundle, Suite, verify
from ptproxy.e2e.bundle import BUNDLE_LIFE, MAX_AHEAD, ONE_TIME_LIFE, OneTimePrekey, VerifiedBundle
from ptproxy.errors import E2EError

SUITES = pytest.mark.parametrize("suite", Suite)
BOB = Peer("bob")
EVE = Peer("eve")
BUNDLE, ONE_TIME = BOB.prekeys.bundle(BOB.owner), BOB.mailbox[0]
KNOWN = BOB.public.fingerprint


def check(bundle=BUNDLE, one_time=ONE_TIME, expected=KNOWN, now=NOW, accepted=(Suite.PQXDH_768,)):
    return verify(bundle, one_time, expected, now, accepted)


@SUITES
def test_round_trip(suite):
    bob = Peer("bob", suite)
    data, one_time = bob.prekeys.bundle(bob.owner), bob.mailbox[0]
    assert PrekeyBundle.parse(data).sign(bob.owner) == data
    assert OneTimePrekey.parse(one_time).sign(bob.owner) == one_time
    verified = verify(data, one_time, bob.public.fingerprint, NOW, Suite)
    assert verified.bundle == PrekeyBundle.parse(data)
    assert verified.kem_prekey == verified.one_time.kem_prekey
    assert verify(data, None, bob.public.fingerprint, NOW, Suite).kem_prekey == verified.bundle.kem_prekey
    assert len(data) == {Suite.X3DH: 185, Suite.PQXDH_768: 1370, Suite.PQXDH_1024: 1754}[suite]


@SUITES
def test_tampering_with_any_byte_of_a_bundle(suite):
    bob = Peer("bob", suite)
    data, one_time, known = bob.prekeys.bundle(bob.owner), bob.mailbox[0], bob.public.fingerprint
    for position in range(len(data)):
        with pytest.raises(E2EError):
            verify(flip(data, position, 0x04), one_time, known, NOW, Suite)
    for position in range(len(one_time)):
        with pytest.raises(E2EError):
            verify(data, flip(one_time, position, 0x04), known, NOW, Suite)
    verify(data, one_time, known, NOW, Suite)


@given(cut=st.integers(1, 1370), more=st.binary(min_size=1, max_size=20))
def test_shorter_or_longer(cut, more):
    for bundle, one_time in [
        (BUNDLE[:-cut], ONE_TIME),
        (BUNDLE + more, ONE_TIME),
        (BUNDLE, ONE_TIME[: -min(cut, len(ONE_TIME))]),
        (BUNDLE, ONE_TIME + more),
    ]:
        with pytest.raises(E2EError):
            check(bundle, one_time)


@given(data=st.binary(max_size=200) | st.binary(min_size=1370, max_size=1370).map(lambda d: b"\1\2" + d[2:]))
def test_garbage(data):
    with pytest.raises(E2EError):
        check(bundle=data)
    with pytest.raises(E2EError):
        check(one_time=data)


def test_another_identity_than_expected():
    with pytest.raises(IdentityChangedError):
        check(EVE.prekeys.bundle(EVE.owner), None)
    with pytest.raises(IdentityChangedError):
        check(expected=EVE.public.fingerprint)


def test_downgrade_suites_are_accepted_by_name_only():
    old = Peer("bob", Suite.X3DH)
    classical, known = old.prekeys.bundle(old.owner), old.public.fingerprint
    with pytest.raises(E2EError, match="suite"):
        verify(classical, None, known, NOW)
    assert verify(classical, None, known, NOW, {Suite.X3DH}).bundle.suite is Suite.X3DH
    with pytest.raises(E2EError, match="suite"):
        check(accepted=(Suite.PQXDH_1024,))
    assert verify(BUNDLE, None, KNOWN, NOW).bundle.suite is Suite.PQXDH_768


@pytest.mark.parametrize("number", [0, 4, 255])
def test_suites_that_do_not_exist(number):
    with pytest.raises(E2EError, match="suite"):
        check(bundle=BUNDLE[:1] + bytes((number,)) + BUNDLE[2:])


def test_a_one_time_prekey_of_somebody_else_or_of_another_suite():
    with pytest.raises(E2EError, match="signature"):
        check(one_time=EVE.mailbox[0])
    classical = Peer("bob", Suite.X3DH)
    assert classical.public == BOB.public
    with pytest.raises(E2EError, match="suite"):
        check(one_time=classical.mailbox[0])


def test_parts_of_two_bundles_do_not_mix():
    """The signature is over all of it: no signed prekey of one with the KEM prekey of another."""
    other = Peer("bob", now=NOW + 1)
    other.prekeys.maintain(other.owner, NOW + 8 * DAY, other.rng)
    rotated = other.prekeys.bundle(other.owner)
    assert PrekeyBundle.parse(rotated).identity == BOB.public
    for start, end in [(68, 72), (72, 88), (88, 121), (121, 1306), (1306, 1370)]:
        with pytest.raises(E2EError):
            check(bundle=BUNDLE[:start] + rotated[start:end] + BUNDLE[end:], now=NOW + 8 * DAY)


def test_expiry():
    assert isinstance(check(now=NOW + BUNDLE_LIFE - 1), VerifiedBundle)
    with pytest.raises(ExpiredError, match="bundle"):
        check(now=NOW + BUNDLE_LIFE)
    fresh = Peer("bob", now=NOW + 80 * DAY)
    later = fresh.prekeys.bundle(fresh.owner)
    check(later, now=NOW + ONE_TIME_LIFE - 1)
    with pytest.raises(ExpiredError, match="one-time"):
        check(later, now=NOW + ONE_TIME_LIFE)


def test_from_the_future():
    check(now=NOW - MAX_AHEAD)
    with pytest.raises(E2EError, match="clock"):
        check(now=NOW - MAX_AHEAD - 1)


def test_impossible_times_even_if_their_owner_signed_them():
    good = PrekeyBundle.parse(BUNDLE)
    for made, expires in [(NOW, NOW), (NOW, NOW - 1), (NOW, NOW + BUNDLE_LIFE + 1), (0, 2**64 - 1)]:
        with pytest.raises(E2EError, match="impossible"):
            check(replace(good, made=made, expires=expires).sign(BOB.owner))
    for_ever = replace(OneTimePrekey.parse(ONE_TIME), expires=NOW + ONE_TIME_LIFE + MAX_AHEAD + 1)
    with pytest.raises(E2EError, match="impossible"):
        check(one_time=for_ever.sign(BOB.owner))


def test_an_id_of_zero_is_none():
    with pytest.raises(E2EError, match="id is 0"):
        check(replace(PrekeyBundle.parse(BUNDLE), id=0).sign(BOB.owner))
    with pytest.raises(E2EError, match="id is 0"):
        check(one_time=replace(OneTimePrekey.parse(ONE_TIME), id=0).sign(BOB.owner))


def test_the_hash_is_of_exactly_what_was_fetched():
    hashes = {
        check().hash,
        check(one_time=None).hash,
        check(one_time=BOB.mailbox[1]).hash,
        verify(EVE.prekeys.bundle(EVE.owner), None, EVE.public.fingerprint, NOW).hash,
    }
    assert len(hashes) == 4


def test_a_signature_by_the_wrong_key_of_the_right_name():
    """The identity in it is Bob's, the signature Eve's."""
    forged = PrekeyBundle.parse(BUNDLE).sign(EVE.owner)
    with pytest.raises(E2EError, match="signature"):
        check(forged)
    mixed = OwnIdentity(EVE.owner.signing, BOB.owner.agreement)
    with pytest.raises(IdentityChangedError):
        check(replace(PrekeyBundle.parse(BUNDLE), identity=mixed.public).sign(mixed))
