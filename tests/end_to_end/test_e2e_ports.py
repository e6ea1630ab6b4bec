"""Forwards, DNS and environment of a real client: programs that know no proxy, through a real bridge."""

from __future__ import annotations

import hashlib
import random
import socket
import socketserver
import subprocess
import sys
import threading

import pytest
from live import ENVIRONMENT, HOST, MIB, PATIENCE, Client, Program, free_port, made, ptproxy, serving

PLAIN = {"shape": "none", "tls__fingerprint": "python"}
SIZE = 64 * MIB


class Reversed(threading.Thread):
    """A UDP server whose answers are what came, backwards."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((HOST, 0))
        self.port = self.sock.getsockname()[1]

    def run(self) -> None:
        while True:
            data, address = self.sock.recvfrom(65536)
            if data == b"end":
                return
            self.sock.sendto(data[::-1], address)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.sock.sendto(b"end", (HOST, self.port))
        self.join(PATIENCE)
        self.sock.close()


def ask_udp(port: int, data: bytes) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        sock.connect((HOST, port))
        sock.send(data)
        return sock.recv(65536)


def send(sock: socket.socket, block: bytes) -> None:
    """All of it, and the end."""
    for _ in range(SIZE // MIB):
        sock.sendall(block)
    sock.shutdown(socket.SHUT_WR)


def test_forwards_and_dns(folder, bridge, echo):
    block = random.Random(9).randbytes(MIB)
    port, dns = free_port(), free_port()
    with Reversed() as udp:
        settings = {
            "forward": [f"{port} -> {HOST}:{echo}", f"udp {port} -> {HOST}:{udp.port}"],
            "dns": {"listen": f"{HOST}:{dns}", "resolver": f"{HOST}:{echo}"},
        }
        with Client(folder / "ports", bridge.link, "websocket", **PLAIN, **settings) as client:
            digest, left = hashlib.sha256(), SIZE
            with socket.create_connection((HOST, port), timeout=PATIENCE) as sock:
                sending = threading.Thread(
                    target=lambda: [
                        *map(sock.sendall, [block] * (SIZE // MIB)),
                        sock.shutdown(socket.SHUT_WR),
                    ]
                )
                sending.start()
                while data := sock.recv(1 << 18):
                    digest.update(data)
                    left -= len(data)
                sending.join()
            assert left == 0
            assert digest.digest() == hashlib.sha256(block * (SIZE // MIB)).digest()
            assert ask_udp(port, b"abc") == b"cba"
            # The "resolver" echoes: over TCP that is a query itself, over UDP no answer is passed on.
            with socket.create_connection((HOST, dns), timeout=PATIENCE) as sock:
                sock.sendall(b"\0\4abcd")
                assert sock.recv(6, socket.MSG_WAITALL) == b"\0\4abcd"
            assert client.stop() == 0
            client.start()  # the ports are free again


class Page(socketserver.BaseRequestHandler):
    """One page of the web."""

    def handle(self):
        self.request.recv(1 << 16)
        self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")


@pytest.mark.program("curl")
def test_the_environment_leads_curl_through_it(folder, bridge):
    port = free_port()
    with (
        serving(Page) as page,
        Client(folder / "env", bridge.link, "websocket", **PLAIN, listen=f"{HOST}:{port}") as client,
    ):
        said = [line.removeprefix("export ") for line in made("env", "-c", client.config).splitlines()]
        variables = dict(line.split("=", 1) for line in said)
        for names in (("http_proxy",), ("all_proxy",)):
            done = subprocess.run(
                ["curl", "-q", "-sS", "--noproxy", "", "-w", " %{remote_port}", f"http://{HOST}:{page}/"],
                env=ENVIRONMENT | {name: variables[name] for name in names},
                capture_output=True, timeout=PATIENCE, check=False,
            )  # fmt: skip
            assert (done.returncode, done.stdout) == (0, f"hello {port}".encode()), done.stderr


def test_the_forward_command(folder, bridge, echo):
    client = Client(folder / "command", bridge.link, "websocket", **PLAIN)
    program = Program(
        "forward",
        [sys.executable, "-m", "ptproxy", "forward", "-c", client.config, f"{HOST}:0", f"{HOST}:{echo}"],
        client.folder,
    )
    try:
        port = int(program.ready(rb"listening on [^\n]*:(\d+) -> [^\n]*\n")[1])
        with socket.create_connection((HOST, port), timeout=PATIENCE) as sock:
            sock.sendall(b"through")
            assert sock.recv(7, socket.MSG_WAITALL) == b"through"
        busy = ptproxy("forward", "-c", client.config, "0", f"{HOST}:{echo}")
        assert busy.returncode == 1
        assert "another ptproxy runs" in busy.stderr
    finally:
        assert program.stop() == 0


def test_an_unreachable_target_resets(folder, bridge):
    gone = free_port()
    forward = f"{free_port()} -> {HOST}:{gone}"
    with Client(folder / "gone", bridge.link, "websocket", **PLAIN, forward=[forward]) as client:
        port = int(client.program.ready(rb"(\d+) -> ")[1])
        sock = socket.create_connection((HOST, port), timeout=PATIENCE)
        with sock, pytest.raises(ConnectionResetError):
            sock.recv(1)
