"""Run inside a network of its own by ``test_e2e_browser.py``: a page over a client's SOCKS port and PAC file.

Everything is in this network: the pages, the bridge, the client, Chromium, and a
capture of every packet. The names of the pages exist only at the bridge. The
system's name server is 127.0.0.1, where nothing listens: whoever asks it is seen
in the capture. The test says where modules are. Prints one JSON object.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import json
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

from api_live import PLAIN, bridge_config
from proxy_live import serving
from site_live import free_port

import ptproxy
from ptproxy.config.model import ClientConfig
from ptproxy.proxy.client import run_client
from ptproxy.proxy.resolve import Resolver

NAMES = ("page.test", "assets.test")
PAGE = """<!doctype html><title>x</title><link rel="dns-prefetch" href="//prefetch.test">
<link rel="preconnect" href="http://preconnect.test"><p id="said">nothing</p>
<script src="http://assets.test:{port}/script.js"></script>"""
SCRIPT = "document.getElementById('said').textContent = 'both names were reached';"
DNS_PORTS = (53, 853, 5353, 5355)
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--virtual-time-budget=2000", "--dump-dom",
)  # fmt: skip


class Capture(threading.Thread):
    """Every packet of loopback: who was asked for a name, outside TCP connections of the tunnel."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.asked: list[str] = []
        self.packets = 0
        self._sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
        self._sock.bind(("lo", 0))
        self.start()

    def run(self) -> None:
        while True:
            packet = self._sock.recv(65536)
            self.packets += 1
            if packet[0] >> 4 == 4:
                kind, payload = packet[9], packet[4 * (packet[0] & 15) :]
            else:
                kind, payload = packet[6], packet[40:]
            if kind in (6, 17) and len(payload) >= 8:
                target = struct.unpack_from(">H", payload, 2)[0]
                if target in DNS_PORTS:
                    self.asked.append(f"port {target}: {payload[8:80]!r}")


async def page(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    kind, body = (
        ("text/javascript", SCRIPT) if b"script.js" in head else ("text/html", PAGE.format(port=port))
    )
    writer.write(
        f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        f"Connection: close\r\n\r\n{body}".encode()
    )
    await writer.drain()


async def chromium(folder: Path, name: str, url: str, *options: str) -> str:
    """The page as Chromium has it in the end."""
    process = await asyncio.create_subprocess_exec(
        "chromium", *FLAGS, f"--user-data-dir={folder / name}", *options, url,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    out, _ = await process.communicate()
    return out.decode(errors="replace")


def known_at_the_bridge() -> None:
    real = Resolver.resolve

    async def resolve(self: Resolver, host: str):
        if host in NAMES:
            return [ipaddress.ip_address("127.0.0.1")]
        return await real(self, host) if host == "localhost" else []

    Resolver.resolve = resolve


async def main(folder: Path) -> None:
    known_at_the_bridge()
    capture = Capture()
    port = free_port()
    said: dict[str, object] = {}
    addresses: list[str] = []
    async with (
        ptproxy.serve(bridge_config(folder)) as bridge,
        serving(functools.partial(page, port), port=port),
    ):
        async with ptproxy.connect(bridge.link(), state=folder / "client", **PLAIN):
            pass  # makes the key
        settings = {
            "role": "client", "listen": "127.0.0.1:0", "bridge": bridge.link().serialize(),
            "key": str(folder / "client" / "client.key"), "state": str(folder / "client" / "state"),
            "pac": "127.0.0.1:0", "limits": {"drain": "0s"}, **PLAIN,
        }  # fmt: skip
        ready = asyncio.Event()
        client = asyncio.ensure_future(
            run_client(
                ClientConfig.model_validate(settings),
                ready=lambda listening: (addresses.extend(listening), ready.set()),
            )
        )
        await asyncio.wait({client, asyncio.ensure_future(ready.wait())}, return_when=asyncio.FIRST_COMPLETED)
        url = f"http://page.test:{port}/"
        for name, option in (
            ("socks", f"--proxy-server=socks5://{addresses[0]}"),
            ("pac", f"--proxy-pac-url={addresses[1]}"),
        ):
            said[name] = "both names were reached" in await chromium(folder, name, url, option)
        said["asked"] = list(capture.asked)
        said["direct"] = "both names were reached" in await chromium(folder, "direct", url)
        said["asked_directly"] = len(capture.asked) - len(said["asked"])
        said["packets"] = capture.packets
        client.cancel()
        await asyncio.gather(client, return_exceptions=True)
    print(json.dumps(said))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
