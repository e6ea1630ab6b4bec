"""The sparse ML-KEM step: when, through what, and that nobody can leave it out."""

from __future__ import annotations

from unittest import mock

import pytest
from ratchet_pair import DAY, Pair

from ptproxy.e2e.kem import Kem, KemKeyPair
from ptproxy.e2e.ratchet import Ratchet, RatchetRuleError, UnreadableError, kem, kem_step
from ptproxy.e2e.ratchet.header import Part
from ptproxy.e2e.ratchet.kem_step import KemStep
from ptproxy.errors import StartError


def refuses(ratchet: Ratchet, message: bytes, now: float, text: str) -> None:
    before = ratchet.serialize()
    with pytest.raises(RatchetRuleError, match=text):
        ratchet.decrypt(message, now)
    assert ratchet.serialize() == before


def due(pair: Pair) -> Pair:
    """Eight days later."""
    pair.now += 8 * DAY
    return pair


def epochs(pair: Pair) -> tuple[int, int]:
    return pair.alice.epoch, pair.bob.epoch


def test_a_step_after_fifty_messages() -> None:
    pair = Pair()
    for _ in range(25):
        assert len(pair.alice._state.kem.carry()[1]) == 0
        pair.alice._state.kem.sent -= 1
        pair.round()
    assert epochs(pair) == (0, 0)
    offering = pair.up()
    assert len(offering) == 1920
    pair.to_bob(offering)
    answering = pair.down()
    assert len(answering) == 1920
    assert epochs(pair) == (0, 1)
    pair.to_alice(answering)
    assert epochs(pair) == (1, 1)
    assert len(pair.up()) == 384
    assert pair.alice._state.kem.offer is None
    assert pair.bob._state.kem.asked is None


def test_a_step_after_seven_days() -> None:
    pair = Pair()
    pair.now += 7 * DAY - 1
    pair.round()
    assert len(pair.up()) == 384
    pair.now += 1
    pair.round()
    assert epochs(pair) == (1, 1)


def test_a_clock_set_back_waits() -> None:
    pair = Pair()
    pair.now -= 100 * DAY
    assert len(pair.up()) == 384


def test_steps_alternate_and_go_on() -> None:
    """A thousand lines in turn: twenty steps, offered by one side and the other."""
    pair = Pair()
    offered = []
    real = KemStep.make_offer

    def noting(self, key, *, first):
        offered.append("alice" if self is pair.alice._state.kem else "bob")
        real(self, key, first=first)

    with mock.patch.object(KemStep, "make_offer", noting):
        for _ in range(520):
            pair.round()
    assert pair.alice.epoch == pair.bob.epoch >= 18
    assert offered[:4] == ["alice", "bob", "alice", "bob"]


def test_every_message_of_the_chain_carries_it() -> None:
    """All but the last of each chain are lost, and the step is taken all the same."""
    for lost in (0, 1, 5):
        pair = due(Pair())
        for _ in range(lost):
            pair.up()
        pair.to_bob(pair.up())
        for _ in range(lost):
            pair.down()
        pair.to_alice(pair.down())
        assert epochs(pair) == (1, 1)
        pair.round()


def test_an_offer_that_begins_within_a_chain() -> None:
    """The answer waits until the other side takes a turn, and may: the offer is made again."""
    pair = Pair()
    pair.to_bob(pair.up())
    early = pair.down()  # bob's turn is taken before he knows of an offer
    due(pair)
    offering = pair.up()
    pair.to_alice(early)
    assert epochs(pair) == (0, 0)
    pair.to_bob(offering)
    pair.to_bob(pair.up())
    pair.to_alice(pair.down())
    assert epochs(pair) == (1, 1)


def test_a_late_offer_is_passed_over() -> None:
    pair = due(Pair())
    late = pair.up(b"late")
    pair.round()
    pair.round()
    assert epochs(pair) == (1, 1)
    assert pair.to_bob(late) == b"late"
    assert pair.bob._state.kem.asked is None
    pair.round()


def test_a_late_answer_is_passed_over() -> None:
    pair = due(Pair())
    pair.to_bob(pair.up())
    late = pair.down(b"late")
    pair.to_alice(pair.down())
    pair.round()
    assert pair.to_alice(late) == b"late"
    assert epochs(pair) == (1, 1)


def test_restarts_between_any_two_steps() -> None:
    pair = Pair()
    for _ in range(120):
        pair.reload()
        message = pair.up()
        pair.reload()
        pair.to_bob(message)
        pair.reload()
        message = pair.down()
        pair.reload()
        pair.to_alice(message)
    assert pair.alice.epoch == pair.bob.epoch == 4


def test_both_secrets_reach_the_root() -> None:
    """With another shared secret, or the same under another transcript, the roots would differ."""
    for change in ("shared", "transcript"):
        pair = due(Pair())
        pair.to_bob(pair.up())
        answering = pair.down()
        real = kem.decapsulate

        def other(key, ciphertext, change=change, real=real):
            secret = real(key, ciphertext)
            return kem.KemSecret(
                bytes(32) if change == "shared" else secret.shared,
                bytes(32) if change == "transcript" else secret.transcript,
            )

        before = pair.alice.serialize()
        with (
            mock.patch.object(kem_step, "decapsulate", other),
            pytest.raises(Exception, match="not a mess"),
        ):
            pair.to_alice(answering)
        assert pair.alice.serialize() == before
        pair.to_alice(answering)


