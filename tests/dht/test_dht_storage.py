"""What a node keeps: who may write what, how places are shared, and that nothing outlives its epoch."""

from random import Random

import pytest
from dht_records import CHEAP, DAY, EPOCH, NOW, draw, flip, sealed
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.dht import storage as module
from ptproxy.dht.epoch import begins, ends, opens
from ptproxy.dht.quota import FAILURES_AT_ONCE, FAILURES_PER_SECOND, WRITES_AT_ONCE
from ptproxy.dht.record import Copies, Record, RecordError, RecordHeader
from ptproxy.dht.record_secret import RecordSecret
from ptproxy.dht.storage import (
    HAND_ON,
    RecordStorage,
    Refusal,
    StoredRecord,
    Write,
    WriteRefusedError,
)
from ptproxy.dht.work import WorkTarget
from ptproxy.errors import StateError

GUARD = 1 << 200


def new_storage(capacity=1_000, target=CHEAP, **more):
    return RecordStorage(draw("storage"), target, capacity, **more)


def record(name="a", **more):
    return sealed(secret=RecordSecret(draw(("record", name))(32)), **more)


def write(storage, sealed_record, guard=GUARD, now=NOW, location=None, token=None):
    """Write a record at its first location, having asked before."""
    location = sealed_record.header.locations()[0] if location is None else location
    token = storage.token(location, guard, now) if token is None else token
    storage.write(Write(location, token, sealed_record.serialize()), guard, now)
    return location


def refusal(storage, sealed_record, **more):
    with pytest.raises(WriteRefusedError) as caught:
        write(storage, sealed_record, **more)
    return caught.value.refusal


def test_what_was_written_is_read():
    storage, one = new_storage(), record()
    location = write(storage, one)
    assert storage.read(location, NOW) == one.serialize()
    assert storage.read(location ^ 1, NOW) is None
    assert len(storage) == 1


def test_at_each_of_its_locations_and_no_other():
    storage, one = new_storage(), record()
    for location in one.header.locations():
        write(storage, one, location=location)
    assert len(storage) == 3
    assert refusal(storage, one, location=one.header.locations()[0] ^ 1) is Refusal.ELSEWHERE
    assert refusal(storage, one, location=record("b").header.locations()[0]) is Refusal.ELSEWHERE


def test_only_near_the_node():
    """One set of records must not fill all nodes of the network: what is near the node's table says."""
    near = set()
    storage, one = new_storage(near=near.__contains__), record()
    location = one.header.locations()[0]
    assert refusal(storage, one) is Refusal.ELSEWHERE
    near.add(location)
    write(storage, one)
    assert refusal(storage, one, location=one.header.locations()[1]) is Refusal.ELSEWHERE


def test_a_token_is_needed():
    storage, one = new_storage(), record()
    here, there = one.header.locations()[:2]
    for token in (b"", bytes(16), storage.token(there, GUARD, NOW), storage.token(here, GUARD + 1, NOW)):
        assert refusal(storage, one, token=token) is Refusal.TOKEN
    assert refusal(storage, one, token=storage.token(here, GUARD, NOW - 1_000)) is Refusal.TOKEN
    assert len(storage) == 0


@given(st.binary(max_size=100) | st.binary(min_size=2_048, max_size=2_048))
def test_garbage(data):
    storage = new_storage()
    with pytest.raises(WriteRefusedError) as caught:
        storage.write(Write(5, storage.token(5, GUARD, NOW), data), GUARD, NOW)
    assert caught.value.refusal in (Refusal.MALFORMED, Refusal.NOT_OPEN, Refusal.ELSEWHERE)


def test_forged_bytes_of_a_record():
    storage, one = new_storage(), record()
    here, data = one.header.locations()[0], one.serialize()
    for position in range(0, 2_048, 7):
        with pytest.raises(WriteRefusedError):
            storage.write(Write(here, storage.token(here, GUARD, NOW), flip(data, position, 2)), GUARD, NOW)
    assert len(storage) == 0


