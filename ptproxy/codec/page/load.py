"""Loading a page as a browser does: the page, what it names, what its style sheets name, the icon.

Order of a life, on an :class:`~ptproxy.codec.http2.client.H2Client` of its own or shared::

    load = PageLoad(h2, browser, "site.example", "/", memory, rng, now, clock)
    for event in h2.receive_data(data, now): load.receive_event(event, now) or ...    # False: not its own
    load.deadline(), load.on_deadline(now)                                 # then h2.data_to_send()
    load.finished                                                          # nothing more will be asked for

Steps: the scan some time after the page's first bytes, then with every piece of
it; layout when the head's style sheets and scripts are there; the icon when all
else is. How urgent each thing is, which step asks for it and how long a browser
takes between them is the browser's data (:mod:`ptproxy.codec.page.habits`, as
recorded); which role each thing has is :mod:`ptproxy.codec.page.plan`'s, whose
turn it is :mod:`ptproxy.codec.page.turns`'s; what need not be asked again is
known to :class:`~ptproxy.codec.page.cache.SiteMemory`. A page that is missing, a
redirect elsewhere and nonsense end the load early; nothing a site sends raises.
"""

from __future__ import annotations

from math import inf
from random import Random
from typing import Final

from ptproxy.codec.browser import Browser
from ptproxy.codec.http2.stream import (
    DataReceived,
    H2Event,
    H2Stream,
    HeadReceived,
    StreamEnded,
    StreamReset,
)
from ptproxy.codec.page.cache import SiteMemory
from ptproxy.codec.page.fetch import Fetch
from ptproxy.codec.page.plan import Asset, Planner, joined
from ptproxy.codec.page.requests import Requests
from ptproxy.codec.page.scan import Hint, PageScanner
from ptproxy.codec.page.turns import Turns

MAX_ASSETS: Final = 80
"""Requests of one load beside the page; real pages with more are no cover worth their volume."""
MAX_BYTES: Final = 8 << 20
"""Bytes of bodies after which nothing new is asked for."""
MAX_STYLES: Final = 4 << 20
"""Bytes of style sheets that are read, after decoding; of further ones nothing is learnt."""
MAX_SECONDS: Final = 30.0
"""After which a load that hangs is given up."""
MAX_REDIRECTS: Final = 5
"""Redirects followed within the host; browsers take 20."""
MAX_FONTS: Final = 4
"""Fonts of style sheets taken for used: a scanner cannot know which are."""
MAX_BACKGROUNDS: Final = 4
"""Pictures of style sheets taken for used."""
MAX_LAZY: Final = 4
"""Pictures with loading="lazy" taken to be near enough: Chromium loads what is within 1,250 pixels."""


