"""What is to be asked for, and whose turn it is.

What is found at once is asked for one by one, an instant apart: it comes from
the page's process. Where a browser has such a limit (Chromium: Blink's "tight
mode", ``resource_load_scheduler.cc``, excerpts read 2026-11), few of the less
urgent requests are under way while a script holds the parser in the head, for
itself or for style sheets before it.
"""

from __future__ import annotations

from collections.abc import Sequence

from ptproxy.codec.page.habits import LoadingHabits
from ptproxy.codec.page.plan import Asset


class Turns:
    """Of one page."""

    __slots__ = ("_asking", "_habits", "_held")

    def __init__(self, habits: LoadingHabits) -> None:
        self._habits = habits
        self._held: list[Asset] = []
        self._asking: list[Asset] = []

    def __bool__(self) -> bool:
        """Whether anything is still to be asked for."""
        return bool(self._held or self._asking)

    def hold(self, asset: Asset) -> None:
        """It is to be asked for once it may be."""
        self._held.append(asset)

    def take(self) -> Asset | None:
        """What is to be asked for next, None where nothing may be now."""
        return self._asking.pop(0) if self._asking else None

    @property
    def any_ready(self) -> bool:
        """Whether :meth:`take` has something to give."""
        return bool(self._asking)

    def is_blocked(self, under_way: Sequence[Asset]) -> bool:
        """Whether something of the head is not there yet."""
        return any(asset.blocks for asset in (*self._held, *self._asking, *under_way))

    def release(self, under_way: Sequence[Asset], *, held_up: bool) -> None:
        """Let what is held be asked for, as far as may be while the parser is ``held_up`` or not."""
        habits = self._habits
        least = habits.tight_from
        tight = held_up and least is not None and self.is_blocked(under_way)
        less = sum(least is not None and one.urgency >= least for one in (*self._asking, *under_way))
        held, self._held = self._held, []
        if habits.most_urgent_first:
            held.sort(key=lambda one: one.urgency)
        for asset in held:
            if tight and least is not None and asset.urgency >= least:
                less += 1
                if less > habits.tight_limit:
                    self._held.append(asset)
                    continue
            self._asking.append(asset)

    def clear(self) -> None:
        """Nothing of it will be asked for."""
        self._held.clear()
        self._asking.clear()
