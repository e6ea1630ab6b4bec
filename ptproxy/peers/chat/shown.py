"""Text of other people made fit for a screen: it is read, and does nothing.

A name, a line or a file's name comes from whoever sends it. A terminal obeys some
characters, a bidirectional one turns the words around others, and some take no room at
all. Every text of somebody else goes through here before it is drawn or printed:

1. Letters, marks, numbers, punctuation and symbols stay; every kind of space is a space.
2. What begins a new line is one (in a message) or a space (in a name).
3. Characters without a form vanish: soft hyphens, byte order marks, direction marks, tags, and
   joiners where nothing is to be joined. Joiners in Persian, in Indic scripts and in emoji stay.
4. All else is ``�``, a run of them one: control characters and with them every escape
   sequence, direction overrides, embeddings and isolates, private and unassigned characters.
5. A letter has at most ``MAX_MARKS`` marks, and a mark has a letter.
6. A name is one line of at most ``NAME_CELLS`` cells, without the signs that the program itself
   draws beside names, and does not begin as a row of the program's own or a command does.

The result stays the same when it is made fit again. It may still hold text of right-to-left scripts:
draw it last on its row, so that it can turn nothing around but itself. It is plain text: never
give it to something that reads markup.
"""

from __future__ import annotations

import unicodedata
from typing import Final

NAME_CELLS: Final = 32
"""Cells of a name: what a list of contacts has room for."""
MAX_MARKS: Final = 6
"""Marks on one letter; Vietnamese has two, Hebrew with accents four, and a heap of them covers other rows."""
MAX_NAME: Final = 512
"""Characters of a name that are looked at."""
MAX_TEXT: Final = 1 << 17
"""Characters that are looked at; no message is longer."""
OWN_SIGNS: Final = frozenset("✓✔✅☑🗸✗✘☒⚠●⬤○◌│▌" + ":：∶꞉ːˑ﹕")
"""Signs that say something of ours where they stand beside a name, and what looks like them."""
OWN_BEGINNINGS: Final = ("*", "!", ">", "/", "#")
"""Rows of ours begin with these, and commands."""
NAMELESS: Final = "(no name)"
"""What stands for a name without anything to see in it."""

REPLACEMENT: Final = "\ufffd"

_BREAKS: Final = frozenset("\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029")
_JOINERS: Final = frozenset("\u200c\u200d")
_BLANK: Final = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Letters and symbols that are drawn as nothing."""
_FORMLESS: Final = frozenset(
    "\u00ad\u034f\u061c\u17b4\u17b5\u180b\u180c\u180d\u180e\u180f\u200b\u200e\u200f\u2060\ufeff"
) | {chr(code) for code in range(0xE0000, 0xE0FFF + 1)}
"""Default_Ignorable_Code_Point (Unicode 16, DerivedCoreProperties) without those that turn text around."""
_VARIATIONS: Final = frozenset(chr(code) for code in range(0xFE00, 0xFE0F + 1))
_KEEPS: Final = frozenset("LMNPS")


def shown_text(text: str) -> str:
    """A message's text, with ``\\n`` between its rows."""
    return _fit(text, "\n")


def shown_name(text: str) -> str:
    """One row for a person, a file, or whatever else somebody named; never empty."""
    fit = "".join(" " if sign in OWN_SIGNS else sign for sign in _fit(text[:MAX_NAME], " "))
    name = _one_row(fit)  # again: marks and joiners have lost what they stood on
    while name.startswith(OWN_BEGINNINGS):
        name = _one_row(name[1:])
    return clipped(name, NAME_CELLS) or NAMELESS


def clipped(text: str, cells: int) -> str:
    """As much of one row as fits into ``cells``, with ``…`` where something is missing."""
    if width(text) <= cells:
        return text
    taken: list[str] = []
    room = cells - 1
    for sign in text:
        room -= _cells(sign)
        if room < 0:
            break
        taken.append(sign)
    return "".join(taken).rstrip().rstrip("\u200c\u200d") + "…"


def folded(text: str, cells: int) -> list[str]:
    """One row as rows of at most ``cells`` (two or more), broken wherever that is; nothing is left out."""
    rows, room = [""], cells
    for sign in text:
        taken = _cells(sign)
        if taken > room:
            rows.append("")
            room = cells
        rows[-1] += sign
        room -= taken
    return rows


def width(text: str) -> int:
    """Cells that a terminal draws one row in (UAX #11: wide and fullwidth are two, marks none)."""
    return sum(map(_cells, text))


def _one_row(text: str) -> str:
    return " ".join(_fit(text, " ").split())


def _cells(sign: str) -> int:
    if sign in _JOINERS or unicodedata.category(sign) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(sign) in "WF" else 1


def _fit(text: str, line_break: str) -> str:
    """Rules 1 to 5."""
    text = text[:MAX_TEXT].replace("\r\n", "\n")
    fit: list[str] = []
    marks = 0
    for place, sign in enumerate(text):
        new = _one(sign, line_break)
        if new in _JOINERS:
            following = text[place + 1 : place + 2]
            new = new if fit and _joins(fit[-1]) and _joins(following) else ""
        elif new and unicodedata.category(new)[0] == "M":
            marks += 1
            new = new if marks <= MAX_MARKS and fit and _bears(fit[-1]) else ""
        elif new == REPLACEMENT:
            new, marks = ("" if fit and fit[-1] == REPLACEMENT else new), 0
        elif new:
            marks = 0
        if new:
            fit.append(new)
    return "".join(fit)


def _one(sign: str, line_break: str) -> str:
    """What one character becomes; joiners and marks are still to be looked at where they stand."""
    if sign in _BREAKS:
        return line_break
    if sign in _JOINERS or sign in _VARIATIONS:
        return sign
    if sign in _FORMLESS:
        return ""
    if sign == "\t" or sign in _BLANK:
        return " "
    category = unicodedata.category(sign)
    if category == "Zs":
        return " "
    return sign if category[0] in _KEEPS else REPLACEMENT


def _joins(sign: str) -> bool:
    """Whether a joiner beside this character can mean something."""
    return (
        bool(sign) and not sign.isascii() and sign != REPLACEMENT and unicodedata.category(sign)[0] in "LMS"
    )


def _bears(sign: str) -> bool:
    """Whether a mark can stand on this character, or behind others on it."""
    return not sign.isspace() and sign != REPLACEMENT
