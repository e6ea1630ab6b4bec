"""Whether a network's login page (a captive portal, RFC 8952) stands before everything.

Until somebody has logged in, such a network answers in place of whatever is asked for: over TLS with a
certificate of its own. A censor who replaces the bridge's certificate looks the same at first. The
two are told apart by what comes after: a login page goes, and the same front shows its own
certificate; a censor's answer stays while other fronts open, or stays longer than anybody takes
to log in. Until that is known the answer counts against no way, and nobody is told more than what was seen.

Nothing is trusted because of what is decided here: no opening is ever said to another certificate.
"""

from __future__ import annotations

from typing import Final

from ptproxy.ways.degrees import Degree
from ptproxy.ways.way import Way

MOST: Final = 900.0
"""Seconds from the first replaced certificate for which it may be a login page's."""
LOGIN: Final = 180.0
"""Seconds for which the page's end is waited for impatiently."""
MAX_HELD: Final = 256
"""Ways that are put down to it: as many as are remembered of one network."""


class Portal:
    """What speaks for a login page in the network where this machine is."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._held: set[Way] = set()

    def stands(self, now: float) -> bool:
        """Whether a page is likely to be what answers."""
        return self._since is not None and now - self._since < MOST

    def is_young(self, now: float) -> bool:
        """Whether somebody is likely to be logging in just now."""
        return self._since is not None and now - self._since < LOGIN

    def judge(self, way: Way, degree: Degree, now: float) -> Degree:
        """An attempt met with ``degree`` while nothing of its bridge was open: that, or ``PORTAL``."""
        if degree is not Degree.CERTIFICATE:
            return degree
        if self._since is None:
            self._since = now
        if not self.stands(now):
            return degree
        if way.front in self._held or len(self._held) < MAX_HELD:
            self._held.add(way.front)
        return Degree.PORTAL

    def holds(self, way: Way) -> bool:
        """Whether something answered in place of that front."""
        return way.front in self._held

    def opened(self, way: Way) -> list[Way]:
        """A way leads to its bridge: there is no login page (any more). What was blocked after all.

        That is none where the same front was answered for before: then it was the page.
        """
        held = [] if way.front in self._held else list(self._held)
        self.forget()
        return held

    def forget(self) -> None:
        """This machine is in another network, or nobody can say any more."""
        self._since = None
        self._held = set()
