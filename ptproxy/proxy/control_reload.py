"""Reading a running role's configuration again: where from, one at a time, and how the last one went.

What each role does then is in :mod:`~ptproxy.proxy.control_bridge_reload` and
:mod:`~ptproxy.proxy.control_client`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ptproxy.config.model import LogConfig
from ptproxy.errors import ConfigError, PtproxyError
from ptproxy.log import get_logger
from ptproxy.proxy.control_files import FileStatus, FileWatch
from ptproxy.proxy.supervisor import tell_supervisor

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ConfigSource:
    """Where a role's configuration comes from; each raises ConfigError or StartError."""

    path: Path
    read: Callable[[], Any]
    """Reads and checks the file; may block."""
    set_up_log: Callable[[LogConfig], None]
    seen: Mapping[Path, FileStatus] = field(default_factory=dict)
    """The file as it was before it was read for the first time, where that is known."""


@dataclass(slots=True)
class LastReload:
    """How the last one went; times are unix seconds."""

    at: float
    changed: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def differing(old: BaseModel, new: BaseModel, reloaded: frozenset[str], prefix: str = "") -> Iterator[str]:
    """The dotted names of what differs; a section of which all can be reloaded is one name."""
    for name in type(old).model_fields:
        one, other = getattr(old, name), getattr(new, name)
        if one == other:
            continue
        dotted = prefix + name
        if dotted not in reloaded and isinstance(one, BaseModel) and type(one) is type(other):
            yield from differing(one, other, reloaded, f"{dotted}.")
        else:
            yield dotted


class Reloads:
    """One reload at a time, whoever asks: a signal, a command, a file that has changed."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, work: Callable[[], Awaitable[tuple[str, ...]]]
    ) -> None:
        """``work``: the coroutine function that does it and returns what has changed."""
        self.last: LastReload | None = None
        self.watch: FileWatch | None = None
        """Who asks for one when files have changed."""
        self._loop = loop
        self._work = work
        self._one = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = ""  # why nothing more is begun

    async def reload(self, asker: str) -> tuple[str, ...]:
        """Do it, after those that are under way; raises :class:`~ptproxy.errors.ConfigError`."""
        async with self._one:
            if self._stopped:
                raise ConfigError([self._stopped])
            if self.watch is not None:
                self.watch.note()
            tell_supervisor(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
            try:
                changed = await self._work()
            except PtproxyError as error:
                problems = error.problems if isinstance(error, ConfigError) else [str(error)]
                self.last = LastReload(time.time(), problems=tuple(problems))
                log.error("not reloaded: all stays as it was", asker=asker, why=problems)
                raise ConfigError(problems) from None
            finally:
                tell_supervisor("READY=1")
            self.last = LastReload(time.time(), changed)
            log.info("reloaded", asker=asker, changed=", ".join(changed) or "nothing")
            return changed

    def soon(self, asker: str = "signal") -> None:
        """Have it done; one that waits already does for those that come meanwhile."""
        if len(self._tasks) < 2 and not self._stopped:
            task = self._loop.create_task(self._quietly(asker))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _quietly(self, asker: str) -> None:
        with contextlib.suppress(ConfigError):  # the log has it
            await self.reload(asker)

    def told(self) -> dict[str, Any] | None:
        """How the last one went, for a status; None before the first."""
        last = self.last
        if last is None:
            return None
        return {"at": last.at, "changed": list(last.changed), "problems": list(last.problems)}

    @contextlib.asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """No reload meanwhile: one that is under way is waited for, those that come wait."""
        async with self._one:
            yield

    async def stop(self, why: str = "it is stopping") -> None:
        """Give up what is under way, and begin nothing more; whoever waits hears why."""
        self._stopped = why
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
