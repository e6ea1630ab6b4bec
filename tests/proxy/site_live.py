"""A site's listener, and a raw way to talk to it and to a real nginx, for the tests of sites."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
from pathlib import Path

from free_ports import free_port

from ptproxy.tunnel.listen import listen_tcp
from ptproxy.tunnel.tcp import BufferedReads


class Adopter(BufferedReads):
    """Stands for the tunnel's gate: hands a connection to the site, at once or after the first bytes."""

    def __init__(self, site, at_once: bool) -> None:
        self.site, self.at_once = site, at_once

    def connection_made(self, transport) -> None:
        self.transport = transport
        if self.at_once:
            self.site.adopt(transport, b"")

    def data_received(self, data) -> None:
        self.site.adopt(self.transport, bytes(data))

    def connection_lost(self, exc) -> None:
        pass


@contextlib.asynccontextmanager
async def visited(site, *, at_once: bool = False, tls=None):
    """The address of a listener all of whose connections are the site's."""
    loop = asyncio.get_running_loop()
    server = await listen_tcp(loop, lambda: Adopter(site, at_once), "127.0.0.1", 0, tls=tls)
    try:
        yield server.sockets[0].getsockname()[:2]
    finally:
        server.close()
        await site.close()
        await server.wait_closed()


async def say(address, data: bytes, *, end: bool = False, tls=None, part: int | None = None) -> bytes:
    """Send ``data`` (in parts of that size), and return all that comes until the server closes."""
    reader, writer = await asyncio.open_connection(*address, ssl=tls)
    answer = b""
    try:
        for at in range(0, len(data), part or len(data) or 1):
            writer.write(data[at : at + (part or len(data))])
            if part:
                await writer.drain()
                await asyncio.sleep(0)
        if end and writer.can_write_eof():
            writer.write_eof()
        while block := await reader.read(65536):
            answer += block
    except ConnectionError:
        pass
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    return answer


@contextlib.contextmanager
def nginx(folder: Path, root: Path):
    """A real nginx that serves ``root``; gives its address."""
    port = free_port()
    (folder / "nginx.conf").write_text(
        f"""daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
        {"user root;" if hasattr(os, "geteuid") and os.geteuid() == 0 else ""}
        events {{ worker_connections 64; }}
        http {{
            access_log off; server_tokens off;
            types {{ text/html html; text/css css; text/plain txt; image/x-icon ico; }}
            client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
            fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
            server {{ listen 127.0.0.1:{port}; root {root}; }}
        }}"""
    )
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin") or "nginx"
    process = subprocess.Popen([program, "-e", folder / "start.log", "-c", folder / "nginx.conf"])
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except ConnectionRefusedError:
                assert process.poll() is None, (folder / "start.log").read_text()
        yield "127.0.0.1", port
    finally:
        process.terminate()
        process.wait()
