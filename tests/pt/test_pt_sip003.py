"""``ptproxy sip003`` as Shadowsocks starts it: its environment, its connections and datagrams, its end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from free_ports import free_port
from hypothesis import given
from hypothesis import strategies as st
from pt_live import PATIENCE, ROOT, Started, Threads, echo, exactly, started

from ptproxy.errors import StartError
from ptproxy.pt.sip003_environment import PluginSide, read_plugin

ENVIRONMENT = {
    "SS_REMOTE_HOST": "192.0.2.1",
    "SS_REMOTE_PORT": "443",
    "SS_LOCAL_HOST": "127.0.0.1",
    "SS_LOCAL_PORT": "1984",
}


def test_what_shadowsocks_says() -> None:
    assert read_plugin(ENVIRONMENT | {"SS_PLUGIN_OPTIONS": "key=a\\;b;path=/x"}) == PluginSide(
        ("192.0.2.1",), 443, "127.0.0.1", 1984, {"key": "a;b", "path": "/x"}, False
    )
    server = read_plugin(
        ENVIRONMENT | {"SS_REMOTE_HOST": "0.0.0.0|[::]|0.0.0.0", "SS_PLUGIN_OPTIONS": "server;state=/x"}
    )
    assert server.server
    assert server.remote_hosts == ("0.0.0.0", "::")
    assert server.options == {"state": "/x"}
    assert not read_plugin(ENVIRONMENT | {"SS_PLUGIN_OPTIONS": "server=0"}).server


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"SS_LOCAL_PORT": ""}, "no SS_LOCAL_PORT"),
        ({"SS_REMOTE_PORT": "0"}, "SS_REMOTE_PORT"),
        ({"SS_REMOTE_PORT": "65536"}, "SS_REMOTE_PORT"),
        ({"SS_LOCAL_PORT": "²"}, "SS_LOCAL_PORT"),
        ({"SS_REMOTE_HOST": "|"}, "host"),
        ({"SS_REMOTE_HOST": "|".join(f"127.0.0.{n}" for n in range(20))}, "hosts"),
        ({"SS_PLUGIN_OPTIONS": "a=1;a=2"}, "SS_PLUGIN_OPTIONS"),
    ],
)
def test_what_shadowsocks_does_not_say(change: dict[str, str], what: str) -> None:
    with pytest.raises(StartError, match=what):
        read_plugin(ENVIRONMENT | change)


@given(st.dictionaries(st.sampled_from([*ENVIRONMENT, "SS_PLUGIN_OPTIONS"]), st.text(max_size=30)))
def test_garbage_raises_only_what_is_documented(change: dict[str, str]) -> None:
    try:
        read_plugin(ENVIRONMENT | change)
    except StartError:
        pass


# ---- both sides as processes ----------------------------------------------------------------------------


def connected(port: int) -> socket.socket:
    """A connection, as soon as somebody listens."""
    for _ in range(10_000):
        with contextlib.suppress(ConnectionRefusedError):
            return socket.create_connection(("127.0.0.1", port), PATIENCE)
        threading.Event().wait(0.02)
    raise AssertionError("nobody listens")


def plugin(remote: int, local: int, options: str) -> dict[str, str]:
    """The environment of a plugin."""
    return {
        "SS_REMOTE_HOST": "127.0.0.1",
        "SS_REMOTE_PORT": str(remote),
        "SS_LOCAL_HOST": "127.0.0.1",
        "SS_LOCAL_PORT": str(local),
        "SS_PLUGIN_OPTIONS": options,
    }


@contextlib.contextmanager
def datagram_echo(port: int) -> Iterator[None]:
    """A program that says datagrams back, until the block is left."""
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", port))

    def serve() -> None:
        while (got := sock.recvfrom(65536))[0] != b"stop":
            sock.sendto(got[0][::-1], got[1])

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        with socket.socket(type=socket.SOCK_DGRAM) as last:
            last.sendto(b"stop", ("127.0.0.1", port))
        thread.join()
        sock.close()


@contextlib.contextmanager
def pair(folder: Path, shadowsocks: int) -> Iterator[tuple[Started, Started, int]]:
    """Server and client for the ss-server at a port; where the client listens."""
    remote, local = free_port(), free_port()
    with started("sip003", environment=plugin(remote, shadowsocks, f"server;state={folder}")) as server:
        connected(remote).close()
        file = folder / "client-options"
        while not file.exists():  # it listens before it knows who it is
            threading.Event().wait(0.02)
        with started("sip003", environment=plugin(remote, local, file.read_text().strip())) as client:
            yield server, client, local


def test_connections_and_datagrams_pass_and_a_look_asks_nothing(tmp_path: Path) -> None:
    payload = os.urandom(1 << 20)
    with Threads(echo) as shadowsocks, pair(tmp_path / "state", shadowsocks.port) as (_, client, local):
        connected(local).close()  # a parent looks whether we listen
        with connected(local) as connection:
            connection.sendall(payload[:100])
            assert exactly(connection, 100) == payload[:100]
            threading.Thread(target=connection.sendall, args=(payload,)).start()
            assert exactly(connection, len(payload)) == payload
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1) == b""
        assert shadowsocks.accepted == 1
        with datagram_echo(shadowsocks.port), socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.settimeout(1)
            sock.connect(("127.0.0.1", local))
            for size in (1, 1200, 9000):
                answer = b""
                while len(answer) != size:  # a datagram may be lost: it is sent again
                    sock.send(b"a" + bytes(size - 1))
                    with contextlib.suppress(TimeoutError):
                        answer = sock.recv(65536)
                assert answer == bytes(size - 1) + b"a"
        client.process.send_signal(signal.SIGTERM)
        assert client.status() == 0


def test_a_server_that_was_killed_is_the_same_again(tmp_path: Path) -> None:
    with Threads(echo) as shadowsocks:
        with pair(tmp_path / "state", shadowsocks.port) as (server, client, _):
            options = (tmp_path / "state" / "client-options").read_text()
            server.process.kill()
            client.process.kill()
        with pair(tmp_path / "state", shadowsocks.port) as (_, _, local), connected(local) as connection:
            assert (tmp_path / "state" / "client-options").read_text() == options
            connection.sendall(b"hello")
            assert exactly(connection, 5) == b"hello"
            printed = subprocess.run(  # while the server has the folder
                [sys.executable, "-m", "ptproxy", "sip003", "--client-options", str(tmp_path / "state")],
                check=True, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
            )  # fmt: skip
            assert printed.stdout == options


def test_it_ends_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    environment = os.environ | plugin(1, free_port(), f"key={'A' * 43};path=/x") | {"PYTHONPATH": str(ROOT)}
    script = "import subprocess, sys; p = subprocess.Popen(sys.argv[1:]); print(p.pid, flush=True); p.wait()"
    command = [sys.executable, "-c", script, sys.executable, "-m", "ptproxy", "sip003"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        child = int(parent.stdout.readline())
        connected(int(environment["SS_LOCAL_PORT"])).close()
        parent.kill()
        while True:  # until it is gone, or a zombie that nobody waits for
            try:
                stat = Path(f"/proc/{child}/stat").read_text()
            except OSError:
                break
            if stat.rsplit(")", 1)[1].split()[0] == "Z":
                break
            threading.Event().wait(0.05)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ("server", b"state"),
        ("", b"no key="),
        ("key=x;path=/x", b"cut off"),
        ("server;state=relative", b"state"),
    ],
)
def test_options_that_are_none_end_it(options: str, what: bytes) -> None:
    with started("sip003", environment=plugin(1, 1, options)) as process:
        assert process.status() == 1
        assert what in process.errors
        assert process.errors.count(b"\n") == 1


def test_without_shadowsocks_it_explains_itself() -> None:
    with started("sip003", environment={}) as process:
        assert process.status() == 1
        assert b"--plugin-opts" in process.errors
        assert b"started by Shadowsocks" in process.errors


# ---- the real programs ------------------------------------------------------------------------------------


SHADOWSOCKS = ["-s", "127.0.0.1", "-k", "password", "-m", "aes-256-gcm", "-u"]
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def carries_connections(proxy: int, target: int) -> None:
    payload = os.urandom(1 << 20)
    with through_socks5(proxy, target) as connection:
        threading.Thread(target=connection.sendall, args=(payload,)).start()
        assert exactly(connection, len(payload)) == payload


@contextlib.contextmanager
def running(*command: str) -> Iterator[None]:
    with subprocess.Popen(command, **QUIET) as process:
        try:
            yield
        finally:
            process.terminate()


@pytest.mark.program("ss-server", "ss-local")
def test_debians_shadowsocks_starts_it(tmp_path: Path) -> None:
    script = tmp_path / "plugin"
    script.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m ptproxy sip003\n')
    script.chmod(0o700)
    options = subprocess.run(
        [sys.executable, "-m", "ptproxy", "sip003", "--client-options", str(tmp_path / "state")],
        check=True, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    ).stdout.strip()  # fmt: skip
    remote, local = free_port(), free_port()
    common = [*SHADOWSOCKS, "-p", str(remote), "--plugin", str(script), "--plugin-opts"]
    with (
        Threads(echo) as target,
        running("ss-server", *common, f"server;state={tmp_path / 'state'}"),
        running("ss-local", "-l", str(local), "-b", "127.0.0.1", *common, options),
    ):
        carries_connections(local, target.port)


@pytest.mark.program("ss-server", "ss-local")
def test_debians_shadowsocks_has_udp_through_it(tmp_path: Path) -> None:
    """As SIP003u arranges it; Debian's Shadowsocks, started with a plugin, sends UDP past that."""
    shadowsocks, local = free_port(), free_port()
    with (
        Threads(echo) as target,
        running("ss-server", *SHADOWSOCKS, "-p", str(shadowsocks)),
        pair(tmp_path / "state", shadowsocks) as (_, _, entry),
        running("ss-local", *SHADOWSOCKS, "-p", str(entry), "-l", str(local), "-b", "127.0.0.1"),
    ):
        carries_connections(local, target.port)
        with datagram_echo(target.port):
            assert datagram_through_socks5(local, target.port, b"over UDP") == b"PDU revo"


def through_socks5(proxy: int, port: int) -> socket.socket:
    """A connection whose first byte has come back: ss-local answers before anything behind it is there."""
    while True:
        connection = connected(proxy)
        try:
            connection.sendall(b"\x05\x01\x00")
            assert exactly(connection, 2) == b"\x05\x00"
            connection.sendall(b"\x05\x01\x00\x01\x7f\x00\x00\x01" + port.to_bytes(2))
            assert exactly(connection, 10)[1] == 0
            connection.sendall(b"!")
            assert exactly(connection, 1) == b"!"
        except OSError:
            connection.close()
            threading.Event().wait(0.1)
        else:
            return connection


def datagram_through_socks5(proxy: int, port: int, data: bytes) -> bytes:
    """The answer to a datagram that ss-local takes on its own port (RFC 1928 section 7)."""
    head = b"\x00\x00\x00\x01\x7f\x00\x00\x01" + port.to_bytes(2)
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.settimeout(1)
        sock.connect(("127.0.0.1", proxy))
        while True:  # it may be lost on the way
            sock.send(head + data)
            with contextlib.suppress(TimeoutError):
                return sock.recv(65536)[len(head) :]
