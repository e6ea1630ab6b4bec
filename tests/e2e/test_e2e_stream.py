"""Whole streams, step by step: resumption, credit, keys, ends; and a peer, or a way, that is hostile."""

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from stream_pair import SEED, Pair, ended, text

from ptproxy.e2e.stream import (
    MeetingFailed,
    Role,
    SealedStream,
    Seed,
    StreamFailed,
    StreamReset,
    Summons,
    TurnsApartError,
    meeting,
    records,
)
from ptproxy.e2e.stream.frames import Data, Eof, Gone, NotNow, Rekey, Rekeyed, Switch, Window
from ptproxy.e2e.stream.keys import Turn
from ptproxy.e2e.stream.receiving import INITIAL_WINDOW, MAX_WINDOW
from ptproxy.errors import Reason


def met():
    pair = Pair()
    pair.meet()
    pair.pass_on()
    return pair


def test_bytes_both_ways_and_both_ends():
    pair = met()
    pair.opener.send_data(b"hello")
    pair.acceptor.send_data(b"hello yourself")
    pair.acceptor.send_eof()
    events = pair.pass_on()
    assert text(events[Role.ACCEPTOR]) == b"hello"
    assert text(events[Role.OPENER]) == b"hello yourself"
    assert ended(events[Role.OPENER])
    assert not pair.opener.finished
    pair.opener.send_eof()
    pair.pass_on()
    assert pair.opener.finished
    assert pair.acceptor.finished


def test_a_first_byte_needs_one_hello_each_way_and_no_more():
    pair = Pair()
    pair.opener.send_data(b"at once")
    pair.meet()
    hello = pair.said(pair.opener)
    answer = pair.said(pair.acceptor)
    assert len(hello) == len(answer) == 256
    pair.opener.receive_data(answer, pair.now)
    pair.acceptor.receive_data(hello, pair.now)
    assert text(pair.acceptor.receive_data(pair.said(pair.opener), pair.now)) == b"at once"


def test_nothing_is_repeated_after_a_break():
    pair = met()
    pair.opener.send_data(bytes(range(200)))
    arrived = text(pair.acceptor.receive_data(pair.said(pair.opener), pair.now))
    assert arrived == bytes(range(200))
    pair.opener.send_data(b"lost")
    assert pair.said(pair.opener)
    pair.part()  # neither the acknowledgement nor the rest has come
    pair.meet()
    assert text(pair.pass_on()[Role.ACCEPTOR]) == b"lost"
    assert pair.opener.number == 2


def test_credit_grows_with_a_reader_that_keeps_up():
    pair = met()
    sent = 0
    for _ in range(200):
        room = pair.opener.send_room()
        if room > 0:
            pair.opener.send_data(bytes(room))
            sent += room
        for event in pair.pass_on()[Role.ACCEPTOR]:
            pair.acceptor.consume(len(event.data))
    assert pair.acceptor.incoming.window == MAX_WINDOW
    assert sent > 40 << 20


def test_a_reader_that_stops_is_sent_its_window_and_not_a_byte_more():
    pair = met()
    pair.opener.send_data(bytes(INITIAL_WINDOW + 100_000))
    assert len(text(pair.pass_on()[Role.ACCEPTOR])) == INITIAL_WINDOW
    assert pair.opener.send_room() == -100_000
    pair.acceptor.consume(INITIAL_WINDOW)
    assert len(text(pair.pass_on()[Role.ACCEPTOR])) == 100_000


@pytest.mark.parametrize(
    ("length", "sizes"),
    [(1, [256]), (200, [256]), (800, [1024]), (5000, [4096, 1024]), (70_000, [65536, 4096, 256, 256])],
)
def test_few_sizes(length, sizes):
    pair = met()
    pair.opener.send_data(bytes(length))
    assert [len(record) for record in pair.opener.data_to_send(pair.now)] == sizes


# ---- keys ---------------------------------------------------------------------------------------


def hkdf(secret, salt, info, length):
    """RFC 5869, by hand."""
    key = hmac.digest(salt or bytes(32), secret, "sha256")
    out = block = b""
    count = 1
    while len(out) < length:
        block = hmac.digest(key, block + info + bytes((count,)), "sha256")
        out += block
        count += 1
    return out[:length]


