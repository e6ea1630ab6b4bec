"""Two sides: what is read, what is refused, and that a refusal leaves nothing behind."""

from __future__ import annotations

from collections import Counter
from random import Random
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ratchet_pair import AD, DAY, NOW, SECRET, Pair

from ptproxy.e2e.curve import CurveKeyPair
from ptproxy.e2e.ratchet import (
    MAX_PLAINTEXT,
    SIZES,
    AlreadyReadError,
    Ratchet,
    RatchetError,
    RatchetRuleError,
    TooFarAheadError,
    UnreadableError,
    chains,
    envelope,
)
from ptproxy.e2e.ratchet import ratchet as ratchet_module
from ptproxy.errors import LocalProtocolError, RemoteProtocolError


def refuses(ratchet: Ratchet, message: bytes, error: type[RatchetError], now: float = NOW) -> None:
    before = ratchet.serialize()
    with pytest.raises(error) as caught:
        ratchet.decrypt(message, now)
    assert type(caught.value) is error
    assert ratchet.serialize() == before


def test_lines_both_ways() -> None:
    pair = Pair()
    for _ in range(5):
        pair.round()
    assert (pair.alice.turn, pair.bob.turn) == (10, 10)


def test_a_responder_reads_before_it_writes() -> None:
    pair = Pair()
    assert pair.alice.can_encrypt
    assert not pair.bob.can_encrypt
    before = pair.bob.serialize()
    with pytest.raises(LocalProtocolError):
        pair.down()
    assert pair.bob.serialize() == before
    pair.to_bob(pair.up())
    assert pair.bob.can_encrypt


def test_any_order_within_and_across_turns() -> None:
    pair = Pair()
    first = [pair.up(b"%d" % number) for number in range(5)]
    assert pair.to_bob(first[3]) == b"3"
    pair.to_alice(pair.down())
    second = [pair.up(b"new %d" % number) for number in range(3)]
    assert pair.to_bob(second[2]) == b"new 2"
    assert [pair.to_bob(first[number]) for number in (4, 0, 2, 1)] == [b"4", b"0", b"2", b"1"]
    assert [pair.to_bob(second[number]) for number in (1, 0)] == [b"new 1", b"new 0"]
    for message in first:  # their chain keeps no key any more: it is forgotten
        refuses(pair.bob, message, UnreadableError)
    for message in second:
        refuses(pair.bob, message, AlreadyReadError)


def test_both_write_at_once() -> None:
    pair = Pair()
    pair.round()
    for number in range(10):
        up, down = pair.up(b"%d" % number), pair.down(b"%d" % -number)
        assert pair.to_alice(down) == b"%d" % -number
        assert pair.to_bob(up) == b"%d" % number


def test_another_secret_or_associated_data_reads_nothing() -> None:
    pair, message = Pair(), Pair().up()
    key = CurveKeyPair.generate(Random(0).randbytes)
    for bob in (Ratchet.respond(bytes(32), AD, key, NOW), Ratchet.respond(SECRET, b"others", key, NOW)):
        refuses(bob, message, UnreadableError)
    assert pair.to_bob(message) == b"up"


@pytest.mark.parametrize("size", [0, 1, 11, 12, 383, 385, 512, 1024, 65407, 65409, 65536, 131072])
def test_a_length_that_no_message_has(size: int) -> None:
    pair = Pair()
    refuses(pair.bob, bytes(size), UnreadableError)


def test_a_genuine_message_that_is_not_padded() -> None:
    """Padding is not left to the other side's manners."""
    pair = Pair()
    pair.to_bob(pair.up())
    with mock.patch.object(envelope, "SIZES", range(65409)):
        message = pair.up()
    assert len(message) == 95
    refuses(pair.bob, message, UnreadableError)


