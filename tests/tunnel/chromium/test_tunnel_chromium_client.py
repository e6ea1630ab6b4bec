"""A whole client with ``tls.fingerprint: browser``, as its configuration file makes it."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from chromium_rig import NAME, PATH, Site, processes, site, until

from ptproxy.config.link import Front
from ptproxy.config.load import load_client
from ptproxy.errors import StartError
from ptproxy.proxy.client import run_client

CLIENT = """
role: client
listen: 127.0.0.1:0
bridge: {link}
key: client.key
state: state
tls:
  fingerprint: browser
{more}
"""


def configured(there: Site, more: str = "", **changes: Any) -> Any:
    """The configuration of a client for this site."""
    line = there.route("http", server_name=NAME, path=PATH, **changes).line
    key = there.folder / "client.key"
    key.touch(0o600)
    key.write_text(there.client_key.serialize_private() + "\n")
    path = there.folder / "client.yaml"
    path.write_text(CLIENT.format(link=line.serialize(), more=more))
    return load_client(path)


@pytest.mark.program("chromium", "nginx")
def test_a_local_program_talks_through_a_browser(browse: Any, tmp_path: Path) -> None:
    async def main() -> None:
        async with site(tmp_path) as there:
            ready: asyncio.Future[list[str]] = there.loop.create_future()
            running = asyncio.ensure_future(run_client(configured(there), ready=ready.set_result))
            await asyncio.wait((ready, running), return_when=asyncio.FIRST_COMPLETED)
            host, _, port = ready.result()[0].partition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"\x05\x01\x00" + b"\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x07" + b"through a browser")
            assert (await reader.readexactly(12))[:4] == b"\x05\x00\x05\x00"
            assert await reader.readexactly(17) == b"through a browser"
            assert processes(tmp_path / "state" / "chromium")
            writer.close()
            running.cancel()
            await asyncio.wait((running,))
            await until(lambda: not processes(tmp_path))

    browse(main())


@pytest.mark.program("chromium", "nginx")
def test_a_browser_goes_by_the_front_that_is_not_blocked(browse: Any, tmp_path: Path) -> None:
    """Each front has a browser of its own; that of the blocked one ends when another one carries."""

    async def main() -> None:
        with socket.socket() as blocked:
            blocked.bind(("127.0.0.1", 0))
            async with site(tmp_path) as there:
                line = there.route("http", server_name=NAME, path=PATH).line
                config = configured(
                    there, port=blocked.getsockname()[1], fronts=(Front(line.host, line.port),)
                )
                ready: asyncio.Future[list[str]] = there.loop.create_future()
                running = asyncio.ensure_future(run_client(config, ready=ready.set_result))
                await asyncio.wait((ready, running), return_when=asyncio.FIRST_COMPLETED)
                host, _, port = ready.result()[0].partition(":")
                reader, writer = await asyncio.open_connection(host, int(port))
                writer.write(b"\x05\x01\x00" + b"\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x07" + b"around")
                assert (await reader.readexactly(12))[:4] == b"\x05\x00\x05\x00"
                assert await reader.readexactly(6) == b"around"
                writer.close()
                running.cancel()
                await asyncio.wait((running,))
                await until(lambda: not processes(tmp_path))

    browse(main())


@pytest.mark.program("nginx")
@pytest.mark.parametrize(
    ("more", "changes", "said"),
    [
        ("  browser: nowhere", {}, "tls.browser: .*nowhere is not a program"),
        ("", {"seal": False}, "sealed bridge line"),
        ("", {"codecs": ("random",)}, "speaks websocket and http, not random"),
        ("  trust: cover.pem", {}, "pin or the system"),
    ],
)
def test_what_cannot_be_is_said_at_the_start(
    browse: Any, tmp_path: Path, more: str, changes: dict[str, Any], said: str
) -> None:
    async def main() -> None:
        async with site(tmp_path) as there:
            os.link(there.certificate, tmp_path / "cover.pem")
            with pytest.raises(StartError, match=said):
                await run_client(configured(there, more, **changes))

    browse(main())
