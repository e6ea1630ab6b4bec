"""TLS that ends twice on the way: haproxy and nginx with certificates of their own before a sealed bridge."""

from __future__ import annotations

import contextlib
import socketserver
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from cdn import Cdn, through
from fronts import Front, make_certificate
from live import HOST, MIB, PATIENCE, Bridge, Client, Origin, free_port, read_exactly, serving, socks5, until

pytestmark = [pytest.mark.program(name) for name in ("nginx", "haproxy", "curl", "openssl")]

SIZE = 8 * MIB
CUTS = (10, 30, 60)
"""Seconds of silence after which the CDNs of this test cut a connection."""
LOOKS = {"websocket": {"tls__fingerprint": "python"}, "http": {}}
"""What the clients of the idle test are told: with a WebSocket nothing differs but the time to start, with
http it is HTTP/2 or not."""
SILENCE = max(CUTS) + 3
"""Seconds that streams are idle: longer than the longest of them."""


class Chatting(socketserver.StreamRequestHandler):
    """An IRC-like server: greets, asks PING now and then, echoes every other line."""

    EVERY = 17.0
    """Seconds between its PINGs: longer than the shortest cut."""

    def handle(self):
        over = threading.Event()
        lock = threading.Lock()

        def ask():
            while not over.wait(self.EVERY):
                with contextlib.suppress(OSError), lock:
                    self.wfile.write(b"PING :x\r\n")

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        with contextlib.suppress(OSError):
            self.wfile.write(b":irc NOTICE * :welcome\r\n")
            for line in self.rfile:
                if not line.startswith(b"PONG"):
                    with lock:
                        self.wfile.write(line)
        over.set()


class Silent(socketserver.StreamRequestHandler):
    """Echoes lines, and says nothing of its own."""

    def handle(self):
        with contextlib.suppress(OSError):
            for line in self.rfile:
                self.wfile.write(line)


class Sealed:
    """A bridge behind one of the web servers, for a CDN: sealed, not bound."""

    def __init__(self, kind, folder, **changes):
        folder.mkdir(exist_ok=True)
        self.folder = folder
        certificate = make_certificate(folder, "origin")
        port, behind = free_port(), free_port()
        site = ("--site", f"http://{HOST}:{behind}") if kind == "haproxy" else ()
        self.bridge = Bridge(
            folder / "bridge", "--behind", kind, "--cdn", *site,
            address=f"{HOST}:{port}", listen=f"unix:{folder}/bridge.sock", limits__drain="1s", **changes,
        )  # fmt: skip
        files = {
            path.name: path.read_text()
            for path in (folder / "bridge").iterdir()
            if path.suffix in (".conf", ".caddy", ".cfg")
        }
        self.front = Front(kind, folder / "front", certificate, files, port=port, behind=behind)
        self._edge = make_certificate(folder, "edge")
        self._opened = contextlib.ExitStack()

    def cdn(self, kind, cut=3600):
        cdn = Cdn(kind, self.folder / f"cdn-{kind}-{cut}", self._edge, self.front.port, cut)
        self._opened.callback(cdn.stop)
        return cdn

    def client(self, name, cdn, codec, **changes):
        client = Client(
            self.folder / name, through(self.bridge.link, cdn.port), codec,
            tls__trust=str(self._edge), log__level="debug", limits__linger="10s", **changes,
        )  # fmt: skip
        return self._opened.enter_context(client)

    def __enter__(self):
        self.bridge.start()
        self.front.start()
        return self

    def __exit__(self, *_):
        self._opened.close()
        self.front.stop()
        self.bridge.stop()


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    origin = Origin(tmp_path_factory.mktemp("origin"), SIZE)
    yield origin
    origin.stop()