def test_every_byte_matters() -> None:
    """Of a message in an open chain, and of the first of a new turn."""
    for rounds in (0, 1):
        pair = Pair()
        if rounds:
            pair.to_bob(pair.up())
        message = pair.up()
        for place in range(len(message)):
            touched = bytearray(message)
            touched[place] ^= 1
            refuses(pair.bob, bytes(touched), UnreadableError)
        assert pair.to_bob(message) == b"up"


def test_every_byte_matters_where_a_kem_key_is_carried() -> None:
    pair = Pair()
    pair.to_bob(pair.up())
    pair.now += 8 * DAY
    message = pair.up()
    assert len(message) == 1920
    for place in range(0, len(message), 7):
        touched = bytearray(message)
        touched[place] ^= 0x80
        refuses(pair.bob, bytes(touched), UnreadableError)
    assert pair.to_bob(message) == b"up"


def test_reflected() -> None:
    pair = Pair()
    pair.round()
    refuses(pair.alice, pair.up(), UnreadableError)
    refuses(pair.bob, pair.down(), UnreadableError)


def test_header_of_one_message_with_the_body_of_another() -> None:
    pair = Pair()
    one, other = pair.up(b"one"), pair.up(b"other")
    for cut in (12, 73):
        refuses(pair.bob, one[:cut] + other[cut:], UnreadableError)
        refuses(pair.bob, other[:cut] + one[cut:], UnreadableError)
    assert pair.to_bob(other) == b"other"
    assert pair.to_bob(one) == b"one"


@given(st.binary(max_size=100), st.integers(0, 7), st.randoms(use_true_random=False))
def test_garbage_is_unreadable(prefix: bytes, size: int, random: Random) -> None:
    pair = Pair()
    pair.round()
    garbage = (prefix + random.randbytes(SIZES[size]))[: SIZES[size]]
    refuses(pair.alice, garbage, UnreadableError)
    refuses(pair.bob, garbage, UnreadableError)
    refuses(pair.alice, prefix, UnreadableError)


def test_the_longest_text_and_one_more() -> None:
    pair = Pair()
    text = Random(1).randbytes(MAX_PLAINTEXT)
    message = pair.up(text)
    assert len(message) == SIZES[-1]
    assert pair.to_bob(message) == text
    before = pair.alice.serialize()
    with pytest.raises(LocalProtocolError):
        pair.up(text + b"x")
    assert pair.alice.serialize() == before
    pair.now += 8 * DAY  # beside an offer too
    message = pair.up(text)
    assert len(message) == SIZES[-1]
    assert pair.to_bob(message) == text


def test_lengths_are_few() -> None:
    pair = Pair()
    assert {len(pair.up(bytes(size))) for size in (0, 1, 100, 291)} == {384}
    assert len(pair.up(bytes(292))) == 896
    for size in (*range(0, 3000, 50), 10_000, 30_000, 60_000):  # soon with an offer
        assert len(pair.up(bytes(size))) in SIZES


def test_no_byte_of_a_message_stays_the_same() -> None:
    """500 equal texts: at each place at least 150 different values, none of them more than 15 times."""
    pair = Pair()
    pair.to_bob(pair.up())
    messages = [pair.up(b"the same") for _ in range(49)]
    pair.to_bob(messages[0])
    pair.down()
    while len(messages) < 500:
        pair = Pair(len(messages))
        messages += [pair.up(b"the same") for _ in range(49)]
    assert {len(message) for message in messages} == {384}
    for place in range(384):
        counts = Counter(message[place] for message in messages)
        assert len(counts) > 150
        assert max(counts.values()) <= 15


def test_a_jump_within_reach_and_one_beyond() -> None:
    pair = Pair()
    pair.to_bob(pair.up())
    messages = [pair.up(b"%d" % number) for number in range(1002)]
    refuses(pair.bob, messages[1001], TooFarAheadError)
    assert pair.to_bob(messages[1000]) == b"1000"
    assert pair.to_bob(messages[1001]) == b"1001"
    for number in Random(0).sample(range(1000), 1000):
        assert pair.to_bob(messages[number]) == b"%d" % number
    for number in range(0, 1002, 100):
        refuses(pair.bob, messages[number], AlreadyReadError)


