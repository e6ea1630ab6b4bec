"""Files between peers: whole and verified, gone on with, refused, and from contacts that lie."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import random
import threading
import time
from pathlib import Path

import pytest
from peers_live import run, until
from streams_live import Party, Talker, acquainted, at_home, sever

from ptproxy.errors import DialError, Reason, StartError
from ptproxy.peers import file_pieces, file_receiving, file_transfer, peer_meetings
from ptproxy.peers.file_messages import PURPOSE, Answer, FileProtocolError, Offer, accept
from ptproxy.peers.file_pieces import partial_name
from ptproxy.peers.file_sending import Sending
from ptproxy.peers.file_transfer import (
    ABANDONED,
    MAX_OFFERS,
    MAX_OFFERS_OF_ONE,
    FileDiffersError,
    FileLapsedError,
    FileRefusedError,
    FileTransfers,
)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(peer_meetings, "RETRY_FIRST", 0.005)
    monkeypatch.setattr(peer_meetings, "RETRY_LAST", 0.02)


class Files:
    """One person's transfers."""

    def __init__(self, party, folder, **options):
        self.offers = asyncio.Queue()
        self.progress = []
        self.at = lambda _progress: None  # called with each progress
        self.gone = []
        self.folder = folder / party.name
        self.transfers = FileTransfers(
            party.streams,
            self.folder,
            on_offer=self.offers.put_nowait,
            on_progress=self._heard,
            on_gone=self.gone.append,
            **options,
        )

    def _heard(self, progress):
        self.progress.append(progress)
        self.at(progress)

    def saved(self):
        return sorted(path.name for path in self.folder.iterdir()) if self.folder.is_dir() else []


def exchange(tmp_path, main, **options):
    """Run ``main(alice, bob, alices, bobs)`` with two who have transfers."""

    async def whole():
        alice, bob = acquainted()
        at_home(alice, bob)
        try:
            await main(alice, bob, Files(alice, tmp_path), Files(bob, tmp_path, **options))
        finally:
            await alice.streams.close()
            await bob.streams.close()

    run(whole)


def made(tmp_path, size, name="picture.png"):
    path = tmp_path / name
    path.write_bytes(random.Random(size).randbytes(size))
    return path


def going(coroutine):
    return asyncio.ensure_future(coroutine)


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_a_file_arrives_whole(tmp_path, size):
    path = made(tmp_path, size)

    async def main(alice, bob, alices, bobs):
        sending = going(alices.transfers.send(Party.CONTACT, path))
        offer = await bobs.offers.get()
        assert (offer.name, offer.size, offer.contact) == ("picture.png", size, Party.CONTACT)
        assert offer.digest == hashlib.sha256(path.read_bytes()).digest()
        assert bobs.saved() == []  # nothing before the person has said yes
        saved = await offer.accept()
        await sending
        assert saved == bobs.folder / "picture.png"
        assert saved.read_bytes() == path.read_bytes()
        assert saved.stat().st_mode & 0o777 == 0o600
        assert bobs.saved() == ["picture.png"]
        for side in (alices, bobs):
            done = [progress.done for progress in side.progress]
            assert done == sorted(done)
            assert (done[0], done[-1], side.progress[-1].size) == (0, size, size)
        await until(lambda: bobs.transfers.offers == 0)

    exchange(tmp_path, main)


def test_connections_that_break_in_the_middle(tmp_path):
    path = made(tmp_path, 8 << 20)

    async def main(alice, bob, alices, bobs):
        sending = going(alices.transfers.send(Party.CONTACT, path))
        accepting = going((await bobs.offers.get()).accept())
        for at in range(1, 6):
            await until(lambda at=at: bobs.progress[-1:] and bobs.progress[-1].done > at << 20)
            sever(alice, bob)
        await sending
        assert (await accepting).read_bytes() == path.read_bytes()

    exchange(tmp_path, main)


def test_a_transfer_that_was_broken_off_is_gone_on_with(tmp_path):
    path = made(tmp_path, 4_000_000)

    async def main(alice, bob, alices, bobs):
        sending = going(alices.transfers.send(Party.CONTACT, path))
        accepting = going((await bobs.offers.get()).accept())
        bobs.at = lambda progress: (
            progress.done > 1_000_000 and sending.cancel()
        )  # before more of it has come
        with pytest.raises(DialError):
            await accepting
        bobs.at = lambda _progress: None
        [partial] = bobs.saved()
        assert partial.endswith(".part")
        there = (bobs.folder / partial).stat().st_size
        assert there > 1_000_000

        bobs.progress.clear()
        alices.progress.clear()
        sending = going(alices.transfers.send(Party.CONTACT, path, "again.png"))
        saved = await (await bobs.offers.get()).accept()
        await sending
        assert (bobs.progress[0].done, alices.progress[0].done) == (there, there)
        assert saved.read_bytes() == path.read_bytes()
        assert bobs.saved() == ["again.png"]

    exchange(tmp_path, main)


