"""JA4: the specification's own example, what does not matter, and browsers' real hellos."""

from __future__ import annotations

import dataclasses
import random

from hello_bytes import (
    BODIES,
    GREASE,
    alpn,
    body,
    listed,
    python_hello,
    server_name,
    versions,
)
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.codec.client_hello import ClientHello, ClientHelloReader
from ptproxy.inspect.ja4 import ja3n, ja4, ja4_parts

CIPHERS = (0x1301, 0x1302, 0x1303, 0xC02B, 0xC02F, 0xC02C, 0xC030, 0xCCA9, 0xCCA8, 0xC013, 0xC014,
           0x9C, 0x9D, 0x2F, 0x35)  # fmt: skip
SCHEMES = (0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601)
EMPTY = (0x1B, 0x33, 0x4469, 0x17, 0x2D, 0x05, 0x23, 0x12, 0xFF01, 0x0B, 0x15)
"""Extensions of the example whose bodies do not matter; key_share must be one."""


def example(*more: tuple[int, bytes]) -> ClientHello:
    """The ClientHello of FoxIO's technical details: ``t13d1516h2_8daaf6152771_e5627efa2ab1``."""
    empty = [(kind, b"\0\0" if kind == 0x33 else b"") for kind in EMPTY]
    return ClientHello.parse(
        body(
            *more, *empty, server_name(b"foxio.io"), alpn(b"h2", b"http/1.1"), versions(0x0304, 0x0303),
            listed(10, 29, 23, 24), listed(13, *SCHEMES),
            ciphers=CIPHERS,
        )
    )  # fmt: skip


def test_the_specifications_example() -> None:
    assert ja4(example()) == "t13d1516h2_8daaf6152771_e5627efa2ab1"


def test_grease_counts_nowhere() -> None:
    greased = example((GREASE[3], b""), (GREASE[9], b"\0"))
    greased = dataclasses.replace(greased, cipher_suites=(GREASE[0], *greased.cipher_suites))
    plain = dict(greased.extensions)
    plain[43] = versions(GREASE[5], 0x0304, 0x0303)[1]
    plain[13] = listed(13, GREASE[1], *SCHEMES)[1]
    plain[16] = alpn(b"\x1a\x1a", b"h2")[1]
    greased = dataclasses.replace(greased, extensions=tuple(plain.items()))
    assert ja4(greased) == ja4(example())
    assert ja3n(greased) == ja3n(example())


def test_names_and_protocols_show_in_the_first_part() -> None:
    assert (
        ja4(ClientHello.parse(body()))
        == "t12i010000_" + ja4_parts(ClientHello.parse(body()))[1] + "_" + "0" * 12
    )
    for offered, letters in (
        (b"h2", "h2"), (b"http/1.1", "h1"), (b"x", "xx"), (b"\xab", "ab"), (b"\xab\xcd", "ad"),
        (b"\x30\x31\xab\xcd", "3d"), (b"-a", "21"),
    ):  # fmt: skip
        assert ja4_parts(ClientHello.parse(body(alpn(offered))))[0].endswith(letters)
    for version, digits in ((0x0301, "10"), (0x0302, "11"), (0x0300, "s3"), (0x0999, "00")):
        assert ja4(ClientHello.parse(body(version=version))).startswith(f"t{digits}i")


def test_counts_have_two_digits() -> None:
    many = ClientHello.parse(body(*((kind, b"") for kind in range(100, 250)), ciphers=range(1, 200)))
    assert ja4(many).startswith("t12i999900_")


@given(BODIES, st.randoms(use_true_random=False))
def test_the_order_of_ciphers_and_extensions_does_not_matter(content: bytes, rng: random.Random) -> None:
    hello = ClientHello.parse(content)
    extensions, ciphers = list(hello.extensions), list(hello.cipher_suites)
    rng.shuffle(extensions)
    rng.shuffle(ciphers)
    other = dataclasses.replace(hello, extensions=tuple(extensions), cipher_suites=tuple(ciphers))
    assert ja4(hello) == ja4(other)


def test_pythons_hello_has_one() -> None:
    hello = ClientHelloReader().receive_data(python_hello("camo.test", "http/1.1"))
    assert hello is not None
    assert ja4(hello).startswith("t13d")
    assert ja4(hello).split("_")[0].endswith("h1")
    assert len(ja3n(hello)) == 32
