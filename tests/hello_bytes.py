"""ClientHellos for tests: serialised from values, drawn by hypothesis, made by Python's ssl."""

from __future__ import annotations

import ssl
import struct
from collections.abc import Iterable, Sequence

from hypothesis import strategies as st

GREASE = tuple(0x0A0A + 0x1010 * step for step in range(16))


def vector(width: int, content: bytes) -> bytes:
    return len(content).to_bytes(width, "big") + content


def numbers(values: Iterable[int]) -> bytes:
    return b"".join(value.to_bytes(2, "big") for value in values)


def server_name(name: bytes) -> tuple[int, bytes]:
    return 0, vector(2, b"\0" + vector(2, name))


def alpn(*names: bytes) -> tuple[int, bytes]:
    return 16, vector(2, b"".join(vector(1, name) for name in names))


def versions(*values: int) -> tuple[int, bytes]:
    return 43, vector(1, numbers(values))


def listed(kind: int, *values: int) -> tuple[int, bytes]:
    """supported_groups (10) or signature_algorithms (13)."""
    return kind, vector(2, numbers(values))


def key_share(*shares: tuple[int, int]) -> tuple[int, bytes]:
    """Each share is (group, bytes of its key)."""
    return 51, vector(2, b"".join(struct.pack(">HH", group, size) + bytes(size) for group, size in shares))


def body(
    *extensions: tuple[int, bytes],
    version: int = 0x0303,
    ciphers: Sequence[int] = (0x1301,),
    session_id: bytes = b"",
    compression: bytes = b"\0",
) -> bytes:
    start = version.to_bytes(2, "big") + bytes(range(32)) + vector(1, session_id)
    start += vector(2, numbers(ciphers)) + vector(1, compression)
    if extensions:
        start += vector(2, b"".join(kind.to_bytes(2, "big") + vector(2, data) for kind, data in extensions))
    return start


def message(content: bytes) -> bytes:
    return b"\1" + vector(3, content)


def records(whole: bytes, sizes: Sequence[int] = ()) -> bytes:
    """A message in records of these sizes, the rest of it in one more."""
    out, at = b"", 0
    for size in (*sizes, len(whole)):
        piece = whole[at : at + size]
        if piece:
            out += b"\x16\3\1" + vector(2, piece)
        at += len(piece)
    return out


def python_hello(name: str | None = "camo.test", *protocols: str) -> bytes:
    """What Python's ssl sends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


NUMBER = st.one_of(st.integers(0, 0xFFFF), st.sampled_from(GREASE))
NUMBERS = st.lists(NUMBER, min_size=1, max_size=12)
NAME = st.from_regex(rb"[!-~]{1,40}", fullmatch=True)
KNOWN = (
    NAME.map(server_name),
    st.lists(st.binary(min_size=1, max_size=9), min_size=1, max_size=4).map(lambda names: alpn(*names)),
    NUMBERS.map(lambda values: versions(*values)),
    NUMBERS.map(lambda values: listed(10, *values)),
    NUMBERS.map(lambda values: listed(13, *values)),
    st.lists(st.tuples(NUMBER, st.integers(1, 1300)), max_size=3).map(lambda shares: key_share(*shares)),
    st.just((42, b"")),
)
UNKNOWN = st.tuples(
    NUMBER.filter(lambda kind: kind not in {0, 10, 13, 16, 41, 43, 51}), st.binary(max_size=50)
)
EXTENSIONS = st.lists(st.one_of(*KNOWN, UNKNOWN), max_size=14, unique_by=lambda extension: extension[0])
BODIES = st.builds(
    lambda extensions, version, ciphers, session_id: body(
        *extensions, version=version, ciphers=ciphers, session_id=session_id
    ),
    EXTENSIONS,
    st.integers(0, 0xFFFF),
    NUMBERS,
    st.binary(max_size=32),
)