def test_refusing_a_jump_is_no_work() -> None:
    """No key is derived and no DH done; the same where the jump is at the start of a new turn."""
    pair = Pair()
    pair.to_bob(pair.up())
    pair.to_alice(pair.down())
    refused = [pair.up() for _ in range(1002)][-1]
    calls = Counter()

    def counting(name, real):
        def counted(*arguments):
            calls[name] += 1
            return real(*arguments)

        return counted

    with (
        mock.patch.object(chains.hmac, "digest", counting("hmac", chains.hmac.digest)),
        mock.patch.object(CurveKeyPair, "exchange", counting("dh", CurveKeyPair.exchange)),
    ):
        refuses(pair.bob, refused, TooFarAheadError)
        assert calls == {}
        pair.to_bob(pair.up) if False else None
        pair.alice.encrypt(b"", NOW, pair.rng)
        assert calls == {"hmac": 2}


def test_a_lost_thousand_does_not_end_the_session() -> None:
    """In its chain everything later is refused; when the other side writes, it goes on."""
    pair = Pair()
    pair.round()
    pair.to_bob(pair.up())
    lost = [pair.up() for _ in range(1500)]
    refuses(pair.bob, lost[-1], TooFarAheadError)
    assert pair.alice.unanswered == 1501
    pair.to_alice(pair.down(b"are you there?"))
    after = pair.up(b"yes")
    assert pair.to_bob(after) == b"yes"
    assert sum(chain.count for chain in pair.bob._state.kept()) == 0  # too many to keep: given up
    refuses(pair.bob, lost[0], UnreadableError)
    pair.round()


def test_a_thousand_lost_at_the_start_of_a_turn_does() -> None:
    """The limit of the design, said in RATCHET.md: nothing moves the receiver on."""
    pair = Pair()
    pair.round()
    for _ in range(1001):
        pair.up()
    pair.to_alice(pair.down())
    refuses(pair.bob, pair.up(), TooFarAheadError)


def test_kept_keys_are_bounded_and_the_oldest_go() -> None:
    pair = Pair()
    pair.round()
    messages = []
    for _ in range(4):
        chain = [pair.up() for _ in range(801)]
        messages.append(chain)
        pair.to_bob(chain[-1])
        pair.to_alice(pair.down())
    assert sum(chain.count for chain in pair.bob._state.kept()) == 2000
    refuses(pair.bob, messages[0][799], UnreadableError)
    refuses(pair.bob, messages[1][399], AlreadyReadError)
    assert pair.to_bob(messages[1][400]) == b"up"
    assert pair.to_bob(messages[3][0]) == b"up"


def test_five_old_chains() -> None:
    pair = Pair()
    late = []
    for _ in range(7):
        late.append(pair.up(b"late"))
        pair.round()
    # The newest of the seven is the open chain; before it five old ones.
    refuses(pair.bob, late[0], UnreadableError)
    for message in late[1:]:
        assert pair.to_bob(message) == b"late"


def test_kept_keys_grow_old() -> None:
    pair = Pair()
    early, in_time = pair.up(), pair.up()
    pair.round()
    pair.now += 30 * DAY
    assert pair.to_bob(in_time) == b"up"
    pair.now += 1
    refuses(pair.bob, early, AlreadyReadError, pair.now)
    revision = pair.bob.revision
    assert pair.bob.expire(pair.now)
    assert not pair.bob.expire(pair.now)
    assert pair.bob.revision == revision + 1
    assert sum(chain.count for chain in pair.bob._state.kept()) == 0


def test_keys_that_grew_old_go_with_the_next_message() -> None:
    pair = Pair()
    pair.up()
    pair.round()
    assert pair.bob._state.receiving.kept.count == 1
    pair.now += 31 * DAY
    pair.down()
    assert pair.bob._state.receiving.kept.count == 0


