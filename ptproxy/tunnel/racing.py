"""Runs a :class:`~ptproxy.ways.race.Race`: tasks for its attempts, and an owner for those that lose."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

from ptproxy.errors import DialError, PtproxyError, Reason
from ptproxy.ways import Degree, Obstructed, Race

Candidate = TypeVar("Candidate", bound=Hashable)
Wanted_contra = TypeVar("Wanted_contra", contravariant=True)
Result = TypeVar("Result")
LATE: Final = 2.0
"""An attempt that took so many times what the winner took, without TLS, is told as failed."""
LOSERS_END: Final = 5.0
"""Seconds that attempts which lost may take to close what they opened, at the end."""


class Runner(Protocol[Wanted_contra, Result]):
    """What a race is about."""

    async def attempt(self, candidate: Wanted_contra, progressed: Callable[[], None]) -> Result:
        """Try one; ``progressed`` once TLS stands. Cancelled, it leaves nothing behind."""

    def failed(self, candidate: Wanted_contra, error: PtproxyError | OSError) -> bool:
        """Note a failure; whether all of the candidate's group would fail so."""

    def unwanted(self, result: Result) -> None:
        """Close what came after another one had won."""


@dataclass(slots=True)
class _Attempt:
    """One that is on."""

    number: int
    candidate: Any
    began: float
    stands: bool = False
    """TLS stands."""


class Racing(Generic[Candidate, Result]):
    """Races one after the other or side by side, and whoever has lost one and is still closing."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        runner: Runner[Candidate, Result],
        losers: set[asyncio.Task[Any]] | None = None,
    ) -> None:
        """``losers`` is where those are kept that are still closing, for an owner of several races."""
        self._loop = loop
        self._runner = runner
        self._losers = set[asyncio.Task[Any]]() if losers is None else losers

    async def run(self, race: Race[Candidate]) -> Result:
        """The first result; raises the last failure of the most telling kind where there is none."""
        running: dict[asyncio.Task[Result], _Attempt] = {}
        failures: list[PtproxyError | OSError] = []
        try:
            while True:
                self._start(race, running)
                if not running:
                    raise _most_telling(failures)
                due = race.deadline()
                wait = None if due is None else max(due - self._loop.time(), 0.0)
                done, _ = await asyncio.wait(running, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    attempt = running.pop(task)
                    error = task.exception()
                    if error is None:
                        self._tell_late(attempt, running.values())
                        return task.result()
                    if not isinstance(error, PtproxyError | OSError):
                        raise error
                    failures.append(error)
                    if self._runner.failed(attempt.candidate, error):
                        race.group_failed(attempt.number, self._loop.time())
                    else:
                        race.failed(attempt.number, self._loop.time())
        finally:
            for task in running:
                self._lose(task)

    def _start(self, race: Race[Candidate], running: dict[asyncio.Task[Result], _Attempt]) -> None:
        for number, candidate in race.start(self._loop.time()):
            attempt = _Attempt(number, candidate, self._loop.time())

            def progressed(attempt: _Attempt = attempt) -> None:
                attempt.stands = True
                race.progressed(attempt.number, self._loop.time())

            running[self._loop.create_task(_run(self._runner.attempt(candidate, progressed)))] = attempt

    def _tell_late(self, winner: _Attempt, others: Iterable[_Attempt]) -> None:
        """Attempts that began before the winner and took much longer already count as failed."""
        now = self._loop.time()
        for other in others:
            much = now - other.began >= LATE * (now - winner.began)
            if other.began < winner.began and much and not other.stands:
                self._runner.failed(other.candidate, Obstructed(Degree.LATE, Reason.TUNNEL_DOWN))

    def _lose(self, task: asyncio.Task[Result]) -> None:
        """It is not waited for: closing may take a while."""
        self._losers.add(task)
        task.add_done_callback(self._end)
        task.cancel()

    def _end(self, task: asyncio.Task[Result]) -> None:
        self._losers.discard(task)
        if not task.cancelled() and task.exception() is None:
            self._runner.unwanted(task.result())

    async def close(self) -> None:
        """Wait until everything that lost is closed."""
        await closed(self._losers)


async def closed(losers: set[asyncio.Task[Any]]) -> None:
    """Wait until everything that lost is closed, at most :data:`LOSERS_END`."""
    if losers:
        await asyncio.wait(losers, timeout=LOSERS_END)


async def _run(attempt: Awaitable[Result]) -> Result:
    return await attempt


def _most_telling(failures: list[PtproxyError | OSError]) -> PtproxyError | OSError:
    """One that came from somebody who answered, else the last."""
    if not failures:
        return DialError(Reason.TUNNEL_DOWN, "no way to the bridge is known")
    answered = [error for error in failures if not isinstance(error, DialError | OSError)]
    return (answered or failures)[-1]
