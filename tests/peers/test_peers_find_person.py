"""A person's prekey bundle and mailbox, found by the one contact who has the secret."""

from __future__ import annotations

import asyncio
import random

import pytest
from find_live import NOON, TRIES, scene
from peers_live import run

from ptproxy.config.link import Link
from ptproxy.dht.record_secret import RecordSecret
from ptproxy.dht.signing import SigningKey
from ptproxy.e2e import OwnIdentity, Prekeys, Suite, verify
from ptproxy.errors import LocalProtocolError, StateError
from ptproxy.peers.find_person import PersonRecords, find_bundle, find_mailbox, publish_person

RNG = random.Random(7).randbytes
SECRET = RecordSecret(RNG(32))
SIGNER = SigningKey(RNG(32))


def link(number):
    rng = random.Random(number)
    return Link(
        rng.randbytes(32), f"box{number}.example.org", 443, "/", f"box{number}.example.org", ("http",)
    )


@pytest.mark.parametrize("suite", [Suite.PQXDH_768, Suite.PQXDH_1024])
def test_a_contact_finds_bundle_and_mailbox(tmp_path, suite):
    async def main():
        bob = OwnIdentity.generate(RNG)
        prekeys = Prekeys.create(bob, suite, NOON, RNG)
        mine = PersonRecords(SECRET)
        mine.bundle(prekeys.bundle(bob))
        mine.mailbox(link(1), b"passes")
        saved = []
        async with scene(tmp_path, 16) as cast:
            relay = await cast.bridge("bridge", await cast.guard("guard"))
            directory, other = cast.client(relay), cast.client(relay, name="other")
            clock = cast.directory.clock

            def remember():
                saved.append(mine.progress())

            async def publish():
                for _ in range(TRIES):
                    keep = remember
                    if not await publish_person(directory, mine, SIGNER, RNG, clock(), keep):
                        return
                raise AssertionError("some records do not get out")

            assert mine.deadline(clock()) <= clock()
            await publish()
            assert saved[0]
            assert mine.deadline(clock()) > clock()
            data = await find_bundle(other, SECRET, SIGNER.public)
            verified = verify(data, None, bob.public.fingerprint, clock(), (suite,))
            assert verified.one_time is None
            assert (await find_mailbox(other, SECRET, SIGNER.public)).mailbox == link(1)

            again = PersonRecords(SECRET)  # after a restart
            again.bundle(prekeys.bundle(bob))
            again.mailbox(link(1), b"passes")
            again.resume(saved[-1])
            assert again.due(clock()) == []

            mine.mailbox(link(2))  # it has moved: at once
            await publish()
            assert (await find_mailbox(other, SECRET, SIGNER.public)).mailbox == link(2)

            stranger = RecordSecret(bytes(32))
            assert await find_bundle(other, stranger, SIGNER.public) is None
            assert await find_bundle(other, SECRET, SigningKey(bytes(32)).public) is None
            await asyncio.gather(directory.close(), other.close())

    run(main)


def test_progress_that_was_never_given():
    mine = PersonRecords(SECRET)
    mine.bundle(b"bundle")
    for damaged in ({"2": 5}, {"2": {"x": [0, 0]}}, {"2": {"1": [0]}}):
        with pytest.raises(StateError):
            mine.resume(damaged)
    with pytest.raises(LocalProtocolError):
        mine.bundle(b"")
