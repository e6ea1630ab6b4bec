"""The header of SOCKS5 datagrams."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.errors import FrontError
from ptproxy.front import parse_datagram, serialize_datagram
from ptproxy.target import Target


@pytest.mark.parametrize("host", ["1.2.3.4", "2001:db8::1", "example.org"])
@given(port=st.integers(1, 65535), data=st.binary(max_size=100))
def test_round_trip(host: str, port: int, data: bytes) -> None:
    datagram = serialize_datagram(Target(host, port), data)
    assert datagram[:3] == b"\0\0\0"
    assert parse_datagram(memoryview(datagram)) == (Target(host, port), data)


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"\0\0",
        b"\0\0\0",
        b"\0\0\0\1\1\2\3\4\0",
        b"\0\1\0\1\1\2\3\4\0\x50",
        b"\0\0\1\1\1\2\3\4\0\x50data",  # a fragment
        b"\0\0\x80\1\1\2\3\4\0\x50data",
        b"\0\0\0\1\1\2\3\4\0\0data",  # port 0
        b"\0\0\0\2\1\2\3\4\0\x50",
        b"\0\0\0\5\4echo",  # kinds of target that SOCKS does not have
        b"\0\0\0\6data",
        b"\0\0\0\3\0\0\x50",
        b"\0\0\0\3\3a b\0\x50",
    ],
)
def test_refused(datagram: bytes) -> None:
    with pytest.raises(FrontError):
        parse_datagram(datagram)


@given(st.binary(max_size=300), st.sampled_from([b"", b"\0\0\0\1", b"\0\0\0\3", b"\0\0\0\4"]))
def test_garbage_raises_only_front_error(data: bytes, head: bytes) -> None:
    try:
        target, payload = parse_datagram(head + data)
    except FrontError:
        return
    assert (head + data).endswith(payload)
    assert target.kind == "address"
