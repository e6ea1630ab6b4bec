"""Start a bridge and a client on loopback and prove each codec; what ``scripts/demo`` runs.

For each codec a client of its own carries, through SOCKS5 and the bridge, a
download and an upload whose SHA-256 are compared at both ends, and a chat of
two people on a little line server. The table says what was seen.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import signal
import socket
import socketserver
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, ClassVar

import yaml

CODECS = ("websocket", "http", "random")
HOST = "127.0.0.1"
START_TIMEOUT = 20.0
HEADINGS = ["codec", "TLS", "cipher", "down", "up", "first byte", "down MiB/s", "up MiB/s", "SHA-256", "chat"]
CHAT = [("anna", "is anybody there?"), ("ben", "yes, and nobody else can read it"), ("anna", "до встречи 👋")]


# ---- what the streams go to: a transfer server and a chat room ----------------------------------


class Transfer(socketserver.BaseRequestHandler):
    """``G size`` sends that many bytes and their SHA-256; ``P size`` takes them and answers it."""

    def handle(self) -> None:
        kind, size = struct.unpack(">cQ", read_exactly(self.request, 9))
        digest = hashlib.sha256()
        block = os.urandom(1 << 18)
        while size:
            if kind == b"G":
                data = block[: min(size, len(block))]
                self.request.sendall(data)
            else:
                data = self.request.recv(min(size, 1 << 18))
                if not data:
                    return
            digest.update(data)
            size -= len(data)
        self.request.sendall(digest.digest())


class Room(socketserver.StreamRequestHandler):
    """Every line goes to everybody, the sender included."""

    everybody: ClassVar[list[Any]] = []
    lock = threading.Lock()

    def handle(self) -> None:
        with self.lock:
            self.everybody.append(self.wfile)
        try:
            for line in self.rfile:
                with self.lock:
                    for other in self.everybody:
                        other.write(line)
                        other.flush()
        except OSError:
            pass
        finally:
            with self.lock:
                self.everybody.remove(self.wfile)


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


def serve(handler: type[socketserver.BaseRequestHandler]) -> int:
    server = Server((HOST, 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return int(server.server_address[1])


# ---- a local program: it speaks SOCKS5 ------------------------------------------------------------


def read_exactly(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise ConnectionError("the stream ended early")
        data += more
    return bytes(data)


def through_socks(socks: int, port: int) -> socket.socket:
    sock = socket.create_connection((HOST, socks), timeout=60)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(b"\x05\x01\x00")
    if read_exactly(sock, 2) != b"\x05\x00":
        raise ConnectionError("the proxy wants a password")
    sock.sendall(b"\x05\x01\x00\x01" + socket.inet_aton(HOST) + struct.pack(">H", port))
    reply = read_exactly(sock, 4)
    if reply[1]:
        raise ConnectionError(f"SOCKS reply {reply[1]}")
    read_exactly(sock, {1: 6, 4: 18}[reply[3]])
    return sock


def download(socks: int, port: int, size: int) -> tuple[bool, float, float]:
    """(SHA-256 match, seconds to the first byte, bytes a second)."""
    start = time.perf_counter()
    with through_socks(socks, port) as sock:
        sock.sendall(struct.pack(">cQ", b"G", size))
        digest, left, first = hashlib.sha256(), size, 0.0
        while left:
            data = sock.recv(min(left, 1 << 18))
            if not data:
                raise ConnectionError("the download ended early")
            first = first or time.perf_counter() - start
            digest.update(data)
            left -= len(data)
        seconds = time.perf_counter() - start
        return digest.digest() == read_exactly(sock, 32), first, size / seconds


def upload(socks: int, port: int, size: int) -> tuple[bool, float]:
    """(SHA-256 match, bytes a second)."""
    start = time.perf_counter()
    with through_socks(socks, port) as sock:
        sock.sendall(struct.pack(">cQ", b"P", size))
        digest, block, left = hashlib.sha256(), os.urandom(1 << 18), size
        while left:
            data = block[: min(left, len(block))]
            sock.sendall(data)
            digest.update(data)
            left -= len(data)
        match = digest.digest() == read_exactly(sock, 32)
        return match, size / (time.perf_counter() - start)


def chat(socks: int, port: int) -> bool:
    """Two people in the room; each line must reach both, in order."""
    people = {name: through_socks(socks, port) for name in ("anna", "ben")}
    heard = {name: sock.makefile("rb") for name, sock in people.items()}
    try:
        for name, sock in people.items():  # both are in the room before anybody speaks
            sock.sendall(f"{name} joins\n".encode())
            while heard[name].readline() != f"{name} joins\n".encode():
                pass
        while heard["anna"].readline() != b"ben joins\n":
            pass
        for name, words in CHAT:
            line = f"<{name}> {words}\n".encode()
            people[name].sendall(line)
            for file in heard.values():
                if file.readline() != line:
                    return False
        return True
    finally:
        for name, sock in people.items():
            heard[name].close()
            sock.close()


# ---- the two roles ------------------------------------------------------------------------------------


def ptproxy(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "ptproxy", *arguments]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        return int(sock.getsockname()[1])


def edit(path: Path, **changes: Any) -> None:
    """Put settings into a configuration; ``a__b`` is b inside a."""
    config = yaml.safe_load(path.read_text())
    for name, value in changes.items():
        *outer, last = name.split("__")
        place = config
        for key in outer:
            place = place.setdefault(key, {}) or {}
        place[last] = value
    path.write_text(yaml.safe_dump(config, sort_keys=False))


def wait_for(port: int, process: subprocess.Popen[bytes], what: str) -> None:
    until = time.monotonic() + START_TIMEOUT
    while time.monotonic() < until:
        if process.poll() is not None:
            raise SystemExit(f"the {what} ended with status {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
            return
        time.sleep(0.05)
    raise SystemExit(f"the {what} did not start within {START_TIMEOUT:.0f} s")


def start_bridge(folder: Path, port: int) -> tuple[subprocess.Popen[bytes], str]:
    made = subprocess.run(
        ptproxy("init", "bridge", str(folder), "--address", f"{HOST}:{port}", "--listen", f"{HOST}:{port}",
                "--server-name", "localhost", "--site", "builtin", "--access", "open"),
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    link = next(word for word in made.stdout.split() if word.startswith("ptproxy://"))
    edit(folder / "bridge.yaml", egress__allow=[f"{HOST}/32"], log__level="warning")
    process = subprocess.Popen(ptproxy("bridge", "-c", str(folder / "bridge.yaml")))
    wait_for(port, process, "bridge")
    return process, link


def start_client(
    folder: Path, link: str, codec: str, *, fingerprint: str = "chrome", shape: str = "none"
) -> tuple[subprocess.Popen[bytes], int]:
    port = free_port()
    subprocess.run(
        ptproxy("init", "client", str(folder), "-", "--listen", f"{HOST}:{port}"),
        check=True, capture_output=True, input=link, text=True,
    )  # fmt: skip
    looks = {"tls__fingerprint": fingerprint, "shape": shape}
    edit(folder / "client.yaml", codec=codec, **looks, log__level="warning")
    process = subprocess.Popen(ptproxy("client", "-c", str(folder / "client.yaml")))
    wait_for(port, process, "client")
    return process, port


def tls_of(port: int) -> tuple[str, str]:
    """Version and cipher that the bridge's port agrees on."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection((HOST, port)) as sock,
        context.wrap_socket(sock, server_hostname="localhost") as tls,
    ):
        cipher = tls.cipher()
        return tls.version() or "?", cipher[0] if cipher else "?"


