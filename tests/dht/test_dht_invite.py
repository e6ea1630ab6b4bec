"""Invites and what records say: of bridges, of prekeys, of mailboxes."""

import base64
from dataclasses import replace

import pytest
from dht_records import BRIDGES, ISSUER, NOW, bridge, draw, flip
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.dht.bridge_record import BridgeBucket
from ptproxy.dht.invite import MAX_TEXT, PREFIX, Invite, InviteError, InviteExpiredError
from ptproxy.dht.person_record import MAX_PASSES, MailboxPointer, PrekeyBundleRecord
from ptproxy.dht.record import RecordError
from ptproxy.dht.record_secret import MAX_CONTENT
from ptproxy.dht.signing import SigningKey
from ptproxy.errors import LocalProtocolError

INVITE = Invite.issue(ISSUER, BRIDGES, NOW + 1_000, draw("invite"))
TEXT = INVITE.serialize()


def long_bridge(number, length):
    path = "/" + "p" * (length - 1)
    return bridge(number, path=path[:256], pages=("/", *(f"/{page}{'x' * 250}" for page in range(3))))


def encoded(data):
    return PREFIX + base64.urlsafe_b64encode(data).decode().rstrip("=")


def data_of(text):
    body = text.removeprefix(PREFIX)
    return base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))


# ---- bridge buckets ---------------------------------------------------------------------------


@pytest.mark.parametrize("count", range(4))
def test_a_bucket_round_trips(count):
    bucket = BridgeBucket(BRIDGES[:count])
    assert BridgeBucket.parse(bucket.serialize()) == bucket


@given(
    st.binary(max_size=300)
    | st.binary(max_size=40).map(lambda tail: BridgeBucket(BRIDGES).serialize() + tail)
)
def test_garbage_is_no_bucket(data):
    if data not in (bytes(1), BridgeBucket(BRIDGES).serialize()):
        with pytest.raises(RecordError):
            BridgeBucket.parse(data)


@given(st.integers(0, 2_000))
def test_a_bucket_cut_anywhere(cut):
    data = BridgeBucket(BRIDGES).serialize()
    if cut < len(data):
        with pytest.raises(RecordError):
            BridgeBucket.parse(data[:cut])


def test_buckets_that_cannot_be():
    with pytest.raises(LocalProtocolError):
        BridgeBucket((*BRIDGES, bridge(4)))
    with pytest.raises(LocalProtocolError):
        BridgeBucket((bridge(1), bridge(1)))
    with pytest.raises(LocalProtocolError, match="fewer pages"):
        BridgeBucket(tuple(long_bridge(number, 250) for number in range(3))).serialize()


def lines(*texts):
    return bytes((len(texts),)) + b"".join(len(text).to_bytes(2, "big") + text for text in texts)


@pytest.mark.parametrize(
    "data",
    [
        lines(*(bridge(number).serialize().encode() for number in range(4))),
        lines(bridge(1).serialize().encode(), bridge(1).serialize().encode()),
        lines(bridge(1).serialize().encode() + b" "),
        lines(bridge(1).serialize().encode().replace(b"&codecs=", b"&name=bridge1.example.com&codecs=")),
        lines("ptproxy://\u00e4".encode()),
        lines(b""),
    ],
    ids=["four", "one twice", "white space", "another spelling", "not ASCII", "empty"],
)
def test_hostile_buckets(data):
    with pytest.raises(RecordError):
        BridgeBucket.parse(data)


# ---- invites ----------------------------------------------------------------------------------


@given(st.integers(0, 2**53), st.integers(1, 3), st.binary(min_size=32, max_size=32))
def test_an_invite_round_trips(expires, count, secret):
    invite = Invite.issue(ISSUER, BRIDGES[:count], expires, lambda _: secret)
    assert Invite.parse(invite.serialize()) == invite
    assert Invite.parse(f"\n {invite.serialize()}\t") == invite
    assert invite.secret.data == secret


def test_it_fits_a_qr_code():
    assert len(TEXT) < 900
    longest = BridgeBucket((long_bridge(1, 256),)).serialize()
    assert len(longest) < MAX_CONTENT
    assert len(encoded(bytes(1 + 32 + 32 + 8 + MAX_CONTENT + 64))) == 2_639 < MAX_TEXT


@given(st.text(max_size=60) | st.text("ABCabc123-_=+/", max_size=60).map(PREFIX.__add__))
def test_garbage_is_no_invite(text):
    with pytest.raises(InviteError):
        Invite.parse(text)


@given(st.binary(max_size=400))
def test_encoded_garbage_is_no_invite(data):
    for start in (b"", data_of(TEXT)[:73]):
        with pytest.raises(InviteError):
            Invite.parse(encoded(start + data))


