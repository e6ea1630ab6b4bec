"""A second ratchet, deliberately naive: RATCHET.md written down once more, with Signal's names.

Nothing here comes from ``ptproxy``, nothing is fast, nothing is bounded well,
and a message that is refused is refused by throwing a copy of the state away.
It makes the test vectors and is the other side in tests.
"""

from __future__ import annotations

import copy
import hashlib
import hmac
from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

DAY = 86400


class Refused(Exception):
    pass


def HMAC(key: bytes, data: bytes) -> bytes:
    return hmac.new(key, data, hashlib.sha256).digest()


def expand(prk: bytes, info: bytes, length: int) -> bytes:
    out, block, counter = b"", b"", 1
    while len(out) < length:
        block = HMAC(prk, block + info + bytes([counter]))
        out += block
        counter += 1
    return out[:length]


def HKDF(salt: bytes, ikm: bytes, info: bytes, length: int) -> bytes:
    return expand(HMAC(salt, ikm), info, length)


def quarters(data: bytes) -> list[bytes]:
    return [data[i : i + 32] for i in range(0, 128, 32)]


def KDF_CK(ck: bytes) -> tuple[bytes, bytes]:
    return HMAC(ck, b"\x02"), HMAC(ck, b"\x01")


def DH(private: bytes, public: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))


