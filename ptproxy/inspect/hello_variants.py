"""ClientHellos that only a prober sends: one odd thing each, and the server's own way to take it.

All are made from one hello that any server of today takes, so that an answer
tells how the server deals with the oddity: libraries differ in alerts, in the
order of checks and in what they let pass (RFC 8446 sections 4 to 6 permit
several answers to most of them).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import replace
from random import Random
from typing import Final

from ptproxy.codec import client_hello as kinds
from ptproxy.codec.client_hello import TLS13, ClientHello

X25519: Final = 29
P256: Final = 23
P384: Final = 24
P521: Final = 25
X25519_MLKEM768: Final = 0x11EC
_GREASE: Final = 0x3A3A
_CIPHERS: Final = (
    0x1301, 0x1302, 0x1303, 0xC02B, 0xC02F, 0xC02C, 0xC030, 0xCCA9, 0xCCA8, 0xC013, 0xC014, 0x009C, 0x009D,
    0x002F, 0x0035,
)  # fmt: skip
"""What browsers of the last years offer."""
_SCHEMES: Final = (0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601)

_STATUS_REQUEST, _HEARTBEAT, _PADDING, _MASTER_SECRET = 5, 15, 21, 23
_MAX_FRAGMENT, _RECORD_LIMIT, _TICKET, _PSK_MODES, _POST_AUTH, _RENEGOTIATION = 1, 28, 35, 45, 49, 0xFF01


def vector(width: int, content: bytes) -> bytes:
    """Bytes with their length before them."""
    return len(content).to_bytes(width) + content


def numbers(values: Iterable[int]) -> bytes:
    """Numbers of two bytes."""
    return b"".join(struct.pack(">H", value) for value in values)


def usual_hello(name: str | None, rng: Random) -> ClientHello:
    """The hello that the others vary."""
    shares = numbers((X25519,)) + vector(2, rng.randbytes(32))
    extensions: list[tuple[int, bytes]] = [
        (_MASTER_SECRET, b""),
        (_RENEGOTIATION, b"\0"),
        (kinds.SUPPORTED_GROUPS, vector(2, numbers((X25519, P256, P384)))),
        (kinds.EC_POINT_FORMATS, b"\1\0"),
        (_TICKET, b""),
        (kinds.ALPN, protocols(b"h2", b"http/1.1")),
        (_STATUS_REQUEST, b"\1\0\0\0\0"),
        (kinds.SIGNATURE_ALGORITHMS, vector(2, numbers(_SCHEMES))),
        (kinds.KEY_SHARE, vector(2, shares)),
        (_PSK_MODES, b"\1\1"),
        (kinds.SUPPORTED_VERSIONS, vector(1, numbers((TLS13, 0x0303)))),
    ]
    if name is not None:
        extensions.insert(0, (kinds.SERVER_NAME, names(name)))
    return ClientHello(0x0303, rng.randbytes(32), rng.randbytes(32), _CIPHERS, b"\0", tuple(extensions))


def names(*hosts: str) -> bytes:
    """The body of server_name."""
    return vector(2, b"".join(b"\0" + vector(2, host.encode("ascii", "replace")) for host in hosts))


def protocols(*offered: bytes) -> bytes:
    """The body of ALPN."""
    return vector(2, b"".join(vector(1, one) for one in offered))


def having(hello: ClientHello, kind: int, body: bytes) -> ClientHello:
    """With an extension's body replaced, or the extension added at the end."""
    if hello.extension(kind) is None:
        return replace(hello, extensions=(*hello.extensions, (kind, body)))
    changed = tuple((k, body if k == kind else old) for k, old in hello.extensions)
    return replace(hello, extensions=changed)


def lacking(hello: ClientHello, *unwanted: int) -> ClientHello:
    """Without some extensions."""
    return replace(hello, extensions=tuple(pair for pair in hello.extensions if pair[0] not in unwanted))


def record(content: bytes, kind: int = 22, version: int = 0x0301) -> bytes:
    """One TLS record."""
    return struct.pack(">BH", kind, version) + vector(2, content)


def message(body: bytes) -> bytes:
    """A ClientHello message around its body."""
    return b"\1" + vector(3, body)


def wire(hello: ClientHello) -> bytes:
    """A hello in one record."""
    return record(message(hello.serialize()))


def in_records(content: bytes, sizes: Sequence[int]) -> bytes:
    """A message in records of these sizes, the rest in one more."""
    out, at = [], 0
    for size in (*sizes, len(content)):
        if content[at : at + size]:
            out.append(record(content[at : at + size]))
        at += size
    return b"".join(out)


