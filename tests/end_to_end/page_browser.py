"""A headless Chromium that a test drives: it opens pages, fills in forms, and says what they show."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from ptproxy.tunnel.chromium.devtools import BrowserError
from ptproxy.tunnel.chromium.process import Process

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--remote-debugging-pipe", "--disable-background-networking", "--disable-component-update",
)  # fmt: skip
PATIENCE = 120.0
"""Seconds after which something that should have happened counts as broken."""


class Page:
    """A tab."""

    def __init__(self, process: Process, session: str) -> None:
        self._process = process
        self._session = session

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        return await self._process.devtools.call(method, self._session, within=PATIENCE, **params)

    async def run(self, script: str) -> Any:
        """The value of an expression in the page, awaited."""
        answer = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def go(self, url: str) -> None:
        answer = await self.call("Page.navigate", url=url)
        assert "errorText" not in answer, answer

    async def until(self, script: str) -> Any:
        """Wait until an expression is true, whatever page is there by then."""
        async with asyncio.timeout(PATIENCE):
            while True:
                with contextlib.suppress(AssertionError, BrowserError):  # between two documents
                    if found := await self.run(script):
                        return found
                await asyncio.sleep(0.05)

    async def follow(self, script: str) -> None:
        """Do what leads to another document, and wait until that is loaded."""
        await self.run("window.isOld = true")
        await self.run(script)
        await self.until("!window.isOld && document.readyState === 'complete'")

    async def text(self, selector: str) -> str:
        return str(await self.run(f"document.querySelector({json.dumps(selector)}).innerText"))

    async def give_file(self, selector: str, path: Path) -> None:
        root = (await self.call("DOM.getDocument"))["root"]["nodeId"]
        node = (await self.call("DOM.querySelector", nodeId=root, selector=selector))["nodeId"]
        await self.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node)

    async def size(self, width: int, height: int) -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
            mobile=False,
        )  # fmt: skip

    async def picture(self, path: Path) -> None:
        """A picture of what is seen of the page, for whoever wants to look at it."""
        answer = await self.call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(answer["data"]))  # noqa: ASYNC240  (a test's own loop)

    async def languages(self, accepted: str) -> None:
        agent = (await self._process.devtools.call("Browser.getVersion"))["userAgent"]
        await self.call("Emulation.setUserAgentOverride", userAgent=agent, acceptLanguage=accepted)


@contextlib.asynccontextmanager
async def browser(folder: Path, *more: str) -> AsyncIterator[Process]:
    """A browser with a profile of its own, and ``more`` flags."""
    program = shutil.which("chromium") or "chromium"
    process = await Process.start(
        asyncio.get_running_loop(),
        [program, *FLAGS, *more, f"--user-data-dir={folder / 'profile'}", "about:blank"],
    )
    try:
        yield process
    finally:
        await process.end()


async def tab(process: Process, **options: Any) -> Page:
    """A new, empty tab; ``options`` as ``Target.createTarget`` takes them."""
    created = await process.devtools.call(
        "Target.createTarget", within=PATIENCE, url="about:blank", **options
    )
    attached = await process.devtools.call(
        "Target.attachToTarget", targetId=created["targetId"], flatten=True
    )
    page = Page(process, str(attached["sessionId"]))
    await page.call("Page.enable")
    return page
