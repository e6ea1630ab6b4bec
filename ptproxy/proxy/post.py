"""What a worker of a bridge is given by whoever watches over all of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ptproxy.proxy.shared_openings import SharedOpenings
from ptproxy.proxy.startup import Signals
from ptproxy.tunnel.elsewhere import Place

if TYPE_CHECKING:
    from ptproxy.proxy.bridge_files import BridgeFiles


@dataclass(slots=True)
class Post:
    """One worker's place, and what it shares with the others; descriptors are its own."""

    lock: int
    """Of the state folder's lock, which all workers hold."""
    listeners: dict[str, socket.socket]
    """By address, as the configuration has it."""
    accepts: Mapping[str, int]
    """How many connections are accepted in a turn, where that is not the usual number."""
    openings: SharedOpenings
    place: Place
    life: int
    """A pipe that ends with whoever watches over the workers."""
    told: int
    """A pipe that says to it that this worker is up."""
    context: ssl.SSLContext | None
    """Made before the workers were: so each takes up the TLS sessions that others gave tickets for."""
    files: BridgeFiles | None = None
    """What was read before root was given up; None: it is read by each worker."""

    @property
    def count(self) -> int:
        """How many workers there are."""
        return self.place.count

    def is_up(self, addresses: Sequence[str]) -> None:
        """The worker accepts connections (a ``Ready`` of :mod:`ptproxy.proxy.startup`)."""
        with contextlib.suppress(OSError):
            os.write(self.told, ", ".join(addresses).encode())
        os.close(self.told)

    def signals(self, loop: asyncio.AbstractEventLoop, reload: Callable[[], None]) -> Signals:
        """What a worker waits for: SIGTERM and SIGHUP, passed on to it, and the other one's end."""
        return _WorkerSignals(loop, reload, self.life)


class _WorkerSignals(Signals):
    """SIGTERM, or the end of whoever watches over the worker; Ctrl-C is that one's affair."""

    def __init__(self, loop: asyncio.AbstractEventLoop, reload: Callable[[], None], life: int) -> None:
        super().__init__(loop, reload, stopping=("SIGTERM",))
        self._life = life

    def __enter__(self) -> Signals:
        self._loop.add_reader(self._life, self._alone)
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        self._loop.remove_reader(self._life)
        super().__exit__(*error)

    def _alone(self) -> None:
        self._loop.remove_reader(self._life)
        self.ask()
