"""A running client's page (``page:``) in a real browser, beside real bridges: what it shows is true."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import signal

import pytest
from live import HOST, Bridge, Client, made, read_exactly, serving, through
from page_browser import browser, tab

from ptproxy.proxy.control_asking import Asking

pytestmark = [pytest.mark.program("chromium")]

LANGUAGES = {"en": "ltr", "fa": "rtl", "zh": "ltr", "ru": "ltr"}
SIZES = ((360, 1300), (1000, 900))
"""Of a telephone, and of a window."""
QUOTA = 1 << 20
REBOUND = "rebound.example"
"""A name that somebody has made lead to this machine."""


def invited(bridge, name, *options):
    """The link of a new account at a bridge."""
    made("account", "add", bridge.folder, name, *options)
    said = made("account", "invite", bridge.folder, name, "--no-qr")
    return next(word for word in said.split() if word.startswith("ptproxy://"))


@pytest.fixture(scope="module")
def bridges(folder):
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Bridge(folder / name, access="enrolled")) for name in ("one", "two")]


@pytest.fixture
def client(tmp_path, request, bridges):
    """A client of both bridges; its account at the first is soon used up."""
    name = f"a{abs(hash(request.node.name)) % 1_000_000}"
    links = [invited(bridges[0], name, "--quota", QUOTA), invited(bridges[1], name)]
    client = Client(
        tmp_path / "c", links[0], "http", page=f"{HOST}:0", find__lines="bridges.txt",
        tls__fingerprint="python", shape="none",
    )  # fmt: skip
    (client.folder / "bridges.txt").write_text("\n".join(links))
    (client.folder / "bridges.txt").chmod(0o600)
    with client:
        yield client


@pytest.fixture
def walk(tmp_path, client):
    """Runs a walk that begins in a tab which shows the client's page, and is connected."""

    def run(steps):
        async def main():
            async with browser(tmp_path, f"--host-resolver-rules=MAP {REBOUND} {HOST}") as process:
                await steps(process, await opened(process, client))

        asyncio.run(main())

    return run


async def opened(process, client):
    """A new tab that shows the client's page."""
    page = await tab(process)
    await page.languages("en")
    await page.go((client.folder / "state" / "page.html").as_uri())
    await shows(page, "connected")
    return page


async def shows(page, *conditions):
    """Wait until the page says that the client is in one of some conditions, and hides nothing of it."""
    found = " || ".join(f"s.className === '{each}'" for each in conditions)
    await page.until(f"(s => s && ({found}) && s.checkVisibility())(document.getElementById('status'))")


async def speak(page, language):
    await page.follow(f"document.querySelector('a[hreflang={language}]').click()")
    assert await page.run("document.documentElement.lang") == language
    assert await page.run("document.documentElement.dir") == LANGUAGES[language]


async def press(page, key, code):
    for kind in ("keyDown", "keyUp"):
        text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
        await page.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **text)


async def tab_to(page, selector):
    """Go there by the keyboard alone, from the page's beginning; everything on the way shows its focus."""
    await page.run("document.activeElement.blur(), window.getSelection().removeAllRanges()")
    for _ in range(30):
        await press(page, "Tab", 9)
        there = await page.run(
            f"[document.activeElement.matches({json.dumps(selector)}),"
            " getComputedStyle(document.activeElement).outlineStyle]"
        )
        assert there[1] != "none"
        if there[0]:
            return
    raise AssertionError(f"{selector} is not reached by Tab")


def choice(client):
    """The bridges as the client itself tells them."""
    with Asking(client.folder / "state") as running:
        return running.ask("state")["choice"]


# ---- what it shows -----------------------------------------------------------------------------------


