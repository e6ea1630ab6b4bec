"""The loop as transports and handshakes see it: what they watch for is told as they asked."""

from __future__ import annotations

import asyncio
import socket
import struct
from pathlib import Path
from typing import Any

import pytest
import uvloop
from tunnel_live import make_certificate

from ptproxy.tunnel import tcp
from ptproxy.tunnel.polling import PolledLoop, polled
from ptproxy.tunnel.tls import bridge_context


def test_a_reader_with_arguments_hears_of_an_error_with_them() -> None:
    """A handshake watches so; a reset in the middle of one made an exception in every turn."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        failed: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: failed.append(context))
        watched = PolledLoop(loop)
        with socket.create_server(("127.0.0.1", 0)) as server:
            ours = socket.create_connection(server.getsockname())
            theirs, _ = server.accept()
        heard: list[str] = []
        with ours:
            ours.setblocking(False)
            watched.add_reader(ours.fileno(), heard.append, "here")
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            theirs.close()  # resets
            async with asyncio.timeout(60):
                while len(heard) < 3:  # uvloop itself tells once at most, then watches no more
                    await asyncio.sleep(0)
            watched.remove_reader(ours.fileno())
        await asyncio.sleep(0)
        assert set(heard) == {"here"}
        assert not failed

    uvloop.run(main())


def test_a_handshake_that_is_given_up_leaves_nothing_behind(tmp_path: Path) -> None:
    """A thousand silent strangers a second would else be kept until the time of a handshake is over."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        context = bridge_context(*make_certificate(tmp_path))
        ours, theirs = socket.socketpair()
        task = loop.create_task(tcp.adopt(loop, asyncio.Protocol, ours, tls=context, timeout=3600.0))
        timers = polled(loop)._handshakes
        async with asyncio.timeout(60):
            while not timers:
                await asyncio.sleep(0)
        (timer,) = timers.values()
        assert not timer.cancelled()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert timer.cancelled()
        assert not timers
        theirs.close()

    uvloop.run(main())
