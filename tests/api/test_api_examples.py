"""The examples of ``API.md``, run as they stand, each against a bridge of its own."""

from __future__ import annotations

import asyncio
import re
import threading
from pathlib import Path

import pytest
import yaml
from api_live import PLAIN, bridge_config, bridge_settings
from proxy_live import serving

import ptproxy
from ptproxy.api import client as api_client
from ptproxy.target import Target

TEXT = (Path(ptproxy.__file__).parent / "api" / "API.md").read_text("utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
BODY = b"the page of example.org"


async def web(reader, writer) -> None:
    """A web server that knows one page."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(BODY), BODY))
    await writer.drain()


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport) -> None:
        self.transport = transport

    def datagram_received(self, data, addr) -> None:
        self.transport.sendto(data, addr)


class World(threading.Thread):
    """A bridge, ``example.org`` and ``udp.example.org``, on a loop of their own."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._ready = threading.Event()
        self.ports: dict[tuple[str, int], int] = {}

    def run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        udp, _ = await self._loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
        async with ptproxy.serve(bridge_config(self._folder)) as bridge, serving(web) as (_, port):
            self.link = bridge.link().serialize()
            self.ports = {
                ("example.org", 80): port,
                ("udp.example.org", 7): udp.get_extra_info("sockname")[1],
            }
            self._ready.set()
            await self._over.wait()
        udp.close()

    def __enter__(self) -> World:
        self.start()
        self._ready.wait()
        return self

    def __exit__(self, *_) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self.join()


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_runs(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "httpx" in EXAMPLES[number]:
        pytest.importorskip("httpx")
    if "aiohttp" in EXAMPLES[number]:
        pytest.importorskip("aiohttp")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "far").mkdir()
    (tmp_path / "bridge.yaml").write_text(yaml.safe_dump(bridge_settings(tmp_path)))
    with World(tmp_path / "far") as world:
        real_address, real_settings = Target.address.__func__, api_client.client_settings

        def address(cls, host: str, port: int) -> Target:
            """The names of the examples stand for ports of loopback; everything else is as it is."""
            if (host, port) in world.ports:
                return real_address(cls, "127.0.0.1", world.ports[host, port])
            return real_address(cls, host, port)

        monkeypatch.setattr(Target, "address", classmethod(address))
        monkeypatch.setattr(
            api_client, "client_settings",
            lambda source, folder, options: real_settings(source, folder, PLAIN | options),
        )  # fmt: skip
        names = {"link": world.link}
        exec(compile(EXAMPLES[number], f"API.md, example {number + 1}", "exec"), names)
        if "page" in names:
            assert BODY in names["page"]


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 7
