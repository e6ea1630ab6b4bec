"""JA4 and JA3N: names for a ClientHello, as censors and their tools write them.

JA4 (FoxIO, "JA4: TLS client fingerprinting", technical details) is three parts
joined by underscores::

    a = "t" version(2) SNI("d"/"i") ciphers(2 digits) extensions(2 digits) ALPN(2)
    b = SHA-256(cipher suites in hex, sorted, commas)[:12]
    c = SHA-256(extensions in hex without SNI and ALPN, sorted, commas ["_" signature schemes in order])[:12]

JA3N is JA3 with sorted extensions: MD5 of version, cipher suites, extensions,
groups and point formats in decimal. GREASE counts nowhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

from ptproxy.codec.client_hello import ALPN, EC_POINT_FORMATS, SERVER_NAME, ClientHello, is_grease

_VERSIONS: Final = {0x0304: "13", 0x0303: "12", 0x0302: "11", 0x0301: "10", 0x0300: "s3", 0x0002: "s2"}
_MOST: Final = 99
"""What two digits count to."""


def ja4(hello: ClientHello) -> str:
    """The JA4 of a ClientHello over TCP, as ``t13d1516h2_8daaf6152771_806a8c22fdea``."""
    a, b, c = ja4_parts(hello)
    return f"{a}_{b}_{c}"


def ja4_parts(hello: ClientHello) -> tuple[str, str, str]:
    """The three parts of a JA4: what it offers, its cipher suites, its extensions and signature schemes."""
    ciphers = without_grease(hello.cipher_suites)
    extensions = without_grease(kind for kind, _ in hello.extensions)
    versions = without_grease(hello.supported_versions) or [hello.legacy_version]
    a = (
        f"t{_VERSIONS.get(max(versions), '00')}{'i' if hello.server_name is None else 'd'}"
        f"{min(len(ciphers), _MOST):02d}{min(len(extensions), _MOST):02d}{_alpn_letters(hello.alpn)}"
    )
    inner = _hexes(sorted(kind for kind in extensions if kind not in {SERVER_NAME, ALPN}))
    schemes = without_grease(hello.signature_algorithms)
    c = f"{inner}_{_hexes(schemes)}" if schemes else inner
    return a, _short(_hexes(sorted(ciphers))), _short(c)


def ja3n(hello: ClientHello) -> str:
    """JA3 with its extensions sorted, so that a browser which permutes them keeps one value."""
    formats = hello.extension(EC_POINT_FORMATS) or b"\0"
    lists: tuple[Iterable[int], ...] = (
        without_grease(hello.cipher_suites),
        sorted(without_grease(kind for kind, _ in hello.extensions)),
        without_grease(hello.groups),
        formats[1:],
    )
    fields = [str(hello.legacy_version), *("-".join(map(str, values)) for values in lists)]
    return hashlib.md5(",".join(fields).encode(), usedforsecurity=False).hexdigest()


def without_grease(values: Iterable[int]) -> list[int]:
    """The numbers that mean something, in order."""
    return [value for value in values if not is_grease(value)]


def _alpn_letters(names: tuple[bytes, ...]) -> str:
    """First and last character of the first protocol; of its hex where one is no letter or digit."""
    meant = [name for name in names if len(name) != 2 or not is_grease(int.from_bytes(name))]
    if not meant:
        return "00"
    ends = bytes((meant[0][0], meant[0][-1]))
    if ends.isalnum():
        return ends.decode("ascii")
    text = meant[0].hex()
    return text[0] + text[-1]


def _hexes(values: Iterable[int]) -> str:
    return ",".join(f"{value:04x}" for value in values)


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else "0" * 12
