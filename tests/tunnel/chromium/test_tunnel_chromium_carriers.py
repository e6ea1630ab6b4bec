"""Carriers that are a real Chromium's, to a bridge behind a real nginx."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import re
from pathlib import Path
from typing import Any

import chromium_rig
import pytest
from chromium_rig import NAME, PATH, processes, site, until
from tunnel_live import ECHO, Collect, digest

from ptproxy.codec.cookie import session_cookie_name
from ptproxy.codec.interface import CodecSettings
from ptproxy.errors import AuthenticationError, DialError, LocalProtocolError, Reason, StartError
from ptproxy.tunnel.beginning import _Nobody
from ptproxy.tunnel.carrier import Connection
from ptproxy.tunnel.chromium.browser import MAX_JOINS, BrowserFull, Run
from ptproxy.tunnel.chromium.guest import Guest
from ptproxy.tunnel.chromium.tab import Tab
from ptproxy.tunnel.client import OpeningRefused
from ptproxy.tunnel.connect import connect_tls

pytestmark = pytest.mark.program("chromium", "nginx")

COOKIE = session_cookie_name(CodecSettings(NAME, PATH))


async def to_and_fro(dialer: Any, size: int) -> None:
    """Small messages, then ``size`` bytes both ways at once, through an echo."""
    program = Collect()
    stream = await dialer.dial(ECHO, program)
    for turn in range(5):
        stream.write(b"message %d" % turn)
        assert (await program.until(9))[:9] == b"message %d" % turn
        program.data.clear()
    data = random.Random(size).randbytes(size)
    for start in range(0, size, 1 << 16):
        await program.writable.wait()
        stream.write(data[start : start + (1 << 16)])
        await asyncio.sleep(0)
    assert digest(await program.until(size)) == digest(data)
    stream.close()
    await program.lost


@pytest.mark.parametrize("codec", ["websocket", "http"])
@pytest.mark.parametrize("h2", ["http2", ""], ids=["HTTP/2", "HTTP/1.1"])
def test_a_page_first_and_then_a_carrier(browse: Any, tmp_path: Path, codec: str, h2: str) -> None:
    async def main() -> None:
        async with site(tmp_path, h2) as there:
            browser = there.chromium()
            dialer = there.browsing(codec, browser)
            await dialer.start()
            await to_and_fro(dialer, 4 << 20)
            await dialer.stop()
            await browser.stop()
            await until(lambda: not processes(tmp_path))
            await asyncio.sleep(0.1)
            seen = there.requests()
        paths = [re.search(r"(?:GET|POST) (\S+) HTTP", line)[1] for line in seen]  # type: ignore[index]
        assert paths[0] == "/"
        assert set(paths[1 : paths.index(PATH)]) >= {"/style.css", "/site.js"}
        assert set(paths) <= {"/", "/style.css", "/site.js", "/favicon.ico", PATH}
        ours = [line for line in seen if f" {PATH} " in line]
        others = [line for line in seen if f" {PATH} " not in line]
        assert all(f"{COOKIE}=" in line and "visitor=1" in line for line in ours)
        assert not any(f"{COOKIE}=" in line for line in others)
        assert len({re.search(rf"{COOKIE}=([\w-]+)", line)[1] for line in ours}) == len(ours)  # type: ignore[index]
        assert all("Mozilla/5.0 (X11; Linux x86_64)" in line and "Headless" not in line for line in seen)
        if codec == "websocket":
            assert len(ours) == 1
            assert ours[0].startswith("r ")  # a resumed TLS session, as a browser's always is
            assert " 101 " in ours[0]
        else:
            assert all(f'"https://{NAME}:' in line and line.endswith('/"') for line in ours)
            assert all(" 200 " in line for line in ours)
            if h2:
                assert {line.split()[1] for line in ours} <= {line.split()[1] for line in others}

    browse(main())


def test_the_link_says_which_pages_are_visited(browse: Any, tmp_path: Path) -> None:
    async def main() -> None:
        async with site(tmp_path) as there:
            (there.folder / "www" / "named.html").write_bytes(b"<title>A page</title>")
            dialer = there.browsing("websocket", there.chromium(pages=("/named.html",)))
            await dialer.start()
            asked = " ".join(there.requests())
            assert "/named.html" in asked
            assert "/style.css" not in asked, "which the first page names"

    browse(main())


@pytest.mark.parametrize("h2", ["http2", ""], ids=["HTTP/2", "HTTP/1.1"])
def test_carriers_are_guests_of_their_own(browse: Any, tmp_path: Path, h2: str) -> None:
    async def main() -> None:
        async with site(tmp_path, h2) as there:
            browser = there.chromium()
            codecs = ("http", "websocket", "http", "http")
            dialers = [there.browsing(codec, browser) for codec in codecs]
            await asyncio.gather(*(dialer.start() for dialer in dialers))
            await asyncio.gather(*(to_and_fro(dialer, 1 << 20) for dialer in dialers))
            assert all(len(dialer.tunnel.carriers) == 1 for dialer in dialers)
            call = browser._run.process.devtools.call

            async def pages() -> int:
                targets = (await call("Target.getTargets"))["targetInfos"]
                return sum(target["type"] == "page" for target in targets)

            assert await pages() == len(codecs)
            await dialers[0].stop()
            while await pages() > len(codecs) - 1:  # whose carrier has ended leaves
                await asyncio.sleep(0.01)
            for dialer in dialers[1:]:
                await dialer.stop()
            while (await call("Target.getBrowserContexts"))["browserContextIds"]:
                await asyncio.sleep(0.01)
            seen = there.requests()
        first = [line for line in seen if "GET / HTTP" in line]
        assert len(first) == len(codecs)
        assert len({line.split()[1] for line in first}) == len(codecs), "each on a connection of its own"
        assert all(" 200 " in line and line.startswith(". ") for line in first), (
            "as whoever comes for the first time"
        )

    browse(main())


def test_a_guest_that_waits_is_a_visitor_until_it_is_needed(browse: Any, tmp_path: Path) -> None:
    async def main() -> None:
        async with site(tmp_path) as there:
            browser = there.chromium()
            tunnel = there.browsing("http", browser).tunnel
            waiting, crashing, other = [await browser.visit() for _ in range(3)]
            assert not any(PATH in line for line in there.requests())
            visits = len(there.requests())
            await tunnel.connect("http", None, waiting)
            assert not any(" / HTTP" in line for line in there.requests()[visits:]), "the page was there"
            first = there.requests()[0].split()[1]
            assert all(line.split()[1] == first for line in there.requests() if PATH in line), (
                "on its connection"
            )
            crashing.guest._tab._crash({})  # as DevTools tells it
            assert not crashing.usable
            await tunnel.connect("http", None, crashing)  # another one comes in its place
            assert other.usable
            other.until = 0.0
            assert not other.usable, "its connection may be gone by now"
            other.drop()
            call = browser._run.process.devtools.call
            while len((await call("Target.getBrowserContexts"))["browserContextIds"]) > 2:
                await asyncio.sleep(0.01)  # the carriers' alone: the one that crashed has left as well
            tunnel.close()

    browse(main())


def test_a_page_that_crashes_before_it_joins_ends_nothing_else(
    browse: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Tab.host
    crashed = []

    async def crashing(tab: Tab, origin: str) -> None:
        await host(tab, origin)
        if not crashed:
            crashed.append(tab)
            tab._crash({})  # as DevTools tells it

    async def main() -> None:
        async with site(tmp_path) as there:
            browser = there.chromium()
            first, other = there.browsing("http", browser), there.browsing("websocket", browser)
            await first.start()
            before = browser.process_id
            carriers = list(first.tunnel.carriers)
            monkeypatch.setattr(Tab, "host", crashing)
            await other.start()
            assert crashed
            assert browser.process_id == before
            assert list(first.tunnel.carriers) == carriers

    browse(main())


def test_a_browser_has_room_for_so_many(browse: Any, tmp_path: Path) -> None:
    async def main() -> None:
        async with site(tmp_path) as there:
            browser = there.chromium()
            first, other = (there.browsing(codec, browser) for codec in ("http", "websocket"))
            await first.start()
            full = [Connection(_Nobody(), there.loop) for _ in range(MAX_JOINS - 1)]
            browser._joins += full
            with pytest.raises(BrowserFull):
                await other.start()
            waiting = await browser.visit()
            with pytest.raises(BrowserFull):
                await other.tunnel.connect("websocket", None, waiting)
            call = browser._run.process.devtools.call
            while len((await call("Target.getBrowserContexts"))["browserContextIds"]) > 1:
                await asyncio.sleep(0.01)  # nobody else would have it leave
            full[0].ended = True
            await other.start()

    browse(main())


@pytest.mark.parametrize("h2", ["http2", ""], ids=["HTTP/2", "HTTP/1.1"])
def test_polls_where_the_front_buffers(browse: Any, tmp_path: Path, h2: str) -> None:
    async def main() -> None:
        async with site(tmp_path, h2, "proxy_ignore_headers X-Accel-Buffering;") as there:
            dialer = there.browsing("http", there.chromium())
            dialer.tunnel._download = "poll"  # as once found out
            await dialer.start()
            await to_and_fro(dialer, 2 << 20)
            assert 1 in dialer.tunnel.carriers  # it served to the end; bulk may have brought another

    browse(main())


def test_another_address_where_the_first_is_in_vain(
    browse: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def found(loop: Any, host: str, port: int) -> list[str]:
        return ["127.0.0.9", "127.0.0.1"]

    async def main() -> None:
        monkeypatch.setattr("ptproxy.tunnel.chromium.browser.bridge_addresses", found)
        async with site(tmp_path) as there:
            dialer = there.browsing("websocket", there.chromium())
            with pytest.raises(DialError):
                await dialer.start()
            await dialer.start()
            await to_and_fro(dialer, 1 << 10)

    browse(main())


def test_the_pinned_leaf_is_learnt_once(browse: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    look = Run.look

    async def counted(run: Run, page: str) -> Any:
        looks.append(run)
        return await look(run, page)

    async def main() -> None:
        monkeypatch.setattr(Run, "look", counted)
        async with site(tmp_path) as there:
            for _ in range(2):
                browser = there.chromium(known=False)
                dialer = there.browsing("websocket", browser)
                await dialer.start()
                await dialer.stop()
                await browser.stop()
                assert len(looks) == 1
            folder = tmp_path / "chromium"
            assert folder.stat().st_mode & 0o777 == 0o700
            assert (folder / "profile").stat().st_mode & 0o777 == 0o700

    browse(main())


@pytest.mark.parametrize(("known", "pin"), [(True, b"x" * 32), (False, b"x" * 32), (True, None)])
def test_another_certificate_gets_nothing(
    browse: Any, tmp_path: Path, known: bool, pin: bytes | None
) -> None:
    async def main() -> None:
        async with site(tmp_path) as there:
            browser = there.chromium(known=known, pin=pin)
            if known and pin is not None:  # even where the browser itself would be content
                pinned = tmp_path / "chromium" / "pinned"
                pinned.write_text(f"{pin.hex()} {pinned.read_text().split()[1]}\n")
            with pytest.raises(AuthenticationError):
                await there.browsing("http", browser, pin=pin).start()
            assert not any(PATH in line for line in there.requests())
            assert not (tmp_path / "chromium" / "pinned").exists() or known

    browse(main())


def test_somebody_in_between_ends_no_carrier_that_is_there(
    browse: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever answers one connection with nonsense; the browser calls that ERR_SSL_PROTOCOL_ERROR."""

    async def in_between(guest: Guest, origin: str, page: str) -> Any:
        raise AuthenticationError("no TLS with the bridge")

    async def main() -> None:
        async with site(tmp_path) as there:
            browser = there.chromium()
            first, other = there.browsing("http", browser), there.browsing("http", browser)
            await first.start()
            before, carriers = browser.process_id, list(first.tunnel.carriers)
            pinned = (tmp_path / "chromium" / "pinned").read_text()
            monkeypatch.setattr(Guest, "visit", in_between)
            with pytest.raises(AuthenticationError):
                await other.start()
            assert browser.process_id == before
            assert list(first.tunnel.carriers) == carriers
            assert (tmp_path / "chromium" / "pinned").read_text() == pinned

    browse(main())


