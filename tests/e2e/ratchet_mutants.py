"""Ratchets with one rule left out, to show that a walk notices each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from ptproxy.e2e.ratchet import chains, envelope, kept, ratchet, state
from ptproxy.e2e.ratchet.chains import ReceivingChain, SendingChain
from ptproxy.e2e.ratchet.header import Part
from ptproxy.e2e.ratchet.kem_step import KemStep
from ptproxy.e2e.ratchet.kept import KeptChain
from ptproxy.e2e.ratchet.ratchet import Ratchet


@dataclass
class Mutant:
    owner: Any
    name: str
    value: Any
    walks: int = 40


MUTANTS: dict[str, Mutant] = {}


def mutant(owner: Any, name: str, walks: int = 40) -> Callable[[Any], Any]:
    """Put the decorated function in the place of ``owner.name``."""

    def put(function: Any) -> Any:
        MUTANTS[function.__name__.replace("_", " ")] = Mutant(owner, name, function, walks)
        return function

    return put


@contextmanager
def mutated(name: str) -> Iterator[None]:
    chosen = MUTANTS[name]
    with mock.patch.object(chosen.owner, chosen.name, chosen.value):
        yield


MUTANTS["six old chains"] = Mutant(ratchet, "MAX_OLD_CHAINS", 6, 120)
MUTANTS["keys never grow old"] = Mutant(kept, "MAX_AGE", 1e12, 400)
MUTANTS["a jump of any size"] = Mutant(chains, "MAX_SKIP", 10**6, 400)


@mutant(KeptChain, "remove")
def a_used_key_stays(self, number):
    pass


@mutant(SendingChain, "next")
def the_chain_stands_still(self):
    self.position += 1
    return chains.hmac.digest(self.key, b"\x01", "sha256")


@mutant(ReceivingChain, "keep")
def overtaken_messages_are_forgotten(self, skipped, now):
    pass


@mutant(ReceivingChain, "skip")
def the_end_of_a_chain_is_forgotten(self, number):
    return bytearray()


real_carry = KemStep.carry


@mutant(KemStep, "carry")
def an_answer_is_carried_once(self):
    part, carried = real_carry(self)
    self.answer = None
    return part, carried


@mutant(KemStep, "carry")
def an_offer_is_carried_once(self):
    part, carried = real_carry(self)
    return (part, carried) if part is not Part.OFFER or self.sent % 5 == 0 else (Part.NOTHING, b"")


real_take_turn = KemStep.take_turn


@mutant(KemStep, "take_turn")
def an_offer_ends_with_its_chain(self, now):
    self.offer = None
    return real_take_turn(self, now)


@mutant(KemStep, "take_turn")
def the_answer_is_not_mixed_in(self, now):
    real_take_turn(self, now)


real_make_offer = KemStep.make_offer


@mutant(KemStep, "make_offer")
def an_offer_within_a_chain_counts_as_leading(self, key, *, first):
    real_make_offer(self, key, first=True)


real_heard = KemStep.heard


@mutant(KemStep, "heard", 150)
def late_offers_are_taken(self, header):
    real_heard(self, header)
    if header.part is Part.OFFER and not self.ours:
        self.asked = header.carried


@mutant(KemStep, "heard", 400)
def messages_of_a_former_epoch_count(self, header):
    real_heard(self, header)
    if header.epoch != self.epoch:
        self.read += 1


@mutant(Ratchet, "_read_next")
def the_chain_moves_before_the_body_is_opened(self, chain, header, message, now):
    reach = chain.reach(header.number)
    self._move(chain, reach, now)
    plaintext = envelope.open_body(reach.message_key, self._state.ad, message, header)
    self._state.kem.heard(header)
    self._changed(now)
    return plaintext


@mutant(KeptChain, "serialize")
def a_restart_forgets_kept_keys(self):
    return bytes(2)


real_flags = state.RatchetState._flags


@mutant(state.RatchetState, "_flags", 150)
def a_restart_forgets_that_an_offer_led(self):
    return real_flags(self) | 64 * (self.kem.offer is not None and self.sending is not None)


@mutant(ratchet, "seal")
def the_nonce_is_constant(cipher, message_key, ad, header, plaintext, nonce):
    return envelope.seal(cipher, message_key, ad, header, plaintext, bytes(12))


@mutant(ratchet, "seal")
def bodies_are_not_padded(cipher, message_key, ad, header, plaintext, nonce):
    sealed = cipher.encrypt(nonce, header, ad)
    body = len(plaintext).to_bytes(4, "big") + plaintext
    return nonce + sealed + envelope.AESGCM(message_key).encrypt(nonce, body, ad + sealed)
