"""The http codec through a real nginx as reverse proxy with its default buffering; a small rim of asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from ptproxy.codec.http import HTTP
from ptproxy.codec.interface import (
    CarrierEnded,
    CodecSettings,
    NotMine,
    OpeningReceived,
    PayloadReceived,
)

KEY = bytes(range(32))
SETTINGS = CodecSettings("example.org", "/secret/path")
OPENING = bytes(range(200))
LOW = 64 * 1024

CONFIG = """
daemon off;
master_process off;
error_log {folder}/error.log;
pid {folder}/nginx.pid;
worker_processes 1;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream bridge {{ server unix:{folder}/bridge.sock; {pool} }}
    server {{
        listen 127.0.0.1:{port};
        location /secret/ {{ proxy_pass http://bridge; {location} }}
    }}
}}
"""

PLAIN = ("", "")
POOLED = ("keepalive 8;", 'proxy_http_version 1.1; proxy_set_header Connection "";')
DEAF = ("", "proxy_ignore_headers X-Accel-Buffering;")
DEAF_POOLED = (POOLED[0], POOLED[1] + " proxy_ignore_headers X-Accel-Buffering;")


def nginx_program():
    return shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin") or "nginx"


def start_nginx(folder, config):
    return subprocess.Popen([nginx_program(), "-p", folder, "-c", config], stderr=subprocess.DEVNULL)


class Wire(asyncio.Protocol):
    """One connection and its link."""

    def __init__(self, end, link=None):
        self.end = end
        self.link = link
        self.open = asyncio.Event()
        self.open.set()

    def connection_made(self, transport):
        self.transport = transport
        transport.set_write_buffer_limits(LOW)
        if self.link is None:
            self.link = self.end.new_link()
        self.end.wires[self.link] = self
        self.flush()

    def data_received(self, data):
        if self.link is not None:
            self.end.happened(self, self.link.receive_data(data, self.end.now()))
            self.flush()

    def connection_lost(self, exc):
        link, self.link = self.link, None
        if link is not None:
            self.end.wires.pop(link, None)
            self.end.happened(self, link.receive_eof(self.end.now()))
        self.open.set()

    def pause_writing(self):
        self.open.clear()

    def resume_writing(self):
        self.open.set()

    def flush(self):
        if self.link is not None:
            self.transport.writelines(self.link.data_to_send())
            if self.link.closing:
                self.transport.close()


class End:
    """What both ends of the tunnel have in common here."""

    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.wires = {}
        self.codec = None
        self.received = bytearray()
        self.news = asyncio.Event()
        self.ended = None
        self.timer = None

    def now(self):
        return self.loop.time()

    def happened(self, wire, events):
        for event in events:
            kind = type(event)
            if kind is PayloadReceived:
                self.received += event.data
            elif kind is CarrierEnded:
                self.ended = event.reason
            else:
                self.special(wire, event)
        self.news.set()
        self.flush()

    def special(self, wire, event):
        pass

    def flush(self):
        if self.codec is not None:
            for link in self.codec.links_to_flush():
                if link in self.wires:
                    self.wires[link].flush()
            due = self.codec.deadline()
            if self.timer is not None:
                self.timer.cancel()
            self.timer = None if due is None else self.loop.call_at(due, self.due)

    def due(self):
        self.happened(None, self.codec.on_deadline(self.now()))

    async def until(self, true):
        async with asyncio.timeout(60):
            while not true():
                self.news.clear()
                await self.news.wait()

    async def send(self, data):
        view = memoryview(data)
        while view:
            assert self.ended is None, self.ended
            await self.until(lambda: self.codec.room() > 0 or self.ended is not None)
            size = min(self.codec.room(), len(view), 1 << 20)
            self.codec.send_data([view[:size]], self.now())
            self.flush()
            for wire in list(self.wires.values()):
                await wire.open.wait()
            await asyncio.sleep(0)
            view = view[size:]

    async def receive(self, size):
        await self.until(lambda: len(self.received) >= size or self.ended is not None)
        data = bytes(self.received[:size])
        del self.received[:size]
        return data


class ClientEnd(End):
    def __init__(self, port, options=None):
        super().__init__()
        self.port = port
        settings = CodecSettings(SETTINGS.host, SETTINGS.path, options or {})
        self.codec = HTTP.client(settings, OPENING, random.Random(1))
        self.joining = 0
        self.opened = 0
        self.tasks = set()

    def new_link(self):
        self.opened += 1
        return self.codec.open_link()

    def flush(self):
        super().flush()
        while self.codec.links_wanted > len(self.wires) + self.joining:
            self.joining += 1
            task = self.loop.create_task(self.join())
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def join(self):
        try:
            await self.loop.create_connection(lambda: Wire(self), "127.0.0.1", self.port)
        finally:
            self.joining -= 1
        self.flush()


class BridgeEnd(End):
    def __init__(self):
        super().__init__()
        self.reception = HTTP.reception(SETTINGS, random.Random(2))
        self.connections = 0
        self.strangers = 0

    def new_link(self):
        self.connections += 1
        return self.reception.open_link()

    def special(self, wire, event):
        if type(event) is OpeningReceived:
            assert event.opening == OPENING
            self.codec = event.accept(KEY, self.now())
            self.codec.send_data([b"message 2"], self.now())
        elif type(event) is NotMine:
            self.strangers += 1
            wire.transport.abort()


@contextlib.asynccontextmanager
async def through_nginx(folder: Path, pool: str, location: str, options=None):
    """Both ends of a carrier that has been opened, with nginx between them."""
    bridge = BridgeEnd()
    listener = await bridge.loop.create_unix_server(lambda: Wire(bridge), folder / "bridge.sock")
    probe = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = probe.sockets[0].getsockname()[1]
    probe.close()
    await probe.wait_closed()
    config = folder / "nginx.conf"
    config.write_text(CONFIG.format(folder=folder, pool=pool, location=location, port=port))
    nginx = start_nginx(folder, config)
    try:
        async with asyncio.timeout(20):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                except OSError:
                    await asyncio.sleep(0.02)
        client = ClientEnd(port, options)
        client.flush()
        assert await client.receive(9) == b"message 2"
        client.codec.authenticated(KEY)
        client.flush()
        yield client, bridge
    finally:
        nginx.terminate()
        nginx.wait()
        listener.close()
        for end in (client, bridge):
            if end.timer is not None:
                end.timer.cancel()
            for wire in list(end.wires.values()):
                wire.transport.abort()
        await asyncio.sleep(0)
        await listener.wait_closed()


async def exercise(client, bridge, size):
    """Small messages to and fro, then much both ways at once."""
    for turn in range(30):
        message = b"message %d " % turn * 5
        await client.send(message)
        assert await bridge.receive(len(message)) == message
        await bridge.send(message)
        assert await client.receive(len(message)) == message
    rng = random.Random(size)
    up, down = rng.randbytes(size), rng.randbytes(size)
    _, _, got_up, got_down = await asyncio.gather(
        client.send(up), bridge.send(down), bridge.receive(size), client.receive(size)
    )
    assert hashlib.sha256(got_up).digest() == hashlib.sha256(up).digest()
    assert hashlib.sha256(got_down).digest() == hashlib.sha256(down).digest()
    assert client.ended is None
    assert bridge.ended is None


@pytest.mark.program("nginx")
@pytest.mark.parametrize("setup", [PLAIN, POOLED], ids=["default", "keepalive"])
def test_streams_through_nginx(tmp_path, setup):
    async def main():
        async with through_nginx(tmp_path, *setup) as (client, bridge):
            await exercise(client, bridge, 8 << 20)
            assert client.codec.download == "stream"
            client.codec.close(client.now())
            client.flush()
            await client.until(lambda: client.ended is not None)
            await bridge.until(lambda: bridge.ended is not None)
            assert (client.ended, bridge.ended) == ("", "")
            assert bridge.strangers == 0

    asyncio.run(main())


@pytest.mark.program("nginx")
@pytest.mark.parametrize(
    ("setup", "options"),
    [(DEAF, {}), (DEAF, {"download": "poll"}), (DEAF_POOLED, {"download": "poll"})],
    ids=["found out", "told", "told, keepalive"],
)
def test_polls_through_an_nginx_that_buffers(tmp_path, setup, options):
    async def main():
        async with through_nginx(tmp_path, *setup, options) as (client, bridge):
            await exercise(client, bridge, 4 << 20)
            assert client.codec.download == "poll"
            bridge.codec.close(bridge.now())
            bridge.flush()
            await client.until(lambda: client.ended is not None)
            assert client.ended == ""

    asyncio.run(main())
