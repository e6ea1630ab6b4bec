"""Servers for the tests of inspect/: two nginx that are alike, and one that is nothing like them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

from free_ports import free_port

from ptproxy.tunnel.certificate import self_signed

NAME = "camo.test"


def identity(folder: Path, name: str = NAME) -> tuple[Path, Path]:
    """A certificate and its key, as files."""
    certificate, key = self_signed(name, datetime.now(UTC), random.SystemRandom())
    paths = folder / "site.pem", folder / "site.key"
    for path, content in zip(paths, (certificate, key), strict=True):
        path.write_bytes(content)
    return paths


@contextlib.contextmanager
def nginx_pair(folder: Path, more: str = "") -> Iterator[tuple[int, int]]:
    """Two servers of one nginx with the same site; ``more`` stands in the second one's block."""
    certificate, key = identity(folder)
    first, second = free_port(), free_port()
    root = folder / "www"
    root.mkdir()
    (root / "index.html").write_text("<!doctype html><title>words</title><p>Words.")
    root.chmod(0o755)
    folder.chmod(0o755)
    block = (
        "server {{ listen 127.0.0.1:{port} ssl http2; root {root};"
        " ssl_certificate {certificate}; ssl_certificate_key {key};"
        " ssl_protocols TLSv1.2 TLSv1.3; {more} }}"
    )
    servers = "\n".join(
        block.format(port=port, certificate=certificate, key=key, root=root, more=text)
        for port, text in ((first, ""), (second, more))
    )
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"""daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
        {"user root;" if hasattr(os, "geteuid") and os.geteuid() == 0 else ""}
        events {{ worker_connections 512; }}
        http {{ access_log off; types {{ text/html html; }} {temporary}
        {servers}
        }}"""
    )
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin") or "nginx"
    process = subprocess.Popen(
        [program, "-e", folder / "start.log", "-c", folder / "nginx.conf"], stderr=subprocess.DEVNULL
    )
    try:
        for port in (first, second):
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except ConnectionRefusedError:
                    assert process.poll() is None, (folder / "start.log").read_text()
        yield first, second
    finally:
        process.terminate()
        process.wait(10)


@contextlib.asynccontextmanager
async def python_server(folder: Path) -> AsyncIterator[int]:
    """A TLS server of Python's own that answers everything with the same five bytes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*identity(folder))
    context.set_alpn_protocols(["http/1.1"])
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # strangers break handshakes off
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
