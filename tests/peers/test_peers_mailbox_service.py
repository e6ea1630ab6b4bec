"""The mailbox end to end in one process: peers over streams in memory, one of them away; and attacks."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time

import pytest
from peers_live import DAY, MAILBOX, START, PipeDialer, key_of, mailbox, rng_of, run, until

from ptproxy.errors import DialError, Reason
from ptproxy.peers import mailbox_client, mailbox_service, mailbox_stream
from ptproxy.peers.mailbox_answers import Bundle, Refusal, RequestRefused
from ptproxy.peers.mailbox_client import BoxTakenOver, MailboxOwner, MailboxSender, collect
from ptproxy.peers.mailbox_conversation import prove
from ptproxy.peers.mailbox_delivery import DeliveryPass, DeliveryToken
from ptproxy.peers.mailbox_frames import PREFACE
from ptproxy.peers.mailbox_requests import Deposit, Fetch, Listen, Open, Right, Status, TokenGrant
from ptproxy.target import Target


def a_pass(seed=1, **settings):
    return DeliveryPass.make(rng_of(seed), START, seconds=60 * DAY, **settings)


def wrong_token(number):
    token = hashlib.sha256(b"wrong %d" % number).digest()
    return DeliveryToken(token, bytes(32), bytes(32))


async def refusal(awaitable):
    with pytest.raises(RequestRefused) as refused:
        await awaitable
    return refused.value


class Raw(asyncio.Protocol):
    """A client that says what it likes."""

    def __init__(self):
        self.received = bytearray()
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.received += data

    def eof_received(self):
        return False

    def connection_lost(self, exc):
        self.lost.set_result(exc)

    @classmethod
    async def dial(cls, service, account="m", say=PREFACE):
        raw = cls()
        await PipeDialer(account, service).dial(Target.service("mailbox"), raw, say)
        return raw


# ---- what it is for -----------------------------------------------------------------------------


def test_a_message_for_who_is_away(tmp_path):
    async def main():
        async with mailbox(tmp_path) as (box, service):
            given = a_pass(count=3)
            async with await box.owner(service) as alice:
                await alice.grant(given.grants())
            await until(lambda: not len(service._streams))
            async with await box.sender(service) as bob:
                for number in range(3):
                    token = given.token(number)
                    await bob.deposit(token, token.seal(b"message %d" % number, rng_of(number)))
            await box.stop()
            again = await box.start()
            async with await box.owner(again) as alice:
                assert alice.state.messages == 3
                await alice.listen()
                by_id = {token.id: token for token in given.tokens()}
                for number in range(3):
                    mail = await alice.next_mail()
                    assert by_id[mail.token_id].open(mail.envelope) == b"message %d" % number
                    await alice.taken([mail.id])
                assert (await alice.status()).messages == 0

    run(main)


def test_mail_is_pushed_as_it_comes(tmp_path):
    async def main():
        async with mailbox(tmp_path) as (box, service):
            given = a_pass(uses=100)
            token = given.token(0)
            alice, bob = await box.owner(service), await box.sender(service)
            await alice.grant(given.grants())
            await alice.listen(4)
            for number in range(30):
                await bob.deposit(token, token.seal(b"%d" % number, rng_of(number)))
                if number % 3 == 0:
                    mail = await alice.next_mail()
                    await alice.taken([mail.id])
                    if number == 0:
                        assert token.open(mail.envelope) == b"0"
            got = []
            while len(got) < 20:
                mail = await alice.next_mail()
                got.append(int(token.open(mail.envelope)))
                await alice.taken([mail.id])
            assert got == list(range(10, 30))

    run(main)


def test_never_more_than_the_window(tmp_path):
    async def main():
        async with mailbox(tmp_path) as (box, service):
            given = a_pass(uses=100)
            token = given.token(0)
            alice, bob = await box.owner(service), await box.sender(service)
            await alice.grant(given.grants())
            await alice.listen(3)
            for number in range(10):
                await bob.deposit(token, token.seal(b"%d" % number, rng_of(number)))
            await alice.status()
            assert len(alice._stream.mail) == 3
            mail = [await alice.next_mail() for _ in range(3)]
            await alice.taken([mail[1].id])
            await until(lambda: len(alice._stream.mail) == 1)
            await alice.status()
            assert len(alice._stream.mail) == 1

    run(main)


def test_what_was_not_taken_comes_again(tmp_path):
    async def main():
        async with mailbox(tmp_path) as (box, service):
            given = a_pass(uses=100)
            token = given.token(0)
            bob = await box.sender(service)
            ids = []
            for round_ in range(3):
                alice = await box.owner(service)
                if not round_:
                    await alice.grant(given.grants())
                    await bob.deposit(token, token.seal(b"hello", rng_of(1)))
                await alice.listen()
                ids.append((await alice.next_mail()).id)
                alice._stream.abort()
            assert len(set(ids)) == 1

    run(main)


def test_prekeys_are_handed_out_once(tmp_path):
    async def main():
        async with mailbox(tmp_path) as (box, service):
            fetching = a_pass(uses=9, right=Right.FETCH)
            alice = await box.owner(service)
            await alice.grant(fetching.grants())
            keys = [bytes((n,)) * 1500 for n in range(150)]  # more than one frame holds
            await alice.publish(b"bundle", keys)
            assert (await alice.status()).one_times == 150
            bobs = [await box.sender(service, f"account-{n}") for n in range(4)]
            found = await asyncio.gather(*(bob.fetch(fetching.token(0)) for bob in bobs))
            assert {bundle.bundle for bundle in found} == {b"bundle"}
            assert len({bundle.one_time for bundle in found} & set(keys)) == 4
            await alice.publish(b"newer", [])
            await alice.supply([b"x"])
            assert await bobs[0].fetch(fetching.token(0)) == Bundle(b"newer", b"x")
            assert await bobs[0].fetch(fetching.token(0)) == Bundle(b"newer")

    run(main)


def test_many_tokens_go_in_several_frames(tmp_path):
    async def main():
        async with mailbox(tmp_path) as (box, service):
            passes = [a_pass(seed, count=1000) for seed in range(3)]
            grants = [grant for given in passes for grant in given.grants()]
            alice = await box.owner(service)
            await alice.grant(grants)
            assert (await alice.status()).tokens == 3000
            await alice.revoke([grant.token_id for grant in grants[:2500]])
            assert (await alice.status()).tokens == 500
            more = [grant for seed in range(10, 14) for grant in a_pass(seed, count=1000).grants()]
            assert (await refusal(alice.grant(more))).refusal is Refusal.BOX_FULL

    run(main)


def test_a_closed_box_is_gone(tmp_path):
    async def main():
        async with mailbox(tmp_path) as (box, service):
            given = a_pass()
            alice, bob = await box.owner(service), await box.sender(service)
            await alice.grant(given.grants())
            await alice.close_box()
            token = given.token(0)
            assert (await refusal(bob.deposit(token, token.seal(b"", rng_of(1))))).refusal is Refusal.TOKEN
            assert (await box.owner(service)).state.tokens == 0

    run(main)


# ---- streams that break ---------------------------------------------------------------------------


def test_a_deposit_whose_answer_got_lost_is_repeated_and_kept_once(tmp_path):
    async def main():
        async with mailbox(tmp_path) as (box, service):
            given = a_pass()
            alice = await box.owner(service)
            await alice.grant(given.grants())
            token = given.token(0)
            envelope = token.seal(b"hello", rng_of(1))
            for _ in range(3):
                bob = await box.sender(service)
                deposit = asyncio.ensure_future(bob.deposit(token, envelope))
                await asyncio.sleep(0)
                await until(lambda: service.thread._running is None and not service.thread._waiting)
                bob._stream.abort()
                await asyncio.gather(deposit, return_exceptions=True)
            bob = await box.sender(service)
            await bob.deposit(token, envelope)
            assert (await alice.status()).messages == 1

    run(main)


def test_collect_goes_on_over_lost_streams_and_delivers_once(tmp_path):
    """Streams break at random, and the mailbox restarts; everything comes once and in order."""

    async def main():
        rng = random.Random(11)
        async with mailbox(tmp_path) as (box, service):
            given = a_pass(uses=200)
            token = given.token(0)
            running = [service]
            dialers = []

            def dialer(account):
                dialers.append(PipeDialer(account, running[0], seed=rng.randrange(1000)))
                return dialers[-1]

            async def connect():
                return await MailboxOwner.connect(dialer("alice"), MAILBOX, key_of("alice"))

            got = []

            async def deliver(mail):
                if rng.random() < 0.3:
                    await asyncio.sleep(0.002)
                got.append(int(token.open(mail.envelope)))

            async def send(number):
                envelope = token.seal(b"%d" % number, rng_of(number))
                while True:
                    try:
                        async with await MailboxSender.connect(dialer("bob")) as bob:
                            return await bob.deposit(token, envelope)
                    except DialError:
                        await asyncio.sleep(0.001)

            async with await connect() as owner:
                await owner.grant(given.grants())
            collecting = asyncio.ensure_future(
                collect(connect, deliver, window=3, rng=rng, again=(0.001, 0.002))
            )
            for number in range(60):
                await send(number)
                if rng.random() < 0.25:
                    for one in dialers:
                        one.sever()
                if number in (20, 40):
                    await box.stop()
                    running[0] = await box.start()
            await until(lambda: len(got) >= 60)
            collecting.cancel()
            await asyncio.gather(collecting, return_exceptions=True)
            assert got == list(range(60))

    run(main)


def test_what_is_delivered_and_comes_again_is_not_delivered_again(tmp_path):
    """The stream breaks between delivery and deletion."""

    async def main():
        async with mailbox(tmp_path) as (box, service):
            given = a_pass(uses=9)
            token = given.token(0)
            dialer = PipeDialer("alice", service)
            got = []

            async def connect():
                return await MailboxOwner.connect(dialer, MAILBOX, key_of("alice"))

            async def deliver(mail):
                got.append(token.open(mail.envelope))
                dialer.sever()

            async with await connect() as owner:
                await owner.grant(given.grants())
            async with await box.sender(service) as bob:
                for number in range(3):
                    await bob.deposit(token, token.seal(b"%d" % number, rng_of(number)))
            collecting = asyncio.ensure_future(collect(connect, deliver, again=(0.001, 0.002)))

            async def left():
                async with await box.owner(service, account="other") as owner:
                    return owner.state.messages

            await until(lambda: len(got) == 3)
            await asyncio.sleep(0.05)
            collecting.cancel()
            await asyncio.gather(collecting, return_exceptions=True)
            assert got == [b"0", b"1", b"2"]
            assert await left() == 0

    run(main)


def test_the_newest_stream_of_an_owner_takes_over(tmp_path):
    async def main():
        async with mailbox(tmp_path) as (box, service):
            first = await box.owner(service)
            await first.listen()
            second = await box.owner(service)
            with pytest.raises(BoxTakenOver):
                await first.next_mail()
            with pytest.raises(BoxTakenOver):
                await first.status()
            await second.status()
            assert list(service.owners.values()) != []

    run(main)


def test_collect_does_not_fight_with_another_program(tmp_path):
    async def main():
        async with mailbox(tmp_path) as (box, service):

            async def deliver(mail):
                raise AssertionError("there is none")

            collecting = asyncio.ensure_future(collect(lambda: box.owner(service), deliver))
            await until(lambda: service.owners)
            async with await box.owner(service):
                with pytest.raises(BoxTakenOver):
                    await collecting

    run(main)


def test_stopping_ends_who_listens_and_takes_no_more(tmp_path):
    async def main():
        async with mailbox(tmp_path) as (box, service):
            alice = await box.owner(service)
            await alice.listen()
            service.end_streams()
            with pytest.raises(DialError):
                await alice.next_mail()
            with pytest.raises(DialError) as refused:
                await box.sender(service)
            assert refused.value.reason is Reason.SHUTDOWN

    run(main)


# ---- attacks ------------------------------------------------------------------------------------


def test_who_guesses_tokens_is_soon_told_to_come_back_later(tmp_path):
    async def main():
        async with mailbox(tmp_path) as (box, service):
            given = a_pass(count=3)
            alice = await box.owner(service)
            await alice.grant(given.grants())
            mallory, bob = await box.sender(service, "mallory"), await box.sender(service, "bob")
            envelope = bytes(2048)
            said = [(await refusal(mallory.deposit(wrong_token(n), envelope))).refusal for n in range(20)] + [
                (await refusal(mallory.fetch(wrong_token(n)))).refusal for n in range(20)
            ]
            assert said == [Refusal.TOKEN] * 30 + [Refusal.LATER] * 10
            right = given.token(0)
            again = await refusal(mallory.deposit(right, right.seal(b"", rng_of(1))))
            assert (again.refusal, 0 < again.seconds <= 60) == (Refusal.LATER, True)
            await bob.deposit(right, right.seal(b"", rng_of(1)))  # others do not suffer

    run(main)


def test_an_account_has_so_much_kept_in_a_day(tmp_path):
    async def main():
        async with mailbox(tmp_path, daily=100_000) as (box, service):
            given = a_pass(uses=1000)
            alice = await box.owner(service, account="alice")
            await alice.grant(given.grants())
            token = given.token(0)
            bob, carol = await box.sender(service, "bob"), await box.sender(service, "carol")
            for number in range(11):  # of 8,192 + 256 bytes
                await bob.deposit(token, token.seal(b"x" * 5000, rng_of(number)))
            refused = await refusal(bob.deposit(token, token.seal(b"x" * 5000, rng_of(11))))
            assert refused.refusal is Refusal.LATER
            assert 0 < refused.seconds < DAY
            await carol.deposit(token, token.seal(b"", rng_of(99)))
            assert (await refusal(bob.deposit(token, bytes(131_072)))).refusal is Refusal.LATER

    run(main)


def test_what_is_refused_is_not_charged_to_the_account(tmp_path):
    async def main():
        async with mailbox(tmp_path, daily=100_000) as (box, service):
            bob = await box.sender(service)
            for number in range(20):
                assert (await refusal(bob.deposit(wrong_token(number), bytes(8192)))).refusal is Refusal.TOKEN

    run(main)


def test_quotas_hold_over_several_streams_and_sessions_of_an_account(tmp_path):
    async def main():
        async with mailbox(tmp_path, daily=50_000) as (box, service):
            given = a_pass(uses=1000)
            alice = await box.owner(service, account="alice")
            await alice.grant(given.grants())
            token = given.token(0)
            bobs = [await box.sender(service, "bob") for _ in range(10)]
            outcomes = await asyncio.gather(
                *(bob.deposit(token, token.seal(b"x" * 5000, rng_of(n))) for n, bob in enumerate(bobs)),
                return_exceptions=True,
            )
            assert outcomes.count(None) == 5
            assert (await alice.status()).messages == 5

    run(main)


def test_an_account_makes_so_many_boxes_a_day(tmp_path):
    async def main():
        async with mailbox(tmp_path) as (box, service):
            for number in range(4):
                await box.owner(service, f"box {number}", "mallory")
            assert (await refusal(box.owner(service, "box 4", "mallory"))).refusal is Refusal.LATER
            await box.owner(service, "box 0", "mallory")  # it has that one
            await box.owner(service, "another", "bob")

    run(main)


def test_an_account_has_so_many_streams(tmp_path):
    async def main():
        async with mailbox(tmp_path) as (box, service):
            bobs = [await box.sender(service, "bob") for _ in range(mailbox_service.STREAMS_OF_ONE)]
            with pytest.raises(DialError) as refused:
                await box.sender(service, "bob")
            assert refused.value.reason is Reason.LIMIT
            await box.sender(service, "carol")
            bobs[0].close()
            await until(lambda: service._streams.of("bob") < mailbox_service.STREAMS_OF_ONE)
            await box.sender(service, "bob")

    run(main)


def test_who_has_most_streams_makes_room_for_who_has_few(tmp_path):
    async def main():
        async with mailbox(tmp_path) as (box, _):
            await box.stop()
            small = await box.start(most_streams=5)
            mallory = [await box.sender(small, "mallory") for _ in range(5)]
            with pytest.raises(DialError):
                await box.sender(small, "mallory")
            bob, carol = await box.sender(small, "bob"), await box.sender(small, "carol")
            await until(lambda: mallory[1]._stream.error is not None)
            assert [one._stream.error is None for one in mallory] == [False, False, True, True, True]
            assert len(small._streams) == 5
            for one in (bob, carol, mallory[4]):
                assert (await refusal(one.fetch(wrong_token(1)))).refusal is Refusal.TOKEN

    run(main)


def test_streams_that_come_and_go_are_not_free(tmp_path):
    """Each may cost us a signature."""

    async def main():
        async with mailbox(tmp_path) as (box, service):
            opened = 0
            for _ in range(300):
                try:
                    mallory = await box.sender(service, "mallory")
                except DialError:
                    continue
                opened += 1
                mallory.close()
                await until(lambda: service._streams.of("mallory") < 30)
            assert 195 <= opened < 250

    run(main)


@pytest.mark.parametrize("seed", range(3))
def test_garbage_resets_the_stream_and_nothing_else(tmp_path, seed):
    async def main():
        rng = random.Random(seed)
        async with mailbox(tmp_path) as (box, service):
            alice = await box.owner(service)
            for number in range(60):
                raw = await Raw.dial(service, f"m{number}", b"")
                raw.transport.write(rng.choice([b"", PREFACE]) + rng.randbytes(rng.randrange(1, 60)))
                if not raw.lost.done():
                    await asyncio.sleep(0)
                raw.transport.close()
                await raw.lost
            await until(lambda: len(service._streams) == 1)
            await alice.status()

    run(main)


def test_a_replayed_proof_opens_nothing(tmp_path):
    async def main():
        async with mailbox(tmp_path) as (_, service):
            first = await Raw.dial(service)
            await until(lambda: len(first.received) == 36)
            proof = prove(key_of("alice"), MAILBOX, bytes(first.received[4:])).serialize()
            first.transport.write(proof)
            await until(lambda: len(first.received) > 36)
            assert len(service.owners) == 1
            second = await Raw.dial(service)
            second.transport.write(proof)
            await second.lost
            assert len(service.owners) == 1
            assert not first.lost.done()
            first.transport.write(proof)
            await first.lost

    run(main)


def test_too_many_requests_at_once_reset_the_stream(tmp_path):
    async def main():
        async with mailbox(tmp_path) as (_, service):
            raw = await Raw.dial(service)
            raw.transport.write(Fetch(bytes(32)).serialize() * 2000)
            assert (await raw.lost).reason is Reason.GENERAL

    run(main)


def test_a_flood_waits_and_others_do_not(tmp_path, monkeypatch):
    """Beyond its rate an account's requests are done at that rate; those of others at once."""
    monkeypatch.setattr(mailbox_service, "REQUEST_BURST", 60.0)

    async def main():
        async with mailbox(tmp_path) as (box, service):
            mallory = await box.owner(service, "mallory", "mallory")
            flood = [asyncio.ensure_future(mallory.status()) for _ in range(200)]
            await until(lambda: sum(map(asyncio.Future.done, flood)) >= 40)
            alice = await box.owner(service, "alice", "alice")
            for _ in range(10):
                await alice.status()
            assert not all(map(asyncio.Future.done, flood))
            for one in flood:
                one.cancel()
            await asyncio.gather(*flood, return_exceptions=True)

    run(main)


