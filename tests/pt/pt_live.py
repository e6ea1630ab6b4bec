"""ptproxy as tor or Shadowsocks starts it: processes of our own, on loopback, and what they say."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 120.0
"""Seconds after which something that never happens is a failure; no verdict on speed."""

COOKIE = bytes(range(32))
HEADER = b"! Extended ORPort Auth Cookie !\n"


class Started:
    """One process of ptproxy's, and every line that it has said so far."""

    def __init__(self, *arguments: str, environment: dict[str, str]) -> None:
        inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ptproxy", *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=inherited | {"PYTHONPATH": str(ROOT)} | environment,
        )  # fmt: skip
        self.lines: list[str] = []
        self.errors = b""
        self._news = threading.Condition()
        self._ended = False
        self._readers = [
            threading.Thread(target=self._read_lines),
            threading.Thread(target=self._read_errors),
        ]
        for reader in self._readers:
            reader.start()

    def _read_lines(self) -> None:
        for line in self.process.stdout:
            with self._news:
                self.lines.append(line.decode().rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def _read_errors(self) -> None:
        self.errors = self.process.stderr.read()

    def line(self, beginning: str, holding: str = "") -> str:
        """The first line that begins so and holds that, waited for."""

        def found() -> str | None:
            lines = (line for line in self.lines if line.startswith(beginning))
            return next((line for line in lines if holding in line), None)

        with self._news:
            self._news.wait_for(lambda: found() is not None or self._ended, PATIENCE)
            line = found()
        assert line is not None, (beginning, holding, self.lines, self.errors)
        return line

    def close_input(self) -> int:
        """As tor ends us; the exit status."""
        self.process.stdin.close()
        return self.status()

    def status(self) -> int:
        """The exit status, waited for; everything that was said is read then."""
        status = self.process.wait(PATIENCE)
        for reader in self._readers:
            reader.join()
        return status

    def end(self) -> None:
        """Whatever it was doing."""
        self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            stream.close()


@contextlib.contextmanager
def started(*arguments: str, environment: dict[str, str]) -> Iterator[Started]:
    """A process that is gone when the block is left."""
    one = Started(*arguments, environment=environment)
    try:
        yield one
    finally:
        one.end()


def tor_environment(folder: Path, **more: str) -> dict[str, str]:
    """What tor says to every managed proxy, and ``more`` without its prefix."""
    common = {"MANAGED_TRANSPORT_VER": "1", "STATE_LOCATION": str(folder), "EXIT_ON_STDIN_CLOSE": "1"}
    return {f"TOR_PT_{name}": value for name, value in (common | more).items()}


class Threads:
    """A server of a test's own; ``serve(connection)`` runs in a thread for each connection."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self._serve = serve
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.place = "127.0.0.1:" + str(self._sock.getsockname()[1])
        self.port = self._sock.getsockname()[1]
        self.accepted = 0
        self._threads = [threading.Thread(target=self._accept)]
        self._open: list[socket.socket] = []
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._sock.accept()
            except OSError:
                return
            self.accepted += 1
            self._open.append(connection)
            thread = threading.Thread(target=self._one, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _one(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            self._serve(connection)

    def __enter__(self) -> Threads:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()


def echo(connection: socket.socket) -> None:
    """Says back what it hears, to its end, or to a goodbye."""
    while data := connection.recv(65536):
        connection.sendall(data)
        if data.endswith(b"goodbye"):
            break
    connection.shutdown(socket.SHUT_WR)


def exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise OSError("it ended early")
        data += piece
    return data


def extended_or_port(told: list[tuple[int, bytes]]) -> Callable[[socket.socket], None]:
    """tor's extended ORPort by its specification, which notes what it is told and then echoes."""

    def serve(connection: socket.socket) -> None:
        connection.sendall(b"\x01\x00")
        assert exactly(connection, 1) == b"\x01"
        ours, theirs = os.urandom(32), exactly(connection, 32)

        def proof(direction: bytes) -> bytes:
            text = b"ExtORPort authentication " + direction + b" hash" + theirs + ours
            return hmac.new(COOKIE, text, hashlib.sha256).digest()

        connection.sendall(proof(b"server-to-client") + ours)
        right = exactly(connection, 32) == proof(b"client-to-server")
        connection.sendall(b"\x01" if right else b"\x00")
        if not right:
            return
        while True:
            command, size = int.from_bytes(exactly(connection, 2)), int.from_bytes(exactly(connection, 2))
            told.append((command, exactly(connection, size)))
            if command == 0:
                break
        connection.sendall(b"\x10\x00\x00\x00")
        echo(connection)

    return serve


def socks5(proxy: str, target: str, arguments: str) -> tuple[int, socket.socket]:
    """As tor asks a client's transport for a bridge: the reply's code, and the connection."""
    host, _, port = proxy.rpartition(":")
    connection = socket.create_connection((host, int(port)), PATIENCE)
    try:
        connection.sendall(b"\x05\x01\x02")
        assert exactly(connection, 2) == b"\x05\x02"
        raw = arguments.encode()
        user, password = raw[:255], raw[255:] or b"\0"
        connection.sendall(b"\x01" + bytes((len(user),)) + user + bytes((len(password),)) + password)
        answer = exactly(connection, 2)
        if answer != b"\x01\x00":
            return -answer[1], connection
        bridge, _, bridge_port = target.rpartition(":")
        connection.sendall(b"\x05\x01\x00\x01" + socket.inet_aton(bridge) + int(bridge_port).to_bytes(2))
        return exactly(connection, 10)[1], connection
    except BaseException:
        connection.close()
        raise


def line_of(smethod: str) -> tuple[str, str]:
    """Address and arguments of an SMETHOD line, the latter as tor's client gives them on."""
    _, _, place, arguments = smethod.split(" ")
    return place, arguments.removeprefix("ARGS:").replace(",", ";")