def test_work_is_asked_for_once_for_a_key_and_epoch(monkeypatch):
    strict = WorkTarget(8, 8)
    storage = new_storage(target=strict)
    assert refusal(storage, record(target=WorkTarget(0, 8))) is Refusal.MALFORMED
    checks = []
    real = RecordHeader.check_work
    monkeypatch.setattr(RecordHeader, "check_work", lambda *a: checks.append(a) or real(*a))
    for sequence in range(3):
        write(storage, record(target=strict, sequence=sequence))
    assert len(checks) == 1


def test_what_cheap_examination_refuses_costs_neither_signature_nor_work(monkeypatch):
    storage, one = new_storage(), record()
    write(storage, one)
    monkeypatch.setattr(Record, "verify", lambda _: pytest.fail("looked at the signature"))
    monkeypatch.setattr(RecordHeader, "check_work", lambda *_: pytest.fail("looked at the work"))
    write(storage, one)
    assert refusal(storage, one, token=bytes(16)) is Refusal.TOKEN
    assert refusal(storage, record(epoch=EPOCH - 1)) is Refusal.NOT_OPEN
    assert refusal(storage, one, location=7) is Refusal.ELSEWHERE
    assert refusal(storage, record(content=b"other", sequence=0)) is Refusal.STALE


def test_the_higher_sequence_counts():
    storage = new_storage()
    location = write(storage, record(sequence=5))
    for sequence in (0, 4):
        with pytest.raises(WriteRefusedError) as caught:
            write(storage, record(sequence=sequence))
        assert (caught.value.refusal, caught.value.held) == (Refusal.STALE, 5)
    assert refusal(storage, record(content=b"another", sequence=5)) is Refusal.STALE
    newer = record(content=b"newer", sequence=6)
    write(storage, newer, guard=GUARD + 1)
    assert storage.read(location, NOW) == newer.serialize()
    assert len(storage) == 1


def test_only_while_its_epoch_is_open():
    storage, one = new_storage(), record()
    for now in (opens(EPOCH) - 0.1, ends(EPOCH), ends(EPOCH) + 1e6, 0.0):
        assert refusal(storage, one, now=now) is Refusal.NOT_OPEN
    write(storage, one, now=opens(EPOCH))
    write(storage, one, now=ends(EPOCH) - 0.1)


def test_nothing_outlives_its_epoch_whoever_brings_it_again():
    storage, one = new_storage(), record()
    location = write(storage, one, now=opens(EPOCH))
    other = write(storage, record("b", epoch=EPOCH + 1), now=ends(EPOCH) - 10)
    for hour in range(30):
        write(storage, one, guard=GUARD + hour, now=opens(EPOCH) + hour * 3_600)
    assert storage.read(location, ends(EPOCH) - 0.1)
    assert storage.read(location, ends(EPOCH)) is None
    assert storage.expire(ends(EPOCH)) == 1
    assert refusal(storage, one, now=ends(EPOCH)) is Refusal.NOT_OPEN
    assert storage.read(other, ends(EPOCH))
    assert len(storage) == 1


def test_what_is_over_makes_room_by_itself():
    storage = new_storage(capacity=3)
    for name in "abc":
        write(storage, record(name))
    assert refusal(storage, record("d")) is Refusal.FULL
    tomorrow = record("d", epoch=EPOCH + 1)
    write(storage, tomorrow, now=NOW + DAY)
    assert len(storage) == 1


def test_a_clock_that_jumps_back_harms_nothing():
    """It was set wrongly for a while: what is then not open yet is neither handed out nor lost."""
    storage = new_storage()
    location = write(storage, record("a", epoch=EPOCH + 1), now=NOW + DAY)
    write(storage, record("b"), now=NOW)
    assert storage.read(location, NOW) is None
    assert storage.read(location, NOW + DAY)


def test_the_quota_of_a_guard():
    storage, one = new_storage(), record()
    for _ in range(WRITES_AT_ONCE):
        write(storage, one)
    assert refusal(storage, one) is Refusal.QUOTA
    write(storage, one, guard=GUARD + 1)
    write(storage, one, now=NOW + 2)


def test_work_that_this_node_checks_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "NEW_KEYS_AT_ONCE", 3)
    storage = new_storage()
    for name in "abc":
        write(storage, record(name))
    assert refusal(storage, record("d")) is Refusal.BUSY
    write(storage, record("a", sequence=1))
    write(storage, record("d"), now=NOW + 1)


