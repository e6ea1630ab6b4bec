"""``ptproxy tor-pt`` as tor starts it: both sides as processes, and a tor's side of the test's own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pt_live import (
    COOKIE,
    HEADER,
    PATIENCE,
    ROOT,
    Started,
    Threads,
    echo,
    exactly,
    extended_or_port,
    line_of,
    socks5,
    started,
    tor_environment,
)

TRANSPORTS = ("ptproxy", "ptproxy_ws", "ptproxy_http", "ptproxy_random")
PAYLOAD = os.urandom(1 << 20)


@contextlib.contextmanager
def bridge(folder: Path, transport: str, **more: str) -> Iterator[tuple[Started, str, str]]:
    """A bridge's side, where it listens and its line's arguments."""
    environment = tor_environment(
        folder / "pt_state", SERVER_TRANSPORTS=transport, SERVER_BINDADDR=f"{transport}-127.0.0.1:0", **more
    )
    with started("tor-pt", environment=environment) as process:
        yield process, *line_of(process.line("SMETHOD "))


@contextlib.contextmanager
def client(folder: Path, transport: str, **more: str) -> Iterator[tuple[Started, str]]:
    """A client's side, and where it listens."""
    environment = tor_environment(folder / "client", CLIENT_TRANSPORTS=transport, **more)
    with started("tor-pt", environment=environment) as process:
        yield process, process.line("CMETHOD ").split(" ")[3]


@pytest.fixture(scope="module")
def tor_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Started, dict[str, str]]]:
    """A client's side with every transport, and where each listens."""
    environment = tor_environment(
        tmp_path_factory.mktemp("client") / "state", CLIENT_TRANSPORTS=",".join(TRANSPORTS)
    )
    with started("tor-pt", environment=environment) as process:
        process.line("CMETHODS DONE")
        words = [line.split(" ") for line in process.lines if line.startswith("CMETHOD ")]
        yield process, {transport: place for _, transport, _, place in words}


def transfer(connection: socket.socket) -> None:
    """A MiB there and back, and the end of it, too."""
    with connection:
        connection.sendall(b"first")
        assert exactly(connection, 5) == b"first"
        received = b""
        sent = 0
        while sent < len(PAYLOAD):
            sent += connection.send(PAYLOAD[sent : sent + 65536])
            received += connection.recv(65536)
        connection.shutdown(socket.SHUT_WR)
        while data := connection.recv(65536):
            received += data
        assert received == PAYLOAD


def test_bytes_pass_and_tor_is_told_who_calls(tmp_path: Path) -> None:
    told: list[tuple[int, bytes]] = []
    (tmp_path / "cookie").write_bytes(HEADER + COOKIE)
    with Threads(extended_or_port(told)) as tor:
        environment = tor_environment(
            tmp_path / "pt_state",
            SERVER_TRANSPORTS=",".join(TRANSPORTS),
            SERVER_BINDADDR=",".join(f"{transport}-127.0.0.1:0" for transport in TRANSPORTS),
            EXTENDED_SERVER_PORT=tor.place, AUTH_COOKIE_FILE=str(tmp_path / "cookie"),
        )  # fmt: skip
        clients = tor_environment(tmp_path / "client", CLIENT_TRANSPORTS=",".join(TRANSPORTS))
        with (
            started("tor-pt", environment=environment) as server,
            started("tor-pt", environment=clients) as local,
        ):
            for transport in TRANSPORTS:
                place, arguments = line_of(server.line(f"SMETHOD {transport} "))
                proxy = local.line(f"CMETHOD {transport} ").split(" ")[3]
                told.clear()
                code, connection = socks5(proxy, place, arguments)
                assert code == 0
                transfer(connection)
                status = local.line(f"STATUS TYPE=connection TRANSPORT={transport} ")
                assert status.endswith("CONNECT=Success")
                commands = dict(told)
                assert commands[0x0001].startswith(b"127.0.0.1:")
                assert commands[0x0002] == transport.encode()
            assert local.close_input() == 0
            assert not (tmp_path / "client").exists()  # nothing of a client's is kept
            assert server.close_input() == 0
            assert server.line("STATUS TYPE=version") in server.lines


