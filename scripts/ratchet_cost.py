"""Measure what a ratchet costs; what ``scripts/ratchet_cost`` runs.

Texts of 100 bytes. Each figure is the median of many samples, with the lowest
beside it; a sample is a whole conversation of its own.

    one way    encrypt and decrypt one message of a chain, no KEM step under way
    offering   the same while every header carries an ML-KEM key (1,920 bytes a message)
    ping-pong  encrypt and decrypt one message, each opens a turn; ML-KEM steps as they come
    skipped    decrypt the message behind 1,000 that did not come; what keeping their keys takes
    garbage    refuse a message that is none, five old chains open
    forged     refuse a genuine header 1,000 ahead with a forged body
    X25519     the one key and two products without which no turn goes, by themselves

vodozemac, python-olm and DoubleRatchet appear where they are installed. They
encrypt no headers, pad little or nothing and mix in no KEM.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

from ptproxy.e2e.curve import CurveKeyPair  # noqa: E402
from ptproxy.e2e.ratchet import Ratchet, RatchetError  # noqa: E402

TEXT = b"x" * 100
CHAIN = 45
"""Messages of one sample: below the 50 after which an offer is due."""
NOW = 1_800_000_000.0
WEEK = 8 * 86_400.0

Table = dict[str, list[float]]


class Ours:
    """Two sides of ``ptproxy.e2e.ratchet``."""

    name = "ptproxy"

    def __init__(self) -> None:
        key = CurveKeyPair.generate(os.urandom)
        secret = os.urandom(32)
        self.now = NOW
        self.alice = Ratchet.initiate(secret, b"ad", key.public, NOW, os.urandom)
        self.bob = Ratchet.respond(secret, b"ad", key, NOW)

    def up(self) -> bytes:
        return self.alice.encrypt(TEXT, self.now, os.urandom)

    def to_bob(self, message: bytes) -> bytes:
        return self.bob.decrypt(message, self.now)

    def down(self) -> bytes:
        return self.bob.encrypt(TEXT, self.now, os.urandom)

    def to_alice(self, message: bytes) -> bytes:
        return self.alice.decrypt(message, self.now)


class Vodozemac:
    """Two sides of the Rust library behind Matrix clients."""

    name = "vodozemac"

    def __init__(self) -> None:
        import vodozemac  # noqa: PLC0415  (may be missing)

        one, other = vodozemac.Account(), vodozemac.Account()
        other.generate_one_time_keys(1)
        key = next(iter(other.one_time_keys.values()))
        self.alice = one.create_outbound_session(other.curve25519_key, key)
        first = self.alice.encrypt(TEXT)
        self.bob, _ = other.create_inbound_session(one.curve25519_key, first.to_pre_key())
        self.alice.decrypt(self.bob.encrypt(TEXT))

    def up(self):
        return self.alice.encrypt(TEXT)

    def to_bob(self, message):
        return self.bob.decrypt(message)

    def down(self):
        return self.bob.encrypt(TEXT)

    def to_alice(self, message):
        return self.alice.decrypt(message)


class Olm:
    """Two sides of libolm, in C."""

    name = "python-olm"

    def __init__(self) -> None:
        import olm  # noqa: PLC0415  (may be missing)

        one, other = olm.Account(), olm.Account()
        other.generate_one_time_keys(1)
        key = next(iter(other.one_time_keys["curve25519"].values()))
        self.alice = olm.OutboundSession(one, other.identity_keys["curve25519"], key)
        first = self.alice.encrypt(TEXT.decode())
        self.bob = olm.InboundSession(other, first)
        self.bob.decrypt(first)
        self.alice.decrypt(self.bob.encrypt(TEXT.decode()))

    def up(self):
        return self.alice.encrypt(TEXT.decode())

    def to_bob(self, message):
        return self.bob.decrypt(message)

    def down(self):
        return self.bob.encrypt(TEXT.decode())

    def to_alice(self, message):
        return self.alice.decrypt(message)


class PyPI:
    """Two sides of the package DoubleRatchet, with the parts that it recommends."""

    name = "DoubleRatchet"

    def __init__(self) -> None:
        from doubleratchet import DoubleRatchet  # noqa: PLC0415  (may be missing)
        from doubleratchet.recommended import (  # noqa: PLC0415  (may be missing)
            aead_aes_hmac,
            diffie_hellman_ratchet_curve25519,
            kdf_hkdf,
            kdf_separate_hmacs,
        )
        from doubleratchet.recommended.crypto_provider import HashFunction  # noqa: PLC0415  (may be missing)

        def with_sha256(base: type) -> type:
            return type(
                base.__name__,
                (base,),
                {
                    "_get_hash_function": staticmethod(lambda: HashFunction.SHA_256),
                    "_get_info": staticmethod(lambda: b"info"),
                },
            )

        class Plain(DoubleRatchet):
            @staticmethod
            def _build_associated_data(associated_data, header):
                lengths = header.previous_sending_chain_length, header.sending_chain_length
                return associated_data + header.ratchet_pub + b"".join(n.to_bytes(4, "big") for n in lengths)

        profile = {
            "diffie_hellman_ratchet_class": diffie_hellman_ratchet_curve25519.DiffieHellmanRatchet,
            "root_chain_kdf": with_sha256(kdf_hkdf.KDF),
            "message_chain_kdf": with_sha256(kdf_separate_hmacs.KDF),
            "message_chain_constant": b"\x02\x01",
            "dos_protection_threshold": 1001,
            "max_num_skipped_message_keys": 2000,
            "aead": with_sha256(aead_aes_hmac.AEAD),
        }
        key, secret = CurveKeyPair.generate(os.urandom), os.urandom(32)
        self.run = _loop().run_until_complete
        self.alice, first = self.run(
            Plain.encrypt_initial_message(
                **profile,
                shared_secret=secret,
                recipient_ratchet_pub=key.public.raw,
                message=TEXT,
                associated_data=b"ad",
            )
        )
        self.bob, _ = self.run(
            Plain.decrypt_initial_message(
                **profile,
                shared_secret=secret,
                own_ratchet_priv=key.serialize_private(),
                message=first,
                associated_data=b"ad",
            )
        )
        self.to_alice(self.down())

    def up(self):
        return self.run(self.alice.encrypt_message(TEXT, b"ad"))

    def to_bob(self, message):
        return self.run(self.bob.decrypt_message(message, b"ad"))

    def down(self):
        return self.run(self.bob.encrypt_message(TEXT, b"ad"))

    def to_alice(self, message):
        return self.run(self.alice.decrypt_message(message, b"ad"))


def _loop(loops: list[asyncio.AbstractEventLoop] = []) -> asyncio.AbstractEventLoop:  # noqa: B006  (one for all)
    if not loops:
        loops.append(asyncio.new_event_loop())
    return loops[0]


def timed(action: Callable[[], object]) -> float:
    """Microseconds of one call."""
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1e6


def common(library: Callable[[], Ours], samples: int) -> Table:
    """What every implementation is measured with."""
    table: Table = {"one way": [], "ping-pong": [], "skipped": []}

    def one_way(pair: Ours) -> None:
        for _ in range(CHAIN):
            pair.to_bob(pair.up())

    def ping_pong(pair: Ours) -> None:
        for _ in range(CHAIN):
            pair.to_bob(pair.up())
            pair.to_alice(pair.down())

    for _ in range(samples):
        pair = library()
        pair.to_bob(pair.up())
        table["one way"].append(timed(lambda: one_way(pair)) / CHAIN)  # noqa: B023  (called at once)
        pair = library()
        pair.to_bob(pair.up())
        pair.to_alice(pair.down())
        table["ping-pong"].append(timed(lambda: ping_pong(pair)) / CHAIN / 2)  # noqa: B023
    for _ in range(max(3, samples // 10)):
        pair = library()
        pair.to_bob(pair.up())
        for _ in range(1000):
            message = pair.up()
        message = pair.up()
        table["skipped"].append(timed(lambda: pair.to_bob(message)))  # noqa: B023
    return table


def own(samples: int) -> tuple[Table, dict[str, int]]:
    """What only ours is measured with: times, and sizes in bytes."""
    table: Table = {
        name: [] for name in ("set-up", "offering", "garbage", "forged", "save", "load", "X25519")
    }
    garbage = os.urandom(1920)
    for _ in range(samples):
        table["set-up"].append(timed(Ours))
        pair = Ours()
        pair.to_bob(pair.up())
        pair.now += WEEK
        pair.to_bob(pair.up())
        table["offering"].append(timed(lambda: [pair.to_bob(pair.up()) for _ in range(CHAIN)]) / CHAIN)  # noqa: B023
        for _ in range(6):
            pair.up()
            pair.to_bob(pair.up())
            pair.to_alice(pair.down())
        assert len(pair.bob._state.old) == 5
        table["garbage"].append(timed(lambda: refuse(pair, garbage)))  # noqa: B023
        ahead = [pair.up() for _ in range(1001)][-1]
        forged = ahead[:-1] + bytes([ahead[-1] ^ 1])
        table["forged"].append(timed(lambda: refuse(pair, forged)))  # noqa: B023
        stored = pair.bob.serialize()
        table["save"].append(timed(pair.bob.serialize))
        table["load"].append(timed(lambda: Ratchet.parse(stored)))  # noqa: B023
        table["X25519"].append(timed(one_turn_of_x25519))
    return table, sizes()


def one_turn_of_x25519() -> None:
    """What both sides together compute for one message of a ping-pong."""
    other = X25519PublicKey.from_public_bytes(bytes(range(32)))
    key = X25519PrivateKey.from_private_bytes(os.urandom(32))
    key.public_key()
    key.exchange(other)
    key.exchange(other)


def refuse(pair: Ours, message: bytes) -> None:
    try:
        pair.to_bob(message)
    except RatchetError:
        return
    raise AssertionError("not refused")


def sizes() -> dict[str, int]:
    """Bytes of stored states, and of memory that 1,000 kept keys take."""
    pair = Ours()
    pair.to_bob(pair.up())
    found = {"state": len(pair.bob.serialize())}
    pair.to_alice(pair.down())
    pair.now += WEEK
    pair.to_bob(pair.up())
    found["state, an offer to answer"] = len(pair.bob.serialize())
    for _ in range(1000):
        message = pair.up()
    message = pair.up()
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    pair.to_bob(message)
    gc.collect()
    found["memory of 1,000 kept keys"] = tracemalloc.get_traced_memory()[0] - before
    found["state with 1,000 kept keys"] = len(pair.bob.serialize())
    tracemalloc.stop()
    single = Ours()
    messages = [single.up() for _ in range(2001)]
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for message in messages[::2]:
        single.to_bob(message)
    gc.collect()
    found["memory of 1,000 kept keys, each alone"] = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return found


def show(name: str, table: Table) -> None:
    for what, samples in table.items():
        print(
            f"{name:14} {what:10} {statistics.median(samples):10.1f} {min(samples):10.1f}   n={len(samples)}"
        )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--samples", type=int, default=100, help="conversations measured (default %(default)s)"
    )
    options = parser.parse_args()
    print(f"{'':14} {'µs':10} {'median':>10} {'lowest':>10}")
    for library in (Ours, Vodozemac, Olm, PyPI):
        try:
            library()
        except ImportError:
            print(f"{library.name:14} not installed")
            continue
        show(library.name, common(library, options.samples))
        if library is Ours:
            table, bytes_of = own(max(3, options.samples // 4))
            show("", table)
            for what, size in bytes_of.items():
                print(f"{'':14} {what}: {size:,} bytes")


if __name__ == "__main__":
    main()
