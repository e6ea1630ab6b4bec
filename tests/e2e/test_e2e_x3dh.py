"""X3DH against the package ``x3dh`` (PyPI), an independent implementation, in both roles."""

import asyncio
from random import Random
from unittest import mock

import pytest
import x3dh
import x3dh.base_state
import xeddsa
from agreement_pair import NOW, PAYLOAD, Peer
from hypothesis import given, settings
from hypothesis import strategies as st
from x3dh.identity_key_pair import IdentityKeyPairPriv

from ptproxy.e2e import CurveKey, OwnIdentity, PrekeyBundle, Suite, begin, examine, verify
from ptproxy.e2e.bundle import OneTimePrekey
from ptproxy.e2e.curve import CurveKeyPair
from ptproxy.e2e.x3dh import EphemeralProducts, derive, key_material

CURVE = x3dh.IdentityKeyFormat.CURVE_25519
one_time_or_not = pytest.mark.parametrize("one_time", [True, False], ids=["one-time", "without"])


class PackageState(x3dh.BaseState):
    """The package with our encoding and info: all that X3DH leaves to the application."""

    @staticmethod
    def _encode_public_key(key_format, pub):
        return CurveKey(pub).serialize()

    @classmethod
    def of(cls, private):
        pair = IdentityKeyPairPriv(private)
        return cls.create(CURVE, x3dh.HashFunction.SHA_256, Suite.X3DH.info, pair)


def rest_of_associated_data(agreement):
    """What of ours stands behind X3DH's two keys: the package takes it as an appendix."""
    return agreement.associated_data[66:]


@one_time_or_not
def test_the_package_answers(one_time):
    """We begin with a bundle whose keys are the package's; it derives the same from our ephemeral key."""
    alice, random = Peer("alice", Suite.X3DH), Random(1)
    bob = OwnIdentity.generate(random.randbytes)
    package = PackageState.of(bob.agreement.serialize_private())
    package.generate_pre_keys(1)
    (prekey,) = package.bundle.pre_keys
    signed_prekey = CurveKey(package.bundle.signed_pre_key)
    bundle = PrekeyBundle(Suite.X3DH, bob.public, 7, NOW, NOW + 1000, signed_prekey, None).sign(bob)
    published = OneTimePrekey(Suite.X3DH, 9, NOW + 1000, CurveKey(prekey), None).sign(bob)
    verified = verify(
        bundle, published if one_time else None, bob.public.fingerprint, NOW, accepted={Suite.X3DH}
    )
    beginning = begin(alice.owner, verified, alice.rng)
    header = x3dh.Header(
        identity_key=alice.public.agreement.raw,
        ephemeral_key=CurveKey.parse(beginning.opening[2:35]).raw,
        signed_pre_key=signed_prekey.raw,
        pre_key=prekey if one_time else None,
    )
    appendix = rest_of_associated_data(beginning.agreement)
    secret, data, _ = asyncio.run(package.get_shared_secret_passive(header, appendix, one_time))
    assert (secret, data) == (beginning.agreement.secret, beginning.agreement.associated_data)


@one_time_or_not
def test_the_package_begins(one_time):
    """It begins with our bundle and an ephemeral key that we know too; what we examine derives its secret."""
    bob = Peer("bob", Suite.X3DH)
    alice = OwnIdentity.generate(Random(2).randbytes)
    package = PackageState.of(alice.agreement.serialize_private())
    verified = bob.fetched(one_time=one_time)
    raw = verified.bundle.signed_prekey.raw
    xeddsa_key = xeddsa.priv_force_sign(bob.owner.agreement.serialize_private(), False)
    bundle = x3dh.Bundle(
        identity_key=bob.public.agreement.raw,
        signed_pre_key=raw,
        signed_pre_key_sig=xeddsa.ed25519_priv_sign(xeddsa_key, b"\x05" + raw),
        pre_keys=frozenset([verified.one_time.prekey.raw] if one_time else []),
    )
    ephemeral = Random(3).randbytes(32)
    beginning = begin(alice, verified, lambda length: ephemeral)
    received = examine(beginning.opening + PAYLOAD, bob.owner, bob.prekeys)
    appendix = rest_of_associated_data(received.agreement)
    with mock.patch.object(x3dh.base_state.secrets, "token_bytes", return_value=ephemeral):
        secret, data, header = asyncio.run(package.get_shared_secret_active(bundle, appendix, one_time))
    assert header.ephemeral_key == CurveKeyPair(ephemeral).public.raw
    assert (secret, data) == (received.agreement.secret, received.agreement.associated_data)


privates = st.binary(min_size=32, max_size=32)


@settings(max_examples=25)
@given(keys=st.tuples(*[privates] * 5), with_one_time=st.booleans())
def test_both_roles_derive_the_same(keys, with_one_time):
    identity_a, identity_b, ephemeral, signed, opk = map(CurveKeyPair, keys)
    one_time = opk if with_one_time else None
    theirs = EphemeralProducts.initiate(
        ephemeral, identity_b.public, signed.public, one_time.public if one_time else None
    )
    dh2 = identity_b.exchange(ephemeral.public)
    ours = EphemeralProducts.respond(dh2, ephemeral.public, signed, one_time)
    assert ours == theirs
    assert len(ours.material()) == (96 if with_one_time else 64)
    first = key_material(identity_a.exchange(signed.public), theirs)
    assert first == key_material(signed.exchange(identity_a.public), ours)
    assert len({derive(first, suite.info) for suite in Suite}) == len(Suite)


def test_secrets_are_not_shown():
    assert repr(EphemeralProducts(b"dh2", b"dh3", b"dh4")) == "EphemeralProducts()"