def test_a_damaged_memory_of_the_pinned_leaf_heals(browse: Any, tmp_path: Path) -> None:
    async def main() -> None:
        async with site(tmp_path) as there:
            browser = there.chromium()
            wrong = f"{there.digest.hex()} {base64.b64encode(bytes(32)).decode()}"
            (tmp_path / "chromium" / "pinned").write_text(wrong)
            dialer = there.browsing("websocket", browser)
            with pytest.raises(AuthenticationError):
                await dialer.start()
            await dialer.start()

    browse(main())


def test_a_refused_opening_and_a_site_that_is_not_there(browse: Any, tmp_path: Path) -> None:
    async def main() -> None:
        async with site(tmp_path) as there:
            browser = there.chromium()
            for codec in ("websocket", "http"):
                with pytest.raises(OpeningRefused, match="stranger"):
                    await there.browsing(codec, browser, key=bytes(31) + b"\x09").start()
            there.nginx.terminate()
            there.nginx.wait()
            with pytest.raises(DialError) as raised:
                await there.browsing("websocket", browser).start()
            assert raised.value.reason in (Reason.REFUSED, Reason.CONNECTION_LOST)
            route = there.browsing("http", browser).tunnel.route
            with pytest.raises(LocalProtocolError):  # no hello but the browser's, whatever goes wrong
                await connect_tls(there.loop, Connection(_Nobody(), there.loop), route, "page")
            assert browser.codecs(("random", "http", "websocket")) == ("http", "websocket")
            with pytest.raises(StartError, match="not random"):
                browser.codecs(("random",))

    browse(main())