def test_a_request_counts_as_much_as_it_costs(tmp_path, monkeypatch):
    """A frame that revokes a thousand tokens is a thousand deletions."""
    monkeypatch.setattr(mailbox_service, "REQUEST_BURST", 110.0)

    async def main():
        async with mailbox(tmp_path) as (box, service):
            mallory = await box.owner(service)  # 10 and 1
            unknown = [hashlib.sha256(b"%d" % number).digest() for number in range(1024)]
            for _ in range(3):  # 33 each
                await mallory.revoke(unknown)
            revoking = asyncio.ensure_future(mallory.revoke(unknown))
            for _ in range(30):
                await asyncio.sleep(0.001)
            assert not revoking.done()
            revoking.cancel()
            await asyncio.gather(revoking, return_exceptions=True)

    run(main)


def test_who_does_not_read_is_not_served_on(tmp_path):
    """Bundles are asked for and never read: the stream's credit bounds what is written."""

    async def main():
        async with mailbox(tmp_path) as (box, service):
            fetching = a_pass(uses=65535, right=Right.FETCH)
            alice = await box.owner(service)
            await alice.grant(fetching.grants())
            await alice.publish(bytes(8000), [])
            raw = await Raw.dial(service)
            raw.transport.pause_reading()
            raw.transport.write(Fetch(fetching.token(0).token).serialize() * 32)
            [stream] = [stream for stream in service._streams if stream.account == "m"]
            await until(lambda: stream._behind)
            for _ in range(20):
                await asyncio.sleep(0.001)
            assert raw.transport.waiting < 64 * 1024 + 16_384
            assert stream._requests
            raw.transport.resume_reading()
            await until(lambda: not stream._requests and not stream._busy)

    run(main)


