"""``ptproxy page`` in a real browser: from an empty folder over a pasted link to a connected client."""

from __future__ import annotations

import asyncio
import json
import re
import stat
import sys

import pytest
from live import HOST, Bridge, Program
from page_browser import browser, tab

from ptproxy.errors import StartError
from ptproxy.proxy.control_asking import Asking

pytestmark = [pytest.mark.program("chromium")]


@pytest.fixture
def steered(tmp_path):
    """The folder of a client that its page steers, and the page's process."""
    program = Program(
        "page",
        [sys.executable, "-m", "ptproxy", "page", tmp_path / "c", "--no-open", "--listen", f"{HOST}:0"],
        tmp_path,
    )
    program.ready(rb"open (\S+) in")
    yield tmp_path / "c", program
    program.stop()


async def speak(page, language):
    """Follow the link to a language; the direction that the page is then read in."""
    await page.follow(f"document.querySelector('a[hreflang={language}]').click()")
    assert await page.run("document.documentElement.lang") == language
    return await page.run("document.documentElement.dir")


async def paste(page, link):
    """Give the page a link; what it says of it."""
    await page.run(f"document.getElementById('link').value = {json.dumps(link)}")
    await page.follow("document.querySelector('#add button').click()")
    return await page.text("#said")


async def walk(folder, profile, link):
    async with browser(profile) as process:
        page = await tab(process)
        await page.languages("en")
        await page.go((folder / "page.html").as_uri())
        await page.until("document.querySelector('#status.empty') && document.readyState === 'complete'")
        assert await page.run("document.documentElement.dir") == "ltr"
        assert await page.run("document.cookie") == ""  # no script reads the secret

        assert await speak(page, "fa") == "rtl"
        assert await page.run("getComputedStyle(document.body).direction") == "rtl"
        assert await page.run("getComputedStyle(document.getElementById('link')).direction") == "ltr"
        assert await speak(page, "en") == "ltr"

        assert (await paste(page, "hello")).startswith("That is no link")
        assert not (folder / "client.yaml").exists()

        assert await paste(page, f"Here it is: {link}") == "The link was taken."
        await page.until("document.querySelector('#status.connected') !== null")
        assert await page.text("#status h2") == "Connected"
        assert await speak(page, "fa") == "rtl"
        await page.until("document.querySelector('#status.connected') !== null")
        return await page.run("document.getElementById('socks').value")


def test_a_person_without_a_terminal_pastes_a_link_and_is_connected(tmp_path, steered):
    folder, program = steered
    assert stat.S_IMODE((folder / "page.html").stat().st_mode) == 0o600
    with Bridge(tmp_path / "bridge") as bridge:
        socks = asyncio.run(walk(folder, tmp_path, bridge.link))
        with Asking(folder / "state") as running:
            state = running.ask("state")
        assert [each["bridge"] for each in state["bridges"]] == [bridge.address]
        assert re.fullmatch(rf"{re.escape(HOST)}:\d+", socks)
        assert any(socks in place for place in state["listening"])
        assert program.stop() == 0
    assert "Traceback" not in program.logged(), program.logged()
    assert bridge.link not in program.logged()
    with pytest.raises(StartError), Asking(folder / "state") as running:  # its client ended with it
        running.ask("state")