def test_a_flood_of_forged_messages_keeps_nothing() -> None:
    """Made-up ones, and genuine headers with forged bodies that would skip a thousand keys each."""
    pair = Pair()
    pair.round()
    ahead = [pair.up() for _ in range(1001)][-1]
    before = pair.bob.serialize()
    random = Random(3)
    for _ in range(300):
        refuses(pair.bob, random.randbytes(384), UnreadableError)
    for _ in range(30):
        refuses(pair.bob, ahead[:73] + random.randbytes(384 - 73), UnreadableError)
    assert pair.bob.serialize() == before
    assert pair.to_bob(ahead) == b"up"


@pytest.mark.parametrize("field", ["key", "number", "previous"])
def test_genuine_headers_that_no_side_may_write(field: str) -> None:
    """A side whose program is hostile: its header is genuine, and refused before anything else."""
    value = {"key": (1).to_bytes(32, "little"), "number": 1 << 24, "previous": (1 << 24) + 1}[field]
    for rounds in (0, 1):
        pair = Pair()
        for _ in range(rounds):
            pair.round()
        real = ratchet_module.Header.serialize

        def lying(header, real=real):
            setattr(header, field, value)
            return real(header)

        with mock.patch.object(ratchet_module.Header, "serialize", lying):
            message = pair.up()
        refuses(pair.bob, message, RatchetRuleError)


def test_a_secret_of_another_length() -> None:
    with pytest.raises(LocalProtocolError):
        Ratchet.respond(bytes(31), AD, CurveKeyPair(bytes(32)), NOW)


def test_too_many_messages_without_an_answer() -> None:
    pair = Pair()
    pair.alice._state.sending.position = (1 << 24) - 1
    pair.up()
    before = pair.alice.serialize()
    with pytest.raises(LocalProtocolError):
        pair.up()
    assert pair.alice.serialize() == before


def test_the_last_turn() -> None:
    pair = Pair()
    pair.round()
    pair.alice._state.root.turn = pair.bob._state.root.turn = 2**32 - 1
    before = pair.alice.serialize()
    with pytest.raises(LocalProtocolError):
        pair.up()
    assert pair.alice.serialize() == before


def test_randomness_that_fails_changes_nothing() -> None:
    pair = Pair()
    pair.to_bob(pair.up())
    pair.now += 8 * DAY

    def failing_after(calls: int):
        left = [calls]

        def rng(length: int) -> bytes:
            if not left[0]:
                raise OSError("no randomness")
            left[0] -= 1
            return bytes(length)

        return rng

    for side, draws in ((pair.alice, 2), (pair.bob, 2)):  # seed, nonce; private key, nonce
        for calls in range(draws):
            before = side.serialize()
            with pytest.raises(OSError, match="no randomness"):
                side.encrypt(b"", pair.now, failing_after(calls))
            assert side.serialize() == before


def test_export_is_the_same_on_both_sides_and_turns() -> None:
    pair = Pair()
    pair.round()
    seen = set()
    for _ in range(4):
        pair.to_bob(pair.up())
        assert pair.alice.turn == pair.bob.turn
        exported = pair.alice.export(b"stream", 64)
        assert exported == pair.bob.export(b"stream", 64)
        reply = pair.down()
        assert pair.bob.turn == pair.alice.turn + 1
        assert pair.bob.export(b"stream", 64, pair.alice.turn) == exported  # alice has not heard yet
        assert pair.bob.export(b"stream", 64) != exported
        pair.to_alice(reply)
        assert pair.alice.export(b"stream", 64, pair.alice.turn - 1) == exported
        seen.add(exported)
    assert len(seen) == 4


def test_export_depends_on_label_and_length() -> None:
    alice = Pair().alice
    exports = [
        alice.export(b"a", 32),
        alice.export(b"b", 32),
        alice.export(b"", 32),
        alice.export(b"a", 33)[:32],
    ]
    assert len(set(exports)) == 4
    assert len(alice.export(b"a", 8160)) == 8160


