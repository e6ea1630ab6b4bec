"""Two peers, one of them away, a real bridge that is killed in the middle: all comes, once, in order.

The peers use the API over a dialer of their own; a third one reaches the
services by their reserved names through a client's SOCKS port.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import signal
import socket
import time

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from live import HOST, PATIENCE, Bridge, Client, SocksRefused, made, read_exactly, socks5

from ptproxy.codec.page.cache import SiteMemory
from ptproxy.config.load import load
from ptproxy.config.model import ClientConfig
from ptproxy.errors import DialError
from ptproxy.peers.mailbox_answers import RequestRefused
from ptproxy.peers.mailbox_client import MailboxOwner, MailboxSender, collect
from ptproxy.peers.mailbox_delivery import DeliveryPass
from ptproxy.peers.mailbox_requests import Right
from ptproxy.peers.rendezvous import Side, meet, opening
from ptproxy.proxy.client import make_dialer

DAY = 86_400
KEY = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"alice's box").digest())


def offering(folder, **changes):
    """A bridge with both services."""
    return Bridge(folder, mailbox__offer=True, rendezvous__offer=True, **changes)


def config_of(folder, link, codec):
    """The configuration of a client with a key of its own."""
    made("init", "client", folder, "-", "--listen", f"{HOST}:0", "--codec", codec, stdin=link)
    config = load(folder / "client.yaml")
    assert isinstance(config, ClientConfig)
    return config


@contextlib.asynccontextmanager
async def dialling(config):
    """A dialer that has its first carrier."""
    dialer = make_dialer(config, asyncio.get_running_loop(), SiteMemory())
    await dialer.start()
    try:
        yield dialer
    finally:
        await dialer.stop()


async def deposit(dialer, token, envelope):
    """Deposit until it is confirmed: what got lost on the way is repeated, and kept once."""
    while True:
        try:
            async with await MailboxSender.connect(dialer) as sender:
                return await sender.deposit(token, envelope)
        except DialError:
            await asyncio.sleep(0.05)


def run(main):
    async def watched():
        async with asyncio.timeout(PATIENCE):
            await main()

    asyncio.run(watched())


def test_messages_for_who_is_away_and_a_bridge_that_is_killed(tmp_path):
    rng = random.Random(1)
    given = DeliveryPass.make(os.urandom, time.time(), seconds=30 * DAY, count=40)
    tokens = list(given.tokens())
    by_id = {token.id: token for token in tokens}
    bridge = offering(tmp_path / "bridge").start()
    alices = config_of(tmp_path / "alice", bridge.link, "websocket")
    bobs = config_of(tmp_path / "bob", bridge.link, "http")

    def envelope(number):
        return tokens[number].seal(b"line %d" % number, rng.randbytes)

    def kill_and_start():
        bridge.program.process.send_signal(signal.SIGKILL)
        bridge.program.stop()
        bridge.start()

    async def main():
        async with (
            dialling(alices) as alice,
            await MailboxOwner.connect(alice, alices.bridge.key, KEY) as owner,
        ):
            await owner.grant(given.grants())
            assert owner.state.messages == 0
        # Alice is away. Bob writes; the bridge is killed among it.
        async with dialling(bobs) as bob:
            for number in range(20):
                if number == 10:
                    await asyncio.to_thread(kill_and_start)
                await deposit(bob, tokens[number], envelope(number))
            await asyncio.to_thread(kill_and_start)

            # She comes back. Bob goes on writing, and the bridge is killed once more.
            lines = []
            enough = asyncio.Event()

            async def deliver(mail):
                lines.append(by_id[mail.token_id].open(mail.envelope).decode())
                if len(lines) == 40:
                    enough.set()

            async with dialling(alices) as alice:
                collecting = asyncio.ensure_future(
                    collect(
                        lambda: MailboxOwner.connect(alice, alices.bridge.key, KEY),
                        deliver,
                        window=4,
                        again=(0.05, 0.1),
                    )
                )
                for number in range(20, 40):
                    if number == 30:
                        await asyncio.to_thread(kill_and_start)
                    await deposit(bob, tokens[number], envelope(number))
                await enough.wait()
                collecting.cancel()
                await asyncio.gather(collecting, return_exceptions=True)
        assert lines == [f"line {number}" for number in range(40)]

    try:
        run(main)
    finally:
        bridge.stop()
    on_disk = b"".join(path.read_bytes() for path in (tmp_path / "bridge" / "state").glob("mailbox*"))
    assert not any(token.token in on_disk for token in tokens)


def test_prekeys_and_a_live_stream_between_two(tmp_path):
    with offering(tmp_path / "bridge") as bridge:
        alices = config_of(tmp_path / "alice", bridge.link, "websocket")
        bobs = config_of(tmp_path / "bob", bridge.link, "http")
        fetching = DeliveryPass.make(os.urandom, time.time(), seconds=DAY, uses=3, right=Right.FETCH)
        cookie = os.urandom(32)

        class Peer(asyncio.Protocol):
            def __init__(self):
                self.received = bytearray()
                self.over = asyncio.get_running_loop().create_future()

            def connection_made(self, transport):
                self.transport = transport

            def data_received(self, data):
                self.received += data

            def eof_received(self):
                self.transport.write_eof()
                return True

            def connection_lost(self, exc):
                self.over.set_result(exc)

        async def main():
            async with dialling(alices) as alice, dialling(bobs) as bob:
                async with await MailboxOwner.connect(alice, alices.bridge.key, KEY) as owner:
                    await owner.grant(fetching.grants())
                    await owner.publish(b"bundle", [b"one", b"two"])
                async with await MailboxSender.connect(bob) as sender:
                    found = [await sender.fetch(fetching.token(0)) for _ in range(3)]
                    assert [(each.bundle, each.one_time) for each in found] == [
                        (b"bundle", b"one"), (b"bundle", b"two"), (b"bundle", b""),
                    ]  # fmt: skip
                    with pytest.raises(RequestRefused):
                        await sender.fetch(fetching.token(0))
                one, other = Peer(), Peer()
                await asyncio.gather(
                    meet(alice, cookie, Side.FIRST, one), meet(bob, cookie, Side.SECOND, other)
                )
                data = random.Random(1).randbytes(3_000_000)
                one.transport.write(data)
                other.transport.write(b"hello")
                one.transport.write_eof()
                assert await other.over is None
                assert await one.over is None
                assert (hashlib.sha256(other.received).digest(), bytes(one.received)) == (
                    hashlib.sha256(data).digest(), b"hello",
                )  # fmt: skip

        run(main)


def test_services_by_name_through_the_local_port(tmp_path):
    """A program that has only the SOCKS port; what is not offered, or not known, is refused."""
    with (
        offering(tmp_path / "bridge") as bridge,
        Client(tmp_path / "client", bridge.link, "websocket") as client,
    ):
        cookie = os.urandom(32)
        first, _ = socks5(client.port, 80, "rendezvous.ptproxy.internal")
        second, _ = socks5(client.port, 1, "rendezvous.ptproxy.internal")
        with first, second:
            first.sendall(opening(cookie, Side.FIRST) + b"hello")
            second.sendall(opening(cookie, Side.SECOND))
            assert read_exactly(second, 6) == b"\x01hello"
        mailbox, _ = socks5(client.port, 80, "mailbox.ptproxy.internal")
        with mailbox:
            assert read_exactly(mailbox, 4) == b"\x81\0\0\x20"
            mailbox.sendall(b"GET / HTTP/1.1\r\nHost: mailbox.ptproxy.internal\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                assert len(read_exactly(mailbox, 32)) == 32  # the challenge, in however many pieces
                assert mailbox.recv(100) == b""
        with pytest.raises(SocksRefused):
            socks5(client.port, 80, "other.ptproxy.internal")


def test_a_bridge_offers_nothing_unless_told(bridge, clients):
    for name in ("mailbox", "rendezvous"):
        with pytest.raises(SocksRefused):
            socks5(clients["websocket"].port, 80, f"{name}.ptproxy.internal")


def test_stopping_does_not_wait_for_who_listens(tmp_path):
    bridge = offering(tmp_path / "bridge", limits__drain="2m").start()
    alices = config_of(tmp_path / "alice", bridge.link, "websocket")

    async def main():
        async with (
            dialling(alices) as alice,
            await MailboxOwner.connect(alice, alices.bridge.key, KEY) as owner,
        ):
            await owner.listen()
            assert await asyncio.to_thread(bridge.stop) == 0
            with pytest.raises(DialError):
                await owner.next_mail()

    run(main)


def test_a_mailbox_whose_file_is_broken_keeps_the_bridge_from_starting(tmp_path):
    bridge = offering(tmp_path / "bridge")
    (tmp_path / "bridge" / "state" / "mailbox.sqlite3").write_bytes(b"no database " * 500)
    with pytest.raises(AssertionError, match=r"mailbox\.sqlite3"):
        bridge.start()


def test_ports_are_of_no_concern(tmp_path):
    """Nothing listens on the machine for a service: it is there inside the tunnel only."""
    with offering(tmp_path / "bridge") as bridge:
        port = int(bridge.address.rpartition(":")[2])
        with socket.create_connection((HOST, port), timeout=PATIENCE) as sock:
            sock.sendall(b"\0ptproxy mailbox 1\n")
            sock.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionError):
                assert b"\x81\0\0\x20" not in sock.recv(100)
