"""What people compare: three forms, exact, and forgiving only of how they are typed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.e2e import Fingerprint
from ptproxy.errors import E2EError

fingerprints = st.binary(min_size=32, max_size=32).map(Fingerprint)


def test_forms():
    fingerprint = Fingerprint(bytes((127, 0, 0, 1, 63, 84, 220, 193)) + bytes(24))
    assert fingerprint.words().split()[:4] == ["lusab", "babad", "gutih", "tugad"]  # arXiv 0901.4016's own
    assert fingerprint.words().split()[4:] == ["babab"] * 8
    assert Fingerprint(bytes(31) + b"\x07").digits() == "00000 " * 11 + "00007"
    assert Fingerprint((10**60 + 12345).to_bytes(32, "big")).digits() == "00000 " * 11 + "12345"
    assert fingerprint.qr_text() == "PTPROXY:E2E1:P4AAAAJ7KTOMC" + "A" * 39
    assert set(fingerprint.qr_text()) <= set("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:")


@given(fingerprint=fingerprints)
def test_each_form_is_recognised_however_it_is_typed(fingerprint):
    digits, words = fingerprint.digits(), fingerprint.words()
    assert [len(group) for group in digits.split(" ")] == [5] * 12
    assert [len(word) for word in words.split(" ")] == [5] * 12
    persian = digits.translate({ord(str(value)): chr(0x6F0 + value) for value in range(10)})
    for text in (
        digits,
        digits.replace(" ", ""),
        digits.replace(" ", "-\n"),
        persian,
        words,
        words.upper().replace(" ", "-"),
        fingerprint.qr_text(),
        fingerprint.qr_text().lower(),
    ):
        assert fingerprint.matches(text)
    assert Fingerprint.parse_qr(fingerprint.qr_text()) == fingerprint


@given(fingerprint=fingerprints, bit=st.integers(64, 255))
def test_another_one_does_not_match(fingerprint, bit):
    """Bits from 64 up: every form covers the first 24 bytes."""
    number = int.from_bytes(fingerprint.data, "big") ^ 1 << bit
    other = Fingerprint(number.to_bytes(32, "big"))
    for text in (other.digits(), other.words(), other.qr_text()):
        assert not fingerprint.matches(text)


@given(fingerprint=fingerprints, cut=st.integers(1, 30))
def test_a_part_is_not_enough(fingerprint, cut):
    for text in (fingerprint.digits(), fingerprint.words(), fingerprint.qr_text()):
        assert not fingerprint.matches(text[:-cut])
        assert not fingerprint.matches(text[cut:])
    assert not fingerprint.matches("")


@given(fingerprint=fingerprints, text=st.text(max_size=300))
def test_garbage_never_raises(fingerprint, text):
    assert not fingerprint.matches(text)
    with pytest.raises(E2EError):
        Fingerprint.parse_qr(text)


def test_qr_in_its_one_spelling_only():
    text = Fingerprint(bytes(32)).qr_text()
    assert Fingerprint.parse_qr(text).data == bytes(32)
    for other in (text.lower(), text[:-1] + "B", text[:-1], text + "A", text[:-1] + "1", "X" + text[1:]):
        with pytest.raises(E2EError):
            Fingerprint.parse_qr(other)


@given(one=fingerprints, other=fingerprints)
def test_of_a_pair(one, other):
    both = Fingerprint.of_pair(one, other)
    assert both == Fingerprint.of_pair(other, one)
    assert both not in (one, other)
    assert (Fingerprint.of_pair(one, one) == both) == (one == other)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_only_32_bytes(length):
    with pytest.raises(E2EError):
        Fingerprint(bytes(length))
