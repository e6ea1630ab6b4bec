"""Passes, tokens and envelopes: what fits, what opens, what is refused, and the same by a naive way."""

from __future__ import annotations

import hashlib
import hmac
import random

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st
from peers_live import DAY, START, rng_of

from ptproxy.errors import LocalProtocolError
from ptproxy.peers.mailbox_delivery import (
    MAX_MESSAGE,
    PREKEYS_SIZES,
    DeliveryPass,
    EnvelopeError,
    PassError,
    expiry_day,
    message_id_of,
    open_prekeys,
    seal_prekeys,
    token_id_of,
)
from ptproxy.peers.mailbox_frames import ENVELOPE_SIZES, MAX_BUNDLE, MAX_ONE_TIME
from ptproxy.peers.mailbox_requests import Right


def a_pass(seed=1, **settings):
    return DeliveryPass.make(rng_of(seed), START, seconds=30 * DAY, **settings)


def naive_hkdf(secret, info):
    """RFC 5869 with SHA-256 and no salt, for one block."""
    extracted = hmac.digest(bytes(32), secret, "sha256")
    return hmac.digest(extracted, info + b"\1", "sha256")


@given(message=st.binary(max_size=3000), seed=st.integers(0, 2**32))
def test_a_message_comes_back(message, seed):
    token = a_pass(seed).token(0)
    envelope = token.seal(message, rng_of(seed + 1))
    assert len(envelope) in ENVELOPE_SIZES
    assert token.open(envelope) == message


@pytest.mark.parametrize("size", ENVELOPE_SIZES)
def test_the_least_envelope_that_holds_it(size):
    token = a_pass().token(0)
    assert len(token.seal(bytes(size - 32), rng_of(2))) == size
    if size < ENVELOPE_SIZES[-1]:
        assert len(token.seal(bytes(size - 31), rng_of(2))) > size


def test_nothing_longer_than_the_largest():
    with pytest.raises(LocalProtocolError):
        a_pass().token(0).seal(bytes(MAX_MESSAGE + 1), rng_of(2))
    assert len(a_pass().token(0).seal(bytes(MAX_MESSAGE), rng_of(2))) == ENVELOPE_SIZES[-1]


def test_as_the_page_says_by_other_means():
    given_pass = a_pass(seed=7, count=3)
    token = given_pass.token(2)
    number = (2).to_bytes(4, "big")
    assert token.token == naive_hkdf(given_pass.secret, b"ptproxy 1 delivery token" + number)
    assert token.key == naive_hkdf(given_pass.secret, b"ptproxy 1 delivery envelope" + number)
    assert (
        token.id == hashlib.sha256(b"ptproxy 1 token id" + token.token).digest() == token_id_of(token.token)
    )
    envelope = token.seal(b"hello", rng_of(3))
    plain = AESGCM(token.key).decrypt(envelope[:12], envelope[12:], b"ptproxy 1 envelope" + token.id)
    assert plain == b"\0\0\0\5hello" + bytes(2048 - 12 - 16 - 9)
    expected = hashlib.sha256(b"ptproxy 1 message id" + token.id + envelope).digest()[:16]
    assert message_id_of(token.id, envelope) == expected


def test_every_changed_byte_is_noticed():
    token = a_pass().token(0)
    envelope = token.seal(b"hello", rng_of(2))
    for place in [*range(64), *random.Random(5).sample(range(64, len(envelope)), 60), len(envelope) - 1]:
        changed = bytearray(envelope)
        changed[place] ^= 1
        with pytest.raises(EnvelopeError):
            token.open(bytes(changed))


def test_an_envelope_opens_under_its_own_token_only():
    given_pass = a_pass(count=2)
    envelope = given_pass.token(0).seal(b"hello", rng_of(2))
    with pytest.raises(EnvelopeError):
        given_pass.token(1).open(envelope)


@given(data=st.binary(max_size=100))
def test_garbage_opens_as_nothing(data):
    token = a_pass().token(0)
    for envelope in (data, data.ljust(ENVELOPE_SIZES[0], b"x")):
        with pytest.raises(EnvelopeError):
            token.open(envelope)


