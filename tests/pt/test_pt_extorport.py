"""The extended ORPort, against a tor's side of its own making (ext-orport-spec)."""

from __future__ import annotations

import hashlib
import hmac
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.pt.extorport import COOKIE_HEADER, ExtOrPort, ExtOrPortError, parse_cookie

COOKIE = bytes(range(32))
OURS = b"\x11" * 32
THEIRS = b"\x22" * 32


def digest(direction: bytes) -> bytes:
    label = b"ExtORPort authentication " + direction + b" hash"
    return hmac.new(COOKIE, label + OURS + THEIRS, hashlib.sha256).digest()


SERVER_HASH = digest(b"server-to-client")
CLIENT_HASH = digest(b"client-to-server")
OKAY = b"\x10\x00\x00\x00"
SAID = b"\x01\x02\x00" + SERVER_HASH + THEIRS + b"\x01" + OKAY


def conversation(address: str = "192.0.2.7:4711") -> ExtOrPort:
    return ExtOrPort(COOKIE, OURS, "ptproxy", address)


def test_who_calls_is_said_after_both_proofs() -> None:
    talk = conversation()
    talk.receive_data(b"\x01\x02\x00")
    assert talk.data_to_send() == b"\x01" + OURS
    talk.receive_data(SERVER_HASH + THEIRS)
    assert talk.data_to_send() == CLIENT_HASH
    talk.receive_data(b"\x01")
    assert talk.data_to_send() == (
        b"\x00\x01\x00\x0e192.0.2.7:4711" + b"\x00\x02\x00\x07ptproxy" + b"\x00\x00\x00\x00"
    )
    assert not talk.done
    talk.receive_data(OKAY + b"an OR's first bytes")
    assert talk.done
    assert talk.rest == b"an OR's first bytes"
    talk.receive_data(b", and more")
    assert talk.rest == b"an OR's first bytes, and more"


def test_a_client_without_address_is_not_named() -> None:
    talk = conversation("")
    talk.receive_data(SAID)
    assert b"\x00\x02\x00\x07ptproxy" in talk.data_to_send()
    assert talk.done


@given(st.lists(st.integers(0, len(SAID)), max_size=8))
def test_it_does_not_matter_how_it_is_split(cuts: list[int]) -> None:
    talk = conversation()
    said = b""
    places = [0, *sorted(cuts), len(SAID)]
    for start, end in itertools.pairwise(places):
        talk.receive_data(SAID[start:end])
        said += talk.data_to_send()
    whole = conversation()
    whole.receive_data(SAID)
    assert talk.done
    assert said == whole.data_to_send()


def test_messages_that_are_not_known_are_passed_over() -> None:
    talk = conversation()
    talk.receive_data(SAID[: -len(OKAY)] + b"\x20\x00\x00\x03abc" + OKAY)
    assert talk.done


@pytest.mark.parametrize(
    ("said", "what"),
    [
        (b"\x02\x00", "SAFE_COOKIE"),
        (b"\x05" * 300, "no extended ORPort"),
        (b"\x01\x00" + bytes(32) + THEIRS, "did not read the cookie"),
        (b"\x01\x00" + CLIENT_HASH + THEIRS, "did not read the cookie"),
        (b"\x01\x00" + SERVER_HASH + THEIRS + b"\x00", "refused our proof"),
        (SAID[: -len(OKAY)] + b"\x10\x01\x00\x00", "denied"),
        (SAID[: -len(OKAY)] + b"\x10\x00\xff\xff", "oversized"),
    ],
)
def test_a_port_that_is_not_right(said: bytes, what: str) -> None:
    talk = conversation()
    with pytest.raises(ExtOrPortError, match=what):
        talk.receive_data(said)
    assert not talk.done


def test_our_proof_is_not_given_to_whoever_cannot_prove_first() -> None:
    talk = conversation()
    with pytest.raises(ExtOrPortError):
        talk.receive_data(b"\x01\x00" + bytes(64))
    assert CLIENT_HASH not in talk.data_to_send()


def test_an_early_end_is_told() -> None:
    talk = conversation()
    talk.receive_data(SAID[:-1])
    with pytest.raises(ExtOrPortError):
        talk.receive_eof()


@given(st.binary(max_size=400))
def test_garbage_raises_only_what_is_documented(data: bytes) -> None:
    talk = conversation()
    try:
        talk.receive_data(data)
        talk.receive_eof()
    except ExtOrPortError:
        pass
    assert not talk.done


def test_the_cookie_file() -> None:
    assert parse_cookie(COOKIE_HEADER + COOKIE) == COOKIE
    for wrong in (b"", COOKIE, COOKIE_HEADER + COOKIE[:-1], COOKIE_HEADER + COOKIE + b"x", bytes(64)):
        with pytest.raises(ExtOrPortError):
            parse_cookie(wrong)
