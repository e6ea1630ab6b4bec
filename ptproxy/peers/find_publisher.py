"""Publishes an operator's invites: each record once in its slot, newly sealed, whether it changed or not.

What goes out when is ``dht.publication``'s; here it is worked for, sealed, saved and written, a few
records at a time. A kill loses nothing but work: progress is saved before anything leaves, and records
that did not get out are due again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from ptproxy.dht.identifier import Rng
from ptproxy.dht.publication import Publication, Turn
from ptproxy.dht.record import Record
from ptproxy.dht.signing import SigningKey
from ptproxy.errors import PtproxyError
from ptproxy.log import get_logger
from ptproxy.peers.find_directory import Directory
from ptproxy.peers.find_operator import Operated, OperatorFolder

BATCH: Final = 32
"""Records between two saves."""
TRIES: Final = 100
"""Computations of work in one go, 40 ms of a thread: so that stopping does not take long."""
LOOK: Final = 5.0
"""Seconds between looks whether a command has changed the list."""
AGAIN: Final = 60.0
"""Seconds until what did not get out is tried again; doubled while nothing does ..."""
AGAIN_MOST: Final = 1_800.0
"""... up to this."""

_Sealed: TypeAlias = tuple[Publication, Turn, Record]

log = get_logger(__name__)


class Publisher:
    """Publishes the list of ``folder`` through ``directory``."""

    def __init__(
        self, folder: OperatorFolder, directory: Directory, rng: Rng, clock: Callable[[], float]
    ) -> None:
        self._folder = folder
        self._directory = directory
        self._rng = rng
        self._clock = clock
        self._issuer: SigningKey = folder.issuer
        self._operated = self._load()

    async def round(self) -> int:
        """Publish what is due now; how many records did not get out. Raises what keeps all from it."""
        if self._folder.changed():
            self._operated = self._load()
        while (left := await self._go_over(self._operated)) is None:
            pass
        return left

    async def _go_over(self, operated: Operated) -> int | None:
        """Publish what is due of a list; None where a command has changed it, which may be minutes later."""
        now = self._clock()
        due = [(each, turn) for each in operated.listed.published(now) for turn in each.due(now)]
        if due:
            await self._directory.reach()
            log.info("publishing", records=len(due))
        left = 0
        for start in range(0, len(due), BATCH):
            batch = due[start : start + BATCH]
            records = [
                (each, turn, await sealed(self._directory, each, turn, self._issuer, self._rng))
                for each, turn in batch
            ]
            self._save(())
            left += await written(self._directory, self._still_so(records))
            self._save(())
            if self._operated is not operated:
                return None
        if left:
            return left
        self._save(tuple(operated.hurry))
        if self._operated is not operated:
            return None
        operated.hurry.clear()
        return 0

    def _still_so(self, records: Sequence[_Sealed]) -> list[_Sealed]:
        """Those that say what the list says now, each with the list's publication: others do not leave."""
        current = {each.publication.secret: each.publication for each in self._operated.listed.invites()}
        return [
            (current[each.secret], turn, record)
            for each, turn, record in records
            if each.secret in current and current[each.secret].content == each.content
        ]

    async def run(self) -> None:
        """Go on until cancelled; what fails is told and tried again."""
        pause = AGAIN
        while True:
            left = 1
            try:
                left = await self.round()
            except PtproxyError as error:
                log.warning("nothing is published now", why=str(error))
            if left:
                await self._wait(self._clock() + pause)
                pause = min(2 * pause, AGAIN_MOST)
            else:
                pause = AGAIN
                await self._wait(self.deadline())

    def deadline(self) -> float:
        """Unix seconds of the next turn; infinity if there is none."""
        now = self._clock()
        moments = (each.deadline(now) for each in self._operated.listed.published(now))
        return min((moment for moment in moments if moment is not None), default=float("inf"))

    async def _wait(self, until: float) -> None:
        """Wait for a moment, or for a command that changes the list."""
        while (left := until - self._clock()) > 0 and not self._folder.changed():  # noqa: ASYNC110  (a file)
            await asyncio.sleep(min(left, LOOK))

    def _load(self) -> Operated:
        operated = self._folder.load()
        for name in operated.hurry:
            operated.listed.hurry(name)
        return operated

    def _save(self, hurried: tuple[str, ...]) -> None:
        """Add how far each record is to the list on disk, which may be another one by now."""
        ours = {each.id: each.publication.progress for each in self._operated.listed.invites()}
        revision = self._operated.revision
        found = revision

        def add(operated: Operated) -> None:
            nonlocal found
            found = operated.revision
            for each in operated.listed.invites():
                each.publication.resume(ours.get(each.id, {}))
            if found == revision:
                operated.hurry = [name for name in operated.hurry if name not in hurried]

        self._folder.progress(add)
        if found != revision:  # a command has changed something since we read the list
            self._operated = self._load()


async def sealed(
    directory: Directory, publication: Publication, turn: Turn, issuer: SigningKey, rng: Rng
) -> Record:
    """The record of a turn, worked for in a thread. Its progress is to be saved before it leaves."""
    target = directory.record_work
    while not await asyncio.to_thread(publication.work, turn.epoch, target, TRIES):
        pass
    return publication.seal(turn, issuer, rng)


async def written(directory: Directory, records: Sequence[_Sealed]) -> int:
    """Write records that :func:`sealed` made, and tell their publications; how many did not get out."""
    done = await asyncio.gather(*(_write(directory, *each) for each in records), return_exceptions=True)
    left = 0
    for each in done:
        if isinstance(each, BaseException) and not isinstance(each, PtproxyError):
            raise each
        left += each is not True
    return left


async def _write(directory: Directory, publication: Publication, turn: Turn, record: Record) -> bool:
    said = await directory.write(record)
    if said.is_published:
        publication.published(turn)
        return True
    if said.is_stale:
        held = await directory.held(record)
        publication.refused(turn, turn.sequence if held is None else held)
    return False