@pytest.mark.parametrize("plain", [b"\xff\xff\xff\xff", b"\0\0\0\2ab" + b"\0" * 50 + b"x", b"\0\0\x08\0"])
def test_a_wrong_length_inside_is_refused(plain):
    """Only a contact can make such: one message must not have two forms."""
    token = a_pass().token(0)
    padded = plain.ljust(2048 - 28, b"\0")
    envelope = bytes(12) + AESGCM(token.key).encrypt(bytes(12), padded, b"ptproxy 1 envelope" + token.id)
    with pytest.raises(EnvelopeError):
        token.open(envelope)


@given(content=st.binary(max_size=8160), seed=st.integers(0, 2**32))
def test_prekeys_come_back(content, seed):
    key = rng_of(seed)(32)
    sealed = seal_prekeys(key, content, rng_of(seed + 1))
    assert len(sealed) in PREKEYS_SIZES
    assert open_prekeys(key, sealed) == content
    with pytest.raises(EnvelopeError):
        open_prekeys(rng_of(seed + 2)(32), sealed)


def test_prekeys_fit_where_they_are_to_go():
    for size, fits in ((200, 256), (1568 + 64 + 8, MAX_ONE_TIME), (3000, 4096), (8160, MAX_BUNDLE)):
        assert len(seal_prekeys(bytes(32), bytes(size), rng_of(1))) == fits
    with pytest.raises(LocalProtocolError):
        seal_prekeys(bytes(32), bytes(8161), rng_of(1))


@given(data=st.one_of(st.binary(max_size=300), st.binary(min_size=256, max_size=256)))
def test_garbage_as_sealed_prekeys(data):
    with pytest.raises(EnvelopeError):
        open_prekeys(bytes(32), data)


def test_an_envelope_is_no_sealed_prekey():
    """One key for both by mistake: what is the one is not the other."""
    token = a_pass().token(0)
    with pytest.raises(EnvelopeError):
        open_prekeys(token.key, token.seal(b"", rng_of(1)))


def test_tokens_of_a_pass_have_nothing_in_common():
    tokens = list(a_pass(count=100).tokens())
    for values in (
        {token.token for token in tokens},
        {token.key for token in tokens},
        {token.id for token in tokens},
    ):
        assert len(values) == 100
    grants = a_pass(count=100).grants() + a_pass(seed=2, count=100).grants()
    assert len({(grant.right, grant.uses, grant.expires) for grant in grants}) == 1


def test_a_refill_goes_on_counting():
    first = a_pass(count=3)
    more = first.next(START + 40 * DAY, seconds=30 * DAY, count=5)
    assert (more.secret, more.first, more.count) == (first.secret, 3, 5)
    assert not {token.id for token in first.tokens()} & {token.id for token in more.tokens()}
    with pytest.raises(LocalProtocolError):
        more.token(2)
    with pytest.raises(LocalProtocolError):
        more.token(8)


@given(now=st.floats(0, 4e9), seconds=st.floats(0, 4e7))
def test_a_token_is_good_for_as_long_as_was_asked_and_expires_on_a_common_day(now, seconds):
    day = expiry_day(now, seconds)
    assert day % 7 == 0
    assert day * DAY >= now + seconds
    assert day * DAY <= now + seconds + 8 * DAY


@given(
    secret=st.binary(min_size=32, max_size=32), right=st.sampled_from(Right),
    first=st.integers(0, 2**32 - 1025), count=st.integers(1, 1024),
    uses=st.integers(1, 65535), expires=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_a_pass_comes_back(secret, right, first, count, uses, expires):
    given_pass = DeliveryPass(secret, right, first, count, uses, expires)
    assert DeliveryPass.parse(given_pass.serialize()) == given_pass


@given(data=st.one_of(st.binary(max_size=60), st.binary(min_size=45, max_size=45)))
def test_garbage_as_a_pass(data):
    try:
        found = DeliveryPass.parse(data)
    except PassError:
        return
    assert found.serialize() == data


def test_numbers_that_run_out():
    with pytest.raises(PassError):
        DeliveryPass.parse(DeliveryPass(bytes(32), Right.DEPOSIT, 2**32 - 1, 2, 1, 1).serialize())


def test_nothing_secret_in_a_repr():
    given_pass = DeliveryPass(b"SECRET".ljust(32), Right.DEPOSIT, 0, 1, 1, 1)
    token = given_pass.token(0)
    assert "SECRET" not in repr(given_pass)
    assert repr(token.token)[2:-1] not in repr(token)
    assert repr(token.key)[2:-1] not in repr(token)
