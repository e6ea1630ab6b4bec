"""How urgent a browser finds each thing of a page, and in which step of loading it asks for it.

Chromium's rules as far as a scanner can know them, from recordings of Chromium
156 (``tests/vectors/h2-chromium.json``, series "rich"); that the first five
pictures count which are not small, and that fewer requests run while the head
blocks, is also in Blink's ``resource_fetcher.cc`` and
``resource_load_scheduler.cc`` (excerpts read 2026-11). Urgencies are Chromium's five, 0 the most urgent:

====================================== ======= ==========================================
what                                   urgency when
====================================== ======= ==========================================
style sheet, in head / later / print   0 2 4   scan
script: in head / later / async, defer 1 2 3   scan
module, preloaded script or font       1       scan
picture: high / first five / others    1 2 3   scan; preloaded and low are "others"
poster                                 3       scan
prefetch                               4       scan
frame                                  0       layout
font of a style sheet                  0       layout
background or lazy picture             3       layout
icon                                   1       everything else is there
====================================== ======= ==========================================

While a script holds the parser in the head, for itself or for style sheets
before it, at most two requests of urgency 2 and above are on their way (Blink's
"tight mode"). Once the page is laid out, pictures that are in sight become
urgency 1: PRIORITY frames where they are on their way already.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urljoin, urlsplit

from ptproxy.codec.page.pictures import VIEWPORT_HEIGHT
from ptproxy.codec.page.scan import MAX_URL, Hint

BOOSTED_PICTURES: Final = 5
"""The first pictures of a page that are not small, which are a step more urgent."""
TIGHT_LIMIT: Final = 2
"""Less urgent requests under way while the head blocks."""
TIGHT_FROM: Final = 2
"""The urgency from which a request counts as less urgent."""
MAX_FOREIGN: Final = 32
"""Other hosts that are remembered of a page."""
IN_SIGHT: Final = 1
"""The urgency of a picture that is in sight."""

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

    __slots__ = ("_depth", "_host", "_pictures", "_seen", "foreign")

    def __init__(self, host: str) -> None:
        self._host = host
        self._depth = 0  # CSS pixels of pictures so far
        self._pictures = 0
        self._seen: set[str] = set()
        self.foreign: set[str] = set()
        """Other hosts that the page names: a browser would open connections to them, we do not."""

    def asset(self, hint: Hint, base: str, referer: str) -> Asset | None:
        """The asset for a hint; None where there is nothing to ask this host for, or not again."""
        path = self.local_path(hint.url, base)
        kind, urgency = self._judge(hint)
        if path is None or path in self._seen:
            return None
        self._seen.add(path)
        blocks = hint.in_head and not hint.preload and not hint.deferred and hint.what in ("style", "script")
        picture = hint.what in ("image", "background") and not hint.preload and self._depth < VIEWPORT_HEIGHT
        self._depth += hint.height
        return Asset(path, kind, urgency, urgency, referer, hint.what, blocks, picture)

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

    def _judge(self, hint: Hint) -> tuple[str, int]:
        what = hint.what
        if what == "style":
            return what, 4 if hint.deferred else 0 if hint.in_head or hint.preload else 2
        if what == "script":
            return what, 3 if hint.deferred else 1 if hint.in_head or hint.preload else 2
        if what in ("module", "icon"):
            return what, 1
        if what == "font":
            return ("font_preload", 1) if hint.preload else (what, 0)
        if what == "frame":
            return what, 0
        if what == "prefetch":
            return what, 4
        if what == "image" and not hint.preload and not hint.lazy and not hint.small:
            self._pictures += 1
            if hint.urgent:
                return what, 1
            if self._pictures <= BOOSTED_PICTURES and not hint.deferred:
                return what, 2
        return "image", 3


def joined(base: str, url: str) -> str:
    """``url`` as meant on a page at ``base``; as it is where one of them is nonsense."""
    try:
        return urljoin(base, url)
    except ValueError:
        return url