def test_an_owner_who_does_not_read_holds_little(tmp_path):
    async def main():
        async with mailbox(tmp_path, daily=1 << 30) as (box, service):
            given = a_pass(uses=1000)
            token = given.token(0)
            async with await box.owner(service) as alice:
                await alice.grant(given.grants())
            bob = await box.sender(service)
            for number in range(20):
                await bob.deposit(token, token.seal(bytes(100_000), rng_of(number)))
            raw = await Raw.dial(service)
            await until(lambda: len(raw.received) == 36)
            proof = prove(key_of("alice"), MAILBOX, bytes(raw.received[4:]))
            raw.transport.pause_reading()
            raw.transport.write(proof.serialize() + Listen(64).serialize())
            [stream] = [stream for stream in service._streams if stream.account == "m"]
            await until(lambda: stream._behind)
            for _ in range(20):
                await asyncio.sleep(0.001)
            assert raw.transport.waiting < 300_000
            raw.transport.resume_reading()
            await until(lambda: len(raw.received) > 20 * 131_072)

    run(main)


@pytest.mark.parametrize(
    "say", [b"", PREFACE, PREFACE + b"\x11\0\x08\x20" + bytes(100)], ids=["no", "little", "half"]
)
def test_who_says_nothing_does_not_stay(tmp_path, monkeypatch, say):
    monkeypatch.setattr(mailbox_stream, "FIRST_WAIT", 0.01)

    async def main():
        async with mailbox(tmp_path) as (_, service):
            raw = await Raw.dial(service, say=say)
            assert (await raw.lost).reason is Reason.TIMED_OUT
            assert not len(service._streams)

    run(main)


