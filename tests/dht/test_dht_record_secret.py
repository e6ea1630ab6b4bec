"""The inside of records: who can make one, who can read it, and what a holder of the secret cannot do."""

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from dht_records import EPOCH, ISSUER, SECRET, draw, flip, sealed
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.dht import record as records
from ptproxy.dht.record import HEADER, Copies, Record, RecordError, RecordHeader
from ptproxy.dht.record_secret import MAX_CONTENT, RecordContent, RecordSecret, RecordType
from ptproxy.dht.signing import SigningKey
from ptproxy.errors import LocalProtocolError

BUCKET = RecordType.BRIDGE_BUCKET
KEYS = SECRET.keys(BUCKET, EPOCH)
DATA = sealed().serialize()


def open_(data, secret=SECRET, kind=BUCKET, epoch=EPOCH, issuer=ISSUER.public):
    return secret.keys(kind, epoch).open(data, issuer)


def forge(header, inside, keys=KEYS, associated=None):
    """What a holder of the secret can do: seal any inside under any header, and sign it."""
    nonce = bytes(12)
    said = header.serialize()
    ciphertext = keys._sealing.encrypt(nonce, inside, said if associated is None else associated)
    return Record.sign(header, nonce + ciphertext, keys._signer).serialize()


def inside_of(data, keys=KEYS):
    return keys._sealing.decrypt(data[HEADER : HEADER + 12], data[HEADER + 12 : -64], data[:HEADER])


@given(st.binary(max_size=MAX_CONTENT), st.integers(0, 2**32 - 1), st.sampled_from(RecordType))
def test_round_trip(content, sequence, kind):
    data = sealed(content, kind=kind, sequence=sequence).serialize()
    assert open_(data, kind=kind) == RecordContent(EPOCH, sequence, content)
    assert SECRET.keys(kind, EPOCH).judge(data, ISSUER.public) == sequence


def test_the_longest_content():
    assert len(open_(sealed(bytes(MAX_CONTENT)).serialize()).content) == MAX_CONTENT >= 1_754
    with pytest.raises(LocalProtocolError):
        sealed(bytes(MAX_CONTENT + 1))
    with pytest.raises(LocalProtocolError):
        sealed(sequence=2**32)
    with pytest.raises(LocalProtocolError):
        SECRET.keys(BUCKET, 2**32)


def test_every_byte_counts_for_readers_too():
    """All but those of the outer signature, which readers need not look at."""
    for position in range(len(DATA) - 64):
        with pytest.raises(RecordError):
            open_(flip(DATA, position, 0x10))


@given(
    st.binary(max_size=2_048)
    | st.binary(min_size=2_048, max_size=2_048).map(lambda d: DATA[:HEADER] + d[HEADER:])
)
def test_garbage(data):
    with pytest.raises(RecordError):
        open_(data)
    assert KEYS.judge(data, ISSUER.public) is None


@pytest.mark.parametrize(
    "other",
    [
        {"secret": RecordSecret(draw("another")(32))},
        {"kind": RecordType.MAILBOX_POINTER},
        {"epoch": EPOCH + 1},
        {"epoch": EPOCH - 1},
        {"issuer": SigningKey(draw("eve")(32)).public},
        {"issuer": KEYS.public},
        {"issuer": bytes(32)},
    ],
)
def test_with_anything_else_it_does_not_open(other):
    with pytest.raises(RecordError):
        open_(DATA, **other)


def test_whoever_has_the_secret_cannot_say_anything_in_the_issuers_name():
    eve = SigningKey(draw("eve")(32))
    header = RecordHeader.parse(DATA)
    inside = inside_of(DATA)
    changed = flip(inside, 5)
    for forged in (
        changed,
        changed[:-64] + eve.sign(b"ptproxy 1 dht inside ", DATA[:HEADER] + changed[:-64]),
        changed[:-64] + KEYS._signer.sign(b"ptproxy 1 dht inside ", DATA[:HEADER] + changed[:-64]),
        bytes(len(inside)),
    ):
        data = forge(header, forged)
        Record.parse(data).verify()
        with pytest.raises(RecordError, match="issuer"):
            open_(data)


