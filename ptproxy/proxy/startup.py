"""What both roles do to start and to stop: keys, listening errors, signals.

Everything that keeps a role from starting becomes one
:class:`~ptproxy.errors.StartError` whose text is one line for a person.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ptproxy.auth.credentials import StaticKey
from ptproxy.config.keyfile import read_key
from ptproxy.config.quantities import Endpoint
from ptproxy.errors import StartError, why

Ready = Callable[[Sequence[str]], None]
"""Told once, with the addresses that are listened on."""


def load_key(path: Path, field: str = "key") -> StaticKey:
    """The private key in a file that only its owner can read; raises StartError."""
    try:
        return StaticKey.parse_private(read_key(path))
    except ValueError as error:
        raise StartError(f"{field}: {error}") from None


def cannot_listen(endpoint: Endpoint, error: OSError) -> StartError:
    """What keeps a role from listening there."""
    if error.errno == errno.EADDRINUSE:
        advice = "another program listens there; stop it, or choose another address"
    elif error.errno in (errno.EACCES, errno.EPERM) and endpoint.unix is None and endpoint.port < 1024:
        advice = "ports below 1024 need root, or CAP_NET_BIND_SERVICE"
    elif error.errno == errno.EADDRNOTAVAIL:
        advice = "this machine has no such address"
    else:
        advice = why(error)
    return StartError(f"listen: cannot listen on {endpoint}: {advice}")


def hold_signals(*names: str) -> None:
    """Have these signals wait until :class:`Signals` watches them: one that comes early is not lost."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {getattr(signal, name) for name in names})


class Signals:
    """SIGTERM and SIGINT ask to stop, a second one to stop at once; SIGHUP reloads.

    Works where the loop cannot watch signals (Windows), and does nothing but
    wait for :meth:`ask` outside the main thread.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        reload: Callable[[], None] | None = None,
        *,
        stopping: Sequence[str] = ("SIGTERM", "SIGINT", "SIGBREAK"),
        replacing: Sequence[str] = (),
    ) -> None:
        """The signals that ask to stop, and to have another process go on.

        A role inside another program watches none.
        """
        self.stop = asyncio.Event()
        """Set when the role is to stop."""
        self.at_once = asyncio.Event()
        """Set when it is not to wait for anything any more."""
        self.replace = asyncio.Event()
        """Set when another process is to go on; whoever sees to it clears it."""
        self._loop = loop
        self._reload = reload
        self._replacing = replacing
        self._stopping = stopping
        self._watched: list[int] = []
        self._before: dict[int, Any] = {}

    def ask(self) -> None:
        """Ask to stop, as a signal does."""
        (self.at_once if self.stop.is_set() else self.stop).set()

    def __enter__(self) -> Signals:
        for name in self._stopping:
            self._watch(name, self.ask)
        for name in self._replacing:
            self._watch(name, self.replace.set)
        if self._reload is not None:
            self._watch("SIGHUP", self._reload)
        return self

    def __exit__(self, *_: object) -> None:
        for number in self._watched:
            self._loop.remove_signal_handler(number)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._watched.clear()
        self._before.clear()

    def _watch(self, name: str, callback: Callable[[], None]) -> None:
        number = getattr(signal, name, None)
        if number is None:
            return
        try:
            self._loop.add_signal_handler(number, callback)
            self._watched.append(number)
            if hasattr(signal, "pthread_sigmask"):
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})  # see hold_signals
        except NotImplementedError:
            with contextlib.suppress(ValueError):  # not the main thread
                self._before[number] = signal.signal(
                    number, lambda *_: self._loop.call_soon_threadsafe(callback)
                )
        except (ValueError, RuntimeError):  # not the main thread
            pass


async def within(seconds: float, at_once: asyncio.Event, work: Callable[[float], Any]) -> None:
    """Await ``work(seconds)``; when ``at_once`` is set, give that up and await ``work(0)``."""
    patient = asyncio.ensure_future(work(seconds))
    hurry = asyncio.ensure_future(at_once.wait())
    try:
        await asyncio.wait({patient, hurry}, return_when=asyncio.FIRST_COMPLETED)
        if not patient.done():
            patient.cancel()
            await asyncio.gather(patient, return_exceptions=True)
            await work(0.0)
        else:
            patient.result()
    finally:
        hurry.cancel()
        patient.cancel()
        await asyncio.gather(hurry, patient, return_exceptions=True)


async def first_of(one: asyncio.Event, other: asyncio.Event) -> bool:
    """Wait until one of two events is set; whether it is the first."""
    waits = [asyncio.ensure_future(event.wait()) for event in (one, other)]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
    return one.is_set()