def variants(name: str, rng: Random) -> dict[str, bytes]:
    """Everything that is sent as a client's first bytes, by what is odd about it."""
    usual = usual_hello(name, rng)
    return {
        **_named(usual, name),
        **_protocols(usual),
        **_versions(usual),
        **_key_exchange(usual, rng),
        **_ciphers(usual),
        **_extensions(usual, rng),
        **_malformed(usual),
        **_records(usual, rng),
    }


def _named(usual: ClientHello, name: str) -> dict[str, bytes]:
    kind = kinds.SERVER_NAME
    return {
        "hello": wire(usual),
        "hello without a name": wire(lacking(usual, kind)),
        "hello for another name": wire(having(usual, kind, names("www.example.org"))),
        "hello for an address": wire(having(usual, kind, names("192.0.2.1"))),
        "hello for the name in capitals": wire(having(usual, kind, names(name.upper()))),
        "hello for the name with a dot": wire(having(usual, kind, names(name + "."))),
        "hello for an empty name": wire(having(usual, kind, names(""))),
        "hello for two names": wire(having(usual, kind, names(name, "www.example.org"))),
        "hello for a name with NUL": wire(having(usual, kind, names(name + "\0.example.org"))),
    }


def _protocols(usual: ClientHello) -> dict[str, bytes]:
    kind = kinds.ALPN
    return {
        "hello without ALPN": wire(lacking(usual, kind)),
        "hello with unknown ALPN": wire(having(usual, kind, protocols(b"foo/1"))),
        "hello with unknown ALPN and http/1.1": wire(having(usual, kind, protocols(b"foo/1", b"http/1.1"))),
        "hello with ALPN http/1.0": wire(having(usual, kind, protocols(b"http/1.0"))),
        "hello with ALPN h2 only": wire(having(usual, kind, protocols(b"h2"))),
        "hello with ALPN http/1.1 before h2": wire(having(usual, kind, protocols(b"http/1.1", b"h2"))),
        "hello with empty ALPN": wire(having(usual, kind, b"\0\0")),
    }


def _versions(usual: ClientHello) -> dict[str, bytes]:
    kind = kinds.SUPPORTED_VERSIONS
    old = lacking(usual, kind, kinds.KEY_SHARE, _PSK_MODES)
    return {
        "hello of TLS 1.2": wire(old),
        "hello of TLS 1.1": wire(replace(old, legacy_version=0x0302)),
        "hello of TLS 1.0": wire(replace(old, legacy_version=0x0301)),
        "hello of SSL 3": wire(replace(old, legacy_version=0x0300)),
        "hello of TLS 1.2 as a fallback": wire(replace(old, cipher_suites=(*_CIPHERS, 0x5600))),
        "hello of a future version": wire(having(usual, kind, vector(1, numbers((0x0305,))))),
        "hello of a draft version": wire(having(usual, kind, vector(1, numbers((0x7F1C, 0x0303))))),
        "hello with legacy version 0x0304": wire(replace(usual, legacy_version=0x0304)),
        "hello with legacy version 0x0200": wire(replace(usual, legacy_version=0x0200)),
    }


def _key_exchange(usual: ClientHello, rng: Random) -> dict[str, bytes]:
    share, groups = kinds.KEY_SHARE, kinds.SUPPORTED_GROUPS
    none = having(usual, share, vector(2, b""))

    def only(*wanted: int) -> bytes:
        return wire(having(none, groups, vector(2, numbers(wanted))))

    bad = vector(2, numbers((X25519,)) + vector(2, bytes(32)))
    short = vector(2, numbers((X25519,)) + vector(2, rng.randbytes(31)))
    return {
        "hello without a key": wire(none),
        "hello of ML-KEM without a key": only(X25519_MLKEM768, X25519),
        "hello of P-384 only": only(P384),
        "hello of P-521 only": only(P521),
        "hello of FFDHE only": only(0x0100),
        "hello of no known group": only(_GREASE),
        "hello with a zero key": wire(having(usual, share, bad)),
        "hello with a short key": wire(having(usual, share, short)),
        "hello without groups": wire(lacking(usual, groups)),
    }


def _ciphers(usual: ClientHello) -> dict[str, bytes]:
    old = lacking(usual, kinds.SUPPORTED_VERSIONS, kinds.KEY_SHARE, _PSK_MODES)
    return {
        "hello of ChaCha20 first": wire(replace(usual, cipher_suites=(0x1303, 0x1302, 0x1301))),
        "hello of AES-128-CCM only": wire(replace(usual, cipher_suites=(0x1304,))),
        "hello of no known cipher": wire(replace(usual, cipher_suites=(_GREASE,))),
        "hello of TLS 1.2, AES-256 last": wire(replace(old, cipher_suites=(0xC02B, 0xC02F, 0xC02C, 0xC030))),
        "hello of TLS 1.2, ChaCha20 first": wire(replace(old, cipher_suites=(0xCCA9, 0xCCA8, *_CIPHERS))),
        "hello of TLS 1.2, CBC": wire(replace(old, cipher_suites=(0xC009, 0xC013, 0xC00A, 0xC014))),
        "hello of TLS 1.2, RSA key exchange": wire(replace(old, cipher_suites=(0x009C, 0x002F))),
        "hello of TLS 1.2, DHE": wire(replace(old, cipher_suites=(0x009E, 0x0033, 0x009F, 0x0039))),
        "hello of TLS 1.2, 3DES and RC4": wire(replace(old, cipher_suites=(0x000A, 0xC012, 0x0005))),
    }