@pytest.mark.parametrize(
    "change",
    [{"sequence": 1}, {"copies": Copies.ON_THE_WAY}, {"nonce": bytes(16)}],
    ids=lambda change: next(iter(change)),
)
def test_nor_put_the_issuers_words_under_another_header(change):
    header = RecordHeader.parse(DATA)
    fields = {name: getattr(header, name) for name in ("copies", "epoch", "sequence", "nonce", "key")}
    data = forge(RecordHeader(**fields | change), inside_of(DATA))
    Record.parse(data).verify()
    with pytest.raises(RecordError, match="issuer"):
        open_(data)


def test_nor_move_them_to_another_day_or_another_invite():
    inside = inside_of(DATA)
    for secret, epoch in [(SECRET, EPOCH + 1), (RecordSecret(draw("another")(32)), EPOCH)]:
        keys = secret.keys(BUCKET, epoch)
        header = RecordHeader(Copies.AT_ITS_LOCATIONS, epoch, 0, bytes(16), keys.public)
        data = forge(header, inside, keys)
        with pytest.raises(RecordError, match="issuer"):
            open_(data, secret, epoch=epoch)


def test_a_header_that_the_sealing_does_not_know():
    header = RecordHeader.parse(DATA)
    data = forge(header, inside_of(DATA), associated=b"")
    with pytest.raises(RecordError, match="open"):
        open_(data)


@pytest.mark.parametrize("what", ["type", "length", "padding"])
def test_an_inside_that_its_issuer_made_wrong(what):
    inside = inside_of(DATA)[:-64]
    wrong = {
        "type": bytes((3,)) + inside[1:],
        "length": inside[:1] + (MAX_CONTENT + 1).to_bytes(2, "big") + inside[3:],
        "padding": inside[:-1] + b"\1",
    }[what]
    signature = ISSUER.sign(b"ptproxy 1 dht inside ", DATA[:HEADER] + wrong)
    with pytest.raises(RecordError, match="wrong length inside"):
        open_(forge(RecordHeader.parse(DATA), wrong + signature))


def test_another_day_in_the_header_even_if_its_issuer_signed_it():
    header = RecordHeader(Copies.AT_ITS_LOCATIONS, EPOCH + 1, 0, bytes(16), KEYS.public)
    inside = inside_of(DATA)[:-64]
    signature = ISSUER.sign(b"ptproxy 1 dht inside ", header.serialize() + inside)
    with pytest.raises(RecordError, match="epoch"):
        open_(forge(header, inside + signature))


def test_the_newest_of_many_answers():
    good = [sealed(bytes((number,)), sequence=number).serialize() for number in range(4)]
    header = RecordHeader.parse(sealed(sequence=900).serialize())
    vandalised = forge(header, bytes(1_898))
    answers = [b"", flip(good[3], 700), good[1], vandalised, good[2], good[2], good[0]]
    assert KEYS.newest(answers, ISSUER.public) == RecordContent(EPOCH, 2, b"\2")
    assert KEYS.newest([], ISSUER.public) is None
    assert KEYS.newest([vandalised, b"x"], ISSUER.public) is None


def test_of_two_with_one_sequence_all_readers_take_the_same():
    one, other = sealed(b"one").serialize(), sealed(b"other").serialize()
    assert KEYS.newest([one, other], ISSUER.public) == KEYS.newest([other, one], ISSUER.public)


def test_order_is_by_epoch_first():
    assert RecordContent(5, 0, b"").order > RecordContent(4, 2**32 - 1, b"").order


def test_sealing_draws_a_nonce_each_time():
    assert sealed(rng=draw("a")).serialize() != sealed(rng=draw("b")).serialize()
    assert sealed(rng=draw("a")).serialize() == sealed(rng=draw("a")).serialize()


def test_nothing_secret_is_shown():
    shown = repr(SECRET) + repr(KEYS) + repr(ISSUER)
    assert SECRET.data.hex() not in shown
    assert repr(SECRET.data)[2:-1] not in shown
    assert "bridge_bucket" in repr(KEYS)
    with pytest.raises(ValueError, match="32"):
        RecordSecret(b"short")


def test_the_sealing_is_aes_gcm_with_the_header_as_associated_data():
    assert isinstance(KEYS._sealing, AESGCM)
    assert len(inside_of(DATA)) == records.SEALED - 28 == 1_898
