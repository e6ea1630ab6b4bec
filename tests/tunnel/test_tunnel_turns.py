"""However often it is asked, a carrier or transport takes one go a turn of the loop: others get theirs."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from ptproxy.tunnel.boring.transport import BrowserTransport
from ptproxy.tunnel.carrier import Carrier

TURNS = 20


class Endless:
    """A session that always has more to send, and a codec that always takes it."""

    def __init__(self) -> None:
        self.drawn = 0
        self.ready = {1}

    def data_to_send(self, number: int, most: int, now: float) -> list[bytes]:
        del number, most, now
        self.drawn += 1
        return [b"more"]

    def room(self) -> int:
        return 1 << 40

    def send_data(self, chunks: list[bytes], now: float) -> None:
        """Taken."""

    def links_to_flush(self) -> tuple[()]:
        return ()

    def deadline(self) -> None:
        return None


def test_a_carrier_that_is_called_again_and_again_goes_on_once_a_turn(run: Any) -> None:
    async def main() -> None:
        endless: Any = Endless()
        carrier = Carrier(endless, "http", {}, asyncio.get_running_loop())
        carrier.number, carrier.session = 1, endless
        for _ in range(TURNS):
            carrier.pump()
        asked = endless.drawn
        for _ in range(TURNS):
            await asyncio.sleep(0)
        assert endless.drawn - asked <= TURNS + 1
        endless.ready.clear()
        await asyncio.sleep(0)

    run(main())


def test_a_transport_with_more_to_read_reads_once_a_turn_whatever_its_descriptor_tells(run: Any) -> None:
    """The loop tells of the descriptor in each turn, beside what was asked for."""

    async def main() -> None:
        read = 0

        def read_into(address: int, room: int) -> int:
            nonlocal read
            read += 1
            return room

        room = memoryview(bytearray(16))
        tls = SimpleNamespace(
            read_into=read_into, ended=False, failure=None, cipher=lambda: None,
            sock=SimpleNamespace(fileno=lambda: -1, getpeername=lambda: ("", 0), getsockname=lambda: ("", 0)),
        )  # fmt: skip
        taker = SimpleNamespace(get_buffer=lambda hint: room, buffer_updated=lambda count: None)
        polled = SimpleNamespace(add_reader=lambda *words: None, remove_reader=lambda *words: None)
        transport = BrowserTransport(asyncio.get_running_loop(), polled, tls, taker)  # type: ignore[arg-type]
        for _ in range(TURNS):
            transport._read_ready()  # as the loop does
            await asyncio.sleep(0)
        assert read <= 2 * TURNS + 1  # what was asked for, and the descriptor's word
        transport.pause_reading()
        await asyncio.sleep(0)

    run(main())
