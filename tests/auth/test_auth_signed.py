"""What a bridge signs for its clients to keep."""

from __future__ import annotations

import hmac
from dataclasses import replace

import pytest
from auth_pair import ANSWER, HELLO
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.auth import Answer, Hello
from ptproxy.auth.credentials import StaticKey
from ptproxy.auth.kem import ENCAPSULATION_KEY
from ptproxy.auth.signed import MAX_AHEAD, MAX_LIFE, MAX_SIGNED, SignedDocument, Signer, verify
from ptproxy.errors import AuthenticationError, LocalProtocolError

NOW = 1_800_000_000
KEY = StaticKey(bytes(range(32)))
SIGNER = Signer(KEY)
DOCUMENT = SignedDocument("shape", 7, NOW, NOW + 1000, b'{"shape":"browse"}')


def check(signed: bytes, now: float = NOW, kind: str = "shape") -> SignedDocument:
    return verify(signed, kind, SIGNER.public, KEY.public, now)


def test_a_signed_document_comes_back() -> None:
    assert check(SIGNER.sign(DOCUMENT)) == DOCUMENT


def test_the_signing_key_is_the_same_each_time_and_not_the_static_one() -> None:
    assert Signer(StaticKey(bytes(range(32)))).public == SIGNER.public
    assert SIGNER.public != KEY.public
    extracted = hmac.digest(bytes(32), bytes(range(32)), "sha256")  # RFC 5869 by hand
    private = hmac.digest(extracted, b"ptproxy 1 signing key\x01", "sha256")
    assert SIGNER.public == Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
    assert "Signer" in repr(SIGNER)
    assert KEY.derive(b"one") != KEY.derive(b"two")


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_every_changed_byte_is_noticed(position: int, change: int) -> None:
    signed = bytearray(SIGNER.sign(DOCUMENT))
    signed[position % len(signed)] ^= change
    with pytest.raises(AuthenticationError):
        check(bytes(signed))


@given(st.binary(max_size=300))
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(AuthenticationError):
        check(data)
    try:
        SignedDocument.parse(data)
    except AuthenticationError:
        pass


def test_another_bridge_or_another_key_or_another_kind_is_refused() -> None:
    other = StaticKey(bytes(range(1, 33)))
    with pytest.raises(AuthenticationError, match="signature"):
        verify(SIGNER.sign(DOCUMENT), "shape", SIGNER.public, other.public, NOW)
    with pytest.raises(AuthenticationError, match="signature"):
        verify(SIGNER.sign(DOCUMENT), "shape", Signer(other).public, KEY.public, NOW)
    with pytest.raises(AuthenticationError, match="kind"):
        check(SIGNER.sign(DOCUMENT), kind="notice")
    with pytest.raises(AuthenticationError, match="signature"):
        verify(SIGNER.sign(DOCUMENT), "shape", b"", KEY.public, NOW)


@pytest.mark.parametrize(
    ("change", "now", "says"),
    [
        ({}, NOW + 1000, "expired"),
        ({"issued": NOW + MAX_AHEAD + 1, "expires": NOW + MAX_AHEAD + 9}, NOW, "future"),
        ({"expires": NOW + MAX_LIFE + 1}, NOW, "impossible time"),
        ({"expires": NOW - 1}, NOW, "impossible time"),
    ],
)
def test_a_document_is_good_for_its_time(change: dict[str, int], now: int, says: str) -> None:
    with pytest.raises(AuthenticationError, match=says):
        check(SIGNER.sign(replace(DOCUMENT, **change)), now)


@pytest.mark.parametrize(
    "change",
    [{"kind": ""}, {"kind": "Shape"}, {"sequence": -1}, {"expires": 2**64}, {"body": bytes(MAX_SIGNED)}],
)
def test_impossible_documents_are_not_signed(change: dict[str, object]) -> None:
    with pytest.raises(LocalProtocolError):
        SIGNER.sign(replace(DOCUMENT, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize("encapsulation", [0, ENCAPSULATION_KEY])
def test_the_answer_tells_the_signing_key(encapsulation: int) -> None:
    told = replace(ANSWER, signing_key=SIGNER.public)
    data = told.serialize(bytes(encapsulation)) + bytes(9)
    assert Answer.parse(data, encapsulation) == told
    assert Answer.parse(ANSWER.serialize(bytes(encapsulation)) + bytes(9), encapsulation).signing_key == b""
    with pytest.raises(AuthenticationError, match="signing key"):
        Answer.parse(data[: -9 - 1], encapsulation)
    with pytest.raises(LocalProtocolError):
        replace(ANSWER, signing_key=b"short").serialize()


@given(st.integers(0, 255), st.integers(0, 20))
def test_the_hello_tells_the_traffic(traffic: int, padding: int) -> None:
    hello = replace(HELLO, traffic=traffic)
    assert Hello.parse(hello.serialize() + bytes(padding)) == hello
    with pytest.raises(LocalProtocolError):
        replace(HELLO, traffic=256).serialize()
