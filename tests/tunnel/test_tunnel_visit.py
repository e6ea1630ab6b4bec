"""Carriers of a client that looks like a browser: the page first, the ticket resumed, odd sites."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import Any

import pytest
from tunnel_live import ECHO, Collect, TestSite, live

from ptproxy.codec.page.cache import SiteMemory
from ptproxy.errors import DialError, Reason, StartError
from ptproxy.proxy.shape_files import built_in
from ptproxy.tunnel import visit as visit_module
from ptproxy.tunnel.appearance import appearance_of
from ptproxy.tunnel.beginning import UNSHAPED
from ptproxy.tunnel.client_carrier import greeting_of
from ptproxy.tunnel.client_tls import BrowserLikeTls
from ptproxy.tunnel.dial import TunnelDialer
from ptproxy.tunnel.shaped_dial import ShapedDialer
from ptproxy.tunnel.tls import ClientTrust

PAGE = b"<link rel=stylesheet href=/a.css><p>a site</p>"


class PageSite(TestSite):
    """A site that answers each request on a connection, with a page or 404, and keeps it open."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[bytes] = []
        self.together = 0
        """How many pictures have to be asked for before one is answered."""
        self.held: list[tuple[Any, bytes]] = []

    def adopt(self, transport: Any, received: bytes) -> None:
        self.received.append(received)
        self.transports.append(transport)
        transport.set_protocol(Visitors(self, transport))
        transport.get_protocol().data_received(received)

    def hold(self, transport: Any, answer: bytes) -> None:
        self.held.append((transport, answer))
        if len(self.held) == self.together:
            self.release()

    def release(self) -> None:
        self.together = 0
        for waiting, text in self.held:
            waiting.write(text)


class Visitors(asyncio.Protocol):
    page = PAGE
    withheld = 0
    """Bytes of each style sheet that never come."""

    def __init__(self, site: PageSite, transport: Any) -> None:
        self.site, self.transport = site, transport

    def data_received(self, data: bytes) -> None:
        for head in bytes(data).split(b"\r\n\r\n")[:-1]:
            path = head.split()[1]
            self.site.asked.append(path)
            body = {b"/": self.page, b"/a.css": b"p {}"}.get(path, b"")
            status = b"200 OK" if body else b"404 Not Found"
            size = len(body) + self.withheld * (path == b"/a.css")
            answer = b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, size, body)
            if path.endswith(b".png") and self.site.together:
                self.site.hold(self.transport, answer)
            else:
                self.transport.write(answer)


def browser_dialer(bridge: Any, codec: str, fingerprint: str = "chrome") -> TunnelDialer:
    route = bridge.route(codec)
    route = replace(
        route,
        tls=BrowserLikeTls(fingerprint, ClientTrust(pin=bridge.digest)),
        appearance=appearance_of(fingerprint, SiteMemory()),
    )
    dialer = TunnelDialer(bridge.loop, route, carriers=2)
    bridge.dialers.append(dialer)
    return dialer


async def echo(dialer: TunnelDialer, size: int = 300_000) -> None:
    local = Collect()
    stream = await dialer.dial(ECHO, local)
    data = random.Random(size).randbytes(size)
    stream.write(data)
    assert await local.until(size) == data
    stream.abort()


def resumed(dialer: TunnelDialer) -> list[bool]:
    """Of each connection of the carriers: whether it resumed another one."""
    carriers = dialer.tunnel.carriers.values()
    connections = [one for carrier in carriers for one in carrier.connections.values()]
    return [one.transport.get_extra_info("ssl_object").resumed() for one in connections]


@pytest.mark.parametrize("fingerprint", ["chrome", "firefox"])
@pytest.mark.parametrize("codec", ["websocket", "http", "random"])
def test_the_page_comes_first_and_its_ticket_is_resumed(
    run: Any, tmp_path: Any, codec: str, fingerprint: str
) -> None:
    async def main() -> None:
        site = PageSite()
        async with live(tmp_path, site=site) as bridge:
            dialer = browser_dialer(bridge, codec, fingerprint)
            await dialer.start()
            assert site.asked == [b"/", b"/a.css", b"/favicon.ico"]
            await echo(dialer)
            assert resumed(dialer)
            assert all(resumed(dialer))

    run(main())


@pytest.mark.parametrize("codec", ["websocket", "http"])
def test_a_site_that_closes_at_once_keeps_nobody_out(run: Any, tmp_path: Any, codec: str) -> None:
    async def main() -> None:
        async with live(tmp_path) as bridge:  # its site says 404 and closes
            dialer = browser_dialer(bridge, codec)
            await dialer.start()
            await echo(dialer)

    run(main())


