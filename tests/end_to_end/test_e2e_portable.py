"""A client where uvloop, the fast transports and POSIX-only calls are missing, as on Windows or a phone."""

from __future__ import annotations

import os

import pytest
from live import CODECS, Client, read_exactly, through

MISSING = """\
import asyncio, signal, sys

class Missing:
    names = {"uvloop", "aiofastnet", "websockets.speedups", "pwd", "grp", "resource", "termios", "tty"}

    def find_spec(self, name, path=None, target=None):
        if name in self.names:
            raise ImportError(f"{name} does not exist on this platform")

sys.meta_path.insert(0, Missing())

def not_here(*arguments):
    raise NotImplementedError

loop = asyncio.SelectorEventLoop
for name in ("add_signal_handler", "remove_signal_handler", "create_unix_server", "create_unix_connection"):
    setattr(loop, name, not_here)
del signal.SIGHUP
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """The environment of a process whose Python lacks them."""
    folder = tmp_path_factory.mktemp("bare")
    (folder / "sitecustomize.py").write_text(MISSING)
    return {"PYTHONPATH": str(folder)}


@pytest.mark.parametrize("codec", CODECS)
def test_a_client_without_posix_carries_streams_and_stops(codec, bare, bridge, echo, tmp_path):
    with Client(tmp_path / "client", bridge.link, codec, env=bare) as client:
        block = os.urandom(1 << 20)
        with through(client.port, echo) as sock:
            sock.sendall(block)
            assert read_exactly(sock, len(block)) == block