def test_what_nobody_goes_on_with_is_deleted(tmp_path):
    path = made(tmp_path, 1_000)

    async def main(alice, bob, alices, bobs):
        bobs.folder.mkdir(exist_ok=True)
        leavings = {name: bobs.folder / f".{name}.ptproxy.part" for name in ("old", "older", "fresh")}
        mine = bobs.folder / "mine.part"
        digest = hashlib.sha256(path.read_bytes()).digest()
        begun = bobs.folder / f".{partial_name(Party.CONTACT, digest)}.ptproxy.part"
        begun.write_bytes(path.read_bytes()[:600])
        for leaving in (*leavings.values(), mine):
            leaving.write_bytes(b"some of it")
        for leaving in (leavings["old"], leavings["older"], mine, begun):
            os.utime(leaving, (1, time.time() - ABANDONED - 60))
        sending = going(alices.transfers.send(Party.CONTACT, path))
        saved = await (await bobs.offers.get()).accept()
        await sending
        assert [name for name in leavings if leavings[name].exists()] == ["fresh"]
        assert mine.exists()  # whatever it is, it is not ours
        assert saved.read_bytes() == path.read_bytes()
        assert bobs.progress[0].done == 600  # this one was gone on with after all

    exchange(tmp_path, main)


def test_a_partial_file_that_was_touched_is_not_passed_off_as_whole(tmp_path):
    path = made(tmp_path, 2_000_000)

    async def main(alice, bob, alices, bobs):
        sending = going(alices.transfers.send(Party.CONTACT, path))
        accepting = going((await bobs.offers.get()).accept())
        bobs.at = lambda progress: progress.done > 500_000 and sending.cancel()  # before more of it has come
        with pytest.raises(DialError):
            await accepting
        bobs.at = lambda _progress: None
        [partial] = bobs.folder.iterdir()
        data = bytearray(partial.read_bytes())
        data[7] ^= 1
        partial.write_bytes(data)

        sending = going(alices.transfers.send(Party.CONTACT, path))
        with pytest.raises(FileDiffersError):
            await (await bobs.offers.get()).accept()
        with pytest.raises(FileDiffersError):
            await sending
        assert bobs.saved() == []

        sending = going(alices.transfers.send(Party.CONTACT, path))  # and now from the beginning
        assert (await (await bobs.offers.get()).accept()).read_bytes() == path.read_bytes()
        await sending

    exchange(tmp_path, main)


def test_refused_by_the_person(tmp_path):
    path = made(tmp_path, 1000)

    async def main(alice, bob, alices, bobs):
        sending = going(alices.transfers.send(Party.CONTACT, path))
        offer = await bobs.offers.get()
        offer.refuse()
        with pytest.raises(FileRefusedError):
            await sending
        assert bobs.saved() == []
        with pytest.raises(DialError):
            await offer.accept()
        await until(lambda: offer.withdrawn)

    exchange(tmp_path, main)


def test_too_large_is_refused_unasked(tmp_path):
    path = made(tmp_path, 1001)

    async def main(alice, bob, alices, bobs):
        with pytest.raises(FileRefusedError):
            await alices.transfers.send(Party.CONTACT, path)
        assert bobs.offers.empty()

    exchange(tmp_path, main, most=1000)


def test_no_file_is_replaced(tmp_path):
    path = made(tmp_path, 1000)

    async def main(alice, bob, alices, bobs):
        for _ in range(3):
            sending = going(alices.transfers.send(Party.CONTACT, path))
            await (await bobs.offers.get()).accept()
            await sending
        assert bobs.saved() == ["picture (2).png", "picture (3).png", "picture.png"]

    exchange(tmp_path, main)


def test_a_name_leads_nowhere_else(tmp_path):
    path = made(tmp_path, 10)

    async def main(alice, bob, alices, bobs):
        sending = going(alices.transfers.send(Party.CONTACT, path, "../../.bashrc\x1b[2J\u202egpj.exe"))
        saved = await (await bobs.offers.get()).accept()
        await sending
        assert saved == bobs.folder / "bashrc[2Jgpj.exe"

    exchange(tmp_path, main)