def test_every_byte_of_an_invite_counts():
    data = data_of(TEXT)
    for position in range(len(data)):
        with pytest.raises(InviteError):
            Invite.parse(encoded(flip(data, position, 0x04)))


def test_something_behind_an_invite():
    with pytest.raises(InviteError, match="cut short, or damaged"):
        Invite.parse(encoded(data_of(TEXT) + b"x"))


def test_an_invite_cut_anywhere():
    for cut in range(len(TEXT)):
        with pytest.raises(InviteError):
            Invite.parse(TEXT[:cut])


def test_one_spelling_only():
    for text in (TEXT + "=", TEXT + "A", TEXT.upper(), TEXT[:40] + "\n" + TEXT[40:], TEXT + "\u00e4"):
        with pytest.raises(InviteError):
            Invite.parse(text)
    standard = TEXT.replace("-", "+").replace("_", "/")
    assert standard != TEXT
    with pytest.raises(InviteError):
        Invite.parse(standard.replace("ptproxy+invite", "ptproxy-invite"))
    with pytest.raises(InviteError, match=str(MAX_TEXT)):
        Invite.parse(PREFIX + "A" * MAX_TEXT)


def test_an_invite_signed_by_another_issuer():
    eve = Invite.issue(SigningKey(draw("eve")(32)), BRIDGES, INVITE.expires, draw("invite"))
    mixed = replace(eve, issuer=INVITE.issuer)
    with pytest.raises(InviteError, match="changed"):
        Invite.parse(mixed.serialize())


def test_invites_that_cannot_be():
    with pytest.raises(LocalProtocolError):
        Invite.issue(ISSUER, (), NOW, draw("x"))
    with pytest.raises(LocalProtocolError):
        Invite.issue(ISSUER, BRIDGES, -1, draw("x"))
    no_bridge = bytes((1,)) + ISSUER.public + bytes(40) + b"\0"
    with pytest.raises(InviteError, match="no bridge"):
        Invite.parse(encoded(no_bridge + ISSUER.sign(b"ptproxy 1 dht invite ", no_bridge)))
    for_ever = data_of(TEXT)[:65] + b"\xff" * 8 + data_of(TEXT)[73:-64]
    with pytest.raises(InviteError, match="impossible time"):
        Invite.parse(encoded(for_ever + ISSUER.sign(b"ptproxy 1 dht invite ", for_ever)))


def test_expiry():
    INVITE.check_time(INVITE.expires - 0.1)
    with pytest.raises(InviteExpiredError, match="new one"):
        INVITE.check_time(INVITE.expires)


def test_an_invite_shows_neither_bridges_nor_secrets():
    for shown in (repr(INVITE), repr(BridgeBucket(BRIDGES)), repr(MailboxPointer(bridge(1), b"pass"))):
        assert "example" not in shown
        assert "pass" not in shown.replace("passes", "")
    assert INVITE.secret.data.hex() not in repr(INVITE)
    assert repr(INVITE.secret.data) not in repr(INVITE)


def test_ids_name_invites_and_nothing_else():
    other = Invite.issue(ISSUER, BRIDGES, INVITE.expires, draw("another"))
    assert INVITE.id == Invite.parse(TEXT).id != other.id
    assert len(INVITE.id) == 16
    assert INVITE.id not in data_of(TEXT)


# ---- people -----------------------------------------------------------------------------------


@given(st.binary(min_size=1, max_size=MAX_CONTENT))
def test_a_prekey_bundle_round_trips(bundle):
    assert PrekeyBundleRecord.parse(PrekeyBundleRecord(bundle).serialize()).bundle == bundle


def test_bundles_of_impossible_lengths():
    for bundle in (b"", bytes(MAX_CONTENT + 1)):
        with pytest.raises(RecordError):
            PrekeyBundleRecord.parse(bundle)
        with pytest.raises(LocalProtocolError):
            PrekeyBundleRecord(bundle)


@given(st.binary(max_size=MAX_PASSES))
def test_a_mailbox_pointer_round_trips(passes):
    pointer = MailboxPointer(bridge(1), passes)
    assert MailboxPointer.parse(pointer.serialize()) == pointer


@given(st.binary(max_size=200))
def test_garbage_is_no_mailbox_pointer(data):
    with pytest.raises(RecordError):
        MailboxPointer.parse(data)


def test_mailbox_pointers_that_cannot_be():
    with pytest.raises(RecordError, match="passes"):
        MailboxPointer.parse(MailboxPointer(bridge(1), b"").serialize() + bytes(MAX_PASSES + 1))
    with pytest.raises(LocalProtocolError):
        MailboxPointer(bridge(1), bytes(MAX_PASSES + 1))
    with pytest.raises(LocalProtocolError):
        MailboxPointer(long_bridge(1, 256), bytes(MAX_PASSES)).serialize()
