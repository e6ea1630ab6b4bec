"""Headers, kept keys and turns by themselves."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ratchet_pair import SECRET

from ptproxy.e2e.ratchet.header import LONG, SHORT, Header, Part
from ptproxy.e2e.ratchet.kept import MAX_AGE, KeptChain, KeyRun, make_room
from ptproxy.e2e.ratchet.refusals import RatchetRuleError
from ptproxy.e2e.ratchet.root import Root
from ptproxy.errors import LocalProtocolError, StateError
from ptproxy.fields import Fields

CARRIED = {Part.NOTHING: b"", Part.OFFER: bytes(range(148)) * 8, Part.ANSWER: b"\x05" * 1088}

headers = st.builds(
    lambda part, epoch, key, previous, number: Header(part, epoch, key, previous, number, CARRIED[part]),
    st.sampled_from(Part),
    st.integers(0, 2**32 - 1),
    st.binary(min_size=32, max_size=32),
    st.integers(0, 1 << 24),
    st.integers(0, (1 << 24) - 1),
)


@given(headers)
def test_header_round_trip(header: Header) -> None:
    data = header.serialize()
    assert len(data) == (SHORT if header.part is Part.NOTHING else LONG)
    assert Header.parse(data) == header


@given(st.sampled_from([SHORT, LONG]), st.integers(0, 255), st.randoms(use_true_random=False))
def test_header_garbage(size: int, part: int, random: Random) -> None:
    data = bytes([part]) + random.randbytes(size - 1)
    try:
        header = Header.parse(data)
    except RatchetRuleError:
        return
    assert header.serialize() == data


@pytest.mark.parametrize(
    ("part", "size"), [(0, LONG), (1, SHORT), (2, SHORT), (3, SHORT), (3, LONG), (255, SHORT)]
)
def test_header_forms(part: int, size: int) -> None:
    with pytest.raises(RatchetRuleError):
        Header.parse(bytes([part]) + bytes(size - 1))


def test_an_answer_is_padded_with_zeros_alone() -> None:
    data = Header(Part.ANSWER, 1, bytes(32), 0, 0, CARRIED[Part.ANSWER]).serialize()
    for place in (-1, -96):
        touched = bytearray(data)
        touched[place] = 1
        with pytest.raises(RatchetRuleError):
            Header.parse(bytes(touched))


def test_header_vector() -> None:
    header = Header(Part.NOTHING, 7, bytes(range(32)), 3, 258, b"")
    assert header.serialize().hex() == "0000000007" + bytes(range(32)).hex() + "0000000300000102"


def run(first: int, count: int, since: int = 0) -> KeyRun:
    return KeyRun(
        first,
        since,
        bytearray(b"".join(bytes([number % 256]) * 32 for number in range(first, first + count))),
    )


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 3)), max_size=8), st.randoms(use_true_random=False)
)
def test_kept_keys_against_a_dict(gaps: list[tuple[int, int]], random: Random) -> None:
    chain, expected, first = KeptChain(bytes(32)), {}, 0
    for count, gap in gaps:
        chain.add(run(first, count))
        expected |= {number: bytes([number]) * 32 for number in range(first, first + count)}
        first += count + gap
    for _ in range(40):
        number = random.randrange(first + 2)
        assert chain.find(number, 0) == expected.get(number)
        if number in expected:
            if random.random() < 0.5:
                chain.remove(number)
                del expected[number]
            elif random.random() < 0.2:
                count = random.randrange(len(expected) + 1)
                chain.drop(count)
                for lowest in sorted(expected)[:count]:
                    del expected[lowest]
        assert chain.count == len(expected) == sum(map(len, chain.runs))
        assert all(chain.runs)
    stored = chain.serialize()
    again = KeptChain(bytes(32))
    fields = Fields(stored + b"z", StateError("damaged"))
    again.parse_runs(fields)
    assert fields.rest() == b"z"
    assert {number: again.find(number, 0) for number in expected} == expected
    assert again.serialize() == stored


@given(st.binary(max_size=300))
def test_kept_keys_garbage(data: bytes) -> None:
    chain = KeptChain(bytes(32))
    fields = Fields(data, StateError("damaged"))
    try:
        chain.parse_runs(fields)
    except StateError:
        return
    assert chain.serialize() == fields.so_far()


def test_room_is_made_where_keys_are_oldest() -> None:
    chains = [KeptChain(bytes(32)) for _ in range(3)]
    for chain, count in zip(chains, (700, 800, 400), strict=True):
        chain.add(run(0, count))
    make_room(chains, 100)
    assert [chain.count for chain in chains] == [700, 800, 400]
    make_room(chains, 101)
    assert [chain.count for chain in chains] == [699, 800, 400]
    assert chains[0].find(0, 0) is None
    assert chains[0].find(1, 0) == b"\x01" * 32
    make_room(chains, 1000)
    assert [chain.count for chain in chains] == [0, 600, 400]


def test_expiry_is_by_run() -> None:
    chain = KeptChain(bytes(32))
    chain.add(run(0, 2, since=100))
    chain.add(run(5, 2, since=200))
    assert chain.find(1, 100 + MAX_AGE) == b"\x01" * 32
    assert chain.find(1, 101 + MAX_AGE) is None
    chain.expire_first(100 + MAX_AGE)
    assert chain.count == 4
    chain.expire_first(101 + MAX_AGE)
    assert (chain.count, len(chain.runs)) == (2, 1)
    assert not chain.expire(101 + MAX_AGE)


def test_turns_are_alike_on_both_sides_and_differ_from_each_other() -> None:
    one = other = Root.start(SECRET)
    keys = set()
    for turn in range(1, 6):
        dh = bytes([turn]) * 32
        one, ours = one.step(dh, None)
        other, theirs = other.step(dh, None)
        assert one.serialize() == other.serialize()
        assert one.turn == turn
        assert ours == theirs
        keys |= {ours.chain, ours.header, one.key, one.export_secret}
    assert len(keys) == 20
    assert Root.parse(one.serialize()) == one


def test_a_header_key_is_two_turns_old() -> None:
    root = Root.start(SECRET)
    made = [root.next_header, root.later_header]
    for turn in range(1, 5):
        root, keys = root.step(bytes([turn]) * 32, None)
        assert keys.header == made[turn - 1]
        made.append(root.later_header)


def test_the_agreed_secret_has_32_bytes() -> None:
    for size in (0, 31, 33):
        with pytest.raises(LocalProtocolError):
            Root.start(bytes(size))