def test_a_file_that_cannot_be_read(tmp_path):
    async def main(alice, bob, alices, bobs):
        with pytest.raises(StartError, match="nothing"):
            await alices.transfers.send(Party.CONTACT, tmp_path / "nothing")
        with pytest.raises(StartError):
            await alices.transfers.send(Party.CONTACT, tmp_path)

    exchange(tmp_path, main)


def test_a_folder_that_cannot_be_written(tmp_path):
    path = made(tmp_path, 10)

    async def main(alice, bob, alices, bobs):
        bobs.folder.write_text("a file in its place")
        sending = going(alices.transfers.send(Party.CONTACT, path))
        with pytest.raises(StartError):
            await (await bobs.offers.get()).accept()
        with pytest.raises(DialError):
            await sending

    exchange(tmp_path, main)


def test_one_file_is_written_by_one_transfer(tmp_path):
    path = made(tmp_path, 3_000_000)

    async def main(alice, bob, alices, bobs):
        first = going(alices.transfers.send(Party.CONTACT, path))
        accepting = going((await bobs.offers.get()).accept())
        await until(lambda: bobs.progress)
        second = going(alices.transfers.send(Party.CONTACT, path))
        offer = await bobs.offers.get()
        if not accepting.done():
            with pytest.raises(StartError, match="already"):
                await offer.accept()
        with pytest.raises(DialError):
            await second
        await first
        assert (await accepting).read_bytes() == path.read_bytes()

    exchange(tmp_path, main)


def test_offers_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(file_transfer, "MAX_OFFERS", 2)
    path = made(tmp_path, 10)

    async def main(alice, bob, alices, bobs):
        waiting = []
        for _ in range(2):
            waiting.append(going(alices.transfers.send(Party.CONTACT, path)))
            await bobs.offers.get()
        with pytest.raises(DialError) as lost:
            await alices.transfers.send(Party.CONTACT, path)
        assert lost.value.reason is Reason.LIMIT
        for sending in waiting:
            sending.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await until(lambda: bobs.transfers.offers == 0)

    exchange(tmp_path, main)


class Incoming:
    """A contact wants to offer something; whether it ever comes is the test's matter."""

    def __init__(self, contact):
        self.contact = contact
        self.opened = None
        self.refused = None

    def accept(self, protocol):
        self.protocol = protocol
        self.opened = asyncio.get_running_loop().create_future()
        return self

    def refuse(self, reason):
        self.refused = reason


class Nobody:
    def offer(self, purpose, incoming):
        self.incoming = incoming


def test_one_contact_takes_only_its_own_places(tmp_path):
    async def main():
        streams = Nobody()
        transfers = FileTransfers(streams, tmp_path, on_offer=print, on_progress=print)

        def comes(contact):
            streams.incoming(incoming := Incoming(contact))
            return incoming

        greedy = [comes(b"greedy") for _ in range(9)]
        assert [each.refused for each in greedy] == [None] * MAX_OFFERS_OF_ONE + [Reason.LIMIT] * 5
        assert comes(b"other").refused is None
        greedy[0].opened.set_exception(DialError(Reason.TIMED_OUT))
        greedy[0].opened.exception()
        await until(lambda: transfers.offers == MAX_OFFERS_OF_ONE)
        assert comes(b"greedy").refused is None
        assert comes(b"greedy").refused is Reason.LIMIT
        greedy[1].protocol.connection_lost(None)
        assert comes(b"greedy").refused is None
        while transfers.offers < MAX_OFFERS:
            comes(bytes((transfers.offers,)))
        assert comes(b"one more").refused is Reason.LIMIT

    run(main)


def test_an_offer_lapses_and_both_are_told(tmp_path):
    path = made(tmp_path, 10)

    async def main(alice, bob, alices, bobs):
        sending = going(alices.transfers.send(Party.CONTACT, path))
        offer = await bobs.offers.get()
        timer = offer._receiving._lapse
        assert 0 < timer.when() - asyncio.get_running_loop().time() <= file_receiving.OFFER_LIFE
        timer._run()  # now, however slow this machine is
        with pytest.raises(FileLapsedError):
            await sending
        await until(lambda: bobs.gone == [offer])
        assert (offer.withdrawn, offer.lapsed) == (True, True)
        with pytest.raises(DialError):
            await offer.accept()
        await until(lambda: bobs.transfers.offers == 0)
        assert bobs.saved() == []

    exchange(tmp_path, main)


