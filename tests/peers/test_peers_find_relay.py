"""A bridge's places for its clients' lookups: taken, and given back whenever a client gives up."""

from __future__ import annotations

import asyncio

from peers_live import run, until

from ptproxy.errors import Reason
from ptproxy.peers.find_relay import STREAMS_OF_ONE, RelayService
from ptproxy.state import StateFolder


class Stream:
    """A client's stream that is given up when a test says so."""

    def __init__(self, peer: str = "anna") -> None:
        self.peer = peer
        self.cancelled = False
        self.refused: Reason | None = None
        self.give_up = lambda: None

    def on_cancel(self, callback) -> None:
        self.give_up = callback

    def refuse(self, reason: Reason) -> None:
        self.refused = reason


class Silent:
    """A guard that never answers."""

    def __init__(self) -> None:
        self.asked = 0

    async def dial(self, *_):
        self.asked += 1
        await asyncio.get_running_loop().create_future()


def test_who_gives_up_in_the_same_turn_has_its_places_again(tmp_path):
    """A request and its cancel come in one segment: the search for a guard has not even begun."""

    async def main():
        guard = Silent()
        relay = RelayService(lambda _: {"guard": guard}, lambda count: bytes(range(count)))
        with StateFolder(tmp_path) as state:
            await relay.start(state)
            for _ in range(2 * STREAMS_OF_ONE):
                stream = Stream()
                relay(stream)
                stream.cancelled = True
                stream.give_up()
            last = Stream()
            relay(last)
            assert last.refused is None
            await until(lambda: guard.asked)
            relay.end_streams()
            await relay.close()
            assert last.refused is Reason.SHUTDOWN

    run(main)