def show(rows: list[list[str]]) -> None:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for index, row in enumerate(rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        if index == 0:
            print("  ".join("-" * width for width in widths))


def prove(socks: int, transfer: int, room: int, size: int) -> tuple[bool, list[str]]:
    """Carry a download, an upload and a chat through one client; whether all went well, and what was seen."""
    download(socks, transfer, 1 << 16)  # the carrier is open from here on
    down_ok, first, down = download(socks, transfer, size)
    up_ok, up = upload(socks, transfer, size)
    talk = chat(socks, room)
    moved = f"{size >> 20} MiB"
    return down_ok and up_ok and talk, [
        moved, moved, f"{first * 1000:.1f} ms", f"{down / 2**20:.0f}", f"{up / 2**20:.0f}",
        "match" if down_ok and up_ok else "DIFFERS", "ok" if talk else "FAILED",
    ]  # fmt: skip


def stop(processes: list[subprocess.Popen[bytes]]) -> None:
    """End both roles, the clients first."""
    for process in reversed(processes):
        process.terminate()
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
        if process.poll() is None:
            process.kill()


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    parser.add_argument(
        "--once", action="store_true", help="exit after the table; non-zero when anything failed"
    )
    parser.add_argument(
        "--mib", type=int, default=64, metavar="N", help="size of each transfer (default: 64 MiB)"
    )
    arguments = parser.parse_args()
    transfer, room = serve(Transfer), serve(Room)
    processes: list[subprocess.Popen[bytes]] = []
    failed = False
    with tempfile.TemporaryDirectory(prefix="ptproxy-demo-") as name:
        folder = Path(name)
        try:
            port = free_port()
            bridge, link = start_bridge(folder / "bridge", port)
            processes.append(bridge)
            version, cipher = tls_of(port)
            failed = version != "TLSv1.3"
            rows = [HEADINGS]
            socks = 0
            for codec in CODECS:
                client, listening = start_client(folder / codec, link, codec)
                processes.append(client)
                socks = socks or listening
                try:
                    good, seen = prove(listening, transfer, room, arguments.mib << 20)
                except OSError as error:
                    print(f"{codec}: {error}", file=sys.stderr)
                    failed = True
                    continue
                failed = failed or not good
                rows.append([codec, version, cipher, *seen])
            show(rows)
            if not arguments.once:
                print(f"\nSOCKS5, SOCKS4a and HTTP proxy ({CODECS[0]}): {HOST}:{socks}. Try:")
                print(f"  curl --proxy socks5h://{HOST}:{socks} https://example.org/")
                print("Ctrl-C ends it.")
                signal.sigwait({signal.SIGINT, signal.SIGTERM})
        except KeyboardInterrupt:
            pass
        finally:
            stop(processes)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
