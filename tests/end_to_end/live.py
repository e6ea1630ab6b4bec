"""Real bridges and clients as processes, and what the end-to-end tests reach through them.

Every role is made as a person makes it: ``ptproxy init``, a few settings, ``ptproxy bridge`` or ``ptproxy
client``. Ports are free ones of loopback. What a process writes goes to a file that ``conftest.py`` shows
when a test fails. Nothing is judged by time: time-outs only keep a broken run from hanging.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import re
import resource
import selectors
import shutil
import signal
import socket
import socketserver
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import ClassVar

import yaml
from free_ports import free_port

from ptproxy.proxy.control_asking import Asking

ROOT = Path(__file__).resolve().parent.parent.parent
HOST = "127.0.0.1"
CODECS = ("websocket", "http", "random")
MIB = 1 << 20
PATIENCE = 120.0
"""Seconds after which something that should have happened counts as broken."""
DESCRIPTORS = 16384
"""Descriptors that thousands of streams need, in the tests and in what they start."""

_, _most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(
    resource.RLIMIT_NOFILE,
    (DESCRIPTORS if _most == resource.RLIM_INFINITY else min(DESCRIPTORS, _most), _most),
)

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
ENVIRONMENT["PATH"] = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
ENVIRONMENT["PYTHONWARNINGS"] = "error"


def until(condition, what):
    """Wait until ``condition()`` is true; what it gave. ``what`` is waited for: text, or makes it."""
    pause, end = threading.Event(), time.monotonic() + PATIENCE
    while not (found := condition()):
        if time.monotonic() > end:
            told = what() if callable(what) else what
            raise AssertionError(f"not within {PATIENCE:.0f} s: {told}")
        pause.wait(0.02)
    return found


def listens(port):
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=PATIENCE):
        return True
    return False


# ---- processes ----------------------------------------------------------------------------------


class Program:
    """A process whose output is kept; ``started`` holds all that a failing test may want to see."""

    started: ClassVar[list[Program]] = []

    def __init__(self, name, argv, folder, *, env=None, stdin=None):
        self.name = name
        self.log = Path(folder) / f"{name}.log"
        self.said = b""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(word) for word in argv],
                cwd=ROOT,
                env=ENVIRONMENT | (env or {}),
                stdin=stdin if stdin is not None else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self.started.append(self)

    @property
    def pid(self):
        return self.process.pid

    def ready(self, pattern):
        """As :meth:`hear`; a process that does not get ready does not stay either, and its log is told."""
        try:
            return self.hear(pattern)
        except BaseException:
            self.stop(signal.SIGKILL)
            raise

    def hear(self, pattern):
        """Read standard output until ``pattern`` (bytes) matches; the match."""
        end = time.monotonic() + PATIENCE
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while not (match := re.search(pattern, self.said)):
                if not selector.select(max(0.0, end - time.monotonic())):
                    raise AssertionError(f"{self.name} did not say {pattern!r}, only {self.said[-2000:]!r}")
                data = os.read(self.process.stdout.fileno(), 65536)
                if not data:
                    status = self.process.wait(PATIENCE)
                    raise AssertionError(f"{self.name} ended with status {status}: {self.logged()[-2000:]}")
                self.said += data
        return match

    def logged(self):
        return self.log.read_text(errors="replace")

    def wait(self):
        """The exit status of a process that is about to end."""
        return self.process.wait(PATIENCE)

    def stop(self, number=signal.SIGTERM):
        """Ask it to end; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(PATIENCE)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self.process.stdout.close()
            if self.process.stdin is not None:
                with contextlib.suppress(BrokenPipeError):
                    self.process.stdin.close()
            if self in self.started:
                self.started.remove(self)

    def rss(self):
        """Resident bytes."""
        return int(re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())[1]) << 10

    def descriptors(self):
        """How many it has; nobody but root may look into a process of ptproxy, which tells it itself."""
        with contextlib.suppress(PermissionError):
            return len(os.listdir(f"/proc/{self.pid}/fd"))
        with Asking(self.log.parent / "state") as running:
            return running.ask("state")["process"]["descriptors"]


