"""What a browser remembers of a site between visits: cached answers and cookies, no more than needed to ask.

Bodies are not kept: of a page or style sheet only what it named, so that a 304
or a fresh entry can be followed without it. Freshness is RFC 9111 section 4.2
for a private cache, with a tenth of the age as a heuristic as browsers have it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from ptproxy.codec.http2.hpack import Field
from ptproxy.codec.page.cookies import CookieJar, unix_time
from ptproxy.codec.page.scan import Hint

MAX_ENTRIES: Final = 500
"""Answers remembered of one site; the oldest go first."""
MAX_NAMED: Final = 16384
"""Characters of URLs remembered of what one page or style sheet named; a load asks for 80 at most."""
HEURISTIC: Final = 0.1
"""Share of the time since Last-Modified for which an answer without other word counts as fresh."""
MAX_AGE: Final = 365 * 86400.0
"""Seconds; what is said to be fresh for longer is no different."""

_PATH = re.compile(r"[!-~]+")
_VALUE = re.compile(r"[\x01-\x09\x0b\x0c\x0e-\xff]*")
_HALF = re.compile(r"[\ud800-\udfff]")
_SECONDS = re.compile(r'"?([0-9]{1,10})"?')


@dataclass(slots=True)
class Entry:
    """One remembered answer."""

    etag: str
    last_modified: str
    fresh_until: float
    """Unix time."""
    hints: list[Hint] = field(default_factory=list)
    """What the page or style sheet named."""

    @property
    def valid(self) -> bool:
        """Whether its values are such as :meth:`SiteMemory.store` makes: they go into requests."""
        values = (self.etag, self.last_modified)
        return (
            all(isinstance(value, str) and _VALUE.fullmatch(value) for value in values)
            and isinstance(self.fresh_until, int | float)
            and all(isinstance(hint.url, str) and not _HALF.search(hint.url) for hint in self.hints)
        )


class SiteMemory:
    """One site's cache and cookies."""

    __slots__ = ("cookies", "entries")

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        """By path with query, oldest first."""
        self.cookies = CookieJar()

    def store(self, path: str, fields: list[Field], hints: list[Hint], clock: float) -> None:
        """Remember an answer (200, or the renewed fields of a 304) if it may be."""
        known = {name: value for name, value in fields if name != "set-cookie"}
        control = directives(known.get("cache-control", ""))
        old = self.entries.pop(path, None)
        if "no-store" in control or known.get("vary", "").strip() == "*":
            return
        etag = known.get("etag", old.etag if old else "")
        modified = known.get("last-modified", old.last_modified if old else "")
        fresh = clock + lifetime(known, control, modified, clock)
        if etag or modified or fresh > clock:
            self.entries[path] = Entry(etag[:256], modified[:64], fresh, _first(hints))
        while len(self.entries) > MAX_ENTRIES:
            del self.entries[next(iter(self.entries))]

    def crumbs(self, path: str, own: str = "") -> tuple[str, ...]:
        """The cookies for a request.

        ``own`` is a cookie that the request has of us, whole or in two: the site's of that name, which a
        bridge would read in its place, stays out, as where a page's script has replaced it.
        """
        return self.cookies.crumbs(path, (own, f"{own}.0", f"{own}.1") if own else ())

    def dump(self) -> dict[str, Any]:
        """All of it in JSON's types."""
        return {
            "entries": {path: asdict(entry) for path, entry in self.entries.items()},
            "cookies": self.cookies.dump(),
        }

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> SiteMemory:
        """What :meth:`dump` gave; anything else raises KeyError, TypeError or ValueError."""
        memory = cls()
        for path, entry in data["entries"].items():
            hints = [Hint(**hint) for hint in entry["hints"]]
            known = Entry(**{**entry, "hints": hints})
            if not known.valid or not _PATH.fullmatch(path):
                raise ValueError("an answer that no site gave")
            memory.entries[path] = known
        memory.cookies = CookieJar.load(data["cookies"])
        return memory


def _first(hints: list[Hint]) -> list[Hint]:
    """As many as are remembered: a hostile site's would fill memory and disk."""
    room = MAX_NAMED
    for count, hint in enumerate(hints):
        room -= len(hint.url)
        if room < 0:
            return hints[:count]
    return hints


def directives(text: str) -> dict[str, str]:
    """Comma-separated directives by name, in lower case; quoted commas are not expected."""
    found: dict[str, str] = {}
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        found.setdefault(name.strip().lower(), value.strip())
    return found


def lifetime(known: Mapping[str, str], control: Mapping[str, str], modified: str, clock: float) -> float:
    """Seconds for which an answer is fresh."""
    if "no-cache" in control:
        return 0.0
    age = _SECONDS.fullmatch(control.get("max-age", ""))
    if age is not None:
        return min(float(age[1]), MAX_AGE)
    if "expires" in known:
        return min(max((unix_time(known["expires"]) or 0.0) - clock, 0.0), MAX_AGE)
    changed = unix_time(modified)
    return 0.0 if changed is None else min(max(clock - changed, 0.0) * HEURISTIC, MAX_AGE)
