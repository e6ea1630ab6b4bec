"""SOCKS5, SOCKS4 and SOCKS4a conversations, and which one a first byte starts."""

from __future__ import annotations

import ipaddress
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.errors import FrontError, Reason
from ptproxy.front import (
    AssociationRequested,
    HttpProxy,
    PayloadReceived,
    Socks4,
    Socks5,
    TargetRequested,
    Users,
    recognise,
)
from ptproxy.target import Target

USERS = Users({"ann": "secret", "bob": "pass:word"})
CONNECT_V4 = b"\x05\x01\x00" + b"\x05\x01\x00\x01\x01\x02\x03\x04\x00\x50"
SPLITS = st.lists(st.integers(0, 600), max_size=8)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    marks = [0, *sorted(cut for cut in cuts if cut <= len(data)), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(marks)]


def talk(conversation, data: bytes, cuts: list[int]):
    """What a conversation makes of ``data``: (request, early data, answers, error text)."""
    request, early, answers, error = None, b"", b"", ""
    for piece in pieces(data, cuts):
        try:
            events = conversation.receive_data(memoryview(piece))
        except FrontError as problem:
            answers += conversation.data_to_send()
            assert conversation.closing
            error = str(problem)
            break
        for event in events:
            if type(event) is PayloadReceived:
                early += event.data
            else:
                assert request is None
                request = event
                if type(event) is TargetRequested:
                    early += event.first_data
        answers += conversation.data_to_send()
    target = request.target if type(request) is TargetRequested else request
    return target, early, answers, error


def address(host: str, port: int) -> bytes:
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return bytes((3, len(host))) + host.encode() + port.to_bytes(2)
    return bytes((1 if ip.version == 4 else 4,)) + ip.packed + port.to_bytes(2)


@pytest.mark.parametrize("host", ["1.2.3.4", "2001:db8::1", "example.org", "a"])
@given(cuts=SPLITS, early=st.binary(max_size=20))
def test_socks5_connect(host: str, cuts: list[int], early: bytes) -> None:
    data = b"\x05\x02\x01\x00" + b"\x05\x01\x00" + address(host, 443) + early
    assert talk(Socks5(), data, cuts) == (Target(host, 443), early, b"\x05\x00", "")


def test_socks5_name_that_is_an_address() -> None:
    data = b"\x05\x01\x00\x05\x01\x00\x03\x09127.0.0.1\x00\x50"
    assert talk(Socks5(), data, [])[0] == Target("127.0.0.1", 80)


def test_socks5_accepted_and_refused() -> None:
    for reason, code in {
        Reason.CANCELLED: 1,
        Reason.GENERAL: 1,
        Reason.NOT_PERMITTED: 2,
        Reason.NETWORK_UNREACHABLE: 3,
        Reason.HOST_UNREACHABLE: 4,
        Reason.REFUSED: 5,
        Reason.TIMED_OUT: 6,
        Reason.NAME_NOT_FOUND: 4,
        Reason.CONNECTION_LOST: 1,
        Reason.LIMIT: 1,
        Reason.SHUTDOWN: 1,
        Reason.UNSUPPORTED: 7,
        Reason.TUNNEL_DOWN: 1,
        Reason.SESSION_LOST: 1,
    }.items():
        conversation = Socks5()
        talk(conversation, CONNECT_V4, [])
        conversation.send_refused(reason)
        assert conversation.data_to_send() == bytes((5, code, 0, 1)) + bytes(6)
        assert conversation.closing
        assert conversation.receive_data(b"late") == []
    conversation = Socks5()
    talk(conversation, CONNECT_V4, [])
    conversation.send_accepted()
    assert conversation.data_to_send() == b"\x05\x00\x00\x01" + bytes(6)
    assert not conversation.closing