def test_a_page_that_never_comes_keeps_nobody_waiting(
    run: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class SilentSite(PageSite):
        def adopt(self, transport: Any, received: bytes) -> None:
            self.transports.append(transport)

    async def main() -> None:
        async with live(tmp_path, site=SilentSite()) as bridge:
            dialer = browser_dialer(bridge, "websocket")
            await dialer.start()
            await echo(dialer)

    monkeypatch.setattr("ptproxy.tunnel.visit.VISIT_PATIENCE", 0.1)
    run(main())


def test_an_asset_without_an_end_is_left(run: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It came for as long as the connection of the page stayed, gigabytes of it."""
    monkeypatch.setattr(visit_module, "VISIT_PATIENCE", 0.3)

    site = PageSite()
    monkeypatch.setattr(Visitors, "withheld", 1 << 40)

    async def main() -> None:
        async with live(tmp_path, site=site) as bridge:
            dialer = browser_dialer(bridge, "websocket")
            await dialer.start()
            assert site.asked == [b"/", b"/a.css"]
            async with asyncio.timeout(5):
                while not site.transports[0].is_closing():
                    await asyncio.sleep(0.01)
            await echo(dialer)

    run(main())


def test_one_visit_serves_all_websockets_while_tickets_are_left(run: Any, tmp_path: Any) -> None:
    async def main() -> None:
        site = PageSite()
        async with live(tmp_path, site=site) as bridge:
            dialer = browser_dialer(bridge, "websocket")
            await dialer.start()
            for _ in range(3):
                await dialer.tunnel.connect("websocket")
            assert site.asked.count(b"/") == 1
            assert all(resumed(dialer))
            await echo(dialer)

    run(main())


def test_where_no_carrier_goes_on_after_a_page_carriers_are_opened_ahead(run: Any, tmp_path: Any) -> None:
    """Over HTTP/1.1 a connection that has shown the page is the site's: a carrier begins beside it."""

    async def main() -> None:
        site = PageSite()
        async with live(tmp_path, site=site, shape=built_in()) as bridge:
            plain = browser_dialer(bridge, "http")
            dialer = ShapedDialer(bridge.loop, plain._route, carriers=4, shape=built_in())
            bridge.dialers.append(dialer)
            await dialer.start()
            stream = await dialer.dial(ECHO, Collect())
            async with asyncio.timeout(20):
                while len(dialer.tunnel.carriers) < 1 + built_in().browse.warm_carriers:
                    await asyncio.sleep(0.02)
            assert site.asked.count(b"/") == 1 + built_in().browse.warm_carriers
            stream.abort()

    run(main())


PICTURES = b"".join(b"<img src=/%d.png>" % number for number in range(9))


@pytest.mark.parametrize(("codec", "most"), [("websocket", 6), ("http", 3)])
def test_over_http_1_1_the_page_has_a_browser_s_connections(
    run: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, codec: str, most: int
) -> None:
    """Six; a carrier of requests finds three of them left, the first already open."""
    monkeypatch.setattr(Visitors, "page", PICTURES)
    monkeypatch.setattr(visit_module, "VISIT_PATIENCE", 60.0)
    site = PageSite()

    async def main() -> None:
        site.together = most
        async with live(tmp_path, site=site) as bridge:
            dialer = browser_dialer(bridge, codec)
            dialled: list[bool] = []
            connect = visit_module.connect_tls

            async def counted(*arguments: Any) -> bytes:
                digest = await connect(*arguments)
                dialled.append(arguments[1].transport.get_extra_info("ssl_object").resumed())
                return digest

            monkeypatch.setattr(visit_module, "connect_tls", counted)
            await dialer.start()
            assert sorted(site.asked) == sorted([b"/", *(b"/%d.png" % n for n in range(9)), b"/favicon.ico"])
            assert len(site.transports) == most
            assert len(dialled) == (most + 1 if codec == "http" else most)
            assert not dialled[0]
            assert sum(dialled) >= 2  # as far as tickets reach: two; which is done first may differ
            await echo(dialer)
            assert all(not transport.is_closing() for transport in site.transports)
            assert dialer.visitor is not None
            dialer.visitor.close()
            async with asyncio.timeout(10):
                while not all(transport.is_closing() for transport in site.transports):
                    await asyncio.sleep(0.01)

    run(main())


def test_what_a_carrier_does_not_take_stays_with_the_page(
    run: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that was opened for a carrier of requests, where the carrier is a WebSocket after all."""
    monkeypatch.setattr(Visitors, "page", PICTURES)
    monkeypatch.setattr(visit_module, "VISIT_PATIENCE", 60.0)
    site = PageSite()

    async def main() -> None:
        site.together = 3
        async with live(tmp_path, site=site) as bridge:
            dialer = browser_dialer(bridge, "websocket")
            visited = await dialer.tunnel.visit_ahead(UNSHAPED)
            assert visited.fresh is not None
            connections = visited.connections
            assert len(connections) == 4
            await dialer.tunnel.connect("websocket", visited=visited)
            assert not any(connection.ended for connection in connections)
            assert dialer.visitor is not None
            dialer.visitor.close()
            assert all(connection.ended for connection in connections)

    run(main())


def test_a_page_s_further_connections_that_fail_cost_nothing_but_time(
    run: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Visitors, "page", PICTURES)
    monkeypatch.setattr(visit_module, "VISIT_PATIENCE", 60.0)
    site = PageSite()
    connect = visit_module.connect_tls

    async def once(loop: Any, connection: Any, route: Any, greeting: Any) -> bytes:
        if greeting == "visit":
            return await connect(loop, connection, route, greeting)
        tried.append(connection)
        if len(tried) == 2:
            site.release()
            raise DialError(Reason.TUNNEL_DOWN)
        await asyncio.sleep(3600)
        return b""

    tried: list[Any] = []
    monkeypatch.setattr(visit_module, "connect_tls", once)
    monkeypatch.setattr(visit_module, "DIAL_PATIENCE", 0.05)

    async def main() -> None:
        site.together = 99
        async with live(tmp_path, site=site) as bridge:
            dialer = browser_dialer(bridge, "websocket")
            await dialer.start()
            assert len(site.asked) == 11
            assert len(site.transports) == 1
            await echo(dialer)
            assert tried[0].ended

    run(main())


def test_codecs_say_as_what_they_greet() -> None:
    assert greeting_of("http") == "page"
    assert greeting_of("websocket") == greeting_of("random") == "websocket"


def test_a_client_certificate_is_no_browser_s(tmp_path: Any) -> None:
    with pytest.raises(StartError, match="python"):
        BrowserLikeTls("chrome", ClientTrust(certificate=tmp_path / "x.pem"))