def _extensions(usual: ClientHello, rng: Random) -> dict[str, bytes]:
    schemes = kinds.SIGNATURE_ALGORITHMS
    ticket = vector(2, vector(2, rng.randbytes(192)) + rng.randbytes(4)) + vector(
        2, vector(1, rng.randbytes(48))
    )
    offered = having(usual, kinds.PRE_SHARED_KEY, ticket)
    early = having(having(usual, kinds.EARLY_DATA, b""), kinds.PRE_SHARED_KEY, ticket)
    first = replace(offered, extensions=(offered.extensions[-1], *offered.extensions[:-1]))
    old = lacking(usual, kinds.SUPPORTED_VERSIONS, kinds.KEY_SHARE, _PSK_MODES)
    return {
        "hello without signature schemes": wire(lacking(usual, schemes)),
        "hello of Ed25519 only": wire(having(usual, schemes, vector(2, numbers((0x0807,))))),
        "hello of SHA-1 only": wire(having(usual, schemes, vector(2, numbers((0x0201, 0x0203))))),
        "hello with an unknown ticket": wire(offered),
        "hello with early data": wire(early) + record(rng.randbytes(200), 23, 0x0303),
        "hello with its ticket first": wire(first),
        "hello of fragments of 512": wire(having(usual, _MAX_FRAGMENT, b"\1")),
        "hello of records of 64": wire(having(usual, _RECORD_LIMIT, b"\0\x40")),
        "hello with heartbeats": wire(having(usual, _HEARTBEAT, b"\1")),
        "hello with post-handshake authentication": wire(having(usual, _POST_AUTH, b"")),
        "hello of TLS 1.2 without renegotiation": wire(lacking(old, _RENEGOTIATION)),
        "hello of TLS 1.2 without extended secret": wire(lacking(old, _MASTER_SECRET)),
        "hello without a session id": wire(replace(usual, session_id=b"")),
        "hello without extensions": wire(replace(usual, extensions=())),
    }


def _malformed(usual: ClientHello) -> dict[str, bytes]:
    body = usual.serialize()
    repeated = replace(usual, extensions=(*usual.extensions, (_PADDING, b""), (_PADDING, b"")))
    return {
        "hello with an extension twice": wire(repeated),
        "hello with deflate": wire(replace(usual, compression=b"\1\0")),
        "hello without null compression": wire(replace(usual, compression=b"\1")),
        "hello with a session id of 33": wire(replace(usual, session_id=bytes(33))),
        "hello with a byte more": record(message(body + b"\0")),
        "hello cut short inside": record(message(body[:-3])),
        "hello of 12 kB": wire(having(usual, _PADDING, bytes(12000))),
        "hello of 40 kB": in_records(
            message(having(usual, _PADDING, bytes(40000)).serialize()), (16384, 16384)
        ),
        "hello as a ServerHello": record(b"\2" + vector(3, body)),
    }


def _records(usual: ClientHello, rng: Random) -> dict[str, bytes]:
    whole, one = message(usual.serialize()), wire(usual)
    return {
        "hello in three records": in_records(whole, (1, 60)),
        "hello in record version 0x0303": record(whole, version=0x0303),
        "hello in record version 0x0300": record(whole, version=0x0300),
        "hello in record version 0x0404": record(whole, version=0x0404),
        "hello after an empty record": record(b"") + one,
        "hello after a warning": record(b"\1\x5a", 21) + one,
        "hello after change_cipher_spec": record(b"\1", 20) + one,
        "hello twice": one + one,
        "hello and random bytes": one + rng.randbytes(200),
        "hello and undecryptable data": one
        + record(b"\1", 20, 0x0303)
        + record(rng.randbytes(69), 23, 0x0303),
        "hello and a clear alert": one + record(b"\2\x28", 21, 0x0303),
        "record of 0xffff": struct.pack(">BHH", 22, 0x0301, 0xFFFF) + rng.randbytes(60),
        "record of application data": record(rng.randbytes(64), 23, 0x0303),
        "record of an alert": record(b"\2\x28", 21),
        "record of type 24": record(b"\1\0\3abc", 24, 0x0303),
        "hello of SSL 2": b"\x80\x2e\1\0\2\0\x15\0\0\0\x10" + rng.randbytes(37),
    }
