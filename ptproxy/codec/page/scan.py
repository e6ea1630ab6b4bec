"""What a page's HTML and CSS ask a browser to load, in document order: a preload scanner.

Hostile HTML is the normal case, so the scanner is one forward walk whose every
step ends behind where it began: work is linear in the bytes fed (Python 3.11's
``html.parser`` took 66 s for 80 kB of ``<a <a <a``, measured 2026-11), and at
most :data:`MAX_HTML` bytes, :data:`MAX_STEPS` tags and attributes and
:data:`MAX_HINTS` hints are looked at. It sees
what Chromium's scanner sees: start tags outside comments and raw text
(``third_party/blink/renderer/core/html/parser/html_preload_scanner.cc``, read
2026-11); it runs no scripts and knows no layout.
"""

from __future__ import annotations

import codecs
import html
import re
from dataclasses import dataclass
from itertools import islice
from typing import Final

MAX_HTML: Final = 1 << 20
"""Bytes of a page that are scanned, after decoding."""
MAX_HINTS: Final = 200
"""Hints of one page; more than ``load.MAX_ASSETS`` because some are known, foreign or said twice."""
MAX_STEPS: Final = 60_000
"""Tags, attributes and comments of one page that are looked at: 0.1 to 0.2 s, more than most pages have."""
SCAN_AT: Final = 1024
"""Bytes worth a scan before the page is complete: small pieces cost no more than large ones."""
MAX_CSS: Final = 1 << 19
"""Bytes of one style sheet that are scanned."""
MAX_STYLE_URLS: Final = 1000
"""URLs of one style sheet that are looked at."""
MAX_TAG: Final = 8192
"""Bytes of one start tag; a longer one is passed over."""
MAX_URL: Final = 2048
"""Characters of a URL; a ``data:`` URL is longer and is no request."""
SMALL_PICTURE: Final = 10000
"""Square pixels below which a picture is small (Blink's kBoostImagePriorityImageSize)."""
VIEWPORT_WIDTH: Final = 1280
"""CSS pixels for which a srcset candidate is chosen."""

_NEXT = re.compile("<(?=[a-zA-Z]|!--)")
_LONGEST_NEXT: Final = 4
_TAG = re.compile(r"<([a-zA-Z][a-zA-Z0-9-]{0,30})(?=[\s/>])")
_ATTRIBUTE = re.compile(
    r"""[\s/]*([^\s/>="'<][^\s/>=]{0,60})(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s>"']+)))?"""
)
_TAG_END = re.compile(r"[\s/]*>")
_COMMENT_END = re.compile("-->")
_RAW: Final = frozenset(("script", "style", "textarea", "title", "xmp", "noscript", "template", "noframes"))
_URL = re.compile(
    r"""url\(\s*(?:"([^"\\\n]{1,2048})"|'([^'\\\n]{1,2048})'|([^\s"'()\\]{1,2048}))\s*\)""", re.I
)
_CSS_COMMENT = re.compile(r"/\*.*?(?:\*/|\Z)", re.S)
_IMAGE_TYPES: Final = frozenset(
    ("image/webp", "image/avif", "image/png", "image/jpeg", "image/gif", "image/svg+xml", "image/apng")
)
_PLAIN_SCRIPTS: Final = frozenset(("", "text/javascript", "application/javascript", "text/ecmascript"))
_HEAD_ELEMENTS: Final = frozenset(
    ("html", "head", "title", "meta", "base", "link", "script", "style", "noscript", "template")
)
"""What may stand in a head; anything else begins the body (HTML, "in head" insertion mode)."""


@dataclass(slots=True)
class Hint:
    """One thing that a page names."""

    url: str
    """As written."""
    what: str
    """style, script, module, image, background, font, frame, icon, poster or prefetch."""
    in_head: bool = True
    preload: bool = False
    deferred: bool = False
    """A script with async or defer; a style sheet for print only; a picture of low priority."""
    lazy: bool = False
    urgent: bool = False
    """fetchpriority="high"."""
    small: bool = False
    """A picture whose width and height are given and make less than :data:`SMALL_PICTURE`."""
    height: int = 0
    """CSS pixels that it takes before it is there: what its ``height`` says."""


