"""A bridge moves, and a client finds it: real bridges, guards, tunnels and client, a directory on loopback.

The nodes are this process's, on addresses of many networks; everything else is a process as a person
starts it: two guards, the bridges of a bucket, the operator's commands, the client.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from live import Bridge, Client, Echo, made, ptproxy, read_exactly, serving, through, until

sys.path.insert(0, str(Path(__file__).parent.parent / "peers"))
from directory_live import LAB, LOCAL, Lab
from find_live import SIGNER, Clock, directory_of, encoded

from ptproxy.config.link import Link
from ptproxy.dht.beacon import BeaconSigners, BeaconStatement, sign_value, value_of
from ptproxy.dht.epoch import epoch_of
from ptproxy.dht.first_nodes import FirstNodes
from ptproxy.dht.invite import Invite
from ptproxy.dht.record_secret import RecordSecret
from ptproxy.dht.signing import SigningKey
from ptproxy.e2e import OwnIdentity, Prekeys, Suite, verify
from ptproxy.peers.directory_network import write_first_nodes
from ptproxy.peers.find_network import KnownNetwork
from ptproxy.peers.find_person import PersonRecords, find_bundle, publish_person
from ptproxy.peers.find_tunnels import directory_through

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs the addresses of all of 127.0.0.0/8")


class Nodes:
    """A directory in a thread of its own."""

    def __init__(self, count=24) -> None:
        self._count = count
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))
        self._ready = threading.Event()

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with directory_of(self._count, Clock(time.time()), "127.{}.0.1") as self.directory:
            self.signed = self.directory.signed_list()
            self._ready.set()
            await self._stop.wait()

    def __enter__(self):
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def received(self):
        return b"".join(message for node in self.directory.nodes for message in node.received)


class BeaconNodes(Nodes):
    """Nodes whose places move each day, as a signer says."""

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        signer = SigningKey.generate(os.urandom)
        network = replace(LAB, signers=BeaconSigners((signer.public,), 1))
        async with Lab(network) as lab:
            for number in range(self._count):
                await lab.add(settings=replace(LOCAL, listen=((f"127.{number + 1}.0.1", 0),)))
            today = epoch_of(time.time())
            for epoch in (today, today + 1):  # the second, for an hour in which that day is open already
                value = value_of(epoch, os.urandom(32))
                said = BeaconStatement(epoch, value, {0: sign_value(signer, epoch, value)}).serialize()
                for node in lab.nodes:
                    node.beacons.learn(said, time.time())
            now, contacts = int(time.time()), tuple(node.contact for node in lab.nodes[:3])
            work, signers = network.record_work, network.signers
            listed = FirstNodes(1, now, now + 86_400, now, network.id_work, work, signers, contacts)
            self.signed = write_first_nodes(listed.sign(SIGNER))
            self._ready.set()
            await self._stop.wait()


class Town:
    """Guards, and bridges that use them."""

    def __init__(self, folder, nodes) -> None:
        self.folder = folder
        self.running = []
        listed = folder / "nodes.list"
        listed.write_text(nodes.signed + "\n")
        self.guards = [
            self.run(
                Bridge(
                    folder / f"guard{number}",
                    guard={
                        "offer": True, "network": str(listed),
                        "network_key": encoded(SIGNER.public), "allow": ["127.0.0.0/8"],
                    },
                )
            )
            for number in range(2)
        ]  # fmt: skip

    def bridge(self, name):
        lookups = {
            "offer": True,
            "guards": [guard.link for guard in self.guards],
            "fingerprint": "python",
        }
        return self.run(Bridge(self.folder / name, lookups=lookups))

    def run(self, role):
        self.running.append(role.start())
        return role

    def kill(self, role):
        self.running.remove(role)
        role.program.stop(signal.SIGKILL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for role in reversed(self.running):
            role.stop()


def echoes(client, port):
    """Whether a stream through the client brings back what it is given."""
    try:
        with through(client.port, port) as sock:
            sock.sendall(b"are you there?")
            return read_exactly(sock, 14) == b"are you there?"
    except OSError:
        return False


def publish(operator):
    """Publish what is due; on a busy machine nodes may be too late for the first time."""
    done = ["dht", "publish", operator, "--once", "--fingerprint", "python"]
    until(lambda: ptproxy(*done).returncode == 0, "everything is published")


async def bundle_is_found(bridge):
    """Bob publishes his prekey bundle through a bridge; Alice, who has the secret, finds it through it."""
    bob = OwnIdentity.generate(os.urandom)
    prekeys = Prekeys.create(bob, Suite.PQXDH_768, time.time(), os.urandom)
    mine, signer = PersonRecords(RecordSecret.generate(os.urandom)), SigningKey.generate(os.urandom)
    mine.bundle(prekeys.bundle(bob))
    via = ([Link.parse(bridge.link)], os.urandom(32), KnownNetwork(), "python")
    async with directory_through(*via) as directory:
        for _ in range(8):
            if not await publish_person(directory, mine, signer, os.urandom, time.time(), lambda: None):
                break
    async with directory_through(*via) as directory:
        found = await find_bundle(directory, mine.secret, signer.public)
    assert verify(found, None, bob.public.fingerprint, time.time(), (Suite.PQXDH_768,)).one_time is None


def invite_of(said):
    return re.search(r"ptproxy-invite:\S+", said)[0]


def test_a_bridge_that_moved_is_found_behind_another_one(tmp_path):
    with Nodes() as nodes, Town(tmp_path, nodes) as town, serving(Echo) as port:
        first, second = town.bridge("first"), town.bridge("second")
        operator = tmp_path / "operator"
        made("invite", "init", operator, "-", stdin=second.link)
        made("invite", "bucket", operator, "friends", first.link, second.link)
        text = invite_of(made("invite", "new", operator, "--name", "anna", "--expires", "90d", "--no-qr"))
        publish(operator)
        found = made("dht", "find", "-", "--fingerprint", "python", stdin=text)
        assert found.split() == [first.link, second.link]

        asyncio.run(bundle_is_found(second))

        client = Client(tmp_path / "client", text, "websocket", tls__fingerprint="python")
        with client:
            assert echoes(client, port)
            moved = town.bridge("moved")
            made("invite", "bucket", operator, "friends", moved.link, second.link, "--now")
            publish(operator)  # before the loss, at which the client asks: its next question is hours away
            town.kill(first)
            until(lambda: echoes(client, port), "the second bridge is used")
            until(
                lambda: "the invite's bridges have changed" in client.program.logged(), client.program.logged
            )
            town.kill(second)
            until(lambda: echoes(client, port), client.program.logged)
            log = client.program.logged()
            assert "the bridge is lost" in log
            before, _, _ = log.partition("the invite's bridges have changed")
            told = ["getting to know the directory", "looking for a record", "lookup ended", "record found"]
            places = [before.rindex(event) for event in told]
            assert places == sorted(places), log
            shown = made("dht", "show", tmp_path / "client")
            assert moved.address in shown
            assert first.address not in shown
            assert f"invite {Invite.parse(text).id.hex()[:10]}" in shown
        with client:  # what it has learned is still there
            assert echoes(client, port)

        for bridge in (first, second, moved):
            assert bridge.link.encode() not in nodes.received()
            assert bridge.address.encode() not in nodes.received()


def test_a_network_with_a_beacon_is_followed_by_commands_and_clients(tmp_path):
    """Guards ask for the day's value; an operator publishes, a stranger to all of it finds by the invite."""
    with BeaconNodes(8) as nodes, Town(tmp_path, nodes) as town:
        bridge = town.bridge("bridge")
        for guard in town.guards:
            until(lambda guard=guard: "the beacon is known" in guard.program.logged(), guard.program.logged)
        operator = tmp_path / "operator"
        made("invite", "init", operator, "-", stdin=bridge.link)
        made("invite", "bucket", operator, "friends", "-", stdin=bridge.link)
        text = invite_of(made("invite", "new", operator, "--no-qr"))
        publish(operator)
        assert made("dht", "find", "-", "--fingerprint", "python", stdin=text).split() == [bridge.link]
        kept = json.loads((operator / "publisher" / "directory.json").read_text())["data"]
        assert KnownNetwork.from_dict(kept).statements
