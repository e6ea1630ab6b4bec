"""The PyPI package DoubleRatchet on the other side of ours, in both roles.

It has no header encryption. The test puts that around it: HKDF's longer output
begins with the shorter one, so the package's own root KDF and ours agree on
root and chain keys, and the next 32 bytes are the header key. What is checked
against independent code is therefore everything up to the first KEM step:
turns, chains, message keys, numbers, skipped and overtaken messages.
"""

from __future__ import annotations

from hashlib import sha256
from random import Random

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from doubleratchet import DoubleRatchet, EncryptedMessage, Header
from doubleratchet.aead import AEAD, AuthenticationFailedException
from doubleratchet.recommended import diffie_hellman_ratchet_curve25519, kdf_hkdf, kdf_separate_hmacs
from doubleratchet.recommended.crypto_provider import HashFunction
from naive_ratchet import HKDF as derive
from naive_ratchet import public_of

from ptproxy.e2e.curve import CurveKey, CurveKeyPair
from ptproxy.e2e.ratchet import Ratchet
from ptproxy.e2e.ratchet import envelope as our_envelope
from ptproxy.e2e.ratchet import header as our_header

AD = b"associated data"
SHORT_HEADER = our_header.Header(our_header.Part.NOTHING, 0, bytes(32), 0, 0, b"")
START = b"ptproxy 1 ratchet start"
STEP = b"ptproxy 1 ratchet step"


class MessageKDF(kdf_separate_hmacs.KDF):
    @staticmethod
    def _get_hash_function() -> HashFunction:
        return HashFunction.SHA_256


class Peer:
    """A DoubleRatchet that speaks our messages."""

    def __init__(self, secret: bytes, ad: bytes) -> None:
        start = derive(bytes(32), secret, START, 128)
        self.secret, self.ad = start[:32], our_ad(ad)
        self.header_keys = [start[32:64], start[64:96]]  # by turn, from turn 1
        self.ratchet: DoubleRatchet | None = None
        self.profile = {
            "diffie_hellman_ratchet_class": diffie_hellman_ratchet_curve25519.DiffieHellmanRatchet,
            "root_chain_kdf": self._root_kdf(),
            "message_chain_kdf": MessageKDF,
            "message_chain_constant": b"\x02\x01",
            "dos_protection_threshold": 1000,
            "max_num_skipped_message_keys": 2000,
            "aead": self._aead(),
        }

    def _root_kdf(self) -> type:
        peer = self

        class RootKDF(kdf_hkdf.KDF):
            @staticmethod
            def _get_hash_function() -> HashFunction:
                return HashFunction.SHA_256

            @staticmethod
            def _get_info() -> bytes:
                return STEP

            @classmethod
            async def derive(cls, key: bytes, data: bytes, length: int) -> bytes:
                peer.header_keys.append(HKDF(SHA256(), 96, key, STEP).derive(data)[64:])
                return await super().derive(key, data, length)

        return RootKDF

    def _aead(self) -> type:
        """Seals the body; the wire's frame around it is made by :meth:`_seal` and :meth:`_unseal`."""
        peer = self

        class BodyAEAD(AEAD):
            @staticmethod
            async def encrypt(plaintext: bytes, key: bytes, associated_data: bytes) -> bytes:
                return key + plaintext

            @staticmethod
            async def decrypt(ciphertext: bytes, key: bytes, associated_data: bytes) -> bytes:
                try:
                    return our_envelope.open_body(key, peer.ad, ciphertext, SHORT_HEADER)
                except Exception as error:
                    raise AuthenticationFailedException from error

        return BodyAEAD

    @staticmethod
    def call(coroutine):
        """Run what is async in form only: it never waits."""
        try:
            coroutine.send(None)
        except StopIteration as stop:
            return stop.value
        raise AssertionError("it waited")

    def begin(self, peer_key: bytes, text: bytes) -> bytes:
        self.ratchet, message = self.call(
            Plain.encrypt_initial_message(
                **self.profile,
                shared_secret=self.secret,
                recipient_ratchet_pub=peer_key,
                message=text,
                associated_data=b"",
            )
        )
        self.turn = 1
        return self._seal(message)

    def encrypt(self, text: bytes) -> bytes:
        return self._seal(self.call(self.ratchet.encrypt_message(text, b"")))

    def _seal(self, message: EncryptedMessage) -> bytes:
        head = message.header
        header = our_header.Header(
            our_header.Part.NOTHING,
            0,
            head.ratchet_pub,
            head.previous_sending_chain_length,
            head.sending_chain_length,
            b"",
        )
        key, text = message.ciphertext[:32], message.ciphertext[32:]
        cipher = AESGCM(self.header_keys[self.turn - 1])
        return our_envelope.seal(
            cipher, key, self.ad, header.serialize(), text, Random(len(text)).randbytes(12)
        )

    def _unseal(self, data: bytes) -> tuple[EncryptedMessage, int]:
        for turn, key in enumerate(self.header_keys, 1):
            header = our_envelope.open_header(AESGCM(key), self.ad, data)
            if header is not None:
                return EncryptedMessage(Header(header.key, header.previous, header.number), data), turn
        raise AssertionError("no header key")

    def accept(self, private: bytes, data: bytes) -> bytes:
        message, turn = self._unseal(data)
        self.ratchet, text = self.call(
            Plain.decrypt_initial_message(
                **self.profile,
                shared_secret=self.secret,
                own_ratchet_priv=private,
                message=message,
                associated_data=b"",
            )
        )
        self.turn = turn + 1
        return text

    def decrypt(self, data: bytes) -> bytes:
        message, turn = self._unseal(data)
        text = self.call(self.ratchet.decrypt_message(message, b""))
        self.turn = max(self.turn, turn + 1)
        return text


