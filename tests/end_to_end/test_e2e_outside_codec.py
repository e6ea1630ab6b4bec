"""A codec of another package between a real bridge and a real client, both of which find it installed."""

from __future__ import annotations

import os
import random
import socket
import threading
from pathlib import Path

from live import MIB, Bridge, Client, through

OUTSIDE = str(Path(__file__).parent.parent / "codec" / "outside")
SETTINGS = {"shape": "none", "tls__fingerprint": "python"}
ENV = {"PYTHONPATH": os.pathsep.join((OUTSIDE, os.environ.get("PYTHONPATH", "")))}
SIZE = 8 * MIB


def test_it_carries_streams_byte_for_byte(tmp_path, echo):
    data = random.Random(8).randbytes(SIZE)
    with Bridge(tmp_path / "bridge", env=ENV, codecs=["websocket", "lines"]) as bridge:
        link = bridge.link.replace("codecs=websocket,http,random", "codecs=lines,websocket")
        with (
            Client(
                tmp_path / "client", link, "lines", env=ENV, shape="none", tls__fingerprint="python"
            ) as client,
            through(client.port, echo) as sock,
        ):
            sending = threading.Thread(target=lambda: (sock.sendall(data), sock.shutdown(socket.SHUT_WR)))
            sending.start()
            with sock.makefile("rb") as file:
                assert file.read() == data
            sending.join()
            assert "codec=lines" in client.program.logged() + bridge.program.logged()