def test_it_reads_well_in_each_language_and_width_and_loads_nothing_from_elsewhere(walk, tmp_path):
    async def steps(_, page):
        for language in LANGUAGES:
            await speak(page, language)
            for width, height in SIZES:
                await page.size(width, height)
                assert await page.run("document.documentElement.scrollWidth") <= width
                sides = "(r => [r.left, r.right])(document.querySelector('main').getBoundingClientRect())"
                left, right = await page.run(sides)
                seen = await page.run("document.documentElement.clientWidth")
                assert left == pytest.approx(seen - right, abs=1)
                await page.picture(tmp_path / f"{language}-{width}.png")
            loaded = await page.run("performance.getEntriesByType('resource').map(each => each.name)")
            here = await page.run("location.origin")
            assert loaded
            assert all(each.startswith(f"{here}/") for each in loaded)
            assert await page.run("document.querySelectorAll('[style], [onclick], iframe, img').length") == 0

    walk(steps)


def test_it_says_when_the_bridges_are_gone_and_when_they_are_back(walk, tmp_path, bridges):
    """By itself: the document stays the one that was opened."""

    async def steps(_, page):
        await speak(page, "fa")
        await page.run("window.isOld = true")
        for bridge in bridges:
            await asyncio.to_thread(bridge.program.stop, signal.SIGKILL)
        await shows(page, "trying", "blocked")
        assert "وصل است" not in await page.text("main")
        assert "وصل است" not in await page.run("document.title")
        await page.picture(tmp_path / "gone.png")
        for bridge in bridges:
            await asyncio.to_thread(bridge.start)
        await shows(page, "connected")
        assert await page.run("window.isOld")

    walk(steps)


def test_another_bridge_is_chosen_by_the_keyboard_alone(walk, client, bridges, echo):
    async def steps(_, page):
        await page.until("document.querySelectorAll('#bridges li').length === 2")
        second = bridges[1].address
        await tab_to(page, "#bridges button")
        await page.run("window.isOld = true")
        await press(page, "Enter", 13)
        await page.until("!window.isOld && document.querySelector('#said.good') !== null")
        row = "document.querySelectorAll('#bridges li')[1]"
        await page.until(f"{row}.innerText.includes('in use')")
        assert second in await page.run(f"{row}.innerText")
        with await asyncio.to_thread(through, client.port, echo) as sock:
            await asyncio.to_thread(sock.sendall, b"hello")
            assert await asyncio.to_thread(read_exactly, sock, 5) == b"hello"
        assert [each["bridge"] for each in choice(client) if each["taken"]] == [second]

    walk(steps)


def test_the_address_is_copied_by_the_keyboard(walk, client):
    async def steps(process, page):
        await process.devtools.call(
            "Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"]
        )
        await page.call("Page.bringToFront")
        await tab_to(page, "#copy")
        await press(page, "Enter", 13)
        await page.until("document.getElementById('copy').textContent === 'Copied'")
        assert await page.run("navigator.clipboard.readText()") == f"{HOST}:{client.port}"

    walk(steps)


def test_what_is_left_is_shown_and_why_nothing_works_any_more(walk, client, tmp_path, echo):
    def use_up():
        with contextlib.suppress(ConnectionError), through(client.port, echo) as sock:
            for _ in range(QUOTA >> 15):
                sock.sendall(bytes(1 << 15))
                read_exactly(sock, 1 << 15)

    async def steps(_, page):
        await page.until("document.getElementById('account').innerText.includes('1.0 MB of 1.0 MB left')")
        assert await page.run("document.querySelector('#account meter').value") == 1
        await asyncio.to_thread(use_up)
        await page.until("document.getElementById('account').innerText.includes('volume is used up')")
        assert await page.run("document.querySelector('#account meter').value") == 0
        await shows(page, "refused")  # it is connected, and that is of no use
        await speak(page, "ru")
        assert "исчерпан" in await page.text("#account")
        await page.picture(tmp_path / "used.png")

    walk(steps)


