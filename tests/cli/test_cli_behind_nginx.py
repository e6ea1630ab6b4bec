"""``configs/nginx.conf`` and a bridge that ``init --mode behind`` wrote, with a real nginx in front."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from test_cli_run import PATIENCE, command, echo, free_port, running, stopped

from ptproxy.cli.certificate import self_signed

CONFIGS = Path(__file__).parent.parent.parent / "configs"

pytestmark = [
    pytest.mark.program("nginx"),
    pytest.mark.skipif(os.name != "posix", reason="listens on a Unix socket"),
]


@contextlib.contextmanager
def nginx(folder: Path, port: int, path: str) -> Iterator[None]:
    """The example's nginx with its addresses and files changed to ones of this test."""
    (folder / "www").mkdir()
    (folder / "www" / "404.html").write_text("nothing here")
    text = (CONFIGS / "nginx.conf").read_text()
    for old, new in {
        "listen 443 ssl http2": f"listen 127.0.0.1:{port} ssl http2",
        "        listen [::]:443 ssl http2;\n": "",
        "/etc/letsencrypt/live/example.org/fullchain.pem": str(folder / "front.pem"),
        "/etc/letsencrypt/live/example.org/privkey.pem": str(folder / "front.key"),
        "/run/ptproxy/bridge.sock": str(folder / "bridge.sock"),
        "/var/www/html": str(folder / "www"),
        "= /assets/live": f"= {path}",
        "http {\n": "http {\n    access_log off;\n"
        + "".join(
            f"    {kind}_temp_path {folder}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        ),
    }.items():
        assert old in text
        text = text.replace(old, new)
    config = folder / "nginx.conf"
    config.write_text(text)
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") or "nginx"
    user = "user root;" if os.geteuid() == 0 else ""
    general = f"daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; {user}"
    process = subprocess.Popen([program, "-p", str(folder), "-c", str(config), "-g", general])
    killer = threading.Timer(PATIENCE, process.kill)
    killer.start()
    try:
        while process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
        assert process.poll() is None, (folder / "error.log").read_text()
        yield
    finally:
        killer.cancel()
        process.terminate()
        process.wait(PATIENCE)


def page(port: int, path: str) -> bytes:
    """What a stranger gets for a path, without the date."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while data := connection.recv(65536):
            answer += data
    return b"\n".join(line for line in answer.split(b"\r\n") if not line.startswith(b"Date:"))


@pytest.mark.parametrize("codec", ["websocket", "http"])
def test_the_example_carries_streams_and_hides_the_bridge(tmp_path: Path, codec: str) -> None:
    port = free_port()
    pem, key = self_signed("localhost", datetime.now(UTC), random.SystemRandom())
    (tmp_path / "front.pem").write_bytes(pem)
    (tmp_path / "front.key").write_bytes(key)
    output = command(
        "init", "bridge", tmp_path / "bridge", "--address", f"127.0.0.1:{port}", "--mode", "behind",
        "--front-certificate", tmp_path / "front.pem", "--path", "/assets/words",
        "--listen", f"unix:{tmp_path / 'bridge.sock'}", "--no-qr",
    )  # fmt: skip
    (tmp_path / "link").write_text(next(line for line in output.splitlines() if line.startswith("ptproxy:")))
    local = free_port()
    command(
        "init", "client", tmp_path / "client", f"@{tmp_path / 'link'}", "--codec", codec,
        "--listen", f"127.0.0.1:{local}",
    )  # fmt: skip
    with echo() as target:
        config = tmp_path / "bridge" / "bridge.yaml"
        config.write_text(config.read_text().replace("allow: []", f"allow: ['127.0.0.1:{target}']"))
        with (
            running("bridge", config) as bridge,
            nginx(tmp_path, port, "/assets/words"),
            running("client", tmp_path / "client" / "client.yaml") as client,
        ):
            with socket.create_connection(("127.0.0.1", local), PATIENCE) as connection:
                connection.sendall(f"CONNECT 127.0.0.1:{target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                answer = connection.recv(4096)
                assert answer.startswith(b"HTTP/1.1 200"), answer
                connection.sendall(b"hello")
                assert connection.recv(5) == b"hello"
            nothing = page(port, "/no/such/page")
            assert nothing.startswith(b"HTTP/1.1 404")
            assert b"nothing here" in nothing
            assert page(port, "/assets/words") == nothing
            stopped(client)
            stopped(bridge)
