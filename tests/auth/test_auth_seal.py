"""Sealed records: any division comes back, any change is refused."""

import struct

import pytest
from auth_pair import flip, pieces
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given, settings
from hypothesis import strategies as st

from ptproxy.auth import Opener, Sealer, seal
from ptproxy.auth.seal import MAX_RECORD
from ptproxy.errors import AuthenticationError

KEY = bytes(range(32))
CONTENT = bytes(range(256)) * 200
lengths = st.integers(0, 300) | st.sampled_from(
    [MAX_RECORD - 1, MAX_RECORD, MAX_RECORD + 1, 2 * MAX_RECORD, 40_000]
)


def sealed(*chunks, key=KEY):
    return b"".join(Sealer(key).seal(chunks))


def opened(data, key=KEY):
    return b"".join(Opener(key).receive_data(data))


@given(
    sizes=st.lists(st.lists(lengths, max_size=5), max_size=4),
    cuts=st.lists(st.integers(0, 200_000), max_size=12),
    kind=st.sampled_from([bytes, bytearray, memoryview]),
)
@settings(max_examples=60)
def test_any_division_comes_back(sizes, cuts, kind):
    sealer, opener = Sealer(KEY), Opener(KEY)
    wire, plain = [], []
    for call in sizes:
        chunks = [kind(CONTENT[:size]) for size in call]
        plain += chunks
        wire += sealer.seal(chunks)
    assert all(type(part) is bytes for part in wire)
    got = [part for piece in pieces(b"".join(wire), cuts) for part in opener.receive_data(kind(piece))]
    assert b"".join(got) == b"".join(plain)
    assert all(0 < len(part) <= MAX_RECORD for part in got)


def test_what_was_opened_does_not_share_the_callers_buffer():
    data = bytearray(sealed(b"first", b"second") + sealed(b"x")[:0])
    got = Opener(KEY).receive_data(data)
    data[:] = bytes(len(data))
    assert got == [b"firstsecond"]


def test_small_chunks_share_a_record_and_large_ones_are_divided():
    assert len(Sealer(KEY).seal([b"a"] * 100)) == 2
    assert [len(part) for part in Sealer(KEY).seal([b"a" * 10, b"b" * MAX_RECORD])[1::2]] == [16400, 26]
    assert [len(part) for part in Sealer(KEY).seal([bytes(2 * MAX_RECORD)])[1::2]] == [16400, 16400]
    assert Sealer(KEY).seal([]) == Sealer(KEY).seal([b"", b""]) == []


def test_the_format_as_documented():
    """Built again from ``cryptography`` alone."""
    length_key = HKDFExpand(SHA256(), 32, b"length").derive(KEY)
    stream = Cipher(algorithms.AES(length_key), modes.CTR(bytes(16))).encryptor()
    sealer, expected = Sealer(KEY), b""
    for number, plaintext in enumerate([b"one", b"two" * 1000, b"3"]):
        expected += stream.update(struct.pack(">H", len(plaintext)))
        expected += AESGCM(KEY).encrypt(number.to_bytes(12, "big"), plaintext, None)
    assert (
        b"".join(part for text in (b"one", b"two" * 1000, b"3") for part in sealer.seal([text])) == expected
    )


@given(bit=st.integers(min_value=0))
def test_any_bit_flip_is_refused(bit):
    data = b"".join(Sealer(KEY).seal([b"x" * 50]))
    changed = flip(data, bit)
    with pytest.raises(AuthenticationError):  # the bytes behind are for a length made greater
        Opener(KEY).receive_data(changed + bytes(MAX_RECORD + 16))


def test_records_left_out_doubled_or_exchanged_are_refused():
    sealer = Sealer(KEY)
    one, two = (b"".join(sealer.seal([text])) for text in (b"one", b"two"))
    for wrong in (two, one + one, two + one):
        with pytest.raises(AuthenticationError):
            Opener(KEY).receive_data(wrong + bytes(20_000))
    assert opened(one + two) == b"onetwo"


@given(garbage=st.lists(st.binary(min_size=1, max_size=200), max_size=5))
def test_garbage_raises_only_authentication_error(garbage):
    opener = Opener(KEY)
    try:
        for part in garbage:
            assert opener.receive_data(part) == []
    except AuthenticationError:
        pass


def test_another_key_is_refused():
    with pytest.raises(AuthenticationError):
        Opener(bytes(32)).receive_data(sealed(b"x") + bytes(20_000))
    for kind in (Sealer, Opener):
        with pytest.raises(ValueError, match="32 bytes"):
            kind(bytes(16))


@pytest.mark.parametrize("length", [0, MAX_RECORD + 1, 65535])
def test_impossible_lengths(length):
    mask = seal._RecordKey(KEY).length_mask()
    with pytest.raises(AuthenticationError, match="length"):
        Opener(KEY).receive_data(struct.pack(">H", length ^ mask))


def test_keys_are_replaced_on_both_sides(monkeypatch):
    monkeypatch.setattr(seal, "REKEY_AFTER", 600)  # beyond one batch of length masks
    sealer, opener = Sealer(KEY), Opener(KEY)
    wire = []
    for number in range(1500):
        wire.append(b"".join(sealer.seal([b"%d" % number])))
        assert opener.receive_data(wire[-1]) == [b"%d" % number]
    following = HKDFExpand(SHA256(), 32, b"next").derive(KEY)
    assert opened(wire[600], following) == b"600"
    assert opened(wire[1200], HKDFExpand(SHA256(), 32, b"next").derive(following)) == b"1200"


def test_equal_content_does_not_look_equal():
    sealer = Sealer(KEY)
    heads = {sealer.seal([b"same"])[0] for _ in range(300)}
    assert len(heads) > 250


def test_reprs_hold_no_secret():
    for thing in (Sealer(KEY), Opener(KEY), seal._RecordKey(KEY)):
        assert repr(thing) == f"<{type(thing).__name__}>"
