"""Connections opened ahead, through a real nginx that speaks HTTP/2: visits, until a carrier needs one."""

from __future__ import annotations

import contextlib

import pytest
from live import MIB, Clients, Origin, socks5, until
from test_e2e_looks import Http2Front

pytestmark = [pytest.mark.program(name) for name in ("nginx", "curl", "openssl")]

STREAMS = 11
"""One more than a carrier of the class "browse" takes."""


class ByConnection(Http2Front):
    """Its log tells requests by connection."""

    def __init__(self, folder):
        super().__init__(folder)
        log = f"access_log {folder}/access.log"
        where = "log_format where '$connection $request_uri';\n"
        self.nginx_text = where + self.nginx_text.replace(f"{log};", f"{log} where;")

    def visited(self):
        """Connections on which the page was loaded (the carriers' own requests are not logged)."""
        lines = [line.split() for line in (self.folder / "access.log").read_text().splitlines()]
        return {connection for connection, path in lines if path == "/"}


def test_what_waits_for_a_carrier_is_a_visit(tmp_path):
    for folder in ("origin", "front"):
        (tmp_path / folder).mkdir()
    origin = Origin(tmp_path / "origin", MIB)
    with contextlib.ExitStack() as stack:
        stack.callback(origin.stop)
        front = stack.enter_context(ByConnection(tmp_path / "front"))
        link = front.bridge.link.replace(f":{front.port}?", f":{front.recorder.port}?")
        clients = Clients(front.folder, link, tls__fingerprint="chrome", shape="browse")
        stack.callback(clients.stop)
        client = clients["http"]

        def carriers():
            return client.program.logged().count("carrier open")

        stack.callback(socks5(client.port, origin.port)[0].close)
        until(lambda: len(front.visited()) == 3, "a carrier's visit, and two ahead")
        assert carriers() == 1
        for _ in range(STREAMS):
            stack.callback(socks5(client.port, origin.port)[0].close)
        until(lambda: carriers() == 2, "the second carrier")
        until(lambda: len(front.visited()) == len(front.recorder.hellos), "a page on every connection")
