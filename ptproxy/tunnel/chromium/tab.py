"""One tab of the browser: it visits the site's page, and then becomes the page that joins.

The visit is a navigation like any other; the site's page and its assets load
as the browser loads them. DevTools watches it for three things: whether TLS 1.3
was spoken, the leaf certificate, and the site's Date. It stops watching before
anything is carried: what a page sends and receives would all be reported.

The joining page (``page.html``, ``page.js``) is a document under the site's own
origin that is fulfilled here for one unguessable path, so that not even the
request for it leaves. There is nothing secret in it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ptproxy.errors import AuthenticationError, DialError, Reason
from ptproxy.log import get_logger
from ptproxy.tunnel.chromium.devtools import BrowserError, DevTools, PageCrashedError, Params

NAVIGATION_TIMEOUT: Final = 20.0
"""Seconds for the site to begin its answer."""
LOAD_TIMEOUT: Final = 20.0
"""Seconds for the page's assets; what is not there by then is not waited for."""

VIEWPORT: Final = (1280, 720)
"""Pixels of the page: which pictures are in sight, and so become urgent, is seen on the wire. A browser
without a window has 780 x 493, as nobody else has."""

_NET_ERRORS: Final = {
    "ERR_CONNECTION_REFUSED": Reason.REFUSED,
    "ERR_NAME_NOT_RESOLVED": Reason.NAME_NOT_FOUND,
    "ERR_TIMED_OUT": Reason.TIMED_OUT,
    "ERR_CONNECTION_TIMED_OUT": Reason.TIMED_OUT,
    "ERR_ADDRESS_UNREACHABLE": Reason.HOST_UNREACHABLE,
    "ERR_INTERNET_DISCONNECTED": Reason.NETWORK_UNREACHABLE,
    "ERR_NETWORK_ACCESS_DENIED": Reason.NETWORK_UNREACHABLE,
}
"""What the browser says where it reaches nothing, as reasons; anything else is a lost connection."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Visit:
    """What was seen of the site."""

    leaf: bytes
    """The leaf certificate, DER."""
    date: str
    """The answer's Date header, "" without one."""


