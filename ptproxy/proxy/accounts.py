"""The access list of a running bridge: kept on disk, followed when a command changes it.

A command such as ``ptproxy invite`` changes the same document while the bridge
runs. Each change is made to what the file holds at that moment, under the
document's own lock, so neither loses the other's. What the bridge decides, it
decides from memory.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from ptproxy.auth.access import Access, AccessList, Admission
from ptproxy.auth.access_record import Identity
from ptproxy.errors import AuthenticationError, ConfigError, StartError
from ptproxy.log import get_logger
from ptproxy.state import Document, Json

DOCUMENT: Final = "access"
"""Name of the document in the state folder."""
LOOK_EVERY: Final = 2.0
"""Seconds between looks whether the file has changed: one stat."""

log = get_logger(__name__)


class Accounts:
    """Who may use the bridge; what :class:`~ptproxy.tunnel.bridge.BridgeSettings` calls ``access``."""

    def __init__(self, document: Document, access: Access) -> None:
        """Load the list, empty where there is none yet.

        Raises :class:`~ptproxy.errors.StartError` for a damaged one.
        """
        self._document = document
        self._access = access
        self._watcher: asyncio.Task[None] | None = None
        self.list = self._parse(document.read())

    # ---- what the tunnel asks ----------------------------------------------------------------

    def decide(self, public: bytes, token: bytes, unix_now: float) -> Admission:
        """Whether this key (with this token) may come in; raises AuthenticationError."""
        return self.list.decide(public, token, unix_now)

    def check(self, public: bytes, unix_now: float) -> None:
        """Whether a known identity is still welcome; raises AuthenticationError."""
        self.list.check(public, unix_now)

    def spend(self, admission: Admission, unix_now: float) -> Identity | None:
        """The opening was confirmed: enrol and use up the token, on disk before anything else.

        Raises AuthenticationError, also where the list cannot be written: an
        invite that could be used twice is not used once.
        """
        if not admission.invite:
            return self.list.spend(admission, unix_now)
        identity: Identity | None = None

        def change(data: Json | None) -> Json:
            nonlocal identity
            current = self._parse(data)
            identity = current.spend(admission, unix_now)
            self.list = current
            return current.to_dict()

        try:
            self._document.update(change)
        except StartError as error:
            log.error("the access list is not written", why=str(error))
            with contextlib.suppress(StartError):
                self.list = self._parse(self._document.read())
            raise AuthenticationError("access: the list cannot be written") from None
        return identity

    # ---- what the bridge does ------------------------------------------------------------------

    def reload(self) -> bool:
        """Read the file again; False where it cannot be used: then the list stays as it was."""
        try:
            self.list = self._parse(self._document.read())
        except StartError as error:
            log.error("the access list stays as it was", why=str(error))
            return False
        log.info("access list read", identities=len(self.list.identities), invites=len(self.list.invites))
        return True

    def watch(
        self, loop: asyncio.AbstractEventLoop, changed: Callable[[], None], every: float = LOOK_EVERY
    ) -> None:
        """Follow the file from now on: ``changed`` is called after each reload."""
        self._watcher = loop.create_task(self._watch(changed, every))

    async def close(self) -> None:
        """No longer follow the file."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
            self._watcher = None

    async def _watch(self, changed: Callable[[], None], every: float) -> None:
        while True:
            await asyncio.sleep(every)
            if self._document.changed() and self.reload():
                changed()

    def _parse(self, data: Json | None) -> AccessList:
        if data is None:
            return AccessList(self._access)
        try:
            return AccessList.from_dict(data, self._access)
        except ConfigError as error:
            raise StartError(f"{self._document.path}: {error.problems[0]}") from None
