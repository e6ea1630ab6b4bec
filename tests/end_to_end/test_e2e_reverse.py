"""A service behind a client, reached at a port of its bridge: over cuts and restarts, if permitted."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import signal
import socket
import sys
import threading

import pytest
from live import (
    HOST,
    MIB,
    PATIENCE,
    Bridge,
    Client,
    Echo,
    Program,
    free_port,
    made,
    ptproxy,
    read_exactly,
    serving,
    until,
)
from test_e2e_cuts import Cutter, Forward, serving_with

from ptproxy.auth.credentials import new_token
from ptproxy.cli.bridge_folder import change_access, load_folder
from ptproxy.config.link import Link

PLAIN = {"shape": "none", "tls__fingerprint": "python"}
OFFERED_AT = "127.0.0.77"
"""Nothing else listens on this address of loopback, so that a port free for it stays free."""
SIZE = 4 * MIB
CUT_AFTER = 1 * MIB
"""Most bytes that a connection carries, once they are cut."""


class Greeting(Echo):
    """A server that speaks first, as SSH's and mail's do."""

    def handle(self):
        self.request.sendall(b"220 behind\r\n")
        super().handle()


@pytest.fixture(scope="module")
def bridge(folder):
    reverse = {"offer": True, "listen": OFFERED_AT}
    with Bridge(folder / "bridge", access="enrolled", reverse=reverse, limits__drain="1s") as bridge:
        yield bridge


@pytest.fixture(scope="module")
def service():
    with serving(Greeting) as port:
        yield port


def enrolled(bridge, folder, name, *ports, detour=None, **settings):
    """A client with an invite of its own, whose clients may offer services at these ports."""
    config, token = load_folder(bridge.folder), new_token(random.SystemRandom())

    def add(access_list):
        access_list.permit_reverse(access_list.invite(token, name), ports)

    change_access(config, add)
    followed(bridge)
    link = dataclasses.replace(Link.parse(bridge.link), token=token.secret).serialize()
    at = f"@{bridge.address}"
    return Client(folder, link.replace(at, detour or at), "websocket", **PLAIN, **settings)


def followed(bridge):
    """Wait until the bridge has read what its access list is now."""
    before = bridge.program.logged().count("access list read")
    os.kill(bridge.program.pid, signal.SIGHUP)
    until(lambda: bridge.program.logged().count("access list read") > before, "the list is read")


@contextlib.contextmanager
def offering(client, port, service):
    """``ptproxy reverse``, once the bridge has said that it listens."""
    program = reverse(client, port, service)
    try:
        yield program
    finally:
        program.stop()


def reverse(client, port, service):
    words = ["reverse", "-c", client.config, port, service]
    program = Program("reverse", [sys.executable, "-m", "ptproxy", *words], client.folder)
    program.ready(rb"reverse listening on the bridge's port %d -> 127.0.0.1:%d\n" % (port, service))
    return program


def connect(port):
    """A connection to the offered service, which has greeted."""
    sock = socket.create_connection((OFFERED_AT, port), timeout=PATIENCE)
    try:
        assert read_exactly(sock, 12) == b"220 behind\r\n"
    except BaseException:
        sock.close()
        raise
    return sock


def transfer(sock, size):
    """Bytes to the echo and back, both ends closed in order."""
    data = random.Random(5).randbytes(size)
    sending = threading.Thread(target=lambda: (sock.sendall(data), sock.shutdown(socket.SHUT_WR)))
    sending.start()
    received = bytearray()
    while more := sock.recv(1 << 18):
        received += more
    sending.join(PATIENCE)
    assert received == data


def port_is_closed(port):
    with socket.socket() as sock:
        sock.settimeout(PATIENCE)
        return sock.connect_ex((OFFERED_AT, port)) != 0


def test_many_at_once_over_cuts(bridge, tmp_path, service):
    """Eight connections while the client's connection to the bridge is cut again and again."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    host, port = bridge.address.split(":")

    def cutter_at(address, handler):
        return _OftenCut(address, handler, (host, int(port)), random.Random(seed))

    offered = free_port()
    with serving_with(Forward, cutter_at) as cutter:
        client = enrolled(
            bridge, tmp_path / "cut", "cut", offered, detour=f"@{HOST}:{cutter.server_address[1]}"
        )
        with offering(client, offered, service):
            with contextlib.ExitStack() as stack:
                socks = [stack.enter_context(connect(offered)) for _ in range(8)]
                cutter.armed = True
                threads = [threading.Thread(target=transfer, args=(sock, SIZE // 8)) for sock in socks]
                failed = []
                hook, threading.excepthook = threading.excepthook, failed.append
                try:
                    for thread in threads:
                        thread.start()
                    for thread in threads:
                        thread.join(PATIENCE)
                finally:
                    threading.excepthook = hook
                    cutter.armed = False
                assert not failed
            assert cutter.cuts >= 2 * SIZE // CUT_AFTER
            with connect(offered) as sock:
                transfer(sock, 1000)


class _OftenCut(Cutter):
    def allowance(self):
        with self.lock:
            return self.rng.randrange(1, CUT_AFTER), self.rng.random() < 0.5


def test_a_client_that_is_killed_and_comes_again_finds_who_waits(bridge, tmp_path, service):
    offered = free_port()
    client = enrolled(bridge, tmp_path / "killed", "killed", offered)
    program = reverse(client, offered, service)
    try:
        with connect(offered) as open_one:
            os.kill(program.pid, signal.SIGKILL)
            program.wait()
            program.stop()
            waiting = socket.create_connection((OFFERED_AT, offered), timeout=PATIENCE)
            with waiting:
                program = reverse(client, offered, service)
                assert read_exactly(waiting, 12) == b"220 behind\r\n"
                transfer(waiting, 1000)
            del open_one
    finally:
        assert program.stop() == 0


def test_only_who_is_permitted_and_only_as_long(bridge, tmp_path, service):
    offered, other = free_port(), free_port()
    stranger = enrolled(bridge, tmp_path / "stranger", "stranger")
    done = ptproxy("reverse", "-c", stranger.config, offered, service)
    assert done.returncode == 1
    assert "offer nothing" in done.stderr
    client = enrolled(bridge, tmp_path / "guest", "guest", offered)
    done = ptproxy("reverse", "-c", client.config, other, service)
    assert done.returncode == 1
    assert f"port {other}" in done.stderr
    assert "invite permit" in done.stderr
    assert "client guest: may offer services at" in made("invite", "permit", bridge.folder)
    with offering(client, offered, service), connect(offered) as sock:
        made("invite", "permit", bridge.folder, "guest", "--reverse", "none")
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(1) == b""  # what is open ends with the permission
        until(lambda: port_is_closed(offered), "the port is closed")


def test_beside_a_proxy_and_a_service_that_is_not_there(bridge, tmp_path, service):
    """``reverse:`` of a client that does other things too; the bridge is restarted under it."""
    offered, nowhere = free_port(), free_port()
    lines = [f"{offered} -> {HOST}:{service}", f"{nowhere} -> {HOST}:{free_port()}"]
    client = enrolled(bridge, tmp_path / "both", "both", offered, nowhere, reverse=lines)
    client.launch().ready(rb"listening on 127.0.0.1:\d+, the bridge's port")
    try:
        until(lambda: client.program.logged().count("offered at the bridge") == 2, client.program.logged)
        with connect(offered) as sock:
            transfer(sock, 1000)
        with (
            socket.create_connection((OFFERED_AT, nowhere), timeout=PATIENCE) as sock,
            pytest.raises(ConnectionResetError),
        ):
            sock.recv(1)
        assert bridge.stop() == 0
        assert port_is_closed(offered)
        bridge.start()
        until(lambda: client.program.logged().count("offered at the bridge") == 4, client.program.logged)
        with connect(offered) as sock:
            transfer(sock, 1000)
    finally:
        assert client.stop() == 0