def public_of(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def kem_key(seed: bytes) -> bytes:
    return MLKEM768PrivateKey.from_seed_bytes(seed).public_key().public_bytes_raw()


def kem_decapsulate(seed: bytes, ct: bytes) -> bytes:
    return MLKEM768PrivateKey.from_seed_bytes(seed).decapsulate(ct)


def kem_encapsulate(ek: bytes) -> tuple[bytes, bytes]:
    return MLKEM768PublicKey.from_public_bytes(ek).encapsulate()


class NaiveRatchet:
    """``draw(n)`` gives random bytes, ``encapsulate(ek)`` a shared secret and a ciphertext."""

    def __init__(
        self,
        secret: bytes,
        associated_data: bytes,
        draw: Callable[[int], bytes],
        encapsulate: Callable[[bytes], tuple[bytes, bytes]] = kem_encapsulate,
    ) -> None:
        self.draw = draw
        self.encapsulate = encapsulate
        self.AD = hashlib.sha256(b"ptproxy 1 ratchet" + associated_data).digest()
        self.RK, self.shared_hka, self.shared_nhkb, self.E = quarters(
            HKDF(bytes(32), secret, b"ptproxy 1 ratchet start", 128)
        )
        self.E_before = bytes(32)
        self.DHs = self.DHr = self.CKs = self.CKr = self.HKs = self.HKr = None
        self.NHKs = self.NHKr = None
        self.Ns = self.Nr = self.PN = self.turn = 0
        self.MKSKIPPED: dict[tuple[bytes, int], tuple[bytes, int]] = {}  # in the order of skipping
        self.newest_is_mine = True
        self.epoch = self.sent = self.read = 0
        self.since = 0
        self.my_step = False
        self.offer_seed = self.to_answer = self.answer = None
        self.offer_since_first = False

    # RatchetInitAliceHE, RatchetInitBobHE

    @classmethod
    def alice(cls, secret, associated_data, bob_public, now, draw, encapsulate=kem_encapsulate):
        self = cls(secret, associated_data, draw, encapsulate)
        self.since, self.my_step = int(now), True
        self.NHKs, self.NHKr = self.shared_hka, self.shared_nhkb
        self.DHr, self.newest_is_mine = bob_public, False
        self.take_turn(int(now))
        return self

    @classmethod
    def bob(cls, secret, associated_data, bob_private, now, draw, encapsulate=kem_encapsulate):
        self = cls(secret, associated_data, draw, encapsulate)
        self.since = int(now)
        self.NHKs, self.NHKr = self.shared_nhkb, self.shared_hka
        self.DHs = bob_private
        return self

    def kdf_rk(self, dh: bytes, kem: tuple[bytes, bytes, bytes] | None) -> tuple[bytes, bytes]:
        """Turn the root; the chain key and the next header key."""
        if kem is None:
            out = HKDF(self.RK, dh, b"ptproxy 1 ratchet step", 128)
        else:
            ss, ek, ct = kem
            info = b"ptproxy 1 ratchet step with kem" + hashlib.sha256(ek + ct).digest()
            out = HKDF(self.RK, dh + ss, info, 128)
        self.E_before = self.E
        self.RK, ck, nhk, self.E = quarters(out)
        self.turn += 1
        return ck, nhk

    def take_turn(self, now: int) -> None:
        self.PN, self.Ns = self.Ns, 0
        self.DHs = self.draw(32)
        self.answer, kem = None, None
        if self.to_answer is not None:
            ss, ct = self.encapsulate(self.to_answer)
            kem, self.answer, self.to_answer = (ss, self.to_answer, ct), ct, None
            self.new_epoch(True, now)
        self.HKs = self.NHKs
        self.CKs, self.NHKs = self.kdf_rk(DH(self.DHs, self.DHr), kem)
        self.newest_is_mine = True
        self.offer_since_first = self.offer_seed is not None

    def new_epoch(self, mine: bool, now: int) -> None:
        self.epoch, self.my_step = self.epoch + 1, mine
        self.sent = self.read = 0
        self.since = now

    # RatchetEncryptHE

    def encrypt(self, plaintext: bytes, now: float) -> bytes:
        now = int(now)
        if not self.newest_is_mine:
            self.take_turn(now)
        if (
            self.my_step
            and self.offer_seed is None
            and self.answer is None
            and (self.sent + self.read >= 50 or now - self.since >= 7 * DAY)
        ):
            self.offer_seed = self.draw(64)
            self.offer_since_first = self.Ns == 0
        part, carried = 0, b""
        if self.answer is not None:
            part, carried = 2, self.answer + bytes(96)
        elif self.offer_seed is not None:
            part, carried = 1, kem_key(self.offer_seed)
        header = (
            bytes([part])
            + self.epoch.to_bytes(4, "big")
            + public_of(self.DHs)
            + self.PN.to_bytes(4, "big")
            + self.Ns.to_bytes(4, "big")
            + carried
        )
        self.CKs, mk = KDF_CK(self.CKs)
        self.Ns += 1
        self.sent += 1
        nonce = self.draw(12)
        sealed_header = AESGCM(self.HKs).encrypt(nonce, header, self.AD)
        body = len(plaintext).to_bytes(4, "big") + plaintext
        size = 512
        while size - 128 < 12 + len(sealed_header) + len(body) + 16:
            size *= 2
        body += bytes(size - 128 - 12 - len(sealed_header) - len(body) - 16)
        return nonce + sealed_header + AESGCM(mk).encrypt(nonce, body, self.AD + sealed_header)

    # RatchetDecryptHE

    def decrypt(self, message: bytes, now: float) -> bytes:
        trial = copy.copy(self)
        trial.MKSKIPPED = dict(self.MKSKIPPED)
        try:
            plaintext = trial.read_message(message, int(now))
        except (InvalidTag, ValueError) as error:
            raise Refused(str(error)) from error
        self.__dict__.update(trial.__dict__)
        return plaintext

    def header_under(self, key: bytes, message: bytes) -> tuple[bytes, bytes] | None:
        for size in (45, 45 + 1184):
            sealed = message[12 : 12 + size + 16]
            try:
                return sealed, AESGCM(key).decrypt(message[:12], sealed, self.AD)
            except InvalidTag:
                pass
        return None

    def read_message(self, message: bytes, now: int) -> bytes:
        self.forget(now)
        found = None
        keys = [key for key, _ in self.MKSKIPPED]
        for key in [self.HKr, *keys, self.NHKr if self.newest_is_mine else None]:
            if key is not None and found is None:
                found = self.header_under(key, message)
                header_key = key
        if found is None:
            raise Refused("no header key")
        sealed, header = found
        part, epoch, dh = header[0], int.from_bytes(header[1:5], "big"), header[5:37]
        pn, n = int.from_bytes(header[37:41], "big"), int.from_bytes(header[41:45], "big")
        carried = header[45:]
        if (header_key, n) in self.MKSKIPPED:
            mk, _ = self.MKSKIPPED.pop((header_key, n))
        else:
            if header_key == self.NHKr and self.newest_is_mine:
                self.skip(pn, now, at_end=True)
                self.their_turn(part, epoch, dh, carried, now)
            elif header_key != self.HKr or n < self.Nr:
                raise Refused("read before")
            self.skip(n, now, at_end=False)
            self.CKr, mk = KDF_CK(self.CKr)
            self.Nr += 1
        body = AESGCM(mk).decrypt(message[:12], message[12 + len(sealed) :], self.AD + sealed)
        if epoch == self.epoch:
            self.read += 1
            if part == 1:
                self.to_answer = carried
        self.forget(now)
        return body[4 : 4 + int.from_bytes(body[:4], "big")]

    def their_turn(self, part: int, epoch: int, dh: bytes, carried: bytes, now: int) -> None:
        self.answer, kem = None, None
        if part == 2:
            if self.offer_seed is None or epoch != self.epoch + 1:
                raise Refused("answer to nothing")
            ct = carried[:1088]
            kem = kem_decapsulate(self.offer_seed, ct), kem_key(self.offer_seed), ct
            self.offer_seed = None
            self.new_epoch(False, now)
        elif epoch != self.epoch:
            raise Refused("another epoch")
        elif self.offer_seed is not None and self.offer_since_first:
            raise Refused("unanswered")
        elif part == 0 and not self.my_step and self.read >= 50:
            raise Refused("no offer")
        self.HKr, self.Nr, self.DHr = self.NHKr, 0, dh
        self.CKr, self.NHKr = self.kdf_rk(DH(self.DHs, dh), kem)
        self.newest_is_mine = False

    def skip(self, until: int, now: int, at_end: bool) -> None:
        if until - self.Nr > 1000:
            if at_end:
                return
            raise Refused("too far")
        while self.CKr is not None and self.Nr < until:
            self.CKr, mk = KDF_CK(self.CKr)
            self.MKSKIPPED[self.HKr, self.Nr] = mk, now
            self.Nr += 1

    def forget(self, now: int) -> None:
        kept = [(key, value) for key, value in self.MKSKIPPED.items() if value[1] + 30 * DAY >= now]
        kept = kept[-2000:]
        old = list(dict.fromkeys(hk for (hk, _), _ in kept if hk != self.HKr))[-5:]
        self.MKSKIPPED = {key: value for key, value in kept if key[0] == self.HKr or key[0] in old}

    def export(self, label: bytes, length: int, turn: int | None = None) -> bytes:
        secret = self.E_before if turn is not None and turn == self.turn - 1 else self.E
        return expand(secret, b"ptproxy 1 ratchet export " + length.to_bytes(2, "big") + label, length)
