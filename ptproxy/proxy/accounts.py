"""The access list of a running bridge: kept in a store, followed when a command or another process
changes it.

A command such as ``ptproxy account`` changes the same store while the bridge runs.
Each change is made to what the store holds at that moment, so neither loses the
other's; one that a command made just before one of ours is told to whoever follows
the list as any other is. What the bridge decides, it decides from memory.

An identity that has only lapsed (it expired a few days ago, or its month's quota is
used up) is let in all the same, to be told so: :mod:`~ptproxy.proxy.account_exit`
refuses it everything else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from ptproxy.auth.access import AccessList, Admission
from ptproxy.auth.access_record import Identity
from ptproxy.auth.account import Lapse, Used
from ptproxy.errors import AuthenticationError, StartError
from ptproxy.log import get_logger

LOOK_EVERY: Final = 0.4
"""Seconds between looks whether the store has changed, a query of 10 µs: who is revoked is out within one."""
LAST_WORD: Final = 0.1
"""Seconds in which a client that is put out is told so, before its session ends."""

log = get_logger(__name__)


class AccountStore(Protocol):
    """Where an access list is kept."""

    list: AccessList
    """As this process has it; always this object."""
    news: bool
    """Whether others' changes have come in since this was last set to False."""

    def follow(self) -> None:
        """Take in what others have changed. Raises StartError."""

    def update(self, change: Callable[[AccessList], None]) -> None:
        """Make a change to what is right now and keep it, or nothing at all. Raises StartError."""

    def add_moved(
        self, moved: Mapping[str, tuple[int, int]], reset_days: Mapping[str, int], unix_now: float
    ) -> dict[str, Used]:
        """Add what accounts moved; returns what all have moved. In a thread of its own; raises StartError."""

    def close(self) -> None:
        """Nothing more is asked."""


class Accounts:
    """Who may use the bridge; what :class:`~ptproxy.tunnel.bridge.BridgeSettings` calls ``access``."""

    def __init__(self, store: AccountStore) -> None:
        """``store`` is closed with this object."""
        self.store = store
        self._watcher: asyncio.Task[None] | None = None
        self._failing = ""
        self._telling = False
        self.on_change: list[Callable[[], None]] = []
        """Called, besides what :meth:`watch` is given, after each change that others made."""

    def tell_lapsed(self) -> None:
        """From now on let identities in that have lapsed: the caller tells them so, and refuses all else."""
        self._telling = True

    @property
    def list(self) -> AccessList:
        """The list as it is just now."""
        return self.store.list

    # ---- what the tunnel asks ----------------------------------------------------------------

    def decide(self, public: bytes, token: bytes, unix_now: float) -> Admission:
        """Whether this key (with this token) may come in; raises AuthenticationError."""
        try:
            return self.list.decide(public, token, unix_now)
        except AuthenticationError:
            if self.lapse(public, unix_now) is None:
                raise
            return Admission(public, self.list.identities[public].name)

    def check(self, public: bytes, unix_now: float) -> None:
        """Whether a known identity may stay; raises AuthenticationError."""
        try:
            self.list.check(public, unix_now)
        except AuthenticationError:
            if self.lapse(public, unix_now) is None:
                raise

    def spend(self, admission: Admission, unix_now: float) -> Identity | None:
        """The opening was confirmed: enrol and use up the token, in the store before anything else.

        Raises AuthenticationError, also where the list cannot be written: an
        invite that could be used twice is not used once.
        """
        if not admission.invite:
            self.check(admission.public, unix_now)
            return self.list.identities.get(admission.public)
        identity: Identity | None = None

        def change(current: AccessList) -> None:
            nonlocal identity
            identity = current.spend(admission, unix_now)

        try:
            self.store.update(change)
        except StartError as error:
            log.error("the access list is not written", why=str(error))
            raise AuthenticationError("access: the list cannot be written") from None
        return identity

    def lapse(self, public: bytes, unix_now: float) -> Lapse | None:
        """Why this key is let in and may use nothing just now; None for every other."""
        return self.list.lapse(public, unix_now) if self._telling else None

    # ---- what the bridge does ------------------------------------------------------------------

    def reload(self) -> bool:
        """Take in what was changed; False where it cannot be read: then the list stays as it was."""
        try:
            self.store.follow()
        except StartError as error:
            if str(error) != self._failing:
                log.error("the access list stays as it was", why=str(error))
            self._failing = str(error)
            return False
        self._failing = ""
        self.store.news = False
        known = self.list
        log.info("access list read", identities=len(known.identities), invites=len(known.invites))
        for callback in list(self.on_change):
            callback()
        return True

    def watch(
        self, loop: asyncio.AbstractEventLoop, changed: Callable[[], None], every: float = LOOK_EVERY
    ) -> None:
        """Follow the store from now on: ``changed`` is called after each change."""
        self._watcher = loop.create_task(self._watch(changed, every))

    async def close(self) -> None:
        """No longer follow the store."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
            self._watcher = None
        self.store.close()

    async def _watch(self, changed: Callable[[], None], every: float) -> None:
        while True:
            await asyncio.sleep(every)
            try:
                self.store.follow()
            except StartError:
                self.store.news = True  # and :meth:`reload` says why
            if self.store.news and self.reload():
                await asyncio.sleep(LAST_WORD)  # on_change has told why; what follows ends sessions
                changed()
