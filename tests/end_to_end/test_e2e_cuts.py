"""Connections cut at random bytes under a transfer: every byte arrives once and in order, in each codec."""

from __future__ import annotations

import contextlib
import hashlib
import random
import socket
import socketserver
import struct
import threading

import pytest
from live import CODECS, HOST, MIB, PATIENCE, Client, Server, serving, through

SIZE = 16 * MIB
"""Bytes each way, at the same time."""
MOST = 2 * MIB
"""Bytes both ways that a connection carries at most before it is cut."""
OPENING = 6000
"""Bytes within which a connection opens; one in :data:`SELDOM` is cut there."""
SELDOM = 16
LEAST_CUTS = SIZE // MOST
"""Cuts without which the transfer cannot have come through."""


class Cutter(Server):
    """Stands between client and bridge, and cuts each connection somewhere once ``armed``."""

    def __init__(self, address, handler, bridge=None, rng=None):
        super().__init__(address, handler)
        self.bridge, self.rng = bridge, rng
        self.armed = False
        self.cuts = 0
        self.lock = threading.Lock()

    def allowance(self):
        """Bytes after which a connection is cut, and whether by a reset or an end."""
        with self.lock:
            most = MOST if self.rng.randrange(SELDOM) else OPENING
            return self.rng.randrange(1, most), self.rng.random() < 0.5


class Forward(socketserver.BaseRequestHandler):
    """One connection: bytes both ways until the allowance is used up in the middle of a read."""

    def handle(self):
        self.left, self.reset = self.server.allowance()
        self.cut = False
        with contextlib.suppress(OSError), socket.create_connection(self.server.bridge) as bridge:
            back = threading.Thread(target=self.pass_on, args=(bridge, self.request), daemon=True)
            back.start()
            self.pass_on(self.request, bridge)
            back.join()

    def pass_on(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if self.server.armed:
                    with self.server.lock:
                        data = data[: max(0, self.left)]
                        self.left -= len(data)
                    sink.sendall(data)
                    if self.left <= 0:
                        self.end(source, sink)
                        return
                else:
                    sink.sendall(data)
        for sock in (source, sink):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def end(self, *sockets):
        with self.server.lock:
            self.server.cuts += not self.cut
            self.cut = True
        for sock in sockets:
            with contextlib.suppress(OSError):
                if self.reset:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.shutdown(socket.SHUT_RDWR)


class Digesting(socketserver.BaseRequestHandler):
    """Sends :data:`SIZE` bytes of a seed that comes first, takes as many, and then says their SHA-256."""

    def handle(self):
        seed = self.request.recv(1)
        sender = threading.Thread(target=send_all, args=(self.request, seed[0]), daemon=True)
        sender.start()
        digest = digest_of(self.request)
        sender.join(PATIENCE)
        self.request.sendall(digest)


def blocks(seed):
    rng = random.Random(seed)
    for _ in range(SIZE // MIB):
        yield rng.randbytes(MIB)


def send_all(sock, seed):
    for block in blocks(seed):
        sock.sendall(block)


def digest_of(sock):
    """SHA-256 of the next :data:`SIZE` bytes."""
    digest, left = hashlib.sha256(), SIZE
    while left:
        data = sock.recv(min(left, 1 << 18))
        if not data:
            raise ConnectionError("the stream ended early")
        digest.update(data)
        left -= len(data)
    return digest.digest()


def digest_of_seed(seed):
    digest = hashlib.sha256()
    for block in blocks(seed):
        digest.update(block)
    return digest.digest()


@pytest.mark.parametrize("codec", CODECS)
def test_a_transfer_survives_cuts(bridge, tmp_path, codec):
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    host, port = bridge.address.split(":")

    def cutter_at(address, handler):
        return Cutter(address, handler, (host, int(port)), random.Random(seed))

    with serving(Digesting) as target, serving_with(Forward, cutter_at) as cutter:
        link = bridge.link.replace(f"@{bridge.address}", f"@{HOST}:{cutter.server_address[1]}")
        with Client(tmp_path / codec, link, codec) as client, through(client.port, target) as sock:
            cutter.armed = True
            sock.sendall(b"d")
            sender = threading.Thread(target=send_all, args=(sock, ord("u")), daemon=True)
            sender.start()
            assert digest_of(sock) == digest_of_seed(ord("d"))
            sender.join(PATIENCE)
            said = bytearray()
            while len(said) < 32:
                more = sock.recv(32 - len(said))
                assert more
                said += more
            assert said == digest_of_seed(ord("u"))
            assert cutter.cuts >= LEAST_CUTS
            cutter.armed = False


@contextlib.contextmanager
def serving_with(handler, kind):
    """As ``live.serving``, but the server itself is given."""
    made = []

    def keep(address, handler):
        made.append(kind(address, handler))
        return made[0]

    with serving(handler, keep):
        yield made[0]
