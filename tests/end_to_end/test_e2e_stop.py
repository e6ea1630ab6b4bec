"""SIGTERM lets open streams end; nothing new is taken, and the status is 0."""

from __future__ import annotations

import signal
import socket

import pytest
from live import CODECS, HOST, MIB, PATIENCE, Bridge, Client, SocksRefused, read_exactly, through, until

DRAIN = "10m"
"""Longer than any time-out of the tests: what ends earlier ended by itself."""


@pytest.fixture
def pair(tmp_path):
    """A bridge and a client that wait for their streams, for as long as those take."""

    def start(codec, drain=DRAIN):
        bridge = Bridge(tmp_path / "bridge", limits__drain=drain).start()
        client = Client(tmp_path / "client", bridge.link, codec, limits__drain=drain).start()
        started.extend((client, bridge))
        return bridge, client

    started = []
    yield start
    for role in started:
        if role.program.process.poll() is None:
            role.program.stop(signal.SIGKILL)
        else:
            role.stop()


def ask_to_stop(role):
    role.program.process.send_signal(signal.SIGTERM)
    until(lambda: "stopping" in role.program.logged(), "the signal is noticed")


def talk(sock, size):
    """Send ``size`` bytes and get them back."""
    block = bytes(range(256)) * 256
    for _ in range(size // len(block)):
        sock.sendall(block)
        assert read_exactly(sock, len(block)) == block


@pytest.mark.parametrize("codec", CODECS)
def test_a_client_lets_an_open_transfer_end(pair, codec, echo):
    _, client = pair(codec)
    with through(client.port, echo) as sock:
        talk(sock, MIB)
        ask_to_stop(client)
        with pytest.raises((ConnectionError, SocksRefused)):
            through(client.port, echo)
        talk(sock, 4 * MIB)
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""
    assert client.program.wait() == 0


@pytest.mark.parametrize("codec", CODECS)
def test_a_bridge_lets_an_open_transfer_end(pair, codec, echo):
    bridge, client = pair(codec)
    with through(client.port, echo) as sock:
        talk(sock, MIB)
        ask_to_stop(bridge)
        with pytest.raises(ConnectionError):
            socket.create_connection(tuple(bridge.address.split(":")))
        talk(sock, 4 * MIB)
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""
    assert bridge.program.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_does_not_end_is_ended_after_the_drain_time(pair, number, echo):
    bridge, client = pair("websocket", drain="200ms")
    with through(client.port, echo) as sock:
        talk(sock, MIB)
        assert client.program.stop(number) == 0
        with pytest.raises((ConnectionError, AssertionError)):
            talk(sock, MIB)
    assert bridge.program.stop(number) == 0


@pytest.mark.parametrize("role", ["bridge", "client"])
def test_a_second_signal_does_not_wait(pair, role, echo):
    bridge, client = pair("websocket")
    stopping = bridge if role == "bridge" else client
    with through(client.port, echo) as sock:
        talk(sock, MIB)
        ask_to_stop(stopping)
        stopping.program.process.send_signal(signal.SIGTERM)
        assert stopping.program.wait() == 0


def test_a_stopped_bridge_is_back_and_the_client_finds_it(pair, echo):
    bridge, client = pair("websocket")
    with through(client.port, echo) as sock:
        talk(sock, MIB)
    assert bridge.stop() == 0
    bridge.start()
    codes = set()

    def again():
        try:
            with through(client.port, echo) as sock:
                talk(sock, MIB)
            return True
        except SocksRefused as refused:
            codes.add(refused.code)
            return False

    until(again, "the client has found the bridge again")
    assert codes <= {1}  # the tunnel was down, nothing else


def test_replies_tell_that_the_tunnel_is_down(pair, echo):
    bridge, client = pair("websocket")
    assert bridge.stop() == 0
    with socket.create_connection((HOST, client.port), timeout=PATIENCE) as sock:
        sock.sendall(b"CONNECT %s:80 HTTP/1.1\r\nHost: x\r\n\r\n" % HOST.encode())  # waits beside the other
        with pytest.raises(SocksRefused) as refused:
            through(client.port, echo)
        assert refused.value.code == 1
        assert sock.recv(65536).startswith(b"HTTP/1.1 503 ")