class PageLoad:
    """One visit of one page."""

    __slots__ = (
        "_begun", "_browser", "_bytes", "_clock", "_due", "_fetches", "_fonts", "_for_layout", "_habits",
        "_host", "_icon", "_laid_out", "_memory", "_now", "_page", "_page_done", "_page_hints", "_pictures",
        "_planner", "_redirects", "_requests", "_rng", "_scanner", "_styles", "_turns", "_unplanned", "asked",
        "failed", "finished", "page_alone",
    )  # fmt: skip

    def __init__(
        self,
        requests: Requests,
        browser: Browser,
        host: str,
        path: str,
        memory: SiteMemory,
        rng: Random,
        now: float,
        clock: float,
    ) -> None:
        """``clock`` is unix time at ``now``: what caches reckon with."""
        self._requests = requests
        self._browser = browser
        self._host = host
        self._memory = memory
        self._rng = rng
        self._begun = self._now = now
        self._clock = clock - now
        self._habits = browser.loading
        self._planner = Planner(host, self._habits)
        self._turns = Turns(self._habits)
        self._scanner = PageScanner()
        self._page_hints: list[Hint] = []
        self._unplanned: list[Hint] = []
        self._for_layout: list[tuple[Hint, str]] = []  # with the path that named it
        self._fonts: list[tuple[Hint, str]] = []
        self._pictures: list[Hint] = []  # for the step of that name
        self._fetches: dict[H2Stream, Fetch] = {}
        self._due: dict[str, float] = {}  # step: when
        self._icon: Hint | None = Hint("/favicon.ico", "icon") if "icon" in browser.requests else None
        self._bytes = self._redirects = self._styles = 0
        self._page_done = self._laid_out = False
        self.asked = 0
        """Requests sent."""
        self.failed = False
        """The page itself was not to be had."""
        self.page_alone = False
        """What the page names is not asked for."""
        self.finished = False
        """Nothing more will be asked for."""
        self._page = path
        self._ask(Asset(path, "navigation", 0, 0, "", "page"))

    @property
    def foreign(self) -> frozenset[str]:
        """Other hosts that the page names; a browser would connect to them, this load does not."""
        return frozenset(self._planner.foreign)

    # ---- what the caller tells -------------------------------------------------------------------

    def receive_event(self, event: H2Event, now: float) -> bool:
        """Take an event of the connection; False where it is of no request of this load."""
        self._now = now
        stream = getattr(event, "stream", None)
        fetch = self._fetches.get(stream) if isinstance(stream, H2Stream) else None
        if stream is None or fetch is None:
            return False
        if isinstance(event, HeadReceived):
            fetch.begin(event.status, event.fields)
            self._memory.cookies.at(now + self._clock)
            self._memory.cookies.take(event.fields, self._host, fetch.asset.path)
        elif isinstance(event, DataReceived):
            self._data(fetch, event, now)
        elif isinstance(event, StreamEnded | StreamReset):
            del self._fetches[stream]
            self._complete(fetch, isinstance(event, StreamEnded), now)
            self._go_on(now)
        return True

    def deadline(self) -> float | None:
        """When the next step is due."""
        if self.finished:
            return None
        return min(self._begun + MAX_SECONDS, *self._due.values(), inf)

    def on_deadline(self, now: float) -> None:
        """Time has come."""
        self._now = now
        if self.finished:
            return
        if now >= self._begun + MAX_SECONDS:
            self.give_up()
            return
        for step in [name for name, when in self._due.items() if when <= now]:
            del self._due[step]
            if step == "ask":
                self._ask_next(now)
            elif step == "scan":
                self._plan_page(now)
            elif step == "layout":
                self._lay_out(now)
            elif step == "fonts":
                self._plan_all(self._fonts[:MAX_FONTS])
                self._fonts = []
            elif step == "pictures":
                self._plan_pictures()
            elif step == "sight":
                self._see()
            elif step == "broken":
                self._give_up_broken(now)
            elif self._icon is not None:
                self._plan(self._icon, self._page)
                self._icon = None
        self._go_on(now)

    def give_up(self) -> None:
        """Leave what is under way, as when the user goes on: a body without end would come for ever."""
        for stream in self._fetches:
            self._requests.send_reset(stream)
        self._fetches.clear()
        self._end()

    # ---- answers ---------------------------------------------------------------------------------

    def _data(self, fetch: Fetch, event: DataReceived, now: float) -> None:
        self._bytes += len(event.data)
        text = fetch.feed(event.data)
        if fetch.is_broken_picture:
            self._wait("broken", "broken", now)
        if not text:
            return
        first = not self._page_hints and "scan" not in self._due
        self._found(self._scanner.feed(text, False))
        if first:
            self._wait("scan", "scan", now)
        elif self._unplanned:
            self._wait("scan", "scan_more", now)

    def _found(self, hints: list[Hint]) -> None:
        if self._scanner.base:
            for hint in hints:
                hint.url = joined(self._scanner.base, hint.url)
        self._page_hints += hints
        self._unplanned += hints

    def _complete(self, fetch: Fetch, whole: bool, now: float) -> None:
        asset, status = fetch.asset, fetch.status if whole else 0
        known = self._memory.entries.get(asset.path)
        hints: list[Hint] = known.hints if known is not None and status == 304 else []
        if asset.what == "page":
            self._page_complete(fetch, status, hints, now)
            hints = self._page_hints
        elif asset.what == "style" and status == 200:
            self._styles += fetch.size
            hints = fetch.style_hints() if self._styles <= MAX_STYLES else []
        if asset.what == "style":
            self._style_named(hints, asset.path)
        if status in (200, 304) and not self.failed:
            self._memory.store(asset.path, fetch.fields, hints, now + self._clock)

    def _page_complete(self, fetch: Fetch, status: int, known: list[Hint], now: float) -> None:
        if status in (301, 302, 303, 307, 308):
            location = fetch.value("location")
            path = self._planner.local_path(location, self._url(fetch.asset.path)) if location else None
            if path is not None and self._redirects < MAX_REDIRECTS:
                self._redirects += 1
                self._page = path
                self._ask(Asset(path, "navigation", 0, 0, "", "page"))
                return
        self._page_done = True
        if status not in (200, 304):
            self.failed = True
            self.give_up()
            return
        first = not self._page_hints and "scan" not in self._due
        self._found(list(known) if status == 304 else self._scanner.feed(b"", True))
        self._wait("scan", "scan" if first else "scan_more", now)

    # ---- steps -----------------------------------------------------------------------------------

    def _wait(self, step: str, name: str, now: float) -> None:
        """Have a step come after the delay of that name, if this browser has such a thing."""
        delay = self._habits.delays[name]
        if delay is not None:
            self._due.setdefault(step, now + self._rng.uniform(*delay))

    def _plan_page(self, now: float) -> None:
        """What the scanner has found becomes requests, or waits for the step that it belongs to."""
        unplanned, self._unplanned = self._unplanned, []
        for hint in unplanned:
            step = self._planner.step(hint)
            if step == "icon":
                self._icon = self._icon and hint
            elif step == "layout":
                self._for_layout.append((hint, self._page))
            elif step == "pictures":
                self._pictures.append(hint)
            else:
                self._plan(hint, self._page)
        if self._pictures:
            self._wait("pictures", "pictures", now)

    def _plan_pictures(self) -> None:
        """In the order of the page; what the next page may need comes last."""
        self._pictures.sort(key=lambda hint: hint.what == "prefetch")
        self._plan_all([(hint, self._page) for hint in self._pictures])
        self._pictures = []

    def _lay_out(self, now: float) -> None:
        """The head's style sheets are there: frames and pictures are needed, a little later fonts."""
        self._laid_out = True
        named, self._for_layout = self._for_layout, []
        self._plan_all([one for one in named if one[0].what in ("frame", "style")])
        self._plan_all([one for one in named if one[0].what == "background"][:MAX_BACKGROUNDS])
        self._plan_all([one for one in named if one[0].what == "image"][:MAX_LAZY])
        self._fonts += [one for one in named if one[0].what == "font"]
        if self._fonts:
            self._wait("fonts", "fonts", now)
        if any(fetch.asset.picture for fetch in self._fetches.values()):
            self._wait("sight", "sight", now)

    def _see(self) -> None:
        """Pictures in sight become urgent, in an order that is Blink's hash table's."""
        urgency = self._habits.in_sight
        if urgency is None:
            return
        pictures = [item for item in self._fetches.items() if item[1].asset.picture]
        self._rng.shuffle(pictures)
        for stream, fetch in pictures:
            if fetch.asset.urgency > urgency:
                fetch.asset.urgency = urgency
                self._requests.send_priority(stream, urgency)

    def _give_up_broken(self, now: float) -> None:
        """What should be pictures and is none, and has not come to its end."""
        broken = [item for item in self._fetches.items() if item[1].is_broken_picture]
        for stream, fetch in broken if self._requests.resets_alone else ():
            self._requests.send_reset(stream)
            del self._fetches[stream]
            self._complete(fetch, False, now)

    def _go_on(self, now: float) -> None:
        """After anything has happened: ask for what may be asked, and see which step comes next."""
        if self.finished:
            return
        under_way = [fetch.asset for fetch in self._fetches.values()]
        self._turns.release(under_way, held_up=self._held_up())
        if self._turns.any_ready and "ask" not in self._due:
            self._ask_next(now)
            under_way = [fetch.asset for fetch in self._fetches.values()]
        if not self._page_done or not self._due.keys().isdisjoint(("scan", "pictures", "layout")):
            return
        if not self._laid_out:
            if not self._turns.is_blocked(under_way):
                self._wait("layout", "layout", now)
        elif self._for_layout:
            self._wait("layout", "layout", now)
        elif not self._fetches and not self._turns and not self._fonts:
            if self._icon is not None and self._url_path(self._icon) not in self._memory.entries:
                self._wait("icon", "icon", now)
            elif "icon" not in self._due:
                self._end()

    def _end(self) -> None:
        self.finished = True
        self._turns.clear()
        self._due = {}

    # ---- requests --------------------------------------------------------------------------------

    def _plan(self, hint: Hint, referrer: str) -> None:
        """Hold a request for a hint unless a fresh answer is remembered."""
        if self.page_alone:
            return
        asset = self._planner.asset(hint, self._url(referrer), self._url(referrer))
        if asset is None:
            return
        known = self._memory.entries.get(asset.path)
        if known is not None and known.fresh_until > self._now + self._clock:
            if asset.what == "style":
                self._style_named(known.hints, asset.path)
            return
        self._turns.hold(asset)

    def _plan_all(self, named: list[tuple[Hint, str]]) -> None:
        for hint, referrer in named:
            self._plan(hint, referrer)

    def _style_named(self, hints: list[Hint], path: str) -> None:
        """What a style sheet names: imports at once, the rest when the page is laid out."""
        for hint in hints:
            if hint.what == "style":
                self._plan(hint, path)
            else:
                self._for_layout.append((hint, path))

    def _held_up(self) -> bool:
        """Whether a script keeps the parser in the head (of a page that is cached: an outside one)."""
        return self._scanner.held_up or any(
            hint.what == "script" and hint.in_head and not hint.deferred and not hint.preload
            for hint in self._page_hints
        )

    def _ask_next(self, now: float) -> None:
        """Ask for the next thing; the others' turn comes in an instant, or at once.

        At once is another look at the clock, and so another write: written together, several requests
        leave in one packet, which a browser's never do.
        """
        asset = self._turns.take()
        if asset is not None:
            self._ask(asset)
        if not self._turns.any_ready:
            return
        if self._rng.random() < self._habits.ask_together:
            self._due["ask"] = now
        else:
            self._wait("ask", "ask_pause" if self._rng.random() < self._habits.ask_pauses else "ask_gap", now)

    def _ask(self, asset: Asset) -> None:
        if self.asked > MAX_ASSETS or self._bytes > MAX_BYTES or self._requests.ending:
            return
        variables = {"host": self._host, "path": asset.path}
        if asset.what != "page":
            variables |= {"referer": asset.referer, "origin": f"https://{self._host}"}
        known = self._memory.entries.get(asset.path)
        if known is not None:
            variables |= {"etag": known.etag, "last_modified": known.last_modified}
        self._memory.cookies.at(self._now + self._clock)
        fields = self._browser.fields(asset.kind, variables, self._memory.crumbs(asset.path), asset.said)
        stream = self._requests.send_request(fields, asset.urgency, None, self._now)
        self._fetches[stream] = Fetch(asset)
        self.asked += 1

    def _url(self, path: str) -> str:
        return f"https://{self._host}{path}"

    def _url_path(self, hint: Hint) -> str | None:
        return self._planner.local_path(hint.url, self._url(self._page))