class Tab:
    """A tab and the DevTools session that drives it."""

    def __init__(self, devtools: DevTools, session: str, target: str) -> None:
        self.crashed = False
        self._loaded = asyncio.Event()
        self._devtools = devtools
        self._session = session
        self._target = target  # also what its own frame, which holds all others, is called
        self._listen("Inspector.targetCrashed", self._crash)
        self._listen("Page.javascriptDialogOpening", self._answer_dialog)

    @classmethod
    async def open(cls, devtools: DevTools, context: str) -> Tab:
        """A new, empty tab of a browser context."""
        created = await devtools.call("Target.createTarget", url="about:blank", browserContextId=context)
        target = str(created["targetId"])
        answer = await devtools.call("Target.attachToTarget", targetId=target, flatten=True)
        tab = cls(devtools, str(answer["sessionId"]), target)
        await tab._call("Inspector.enable")
        await tab._call("Page.enable")
        width, height = VIEWPORT
        await tab._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        return tab

    async def visit(self, origin: str, page: str) -> Visit:
        """Load one of the site's pages, by its path.

        Raises :class:`~ptproxy.errors.DialError` where the site is not reached,
        :class:`~ptproxy.errors.AuthenticationError` where its certificate is not trusted.
        """
        documents: list[Params] = []

        def received(event: Params) -> None:
            if event.get("type") == "Document" and event.get("frameId") == self._target:
                documents.append(event["response"])

        self._listen("Network.responseReceived", received)
        self._listen("Page.loadEventFired", self._load)
        self._loaded.clear()
        try:
            await self._bypass_service_workers()
            await self._navigate(f"{origin}{page}", documents)
            if documents[-1].get("fromDiskCache"):  # then nothing was seen but a memory
                self._loaded.clear()
                await self._call("Page.reload")
                await self._settled(documents)
            answer = await self._call("Network.getCertificate", origin=origin)
        finally:
            self._listen("Network.responseReceived", None)
            self._listen("Page.loadEventFired", None)
        await self._call("Network.disable")
        return _visit(documents[-1], answer)

    async def trust_anybody(self) -> None:
        """Load pages whatever their certificate: only to look at it, before anything is said."""
        await self._call("Security.enable")
        await self._call("Security.setIgnoreCertificateErrors", ignore=True)

    async def host(self, origin: str) -> None:
        """Become the page that joins, under the site's origin and without a word to the site."""
        url = f"{origin}/{secrets.token_hex(16)}"
        page = _page()

        def paused(event: Params) -> None:
            if event["request"]["url"] != url:  # of an asset of the page before
                self._devtools.send("Fetch.continueRequest", self._session, requestId=event["requestId"])
                return
            self._devtools.send(
                "Fetch.fulfillRequest",
                self._session,
                requestId=event["requestId"],
                responseCode=200,
                responseHeaders=[
                    {"name": "Content-Type", "value": "text/html; charset=utf-8"},
                    {"name": "Cache-Control", "value": "no-store"},
                ],
                body=base64.b64encode(page).decode("ascii"),
            )

        self._listen("Fetch.requestPaused", paused)
        self._listen("Page.loadEventFired", self._load)
        self._loaded.clear()
        try:
            await self._bypass_service_workers()
            await self._call("Fetch.enable", patterns=[{"urlPattern": url}])
            answer = await self._call("Page.navigate", url=url)
            if "errorText" in answer:
                raise BrowserError(f"the browser does not show our page: {answer['errorText']}")
            async with asyncio.timeout(LOAD_TIMEOUT):
                await self._loaded.wait()
            await self._call("Fetch.disable")
            await self._call("Network.disable")
        except TimeoutError:
            raise BrowserError("the browser does not show our page in time") from None
        finally:
            self._listen("Fetch.requestPaused", None)
            self._listen("Page.loadEventFired", None)

    async def join(self, url: str) -> None:
        """Have the joining page open a local socket at ``url``; returns when that has ended."""
        answer = await self._call(
            "Runtime.evaluate", within=None, expression=f"join({json.dumps(url)})", awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise BrowserError("our page in the browser does not run")

    def forget(self) -> None:
        """Hear no more of it: it goes with its context."""
        self._devtools.forget(self._session)

    # ---- within ------------------------------------------------------------------------------------

    async def _bypass_service_workers(self) -> None:
        """Navigations are the network's business, not that of a worker of the site's."""
        await self._call("Network.enable")
        await self._call("Network.setBypassServiceWorker", bypass=True)

    async def _navigate(self, url: str, documents: list[Params]) -> None:
        answer = await self._call("Page.navigate", within=NAVIGATION_TIMEOUT, url=url)
        failed = str(answer.get("errorText", ""))
        if failed:
            raise _unreached(failed.removeprefix("net::"))
        await self._settled(documents)

    async def _settled(self, documents: list[Params]) -> None:
        """Until the page is loaded, or long enough was waited for its assets."""
        try:
            async with asyncio.timeout(LOAD_TIMEOUT):
                await self._loaded.wait()
        except TimeoutError:
            log.debug("the site's page is still loading")
        if self.crashed:
            raise PageCrashedError
        if not documents:
            raise BrowserError("the browser shows a page that it never received")

    async def _call(self, method: str, **params: object) -> Params:
        if self.crashed:
            raise PageCrashedError
        return await self._devtools.call(method, self._session, **params)  # type: ignore[arg-type]

    def _listen(self, method: str, on_event: object) -> None:
        self._devtools.listen(self._session, method, on_event)  # type: ignore[arg-type]

    def _answer_dialog(self, event: Params) -> None:
        """Nobody sees what the site's page asks; unanswered it would never be loaded, nor left."""
        del event
        self._devtools.send("Page.handleJavaScriptDialog", self._session, accept=True)

    def _load(self, event: Params) -> None:
        del event
        self._loaded.set()

    def _crash(self, event: Params) -> None:
        del event
        self.crashed = True
        self._loaded.set()
        self._devtools.forget(self._session)
        log.info("a page of the browser crashed")


def _visit(document: Params, answer: Params) -> Visit:
    """What the document's answer and the certificates say."""
    protocol = document.get("securityDetails", {}).get("protocol", "")
    if protocol not in ("TLS 1.3", "QUIC"):
        raise AuthenticationError(f"no TLS 1.3 with the bridge: {protocol or 'no TLS at all'}")
    chain = answer.get("tableNames", [])
    if not chain:
        raise BrowserError("the browser shows no certificate")
    try:
        leaf = base64.b64decode(chain[0], validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise BrowserError("the browser shows a certificate that is none") from None
    headers = {str(name).lower(): str(value) for name, value in document.get("headers", {}).items()}
    return Visit(leaf, headers.get("date", ""))


def _unreached(name: str) -> DialError | AuthenticationError:
    """What a navigation's error stands for."""
    said = name.removeprefix("ERR_").lower().replace("_", " ")
    if name.startswith("ERR_CERT_"):
        return AuthenticationError(f"the bridge's certificate is not trusted: {said}")
    if name.startswith(("ERR_SSL_", "ERR_TLS_", "ERR_BAD_SSL_")):
        return AuthenticationError(f"no TLS with the bridge: {said}")
    return DialError(_NET_ERRORS.get(name, Reason.CONNECTION_LOST), f"the browser says: {said}")


def _page() -> bytes:
    """The joining page with its script in it."""
    folder = Path(__file__).parent
    script = (folder / "page.js").read_bytes()
    return (folder / "page.html").read_bytes() + b"<script>\n" + script + b"</script>\n"
