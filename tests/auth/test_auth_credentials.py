"""Keys and tokens as text."""

from random import Random, SystemRandom

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.auth import StaticKey, Token, decode_key, encode_key, new_token, token_id
from ptproxy.auth.noise import KeyPair


@given(key=st.binary(min_size=32, max_size=32))
def test_a_key_comes_back_and_has_one_spelling(key):
    text = encode_key(key)
    assert len(text) == 43
    assert decode_key(text) == key
    others = [text[:-1] + chr(ord(text[-1]) + 1), text + "=", text[:-1], " " + text[1:], text + "\n"]
    for other in others:
        if other != text:
            with pytest.raises(ValueError, match="43 characters"):
                decode_key(other)


@given(text=st.text(max_size=50) | st.text(alphabet="AZaz09-_", min_size=43, max_size=43))
def test_any_text_is_a_key_or_a_value_error(text):
    try:
        key = decode_key(text)
    except ValueError:
        return
    assert encode_key(key) == text


@pytest.mark.parametrize("text", ["", "A" * 42 + "+", "A" * 42 + "/", "é" + "A" * 42, "A" * 42 + "B"])
def test_not_a_key(text):
    with pytest.raises(ValueError, match="base64url") as error:
        decode_key(text)
    assert not text or text not in str(error.value)


def test_encode_key_wants_32_bytes():
    with pytest.raises(ValueError, match="32 bytes"):
        encode_key(bytes(31))


def test_static_key_comes_back_from_its_text():
    key = StaticKey.generate(SystemRandom())
    again = StaticKey.parse_private(key.serialize_private() + "\n")
    assert again == key
    assert hash(again) == hash(key)
    assert again.public == key.public
    assert key != StaticKey.generate(SystemRandom())
    assert key != key.public


def test_static_key_of_rfc7748():
    """RFC 7748 section 6.1."""
    alice = StaticKey(bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"))
    bob = StaticKey(bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"))
    shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
    assert alice.public.hex() == "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    assert alice.exchange(bob.public) == bob.exchange(alice.public) == bytes.fromhex(shared)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_static_key_of_a_wrong_length(length):
    with pytest.raises(ValueError, match="32"):
        StaticKey(bytes(length))


@given(seed=st.integers(0, 2**32))
def test_tokens_come_back_and_their_ids_do_not_tell_them(seed):
    token = new_token(Random(seed))
    text = token.serialize()
    assert len(text) == 22
    again = Token.parse(text)
    assert again == token
    assert hash(again) == hash(token)
    assert token != text
    assert token.id == token_id(token.secret)
    assert len(token.id) == 64
    assert token.secret.hex() not in token.id


def test_token_id_is_fixed():
    """Access lists on disk depend on it."""
    import hashlib

    assert token_id(bytes(16)) == hashlib.sha256(b"ptproxy 1 invite token id" + bytes(16)).hexdigest()


@pytest.mark.parametrize("text", ["", "A" * 21, "A" * 23, "A" * 21 + "B", "A" * 21 + "*"])
def test_not_a_token(text):
    with pytest.raises(ValueError, match="22 characters"):
        Token.parse(text)
    with pytest.raises(ValueError, match="16 bytes"):
        Token(b"short")


def test_reprs_hold_no_secret():
    key = StaticKey.generate(SystemRandom())
    token = new_token(SystemRandom())
    assert repr(key) == "<StaticKey>"
    assert repr(KeyPair(bytes(32))) == "<KeyPair>"
    assert repr(token) == "Token()"
    assert not hasattr(key, "__dict__")
