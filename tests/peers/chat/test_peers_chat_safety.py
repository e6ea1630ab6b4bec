"""Safety numbers as both sides see them."""

from __future__ import annotations

import hashlib

import segno

from ptproxy.e2e import Fingerprint
from ptproxy.peers.chat.safety import QR_BORDER, digit_rows, qr_rows, word_rows

ANNA, BEN = (Fingerprint(hashlib.sha256(name).digest()) for name in (b"anna", b"ben"))


def test_numbers_stand_in_rows_and_read_back_match() -> None:
    pair = Fingerprint.of_pair(ANNA, BEN)
    digits, words = digit_rows(pair), word_rows(pair)
    assert [len(row) for row in digits] == [len(row) for row in words] == [23, 23, 23]
    assert pair.matches("\n".join(digits))
    assert pair.matches("  ".join(words).upper())
    assert not pair.matches("\n".join(digits[:2]))


def test_a_qr_code_is_what_it_was_made_from() -> None:
    text = BEN.qr_text()
    rows = qr_rows(text)
    assert len({len(row) for row in rows}) == 1
    modules: list[list[int]] = []
    for row in rows:
        modules.append([int(half in "▀█") for half in row])
        modules.append([int(half in "▄█") for half in row])
    expected = [list(row) for row in segno.make(text, error="l", micro=False).matrix]
    inner = [row[QR_BORDER : QR_BORDER + len(expected)] for row in modules[QR_BORDER:][: len(expected)]]
    assert inner == expected
    assert sum(map(sum, modules)) == sum(map(sum, expected))
