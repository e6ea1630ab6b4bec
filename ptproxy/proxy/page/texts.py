"""What the page says, in every language it knows; a language is chosen by the browser's, or by the person."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from ptproxy.errors import StartError

FALLBACK: Final = "en"
RIGHT_TO_LEFT: Final = frozenset({"fa"})
MAX_WISHES: Final = 16
"""Languages of an Accept-Language that are looked at."""

_WISH = re.compile(
    r"[ \t]*([A-Za-z]{2,3})(?:-[A-Za-z0-9-]{1,30})?(?:[ \t]*;[ \t]*q=([01](?:\.\d{0,3})?))?[ \t]*"
)


@dataclass(frozen=True, slots=True)
class Texts:
    """One language."""

    language: str
    """As HTML's ``lang`` wants it."""
    of: dict[str, str]

    @property
    def direction(self) -> str:
        """``rtl`` or ``ltr``."""
        return "rtl" if self.language in RIGHT_TO_LEFT else "ltr"

    def say(self, key: str, **values: str) -> str:
        """A text, its placeholders filled in; KeyError for one that is not there."""
        return self.of[key].format(**values) if values else self.of[key]


@functools.cache
def all_texts() -> dict[str, Texts]:
    """Every language by its code, in the order that the page offers them."""
    try:
        read = json.loads(files("ptproxy.proxy.page").joinpath("texts.json").read_text("utf-8"))
    except (OSError, ValueError):
        raise StartError("page: its texts are missing or damaged: install ptproxy anew") from None
    return {code: Texts(code, texts) for code, texts in read.items()}


def language_for(accepted: str) -> str:
    """The best known language for an Accept-Language (RFC 9110 section 12.5.4)."""
    known, best, weight = all_texts(), FALLBACK, 0.0
    for wish in accepted.split(",")[:MAX_WISHES]:
        match = _WISH.fullmatch(wish)
        if match is None or match[1].lower() not in known:
            continue
        wanted = float(match[2] or 1)
        if wanted > weight:
            best, weight = match[1].lower(), wanted
    return best
