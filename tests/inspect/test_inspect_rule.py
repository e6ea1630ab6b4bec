"""The rule for fully encrypted traffic: each exemption alone, its boundary, and what is blocked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.inspect.encrypted_rule import exemptions

BALANCED = bytes([0x93, 0x8F, 0xE4, 0x1D])
"""Four bits set in each byte, none printable."""


@pytest.mark.parametrize(
    ("payload", "exempt"),
    [
        (BALANCED * 50, ()),
        (b"", ()),
        (bytes(100), ("Ex1",)),
        (b"\xff" * 100, ("Ex1",)),
        (b"\x07\x07\x17\x17\x07" * 20, ("Ex1",)),  # 3.4 bits a byte
        (b"\x07\x17\x17\x07\x17" * 20, ()),  # 3.6
        (b"\x1f\x1f\x1f\x0f\x0f" * 20, ("Ex1",)),  # 4.6
        (b"\x1f\x1f\x0f\x0f\x0f" * 20, ()),  # 4.4
        (b"333333" + BALANCED * 50, ("Ex2",)),
        (b"33333" + BALANCED * 50, ()),
        (BALANCED * 10 + b"3" * 20 + b"\x93" + b"3" * 20 + b"\x93" + b"3", ()),
        (BALANCED * 10 + b"3" * 20 + b"\x93" + b"3" * 20 + b"\x93\x933333", ("Ex3",)),
        (BALANCED * 50 + b"3" * 21, ("Ex4",)),
        (BALANCED * 50 + b"3" * 20, ()),
        (b"\x16\x03\x01" + BALANCED * 50, ("Ex5",)),
        (b"\x17\x03\x09" + BALANCED * 50, ("Ex5",)),
        (b"\x16\x03\x0a" + BALANCED * 50, ()),
        (b"\x15\x03\x01" + BALANCED * 50, ()),
        (b"GET " + BALANCED * 50, ("Ex5",)),
        (b"HEAD " + BALANCED * 50, ("Ex5",)),
        (b"PUSH " + BALANCED * 50, ()),
    ],
)
def test_algorithm_1(payload: bytes, exempt: tuple[str, ...]) -> None:
    assert exemptions(payload) == exempt


@given(st.binary(min_size=1, max_size=600))
def test_it_is_the_papers_arithmetic(payload: bytes) -> None:
    printable = [0x20 <= byte <= 0x7E for byte in payload]
    bits = sum(bin(byte).count("1") for byte in payload) / len(payload)
    runs = "".join("x" if one else " " for one in printable).split()
    tls = len(payload) > 2 and payload[0] in (0x16, 0x17) and payload[1] == 3 and payload[2] <= 9
    http = any(payload.startswith(method + b" ") for method in (b"GET", b"PUT", b"POST", b"HEAD"))
    expected = {
        "Ex1": bits <= 3.4 or bits >= 4.6,
        "Ex2": len(payload) >= 6 and all(printable[:6]),
        "Ex3": sum(printable) > len(payload) / 2,
        "Ex4": any(len(run) > 20 for run in runs),
        "Ex5": tls or http,
    }
    assert exemptions(payload) == tuple(name for name, holds in expected.items() if holds)
