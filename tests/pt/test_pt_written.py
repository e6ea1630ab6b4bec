"""A plugged-in bridge with a configuration of its own (``config=FILE``), behind a real nginx among others."""

from __future__ import annotations

import contextlib
import datetime
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pt_live import PATIENCE, ROOT, Threads, echo, exactly, line_of, socks5, started, tor_environment

from ptproxy.config.load import load_bridge
from ptproxy.errors import StartError
from ptproxy.pt import tor
from ptproxy.pt.bridge_line import TRANSPORTS
from ptproxy.pt.doors import open_door
from ptproxy.pt.identity import hold_folder
from ptproxy.pt.tor_environment import BridgeSide, Common
from ptproxy.pt.wanted import Wanted
from ptproxy.pt.written_bridge import fitted, read_written, written_identity
from ptproxy.tunnel.certificate import self_signed

FRONT = "127.0.0.79"
"""nginx is the only one to listen on this address of loopback."""
ELSEWHERE = "192.0.2.1:443"
"""What tor's line says: not where the bridge is reached, so the line's addr has to."""

NGINX = """
daemon off; master_process off; worker_processes 1;
error_log {folder}/error.log; pid {folder}/nginx.pid;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    server {{
        listen {front}:{port} ssl;
        server_name localhost;
        ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/cert.key;
        ssl_protocols TLSv1.3;
        location = {path} {{
            proxy_pass http://{place};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header Host $host;
            proxy_buffering off; proxy_request_buffering off;
        }}
    }}
    map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
}}
"""


def written(folder: Path, *options: str) -> Path:
    """A bridge's configuration, as ``ptproxy init bridge`` writes it."""
    subprocess.run(
        [sys.executable, "-m", "ptproxy", "init", "bridge", str(folder), "--server-name", "localhost",
         "--access", "open", "--no-qr", *options],
        cwd=ROOT, check=True, capture_output=True, timeout=PATIENCE,
    )  # fmt: skip
    return folder / "bridge.yaml"


def behind(folder: Path) -> tuple[Path, int]:
    """One for a bridge behind a web server, whose certificate it makes, and the web server's port."""
    certificate, private = self_signed("localhost", datetime.datetime.now(datetime.UTC), random.Random())
    (folder / "cert.pem").write_bytes(certificate)
    (folder / "cert.key").write_bytes(private)
    with socket.create_server((FRONT, 0)) as sock:
        port = sock.getsockname()[1]
    config = written(
        folder / "bridge", "--mode", "behind", "--front-certificate", str(folder / "cert.pem"),
        "--address", f"{FRONT}:{port}", "--listen", "127.0.0.1:9443",
    )  # fmt: skip
    return config, port


@contextlib.contextmanager
def nginx(folder: Path, config: Path, port: int, place: str) -> Iterator[None]:
    path = load_bridge(config).path
    (folder / "nginx.conf").write_text(
        NGINX.format(folder=folder, front=FRONT, port=port, path=path, place=place)
    )
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin:/bin") or "nginx"
    process = subprocess.Popen([program, "-p", str(folder), "-c", str(folder / "nginx.conf")])
    try:
        end = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection((FRONT, port), timeout=PATIENCE).close()
                break
            assert process.poll() is None, (folder / "error.log").read_text()
            assert time.monotonic() < end
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE)


@pytest.mark.program("nginx")
def test_behind_a_web_server(tmp_path: Path) -> None:
    config, port = behind(tmp_path)
    before = sorted(config.parent.rglob("*"))
    names = ("ptproxy", "ptproxy_http", "ptproxy_random")
    with Threads(echo) as tor:
        environment = tor_environment(
            tmp_path / "state",
            SERVER_TRANSPORTS=",".join(names),
            SERVER_BINDADDR=",".join(f"{name}-127.0.0.1:0" for name in names),
            SERVER_TRANSPORT_OPTIONS=";".join(f"{name}:config={config}" for name in names),
            ORPORT=tor.place,
        )
        clients = tor_environment(tmp_path / "client", CLIENT_TRANSPORTS=",".join(names))
        with (
            started("tor-pt", environment=environment) as server,
            started("tor-pt", environment=clients) as local,
        ):
            assert "random" in server.line("SMETHOD-ERROR ptproxy_random ")
            for name in names[:2]:
                place, arguments = line_of(server.line(f"SMETHOD {name} "))
                assert f"addr={FRONT}:{port}" in arguments
                with nginx(tmp_path, config, port, place):
                    proxy = local.line(f"CMETHOD {name} ").split(" ")[3]
                    code, connection = socks5(proxy, ELSEWHERE, arguments)
                    assert code == 0, server.errors
                    with connection:
                        connection.sendall(b"through the web server")
                        assert exactly(connection, 22) == b"through the web server"
            assert server.close_input() == 0
    assert sorted(config.parent.rglob("*")) == before  # state is tor's