@given(cuts=SPLITS)
def test_socks5_associate(cuts: list[int]) -> None:
    conversation = Socks5()
    data = b"\x05\x01\x00\x05\x03\x00" + address("0.0.0.0", 5353)
    assert talk(conversation, data, cuts) == (AssociationRequested(5353), b"", b"\x05\x00", "")
    conversation.send_accepted("::1", 4660)
    assert conversation.data_to_send() == b"\x05\x00\x00\x04" + bytes(15) + b"\x01\x12\x34"


def test_socks5_associate_without_address() -> None:
    assert talk(Socks5(), b"\x05\x01\x00\x05\x03\x00\x03\x00\x00\x00", [])[0] == AssociationRequested(0)


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (
            b"\x05\x01\x00\x05\x02\x00\x01\x01\x02\x03\x04\x00\x50",
            b"\x05\x00\x05\x07\x00\x01" + bytes(6),
        ),  # BIND
        (b"\x05\x01\x00\x05\x01\x00\x02\x01\x02\x03\x04\x00\x50", b"\x05\x00\x05\x08\x00\x01" + bytes(6)),
        (
            b"\x05\x01\x00\x05\x01\x00\x01\x01\x02\x03\x04\x00\x00",
            b"\x05\x00\x05\x01\x00\x01" + bytes(6),
        ),  # port 0
        (b"\x05\x01\x00\x05\x01\x00\x03\x03a b\x00\x50", b"\x05\x00\x05\x01\x00\x01" + bytes(6)),
        (b"\x05\x01\x00\x05\x01\x00\x03\x00\x00\x50", b"\x05\x00\x05\x01\x00\x01" + bytes(6)),
        (b"\x05\x01\x00\x05\x01\x00\x03\x01\xe4\x00\x50", b"\x05\x00\x05\x01\x00\x01" + bytes(6)),
        (b"\x05\x01\x00\x04\x01\x00\x01\x01\x02\x03\x04\x00\x50", b"\x05\x00\x05\x01\x00\x01" + bytes(6)),
        (b"\x05\x01\x02", b"\x05\xff"),
        (b"\x05\x00", b"\x05\xff"),
        (b"\x04", b""),
    ],
)
@given(cuts=SPLITS)
def test_socks5_errors(data: bytes, answer: bytes, cuts: list[int]) -> None:
    target, _, answers, error = talk(Socks5(), data, cuts)
    assert target is None
    assert error
    assert answers == answer


@pytest.mark.parametrize(
    ("name", "password", "admitted"),
    [
        (b"ann", b"secret", True),
        (b"bob", b"pass:word", True),
        (b"ann", b"pass:word", False),
        (b"ann", b"", False),
        (b"", b"", False),
        (b"ann\0", b"secret", False),
        (b"x" * 255, b"y" * 255, False),
    ],
)
@given(cuts=SPLITS)
def test_socks5_password(name: bytes, password: bytes, admitted: bool, cuts: list[int]) -> None:
    request = b"\x05\x01\x00" + address("example.org", 80)
    login = bytes((1, len(name))) + name + bytes((len(password),)) + password
    data = b"\x05\x02\x00\x02" + login + request
    target, _, answers, error = talk(Socks5(USERS), data, cuts)
    if admitted:
        assert (target, answers, error) == (Target("example.org", 80), b"\x05\x02\x01\x00", "")
    else:
        assert (target, answers) == (None, b"\x05\x02\x01\x01")
        assert error


def test_socks5_password_is_required_and_well_formed() -> None:
    assert talk(Socks5(USERS), b"\x05\x01\x00", [])[2:] == (
        b"\x05\xff",
        "the program offers no user and password",
    )
    assert talk(Socks5(USERS), b"\x05\x01\x02\x05", [])[2:] == (
        b"\x05\x02",
        "not version 1 of user and password",
    )