def test_who_opens_a_stream_and_offers_nothing_loses_its_place(tmp_path, monkeypatch):
    monkeypatch.setattr(file_receiving, "OFFER_LIFE", 0.05)

    async def main(alice, bob, alices, bobs):
        _, talker = await offering(alice, bob, b"\1")
        assert isinstance(await talker.lost, DialError)
        await until(lambda: bobs.transfers.offers == 0)
        assert bobs.gone == []

    exchange(tmp_path, main)


def test_an_offer_that_is_withdrawn_is_told_once_and_one_that_was_decided_never(tmp_path):
    path = made(tmp_path, 1000)

    async def main(alice, bob, alices, bobs):
        sending = going(alices.transfers.send(Party.CONTACT, path))
        offer = await bobs.offers.get()
        sending.cancel()
        await until(lambda: bobs.gone == [offer])
        assert (offer.withdrawn, offer.lapsed) == (True, False)
        for decide in ("accept", "refuse"):
            sending = going(alices.transfers.send(Party.CONTACT, path))
            offer = await bobs.offers.get()
            if decide == "accept":
                await offer.accept()
            else:
                offer.refuse()
            await asyncio.gather(sending, return_exceptions=True)
            await until(lambda: bobs.transfers.offers == 0)
        assert len(bobs.gone) == 1

    exchange(tmp_path, main)


def test_who_is_accepted_and_sends_nothing_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(file_receiving, "STALL", 0.05)

    async def main(alice, bob, alices, bobs):
        _, talker = await offering(alice, bob, OFFER.serialize())
        with pytest.raises(DialError) as lost:
            await (await bobs.offers.get()).accept()
        assert lost.value.reason is Reason.TIMED_OUT
        assert isinstance(await talker.lost, DialError)
        await until(lambda: bobs.transfers.offers == 0)

    exchange(tmp_path, main)


def test_the_disk_is_not_waited_for_in_the_loop(tmp_path, monkeypatch):
    path = made(tmp_path, 10)
    where = []

    def watch(module, name):
        plain = getattr(module, name)

        def watched(*arguments):
            where.append((name, threading.current_thread() is threading.main_thread()))
            return plain(*arguments)

        monkeypatch.setattr(module, name, watched)

    watch(file_transfer, "open_to_send")
    watch(file_receiving.PartialFile, "finish")
    watch(file_receiving, "PartialFile")

    async def main(alice, bob, alices, bobs):
        sending = going(alices.transfers.send(Party.CONTACT, path))
        await (await bobs.offers.get()).accept()
        await sending

    exchange(tmp_path, main)
    assert where == [("open_to_send", False), ("PartialFile", False), ("finish", False)]


def test_a_pipe_that_nobody_writes_to_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    async def main(alice, bob, alices, bobs):
        for path in (tmp_path / "pipe", Path("/dev/zero")):
            with pytest.raises(StartError, match="not a file"):
                await alices.transfers.send(Party.CONTACT, path)

    exchange(tmp_path, main)


def test_who_breaks_off_the_hashing_of_a_long_file_does_not_wait_for_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(file_pieces, "HASHED", 1)
    path = made(tmp_path, 16 << 20)
    hashed = []
    plain = file_pieces._hash_some

    def hash_some(file, digest):
        hashed.append(file.tell())
        return plain(file, digest)

    monkeypatch.setattr(file_pieces, "_hash_some", hash_some)

    async def main(alice, bob, alices, bobs):
        sending = going(alices.transfers.send(Party.CONTACT, path))
        await until(lambda: hashed)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert hashed[-1] < 16 << 20

    exchange(tmp_path, main)


# ---- contacts that lie ---------------------------------------------------------------------------


OFFER = Offer(bytes(16), 1000, hashlib.sha256(bytes(1000)).digest(), "x")


async def offering(alice, bob, said):
    """A stream on which a contact says what it likes."""
    talker = Talker(end=False)
    stream = await alice.streams.open_stream(Party.CONTACT, PURPOSE, talker)
    stream.write(said)
    return stream, talker


@pytest.mark.parametrize(
    "said",
    [
        b"\2",
        b"GET / HTTP/1.1\r\n\r\n" * 10,
        OFFER.serialize() + b"unasked",
        OFFER.serialize()[:57] + b"\xff\xff",
        Offer(bytes(16), 1000, bytes(32), "ä").serialize()[:-1] + b"\xff",
    ],
    ids=["version", "something else", "unasked", "long name", "no UTF-8"],
)
def test_what_is_no_offer_is_reset(tmp_path, said):
    async def main(alice, bob, alices, bobs):
        _, talker = await offering(alice, bob, said)
        assert isinstance(await talker.lost, DialError)
        assert bobs.saved() == []
        await until(lambda: bobs.transfers.offers == 0)

    exchange(tmp_path, main)


