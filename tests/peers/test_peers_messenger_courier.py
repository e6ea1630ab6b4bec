"""Couriers: when they go, and that nobody who calls one is not heard."""

from __future__ import annotations

import asyncio

from messenger_live import world
from peers_live import run

from ptproxy.peers import messenger_courier


class WokenLate(asyncio.Event):
    """Somebody calls in the very moment in which the waiting was over for want of time."""

    async def wait(self):
        try:
            return await super().wait()
        except asyncio.CancelledError:
            self.set()
            raise


def test_who_calls_a_courier_as_its_time_ends_is_heard(tmp_path, monkeypatch):
    steps = []
    monkeypatch.setattr(messenger_courier, "LINGER", 1.0)

    class Courier(messenger_courier._Courier):
        def __init__(self, *args) -> None:
            super().__init__(*args)
            self.woken = WokenLate()

        async def _step(self):
            steps.append(self)
            if len(steps) == 2:
                self.woken = asyncio.Event()  # nobody calls any more: it may go

    async def main():
        async with world(tmp_path) as here:
            alice, bob = await here.met()
            contact = bob.peer(alice).id
            couriers = messenger_courier.Couriers(bob.messenger.ledger, bob.wires, pace=0.001)
            await Courier(couriers, contact).run()
            assert steps == [steps[0], steps[0]]

    run(main)
