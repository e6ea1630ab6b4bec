"""What is said inside the handshake, byte by byte."""

import pytest
from auth_pair import ANSWER, CERTIFICATE, HELLO
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.auth import Answer, Binding, Hello, Verdict
from ptproxy.auth.payload import MAX_ALIVE, encapsulation_key, prologue
from ptproxy.errors import AuthenticationError

u32, u64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)


@st.composite
def hellos(draw):
    carrier = draw(u32)
    lower = st.lists(st.integers(0, carrier - 1), max_size=MAX_ALIVE) if carrier else st.just([])
    return Hello(
        draw(st.sampled_from([b"", b"s" * 16])),
        carrier,
        tuple(draw(lower)),
        draw(u64),
        draw(st.sampled_from([b"", b"t" * 16])),
    )


@given(hello=hellos(), padding=st.integers(0, 100))
def test_hello_comes_back(hello, padding):
    assert Hello.parse(hello.serialize() + bytes(padding)) == hello


@given(hello=hellos(), cut=st.integers(1, 400))
def test_hello_cut_short_is_refused(hello, cut):
    data = hello.serialize()
    with pytest.raises(AuthenticationError):
        Hello.parse(data[: max(0, len(data) - cut)])


@given(data=st.binary(max_size=120))
def test_garbage_as_hello(data):
    try:
        hello = Hello.parse(b"\x01" + data)
    except AuthenticationError:
        return
    assert (b"\x01" + data).startswith(hello.serialize())


def test_hello_bytes():
    hello = Hello(b"S" * 16, 5, (1, 4), 0x0102030405060708, b"T" * 16)
    expected = "01 00000005 0102030405060708 10" + "53" * 16 + "10" + "54" * 16 + "02 00000001 00000004"
    assert hello.serialize() == bytes.fromhex(expected)
    assert HELLO.serialize()[13:15] == b"\0\0"


@pytest.mark.parametrize(
    ("position", "value", "text"),
    [(0, 2, "version"), (13, 15, "impossible length"), (14, 17, "impossible length"), (15, 65, "too long")],
)
def test_impossible_hellos(position, value, text):
    data = bytearray(Hello(b"", 3, (), 1).serialize() + bytes(300))
    data[position] = value
    with pytest.raises(AuthenticationError, match=text):
        Hello.parse(bytes(data))


def test_a_carrier_in_use_is_lower():
    data = bytearray(Hello(b"", 3, (2,), 1).serialize())
    data[-1] = 3
    with pytest.raises(AuthenticationError, match="not lower"):
        Hello.parse(bytes(data))


@given(
    verdict=st.sampled_from(Verdict),
    session=st.binary(min_size=16, max_size=16),
    time=u64,
    padding=st.integers(0, 9),
)
def test_answer_comes_back(verdict, session, time, padding):
    answer = Answer(session, verdict, time)
    assert Answer.parse(answer.serialize() + bytes(padding)) == answer
    with pytest.raises(AuthenticationError):
        Answer.parse(answer.serialize()[:-1])


@given(data=st.binary(max_size=60))
def test_garbage_as_answer(data):
    try:
        answer = Answer.parse(data)
    except AuthenticationError:
        return
    assert data.startswith(answer.serialize())


def test_answer_bytes():
    answer = Answer(b"S" * 16, Verdict.UNKNOWN, 0x0102030405060708)
    assert answer.serialize(b"K") == bytes.fromhex("02" + "53" * 16 + "0102030405060708") + b"K"


def test_encapsulation_key_stands_behind_the_answer():
    key = bytes(range(256)) * 4 + bytes(160)
    assert encapsulation_key(ANSWER.serialize(key) + bytes(5)) == key
    with pytest.raises(AuthenticationError):
        encapsulation_key(ANSWER.serialize(key[:-1]))


def test_prologue_bytes_and_that_no_two_agree():
    assert prologue("http", True, Binding.none()) == b"\x01\x04http\x01\x00"
    assert prologue("http", False, CERTIFICATE) == b"\x01\x04http\x00\x01" + CERTIFICATE.digest
    made = {
        prologue(codec, seal, binding)
        for codec in ("a", "ab", "b", "a\0", "a\x01")
        for seal in (False, True)
        for binding in (Binding.none(), CERTIFICATE)
    }
    assert len(made) == 20
