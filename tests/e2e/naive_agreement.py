"""``PROTOCOL.md`` a second time, deliberately naive: from the page alone, without a line of ``ptproxy.e2e``.

Bytes are joined as the page joins them; nothing is checked that the page does not need for
making a message. Curves and KEM come from ``naive_curves`` and ``naive_mlkem``, AES-GCM
from ``cryptography``.
"""

import hashlib
import hmac
from dataclasses import dataclass

import naive_mlkem
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from naive_curves import ed25519_public, ed25519_sign, x25519, x25519_public

SIZES = {1: None, 2: 768, 3: 1024}
KEM_TYPES = {768: b"\x07", 1024: b"\x08"}
INFOS = {
    1: b"ptproxy 1 e2e X3DH 25519 SHA-256",
    2: b"ptproxy 1 e2e PQXDH 25519 SHA-256 ML-KEM-768",
    3: b"ptproxy 1 e2e PQXDH 25519 SHA-256 ML-KEM-1024",
}
F = b"\xff" * 32
DAY = 86_400


def h(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def u8(number):
    return number.to_bytes(1, "big")


def u32(number):
    return number.to_bytes(4, "big")


def u64(number):
    return number.to_bytes(8, "big")


def hkdf(material, info):
    """RFC 5869 with a salt of zeros, one block out."""
    extracted = hmac.digest(bytes(32), material, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")


def gcm(key, data, plaintext):
    return AESGCM(key).encrypt(bytes(12), plaintext, data)


@dataclass
class Person:
    """An identity by its private keys."""

    ed: bytes
    x: bytes

    @property
    def ed_public(self):
        return b"\x06" + ed25519_public(self.ed)

    @property
    def x_public(self):
        return b"\x05" + x25519_public(self.x)

    @property
    def identity(self):
        return self.ed_public + self.x_public

    @property
    def fingerprint(self):
        return h(b"ptproxy 1 e2e identity", b"\0", self.identity)

    def sign(self, label, message):
        return ed25519_sign(self.ed, label + b"\0" + message)


def kem_public(suite, seed):
    size = SIZES[suite]
    return KEM_TYPES[size] + naive_mlkem.key_pair(size, seed)[0] if size else b""


def bundle(person, suite, number, made, spk, seed):
    said = u8(1) + u8(suite) + person.identity + u32(number) + u64(made) + u64(made + 35 * DAY)
    said += b"\x05" + x25519_public(spk) + kem_public(suite, seed)
    return said + person.sign(b"ptproxy 1 e2e bundle", said)


def one_time(person, suite, number, made, opk, seed):
    said = u8(1) + u8(suite) + u32(number) + u64(made + 90 * DAY)
    said += b"\x05" + x25519_public(opk) + kem_public(suite, seed)
    return said + person.sign(b"ptproxy 1 e2e one-time prekey", person.fingerprint + said)


def succession(old, new, made):
    said = u8(1) + old.identity + new.identity + u64(made)
    return said + old.sign(b"ptproxy 1 e2e succession", said) + new.sign(b"ptproxy 1 e2e successor", said)


@dataclass
class Fetched:
    """What the initiator fetched, opened up as the page's letters; no one-time prekey: opk is empty."""

    suite: int
    bundle: bytes
    one_time: bytes
    bundle_id: int
    one_time_id: int
    spk: bytes
    opk: bytes
    kem_prekey: bytes

    @property
    def hash(self):
        one_time_hash = h(self.one_time) if self.one_time else bytes(32)
        return h(b"ptproxy 1 e2e bundle hash", b"\0", h(self.bundle), one_time_hash)


def begin(a, b_identity, fetched, e, kem_message, signed):
    """SK, AD, session id, opening."""
    suite, size, info = fetched.suite, SIZES[fetched.suite], INFOS[fetched.suite]
    b_ed, b_x = b_identity[:33], b_identity[33:]
    dh1 = x25519(a.x, fetched.spk)
    dh2 = x25519(e, b_x[1:])
    dh3 = x25519(e, fetched.spk)
    dh4 = x25519(e, fetched.opk) if fetched.opk else b""
    ss, c = naive_mlkem.encapsulate(size, fetched.kem_prekey[1:], kem_message) if size else (b"", b"")
    big_e = b"\x05" + x25519_public(e)
    ids = u32(fetched.bundle_id) + u32(fetched.one_time_id)
    t = h(
        b"ptproxy 1 e2e transcript",
        b"\0",
        u8(suite),
        big_e,
        ids,
        b"\x05" + fetched.spk,
        b"\x05" + fetched.opk if fetched.opk else b"",
        fetched.kem_prekey,
        c,
        fetched.hash,
    )
    ad = a.x_public + b_x + a.ed_public + b_ed + u8(suite) + t
    said = u8(suite) + big_e + a.identity + b_identity + fetched.hash
    signature = a.sign(b"ptproxy 1 e2e ephemeral", said) if signed else bytes(64)
    k1 = hkdf(F + dh2, info + b" gate")
    k2 = hkdf(F + dh2 + dh3 + dh4 + ss, info + b" sender")
    km = F + dh1 + dh2 + dh3 + dh4 + ss
    k3 = hkdf(km, info + b" proof")
    head = u8(1) + u8(suite) + big_e
    opening = head + gcm(k1, head + b_identity, ids + c)
    opening += gcm(k2, b_identity + t, a.identity) + gcm(k3, ad, u8(signed) + signature)
    return hkdf(km, info), ad, h(b"ptproxy 1 e2e session", b"\0", ad), opening