def test_who_has_spoken_stays_a_while_and_who_listens_for_good(tmp_path, monkeypatch):
    monkeypatch.setattr(mailbox_stream, "FIRST_WAIT", 0.02)
    monkeypatch.setattr(mailbox_stream, "IDLE_WAIT", 0.05)

    async def main():
        async with mailbox(tmp_path) as (box, service):
            alice = await box.owner(service)
            await alice.listen()
            bob = await box.sender(service)
            assert (await refusal(bob.fetch(wrong_token(1)))).refusal is Refusal.TOKEN
            await until(lambda: len(service._streams) == 1)
            with pytest.raises(DialError):
                await bob.fetch(wrong_token(2))
            await asyncio.sleep(0.1)
            await alice.status()

    run(main)


def test_requests_behind_an_open_that_is_refused_are_refused_too(tmp_path):
    async def main():
        async with mailbox(tmp_path, boxes=1) as (box, service):
            await box.owner(service, "first")
            raw = await Raw.dial(service)
            await until(lambda: len(raw.received) == 36)
            proof = prove(key_of("second"), MAILBOX, bytes(raw.received[4:]))
            raw.transport.write(proof.serialize() + Status().serialize() + Listen(1).serialize())
            await until(lambda: len(raw.received) == 36 + 3 * 9)
            assert [raw.received[36 + 9 * n + 4] for n in range(3)] == [Refusal.UNAVAILABLE] * 3

    run(main)


