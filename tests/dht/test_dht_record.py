"""Records as nodes see them: one size, one form, one key, three places."""

import pytest
from dht_records import CHEAP, EPOCH, SECRET, draw, flip, sealed
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.dht import record as records
from ptproxy.dht.record import HEADER, NO_BEACON, RECORD, Copies, Record, RecordError, RecordHeader
from ptproxy.dht.signing import SigningKey
from ptproxy.dht.work import WorkTarget

RECORD_BYTES = sealed().serialize()
LOW_ORDER = bytes((1,)) + bytes(31)


def test_round_trip():
    record = Record.parse(RECORD_BYTES)
    assert len(RECORD_BYTES) == RECORD == 2_048
    assert record.serialize() == RECORD_BYTES
    assert record.header.epoch == EPOCH
    record.verify()
    record.header.check_work(CHEAP)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.sampled_from(Copies), st.binary(max_size=500))
def test_any_header_round_trips(epoch, sequence, copies, content):
    signer = SigningKey(bytes(32))
    header = RecordHeader(copies, epoch, sequence, bytes(16), signer.public)
    assert len(header.serialize()) == HEADER
    record = Record.sign(header, content.ljust(records.SEALED, b"x"), signer)
    assert Record.parse(record.serialize()) == record
    record.verify()


@given(
    st.binary(max_size=100) | st.binary(min_size=RECORD, max_size=RECORD) | st.binary().map(b"\1\0".__add__)
)
def test_garbage(data):
    with pytest.raises(RecordError):
        Record.parse(data).verify()
    with pytest.raises(RecordError):
        RecordHeader.parse(data[:57])
    assert records.judge(data, 5, EPOCH) is None


def test_any_other_length():
    for data in (RECORD_BYTES[:-1], RECORD_BYTES + b"\0", b"", RECORD_BYTES * 2):
        with pytest.raises(RecordError):
            Record.parse(data)


def test_every_byte_counts():
    for position in range(RECORD):
        with pytest.raises(RecordError):
            Record.parse(flip(RECORD_BYTES, position, 0x10)).verify()


def test_versions_and_copies_that_nobody_knows():
    with pytest.raises(RecordError, match="version"):
        Record.parse(flip(RECORD_BYTES, 0, 3))
    with pytest.raises(RecordError, match="keep"):
        Record.parse(flip(RECORD_BYTES, 1, 2))


def test_under_a_key_of_low_order_nothing_verifies():
    """R = the neutral element, S = 0 would else verify under it for any message."""
    header = RecordHeader(Copies.AT_ITS_LOCATIONS, EPOCH, 1, bytes(16), LOW_ORDER)
    forged = Record(header, bytes(records.SEALED), LOW_ORDER + bytes(32))
    with pytest.raises(RecordError):
        forged.verify()


def test_a_key_signs_records_only_as_records():
    """What it signs under another label does not pass for a record."""
    signer = SigningKey(draw("signer")(32))
    header = RecordHeader(Copies.AT_ITS_LOCATIONS, EPOCH, 1, bytes(16), signer.public)
    said = header.serialize() + bytes(records.SEALED)
    with pytest.raises(RecordError):
        Record(header, bytes(records.SEALED), signer.sign(b"ptproxy 1 dht other ", said)).verify()


def test_work_is_for_one_key_and_epoch():
    strict = WorkTarget(10, 8)
    keys, other = SECRET.keys(1, EPOCH), SECRET.keys(1, EPOCH + 1)
    nonce = keys.find_work(strict, 0, 100_000)
    RecordHeader(Copies.AT_ITS_LOCATIONS, EPOCH, 7, nonce, keys.public).check_work(strict)
    for epoch, key in [(EPOCH + 1, keys.public), (EPOCH, other.public)]:
        with pytest.raises(RecordError, match="work"):
            RecordHeader(Copies.AT_ITS_LOCATIONS, epoch, 7, nonce, key).check_work(strict)


def test_places():
    key, other = draw("key")(32), draw("other")(32)
    places = records.locations(key, EPOCH)
    assert len(set(places)) == 3
    others = [
        records.locations(other, EPOCH),
        records.locations(key, EPOCH + 1),
        records.locations(key, EPOCH, b"\1" * 32),
    ]
    assert not set(places) & {place for one in others for place in one}
    assert places == records.locations(key, EPOCH, NO_BEACON)
    assert RecordHeader.parse(RECORD_BYTES).locations() == SECRET.keys(1, EPOCH).locations()


def test_judging_without_the_secret():
    header = RecordHeader.parse(RECORD_BYTES)
    here = header.locations()[1]
    assert records.judge(RECORD_BYTES, here, EPOCH) == 0
    assert records.judge(sealed(sequence=9).serialize(), here, EPOCH) == 9
    assert records.judge(RECORD_BYTES, here ^ 1, EPOCH) is None
    assert records.judge(RECORD_BYTES, here, EPOCH + 1) is None
    assert records.judge(RECORD_BYTES, here, EPOCH, b"\1" * 32) is None
    assert records.judge(flip(RECORD_BYTES, 1_000), here, EPOCH) is None
