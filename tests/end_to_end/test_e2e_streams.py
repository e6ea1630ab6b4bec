"""A file of 8 MiB between two peers over a real bridge that is killed in the middle, twice."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time

from live import HOST, PATIENCE, Bridge, made

from ptproxy.codec.page.cache import SiteMemory
from ptproxy.config.load import load
from ptproxy.config.model import ClientConfig
from ptproxy.e2e import Correspondence, OwnIdentity, Suite, verify
from ptproxy.peers.file_transfer import FileTransfers
from ptproxy.peers.peer_streams import PeerStreams
from ptproxy.proxy.client import make_dialer

SIZE = 8 << 20
CONTACT = b"the other one..."


class Party:
    """One person at a client of the bridge; signals go straight to the other one, sealed by the ratchet."""

    def __init__(self, dialer):
        self.mine = Correspondence.create(
            OwnIdentity.generate(os.urandom), Suite.PQXDH_768, time.time(), os.urandom
        )
        self.other = None
        self.streams = PeerStreams(
            lambda contact, home: dialer, self.signal, lambda contact: self.conversation.session
        )

    @property
    def conversation(self):
        return self.mine.add(self.other.mine.owner.public.fingerprint, os.urandom)

    async def signal(self, contact, body):
        message = self.conversation.send(body, time.time(), os.urandom)
        received = self.other.mine.receive(message, time.time(), os.urandom)
        self.other.streams.signal_received(CONTACT, received.body)


def config_of(folder, link, codec):
    """The configuration of a client with a key of its own."""
    made("init", "client", folder, "-", "--listen", f"{HOST}:0", "--codec", codec, stdin=link)
    config = load(folder / "client.yaml")
    assert isinstance(config, ClientConfig)
    return config


@contextlib.asynccontextmanager
async def dialling(config):
    dialer = make_dialer(config, asyncio.get_running_loop(), SiteMemory())
    await dialer.start()
    try:
        yield dialer
    finally:
        await dialer.stop()


def introduced(one, other):
    """Two at these dialers; the first has the other's bundle."""
    alice, bob = Party(one), Party(other)
    alice.other, bob.other = bob, alice
    bundle = verify(bob.mine.bundle(), None, bob.mine.owner.public.fingerprint, time.time())
    alice.conversation.begin(bundle, time.time(), os.urandom)
    return alice, bob


def test_a_file_outlives_a_bridge_that_is_killed(tmp_path):
    bridge = Bridge(tmp_path / "bridge", rendezvous__offer=True).start()
    configs = [
        config_of(tmp_path / name, bridge.link, codec) for name, codec in (("a", "websocket"), ("b", "http"))
    ]
    path = tmp_path / "film.bin"
    path.write_bytes(random.Random(4).randbytes(SIZE))

    def start_again():
        bridge.program.stop()
        bridge.start()

    async def main():
        async with dialling(configs[0]) as one, dialling(configs[1]) as other:
            alice, bob = introduced(one, other)
            offers, progress = asyncio.Queue(), []
            reached = [asyncio.Event(), asyncio.Event()]

            def progressed(event):
                progress.append(event.done)
                for number, third in enumerate(reached):
                    if event.done > SIZE * (number + 1) // 3 and not third.is_set():
                        bridge.program.process.send_signal(signal.SIGKILL)  # at once: most is still to come
                        third.set()

            sends = FileTransfers(
                alice.streams,
                tmp_path / "a" / "files",
                on_offer=offers.put_nowait,
                on_progress=lambda _: None,
            )
            FileTransfers(
                bob.streams, tmp_path / "b" / "files", on_offer=offers.put_nowait, on_progress=progressed
            )
            sending = asyncio.ensure_future(sends.send(CONTACT, path))
            accepting = asyncio.ensure_future((await offers.get()).accept())
            streams = []
            for event in reached:
                await event.wait()
                streams = streams or bob.streams.streams(CONTACT)
                await asyncio.to_thread(start_again)
            saved = await accepting
            await sending
            assert saved.read_bytes() == path.read_bytes()
            assert progress == sorted(progress)
            assert streams[0].meetings >= 2
            await alice.streams.close()
            await bob.streams.close()

    async def watched():
        async with asyncio.timeout(PATIENCE):
            await main()

    try:
        asyncio.run(watched())
    finally:
        bridge.stop()
