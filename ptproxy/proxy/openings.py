"""The replay filter of a running bridge, kept over its restarts.

A snapshot is written when the bridge stops and removed when it is read: it serves one start, which knows
every opening. A bridge that was killed has left the seconds in which answered openings claim to have been
made (:mod:`ptproxy.proxy.answered`): the next one refuses those, and knows all others to be free. After a
power cut, and where what was left is damaged or missing, whatever may have been answered is refused, also to
clients whose clock was ahead: nobody gets in for a minute from the system's start, or from the bridge's.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any, Final

from ptproxy.auth.replay import SNAPSHOT_VERSION, ReplayFilter, ReplayVerdict, outline, unknown_until
from ptproxy.auth.spans import Spans
from ptproxy.errors import ConfigError
from ptproxy.log import get_logger
from ptproxy.proxy.answered import Answered, System, left
from ptproxy.proxy.shared_openings import SharedOpenings
from ptproxy.state import Document, MarkFile

DOCUMENT: Final = "openings"
"""Name of the document in the state folder, and of the answered seconds beside it."""

log = get_logger(__name__)


class KeptOpenings:
    """A filter; what it finds fresh is noted on the disk before anybody hears of it."""

    __slots__ = ("_answered", "_openings")

    def __init__(self, openings: ReplayFilter | SharedOpenings, answered: Answered) -> None:
        self._openings = openings
        self._answered = answered

    def __len__(self) -> int:
        """How many openings are remembered."""
        return len(self._openings)

    def __contains__(self, ephemeral: bytes) -> bool:
        """Whether an opening with this ephemeral key (32 bytes) is remembered: a cheap early test."""
        return ephemeral in self._openings

    def check_and_add(self, ephemeral: bytes, made: int, unix_now: float) -> ReplayVerdict:
        """Judge an opening that has verified, made at unix time ``made``; remember it if FRESH."""
        verdict = self._openings.check_and_add(ephemeral, made, unix_now)
        if verdict is ReplayVerdict.FRESH:
            self._answered.note(made)
        return verdict

    def snapshot(self) -> dict[str, Any]:
        """As :meth:`ptproxy.auth.replay.ReplayFilter.snapshot`."""
        return self._openings.snapshot()

    def close(self) -> None:
        """Close the file. May be called twice."""
        self._answered.close()

    def __repr__(self) -> str:
        return f"<KeptOpenings {self._openings!r}>"


def take_up(document: Document) -> KeptOpenings:
    """The filter that the last run left, or a new one that begins now; raises StartError."""
    now, system, file = time.time(), System.now(), _file(document)
    data = document.read()
    found = left(file, system, now)
    pages = found[2] if found is not None else 1
    replay = None
    if data:
        with contextlib.suppress(ConfigError):
            replay = ReplayFilter.restore(data)
    if replay is None:
        replay = _without_snapshot(data is None and found is None, found, now)
    kept = _begin(file, replay, system, max(1, pages - 1))
    if data != {}:  # from now on a missing file of answered seconds means that something was lost
        try:
            document.write({})
        except BaseException:
            kept.close()
            raise
    return kept


def keep(openings: SharedOpenings, document: Document, worker: int) -> KeptOpenings:
    """The filter of one worker, the seconds it answers in on a page of its own; raises StartError."""
    return KeptOpenings(openings, Answered(_file(document), System.now().start, worker))


def go_on(replay: ReplayFilter, document: Document) -> KeptOpenings:
    """The filter that another process, which stands still, has handed over; raises StartError.

    That one may go on after all, with the file as it is then.
    """
    return _begin(_file(document), replay, System.now())


def put_down(document: Document, replay: KeptOpenings | SharedOpenings) -> None:
    """Leave the filter for the next run; to be called when nothing is examined any more."""
    document.write(replay.snapshot())


def _file(document: Document) -> MarkFile:
    return MarkFile(document.path.with_suffix(".answered"))


def _begin(file: MarkFile, replay: ReplayFilter, system: System, pages: int = 0) -> KeptOpenings:
    """``pages``: of workers that are no more, to be emptied."""
    snapshot = replay.snapshot()
    answered = Answered(file, system.start)
    try:
        answered.begin(snapshot["floor"], outline(snapshot))
        answered.forget(pages)
    except BaseException:
        answered.close()
        raise
    return KeptOpenings(replay, answered)


def _without_snapshot(new: bool, found: tuple[float, Spans, int] | None, now: float) -> ReplayFilter:
    """A filter for a bridge that did not stop cleanly, or runs for the first time."""
    if new:
        return ReplayFilter(int(now))
    floor, spans, _ = found if found is not None else (unknown_until(now), Spans(), 0)
    wait = floor - now
    if wait > 0:
        log.warning(
            "the bridge was not stopped cleanly: openings that may be replays are refused",
            seconds=round(wait),
        )
    return ReplayFilter.restore(
        {"version": SNAPSHOT_VERSION, "floor": floor, "dropped": [list(span) for span in spans], "seen": {}}
    )
