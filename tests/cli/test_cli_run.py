"""Both roles as real processes: they carry a stream, stop when told to, and fail in one line."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from free_ports import free_port

from ptproxy.config.link import Link

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 120
"""Seconds until a test gives up; nothing is judged by time."""

pytestmark = pytest.mark.skipif(os.name != "posix", reason="stops processes with POSIX signals")


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PTPROXY_DEBUG"}


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "ptproxy", *map(str, arguments)],
        cwd=ROOT, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def failure(*arguments: str | Path) -> tuple[int, str]:
    """Status and the one line of a role that cannot start."""
    process = start(*arguments)
    try:
        out, errors = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    told = [line for line in errors.splitlines() if line.startswith("ptproxy: ")]
    assert len(told) == 1, errors
    assert "Traceback" not in errors
    assert "listening" not in out
    return process.returncode, told[0]


@contextlib.contextmanager
def running(role: str, config: Path) -> Iterator[subprocess.Popen[str]]:
    """A role that listens."""
    process = start(role, "-c", config)
    assert process.stdout is not None
    assert process.stderr is not None
    killer = threading.Timer(PATIENCE, process.kill)
    killer.start()
    try:
        line = process.stdout.readline()
        assert line.startswith(f"ptproxy {role} listening on "), (line, process.stderr.read())
        yield process
    finally:
        killer.cancel()
        process.kill()
        process.communicate()


def stopped(process: subprocess.Popen[str], number: signal.Signals = signal.SIGTERM) -> str:
    """Tell a role to stop; returns what it logged."""
    process.send_signal(number)
    _, log = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, log
    assert "Traceback" not in log
    return log


def said(process: subprocess.Popen[str], words: str) -> str:
    """Wait for a line of a role's log that has these words; :func:`running` bounds it."""
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return line
    raise AssertionError(f"it ended without saying {words!r}")


def command(*arguments: str | Path) -> str:
    result = subprocess.run(
        [sys.executable, "-m", "ptproxy", *map(str, arguments)],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=True,
    )  # fmt: skip
    return result.stdout


@dataclass
class Pair:
    """A bridge's and a client's folder."""

    bridge: Path
    client: Path
    port: int

    def link(self) -> Link:
        text = re.search(r"^bridge: (\S+)$", self.client.read_text(), re.M)
        assert text is not None
        return Link.parse(text[1])

    def edit(self, path: Path, old: str, new: str) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    port = free_port()
    output = command("init", "bridge", tmp_path / "bridge", "--address", f"127.0.0.1:{port}", "--no-qr")
    link = next(line for line in output.splitlines() if line.startswith("ptproxy://"))
    (tmp_path / "link").write_text(link)
    command("init", "client", tmp_path / "client", f"@{tmp_path / 'link'}", "--listen", "127.0.0.1:0")
    return Pair(tmp_path / "bridge" / "bridge.yaml", tmp_path / "client" / "client.yaml", port)


@contextlib.contextmanager
def echo() -> Iterator[int]:
    """A TCP server that sends back what it gets, for one connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                while data := connection.recv(65536):
                    connection.sendall(data)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(PATIENCE)


def test_a_stream_from_end_to_end(pair: Pair, tmp_path: Path) -> None:
    with echo() as target:
        pair.edit(pair.bridge, "allow: []", f"allow: ['127.0.0.1:{target}']")
        pair.edit(pair.client, "127.0.0.1:0", f"127.0.0.1:{(port := free_port())}")
        with running("bridge", pair.bridge) as bridge, running("client", pair.client) as client:
            with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
                connection.sendall(f"CONNECT 127.0.0.1:{target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                answer = b""
                while b"\r\n\r\n" not in answer:
                    answer += connection.recv(4096)
                assert answer.startswith(b"HTTP/1.1 200")
                connection.sendall(b"hello")
                assert connection.recv(5) == b"hello"
            assert "first" in command("invite", "list", pair.bridge)
            client_log, bridge_log = stopped(client), stopped(bridge, signal.SIGINT)
    assert str(target) not in client_log + bridge_log
    assert pair.link().serialize().rpartition("=")[2] not in client_log + bridge_log


def test_a_running_bridge_follows_invite_revoke(pair: Pair) -> None:
    with running("bridge", pair.bridge) as bridge:
        with running("client", pair.client) as client:
            stopped(client)
        command("invite", "revoke", pair.bridge, "first")
        bridge.send_signal(signal.SIGHUP)
        with running("client", pair.client) as client:  # it was let in before: it goes on trying
            said(client, "answered by a page, not by the bridge")
            stopped(client)
        stopped(bridge)


def test_a_taken_port(pair: Pair) -> None:
    with socket.create_server(("127.0.0.1", pair.port)):
        status, line = failure("bridge", "-c", pair.bridge)
    assert status == 1
    assert line == (
        f"ptproxy: listen: cannot listen on 127.0.0.1:{pair.port}: "
        "another program listens there; stop it, or choose another address"
    )


def test_a_state_folder_in_use(pair: Pair) -> None:
    with running("bridge", pair.bridge) as bridge:
        status, line = failure("bridge", "-c", pair.bridge)
        assert status == 1
        assert "another ptproxy runs with the folder" in line
        stopped(bridge)


def test_an_unreachable_bridge(pair: Pair) -> None:
    with running("client", pair.client) as client:
        line = said(client, "the client runs without its bridge for now")
        assert f":{pair.port} is not reached" in line
        stopped(client)


def test_a_wrong_bridge_key_and_a_wrong_certificate(pair: Pair) -> None:
    link = pair.link()
    original = pair.client.read_text()
    wrong = {
        "key": Link(
            bytes(31) + b"\x09",
            link.host,
            link.port,
            link.path,
            link.server_name,
            link.codecs,
            link.pin,
            token=link.token,
        ),
        "pin": Link(
            link.key,
            link.host,
            link.port,
            link.path,
            link.server_name,
            link.codecs,
            bytes(32),
            token=link.token,
        ),
    }
    with running("bridge", pair.bridge) as bridge:
        for name, each in wrong.items():
            pair.client.write_text(original.replace(link.serialize(), each.serialize()))
            status, line = failure("client", "-c", pair.client)
            assert status == 1, (name, line)
            assert f"127.0.0.1:{pair.port}" in line
        stopped(bridge)


def test_a_missing_key(pair: Pair) -> None:
    (pair.client.parent / "client.key").unlink()
    process = start("client", "-c", pair.client)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert re.fullmatch(
        r"\S+client\.yaml:\d+: key: there is no file \S+client\.key; ptproxy init makes a key\n", errors
    )
