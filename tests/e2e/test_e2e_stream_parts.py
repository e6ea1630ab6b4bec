"""The parts of a stream: signals, frames, records, hellos, turns; what is none of them is refused."""

import itertools

import pytest
from conversation_pair import NOW
from hypothesis import given
from hypothesis import strategies as st
from stream_pair import SEED, Pair

from ptproxy.e2e.curve import CurveKey, CurveKeyPair
from ptproxy.e2e.stream import (
    EndSignal,
    FinishedSignal,
    MeetingError,
    MeetSignal,
    OpenSignal,
    Role,
    Seed,
    StreamRuleError,
    StreamSignalError,
    Turn,
    TurnsApartError,
    TurnSecrets,
    parse_signal,
    records,
)
from ptproxy.e2e.stream.frames import (
    Data,
    Eof,
    Gone,
    NotNow,
    Rekey,
    Rekeyed,
    Reset,
    Switch,
    Window,
    parse_frames,
)
from ptproxy.e2e.stream.hello import HELLO, Hello
from ptproxy.e2e.stream.keys import step
from ptproxy.e2e.stream.records import CAPACITIES, SIZES, Opener, Sealer, size_for
from ptproxy.e2e.stream.signals import MAX_SIGNAL
from ptproxy.errors import LocalProtocolError, Reason

ids = st.binary(min_size=16, max_size=16)
keys = st.binary(min_size=32, max_size=32)
offsets = st.integers(0, 2**63)
purposes = st.binary(min_size=1, max_size=32).map(lambda raw: bytes(0x21 + byte % 94 for byte in raw))
signals = st.one_of(
    st.builds(OpenSignal, ids, keys, purposes),
    st.builds(MeetSignal, ids, st.integers(1, 2**32 - 1)),
    st.builds(EndSignal, ids, st.sampled_from(Reason)),
    st.builds(FinishedSignal, ids),
)
turns = st.builds(Turn, ids, st.integers(0, 2**32 - 1))
frames = st.one_of(
    st.builds(Data, offsets, st.binary(min_size=1, max_size=50)),
    st.builds(Eof, offsets),
    st.builds(Window, offsets, offsets),
    st.builds(Reset, st.sampled_from(Reason)),
    st.builds(Gone),
)
last = st.one_of(
    st.builds(Rekey, keys, turns), st.builds(Rekeyed, keys), st.builds(Switch), st.builds(NotNow)
)


def bytes_of(frame):
    if isinstance(frame, Data):
        return Data.header(frame.offset, len(frame.data)) + frame.data
    return frame.serialize()


# ---- signals ------------------------------------------------------------------------------------


@given(signal=signals)
def test_signals_come_back(signal):
    body = signal.serialize()
    assert parse_signal(body) == signal
    assert len(body) <= MAX_SIGNAL


@given(body=st.one_of(st.binary(max_size=90), signals.map(lambda signal: signal.serialize() + b"x" * 33)))
def test_what_is_no_signal_raises_only_what_is_documented(body):
    for start in (b"", b"\1", b"\1\1", b"\1\2", b"\1\3"):
        try:
            signal = parse_signal(start + body)
        except StreamSignalError:
            continue
        assert signal.serialize() == start + body or isinstance(signal, EndSignal)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\2\1" + bytes(60),
        b"\1\5" + bytes(16),
        b"\1\2" + bytes(20),
        b"\1\4" + bytes(17),
        b"\1\1" + bytes(48),
        b"\1\1" + bytes(48) + b"two words",
        b"\1\1" + bytes(48) + b"x" * 33,
    ],
    ids=["empty", "version", "kind", "number 0", "more", "no purpose", "blank", "long"],
)
def test_no_signals(body):
    with pytest.raises(StreamSignalError):
        parse_signal(body)


def test_seeds_are_not_shown():
    assert "secret" not in repr(Seed(bytes(16), b"secret" * 6))
    assert "seed" not in repr(OpenSignal(bytes(16), b"seed" * 8, b"x"))
    keys = step(bytes(32), bytes(32), bytes(32), bytes(32))
    assert repr(keys.opener) not in repr(keys)


# ---- frames -------------------------------------------------------------------------------------


@given(said=st.lists(frames, max_size=8), end=st.none() | last, padding=st.integers(0, 50))
def test_frames_come_back(said, end, padding):
    said = said if end is None else [*said, end]
    parsed = parse_frames(b"".join(map(bytes_of, said)) + bytes(padding))
    assert list(map(bytes_of, parsed)) == list(map(bytes_of, said))


@given(data=st.binary(max_size=120))
def test_garbage_raises_only_what_is_documented(data):
    try:
        parsed = parse_frames(data)
    except StreamRuleError:
        return
    again = b"".join(map(bytes_of, parsed))
    if not any(isinstance(frame, Reset) for frame in parsed):  # an unknown reason is read as GENERAL
        assert again + bytes(len(data) - len(again)) == data


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a",
        b"\0\1",
        b"\1" + bytes(10),
        b"\1" + bytes(8) + b"\0\5abc",
        b"\2" + b"\xff" * 8,
        b"\3" + bytes(10),
        Switch().serialize() * 2,
        Rekeyed(bytes(32)).serialize() + Gone().serialize(),
    ],
    ids=["unknown", "padding", "empty", "short", "offset", "cut", "twice", "behind the last"],
)
def test_no_frames(data):
    with pytest.raises(StreamRuleError):
        parse_frames(data)


@given(frame=last, behind=frames | last)
def test_nothing_is_behind_a_frame_about_keys(frame, behind):
    with pytest.raises(StreamRuleError, match="about keys"):
        parse_frames(bytes_of(frame) + bytes_of(behind))


# ---- records ------------------------------------------------------------------------------------