class PageScanner:
    """Scans one page as it arrives."""

    __slots__ = (
        "_at",
        "_decoder",
        "_end",
        "_hints",
        "_in_head",
        "_new",
        "_picture",
        "_raw",
        "_size",
        "_steps",
        "_styled",
        "_text",
        "base",
        "held_up",
    )

    def __init__(self) -> None:
        self._text = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._new: list[bytes] = []  # not yet scanned
        self._size = 0
        self._at = 0
        self._steps = 0
        self._raw = ""  # the element (or comment) whose end is looked for
        self._end: re.Pattern[str] | None = None
        self._hints: list[Hint] = []
        self._in_head = True
        self._styled = False  # a style sheet that is not for later was named
        self._picture = False  # inside one whose source is chosen
        self.base = ""
        """The href of the first base element, "" without one."""
        self.held_up = False
        """A script in the head is run before the body is read, once the style sheets are there."""

    def feed(self, data: bytes, last: bool) -> list[Hint]:
        """Scan what has come; ``last`` when the page is complete. The hints that are new."""
        before = len(self._hints)
        self._new.append(data)
        self._size += len(data)
        if self._size < SCAN_AT and not last:
            return []
        text = self._decoder.decode(b"".join(self._new), last)
        self._text += text[: max(MAX_HTML - len(self._text), 0)]
        self._new, self._size = [], 0
        while len(self._hints) < MAX_HINTS and self._steps < MAX_STEPS and self._step(last):
            self._steps += 1
        return self._hints[before:]

    def _step(self, last: bool) -> bool:
        """Pass over one comment, raw text or tag; False when more has to come first."""
        text, at = self._text, self._at
        if self._raw:
            assert self._end is not None
            found = self._end.search(text, at)
            if found is None:
                self._at = max(at, len(text) - len(self._raw) - 2)
                return False
            self._at, self._raw = found.end(), ""
            return True
        found = _NEXT.search(text, at)
        if found is None:
            self._at = max(at, len(text) - _LONGEST_NEXT + 1)
            return False
        self._at = at = found.start()
        if text.startswith("<!--", at):
            self._at, self._raw, self._end = at + 4, "--", _COMMENT_END
            return True
        if len(text) - at < MAX_TAG and not last and text.find(">", at, at + MAX_TAG) < 0:
            return False
        tag = _TAG.match(text, at)
        if tag is None:
            self._at = at + 1
            return True
        return self._start_tag(tag, last)

    def _start_tag(self, tag: re.Match[str], last: bool) -> bool:
        text, at = self._text, tag.end()
        limit = min(at + MAX_TAG, len(text))
        attributes: dict[str, str] = {}
        while at < limit:
            found = _ATTRIBUTE.match(text, at, limit)
            if found is None:
                break
            name, *values = found.groups()
            self._steps += 1
            attributes.setdefault(name.lower(), next((one for one in values if one is not None), ""))
            at = found.end()
        if not last and limit - tag.end() < MAX_TAG and not _TAG_END.match(text, at):
            return False
        self._at = at
        name = tag[1].lower()
        if name in _RAW:
            self._raw = name
            self._end = re.compile(f"</{name}(?=[\\s/>])", re.I)
        self._element(name, attributes)
        return True

    def _element(self, name: str, attributes: dict[str, str]) -> None:
        if name == "base" and not self.base:
            self.base = html.unescape(attributes.get("href", ""))
        elif name == "link":
            self._link(attributes)
        elif name == "script":
            self._script(attributes)
        elif name == "img":
            self._image(attributes)
        elif name == "source" and self._picture is False and "media" not in attributes:
            if "srcset" in attributes and attributes.get("type", "image/png").lower() in _IMAGE_TYPES:
                self._picture = True
                self._add(choose_candidate(attributes["srcset"]), "image")
        elif name == "picture":
            self._picture = False
        elif name == "iframe":
            self._add(attributes.get("src", ""), "frame", lazy=attributes.get("loading") == "lazy")
        elif name == "video" and "poster" in attributes:
            self._add(attributes["poster"], "poster")
        elif name not in _HEAD_ELEMENTS:
            self._in_head = False

    def _link(self, attributes: dict[str, str]) -> None:
        relations = attributes.get("rel", "").lower().split()
        url, kind = attributes.get("href", ""), attributes.get("as", "").lower()
        if "stylesheet" in relations and "alternate" not in relations and "disabled" not in attributes:
            self._add(url, "style", deferred=attributes.get("media", "").strip().lower() == "print")
        elif "preload" in relations and kind in ("style", "script", "image", "font"):
            self._add(url, kind, preload=True)
        elif "modulepreload" in relations:
            self._add(url, "module", preload=True)
        elif "icon" in relations:
            self._add(url, "icon")
        elif "prefetch" in relations:
            self._add(url, "prefetch")

    def _script(self, attributes: dict[str, str]) -> None:
        kind = attributes.get("type", "").strip().lower()
        module = kind == "module"
        if not (module or kind in _PLAIN_SCRIPTS) or "nomodule" in attributes:
            return
        deferred = not module and ("async" in attributes or "defer" in attributes)
        if "src" not in attributes:
            self.held_up |= self._in_head and not module and self._styled
            return
        self.held_up |= self._in_head and not module and not deferred
        self._add(attributes["src"], "module" if module else "script", deferred=deferred)

    def _image(self, attributes: dict[str, str]) -> None:
        self._in_head = False
        if self._picture:
            self._picture = False
            return
        wanted = attributes.get("fetchpriority", "").lower()
        width, height = (attributes.get(name, "")[:6] for name in ("width", "height"))
        small = width.isdecimal() and height.isdecimal() and int(width) * int(height) < SMALL_PICTURE
        chosen = choose_candidate(attributes["srcset"]) if "srcset" in attributes else ""
        self._add(
            chosen or attributes.get("src", ""),
            "image",
            deferred=wanted == "low",
            lazy=attributes.get("loading", "").lower() == "lazy",
            urgent=wanted == "high",
            small=small,
            height=int(height) if height.isdecimal() else 0,
        )

    def _add(self, url: str, what: str, *, height: int = 0, **marks: bool) -> None:
        url = html.unescape(url).strip()
        if url and len(url) <= MAX_URL:
            hint = Hint(url, what, self._in_head, height=height, **marks)
            self._hints.append(hint)
            self._styled |= what == "style" and not hint.deferred