def test_a_second_tab_works_beside_the_first_and_outlives_it(walk, client, tmp_path):
    """Once the client has ended none of them says that it is connected."""

    async def steps(process, first):
        second = await opened(process, client)
        await first.call("Page.close")
        third = await opened(process, client)
        await asyncio.to_thread(client.program.stop)
        for page in (second, third):
            await page.until("document.getElementById('lost').checkVisibility()")
            assert not await page.run("document.getElementById('status').checkVisibility()")
            assert "Connected" not in await page.run("document.title")
            top = await page.run("document.getElementById('lost').getBoundingClientRect().top")
            assert 0 <= top < SIZES[0][0]  # seen without scrolling
        await third.picture(tmp_path / "ended.png")

    walk(steps)


# ---- who may not ask -----------------------------------------------------------------------------------


class Hostile(http.server.BaseHTTPRequestHandler):
    """Another server of this machine, whose page the same browser shows."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>other</title>")

    def log_message(self, *_):
        pass


async def status_of(page):
    """Of the document that is shown."""
    return await page.run("performance.getEntriesByType('navigation')[0].responseStatus")


def test_another_page_of_the_browser_can_do_nothing_though_it_knows_the_address(walk, client, bridges):
    """One of the same host, which the browser sends our cookie from: a page's own site has no ports."""

    async def steps(process, page):
        place = await page.run("location.origin + location.pathname")
        token = await page.run("document.querySelector('[name=token]').value")
        second = bridges[1].address
        with serving(Hostile) as port:
            for host in (HOST, REBOUND):
                other = await tab(process)
                await other.go(f"http://{host}:{port}/")
                asked = await other.run(
                    f"fetch({json.dumps(place)}, {{credentials: 'include'}}).then(a => a.status, () => 'no')"
                )
                assert asked == "no"  # not to be read
                given = f"f.append('token', {json.dumps(token)}), f.append('bridge', {json.dumps(second)})"
                await other.run(
                    f"(f => ({given}, fetch({json.dumps(place + 'bridge')}, {{method: 'POST', body: f, "
                    "mode: 'no-cors', credentials: 'include'}).then(() => 0, () => 0)))(new FormData())"
                )
                await other.run(
                    f"document.body.innerHTML = `<form method=post enctype=multipart/form-data"
                    f' action="{place}bridge"><input name=token value="{token}">'
                    f'<input name=bridge value="{second}"></form><iframe src="{place}"></iframe>`'
                )
                await other.follow("document.querySelector('form').submit()")
                assert await status_of(other) == 403
                assert second not in await other.text("body")
        assert [each["bridge"] for each in choice(client) if each["taken"]] == [bridges[0].address]

    walk(steps)


def test_a_name_that_leads_to_this_machine_is_not_the_page_s(walk, client):
    async def steps(process, page):
        door = (client.folder / "state" / "page.html").read_text().split("url=")[1].split('"')[0]
        assert door.startswith(f"http://{HOST}:")
        place = await page.run("location.href")
        for url in (door, place):
            other = await tab(process)
            await other.go(url.replace(HOST, REBOUND))
            assert await status_of(other) == 421
            assert str(client.port) not in await other.text("body")

    walk(steps)


def test_nothing_is_done_without_the_form_s_token_nor_shown_without_the_cookie(walk, client, bridges):
    async def steps(process, page):
        second = json.dumps(bridges[1].address)

        async def post(token):
            return await page.run(
                f"(f => (f.append('bridge', {second}), f.append('token', {token}), "
                "fetch('bridge', {method: 'POST', body: f}).then(a => a.status)))(new FormData())"
            )

        for wrong in ("''", "'x'", "'x'.repeat(43)"):
            assert await post(wrong) == 403
        assert [each["bridge"] for each in choice(client) if each["taken"]] == [bridges[0].address]
        place = await page.run("location.href")
        context = (await process.devtools.call("Target.createBrowserContext"))["browserContextId"]
        stranger = await tab(process, browserContextId=context)
        await stranger.go(place)
        assert await status_of(stranger) == 403
        assert await post("document.querySelector('[name=token]').value") == 200  # its answer leads there

    walk(steps)