def test_a_recorded_meeting_is_read_by_a_second_implementation():
    """STREAM.md, *Keys* and *Records*, written down again as naively as possible."""
    pair = Pair()
    privates = []
    real, pair.rng = pair.rng, lambda size: privates.append(real(size)) or privates[-1]
    pair.meet()
    pair.opener.send_data(b"a text that nobody else reads")
    pair.pass_on()
    own, _, other, _ = privates  # key and nonce of each hello
    wire = {role: b"".join(pair.log[role]) for role in Role}
    number = (1).to_bytes(4, "big")
    said = {}
    for role in Role:
        key = hkdf(SEED.secret, b"", b"ptproxy 1 stream hello" + SEED.stream + number + bytes((role,)), 32)
        said[role] = AESGCM(key).decrypt(wire[role][:12], wire[role][12:256], None)
        assert len(said[role]) == 228
        assert said[role][32:48] == pair.session(role).key
    turn = min(int.from_bytes(said[role][48:52], "big") for role in Role)
    exported = pair.session(Role.OPENER).ratchet.export(b"ptproxy 1 stream " + SEED.stream, 32, turn)
    chain = hkdf(SEED.secret, b"", b"ptproxy 1 stream chain" + SEED.stream + number, 32)
    public = X25519PublicKey.from_public_bytes(said[Role.ACCEPTOR][:32])
    dh = X25519PrivateKey.from_private_bytes(own).exchange(public)
    assert X25519PrivateKey.from_private_bytes(other).public_key() == public

    def sha(data):
        return hashlib.sha256(data).digest()

    hellos = sha(wire[Role.OPENER][:256]) + wire[Role.ACCEPTOR][:256]
    transcript = sha(b"ptproxy 1 stream transcript\0" + sha(SEED.stream + number) + hellos)
    derived = hkdf(chain + dh, exported, b"ptproxy 1 stream keys" + transcript, 96)
    record = wire[Role.OPENER][256:512]
    plaintext = AESGCM(derived[:32]).decrypt(bytes(12), record[1:], record[:1])
    window = b"\3" + bytes(8) + INITIAL_WINDOW.to_bytes(8, "big")
    data = b"\1" + bytes(8) + b"\0\x1d" + b"a text that nobody else reads"
    assert plaintext == (window + data).ljust(239, b"\0")
    record = wire[Role.ACCEPTOR][256:512]
    plaintext = AESGCM(derived[32:64]).decrypt(bytes(12), record[1:], record[:1])
    assert plaintext.startswith(b"\3")


def rekeyed(pair):
    """Let a minute pass and something be said; the events."""
    pair.now += 61
    pair.opener.send_data(b"x")
    return pair.pass_on()


def test_new_keys_when_the_ratchet_has_turned():
    pair = met()
    keys = pair.opener.meeting._keys
    rekeyed(pair)
    assert pair.opener.meeting._keys is keys  # it has not
    pair.chat(2)
    events = rekeyed(pair)
    assert text(events[Role.ACCEPTOR]) == b"x"
    assert pair.opener.meeting.turn == pair.acceptor.meeting.turn
    assert pair.opener.meeting._keys == pair.acceptor.meeting._keys != keys
    assert pair.opener.meeting.turn.number == pair.turns(Role.OPENER)().heard
    pair.acceptor.send_data(b"y")
    assert text(pair.pass_on()[Role.OPENER]) == b"y"
    assert pair.opener.number == 1


def test_a_turn_that_has_passed_is_not_taken_and_the_next_one_is():
    pair = met()
    pair.chat()
    pair.now += 61
    pair.opener.send_data(b"x")
    proposal = pair.said(pair.opener)
    pair.chat(2)
    before = pair.acceptor.meeting.turn
    assert text(pair.acceptor.receive_data(proposal, pair.now)) == b"x"
    pair.pass_on()
    assert pair.opener.meeting.turn == pair.acceptor.meeting.turn == before
    rekeyed(pair)
    assert pair.opener.meeting.turn == pair.acceptor.meeting.turn != before


def test_new_keys_after_many_records_without_a_turn(monkeypatch):
    monkeypatch.setattr(meeting, "REKEY_RECORDS", 5)
    pair = met()
    keys, turn = pair.opener.meeting._keys, pair.opener.meeting.turn
    for _ in range(8):
        pair.opener.send_data(b"x")
        pair.pass_on()
    assert pair.opener.meeting._keys == pair.acceptor.meeting._keys != keys
    assert pair.opener.meeting.turn == turn


def test_who_is_told_not_now_asks_again_a_minute_later(monkeypatch):
    """Also where many records are due to have new keys: else the two would say nothing else to each other."""
    monkeypatch.setattr(meeting, "REKEY_RECORDS", 5)
    pair = met()
    turns, pair.acceptor.meeting._turns = pair.acceptor.meeting._turns, lambda: None
    asked = 0
    for _ in range(20):
        pair.opener.send_data(b"x")
        pair.acceptor.receive_data(pair.said(pair.opener), pair.now)
        asked += pair.opener.meeting._proposed is not None
        pair.opener.receive_data(pair.said(pair.acceptor), pair.now)
    assert asked == 1
    pair.acceptor.meeting._turns = turns
    keys = pair.opener.meeting._keys
    rekeyed(pair)
    assert pair.opener.meeting._keys == pair.acceptor.meeting._keys != keys