def test_a_bridge_is_the_same_after_a_restart_and_its_clients_go_on(
    tmp_path: Path, tor_client: tuple[Started, dict[str, str]]
) -> None:
    proxy = tor_client[1]["ptproxy_ws"]
    with Threads(echo) as tor:
        with bridge(tmp_path, "ptproxy_ws", ORPORT=tor.place) as (first, place, arguments):
            code, connection = socks5(proxy, place, arguments)
            connection.close()
            assert code == 0
            first.process.kill()  # it had no time to say goodbye
        environment = tor_environment(
            tmp_path / "pt_state",
            SERVER_TRANSPORTS="ptproxy_ws", SERVER_BINDADDR=f"ptproxy_ws-{place}", ORPORT=tor.place,
        )  # fmt: skip
        with started("tor-pt", environment=environment) as second:
            assert line_of(second.line("SMETHOD ")) == (place, arguments)
            code = 1
            while code:  # the first tries may come before openings are taken again
                code, connection = socks5(proxy, place, arguments)
                if code:
                    connection.close()
            transfer(connection)


def test_lines_that_cannot_be_used_are_refused_and_explained(tmp_path: Path) -> None:
    with client(tmp_path, "ptproxy") as (process, proxy):
        for arguments, what in (
            ("key=short;path=/x", "cut off"),
            ("path=/x", "no key="),
            ("gibberish", "equals sign"),
        ):
            code, connection = socks5(proxy, "127.0.0.1:1", arguments)
            connection.close()
            assert code == -1
            process.line("LOG SEVERITY=warning", what)
            process.lines.clear()
        with socket.create_connection(tuple_of(proxy)) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert plain.recv(1) == b""


def tuple_of(place: str) -> tuple[str, int]:
    host, _, port = place.rpartition(":")
    return host, int(port)


def test_a_bridge_that_is_not_there_is_said_to_be_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with client(tmp_path, "ptproxy") as (process, proxy):
        code, connection = socks5(proxy, f"127.0.0.1:{port}", f"key={'A' * 43};path=/x;name=example.org")
        connection.close()
        assert code == 5  # refused, RFC 1928 section 6
        assert process.line("STATUS TYPE=connection").endswith("CONNECT=Failed")
        warning = process.line("LOG SEVERITY=warning")
        assert "the bridge is not reached" in warning
        assert "127.0.0.1" not in warning


def test_a_wrong_key_reaches_a_web_site_and_no_tor(
    tmp_path: Path, tor_client: tuple[Started, dict[str, str]]
) -> None:
    with Threads(echo) as tor, bridge(tmp_path, "ptproxy_ws", ORPORT=tor.place) as (_, place, arguments):
        pairs = dict(pair.split("=", 1) for pair in arguments.split(";"))
        pairs["key"] = "C" + "A" * 42
        wrong = ";".join(f"{key}={value}" for key, value in pairs.items())
        code, connection = socks5(tor_client[1]["ptproxy_ws"], place, wrong)
        connection.close()
        assert code == 1
        assert tor.accepted == 0


@pytest.mark.parametrize("cookie", [None, HEADER + bytes(32)])
def test_a_cookie_that_is_not_tors_ends_the_stream_and_is_logged(
    tmp_path: Path, tor_client: tuple[Started, dict[str, str]], cookie: bytes | None
) -> None:
    if cookie is not None:
        (tmp_path / "cookie").write_bytes(cookie)
    with Threads(extended_or_port([])) as tor:
        more = {"EXTENDED_SERVER_PORT": tor.place, "AUTH_COOKIE_FILE": str(tmp_path / "cookie")}
        with bridge(tmp_path, "ptproxy_random", **more) as (process, place, arguments):
            code, connection = socks5(tor_client[1]["ptproxy_random"], place, arguments)
            connection.close()
            assert code == 1
            assert "cookie" in process.line("LOG SEVERITY=error")


