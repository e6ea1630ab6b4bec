"""The name of a file that somebody else has sent: as they wrote it, as far as that is harmless here.

What is left is one component of a path on every system: no separators, no control, format or
bidirectional characters, nothing that Windows reserves, not hidden, not empty, not long.
"""

from __future__ import annotations

import unicodedata
from typing import Final

MAX_NAME: Final = 120
"""Bytes of UTF-8: half of what file systems take, so that a number and a suffix fit."""
MAX_SUFFIX: Final = 16
"""Bytes of a suffix that is kept where a name is cut."""
NAMELESS: Final = "file"
"""Where nothing of a name is left."""

_RESERVED: Final = frozenset('<>:"/\\|?*')
_DEVICES: Final = frozenset(
    (
        "CON",
        "PRN",
        "AUX",
        "NUL",
        *(f"{port}{number}" for port in ("COM", "LPT") for number in "0123456789¹²³"),
    )
)


def safe_name(name: str) -> str:
    """A name to save a file under."""
    name = name.replace("\\", "/").rpartition("/")[2]
    name = "".join(_harmless(character) for character in unicodedata.normalize("NFC", name))
    name = _cut(" ".join(name.split()).lstrip(". "))
    name = name.rstrip(". ")
    if name.partition(".")[0].rstrip().upper() in _DEVICES:
        name = "_" + name
    return name or NAMELESS


def _harmless(character: str) -> str:
    category = unicodedata.category(character)
    if category in ("Zs", "Zl", "Zp"):
        return " "
    if category.startswith("C"):
        return ""
    return "_" if character in _RESERVED else character


def _cut(name: str) -> str:
    """At most :data:`MAX_NAME` bytes, with the suffix where that is a short one."""
    if len(name.encode()) <= MAX_NAME:
        return name
    stem, dot, suffix = name.rpartition(".")
    if not stem or len(suffix.encode()) > MAX_SUFFIX:
        stem, dot, suffix = name, "", ""
    room = MAX_NAME - len((dot + suffix).encode())
    return stem.encode()[:room].decode(errors="ignore").rstrip() + dot + suffix