def test_keys_that_are_used_up_end_the_meeting(monkeypatch):
    pair = met()
    monkeypatch.setattr(meeting, "MAX_RECORDS", 4)
    monkeypatch.setattr(records, "MAX_RECORDS", 4)
    for _ in range(6):
        pair.opener.send_data(b"x")
        pair.pass_on()
    assert pair.opener.stalled(pair.now)
    assert pair.opener.deadline() <= pair.now
    assert not pair.opener.data_to_send(pair.now)


def test_without_a_session_there_is_no_meeting():
    pair = Pair()
    with pytest.raises(TurnsApartError):
        pair.opener.begin_meeting(lambda: None, pair.now, pair.rng)
    pair.opener.end_meeting()
    assert pair.opener.number == 1


def test_turns_that_are_apart_end_the_meeting():
    pair = Pair()
    pair.meet()
    hello = pair.said(pair.opener)
    pair.acceptor.end_meeting()
    pair.chat(2)
    pair.acceptor.number = 1
    pair.acceptor.begin_meeting(pair.turns(Role.ACCEPTOR), pair.now, pair.rng)
    [event] = pair.acceptor.receive_data(hello, pair.now)
    assert isinstance(event, MeetingFailed)
    assert isinstance(event.error, TurnsApartError)


# ---- a hostile way ------------------------------------------------------------------------------


@pytest.mark.parametrize("where", range(0, 512, 9))
def test_an_altered_byte_ends_the_meeting_and_nothing_else(where):
    pair = Pair()
    pair.meet()
    pair.opener.send_data(b"text")
    pair.acceptor.receive_data(pair.said(pair.opener), pair.now) if where >= 256 else None
    if where >= 256:
        pair.opener.receive_data(pair.said(pair.acceptor), pair.now)
    wire = bytearray(pair.said(pair.opener))
    wire[where % 256] ^= 0x80
    events = pair.acceptor.receive_data(bytes(wire) + bytes(65536), pair.now)
    assert [type(event) for event in events] == [MeetingFailed]
    pair.part()
    pair.meet()
    assert text(pair.pass_on()[Role.ACCEPTOR]) == b"text"


@pytest.mark.parametrize("what", ["reflected", "of another meeting", "of another stream"])
def test_foreign_hellos(what):
    pair, other = Pair(), Pair()
    if what == "of another stream":
        other.acceptor = SealedStream(Seed(bytes(16), bytes(32)), Role.ACCEPTOR)
    elif what == "of another meeting":
        other.acceptor.number = 2
    other.acceptor.begin_meeting(other.turns(Role.ACCEPTOR), other.now, other.rng)
    pair.meet()
    hello = pair.said(pair.opener) if what == "reflected" else other.said(other.acceptor)
    assert [type(event) for event in pair.opener.receive_data(hello, pair.now)] == [MeetingFailed]


def test_a_recorded_meeting_cannot_be_played_again():
    pair = met()
    pair.opener.send_data(b"pay ten")
    pair.pass_on()
    recorded = b"".join(pair.log[Role.OPENER])
    pair.acceptor.end_meeting()
    pair.acceptor.number = 1  # as if it came to the same meeting again
    pair.acceptor.begin_meeting(pair.turns(Role.ACCEPTOR), pair.now, pair.rng)
    events = pair.acceptor.receive_data(recorded, pair.now)
    assert [type(event) for event in events] == [MeetingFailed]
    assert text(events) == b""


def test_who_knows_the_seed_alone_reads_and_says_nothing():
    """A thief of the signal at the rendezvous: good hellos, no secret of a turn."""
    pair, thief = Pair(), Pair()
    _alice, _bob = pair.people
    pair.opener.begin_meeting(pair.turns(Role.OPENER), pair.now, pair.rng)

    def guessed():
        secrets = pair.turns(Role.ACCEPTOR)()
        secrets.secrets.update(dict.fromkeys(secrets.secrets, bytes(32)))
        return secrets

    thief.acceptor.begin_meeting(guessed, pair.now, thief.rng)
    pair.opener.receive_data(pair.said(pair.opener) and thief.said(thief.acceptor), pair.now)
    thief.acceptor.receive_data(pair.log[Role.OPENER][0], pair.now)
    pair.opener.send_data(b"secret")
    for one, other in ((pair.opener, thief.acceptor), (thief.acceptor, pair.opener)):
        events = other.receive_data(b"".join(one.data_to_send(pair.now)), pair.now)
        assert [type(event) for event in events] == [MeetingFailed]


# ---- a hostile peer -----------------------------------------------------------------------------


