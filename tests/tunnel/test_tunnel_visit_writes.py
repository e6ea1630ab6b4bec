"""What a visit writes first, and when the rest follows."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

from ptproxy.codec.http2.client import H2Client
from ptproxy.codec.page.cache import SiteMemory
from ptproxy.codec.page.visit import Visit
from ptproxy.tunnel.appearance import appearance_of
from ptproxy.tunnel.carrier import Connection
from ptproxy.tunnel.visit import Visited, _Visiting


class Transport:
    def __init__(self) -> None:
        self.written: list[tuple[float, bytes]] = []

    def write(self, data: bytes) -> None:
        self.written.append((time.perf_counter(), bytes(data)))

    def is_closing(self) -> bool:
        return False


async def no_dial(connection: Connection) -> bytes:
    raise AssertionError("over HTTP/2 there is one connection")


def test_a_browser_s_first_write_leaves_alone() -> None:
    """A while after the handshake, so that the server's own comes alone, too; then its answer to this."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        look = appearance_of("chrome", SiteMemory())
        client = H2Client(look.browser.http2, loop.time())
        visit = Visit(
            client, look.browser, "site.example", "/", look.memory, random.Random(1), loop.time(), 0.0
        )
        visiting, transport = _Visiting(loop, no_dial), Transport()
        connection = Connection(visiting, loop)
        given: Any = transport
        connection.transport = given
        connection.apart = True
        connected = time.perf_counter()
        task = asyncio.create_task(visiting.finish(Visited(connection, b"", visit), 0.01, 0.02))
        async with asyncio.timeout(30):
            while len(transport.written) < 2:
                await asyncio.sleep(0.01)
        task.cancel()
        (begun, hello), (asked, _) = transport.written
        assert hello.startswith(b"PRI * HTTP/2.0")
        assert begun - connected >= 0.01
        assert asked - begun >= 0.02

    asyncio.run(main())