@given(length=st.integers(1, 200_000))
def test_a_record_holds_what_it_can_with_little_padding(length):
    size = size_for(length)
    held = min(length, CAPACITIES[size])
    assert size == 0 or 2 * held >= CAPACITIES[size]


@given(
    plaintexts=st.lists(st.binary(max_size=2000), max_size=8),
    cuts=st.lists(st.integers(0, 30_000), max_size=10),
)
def test_records_are_the_same_however_they_are_cut(plaintexts, cuts):
    sealer, opener = Sealer(bytes(32)), Opener(bytes(32))
    wire = b""
    for plaintext in plaintexts:
        record = sealer.seal((plaintext,), len(plaintext), size_for(len(plaintext) or 1))
        assert len(record) in SIZES
        wire += record
    opened = []
    edges = sorted({0, len(wire), *(cut for cut in cuts if cut < len(wire))})
    for start, end in itertools.pairwise(edges):
        opener.receive(memoryview(wire)[start:end])
        while (plaintext := opener.next()) is not None:
            opened.append(plaintext)
    assert [plaintext.rstrip(b"\0") for plaintext in opened] == [
        plaintext.rstrip(b"\0") for plaintext in plaintexts
    ]


@pytest.mark.parametrize("touch", range(0, 256, 5))
def test_no_byte_of_a_record_can_be_altered(touch):
    record = bytearray(Sealer(bytes(32)).seal((b"text",), 4, 0))
    record[touch] ^= 1
    opener = Opener(bytes(32))
    opener.receive(bytes(record) + bytes(1024))
    with pytest.raises(MeetingError):
        opener.next()


def test_records_cannot_be_repeated_left_out_or_exchanged():
    sealer = Sealer(bytes(32))
    first, second = (sealer.seal((b"text",), 4, 0) for _ in range(2))
    for said, good in ((first + first, 1), (second, 0), (first + second, 2)):
        opener = Opener(bytes(32))
        opener.receive(said)
        for _ in range(good):
            assert opener.next().startswith(b"text")
        if good < len(said) // 256:
            with pytest.raises(MeetingError):
                opener.next()


def test_a_size_that_there_is_not():
    opener = Opener(bytes(32))
    opener.receive(b"\5")
    with pytest.raises(MeetingError):
        opener.next()


def test_a_key_seals_so_many_records(monkeypatch):
    monkeypatch.setattr(records, "MAX_RECORDS", 3)
    sealer = Sealer(bytes(32))
    for _ in range(3):
        sealer.seal((b"x",), 1, 0)
    with pytest.raises(LocalProtocolError):
        sealer.seal((b"x",), 1, 0)


# ---- hellos, turns ------------------------------------------------------------------------------


def test_a_hello_comes_back_and_no_byte_of_it_can_be_altered():
    hello = Hello(CurveKeyPair(bytes(range(32))).public, Turn(bytes(16), 7))
    sealed = hello.seal(bytes(32), bytes(12))
    assert len(sealed) == HELLO
    assert Hello.open(sealed, bytes(32)) == hello
    for index in range(0, HELLO, 5):
        with pytest.raises(MeetingError):
            Hello.open(sealed[:index] + bytes((sealed[index] ^ 1,)) + sealed[index + 1 :], bytes(32))
    with pytest.raises(MeetingError):
        Hello.open(sealed, bytes(31) + b"\1")


def test_a_key_of_low_order_is_refused():
    key = object.__new__(CurveKey)
    object.__setattr__(key, "raw", bytes(32))
    with pytest.raises(MeetingError):
        Hello.open(Hello(key, Turn(bytes(16), 7)).seal(bytes(32), bytes(12)), bytes(32))


def test_every_derivation_of_a_seed_is_another():
    other = Seed(bytes(16), SEED.secret)
    derived = [
        value
        for seed in (SEED, other)
        for number in (1, 2)
        for value in (
            seed.cookie(number),
            seed.chain(number),
            *(seed.hello_key(number, role) for role in Role),
        )
    ]
    assert len(set(derived)) == len(derived) == 16


def secrets(newest, heard, session=bytes(16)):
    return TurnSecrets(Turn(session, newest), heard, {newest: b"new", newest - 1: b"former"})


@pytest.mark.parametrize(
    ("own", "peer", "turn"),
    [((5, 5), 5, 5), ((5, 4), 4, 4), ((5, 4), 5, 5), ((5, 5), 6, 5), ((5, 4), 9, 5)],
)
def test_the_lower_of_the_two_newest_turns_is_taken(own, peer, turn):
    assert secrets(*own).agree(Turn(bytes(16), peer)) == turn


@pytest.mark.parametrize(
    ("own", "peer", "session"),
    [((5, 5), 4, bytes(16)), ((5, 4), 3, bytes(16)), ((5, 4), 5, bytes(15) + b"\1")],
    ids=["below what it has taken itself", "gone", "another session"],
)
def test_no_turn_in_common(own, peer, session):
    with pytest.raises(TurnsApartError):
        secrets(*own).agree(Turn(session, peer))


def test_both_sides_have_the_same_secrets_of_a_turn():
    pair = Pair()
    alice, bob = pair.people
    for step_ in range(6):
        sides = [pair.turns(role)() for role in Role]
        turns = {sides[0].agree(sides[1].newest), sides[1].agree(sides[0].newest)}
        assert len(turns) == 1
        turn = turns.pop()
        assert sides[0].secrets[turn] == sides[1].secrets[turn]
        assert sides[0].heard <= turn >= sides[1].heard
        if step_ % 3 == 0:
            under_way = alice.send(bob, b"not there yet")
        elif step_ % 3 == 1:
            bob.read(under_way)
        else:
            alice.read(bob.send(alice, b"answer"))
    assert NOW
