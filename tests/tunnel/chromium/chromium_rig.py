"""A site on a real nginx with a bridge behind it, and a client whose carriers are a real Chromium's."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import glob
import hashlib
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from free_ports import free_port
from tunnel_live import Live, make_certificate

from ptproxy.auth.binding import Binding
from ptproxy.codec.interface import CodecSettings
from ptproxy.tunnel.bridge import Bridge, BridgeSettings
from ptproxy.tunnel.chromium import Chromium
from ptproxy.tunnel.dial import TunnelDialer
from ptproxy.tunnel.listen import listen_unix
from ptproxy.tunnel.tls import ClientTrust, leaf_digest

NAME = "site.example"
PATH = "/assets/live"
PAGE = b"""<!doctype html><html><head><title>A site</title><link rel="stylesheet" href="/style.css">
<script src="/site.js"></script></head><body><h1>A site</h1></body></html>"""
ASSETS = {"index.html": PAGE, "style.css": b"h1 { color: teal }", "site.js": b"document.title = 'The site'"}

CONFIG = """
daemon off; master_process off; worker_processes 1; error_log {folder}/error.log; pid {folder}/nginx.pid;
events {{ worker_connections 256; }}
http {{
    log_format what '$ssl_session_reused $connection $server_protocol $request $status "$http_cookie"'
                    ' "$http_user_agent|$http_sec_ch_ua" "$http_referer"';
    access_log {folder}/access.log what;
    types {{ text/html html; text/css css; text/javascript js; }}
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    map $http_upgrade $connection_upgrade {{ default upgrade; "" ""; }}
    upstream bridge {{ server unix:{folder}/bridge.sock; }}
    server {{
        listen 127.0.0.1:{port} ssl {h2};
        server_name {name};
        ssl_certificate {folder}/{name}.pem; ssl_certificate_key {folder}/{name}.key; ssl_protocols TLSv1.3;
        root {folder}/www;
        add_header Content-Security-Policy "default-src 'self'; connect-src 'none'";
        add_header Set-Cookie "visitor=1; Path=/";
        location = /assets/live {{
            proxy_pass http://bridge; proxy_http_version 1.1; proxy_set_header Host $host;
            proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;
            proxy_intercept_errors on; proxy_read_timeout 1h; {location}
        }}
    }}
}}
"""


def spki(certificate: Path) -> str:
    """SHA-256 of a certificate's public key as Chromium writes it."""
    key = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(der).digest()).decode()


class Site(Live):
    """The bridge of ``tunnel_live`` behind nginx, and what makes clients of it."""

    def __init__(self, folder: Path, h2: str, location: str) -> None:
        super().__init__(folder)
        self.certificate, self.private_key = make_certificate(folder, NAME)
        self.digest = leaf_digest(self.certificate)
        self.seal = True
        self.h2 = h2
        self.location = location
        self.browsers: list[Chromium] = []

    async def start(self, **settings: Any) -> None:
        www = self.folder / "www"
        www.mkdir(exist_ok=True)
        for name, content in ASSETS.items():
            (www / name).write_bytes(content)
        arrivals: list[Callable[[], Any]] = []
        self.server = await listen_unix(self.loop, lambda: arrivals[0](), str(self.folder / "bridge.sock"))
        self.port = free_port()
        self.bridge = Bridge(
            self.loop,
            BridgeSettings(
                key=self.key,
                codecs=("websocket", "http"),
                codec_settings=CodecSettings(NAME, PATH),
                bindings=[Binding.certificate(self.digest), Binding.none()],
                seal=True,
                access=self.access,
                retention=self.retention,
                **settings,
            ),
            self.exit,
            self.site,
        )
        arrivals.append(self.bridge.arrival)
        config = self.folder / "nginx.conf"
        values = {"port": self.port, "name": NAME, "h2": self.h2, "location": self.location}
        config.write_text(CONFIG.format(folder=self.folder, **values))
        program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin") or "nginx"
        self.nginx = subprocess.Popen(  # noqa: ASYNC220
            [program, "-p", str(self.folder), "-c", str(config)]
        )
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    writer.close()
                    return
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        for browser in self.browsers:
            await browser.stop()
        self.nginx.terminate()
        self.nginx.wait()
        await super().stop()

    def chromium(
        self,
        *,
        known: bool = True,
        program: Path | None = None,
        switches: tuple[str, ...] = (),
        **changes: Any,
    ) -> Chromium:
        """A browser for this site, started with the first carrier; ``known``: it has seen the pinned leaf."""
        route = self.route("websocket", **{"server_name": NAME, "path": PATH, **changes})
        folder = self.folder / "chromium"
        if known:
            folder.mkdir(exist_ok=True)
            (folder / "pinned").write_text(f"{self.digest.hex()} {spki(self.certificate)}\n")
        browser = Chromium(self.loop, route.line, ClientTrust(pin=route.line.pin), folder, program, switches)
        self.browsers.append(browser)
        return browser

    def browsing(self, codec: str, browser: Chromium, carriers: int = 1, **changes: Any) -> TunnelDialer:
        """A dialer through a browser, not started."""
        route = self.route(codec, **{"server_name": NAME, "path": PATH, **changes})
        route = replace(route, browser=browser)
        dialer = TunnelDialer(self.loop, route, carriers=carriers)
        self.dialers.append(dialer)
        return dialer

    def requests(self) -> list[str]:
        """nginx's log."""
        return (self.folder / "access.log").read_text().splitlines()


@asynccontextmanager
async def site(folder: Path, h2: str = "http2", location: str = "") -> AsyncIterator[Site]:
    """A running site with its bridge; everything that was started ends with it."""
    running = Site(folder, h2, location)
    await running.start()
    try:
        yield running
    finally:
        for dialer in running.dialers:
            await dialer.stop()
        running.dialers.clear()
        await running.stop()


def processes(folder: Path, kind: str = "") -> list[int]:
    """Processes of the browser whose profile is below ``folder``, all or of a kind."""
    found = []
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = Path(path).read_bytes()
            if str(folder).encode() not in line or b"chrom" not in line:
                continue
            if not kind or (b"--type=" + kind.encode() in line):
                found.append(int(path.split("/")[2]))
    return found


async def until(true: Callable[[], object]) -> None:
    """Wait for what is bound to come; the test's own limit is the tripwire."""
    while not true():
        await asyncio.sleep(0.01)
