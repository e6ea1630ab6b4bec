"""``RECORDS.md`` a second time, deliberately naive: from the page alone, without a line of ``ptproxy.dht``.

Bytes are joined as the page joins them; nothing is checked that the page does not need for
making a record. Ed25519 and Argon2id are by their definitions, AES-GCM from ``cryptography``.
"""

import base64
import hashlib
import hmac
import sys
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from naive_argon2id import argon2id

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))

from naive_curves import ed25519_public, ed25519_sign

BRIDGE_BUCKET, PREKEY_BUNDLE, MAILBOX_POINTER = 1, 2, 3


def u8(number):
    return number.to_bytes(1, "big")


def u16(number):
    return number.to_bytes(2, "big")


def u32(number):
    return number.to_bytes(4, "big")


def u64(number):
    return number.to_bytes(8, "big")


def sha256(data):
    return hashlib.sha256(data).digest()


def hkdf(secret, info):
    """RFC 5869 for one block of output."""
    prk = hmac.digest(bytes(32), secret, "sha256")
    return hmac.digest(prk, info + b"\x01", "sha256")


def leading_zeros(data):
    return len(data) * 8 - int.from_bytes(data, "big").bit_length()


def find_work(label, subject, bits, memory):
    """The first nonce from 0 on, and w."""
    number = 0
    while True:
        nonce = number.to_bytes(16, "big")
        w = argon2id(subject + nonce, label, memory)
        if leading_zeros(w) >= bits:
            return nonce, w
        number += 1


def node(key, bits, memory):
    """Nonce and id of a directory node."""
    nonce, w = find_work(b"ptproxy 1 dht id", key, bits, memory)
    return nonce, sha256(w)


def derived(secret, label, kind, epoch):
    return hkdf(secret, label + b"\x00" + u8(kind) + u32(epoch))


def seed_of(secret, kind, epoch):
    return derived(secret, b"ptproxy 1 dht record signing", kind, epoch)


def locations(key, epoch, beacon=bytes(32)):
    return [
        sha256(b"ptproxy 1 dht location" + b"\x00" + beacon + u32(epoch) + key + u8(replica))
        for replica in range(3)
    ]


def record(secret, kind, epoch, sequence, content, issuer_seed, gcm_nonce, bits, memory, copies=0):
    seed = seed_of(secret, kind, epoch)
    key = ed25519_public(seed)
    nonce, _ = find_work(b"ptproxy 1 record", u32(epoch) + key, bits, memory)
    header = u8(1) + u8(copies) + u32(epoch) + u32(sequence) + nonce + key
    inside = u8(kind) + u16(len(content)) + content
    inside += bytes(1898 - 64 - len(inside))
    inside += ed25519_sign(issuer_seed, b"ptproxy 1 dht inside " + header + inside)
    sealing = derived(secret, b"ptproxy 1 dht record sealing", kind, epoch)
    sealed = gcm_nonce + AESGCM(sealing).encrypt(gcm_nonce, inside, header)
    said = header + sealed
    return said + ed25519_sign(seed, b"ptproxy 1 dht record " + said)


def bucket(lines):
    return u8(len(lines)) + b"".join(u16(len(line)) + line.encode() for line in lines)


def pointer(line, passes):
    return u16(len(line)) + line.encode() + passes


def invite(issuer_seed, secret, expires, lines):
    said = u8(1) + ed25519_public(issuer_seed) + secret + u64(expires) + bucket(lines)
    data = said + ed25519_sign(issuer_seed, b"ptproxy 1 dht invite " + said)
    return "ptproxy-invite:" + base64.urlsafe_b64encode(data).decode().rstrip("=")


def invite_id(secret):
    return sha256(b"ptproxy 1 dht invite id" + b"\x00" + secret)[:16]


def moments(secret, kind, epoch):
    times = derived(secret, b"ptproxy 1 dht record times", kind, epoch)
    opens = epoch * 86_400 - 21_600
    return [
        opens + 21_600 * slot + 900 + 19_800 * int.from_bytes(times[2 * slot : 2 * slot + 2], "big") / 65_536
        for slot in range(5)
    ]


def write_token(node_secret, now, location, requester):
    period = u64(int(now) // 300)
    return hmac.digest(node_secret, b"ptproxy 1 dht write " + period + location + requester, "sha256")[:16]


def beacon_value(epoch, public_value):
    return sha256(b"ptproxy 1 dht beacon value" + b"\x00" + u32(epoch) + public_value)


def beacon(epoch, value, seeds):
    """``seeds``: by the signer's place."""
    data = u8(1) + u32(epoch) + value + u8(len(seeds))
    for place in sorted(seeds):
        data += u8(place) + ed25519_sign(seeds[place], b"ptproxy 1 dht beacon " + u32(epoch) + value)
    return data