def test_an_orport_that_is_not_there(tmp_path: Path, tor_client: tuple[Started, dict[str, str]]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nowhere = f"127.0.0.1:{taken.getsockname()[1]}"
    with bridge(tmp_path, "ptproxy_random", ORPORT=nowhere) as (process, place, arguments):
        code, connection = socks5(tor_client[1]["ptproxy_random"], place, arguments)
        connection.close()
        assert code == 5
        assert "does not take connections" in process.line("LOG SEVERITY=error")


@pytest.mark.parametrize(
    ("number", "when"), [(signal.SIGTERM, "serving"), (signal.SIGINT, "serving"), (signal.SIGTERM, "loading")]
)
def test_signals_end_it(tmp_path: Path, number: signal.Signals, when: str) -> None:
    with client(tmp_path, "ptproxy") as (process, _):
        if when == "serving":
            process.line("STATUS TYPE=version")
        process.process.send_signal(number)
        assert process.status() == 0


def test_without_tor_it_explains_itself(tmp_path: Path) -> None:
    with started("tor-pt", environment={}) as process:
        assert process.status() == 1
        assert process.lines == ["ENV-ERROR no TOR_PT_MANAGED_TRANSPORT_VER environment variable"]
        for word in (b"ClientTransportPlugin", b"ServerTransportPlugin", b"started by tor"):
            assert word in process.errors
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ("ptproxy:colour=red", "no option"),
        ("ptproxy:certificate=/none.pem;ptproxy:private-key=/none.key", "name"),
    ],
)
def test_options_that_are_none_are_an_error_of_that_transport(
    tmp_path: Path, options: str, what: str
) -> None:
    environment = tor_environment(
        tmp_path / "state",
        SERVER_TRANSPORTS="ptproxy", SERVER_BINDADDR="ptproxy-127.0.0.1:0", ORPORT="127.0.0.1:1",
        SERVER_TRANSPORT_OPTIONS=options,
    )  # fmt: skip
    with started("tor-pt", environment=environment) as process:
        assert process.status() == 1
        assert what in process.line("SMETHOD-ERROR ptproxy ")
        assert "SMETHODS DONE" in process.lines


def test_an_unknown_transport_is_left_to_others(tmp_path: Path) -> None:
    with started("tor-pt", environment=tor_environment(tmp_path / "s", CLIENT_TRANSPORTS="zzz")) as process:
        assert process.status() == 1
        assert process.lines[:2] == ["VERSION 1", "CMETHODS DONE"]
        assert process.lines[2].startswith("LOG SEVERITY=error")


def test_a_bridge_that_is_not_told_where_chooses_a_port(tmp_path: Path) -> None:
    environment = tor_environment(tmp_path / "s", SERVER_TRANSPORTS="ptproxy_ws", ORPORT="127.0.0.1:1")
    with started("tor-pt", environment=environment) as process:
        place, _ = line_of(process.line("SMETHOD ptproxy_ws "))
        assert place.startswith("0.0.0.0:")
        assert tuple_of(place)[1] > 0
        assert process.close_input() == 0


def test_a_tor_that_is_killed_takes_it_along(tmp_path: Path) -> None:
    """pt-spec 3.4: without TOR_PT_EXIT_ON_STDIN_CLOSE, the parent's death is noticed all the same."""
    environment = tor_environment(tmp_path / "s", CLIENT_TRANSPORTS="ptproxy_ws", EXIT_ON_STDIN_CLOSE="0")
    tor = (  # starts it with an input that stays open, says its number, and is killed
        "import subprocess, sys, time; "
        "one = subprocess.Popen([sys.executable, '-m', 'ptproxy', 'tor-pt'], stdin=subprocess.PIPE); "
        "print('PID', one.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", tor],
        stdout=subprocess.PIPE, cwd=ROOT, text=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)} | environment,
    )  # fmt: skip
    number = 0
    try:
        number = int(parent.stdout.readline().removeprefix("PID "))
        while not (line := parent.stdout.readline()).startswith("STATUS TYPE=version"):
            assert line
        parent.kill()
        parent.communicate(timeout=PATIENCE)  # to the end of its output, which ours held open
        number = 0
    finally:
        parent.kill()
        if number:
            os.kill(number, signal.SIGKILL)
        parent.wait()
        parent.stdout.close()


def test_an_upstream_proxy_that_cannot_be_used_is_said_before_anything(tmp_path: Path) -> None:
    """pt-spec 3.3.2: not PROXY DONE where the library for it is missing."""
    environment = tor_environment(
        tmp_path / "s", CLIENT_TRANSPORTS="ptproxy_ws", PROXY="socks5://127.0.0.1:1080"
    )
    hidden = (
        "import importlib.util, sys; from ptproxy.cli.main import main; find = importlib.util.find_spec; "
        "hide = lambda name, *more: None if name == 'python_socks' else find(name, *more); "
        "importlib.util.find_spec = hide; main(['tor-pt'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", hidden],
        capture_output=True, cwd=ROOT, text=True, timeout=PATIENCE, check=False,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)} | environment,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout.splitlines()[0] == "VERSION 1"
    assert done.stdout.splitlines()[1].startswith("PROXY-ERROR ")
    assert "CMETHOD" not in done.stdout