def test_a_clock_that_is_off_is_set_by_the_visit(
    browse: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    from ptproxy.tunnel import client

    class Late:
        @staticmethod
        def time() -> float:
            return time.time() - 3600

    async def main() -> None:
        async with site(tmp_path) as there:
            monkeypatch.setattr(client, "time", Late)
            dialer = there.browsing("websocket", there.chromium())
            await dialer.start()
            assert 3590 < dialer.tunnel.clock_offset < 3610
            assert len([line for line in there.requests() if PATH in line]) <= 1  # no opening was in vain

    browse(main())


WORKER = b"""addEventListener("install", () => skipWaiting());
addEventListener("activate", event => event.waitUntil(clients.claim()));
addEventListener("fetch", event => event.respondWith(fetch(event.request)));"""


def test_a_site_that_is_hard_to_be_a_guest_of(browse: Any, tmp_path: Path) -> None:
    """It asks questions, takes over whatever page is its own, and forbids every connection."""

    async def main() -> None:
        async with site(tmp_path) as there:
            (tmp_path / "www" / "worker.js").write_bytes(WORKER)
            (tmp_path / "www" / "index.html").write_text(
                """<script>alert("Welcome!"); onbeforeunload = event => event.preventDefault();
                navigator.serviceWorker.register("/worker.js")</script>"""
            )
            browser = there.chromium()
            for codec in ("http", "websocket", "http"):
                dialer = there.browsing(codec, browser)
                await dialer.start()
                await to_and_fro(dialer, 1 << 20)
                assert len(dialer.tunnel.carriers) == 1
            paths = {re.search(r"(?:GET|POST) (\S+) HTTP", line)[1] for line in there.requests()}  # type: ignore[index]
            assert paths <= {"/", "/worker.js", "/favicon.ico", PATH}

    browse(main())


def test_what_stands_in_the_page_is_not_the_page(
    browse: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame whose text is in its own URL comes without TLS."""
    allowing = chromium_rig.CONFIG.replace("connect-src 'none'", "frame-src data:")
    monkeypatch.setattr(chromium_rig, "CONFIG", allowing)

    async def main() -> None:
        async with site(tmp_path) as there:
            (tmp_path / "www" / "index.html").write_bytes(
                b'<h1>A</h1><iframe src="data:text/html,B"></iframe>'
            )
            visited = await there.chromium().visit()
            assert visited.shown.digest == there.digest
            assert visited.shown.date

    browse(main())


def test_nothing_but_the_site_is_looked_up_or_connected_to(
    browse: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the browser's own record of all that its network stack did."""
    monkeypatch.setattr(
        "ptproxy.tunnel.chromium.process.END_TIMEOUT", 40.0
    )  # the record is written at its end
    record = tmp_path / "net.json"

    async def main() -> int:
        async with site(tmp_path) as there:
            (tmp_path / "www" / "index.html").write_text(
                '<img src="https://elsewhere.example/pixel"><script src="https://cdn.example/a.js"></script>'
            )
            browser = there.chromium(
                switches=(f"--log-net-log={record}", "--net-log-capture-mode=Everything")
            )
            dialer = there.browsing("http", browser)
            await dialer.start()
            await to_and_fro(dialer, 1 << 16)
            await asyncio.sleep(2)  # what a browser does by itself it does soon after its start
            await dialer.stop()
            await browser.stop()
            return there.port

    port = browse(main())
    log = json.loads(record.read_text())
    kinds = {number: name for name, number in log["constants"]["logEventTypes"].items()}
    connected, resolved, datagrams = set(), set(), 0
    for event in log["events"]:
        kind, params = kinds[event["type"]], event.get("params", {})
        if kind == "TCP_CONNECT_ATTEMPT" and "address" in params:
            connected.add(params["address"])
        elif kind == "HOST_RESOLVER_MANAGER_JOB" and "host" in params:
            resolved.add(params["host"])
        elif kind in ("UDP_BYTES_SENT", "HOST_RESOLVER_DNS_TASK", "HOST_RESOLVER_SYSTEM_TASK"):
            datagrams += 1
    assert {"HOST_RESOLVER_MANAGER_JOB", "UDP_BYTES_SENT", "HOST_RESOLVER_SYSTEM_TASK"} <= set(kinds.values())
    assert f"127.0.0.1:{port}" in connected
    assert {one for one in connected if not one.startswith("127.0.0.1:")} == set()
    assert resolved == set()
    assert datagrams == 0