def test_standing_alone(tmp_path: Path) -> None:
    config = written(tmp_path / "bridge", "--address", "127.0.0.1:443", "--listen", "127.0.0.1:443")
    with Threads(echo) as tor:
        environment = tor_environment(
            tmp_path / "state",
            SERVER_TRANSPORTS="ptproxy_random",
            SERVER_BINDADDR="ptproxy_random-127.0.0.1:0",
            SERVER_TRANSPORT_OPTIONS=f"ptproxy_random:config={config}",
            ORPORT=tor.place,
        )
        clients = tor_environment(tmp_path / "client", CLIENT_TRANSPORTS="ptproxy_random")
        with (
            started("tor-pt", environment=environment) as server,
            started("tor-pt", environment=clients) as local,
        ):
            place, arguments = line_of(server.line("SMETHOD ptproxy_random "))
            assert "addr=127.0.0.1:443" in arguments
            arguments = arguments.replace("addr=127.0.0.1:443", f"addr={place}")  # the system chose the port
            code, connection = socks5(
                local.line("CMETHOD ptproxy_random ").split(" ")[3], ELSEWHERE, arguments
            )
            assert code == 0, server.errors
            with connection:
                connection.sendall(b"hello")
                assert exactly(connection, 5) == b"hello"


def test_what_cannot_be_used(tmp_path: Path) -> None:
    config, _ = behind(tmp_path)
    text = config.read_text()
    path = load_bridge(config).path
    read = read_written(config)
    assert written_identity(read).name == "localhost"
    kept = fitted(read, tmp_path, TRANSPORTS["ptproxy"], ("127.0.0.1", 7000))
    assert (kept.codecs, kept.state, str(kept.listen[0])) == (
        read.codecs, tmp_path, "127.0.0.1:7000",
    )  # fmt: skip
    with pytest.raises(StartError, match="web server"):
        fitted(read, tmp_path, TRANSPORTS["ptproxy"], ("0.0.0.0", 7000))
    with pytest.raises(StartError, match="codecs"):
        fitted(read, tmp_path, ("random",), ("127.0.0.1", 7000))
    config.write_text(text.replace("access: open", "access: enrolled"))
    with pytest.raises(StartError, match="access: open"):
        read_written(config)
    config.write_text(text.replace(f"path: {path}", f"path: {path[1:]}?"))
    with pytest.raises(StartError, match="ptproxy check") as caught:
        read_written(config)
    assert path[1:] not in str(caught.value)  # it ends in tor's log
    config.unlink()
    with pytest.raises(StartError, match="ptproxy check"):
        read_written(config)


def test_a_transport_that_cannot_be_offered_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A port that answers nobody is a thing to be seen; and the folder is for the next start."""
    config, _ = behind(tmp_path)
    opened: list[socket.socket] = []

    def open_and_remember(host: str, port: int) -> socket.socket:
        opened.append(open_door(host, port))
        return opened[-1]

    monkeypatch.setattr(tor, "open_door", open_and_remember)
    side = BridgeSide(
        Common(tmp_path / "state", ends_with_stdin=True), ("ptproxy_random",),
        {"ptproxy_random": ("127.0.0.1", 0)}, {"ptproxy_random": {"config": str(config)}}, None, None, None,
    )  # fmt: skip
    assert tor._run_bridge(side, 1) == 1
    assert [sock.fileno() for sock in opened] == [-1]
    hold_folder(tmp_path / "state" / tor.FOLDER / "ptproxy_random", 0.0).close()


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"config": "bridge.yaml"}, "absolute"),
        ({"config": "/b.yaml", "name": "a.org"}, "leave them out"),
    ],
)
def test_options_beside_it(options: dict[str, str], what: str) -> None:
    with pytest.raises(StartError, match=what):
        Wanted.parse(options)
