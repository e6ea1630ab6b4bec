"""What the client's browser remembers of the bridge's site, kept in the state folder between runs.

Without it every start would be a first visit, and a user who never has
anything in the cache is no browser's.
"""

from __future__ import annotations

import asyncio
from typing import Any

from ptproxy.codec.page.cache import SiteMemory
from ptproxy.errors import StartError
from ptproxy.log import get_logger
from ptproxy.proxy.documents import KeptDocument

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
