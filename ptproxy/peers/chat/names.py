"""What contacts are called on the screen: names that they gave themselves, told apart.

A name is whatever its owner says. Three rules keep one contact from passing for another:

1. A label belongs to one contact. Whoever comes later and looks like somebody who is there already gets
   the first words of the own fingerprint behind the name, as many as it takes.
2. Names look alike when their *skeletons* are the same: compatibility forms, case, marks, blanks and
   punctuation aside, and the letters that are drawn alike in Latin, Cyrillic and Greek counted as one.
3. Who has no name yet (it was added and has not answered) is ``no name`` with its first two words.

The table of rule 2 is short (UTS #39 has ten thousand more); what decides who somebody is
are fingerprints and nothing here.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ptproxy.e2e import Fingerprint
from ptproxy.peers.chat.shown import NAMELESS, shown_name

FIRST_WORDS: Final = 2
"""Words of the fingerprint that stand for a contact whose name is not known yet: it has not answered."""

_ALIKE: Final = {
    "а": "a", "в": "b", "е": "e", "з": "3", "һ": "h", "і": "l", "ї": "l", "ј": "j", "к": "k", "м": "m",
    "н": "h", "о": "o", "р": "p", "ѕ": "s", "с": "c", "т": "t", "у": "y", "ү": "y", "х": "x", "ь": "b",
    "ԁ": "d", "ԛ": "q", "ԝ": "w", "ѵ": "v", "ӏ": "l", "г": "r", "п": "n",
    "α": "a", "β": "b", "γ": "y", "ε": "e", "η": "n", "ι": "l", "κ": "k", "ν": "v", "ο": "o", "ρ": "p",
    "τ": "t", "υ": "u", "χ": "x", "ω": "w", "ϲ": "c", "ϳ": "j", "μ": "u",
    "ı": "l", "i": "l", "j": "j", "|": "l", "1": "l", "0": "o", "ɑ": "a", "ɡ": "g", "ʏ": "y",
    "ß": "b", "đ": "d", "ø": "o", "ł": "l", "ħ": "h",
}  # fmt: skip
"""Lower case letters that are drawn nearly alike."""
_GROUPS: Final = (("rn", "m"), ("vv", "w"), ("cl", "d"))


@dataclass(frozen=True, slots=True)
class Named:
    """A contact as it is to be labelled."""

    name: str
    """What it calls itself, or what the person calls it; hostile text."""
    fingerprint: Fingerprint


def skeleton(name: str) -> str:
    """The same for names that look alike; compare it with nothing but other skeletons."""
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", name).casefold())
    letters = "".join(_ALIKE.get(sign, sign) for sign in folded if unicodedata.category(sign)[0] in "LNS")
    for group, alike in _GROUPS:
        letters = letters.replace(group, alike)
    return letters


def labels(contacts: Iterable[Named], kept: Iterable[str] = ()) -> list[str]:
    """A label for each, no two alike and none like those ``kept``; who comes first keeps the bare name."""
    found: list[str] = []
    taken = {skeleton(label) for label in kept}
    for contact in contacts:
        name, words = shown_name(contact.name), contact.fingerprint.words().split()
        count = FIRST_WORDS if name == NAMELESS else 0
        label = _label(name, words[:count])
        while not skeleton(label) or skeleton(label) in taken:
            count += 1
            label = _label(name, words[:count])
            if count > len(words):  # the same fingerprint twice: the caller's, but never an endless loop
                label += f" {len(found)}"
                break
        taken.add(skeleton(label))
        found.append(label)
    return found


def _label(name: str, words: list[str]) -> str:
    bare = "no name" if name == NAMELESS else name
    return f"{bare} ({' '.join(words)})" if words else bare