def has_work(sealed_record, target):
    try:
        sealed_record.header.check_work(target)
    except RecordError:
        return False
    return True


def test_whoever_brings_no_work_does_not_use_up_the_checks_of_others():
    strict = WorkTarget(6, 8)
    storage = new_storage(target=strict)
    lazy = [record(number, target=WorkTarget(0, 8)) for number in range(60)]
    idle = [one for one in lazy if not has_work(one, strict)][:30]
    answers = [refusal(storage, one, guard=66) for one in idle]
    assert answers == [Refusal.MALFORMED] * FAILURES_AT_ONCE + [Refusal.BUSY] * (30 - FAILURES_AT_ONCE)
    for number in range(2 * FAILURES_AT_ONCE):
        write(storage, record(("good", number), target=strict), guard=1)
    assert refusal(storage, record("x", target=strict), guard=66) is Refusal.BUSY
    write(storage, record("x", target=strict), guard=66, now=NOW + 1 / FAILURES_PER_SECOND)


# ---- places -----------------------------------------------------------------------------------


def test_a_flood_displaces_itself():
    storage = new_storage(capacity=10)
    honest = write(storage, record("honest"), guard=1)
    for number in range(9):
        write(storage, record(number), guard=2)
    assert refusal(storage, record("more"), guard=2) is Refusal.FULL
    newcomer = write(storage, record("newcomer"), guard=3)
    assert len(storage) == 10
    assert storage.read(honest, NOW)
    assert storage.read(newcomer, NOW)
    assert storage.read(record(8).header.locations()[0], NOW) is None
    assert storage.read(record(0).header.locations()[0], NOW)


def test_a_place_changes_hands_only_if_that_makes_shares_more_even():
    storage = new_storage(capacity=3)
    for number, guard in enumerate((1, 1, 2)):
        write(storage, record(number), guard=guard)
    assert refusal(storage, record("x"), guard=2) is Refusal.FULL
    assert refusal(storage, record("x"), guard=1) is Refusal.FULL
    write(storage, record("x"), guard=3)
    assert refusal(storage, record("y"), guard=4) is Refusal.FULL


@given(st.integers(0, 2**32))
def test_every_guard_has_its_even_share(seed):
    """Whatever others do: who holds less than an even share is never displaced, and finds a place."""
    rng, storage, capacity = Random(seed), new_storage(capacity=12), 12
    keeps = {}
    for number in range(40):
        guard = rng.choice([1, 1, 1, 1, 1, 2, 2, 3])
        try:
            location = write(storage, POOL[number], guard=guard)
        except WriteRefusedError:
            assert sum(one.guard == guard for one in storage.stored()) + 1 >= capacity // 3
            continue
        keeps.setdefault(guard, []).append(location)
        for held in keeps.values():
            if len(held) <= capacity // 3:
                assert all(storage.read(location, NOW) for location in held)
        assert len(storage) <= capacity


POOL = [record(("pool", number)) for number in range(40)]


def test_nobody_makes_a_record_theirs_to_have_it_displaced():
    """A flooder brings the victim's record first; when its own guard brings it, it counts for that one."""
    storage, victim = new_storage(capacity=5), record("victim")
    for number in range(4):
        write(storage, record(number), guard=66)
    location = write(storage, victim, guard=66)
    write(storage, victim, guard=1)
    assert {one.guard for one in storage.stored() if one.location == location} == {1}
    write(storage, victim, guard=66)
    assert {one.guard for one in storage.stored() if one.location == location} == {1}
    write(storage, record("other"), guard=2)
    assert storage.read(location, NOW)


# ---- copies -----------------------------------------------------------------------------------


def copy(storage, sealed_record, now=NOW):
    location = sealed_record.header.locations()[0]
    storage.write_copy(
        Write(location, storage.token(location, GUARD, now), sealed_record.serialize()), GUARD, now
    )
    return location


