"""Two people's messengers over two real bridges in different codecs, one killed in the middle."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from dataclasses import replace

from live import PATIENCE, Bridge

from ptproxy.config.link import Link
from ptproxy.peers.dialers import TunnelDialers
from ptproxy.peers.messenger import Messenger
from ptproxy.peers.messenger_events import InviteReady, LineReceived, LineState
from ptproxy.peers.store import PeerStore
from ptproxy.peers.store_key import StoreKey
from ptproxy.state import StateFolder


def offering(folder):
    return Bridge(folder, mailbox__offer=True, limits__drain="1s")


def killed(bridge):
    bridge.program.process.send_signal(signal.SIGKILL)
    bridge.program.stop()


class Person:
    """A messenger with its store on disk; started and stopped as a program is."""

    def __init__(self, folder, name, link, codec):
        self.folder, self.name = folder / name, name
        self.link = replace(Link.parse(link), codecs=(codec,))
        self.key = StoreKey.make_file(folder / f"{name}.key")
        self.lines = []
        self.events = []

    def told(self, event):
        self.events.append(event)
        if isinstance(event, LineReceived):
            self.lines.append(event.line.text)

    @contextlib.asynccontextmanager
    async def there(self):
        """At work, until the end of the block."""
        dialers = TunnelDialers()
        with StateFolder(self.folder) as folder:
            if (self.folder / "peer.sqlite3").exists():
                store = PeerStore.open(folder, self.key)
                self.messenger = await Messenger.open(store, dialers, pace=0.1)
            else:
                store = PeerStore.create(folder, self.key)
                self.messenger = await Messenger.create(store, dialers, self.name, self.link, pace=0.1)
            self.messenger.on_event = self.told
            running = asyncio.ensure_future(self.messenger.run())
            try:
                yield self.messenger
            finally:
                running.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await running
                await dialers.close()
                store.close()

    @property
    def friend(self):
        (peer,) = self.messenger.contacts()
        return peer


async def until(condition):
    while not condition():
        await asyncio.sleep(0.02)


def test_lines_come_once_and_in_order_with_one_away_and_a_bridge_killed(tmp_path):
    first, second = offering(tmp_path / "first").start(), offering(tmp_path / "second").start()
    alice = Person(tmp_path, "alice", first.link, "websocket")
    bob = Person(tmp_path, "bob", second.link, "http")

    async def main():
        async with alice.there() as hers:
            async with bob.there() as his:
                open_invite = await hers.invite()
                await until(lambda: InviteReady(open_invite.id) in alice.events)
                await his.add(open_invite.invite)
                await bob.friend.send("bob 0")
                await until(lambda: alice.lines == ["bob 0"] and bob.friend.name == "alice")
                await asyncio.gather(hers.settled(), his.settled())
            # Bob is away; his mailbox's bridge dies and comes back while Alice writes.
            for number in range(5):
                await alice.friend.send(f"alice {number}")
            await asyncio.to_thread(killed, second)
            for number in range(5, 10):
                await alice.friend.send(f"alice {number}")
            await asyncio.to_thread(second.start)
            await hers.settled()
        # Alice is away, and Bob comes back.
        async with bob.there() as his:
            await until(lambda: len(bob.lines) == 10)
            for number in range(1, 6):
                await bob.friend.send(f"bob {number}")
            await his.settled()
            async with alice.there():
                await until(lambda: len(alice.lines) == 6)
                history = await bob.friend.history()
                while any(line.state is LineState.DEPOSITED for line in history):
                    await asyncio.sleep(0.05)
                    history = await bob.friend.history()
        assert alice.lines == [f"bob {number}" for number in range(6)]
        assert bob.lines == [f"alice {number}" for number in range(10)]

    async def watched():
        async with asyncio.timeout(PATIENCE):
            await main()

    try:
        asyncio.run(watched())
    finally:
        first.stop()
        second.stop()
