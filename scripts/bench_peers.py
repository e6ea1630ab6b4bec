"""Other programs for ``scripts/bench --peers``, as Debian has them: a local SOCKS5 port each.

Every pair runs on loopback with TLS 1.3 where it has TLS, and as its own documentation sets
it up. What differs from ptproxy is said in ``note``: figures are only as comparable as that.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from demo import HOST, free_port, wait_for

PATIENCE: Final = 20.0
"""Seconds for a managed transport to say where it listens."""


@dataclass
class Peer:
    """A pair of programs that runs."""

    socks: int
    pids: list[int] = field(default_factory=list)
    target: int = 0
    """Where the load must go instead of the target (a bridge that forwards by itself)."""
    user: str = ""


class Running:
    """What a peer needs while it starts."""

    def __init__(self, folder: Path, target: int, stack: contextlib.ExitStack) -> None:
        self.folder = folder
        self.target = target
        self.socks, self.server, self.exit = free_port(), free_port(), free_port()
        self.secret = secrets.token_urlsafe(24)
        self.processes: list[subprocess.Popen[bytes]] = []
        self._stack = stack
        folder.mkdir()

    @property
    def certificate(self) -> tuple[str, str]:
        """A certificate for ``localhost`` and its key, made when first asked for."""
        pem, key = self.folder / "cert.pem", self.folder / "cert.key"
        if not pem.exists():
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                 "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "30",
                 "-keyout", key, "-out", pem],
                check=True, capture_output=True,
            )  # fmt: skip
        return str(pem), str(key)

    def write(self, name: str, content: Any) -> str:
        """A configuration file: text, or JSON of anything else."""
        path = self.folder / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    def run(self, *argv: str, port: int) -> None:
        """Start a program that is ready when it listens."""
        with (self.folder / f"{len(self.processes)}.log").open("wb") as log:
            self._own(subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
        wait_for(port, self.processes[-1], argv[0])

    def managed(self, says: str, *argv: str, **environment: str) -> re.Match[str]:
        """Start a pluggable transport, and wait for the line that ``says`` matches."""
        fixed = {"TOR_PT_MANAGED_TRANSPORT_VER": "1", "TOR_PT_EXIT_ON_STDIN_CLOSE": "0"}
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env={**os.environ, **fixed, **environment}
        )
        self._own(process)
        assert process.stdout is not None
        self._stack.callback(process.stdout.close)
        until, heard = time.monotonic() + PATIENCE, []
        while time.monotonic() < until and (line := process.stdout.readline().decode()):
            heard.append(line)
            if match := re.match(says, line):
                return match
        raise RuntimeError(f"{argv[0]} did not get ready: {''.join(heard)}")

    def peer(self, **others: Any) -> Peer:
        """All of it runs."""
        return Peer(**{"socks": self.socks, "pids": [process.pid for process in self.processes]} | others)

    def _own(self, process: subprocess.Popen[bytes]) -> None:
        self.processes.append(process)
        self._stack.callback(process.wait, 15)
        self._stack.callback(process.terminate)


# ---- the pairs ---------------------------------------------------------------------------------------


def _trojan(at: Running) -> Peer:
    pem, key = at.certificate
    tcp = {"no_delay": True, "keep_alive": True, "reuse_port": False, "fast_open": False}
    tls = {"alpn": ["http/1.1"], "reuse_session": True, "session_ticket": True}
    both = {"password": [at.secret], "log_level": 3, "tcp": tcp, "remote_addr": HOST, "local_addr": HOST}
    server = both | {
        "run_type": "server", "local_port": at.server, "remote_port": at.target,
        "ssl": tls | {"cert": pem, "key": key}, "mysql": {"enabled": False},
    }  # fmt: skip
    client = both | {
        "run_type": "client", "local_port": at.socks, "remote_port": at.server,
        "ssl": tls | {"verify": True, "verify_hostname": True, "cert": pem, "sni": "localhost"},
    }  # fmt: skip
    at.run("trojan", "-c", at.write("server.json", server), port=at.server)
    at.run("trojan", "-c", at.write("client.json", client), port=at.socks)
    return at.peer()


def _stunnel(at: Running) -> Peer:
    pem, key = at.certificate
    head = "foreground = yes\npid =\ndebug = 3\nsyslog = no\n"
    head += "socket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n"
    tls = f"cert = {pem}\nkey = {key}\nCAfile = {pem}\nverifyChain = yes\nsslVersion = TLSv1.3\n"

    def side(name: str, accept: int, connect: int, more: str = "") -> str:
        text = f"{head}[{name}]\n{more}accept = {HOST}:{accept}\nconnect = {HOST}:{connect}\n{tls}"
        return at.write(f"{name}.conf", text)

    at.run("microsocks", "-i", HOST, "-p", str(at.exit), port=at.exit)
    at.run("stunnel4", side("server", at.server, at.exit), port=at.server)
    at.run("stunnel4", side("client", at.socks, at.server, "client = yes\n"), port=at.socks)
    return at.peer()


def _shadowsocks(at: Running) -> Peer:
    both = ("-s", HOST, "-p", str(at.server), "-k", at.secret, "-m", "aes-256-gcm", "-t", "300")
    at.run("ss-server", *both, port=at.server)
    at.run("ss-local", *both, "-b", HOST, "-l", str(at.socks), port=at.socks)
    return at.peer()


def _v2ray(mux: int) -> Callable[[Running], Peer]:
    def start(at: Running) -> Peer:
        pem, key = at.certificate
        user = {"id": str(uuid.UUID(bytes=secrets.token_bytes(16), version=4))}
        stream = {"network": "ws", "security": "tls", "wsSettings": {"path": "/w"}}
        shown = {"serverName": "localhost", "certificates": [{"certificateFile": pem, "keyFile": key}]}
        server = {
            "log": {"loglevel": "error"},
            "inbounds": [{
                "listen": HOST, "port": at.server, "protocol": "vless",
                "settings": {"clients": [user], "decryption": "none"},
                "streamSettings": stream | {"tlsSettings": shown},
            }],
            "outbounds": [{"protocol": "freedom"}],
        }  # fmt: skip
        trust = [{"usage": "verify", "certificateFile": pem}]
        tls = {"serverName": "localhost", "disableSystemRoot": True, "certificates": trust}
        bridge = {"address": HOST, "port": at.server, "users": [user | {"encryption": "none"}]}
        client = {
            "log": {"loglevel": "error"},
            "inbounds": [{
                "listen": HOST, "port": at.socks, "protocol": "socks", "settings": {"auth": "noauth"},
            }],
            "outbounds": [{
                "protocol": "vless", "settings": {"vnext": [bridge]},
                "streamSettings": stream | {"tlsSettings": tls},
                "mux": {"enabled": bool(mux), "concurrency": mux or -1},
            }],
        }  # fmt: skip
        at.run("v2ray", "-config", at.write("server.json", server), port=at.server)
        at.run("v2ray", "-config", at.write("client.json", client), port=at.socks)
        return at.peer()

    return start


def _obfs4(at: Running) -> Peer:
    server = at.managed(
        r"SMETHOD obfs4 \S+:(?P<port>\d+) ARGS:(?P<args>\S+)", "obfs4proxy",
        TOR_PT_STATE_LOCATION=str(at.folder / "server"), TOR_PT_SERVER_TRANSPORTS="obfs4",
        TOR_PT_SERVER_BINDADDR=f"obfs4-{HOST}:{at.server}", TOR_PT_ORPORT=f"{HOST}:{at.target}",
    )  # fmt: skip
    client = at.managed(
        r"CMETHOD obfs4 socks5 \S+:(?P<port>\d+)", "obfs4proxy",
        TOR_PT_STATE_LOCATION=str(at.folder / "client"), TOR_PT_CLIENT_TRANSPORTS="obfs4",
    )  # fmt: skip
    arguments = server["args"].replace(",", ";")
    return at.peer(socks=int(client["port"]), target=int(server["port"]), user=arguments)


@dataclass(frozen=True)
class Kind:
    """A pair that can be started."""

    note: str
    programs: tuple[str, ...]
    start: Callable[[Running], Peer]

    @property
    def installed(self) -> bool:
        """Whether all that it takes is there."""
        return all(shutil.which(program) for program in self.programs)


PEERS: Final = {
    "trojan": Kind("TLS 1.3, a connection for each stream, password", ("trojan", "openssl"), _trojan),
    "stunnel": Kind(
        "TLS 1.3 with client certificates, a connection each, SOCKS behind it",
        ("stunnel4", "microsocks", "openssl"), _stunnel,
    ),
    "shadowsocks": Kind("aes-256-gcm, no TLS, no handshake", ("ss-server", "ss-local"), _shadowsocks),
    "v2ray": Kind("VLESS, WebSocket, TLS, a connection each", ("v2ray", "openssl"), _v2ray(0)),
    "v2ray-mux": Kind("the same, eight streams a connection", ("v2ray", "openssl"), _v2ray(8)),
    "obfs4": Kind("a managed transport; forwards to one target", ("obfs4proxy",), _obfs4),
}  # fmt: skip


@contextlib.contextmanager
def start_peer(name: str, folder: Path, target: int) -> Iterator[Peer]:
    """The pair, while it is used; its files go to ``folder``, which must not be there yet."""
    with contextlib.ExitStack() as stack:
        yield PEERS[name].start(Running(folder, target, stack))