def test_who_knows_every_dh_result_does_not_know_the_root() -> None:
    """What the step is for: X25519 broken, the roots still differ from what a thief computes."""
    pair = due(Pair())
    pair.to_bob(pair.up())
    thief = Ratchet.parse(pair.bob.serialize())  # everything but the randomness of the encapsulation
    pair.rng = lambda length: b"\x07" * length
    pair.to_alice(pair.down())
    thief.encrypt(b"", pair.now, lambda length: b"\x07" * length)
    assert thief._state.pair.public == pair.bob._state.pair.public
    assert thief._state.root.key != pair.bob._state.root.key
    assert pair.alice._state.root.key == pair.bob._state.root.key


# What a hostile or faulty program might send: its headers are genuine.


def test_downgrade_an_offer_that_is_not_answered() -> None:
    pair = due(Pair())
    pair.to_bob(pair.up())
    pair.bob._state.kem.asked = None
    refuses(pair.alice, pair.down(), pair.now, "unanswered")


def test_downgrade_an_offer_that_does_not_come() -> None:
    pair = Pair()
    with mock.patch.object(KemStep, "due", return_value=False):
        for _ in range(50):
            pair.round()
        refuses(pair.bob, pair.up(), pair.now, "without the offer")
        pair.alice._state.kem.sent = 0
        refuses(pair.bob, pair.up(), pair.now, "without the offer")


def test_downgrade_is_not_mistaken_for_loss() -> None:
    """However much is lost, an honest side is never behind: its own count is at least the reader's."""
    pair = Pair()
    for _ in range(10):
        messages = [pair.up() for _ in range(17)]
        for message in messages[::2]:
            pair.to_bob(message)
        pair.down()
        pair.to_alice(pair.down())
    assert pair.alice.epoch == 2
    pair.round()


def test_an_answer_that_was_not_asked_for() -> None:
    pair = Pair()
    pair.to_bob(pair.up())
    pair.bob._state.kem.asked = KemKeyPair(Kem.ML_KEM_768, bytes(64)).public.raw
    refuses(pair.alice, pair.down(), pair.now, "answer to no offer")


def test_an_answer_for_another_epoch() -> None:
    pair = due(Pair())
    pair.to_bob(pair.up())
    pair.bob._state.kem.epoch = 1
    refuses(pair.alice, pair.down(), pair.now, "answer to no offer")


@pytest.mark.parametrize("rounds", [0, 1])
def test_a_later_epoch(rounds: int) -> None:
    pair = Pair()
    for _ in range(rounds):
        pair.round()
    pair.to_bob(pair.up())
    pair.alice._state.kem.epoch = 1
    refuses(pair.bob, pair.up(), pair.now, "later epoch")


def test_a_new_turn_of_an_earlier_epoch() -> None:
    pair = due(Pair())
    pair.round()
    assert epochs(pair) == (1, 1)
    pair.alice._state.kem.epoch = 0
    refuses(pair.bob, pair.up(), pair.now, "another epoch")


def test_an_offer_out_of_turn() -> None:
    for rounds in (0, 1):
        pair = Pair()
        pair.to_bob(pair.up())
        for _ in range(rounds):
            pair.to_alice(pair.down())
        pair.bob._state.kem.offer = KemKeyPair(Kem.ML_KEM_768, bytes(64))
        refuses(pair.alice, pair.down(), pair.now, "out of turn")


def test_a_second_offer() -> None:
    for rounds in (0, 1):
        pair = due(Pair())
        pair.to_bob(pair.up())
        if rounds:
            pair.bob._state.kem.answer = None
        pair.alice._state.kem.offer = KemKeyPair(Kem.ML_KEM_768, bytes(64))
        refuses(pair.bob, pair.up(), pair.now, "second, different")


@pytest.mark.parametrize("rounds", [0, 1])
def test_an_offer_that_is_no_key(rounds: int) -> None:
    """Its coefficients are not reduced (FIPS 203 section 7.2): refused when it comes, not when it is used."""
    pair = Pair()
    for _ in range(rounds):
        pair.to_bob(pair.up())
    with mock.patch.object(KemStep, "carry", return_value=(Part.OFFER, b"\xff" * 1184)):
        message = pair.up()
    refuses(pair.bob, message, pair.now, "ML-KEM-768")


def test_a_thief_of_the_state_before_is_out_after_a_step() -> None:
    """Even one that computes every DH: the offering side's seed is newer than the theft."""
    pair = Pair()
    pair.round()
    thief = Ratchet.parse(pair.alice.serialize())
    due(pair)
    draws = [b"\x01" * 32, b"\x02" * 64, b"\x03" * 12]
    offering = pair.alice.encrypt(b"", pair.now, lambda length: next(d for d in draws if len(d) == length))
    draws[1] = b"\x04" * 64
    thief.encrypt(b"", pair.now, lambda length: next(d for d in draws if len(d) == length))
    assert thief._state.root == pair.alice._state.root  # the thief knows her X25519 keys, those to come too
    pair.to_bob(offering)
    answering = pair.down()
    with pytest.raises(UnreadableError):
        thief.decrypt(answering, pair.now)
    assert pair.to_alice(answering) == b"down"


def test_interval_is_the_protocols() -> None:
    assert (kem_step.INTERVAL, kem_step.MAX_WAIT) == (50, 7 * 86_400)


def test_a_library_without_ml_kem_is_noticed_at_the_start(monkeypatch) -> None:
    def missing(kem):
        raise StartError("no ML-KEM")

    monkeypatch.setattr(kem_step, "require", missing)
    with pytest.raises(StartError):
        Pair()
