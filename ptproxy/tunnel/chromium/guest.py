"""A guest of the site: one carrier's visit, with cookies, cache and connections of its own.

Each carrier is a visitor for itself (a browser context, as a private window has
one): it connects, loads a page as everybody does who comes for the first time,
and what joins then goes on from there: requests on the page's own connections,
a WebSocket on one beside them, as browsers have it. Were all carriers one visitor, all
they carry would be on one connection for as long as the browser runs, which no
visitor of a web site leaves behind.

The guest leaves when its local socket has ended: its tab is closed, and its
connections with it. A guest that nobody needs yet waits with the page loaded, as
a visitor who reads it.
"""

from __future__ import annotations

import asyncio
import contextlib

from ptproxy.log import get_logger
from ptproxy.tunnel.carrier import Connection
from ptproxy.tunnel.chromium.devtools import BrowserError, DevTools
from ptproxy.tunnel.chromium.door import Door, Expected
from ptproxy.tunnel.chromium.tab import Tab, Visit

PERMISSIONS = ("local-network-access", "loopback-network", "local-network")
"""What lets the site's origin, which is our page's, reach the door; older versions know fewer names."""

log = get_logger(__name__)


class Guest:
    """One browser context and its tab."""

    def __init__(self, devtools: DevTools, context: str, tab: Tab) -> None:
        self._devtools = devtools
        self._context = context
        self._tab = tab
        self._staying: asyncio.Task[None] | None = None

    @classmethod
    async def come(cls, devtools: DevTools) -> Guest:
        """A new one, with an empty tab; it leaves by itself when the pipe to the browser closes."""
        answer = await devtools.call("Target.createBrowserContext", disposeOnDetach=True)
        context = str(answer["browserContextId"])
        try:
            return cls(devtools, context, await Tab.open(devtools, context))
        except BaseException:
            _dispose(devtools, context)
            raise

    @property
    def crashed(self) -> bool:
        """Whether its page is gone."""
        return self._tab.crashed

    async def visit(self, origin: str, page: str) -> Visit:
        """Load one of the site's pages; raises as :meth:`~ptproxy.tunnel.chromium.tab.Tab.visit`."""
        return await self._tab.visit(origin, page)

    async def look(self, origin: str, page: str) -> Visit:
        """The same whatever the certificate: only to look at it, before anything is said."""
        await self._tab.trust_anybody()
        return await self._tab.visit(origin, page)

    async def join(self, origin: str, door: Door, connection: Connection) -> None:
        """Become the page that joins: ``connection`` is its local socket's from then on."""
        for name in PERMISSIONS:
            with contextlib.suppress(BrowserError):
                await self._devtools.call(
                    "Browser.setPermission",
                    permission={"name": name},
                    setting="granted",
                    origin=origin,
                    browserContextId=self._context,
                )
        await self._tab.host(origin)
        expected = door.expect(connection)
        self._staying = asyncio.ensure_future(self._stay(door.url(expected), expected))
        await door.wait(expected)

    def leave(self) -> None:
        """Its tab and its connections go."""
        if self._staying is not None:
            self._staying.cancel()
        self._tab.forget()
        _dispose(self._devtools, self._context)

    async def _stay(self, url: str, expected: Expected) -> None:
        """Until the local socket has ended."""
        try:
            await self._tab.join(url)
        except BrowserError as error:
            log.debug("a page of the browser has ended", error=str(error))
            expected.fail(error)
        finally:
            self._staying = None
            self.leave()


def _dispose(devtools: DevTools, context: str) -> None:
    """End a context; nothing where the browser is gone."""
    with contextlib.suppress(BrowserError):
        devtools.send("Target.disposeBrowserContext", browserContextId=context)