def test_copies_are_kept_for_an_hour_where_the_record_allows_it():
    storage = new_storage()
    location = copy(storage, record(copies=Copies.ON_THE_WAY))
    assert storage.read(location, NOW + 3_599)
    assert storage.read(location, NOW + 3_600) is None
    assert len(storage) == 0
    with pytest.raises(WriteRefusedError) as caught:
        copy(storage, record("private"))
    assert caught.value.refusal is Refusal.ELSEWHERE


def test_copies_are_bounded_and_give_way(monkeypatch):
    monkeypatch.setattr(module, "MAX_COPIES", 4)
    storage = new_storage()
    places = [copy(storage, record(number, copies=Copies.ON_THE_WAY)) for number in range(9)]
    assert [storage.read(place, NOW) is None for place in places] == [True] * 5 + [False] * 4
    newer = record(8, copies=Copies.ON_THE_WAY, sequence=1)
    write(storage, newer)
    assert storage.read(places[8], NOW) == newer.serialize()
    assert places[8] not in storage._copies
    with pytest.raises(WriteRefusedError):
        copy(storage, record(8, copies=Copies.ON_THE_WAY))
    storage.expire(NOW + 3_600)
    assert not storage._copies


# ---- upkeep, restart, beacon ------------------------------------------------------------------


def test_records_that_nobody_brings_are_handed_on_once_in_six_hours():
    storage = new_storage()
    here = begins(EPOCH)
    for number in range(20):
        write(storage, record(number), now=here)
    assert storage.due(here + 0.79 * HAND_ON, 100) == []
    half = storage.due(here + HAND_ON, 100)
    assert 0 < len(half) < 20
    waiting = [one for one in storage.stored() if one not in half]
    again = next(record(number) for number in range(20) if record(number).serialize() == waiting[0].data)
    write(storage, again, now=here + HAND_ON)
    late = storage.due(here + 1.21 * HAND_ON, 100)
    assert late == waiting[1:]
    assert storage.due(here + 1.21 * HAND_ON, 100) == []


def test_few_at_a_time():
    storage = new_storage()
    for number in range(10):
        write(storage, record(number))
    later = NOW + 2 * HAND_ON - 1
    assert [len(storage.due(later, 4)) for _ in range(4)] == [4, 4, 2, 0]
    assert storage.due(ends(EPOCH), 4) == []


def test_a_restart():
    storage = new_storage()
    places = [write(storage, record(name), guard=ord(name)) for name in "abc"]
    saved = [stored.serialize() for stored in storage.stored()]
    after = new_storage()
    for data in saved:
        after.restore(StoredRecord.parse(data), NOW + 5)
    assert [after.read(place, NOW) for place in places] == [storage.read(place, NOW) for place in places]
    assert [one.serialize() for one in after.stored()] == saved
    write(after, record("a", sequence=2), guard=9)


def test_a_restart_with_damage_or_long_after():
    storage = new_storage()
    write(storage, record())
    (data,) = [stored.serialize() for stored in storage.stored()]
    for position in (0, 80, 140, 1_000, len(data) - 1):
        with pytest.raises(WriteRefusedError):
            new_storage().restore(StoredRecord.parse(flip(data, position, 2)), NOW)
    with pytest.raises(WriteRefusedError) as caught:
        new_storage().restore(StoredRecord.parse(data), ends(EPOCH))
    assert caught.value.refusal is Refusal.NOT_OPEN
    with pytest.raises(WriteRefusedError):
        new_storage(capacity=0).restore(StoredRecord.parse(data), NOW)
    for damaged in (data[:-1], b"", flip(data, 72, 8)):
        with pytest.raises(StateError):
            StoredRecord.parse(damaged)


def test_places_follow_the_beacon():
    values = {EPOCH: b"1" * 32}
    storage, one = new_storage(beacon=values.get), record()
    assert refusal(storage, one) is Refusal.ELSEWHERE
    write(storage, one, location=one.header.locations(b"1" * 32)[2])
    tomorrow = record(epoch=EPOCH + 1)
    assert refusal(storage, tomorrow, now=NOW + DAY) is Refusal.ELSEWHERE
    values[EPOCH + 1] = b"2" * 32
    write(storage, tomorrow, now=NOW + DAY, location=tomorrow.header.locations(b"2" * 32)[0])
