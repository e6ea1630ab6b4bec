"""What a page names becomes what a browser asks its host for: the role each thing has, and the path.

How urgent a role is and when it is asked for is the browser's data
(:mod:`ptproxy.codec.page.habits`). The roles themselves are Chromium's rules as
far as a scanner can know them, from recordings of Chromium 156
(``tests/vectors/h2-chromium.json``, series "rich"); that the first pictures
count which are not small is also in Blink's ``resource_fetcher.cc`` (excerpts
read 2026-11). Firefox 153 makes fewer differences, and none that these lack.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urljoin, urlsplit

from ptproxy.codec.page.habits import LoadingHabits
from ptproxy.codec.page.pictures import VIEWPORT_HEIGHT
from ptproxy.codec.page.scan import MAX_URL, Hint

MAX_FOREIGN: Final = 32
"""Other hosts that are remembered of a page."""
_KINDS: Final = {"background": "image", "poster": "image"}
"""What is asked for like something else."""
_SAFE: Final = "/?:@!$&'()*+,;=-._~%[]"


@dataclass(slots=True, eq=False)
class Asset:
    """One thing to load from the page's own host."""

    path: str
    """With query, as it goes into ``:path``."""
    kind: str
    """The kind of request, as the browser's data names it."""
    urgency: int
    said: int
    """The urgency in the priority field: what it was when the request was made up."""
    referer: str
    what: str
    """The hint's ``what``."""
    blocks: bool = False
    """The page is not shown before it is there."""
    picture: bool = False
    """It will be in sight."""


class Planner:
    """Turns hints into assets, each path once."""

    __slots__ = ("_depth", "_habits", "_host", "_pictures", "_seen", "foreign")

    def __init__(self, host: str, habits: LoadingHabits) -> None:
        self._host = host
        self._habits = habits
        self._depth = 0  # CSS pixels of pictures so far
        self._pictures = 0
        self._seen: set[str] = set()
        self.foreign: set[str] = set()
        """Other hosts that the page names: a browser would open connections to them, we do not."""

    def asset(self, hint: Hint, base: str, referer: str) -> Asset | None:
        """The asset for a hint; None where there is nothing to ask this host for, or not again."""
        path = self.local_path(hint.url, base)
        role = self._habits.roles[self._role(hint)]
        if path is None or path in self._seen:
            return None
        self._seen.add(path)
        kind = _KINDS.get(hint.what, hint.what)
        if kind == "font" and hint.preload:
            kind = "font_preload"
        blocks = hint.in_head and not hint.preload and not hint.deferred and hint.what in ("style", "script")
        picture = hint.what in ("image", "background") and not hint.preload and self._depth < VIEWPORT_HEIGHT
        self._depth += hint.height
        return Asset(path, kind, role.urgency, role.said, referer, hint.what, blocks, picture)

    def local_path(self, url: str, base: str) -> str | None:
        """Path and query of a URL on this host, None for any other."""
        try:
            parts = urlsplit(joined(base, url))
            host = parts.netloc.lower().removesuffix(":443")
        except ValueError:
            return None
        if parts.scheme != "https" or host != self._host.lower().removesuffix(":443"):
            if parts.scheme in ("http", "https") and host and len(self.foreign) < MAX_FOREIGN:
                self.foreign.add(host[:253])
            return None
        path = quote(parts.path or "/", _SAFE) + ("?" + quote(parts.query, _SAFE) if parts.query else "")
        return path if len(path) <= MAX_URL else None

    def step(self, hint: Hint) -> str:
        """In which step of loading it is asked for."""
        return self._habits.roles[role_of(hint)].step

    def _role(self, hint: Hint) -> str:
        """As :func:`role_of`, which does not count."""
        role = role_of(hint)
        if role in ("picture", "picture_high", "picture_low") and not hint.small:
            self._pictures += 1
            if role == "picture" and self._pictures <= self._habits.first_pictures:
                return "picture_first"
        return role


def role_of(hint: Hint) -> str:
    """What a thing is to the page, one of :data:`~ptproxy.codec.page.habits.ROLES`."""
    what = hint.what
    if what in ("style", "script", "module", "font") and hint.preload:
        return f"{what}_preload"
    if what == "style":
        return "style_print" if hint.deferred else "style" if hint.in_head else "style_body"
    if what == "script":
        return "script_deferred" if hint.deferred else "script" if hint.in_head else "script_body"
    if what != "image":
        return what
    if hint.preload:
        return "picture_preload"
    if hint.lazy:
        return "picture_lazy"
    if hint.urgent and not hint.small:
        return "picture_high"
    return "picture_low" if hint.deferred else "picture"


def joined(base: str, url: str) -> str:
    """``url`` as meant on a page at ``base``; as it is where one of them is nonsense."""
    try:
        return urljoin(base, url)
    except ValueError:
        return url
