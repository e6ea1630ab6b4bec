"""What has happened and is not drawn yet: bounded, however fast a contact writes.

Of events the first :data:`MAX_EVENTS` are kept; when there are more, all of them are thrown away and
the screen reads everything anew, since none of them is the only place where something stands. Of each file
only its last state is kept. Notices that a contact can cause come once in a while.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

from ptproxy.peers.chat.files import MAX_FILES, OVER
from ptproxy.peers.chat.told_files import FileTold
from ptproxy.peers.messenger_events import Event

MAX_EVENTS: Final = 512
"""Events that wait: a page of lines of ten contacts."""
NOTICE_PAUSE: Final = 60.0
"""Seconds until the same kind of notice is shown of the same contact again."""
MAX_NOTICED: Final = 1_024
"""Notices whose time is remembered."""


class Pending:
    """Events and files that wait to be drawn."""

    def __init__(self) -> None:
        self._events: list[Event] | None = []
        self._files: dict[str, FileTold] = {}
        self._told = False

    def put(self, event: Event) -> bool:
        """One more; whether the screen has to be told that something waits."""
        if self._events is not None:
            self._events.append(event)
            if len(self._events) > MAX_EVENTS:
                self._events = None
        return self._first()

    def put_file(self, told: FileTold) -> bool:
        """A file as it stands now; whether the screen has to be told that something waits."""
        self._files[told.file] = told
        if len(self._files) > MAX_FILES:
            over = (number for number, each in self._files.items() if each.state in OVER)
            self._files.pop(next(over, told.file))
        return self._first()

    def take(self) -> tuple[list[Event] | None, list[FileTold]]:
        """All that waits: events in their order, None where there were too many; files."""
        events, files = self._events, list(self._files.values())
        self._events, self._files, self._told = [], {}, False
        return events, files

    def _first(self) -> bool:
        told, self._told = self._told, True
        return not told


class Seldom:
    """What is said again only after a while."""

    def __init__(self) -> None:
        self._said: OrderedDict[Hashable, float] = OrderedDict()

    def may(self, what: Hashable, now: float) -> bool:
        """Whether it is time to say this (again); then it counts as said."""
        said = self._said.get(what)
        if said is not None and 0 <= now - said < NOTICE_PAUSE:
            return False
        self._said[what] = now
        self._said.move_to_end(what)
        if len(self._said) > MAX_NOTICED:
            self._said.popitem(last=False)
        return True
