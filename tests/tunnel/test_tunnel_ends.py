"""One end of a pair: what each farewell of its peer looks like, also to a write."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from doorway_live import NAME, Peer, stranger_context
from tunnel_live import make_certificate

from ptproxy.errors import StartError
from ptproxy.tunnel.beside import openssl
from ptproxy.tunnel.beside.ends import RawEnd, TlsEnd
from ptproxy.tunnel.beside.site_manners import site_context
from ptproxy.tunnel.boring.connection import Want
from ptproxy.tunnel.tls import bridge_context

try:
    LIBRARY = openssl.load()
except StartError as error:
    pytest.skip(str(error), allow_module_level=True)

PATIENCE = 10_000
"""Milliseconds after which a peer that does nothing fails the test."""


def wait(end: RawEnd, event: int) -> None:
    poll = select.poll()
    poll.register(end.sock.fileno(), event)
    assert poll.poll(PATIENCE)


def shaken(end: TlsEnd) -> TlsEnd:
    while (wanted := end.handshake()) is not Want.NOTHING:
        wait(end, select.POLLIN if wanted is Want.READ else select.POLLOUT)
    return end


def against(what: Callable[[Peer], Any], folder: Path, side: str) -> tuple[RawEnd, threading.Thread]:
    """An end of that kind whose peer does something, and the peer's thread."""
    listener = socket.create_server(("127.0.0.1", 0))
    certificate, key = make_certificate(folder)
    server_context = bridge_context(certificate, key)
    LIBRARY.ignore_unexpected_eof(server_context)
    server_context.num_tickets = 0  # or what a peer has not read makes its end a reset

    def peer() -> None:
        with socket.create_connection(listener.getsockname()) as sock:
            end = Peer(sock)
            if side == "server":
                end.start_tls(stranger_context(), server_hostname=NAME)
            elif side == "client":
                end.start_tls(server_context, server_side=True)
            what(end)

    thread = threading.Thread(target=peer)
    thread.start()
    sock, _ = listener.accept()
    listener.close()
    sock.setblocking(False)
    if side == "server":
        return shaken(TlsEnd.server(LIBRARY, server_context, sock)), thread
    if side == "client":
        return shaken(TlsEnd.client(LIBRARY, site_context(LIBRARY), sock, NAME, (b"http/1.1",))), thread
    return RawEnd(sock), thread


@pytest.mark.parametrize(
    ("side", "farewell"),
    [
        *((side, end) for side in ("raw", "server", "client") for end in ("FIN", "RST")),
        *((side, f"close_notify {end}") for side in ("server", "client") for end in ("FIN", "RST")),
    ],
)
def test_each_farewell_is_told_from_the_others(side: str, farewell: str, tmp_path: Path) -> None:
    go_on = threading.Event()

    def leave(peer: Peer) -> None:
        peer.send(b"the last words")
        if "close_notify" in farewell:
            peer.notify()
        go_on.wait(10)
        if "RST" in farewell:
            peer.reset()

    end, thread = against(leave, tmp_path, side)
    said = b""
    while len(said) < 14 or (end.notified is not ("close_notify" in farewell)):
        wait(end, select.POLLIN)
        said += end.read()
    assert said == b"the last words"
    assert not end.finished
    go_on.set()
    while not end.finished and end.failure is None:
        wait(end, select.POLLIN)
        assert end.read() == b""
    assert end.finished is (end.failure is None) is ("FIN" in farewell)
    assert "RST" not in farewell or isinstance(end.failure, ConnectionResetError)
    assert end.ended or end.failure is not None
    thread.join()
    end.close()
    end.close()  # harmless


@pytest.mark.parametrize("side", ["raw", "server", "client"])
@pytest.mark.parametrize("notifies", [True, False])
def test_a_write_meets_a_broken_connection(side: str, notifies: bool, tmp_path: Path) -> None:
    """Also where OpenSSL calls it a farewell, because one has come."""
    go_on = threading.Event()

    def leave(peer: Peer) -> None:
        if notifies and side != "raw":
            peer.notify()
        go_on.wait(10)
        peer.reset()

    end, thread = against(leave, tmp_path, side)
    while notifies and side != "raw" and not end.notified:
        wait(end, select.POLLIN)
        end.read()
    go_on.set()
    thread.join()
    wait(end, 0)  # POLLERR is always told
    assert end.write(b"x" * 100) == 0
    assert isinstance(end.failure, ConnectionResetError | BrokenPipeError)
    end.reset()


def test_half_a_connection_goes_on_after_close_notify(tmp_path: Path) -> None:
    """Either side may speak on when the other has said that it is through (RFC 8446 section 6.1)."""

    def leave(peer: Peer) -> None:
        peer.notify()
        while "close_notify" not in peer.said:
            peer.piece(100)

    end, thread = against(leave, tmp_path, "server")
    while not end.notified:
        wait(end, select.POLLIN)
        end.read()
    assert end.write(b"still here") == 10
    assert end.notify()
    thread.join()
    end.close()