def ptproxy(*arguments, stdin=None):
    """Run a ``ptproxy`` command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "ptproxy", *map(str, arguments)],
        cwd=ROOT,
        env=ENVIRONMENT,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def made(*arguments, stdin=None):
    """Run a ``ptproxy`` command that must succeed; its standard output."""
    done = ptproxy(*arguments, stdin=stdin)
    assert done.returncode == 0, done.stderr
    return done.stdout


def edit(path, **changes):
    """Put settings into a configuration; ``a__b`` is b inside a."""
    config = yaml.safe_load(path.read_text())
    for name, value in changes.items():
        *outer, last = name.split("__")
        place = config
        for key in outer:
            if place.get(key) is None:
                place[key] = {}
            place = place[key]
        place[last] = value
    path.write_text(yaml.safe_dump(config, sort_keys=False))


class Role:
    """A bridge or a client."""

    def change(self, **changes):
        edit(self.config, **changes)

    def stop(self):
        """Ask it to end; its exit status. Nothing unexpected may have happened to it."""
        status = self.program.stop()
        assert "Traceback" not in self.program.logged(), self.program.logged()
        return status

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()


class Bridge(Role):
    """A bridge on loopback whose clients may reach 127.0.0.1 (and no other address of it)."""

    def __init__(self, folder, *options, address=None, listen=None, access="open", env=None, **changes):
        self.folder = folder
        self.config = folder / "bridge.yaml"
        self.address = address or f"{HOST}:{free_port()}"
        self.env = env
        said = made(
            "init", "bridge", folder, "--address", self.address, "--listen", listen or self.address,
            "--server-name", "localhost", "--access", access, "--no-qr", *options,
        )  # fmt: skip
        self.link = next(word for word in said.split() if word.startswith("ptproxy://"))
        self.written = self.config.read_text()
        self.change(egress__allow=[f"{HOST}/32", "::1/128"], log__addresses="shown", **changes)

    def start(self):
        self.program = Program(
            f"bridge-{self.folder.name}",
            [sys.executable, "-m", "ptproxy", "bridge", "-c", self.config],
            self.folder,
            env=self.env,
        )
        self.program.ready(rb"listening on .*\n")
        return self


class Client(Role):
    """A client of a bridge, on a port of its own (``port``)."""

    def __init__(self, folder, link, codec, *, env=None, **changes):
        self.folder = folder
        self.config = folder / "client.yaml"
        self.env = env
        made("init", "client", folder, "-", "--listen", f"{HOST}:0", "--codec", codec, stdin=link)
        self.change(log__addresses="shown", **changes)

    def launch(self):
        """Start it without waiting for it."""
        self.program = Program(
            f"client-{self.folder.name}",
            [sys.executable, "-m", "ptproxy", "client", "-c", self.config],
            self.folder,
            env=self.env,
        )
        return self.program

    def start(self):
        self.port = int(self.launch().ready(rb"listening on [^\n]*:(\d+)\n")[1])
        return self


class Clients:
    """One client a codec, each started when it is first asked for."""

    def __init__(self, folder, link, **settings):
        self._folder, self._link, self._settings = folder, link, settings
        self._running = {}

    def __getitem__(self, codec):
        if codec not in self._running:
            client = Client(self._folder / codec, self._link, codec, **self._settings)
            self._running[codec] = client.start()
        return self._running[codec]

    def stop(self):
        for client in self._running.values():
            client.stop()


# ---- local programs -------------------------------------------------------------------------------


class SocksRefused(ConnectionError):
    """The proxy's answer to a SOCKS request was no."""

    def __init__(self, code):
        super().__init__(f"SOCKS reply {code}")
        self.code = code


def read_exactly(sock, size):
    data = bytearray()
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise ConnectionError("the stream ended early")
        data += more
    return bytes(data)


def socks5(port, target_port, host=HOST, command=1):
    """A socket that has asked for a target by SOCKS5, and the bound address of the answer."""
    sock = socket.create_connection((HOST, port), timeout=PATIENCE)
    try:
        sock.sendall(b"\x05\x01\x00")
        assert read_exactly(sock, 2) == b"\x05\x00"
        name = host.encode()
        sock.sendall(bytes([5, command, 0, 3, len(name)]) + name + struct.pack(">H", target_port))
        _, code, _, kind = read_exactly(sock, 4)
        if code:
            raise SocksRefused(code)
        assert kind == 1
        bound = read_exactly(sock, 6)
        return sock, (socket.inet_ntoa(bound[:4]), struct.unpack(">H", bound[4:])[0])
    except BaseException:
        sock.close()
        raise


def through(port, target_port):
    """A stream to a port of loopback, through the client at ``port``."""
    return socks5(port, target_port)[0]


