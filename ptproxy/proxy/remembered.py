"""What a client remembers between runs, kept in the state folder: the site, as a browser does, and ways.

Without the first every start would be a first visit, and a user who never has
anything in the cache is no browser's.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Any, Final

from ptproxy.codec.page.cache import SiteMemory
from ptproxy.errors import StartError, StateError
from ptproxy.log import get_logger
from ptproxy.proxy.documents import KeptDocument
from ptproxy.ways import Ways

SECRET_SIZE: Final = 32
SAVE_EVERY: Final = 300.0
"""Seconds between looks whether something new is known of ways."""

log = get_logger(__name__)


class RememberedSite:
    """The memory of one host's site, and its file."""

    def __init__(self, document: KeptDocument, host: str) -> None:
        """Read what was kept; another host's, or what cannot be read, is forgotten."""
        self._document = document
        self.host = host
        self._saved: dict[str, Any] = {}
        self._writing: asyncio.Task[None] | None = None
        self.memory = SiteMemory()
        try:
            data = self._document.read() or {}
            if data.get("host") == host:
                self.memory = SiteMemory.load(data)
        except (StartError, KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            log.warning("what was remembered of the site cannot be read", error=str(error))

    def save(self) -> None:
        """Keep the memory as it is now, beside the loop; a disk that is full is only told."""
        data = {"host": self.host, **self.memory.dump()}
        if data != self._saved and (self._writing is None or self._writing.done()):
            self._saved = data
            self._writing = asyncio.get_running_loop().create_task(self._write(data))

    async def close(self) -> None:
        """Wait until everything is written."""
        if self._writing is not None:
            await self._writing

    async def _write(self, data: dict[str, Any]) -> None:
        try:
            await asyncio.to_thread(self._document.write, data)
        except StartError as error:
            log.warning("the site's memory is not kept", error=str(error))


class RememberedWays:
    """What is known of the ways to bridges, and its document.

    Nothing in it names a bridge or a place; but the secret lies beside the names, so that whoever takes the
    file and suspects a certain bridge or network can find out whether it is there.
    """

    def __init__(self, document: KeptDocument) -> None:
        """Read what was kept; what cannot be read is forgotten, with a new secret."""
        self._document = document
        secret = b""
        data: dict[str, Any] = {}
        try:
            data = self._document.read() or {}
            secret = bytes.fromhex(data.get("secret", ""))
        except (StartError, TypeError, ValueError, AttributeError) as error:
            log.warning("what was remembered of ways cannot be read", error=str(error))
        self.ways = Ways(secret if len(secret) == SECRET_SIZE else secrets.token_bytes(SECRET_SIZE))
        if len(secret) == SECRET_SIZE and "ways" in data:
            try:
                self.ways.load(data["ways"])
            except StateError as error:
                log.warning("what was remembered of ways cannot be read", error=str(error))

    async def save(self) -> None:
        """Keep what changed, beside the loop; a disk that is full is only told."""
        if not self.ways.changed:
            return
        data = {"secret": self.ways.secret.hex(), "ways": self.ways.to_dict()}
        try:
            await asyncio.to_thread(self._document.write, data)
        except StartError as error:
            log.warning("what is known of ways is not kept", error=str(error))

    async def keep(self) -> None:
        """Save now and then, until cancelled."""
        while True:
            await asyncio.sleep(SAVE_EVERY)
            await self.save()