@pytest.mark.parametrize(
    ("label", "length", "turn"), [(b"", 0, 1), (b"", 8161, 1), (bytes(256), 1, 1), (b"", 1, 2), (b"", 1, -1)]
)
def test_exports_that_are_not_there(label: bytes, length: int, turn: int) -> None:
    with pytest.raises(LocalProtocolError):
        Pair().alice.export(label, length, turn)
    pair = Pair()
    pair.round()
    pair.round()
    with pytest.raises(LocalProtocolError):
        pair.alice.export(b"", 1, pair.alice.turn - 2)


def test_a_private_key_is_gone_when_its_turn_is_over() -> None:
    """Forward secrecy of the stored state: nothing of a turn that was answered stays."""
    pair = Pair()
    for _ in range(3):
        pair.to_bob(pair.up())
        private = pair.alice._state.pair.serialize_private()
        chain = pair.alice._state.sending
        secrets = [private, chain.key, chain.header_key, pair.alice._state.root.key]
        assert all(secret in pair.alice.serialize() for secret in secrets)
        pair.to_alice(pair.down())
        assert not any(secret in pair.alice.serialize() for secret in secrets)


def test_a_message_key_is_gone_when_it_was_used() -> None:
    pair = Pair()
    keys = []
    real = ratchet_module.seal
    with mock.patch.object(
        ratchet_module, "seal", lambda c, key, *rest: keys.append(key) or real(c, key, *rest)
    ):
        messages = [pair.up() for _ in range(3)]
    assert not any(key in pair.alice.serialize() for key in keys)
    pair.to_bob(messages[2])
    assert [key in pair.bob.serialize() for key in keys] == [True, True, False]
    pair.to_bob(messages[1])
    assert [key in pair.bob.serialize() for key in keys] == [True, False, False]


def test_used_keys_are_overwritten_in_memory() -> None:
    pair = Pair()
    messages = [pair.up() for _ in range(4)]
    pair.to_bob(messages[3])
    buffer = pair.bob._state.receiving.kept.runs[0].keys
    assert len(buffer) == 96
    pair.to_bob(messages[1])
    assert buffer == bytes(96)


def test_a_state_that_ran_twice_repeats_no_nonce() -> None:
    pair = Pair()
    twin = Ratchet.parse(pair.alice.serialize())
    keys = []
    real = ratchet_module.seal
    with mock.patch.object(
        ratchet_module, "seal", lambda c, key, *rest: keys.append(key) or real(c, key, *rest)
    ):
        one, other = pair.up(b"one"), twin.encrypt(b"other", NOW, pair.rng)
    assert keys[0] == keys[1]  # that is why the nonce is random
    assert one[:12] != other[:12]
    assert pair.to_bob(other) == b"other"
    refuses(pair.bob, one, AlreadyReadError)


def test_errors_are_of_the_tree() -> None:
    for error in (AlreadyReadError, RatchetRuleError, TooFarAheadError, UnreadableError):
        assert issubclass(error, RatchetError)
    assert issubclass(RatchetError, RemoteProtocolError)


def test_nothing_secret_is_shown() -> None:
    pair = Pair()
    pair.round()
    pair.now += 8 * DAY
    pair.up()
    pair.to_bob(pair.up())
    states = [pair.alice._state, pair.bob._state]
    shown = "".join(
        repr(part)
        for state in states
        for part in (
            state,
            state.root,
            state.kem,
            state.pair,
            state.sending,
            state.receiving,
            state.receiving and state.receiving.kept,
        )
    )
    shown += repr(pair.alice) + repr(pair.alice._state.kem.offer) + repr(pair.bob._state.receiving.kept.runs)
    for secret in (
        SECRET,
        pair.alice._state.root.key,
        pair.bob._state.receiving.key,
        bytes(pair.bob._state.receiving.kept.runs[0].keys),
    ):
        assert repr(bytes(secret)) not in shown
        assert secret.hex() not in shown
        assert repr(bytes(secret))[2:12] not in shown