def test_an_owner_of_one_box_reads_no_other(tmp_path):
    async def main():
        async with mailbox(tmp_path) as (box, service):
            given = a_pass(uses=5)
            token = given.token(0)
            alice, mallory = await box.owner(service), await box.owner(service, "mallory", "mallory")
            await alice.grant(given.grants())
            await mallory.listen()
            await mallory.grant([TokenGrant(token.id, Right.DEPOSIT, 9, 30_000)])  # known: stays Alice's
            bob = await box.sender(service)
            await bob.deposit(token, token.seal(b"", rng_of(1)))
            await mallory.status()
            assert not mallory._stream.mail
            await alice.listen()
            mail = await alice.next_mail()
            await mallory.taken([mail.id])
            await mallory.revoke([token.id])
            assert (await alice.status()).messages == 1
            assert (await alice.status()).tokens == 1

    run(main)


def test_a_store_that_fails_is_told_and_ends_nothing_else(tmp_path):
    async def main():
        async with mailbox(tmp_path) as (box, service):
            given = a_pass(count=3)
            alice, bob = await box.owner(service), await box.sender(service)
            await alice.grant(given.grants())
            pages = service.thread._store._db.execute("PRAGMA page_count").fetchone()[0]
            service.thread._store._db.execute(f"PRAGMA max_page_count = {pages}")
            token = given.token(0)
            envelope = token.seal(bytes(100_000), rng_of(1))
            assert (await refusal(bob.deposit(token, envelope))).refusal is Refusal.UNAVAILABLE
            service.thread._store._db.execute(f"PRAGMA max_page_count = {pages + 1000}")
            await bob.deposit(token, envelope)

    run(main)