class Plain(DoubleRatchet):
    @staticmethod
    def _build_associated_data(associated_data: bytes, header: Header) -> bytes:
        return b""


def our_ad(ad: bytes) -> bytes:
    return sha256(b"ptproxy 1 ratchet" + ad).digest()


def talk(random: Random, ours: Ours, theirs: Peer, sent: int) -> None:
    """Below the 50 messages of a KEM step: overtaken and lost ones, both ways."""
    ways = [(ours, theirs, []), (theirs, ours, [])]
    while sent < 48:
        writer, reader, flying = random.choice(ways)
        if random.random() < 0.6:
            text = b"%d %s" % (sent, random.randbytes(random.randrange(30)))
            flying.append((writer.encrypt(text), text))
            sent += 1
        elif flying:
            message, text = flying.pop(random.randrange(len(flying)))
            if random.random() < 0.85:
                assert reader.decrypt(message) == text


class Ours:
    def __init__(self, ratchet: Ratchet, random: Random) -> None:
        self.ratchet, self.random = ratchet, random

    def encrypt(self, text: bytes) -> bytes:
        return self.ratchet.encrypt(text, 0, self.random.randbytes)

    def decrypt(self, message: bytes) -> bytes:
        return self.ratchet.decrypt(message, 0)


@pytest.mark.parametrize("seed", range(12))
def test_doubleratchet_initiates(seed: int) -> None:
    random = Random(seed)
    secret, private = random.randbytes(32), random.randbytes(32)
    peer = Peer(secret, AD)
    ours = Ours(Ratchet.respond(secret, AD, CurveKeyPair(private), 0), random)
    assert ours.decrypt(peer.begin(public_of(private), b"first")) == b"first"
    talk(random, ours, peer, 1)
    assert ours.ratchet.epoch == 0
    assert ours.ratchet.turn >= 4


@pytest.mark.parametrize("seed", range(12))
def test_doubleratchet_responds(seed: int) -> None:
    random = Random(seed)
    secret, private = random.randbytes(32), random.randbytes(32)
    peer = Peer(secret, AD)
    ours = Ours(Ratchet.initiate(secret, AD, CurveKey(public_of(private)), 0, random.randbytes), random)
    ours.encrypt(b"lost")
    overtaken = ours.encrypt(b"overtaken")
    assert peer.accept(private, ours.encrypt(b"first")) == b"first"
    assert peer.decrypt(overtaken) == b"overtaken"
    talk(random, ours, peer, 3)
    assert ours.ratchet.turn >= 4
