"""Plaintexts: none is refused, whatever a peer has encrypted."""

from hypothesis import given
from hypothesis import strategies as st

from ptproxy.e2e.content import MAX_BODY, Content, Kind
from ptproxy.e2e.ratchet import MAX_PLAINTEXT


def test_vector():
    content = Content(Kind.TEXT, 258, b"text")
    assert content.serialize() == bytes.fromhex("010000000000000102") + b"text"


@given(st.sampled_from((Kind.TEXT, Kind.SUCCESSION)), st.integers(0, 2**64 - 1), st.binary(max_size=99))
def test_what_was_written_is_read(kind, begun, body):
    content = Content(kind, begun, body)
    assert Content.parse(content.serialize()) == content


@given(st.binary(max_size=99))
def test_anything_has_a_meaning_or_is_unknown(data):
    content = Content.parse(data)
    if content.kind is Kind.UNKNOWN:
        assert content.body == data
    else:
        assert content.serialize() == data


def test_the_longest_fits():
    assert len(Content(Kind.TEXT, 0, bytes(MAX_BODY)).serialize()) == MAX_PLAINTEXT


def test_secrets_are_not_shown():
    assert "secret" not in repr(Content(Kind.TEXT, 0, b"secret"))