def curl(*arguments, **options):
    """Run curl to its end, quietly; its output as bytes."""
    return subprocess.run(
        ["curl", "-q", "-sS", "--max-time", str(4 * PATIENCE), *map(str, arguments)],
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        **options,
    )


def sha256(path):
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---- what is reached --------------------------------------------------------------------------------


class Echo(socketserver.BaseRequestHandler):
    """Everything comes back, the end of input too."""

    def handle(self):
        with contextlib.suppress(OSError):
            while data := self.request.recv(1 << 16):
                self.request.sendall(data)
            self.request.shutdown(socket.SHUT_WR)


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 1024
    block_on_close = False


@contextlib.contextmanager
def serving(handler, kind=Server):
    """A server in threads of the test's process; its port."""
    with kind((HOST, 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join(PATIENCE)


NGINX = """
daemon off;
master_process off;
error_log {folder}/error.log;
pid {folder}/nginx.pid;
worker_processes 1;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    default_type application/octet-stream;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {http}
}}
"""


def start_nginx(folder, port, http):
    """nginx with the given content of its ``http`` block, which listens on ``port``."""
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, http=http))
    program = Program("nginx", ["nginx", "-p", folder, "-c", config], folder)
    try:
        until(lambda: program.process.poll() is not None or listens(port), "nginx listens")
        assert program.process.poll() is None, program.logged()
    except BaseException:
        program.stop()
        raise
    return program


class Origin:
    """A web site behind nginx: ``/big`` (``size`` bytes), ``/small/0`` to ``/small/499``, PUT ``/put/…``."""

    FETCHES = 500

    def __init__(self, folder, size):
        self.folder = folder
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        self.size = size
        small = folder / "small"
        small.mkdir()
        (folder / "put").mkdir()
        rng = random.Random(size)
        for number in range(self.FETCHES):
            (small / str(number)).write_bytes(rng.randbytes(rng.randrange(1, 40_000)))
        with (folder / "big").open("wb") as file:
            for _ in range(size // MIB):
                file.write(rng.randbytes(MIB))
        self.digest = sha256(folder / "big")
        self.nginx = start_nginx(
            folder,
            self.port,
            f"""
            client_max_body_size 0;
            keepalive_timeout 0;
            server {{
                listen {HOST}:{self.port} backlog=1024;
                root {folder};
                location /put/ {{ dav_methods PUT; }}
            }}
            """,
        )

    def download(self, *proxy):
        """Fetch ``/big`` with curl; size and SHA-256 of what arrived."""
        process = subprocess.Popen(
            [
                "curl",
                "-q",
                "-sS",
                "--fail",
                "--max-time",
                str(4 * PATIENCE),
                *map(str, proxy),
                f"{self.url}/big",
            ],
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
        )
        digest, size = hashlib.sha256(), 0
        with process.stdout as out:
            while data := out.read(1 << 18):
                digest.update(data)
                size += len(data)
        assert process.wait(PATIENCE) == 0
        return size, digest.hexdigest()

    def upload(self, name, *proxy):
        """PUT ``/big`` with curl; size and SHA-256 of what nginx has stored."""
        stored = self.folder / "put" / name
        done = curl("--fail", "-T", self.folder / "big", *proxy, f"{self.url}/put/{name}")
        assert done.returncode == 0, done.stderr
        try:
            return stored.stat().st_size, sha256(stored)
        finally:
            stored.unlink()

    def fetch_all(self, folder, *proxy, at_once=250):
        """Fetch every small file, by curls of ``at_once`` connections each; the numbers of wrong ones."""
        running = []
        for first in range(0, self.FETCHES, at_once):
            config = folder / f"fetch-{first}"
            config.write_text(
                "".join(
                    f'url = "{self.url}/small/{number}"\noutput = "{folder / str(number)}"\n'
                    for number in range(first, min(first + at_once, self.FETCHES))
                )
            )
            words = ["curl", "-q", "-sS", "--fail", "--max-time", 4 * PATIENCE, *proxy, "-K", config]
            words += ["-Z", "--parallel-immediate", "--parallel-max", at_once]
            running.append(
                subprocess.Popen([str(word) for word in words], env=ENVIRONMENT, stdout=subprocess.DEVNULL)
            )
        assert [process.wait(4 * PATIENCE) for process in running] == [0] * len(running)
        return [
            number
            for number in range(self.FETCHES)
            if (folder / str(number)).read_bytes() != (self.folder / "small" / str(number)).read_bytes()
        ]

    def stop(self):
        self.nginx.stop()
        shutil.rmtree(self.folder)
