"""A bridge at which clients offer services is replaced: the offers come again, whichever process goes on."""

from __future__ import annotations

import contextlib
import signal
import socket

import pytest
from live import HOST, free_port, serving, until
from test_e2e_replace import Replaced
from test_e2e_reverse import OFFERED_AT, Greeting, connect, enrolled, transfer

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGUSR2"), reason="descriptors travel on POSIX only")


@pytest.fixture(scope="module")
def bridge(folder):
    reverse = {"offer": True, "listen": OFFERED_AT}
    with Replaced(folder / "replaced", access="enrolled", reverse=reverse) as bridge:
        yield bridge


@pytest.fixture(scope="module")
def offered(bridge, folder):
    """The port at which a client's service is offered; and that client's program."""
    port = free_port()
    with serving(Greeting) as service:
        lines = [f"{port} -> {HOST}:{service}"]
        client = enrolled(bridge, folder / "offering", "offering", port, reverse=lines)
        client.launch().ready(rb"listening on 127.0.0.1:\d+, the bridge's port")
        try:
            offers(client, 1)
            yield port, client
        finally:
            client.stop()


def offers(client, times):
    until(lambda: client.program.logged().count("offered at the bridge") >= times, client.program.logged)


def ended(sock):
    """What is left of a connection when its bridge is replaced: it may break, and must not hang."""
    with contextlib.suppress(ConnectionError):
        while sock.recv(1 << 16):
            pass


def test_the_new_process_has_the_offer_again(bridge, offered):
    port, client = offered
    before = client.program.logged().count("offered at the bridge")
    with connect(port) as open_one:
        bridge.replace()
        ended(open_one)
    offers(client, before + 1)
    with connect(port) as sock:
        transfer(sock, 1000)


def test_a_bridge_that_was_not_replaced_has_it_again_as_well(bridge, offered):
    port, client = offered
    before = client.program.logged().count("offered at the bridge")
    config = bridge.config.read_text()
    with socket.create_server((HOST, 0)) as taken, connect(port) as open_one:
        bridge.change(listen=[bridge.address, f"{HOST}:{taken.getsockname()[1]}"])
        said = bridge.command("--replace")
        assert (said.returncode, "goes on as process" in said.stderr) == (1, True), said
        ended(open_one)
    bridge.config.write_text(config)
    offers(client, before + 1)
    with connect(port) as sock:
        transfer(sock, 1000)
