"""A process of its own with a carrier through a browser, to be killed."""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

from ptproxy.auth.credentials import StaticKey
from ptproxy.config.link import Link
from ptproxy.tunnel.chromium import Chromium
from ptproxy.tunnel.client_tls import PythonTls
from ptproxy.tunnel.connect import Route
from ptproxy.tunnel.dial import TunnelDialer
from ptproxy.tunnel.tls import ClientTrust


async def main(folder: str, port: str, key: str, digest: str) -> None:
    loop = asyncio.get_running_loop()
    pin = bytes.fromhex(digest)
    line = Link(
        key=bytes.fromhex(key),
        host="127.0.0.1",
        port=int(port),
        path="/assets/live",
        server_name="site.example",
        codecs=("websocket",),
        pin=pin,
        seal=True,
        binding=True,
        token=b"",
    )
    trust = ClientTrust(pin=pin)
    browser = Chromium(loop, line, trust, Path(folder) / "chromium")
    own = StaticKey.generate(random.SystemRandom())
    dialer = TunnelDialer(loop, Route(line, own, PythonTls(trust), line.codecs, browser=browser), carriers=1)
    await dialer.start()
    print("ready", flush=True)
    await asyncio.sleep(3600)


asyncio.run(main(*sys.argv[1:]))