HOSTILE = {
    "a gap": [Data(5, b"x")],
    "twice": [Data(0, b"x"), Data(0, b"x")],
    "beyond the limit": [Data(0, bytes(65_000))] + [Data(65_000 * n, bytes(65_000)) for n in range(1, 5)],
    "behind the end": [Data(0, b"x"), Eof(1), Data(1, b"y")],
    "two ends": [Eof(0), Eof(0)],
    "an end in a gap": [Eof(7)],
    "an acknowledgement of nothing": [Window(1, 1000)],
    "GONE": [Gone()],
    "SWITCH": [Switch()],
    "REKEYED": [Rekeyed(bytes(32))],
    "NOT_NOW": [NotNow()],
    "an earlier turn": [Rekey(b"\x09" + bytes(31), Turn(b"", 0))],
    "a key of low order": [Rekey(bytes(32), Turn(b"", 1000))],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_peer_that_breaks_a_rule_ends_the_stream(name):
    pair = met()
    failed = []
    for frame in HOSTILE[name]:
        if isinstance(frame, Rekey):
            frame.turn = Turn(pair.session(Role.OPENER).key, frame.turn.number)
        parts = [Data.header(frame.offset, len(frame.data)), frame.data] if isinstance(frame, Data) else [
            frame.serialize()
        ]  # fmt: skip
        length = sum(map(len, parts))
        record = pair.opener.meeting.seal(parts, length, 4 if length > 200 else 0)
        failed += [
            event for event in pair.acceptor.receive_data(record, pair.now) if isinstance(event, StreamFailed)
        ]
    assert len(failed) == 1
    events = pair.pass_on()[Role.OPENER]
    assert [event.reason for event in events if isinstance(event, StreamReset)] == [Reason.GENERAL]
    assert pair.acceptor.finished


def test_keys_spoken_of_among_other_things():
    pair = met()
    said = NotNow().serialize() + Gone().serialize()
    events = pair.opener.receive_data(pair.acceptor.meeting.seal((said,), len(said), 0), pair.now)
    assert [type(event) for event in events] == [StreamFailed]


# ---- ends ---------------------------------------------------------------------------------------


def test_a_reset_is_heard_and_answered():
    pair = met()
    pair.opener.send_data(bytes(100_000))
    pair.opener.reset(Reason.LIMIT)
    events = pair.pass_on()
    assert [event.reason for event in events[Role.ACCEPTOR]] == [Reason.LIMIT]
    assert pair.opener.finished
    assert pair.acceptor.finished
    pair.opener.send_data(b"nothing")
    pair.opener.send_eof()
    assert not pair.said(pair.opener)


def test_resets_that_cross():
    pair = met()
    pair.opener.reset(Reason.LIMIT)
    pair.acceptor.reset(Reason.CANCELLED)
    pair.pass_on()
    assert pair.opener.finished
    assert pair.acceptor.finished


def test_a_reset_that_got_lost_is_said_again():
    pair = met()
    pair.opener.reset(Reason.LIMIT)
    assert pair.said(pair.opener)
    pair.part()
    pair.meet()
    assert [type(event) for event in pair.pass_on()[Role.ACCEPTOR]] == [StreamReset]
    assert pair.opener.finished


# ---- numbers, time ------------------------------------------------------------------------------


def test_summons():
    stream = SealedStream(SEED, Role.OPENER)
    assert stream.summoned(1) is Summons.COME
    assert stream.summoned(4) is Summons.FOLLOW
    assert stream.number == 4
    assert stream.summoned(3) is Summons.CORRECT
    pair = met()
    assert pair.opener.summoned(1) is None
    assert pair.opener.meeting is not None
    assert pair.opener.summoned(2) is Summons.FOLLOW
    assert pair.opener.meeting is None
    pair.opener.number = 2**32 - 1
    pair.opener.skip_meeting()
    assert pair.opener.number == 2**32 - 1


def test_an_acknowledgement_waits_a_little_and_no_longer():
    pair = met()
    pair.opener.send_data(b"x")
    pair.acceptor.receive_data(pair.said(pair.opener), pair.now)
    assert not pair.said(pair.acceptor)
    due = pair.acceptor.deadline()
    assert pair.now < due <= pair.now + 0.11
    pair.now = due
    assert pair.said(pair.acceptor)
    assert pair.acceptor.deadline() is None


def test_a_peer_that_says_nothing_more_is_noticed():
    pair = met()
    pair.now += 1000
    assert not pair.opener.stalled(pair.now)  # nothing is expected
    pair.opener.send_data(b"x")
    pair.said(pair.opener)
    assert pair.opener.deadline() == pair.now + 60
    assert not pair.opener.stalled(pair.now + 59)
    assert pair.opener.stalled(pair.now + 60)


def test_a_hello_that_never_comes_is_noticed():
    pair = Pair()
    pair.meet()
    assert pair.opener.stalled(pair.now + 60)
