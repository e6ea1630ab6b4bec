"""Safety numbers as both sides see them."""

from __future__ import annotations

import hashlib

from ptproxy.e2e import Fingerprint
from ptproxy.peers.chat.safety import digit_rows, word_rows

ANNA, BEN = (Fingerprint(hashlib.sha256(name).digest()) for name in (b"anna", b"ben"))


def test_numbers_stand_in_rows_and_read_back_match() -> None:
    pair = Fingerprint.of_pair(ANNA, BEN)
    digits, words = digit_rows(pair), word_rows(pair)
    assert [len(row) for row in digits] == [len(row) for row in words] == [23, 23, 23]
    assert pair.matches("\n".join(digits))
    assert pair.matches("  ".join(words).upper())
    assert not pair.matches("\n".join(digits[:2]))