def test_what_has_expired_goes_while_the_service_runs(tmp_path):
    async def main():
        async with mailbox(tmp_path) as (box, service):
            given = a_pass(uses=300)
            token = given.token(0)
            alice, bob = await box.owner(service), await box.sender(service)
            await alice.grant(given.grants())
            for number in range(3):
                await bob.deposit(token, token.seal(b"", rng_of(number)))
            box.clock.pass_days(31)
            service._sweeper.cancel()
            service._sweep()
            assert (await alice.status()).messages == 0
            await until(lambda: service._sweeper is not None)
            box.clock.pass_days(300)  # she has been connected all the while: her box stays
            service._sweeper.cancel()
            service._sweep()
            await alice.status()

    run(main)


# ---- the client against a hostile mailbox ---------------------------------------------------------


class Hostile:
    """A mailbox that says what it likes."""

    name = "mailbox"

    def __init__(self, *says):
        self.says = says

    def __call__(self, incoming):
        raw = Raw()
        stream = incoming.accept(raw)
        for said in self.says:
            stream.write(said)
        self.raw = raw


@pytest.mark.parametrize("said", [b"\x82\0\0\0", b"\x99", b"\x81\0\0\x21" + bytes(33), b"HTTP/1.1 404"])
def test_a_mailbox_that_breaks_its_protocol(said):
    async def main():
        with pytest.raises(mailbox_client.MailboxFrameError):
            await MailboxOwner.connect(PipeDialer("a", Hostile(said)), MAILBOX, key_of("alice"))

    run(main)


