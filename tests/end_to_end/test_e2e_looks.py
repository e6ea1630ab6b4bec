"""Clients that look like browsers, through a real nginx that speaks HTTP/2: what they carry and ask."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest
from live import HOST, MIB, Clients, Origin
from test_e2e_behind import Front, carry

pytestmark = [pytest.mark.program(name) for name in ("nginx", "curl", "openssl")]

SIZE = 32 * MIB
PAGE = "<link rel=stylesheet href=/a.css><script src=/b.js></script><img src=/c.png><h1>A site</h1>\n"


class Recorder:
    """Passes connections on and keeps the first bytes that each client sent."""

    def __init__(self, upstream):
        self.upstream = upstream
        self.hellos = []
        self.sockets = []
        self.listener = socket.create_server((HOST, 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection((HOST, self.upstream))
                self.sockets += [client, server]
                first = client.recv(65536, socket.MSG_PEEK)
                while first[:1] == b"\x16" and len(first) < 5 + int.from_bytes(first[3:5], "big"):
                    first = client.recv(65536, socket.MSG_PEEK)
                self.hellos.append(first)
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self.move, args=pair, daemon=True).start()

    @staticmethod
    def move(source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 18):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def stop(self):
        for sock in (self.listener, *self.sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


class Http2Front(Front):
    """nginx with HTTP/2 and a page with assets; clients come by way of a recorder."""

    def __init__(self, folder):
        super().__init__(folder, "unix", "written")
        site = folder / "site"
        (site / "index.html").write_text(PAGE)
        (site / "a.css").write_text("body { background: url(/d.png) }\n")
        for name in ("b.js", "c.png", "d.png", "favicon.ico"):
            (site / name).write_bytes(b" " * 3000)
        self.nginx_text = self.nginx_text.replace(" ssl;", f" ssl http2; access_log {folder}/access.log;")

    def __enter__(self):
        super().__enter__()
        self.recorder = Recorder(self.port)
        return self

    def __exit__(self, *_):
        super().__exit__(*_)
        self.recorder.stop()

    def asked(self):
        """Requests as nginx has them: method, path, version."""
        lines = (self.folder / "access.log").read_text().splitlines()
        return [line.split('"')[1] for line in lines]


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    origin = Origin(tmp_path_factory.mktemp("origin"), SIZE)
    yield origin
    origin.stop()


@pytest.fixture(scope="module", params=["chrome", "firefox", "python"])
def front(tmp_path_factory, request):
    with Http2Front(tmp_path_factory.mktemp("looks")) as front:
        link = front.bridge.link.replace(f":{front.port}?", f":{front.recorder.port}?")
        front.clients = Clients(front.folder, link, tls__fingerprint=request.param)
        front.fingerprint = request.param
        yield front
        front.clients.stop()


@pytest.mark.parametrize("codec", ["websocket", "http"])
def test_transfers_pass(front, origin, codec, tmp_path):
    carry(origin, front.clients[codec], f"{front.fingerprint}-{codec}", tmp_path)


def test_a_page_comes_first_and_is_remembered(front):
    client = front.clients["http"]
    asked = [line for line in front.asked() if "/assets" not in line]
    pages = [line for line in asked if line.startswith("GET / ")]
    if front.fingerprint == "python":
        assert pages == []
        return
    assert pages
    assert set(asked[:6]) <= {
        f"GET {path} HTTP/2.0" for path in ("/", "/a.css", "/b.js", "/c.png", "/d.png", "/favicon.ico")
    }
    assert client.stop() == 0
    before = len(front.asked())
    client.start()
    again = [line.split()[1] for line in front.asked()[before:]]
    assert "/" in again
    assert "/favicon.ico" not in again  # known from the visit before
