"""Text of other people on our screen: it is read, and does nothing."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ptproxy.peers.chat.shown import (
    MAX_MARKS,
    NAME_CELLS,
    NAMELESS,
    OWN_BEGINNINGS,
    OWN_SIGNS,
    clipped,
    folded,
    shown_name,
    shown_text,
    width,
)

HOSTILE = "\x00\x07\x08\x1b\x7f\x84\x9b\x9d\r\n\t\v\f\x1c\x85\u2028\u2029"
HOSTILE += (
    "\u061c\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
)
HOSTILE += "\u0300\u20dd\ufe0f\U000e0041\ud800\ue000\u0378\u3164\u2800\ufffd\xad"
ORDINARY = " aé:[]✓●漢نم👩❤"
TEXT = st.text(st.one_of(st.sampled_from(HOSTILE + ORDINARY), st.characters()), max_size=40)
KEPT_CATEGORIES = set("LMNPS")


def harmless(text: str, *, rows: bool) -> None:
    """What a terminal may be given; the rules, read the other way round."""
    for place, sign in enumerate(text):
        category = unicodedata.category(sign)
        if sign in "\u200c\u200d":
            assert 0 < place < len(text) - 1
            assert not (text[place - 1] + text[place + 1]).isascii()
        elif sign == "\n":
            assert rows
        else:
            assert sign == " " or category[0] in KEPT_CATEGORIES, hex(ord(sign))
            assert unicodedata.bidirectional(sign) not in {
                "LRE", "LRO", "RLE", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI", "BN", "B", "S",
            }  # fmt: skip
        if category[0] == "M":
            assert place
            assert not text[place - 1].isspace()


@given(TEXT)
@example("\x1b]0;owned\x07\x1b[2J")
@example("a" + "\u0301" * 50)
@example("\u200d👩\u200d")
@example("é\u200c\x1b")
def test_nothing_that_a_terminal_obeys_comes_through(text: str) -> None:
    shown = shown_text(text)
    harmless(shown, rows=True)
    assert shown_text(shown) == shown


@given(TEXT)
@example("✓\u0301a")
@example("a" * 31 + "漢")
@example("*\u0301* /a")
@example("ا\u200c✓ب")
def test_a_name_is_one_row_of_its_own(text: str) -> None:
    name = shown_name(text)
    harmless(name, rows=False)
    assert 0 < width(name) <= NAME_CELLS
    assert not OWN_SIGNS & set(name)
    assert name == name.strip()
    assert not name.startswith(OWN_BEGINNINGS)
    assert shown_name(name) == name


@given(st.text(st.characters(max_codepoint=127, categories=("L", "N", "P", "S", "Zs"))))
def test_ordinary_text_stays(text: str) -> None:
    assert shown_text(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "می‌خواهم",  # Persian has a joiner in its words
        "क्‍ष",
        "👩‍❤️‍👨 👍🏽 1️⃣ 🇺🇦",
        "שָׁלוֹם",
        "Nguyễn",
        "漢字かな交じり",
        "two\nrows",
    ],
)
def test_people_write_in_all_scripts(text: str) -> None:
    assert shown_text(text) == text
    assert shown_text(unicodedata.normalize("NFD", text)) == unicodedata.normalize("NFD", text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "�[31mred�[0m"),
        ("\x9b2J", "�2J"),
        ("\x1b]8;;http://x\x07link\x1b]8;;\x07", "�]8;;http://x�link�]8;;�"),
        ("a\x08\x08\x08b", "a�b"),
        ("photo\u202egpj.exe", "photo�gpj.exe"),
        ("\u2067a\u2069", "�a�"),
        ("a\r\nb\rc\u2028d\x85e", "a\nb\nc\nd\ne"),
        ("in\u200bvis\u2060ible\ufeff\xad", "invisible"),
        ("hid\U000e0068\U000e0069den", "hidden"),
        ("\u0301a", "a"),
        ("\ud83d", "�"),
        ("\ue000\U0010ffff\ue001", "�"),
        ("a\u3000b\xa0c\td", "a b c d"),
        ("a\u200cb", "ab"),
        ("a" + "\u0301" * 40, "a" + "\u0301" * MAX_MARKS),
    ],
)
def test_what_becomes_of(text: str, shown: str) -> None:
    assert shown_text(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", NAMELESS),
        (" \u3164\u2800\u200b ", NAMELESS),
        ("Anna ✓", "Anna"),
        ("Anna: yes\nBen: no", "Anna yes Ben no"),
        ("* Anna is verified", "Anna is verified"),
        ("//quit", "quit"),
        ("a" * 100, "a" * 31 + "…"),
        ("漢" * 17, "漢" * 15 + "…"),
        ("漢" * 16, "漢" * 16),
    ],
)
def test_what_becomes_of_a_name(text: str, shown: str) -> None:
    assert shown_name(text) == shown


def test_a_long_text_is_cut_and_never_slow() -> None:
    assert len(shown_text("\u0301a" * 1_000_000)) <= 1 << 17


def test_clipping_leaves_no_joiner_at_the_end() -> None:
    assert clipped("نم\u200cنن", 3) == "نم…"
    assert clipped("abc", 3) == "abc"
    assert clipped("abcd", 3) == "ab…"


@given(st.text(max_size=60), st.integers(2, 20))
def test_what_is_folded_is_whole_and_fits(text: str, cells: int) -> None:
    name = shown_name(text)
    rows = folded(name, cells)
    assert "".join(rows) == name
    assert all(width(row) <= cells for row in rows)