def test_a_mailbox_that_hands_us_anothers_challenge_gets_nothing_it_could_use(tmp_path):
    """Two mailboxes, one key: what is proved to the one does not open the box at the other."""

    async def main():
        async with mailbox(tmp_path) as (_, service):
            asked = await Raw.dial(service)
            await until(lambda: len(asked.received) == 36)
            hostile = Hostile(bytes(asked.received))
            connecting = asyncio.ensure_future(
                MailboxOwner.connect(
                    PipeDialer("a", hostile), b"another bridge's key".ljust(32), key_of("alice")
                )
            )
            size = len(PREFACE) + len(Open(bytes(32), bytes(64)).serialize())
            await until(lambda: hasattr(hostile, "raw") and len(hostile.raw.received) == size)
            asked.transport.write(bytes(hostile.raw.received[len(PREFACE) :]))
            await asked.lost
            assert not service.owners
            connecting.cancel()
            await asyncio.gather(connecting, return_exceptions=True)

    run(main)


def test_a_mailbox_that_does_not_answer(monkeypatch):
    monkeypatch.setattr(mailbox_client, "ANSWER_WAIT", 0.02)

    async def main():
        with pytest.raises(DialError) as lost:
            await MailboxOwner.connect(PipeDialer("a", Hostile()), MAILBOX, key_of("alice"))
        assert lost.value.reason is Reason.TIMED_OUT
        bob = await MailboxSender.connect(PipeDialer("a", Hostile(b"\x81\0\0\x20" + bytes(32))))
        with pytest.raises(DialError) as lost:
            await bob.fetch(wrong_token(1))
        assert lost.value.reason is Reason.TIMED_OUT

    run(main)