@pytest.mark.parametrize(
    ("edge", "behind"), [("haproxy", "nginx"), ("nginx", "haproxy"), ("buffering", "nginx")]
)
def test_two_that_end_tls_are_passed(edge, behind, origin, tmp_path):
    """Two clients of each codec at once, on connections that the CDN shares among them."""
    codecs = ("http",) if edge == "buffering" else ("http", "websocket")
    with Sealed(behind, tmp_path / "sealed") as sealed:
        assert "seal=1&binding=none" in sealed.bridge.link
        assert "cert=" not in sealed.bridge.link
        cdn = sealed.cdn(edge)
        clients = [sealed.client(f"{codec}-{n}", cdn, codec) for codec in codecs for n in range(2)]
        wrong = []

        def carry(number, client):
            proxy = ("--socks5-hostname", f"{HOST}:{client.port}")
            if origin.download(*proxy) != (SIZE, origin.digest):
                wrong.append((number, "down"))
            if origin.upload(f"{edge}-{number}", *proxy) != (SIZE, origin.digest):
                wrong.append((number, "up"))

        running = [threading.Thread(target=carry, args=entry) for entry in enumerate(clients)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join(4 * PATIENCE)
        assert not any(thread.is_alive() for thread in running)
        assert wrong == []
        for client in clients:
            assert "no carrier" not in client.program.logged()


def say(sock, line):
    """Send a line and wait for its echo; what the server asks meanwhile is answered."""
    sock.sendall(line + b"\r\n")
    while (heard := hear(sock)) != line:
        if heard == b"PING :x":
            sock.sendall(b"PONG :x\r\n")


def hear(sock):
    line = bytearray()
    while not line.endswith(b"\r\n"):
        line += read_exactly(sock, 1)
    return bytes(line[:-2])


def chat_until(sock, end):
    """Answer the server's PINGs until the clock says ``end``."""
    while (left := end - time.monotonic()) > 0:
        sock.settimeout(left)
        try:
            assert hear(sock) == b"PING :x"
        except TimeoutError:
            break
        sock.sendall(b"PONG :x\r\n")
    sock.settimeout(PATIENCE)


def cuts(client):
    """How many of a client's carriers have ended so far."""
    return client.program.logged().count("carrier ended")


def settle(client, lessons, span):
    """Wait until ``lessons`` of a client's carriers have ended, and then none for ``span`` seconds."""
    seen, since = cuts(client), time.monotonic()

    def is_quiet():
        nonlocal seen, since
        if (now := cuts(client)) != seen:
            seen, since = now, time.monotonic()
        return seen >= lessons and time.monotonic() - since >= span

    until(is_quiet, lambda: f"carriers that ended: {cuts(client)}, and they may go on")


def test_idle_streams_outlive_every_cut(tmp_path):
    """Side by side, so that all of it is waited for once: each cut, each codec, a silent and a chatty stream.

    Every stream goes on, and on the carriers that were there at first: none has ended. A bridge that was not
    told of the cut learns it: for the last two spans of it nothing was cut there either.
    """
    ways = [("haproxy", cut, codec) for cut in CUTS for codec in ("websocket", "http")]
    ways += [("nginx", CUTS[0], "websocket"), ("buffering", CUTS[0], "http"), ("buffering", CUTS[1], "http")]
    with (
        Sealed("nginx", tmp_path / "sealed") as sealed,
        Sealed("haproxy", tmp_path / "untold", keepalive="off") as untold,
        serving(Silent) as silent,
        serving(Chatting) as chatting,
        contextlib.ExitStack() as opened,  # before what they lead to, whatever fails
    ):

        def stream(client, port):
            return opened.enter_context(socks5(client.port, port)[0])

        cdns = {place: sealed.cdn(*place) for place in dict.fromkeys(way[:2] for way in ways)}
        with ThreadPoolExecutor(4) as starting:
            clients = list(
                starting.map(
                    lambda way: sealed.client(
                        "-".join(map(str, way)), cdns[way[:2]], way[2], **LOOKS[way[2]]
                    ),
                    ways,
                )
            )
        learning = untold.client(
            "learning", untold.cdn("haproxy", CUTS[0]), "websocket", **LOOKS["websocket"]
        )
        taught = stream(learning, silent)
        quiet = [stream(client, silent) for client in clients]
        chats = [stream(client, chatting) for client in clients]
        for sock in chats:
            assert hear(sock).endswith(b":welcome")
        for sock in (*quiet, *chats, taught):
            say(sock, b"before")
        end = time.monotonic() + SILENCE
        chatters = opened.enter_context(ThreadPoolExecutor(len(chats)))
        chatting_on = [chatters.submit(chat_until, sock, end) for sock in chats]
        for each in chatting_on:
            each.result()
        settle(learning, 3, 2 * CUTS[0])  # on a busy machine a lesson takes longer than a cut
        for sock in (*quiet, *chats, taught):
            say(sock, b"after")
        assert {way: cuts(client) for way, client in zip(ways, clients, strict=True)} == dict.fromkeys(
            ways, 0
        )