def choose_candidate(srcset: str) -> str:
    """The URL of a srcset for one device pixel a CSS pixel and a picture as wide as the window."""
    best, best_rank = "", (2, 0.0)
    for part in srcset.split(",")[:32]:
        url, _, descriptor = part.strip().partition(" ")
        descriptor = descriptor.strip() or "1x"
        try:
            value = float(descriptor[:-1])
        except ValueError:
            continue
        enough = value >= (VIEWPORT_WIDTH if descriptor.endswith("w") else 1.0)
        rank = (0, value) if enough else (1, -value)
        if url and rank < best_rank:
            best, best_rank = url, rank
    return best


def style_urls(data: bytes) -> tuple[list[str], list[str], list[str]]:
    """The URLs of a style sheet: imports, fonts, pictures, each in order and once."""
    text = without_comments(data[:MAX_CSS].decode("utf-8", "replace"))
    imports: dict[str, None] = {}
    fonts: dict[str, None] = {}
    pictures: dict[str, None] = {}
    for found in islice(_URL.finditer(text), MAX_STYLE_URLS):
        url = next(one for one in found.groups() if one)
        before = text[max(found.start() - 12, 0) : found.start()].rstrip().lower()
        path = re.split(r"[?#]", url)[0].lower()
        into = pictures
        if before.endswith("@import"):
            into = imports
        elif path.endswith((".woff2", ".woff", ".ttf", ".otf", ".eot")):
            into = fonts
        if len(url) <= MAX_URL and len(into) < MAX_HINTS:
            into[url] = None
    return list(imports), list(fonts), list(pictures)


def without_comments(text: str) -> str:
    """CSS without its comments; one that is not closed reaches to the end."""
    return _CSS_COMMENT.sub(" ", text)


def style_hints(data: bytes) -> list[Hint]:
    """What a style sheet names, as hints."""
    imports, fonts, pictures = style_urls(data)
    hints = [Hint(url, "style") for url in imports]
    hints += [Hint(url, "background", in_head=False) for url in pictures]
    return hints + [Hint(url, "font", in_head=False) for url in fonts]