def test_the_time_of_day_is_the_only_clock_there_is(tmp_path):
    """Without a clock given, the mailbox takes the system's: today's tokens are good."""

    async def main():
        async with mailbox(tmp_path) as (box, service):
            service.clock = time.time
            given = DeliveryPass.make(rng_of(1), time.time(), seconds=DAY)
            token = given.token(0)
            alice, bob = await box.owner(service), await box.sender(service)
            await alice.grant(given.grants())
            await bob.deposit(token, token.seal(b"", rng_of(1)))

    run(main)


def test_a_wrong_clock_at_the_start_deletes_nothing(tmp_path):
    """A machine without a clock of its own is told the time only later."""

    async def main():
        async with mailbox(tmp_path) as (box, service):
            given = a_pass()
            token = given.token(0)
            async with await box.owner(service) as alice, await box.sender(service) as bob:
                await alice.grant(given.grants())
                await bob.deposit(token, token.seal(b"", rng_of(1)))
            await box.stop()
            box.clock.now += 5000 * DAY
            again = await box.start()
            box.clock.now -= 5000 * DAY
            assert (await box.owner(again)).state.messages == 1

    run(main)


def test_what_was_taken_leaves_the_log_while_the_mailbox_runs(tmp_path):
    async def main():
        async with mailbox(tmp_path) as (box, service):
            given = a_pass()
            token = given.token(0)
            envelope = token.seal(b"", rng_of(1))
            alice, bob = await box.owner(service), await box.sender(service)
            await alice.grant(given.grants())
            await bob.deposit(token, envelope)
            await alice.listen()
            await alice.taken([(await alice.next_mail()).id])
            log = tmp_path / "state" / "mailbox.sqlite3-wal"
            assert envelope[100:200] in log.read_bytes()
            service._sweeper.cancel()
            service._sweep()
            await alice.status()
            assert envelope[100:200] not in log.read_bytes()
            assert envelope[100:200] not in (tmp_path / "state" / "mailbox.sqlite3").read_bytes()

    run(main)


def test_a_bug_in_one_request_or_its_answer_is_reported_and_hurts_no_other(tmp_path):
    async def main():
        async with mailbox(tmp_path) as (_, service):
            loop, reported, heard = asyncio.get_running_loop(), [], []
            before = loop.get_exception_handler()
            loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))

            def fails(outcome):
                raise ZeroDivisionError

            service.thread.submit(lambda store: 1, heard.append)
            service.thread.submit(lambda store: 2, fails)
            service.thread.submit(lambda store: 3, heard.append)
            service.thread.submit(lambda store: 1 / 0, heard.append)
            await until(lambda: len(heard) == 3)
            assert heard[:2] == [1, 3]
            assert heard[2].refusal is Refusal.UNAVAILABLE
            await until(lambda: len(reported) == 2)
            assert {type(error) for error in reported} == {ZeroDivisionError}
            loop.set_exception_handler(before)

    run(main)


def test_an_envelope_of_any_size_passes(tmp_path):
    async def main():
        async with mailbox(tmp_path) as (box, service):
            given = a_pass(uses=9)
            token = given.token(0)
            alice, bob = await box.owner(service), await box.sender(service)
            await alice.grant(given.grants())
            await alice.listen()
            for size in (0, 2000, 8000, 30_000, 131_000):
                await bob.deposit(token, token.seal(bytes(size), rng_of(size)))
                mail = await alice.next_mail()
                assert token.open(mail.envelope) == bytes(size)
                await alice.taken([mail.id])
            with pytest.raises(DialError):
                await bob._stream.request(Deposit(token.token, bytes(3000)))

    run(main)
