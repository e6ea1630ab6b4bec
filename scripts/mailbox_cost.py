"""What a mailbox costs, and what attacks on it cost whom: figures for THREATS and for comparing changes.

scripts/mailbox_cost                 all figures, in a temporary folder
scripts/mailbox_cost --folder /data  on the disk of that folder (a sync is what most of it costs)
scripts/mailbox_cost --deposits 500  a quick look
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "peers")]

from peers_live import DAY, MAILBOX, START, Mailbox, PipeDialer, key_of, rng_of  # noqa: E402

from ptproxy.peers import mailbox_service  # noqa: E402
from ptproxy.peers.mailbox_answers import RequestRefused  # noqa: E402
from ptproxy.peers.mailbox_client import MailboxOwner, MailboxSender  # noqa: E402
from ptproxy.peers.mailbox_conversation import prove, verify  # noqa: E402
from ptproxy.peers.mailbox_delivery import DeliveryPass, DeliveryToken  # noqa: E402
from ptproxy.peers.mailbox_requests import Right, TokenGrant  # noqa: E402

SENDERS = 64
"""Accounts that deposit at the same time."""
BOX = 900
"""Messages that fit one box, of 1,000."""


def told(what: str, count: int, seconds: float) -> None:
    print(
        f"{what:58} {count / seconds:10,.0f} /s {1e6 * seconds / count:10,.1f} µs   n = {count:,}", flush=True
    )


async def deposits(folder: Path, senders: int, count: int) -> None:
    """``count`` deposits of the smallest envelope by ``senders`` at once, then collected by their owners."""
    mailbox = Mailbox(folder, size=1 << 40, box_size=1 << 30)
    mailbox_service.REQUEST_BURST = 1e9
    service = await mailbox.start()
    boxes = -(-count // BOX)
    owners, passes = [], []
    for number in range(boxes):
        owner = await MailboxOwner.connect(PipeDialer(f"o{number}", service), MAILBOX, key_of(f"o{number}"))
        passes.append(DeliveryPass.make(rng_of(number), START, seconds=30 * DAY, count=BOX))
        await owner.grant(passes[-1].grants())
        owners.append(owner)
    tokens = [token for given in passes for token in given.tokens()][:count]
    envelopes = [token.seal(b"hello", os.urandom) for token in tokens]
    jobs = list(zip(tokens, envelopes, strict=True))

    async def send(number: int) -> None:
        async with await MailboxSender.connect(PipeDialer(f"s{number}", service)) as sender:
            while jobs:
                await sender.deposit(*jobs.pop())

    began = time.perf_counter()
    await asyncio.gather(*map(send, range(senders)))
    told(f"deposits of 2 KiB, each synced, {senders} at once", count, time.perf_counter() - began)

    async def take(owner: MailboxOwner) -> None:
        await owner.listen(32)
        for _ in range((await owner.status()).messages):
            await owner.taken([(await owner.next_mail()).id])

    began = time.perf_counter()
    await asyncio.gather(*map(take, owners))
    told(f"collected and taken, {boxes} owners at once", count, time.perf_counter() - began)
    await mailbox.stop()


async def attacks(folder: Path) -> None:
    """One account tries what it can; default limits."""
    mailbox = Mailbox(folder)
    mailbox_service.REQUEST_BURST = 2_000.0
    service = await mailbox.start()
    owner = await MailboxOwner.connect(PipeDialer("mallory", service), MAILBOX, key_of("mallory"))
    granted, began = 0, time.perf_counter()
    try:
        while granted < 1_000_000:
            ids = [os.urandom(32) for _ in range(1024)]
            await owner.grant([TokenGrant(token_id, Right.DEPOSIT, 1, 30_000) for token_id in ids])
            granted += 1024
    except RequestRefused as refused:
        print(f"a million tokens: stopped at {granted:,} of one box: {refused}")
    boxes = 1
    try:
        while boxes < 1000:
            await MailboxOwner.connect(PipeDialer("mallory", service), MAILBOX, key_of(f"mallory {boxes}"))
            boxes += 1
    except RequestRefused as refused:
        print(f"a thousand boxes: stopped at {boxes} of one account: {refused} ({refused.seconds} s)")
    told("tokens granted", granted, time.perf_counter() - began)

    guesser = await MailboxSender.connect(PipeDialer("guesser", service))
    looked = 0
    began = time.perf_counter()
    for _ in range(2000):
        wrong = DeliveryToken(os.urandom(32), b"", bytes(32))
        try:
            await guesser.deposit(wrong, bytes(2048))
        except RequestRefused as refused:
            looked += not refused.seconds
    told(f"wrong tokens, of which {looked} were looked up", 2000, time.perf_counter() - began)
    await mailbox.stop()

    proof = prove(key_of("a"), MAILBOX, bytes(32))
    began = time.perf_counter()
    for _ in range(2000):
        verify(proof, MAILBOX, bytes(32))
    told("owners' proofs verified", 2000, time.perf_counter() - began)
    token = DeliveryPass.make(os.urandom, START, seconds=DAY).token(0)
    began = time.perf_counter()
    for _ in range(5000):
        token.open(token.seal(b"hello", os.urandom))
    told("envelopes of 2 KiB sealed and opened", 5000, time.perf_counter() - began)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--deposits", type=int, default=5_000, help="how many")
    parser.add_argument("--folder", type=Path, help="where the databases are made")
    options = parser.parse_args()
    for senders in (1, SENDERS):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            asyncio.run(deposits(Path(folder), senders, options.deposits))
            size = sum(path.stat().st_size for path in Path(folder).rglob("mailbox*"))
            print(f"{'files afterwards':58} {size / 2**20:10.1f} MiB", flush=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        asyncio.run(attacks(Path(folder)))


if __name__ == "__main__":
    main()
