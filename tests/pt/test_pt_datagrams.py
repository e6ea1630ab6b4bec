"""SIP003u's client side without a tunnel: what local programs can make it hold."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from ptproxy.pt import datagrams as module
from ptproxy.pt.datagrams import DatagramDoor
from ptproxy.pt.doors import open_datagram_door, place_of

PATIENCE = 120.0
"""Seconds after which something that never happens is a failure; no verdict on speed."""


def test_senders_that_must_go_leave_nothing_behind(monkeypatch) -> None:
    """While the tunnel does not stand: each new sender displaces one, whose opening is given up."""
    monkeypatch.setattr(module, "MOST_SENDERS", 4)
    opening: set[asyncio.Task[None] | None] = set()
    asked = 0

    async def associate(_):
        nonlocal asked
        asked += 1
        opening.add(asyncio.current_task())
        try:
            await asyncio.get_running_loop().create_future()  # the tunnel never stands
        finally:
            opening.discard(asyncio.current_task())

    async def main() -> None:
        door = DatagramDoor(asyncio.get_running_loop(), associate)
        sock = open_datagram_door("127.0.0.1", 0)
        place = place_of(sock)
        await door.open(sock)
        programs = contextlib.ExitStack()  # all open until the end: no two have the same port
        try:
            async with asyncio.timeout(PATIENCE):
                for number in range(1, 33):
                    program = programs.enter_context(socket.socket(type=socket.SOCK_DGRAM))
                    program.bind(("127.0.0.1", 0))
                    while asked < number:
                        program.sendto(b"x", place)
                        await asyncio.sleep(0.001)
                while len(opening) > len(door):
                    await asyncio.sleep(0.001)
            assert len(door) == 4
            assert len(opening) == 4
        finally:
            programs.close()
            await door.close()
        assert not opening

    asyncio.run(main())