def test_bytes_before_the_answer_are_no_way_around_the_person(tmp_path):
    async def main(alice, bob, alices, bobs):
        stream, talker = await offering(alice, bob, OFFER.serialize())
        await bobs.offers.get()
        stream.write(bytes(1000))
        assert isinstance(await talker.lost, DialError)
        assert bobs.saved() == []

    exchange(tmp_path, main)


@pytest.mark.parametrize("size", [999, 1001], ids=["less", "more"])
def test_another_number_of_bytes_than_offered(tmp_path, size):
    async def main(alice, bob, alices, bobs):
        stream, talker = await offering(alice, bob, OFFER.serialize())
        accepting = going((await bobs.offers.get()).accept())
        await until(lambda: talker.received == accept(0))
        stream.write(bytes(size))
        stream.write_eof()
        with pytest.raises((DialError, FileProtocolError)):
            await accepting
        assert "x" not in bobs.saved()

    exchange(tmp_path, main)


def test_other_bytes_than_offered(tmp_path):
    async def main(alice, bob, alices, bobs):
        stream, talker = await offering(alice, bob, OFFER.serialize())
        accepting = going((await bobs.offers.get()).accept())
        await until(lambda: talker.received == accept(0))
        stream.write(bytes(999) + b"!")
        with pytest.raises(FileDiffersError):
            await accepting
        await until(lambda: talker.received == accept(0) + bytes((Answer.DIFFERENT,)))
        assert bobs.saved() == []
        stream.close()

    exchange(tmp_path, main)


@pytest.mark.parametrize(
    "answer",
    [b"\5", accept(1001), accept(0) + b"\1", accept(1000) + b"\3more"],
    ids=["unknown", "beyond", "twice", "more"],
)
def test_answers_that_are_none(tmp_path, answer):
    path = made(tmp_path, 1000)

    async def main(alice, bob, alices, bobs):
        talker = Talker(end=False)
        taken = []
        bob.streams.offer(PURPOSE, lambda incoming: taken.append(incoming.accept(talker)))
        sending = going(alices.transfers.send(Party.CONTACT, path))
        await until(lambda: talker.received)
        taken[0].write(answer)
        with pytest.raises(FileProtocolError):
            await sending

    exchange(tmp_path, main)


def test_an_early_answer_does_not_make_the_whole_file_be_read(tmp_path, monkeypatch):
    """Who takes nothing and says that all is there does not have the file in the sender's memory."""
    path = made(tmp_path, 12 << 20)

    async def main(alice, bob, alices, bobs):
        talker = Talker(end=False)
        taken = []
        bob.streams.offer(PURPOSE, lambda incoming: taken.append(incoming.accept(talker)))
        sending = going(alices.transfers.send(Party.CONTACT, path))
        await until(lambda: talker.received)
        taken[0].pause_reading()
        taken[0].write(accept(0))
        await until(lambda: alices.progress and alices.progress[-1].done)
        [stream] = alice.streams.streams(Party.CONTACT)
        await until(lambda: stream.sealed.send_room() <= 0)
        taken[0].write(bytes((Answer.COMPLETE,)))
        heard = asyncio.Event()
        plain = stream.get_protocol().data_received

        def told(data):
            plain(data)
            heard.set()

        stream.get_protocol().data_received = told
        await heard.wait()
        for _ in range(200):  # a sender that reads on is quick
            await asyncio.sleep(0.001)
        assert alices.progress[-1].done < 2 << 20
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)

    exchange(tmp_path, main)


def test_a_contact_that_is_lost_amid_a_file_has_taken_it():
    class Streams:
        async def open_stream(self, contact, purpose, protocol):
            self.protocol = protocol
            return self

        def write(self, data):
            if bytes(data) == offer.serialize():
                self.protocol.data_received(accept(0))

        def write_eof(self):
            self.protocol.connection_lost(DialError(Reason.TIMED_OUT))

        def abort(self):
            pass

    async def main():
        sending = Sending(lambda _: None, Party.CONTACT, offer, io.BytesIO(bytes(10)))
        with pytest.raises(DialError) as lost:
            await sending.run(Streams())
        assert lost.value.reason is Reason.TIMED_OUT

    offer = Offer(bytes(16), 10, bytes(32), "a")
    run(main)