@pytest.mark.parametrize(
    ("data", "target"),
    [
        (b"\x04\x01\x00\x50\x01\x02\x03\x04\x00", Target("1.2.3.4", 80)),
        (b"\x04\x01\x00\x50\x01\x02\x03\x04someone\x00", Target("1.2.3.4", 80)),
        (b"\x04\x01\x01\xbb\x00\x00\x00\x01me\x00Example.org\x00", Target("example.org", 443)),
        (b"\x04\x01\x01\xbb\x00\x00\x00\xff\x00::1\x00", Target("::1", 443)),
        (b"\x04\x01\x01\xbb\x00\x00\x00\x00\x00", Target("0.0.0.0", 443)),
    ],
)
@given(cuts=SPLITS, early=st.binary(max_size=20))
def test_socks4_connect(data: bytes, target: Target, cuts: list[int], early: bytes) -> None:
    conversation = Socks4()
    assert talk(conversation, data + early, cuts) == (target, early, b"", "")
    conversation.send_accepted()
    assert conversation.data_to_send() == b"\x00\x5a" + bytes(6)


@pytest.mark.parametrize("reason", list(Reason))
def test_socks4_refused(reason: Reason) -> None:
    conversation = Socks4()
    talk(conversation, b"\x04\x01\x00\x50\x01\x02\x03\x04\x00", [])
    conversation.send_refused(reason)
    assert conversation.data_to_send() == b"\x00\x5b" + bytes(6)
    assert conversation.closing


@pytest.mark.parametrize(
    ("users", "data", "code"),
    [
        (None, b"\x04\x02\x00\x50\x01\x02\x03\x04\x00", 91),  # BIND
        (None, b"\x04\x01\x00\x00\x01\x02\x03\x04\x00", 91),  # port 0
        (None, b"\x04\x01\x00\x50\x01\x02\x03\x04" + b"u" * 256, 91),
        (None, b"\x04\x01\x00\x50\x00\x00\x00\x01\x00" + b"n" * 256, 91),
        (None, b"\x04\x01\x00\x50\x00\x00\x00\x01\x00a b\x00", 91),
        (None, b"\x04\x01\x00\x50\x00\x00\x00\x01\x00\xe4\x00", 91),
        (None, b"\x05", 91),
        (USERS, b"\x04\x01\x00\x50\x01\x02\x03\x04ann\x00", 93),
    ],
)
@given(cuts=SPLITS)
def test_socks4_errors(users: Users | None, data: bytes, code: int, cuts: list[int]) -> None:
    target, _, answers, error = talk(Socks4(users), data, cuts)
    assert target is None
    assert error
    assert answers == bytes((0, code)) + bytes(6)


def test_recognise() -> None:
    for byte in range(256):
        if byte == 5:
            assert recognise(byte) is Socks5
        elif byte == 4:
            assert recognise(byte) is Socks4
        elif chr(byte).isascii() and chr(byte).isalpha():
            assert recognise(byte) is HttpProxy
        else:
            with pytest.raises(FrontError, match="TLS" if byte == 22 else "neither"):
                recognise(byte)


@pytest.mark.parametrize("users", [None, USERS])
@pytest.mark.parametrize("kind", [Socks4, Socks5])
@given(
    cuts=SPLITS,
    first=st.sampled_from([b"\x05", b"\x05\x01\x00\x05", b"\x04\x01", b"\x04", b""]),
    data=st.binary(max_size=400),
)
def test_garbage_is_a_front_error_however_split(
    kind, users, first: bytes, data: bytes, cuts: list[int]
) -> None:
    whole = talk(kind(users), first + data, [])
    assert talk(kind(users), first + data, cuts) == whole


def test_eof() -> None:
    for kind, request in ((Socks5, CONNECT_V4), (Socks4, b"\x04\x01\x00\x50\x01\x02\x03\x04\x00")):
        conversation = kind()
        conversation.receive_data(request[:4])
        conversation.receive_eof()
        assert conversation.closing
        conversation = kind()
        conversation.receive_data(request)
        conversation.receive_eof()
        assert not conversation.closing


def test_users() -> None:
    for bad in ({}, {"": "x"}, {"a:b": "x"}, {"a": ""}, {"a": "x" * 256}, {"x" * 256: "a"}):
        with pytest.raises(ValueError, match=r"user|password"):
            Users(bad)
    assert "secret" not in repr(USERS)
