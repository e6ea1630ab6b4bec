"""The store: what is kept, refused, handed out once, expires; kill -9, a full disk, a foreign lock."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from peers_live import DAY, START, rng_of

from ptproxy.errors import StartError
from ptproxy.peers.mailbox_answers import Bundle, Note, Refusal, RequestRefused
from ptproxy.peers.mailbox_delivery import DeliveryPass, message_id_of
from ptproxy.peers.mailbox_requests import Right, TokenGrant
from ptproxy.peers.mailbox_schema import (
    BOX_COST,
    MESSAGE_COST,
    NAME,
    ONE_TIME_COST,
    SCHEMA,
    TOKEN_COST,
    StoreLimits,
)
from ptproxy.peers.mailbox_store import ONE_TIME_BURST, MailboxStore
from ptproxy.state import StateFolder

FAR = 30_000
"""A day in the far future."""
WALKS = int(os.environ.get("PTPROXY_MAILBOX_WALKS", "40"))
"""Random walks; more from the environment."""


class Rig:
    """A store in a folder; ``do`` runs one request and raises what it was refused with."""

    def __init__(self, folder, **limits):
        self.folder, self.limits = folder, StoreLimits(**limits)
        self.open()

    def open(self):
        self.state = StateFolder(self.folder)
        self.store = MailboxStore(self.state.database(NAME, SCHEMA), self.limits)

    def close(self):
        self.store.close()
        self.state.close()

    def again(self):
        self.close()
        self.open()

    def do(self, method, *arguments):
        [outcome] = self.store.run([lambda store: getattr(store, method)(*arguments)])
        if isinstance(outcome, RequestRefused):
            raise outcome
        return outcome

    def refused(self, method, *arguments):
        with pytest.raises(RequestRefused) as refused:
            self.do(method, *arguments)
        return refused.value.refusal

    def box(self, name="alice"):
        return self.do("make_box", hashlib.sha256(name.encode()).digest(), START)

    def token(self, box, number=0, uses=1, right=Right.DEPOSIT, expires=FAR):
        token_id = hashlib.sha256(f"{box} {number} {right}".encode()).digest()
        self.do("grant", box, [TokenGrant(token_id, right, uses, expires)], START)
        return token_id

    def deposit(self, token_id, text="hello", size=2048, now=START):
        envelope = text.encode().ljust(size, b".")
        return self.do("deposit", token_id, message_id_of(token_id, envelope), envelope, now)

    def waiting(self, box, known=(), most=1000, most_size=1 << 30):
        return self.do("waiting", box, known, most, most_size)

    def texts(self, box):
        return [mail.envelope.rstrip(b".").decode() for mail in self.waiting(box)]

    def check_sums(self):
        """Everything that is counted is what is there."""
        db = self.store._db

        def one(query, *values):
            return db.execute(query, values).fetchone()[0]

        total = 0
        for box, size, messages, tokens, one_times in db.execute(
            "SELECT box, size, messages, tokens, one_times FROM boxes"
        ).fetchall():
            for table, count in (("messages", messages), ("tokens", tokens), ("one_times", one_times)):
                assert one(f"SELECT count(*) FROM {table} WHERE box = ?", box) == count
            envelopes = one("SELECT coalesce(sum(length(envelope)), 0) FROM messages WHERE box = ?", box)
            prekeys = one("SELECT coalesce(sum(length(prekey)), 0) FROM one_times WHERE box = ?", box)
            bundle = one("SELECT length(bundle) FROM boxes WHERE box = ?", box)
            costs = messages * MESSAGE_COST + tokens * TOKEN_COST + one_times * ONE_TIME_COST + BOX_COST
            assert size == envelopes + prekeys + bundle + costs
            total += size
        assert db.execute("SELECT size, boxes FROM totals").fetchone() == (
            total,
            one("SELECT count(*) FROM boxes"),
        )


@pytest.fixture
def rig(tmp_path):
    rig = Rig(tmp_path / "state")
    yield rig
    rig.check_sums()
    rig.close()


@pytest.fixture
def small(tmp_path):
    """Little room for everything."""
    rig = Rig(
        tmp_path / "state",
        boxes=2,
        box_messages=8,
        box_size=60_000,
        box_tokens=5,
        box_one_times=3,
        size=100_000,
    )
    yield rig
    rig.check_sums()
    rig.close()


# ---- messages -----------------------------------------------------------------------------------


def test_what_is_deposited_waits_in_order_until_it_is_taken(rig):
    box = rig.box()
    token = rig.token(box, uses=10)
    for number in range(5):
        assert rig.deposit(token, f"m{number}") == box
    assert rig.texts(box) == ["m0", "m1", "m2", "m3", "m4"]
    ids = [mail.id for mail in rig.waiting(box)]
    rig.do("taken", box, ids[1:3])
    assert rig.texts(box) == ["m0", "m3", "m4"]
    rig.do("taken", box, ids)
    assert rig.texts(box) == []
    assert rig.do("state", box).messages == 0
    rig.deposit(token, "later")
    assert rig.texts(box) == ["later"]


def test_the_token_is_told_to_the_owner(rig):
    box = rig.box()
    token = rig.token(box)
    rig.deposit(token)
    assert rig.waiting(box)[0].token_id == token


def test_what_is_known_is_passed_over(rig):
    box = rig.box()
    token = rig.token(box, uses=10)
    for number in range(6):
        rig.deposit(token, f"m{number}")
    mail = rig.waiting(box)
    some = rig.waiting(box, {mail[0].id, mail[2].id}, 2)
    assert [found.id for found in some] == [mail[1].id, mail[3].id]
    assert len(rig.waiting(box, (), 6, 5000)) == 2
    assert len(rig.waiting(box, (), 6, 1)) == 1  # a large one comes alone, but it comes


def test_one_box_does_not_take_what_is_anothers(rig):
    alice, bob = rig.box("alice"), rig.box("bob")
    rig.deposit(rig.token(alice))
    [mail] = rig.waiting(alice)
    rig.do("taken", bob, [mail.id])
    assert len(rig.waiting(alice)) == 1
    assert rig.waiting(bob) == []


def test_a_repeated_deposit_is_kept_once(rig):
    box = rig.box()
    token = rig.token(box)
    for _ in range(3):
        assert rig.deposit(token) == box
    assert len(rig.waiting(box)) == 1
    assert rig.refused("deposit", token, bytes(16), bytes(2048), START) is Refusal.TOKEN
    rig.do("taken", box, [mail.id for mail in rig.waiting(box)])
    assert rig.deposit(token) == box  # its answer got lost, and meanwhile it was collected
    assert rig.waiting(box) == []


def test_a_repetition_is_known_among_others_under_the_same_token(rig):
    box = rig.box()
    token = rig.token(box, uses=3)
    for text in ("a", "b", "a", "b", "c", "a"):
        rig.deposit(token, text)
    assert rig.texts(box) == ["a", "b", "c"]


# ---- tokens -------------------------------------------------------------------------------------


def test_unknown_revoked_expired_used_up_and_of_the_other_right_are_all_alike(rig):
    box = rig.box()
    revoked, used, fetching = rig.token(box, 1), rig.token(box, 2), rig.token(box, 3, right=Right.FETCH)
    expired = rig.token(box, 4, expires=int(START // DAY) + 1)
    rig.do("revoke", box, [revoked])
    rig.deposit(used)
    for token in (bytes(32), revoked, used, fetching):
        assert rig.refused("deposit", token, b"i" * 16, bytes(2048), START) is Refusal.TOKEN
    assert rig.refused("deposit", expired, b"i" * 16, bytes(2048), START + DAY) is Refusal.TOKEN
    for token in (bytes(32), revoked, rig.token(box, 5), fetching):  # the last: there is no bundle
        assert rig.refused("fetch", token, START) is Refusal.TOKEN


def test_what_is_revoked_under_one_key_stays_in_another_box(rig):
    alice, bob = rig.box("alice"), rig.box("bob")
    token = rig.token(alice)
    rig.do("revoke", bob, [token])
    rig.do("grant", bob, [TokenGrant(token, Right.DEPOSIT, 1, FAR)], START)  # known already: Alice's
    assert rig.deposit(token) == alice


def test_granting_again_changes_nothing(rig):
    box = rig.box()
    token = rig.token(box)
    rig.deposit(token, "one")
    rig.token(box, uses=5)
    assert rig.refused("deposit", token, bytes(16), bytes(2048), START) is Refusal.TOKEN
    assert rig.do("state", box).tokens == 1


def test_tokens_that_have_expired_are_not_taken(rig):
    box = rig.box()
    rig.do("grant", box, [TokenGrant(bytes(32), Right.DEPOSIT, 1, int(START // DAY))], START)
    assert rig.do("state", box).tokens == 0


def test_one_contact_does_not_fill_the_box(small):
    box = small.box()
    greedy, other = small.token(box, 1, uses=100), small.token(box, 2, uses=100)
    for number in range(2):  # a fourth of eight
        small.deposit(greedy, str(number))
    assert small.refused("deposit", greedy, bytes(16), bytes(2048), START) is Refusal.BOX_FULL
    small.deposit(other)
    small.do("taken", box, [small.waiting(box)[0].id])
    small.deposit(greedy, "room again")


def test_a_box_holds_so_many_messages_and_bytes(small):
    box = small.box()
    tokens = [small.token(box, number, uses=100) for number in range(5)]
    for number in range(8):
        small.deposit(tokens[number // 2], str(number))
    assert small.refused("deposit", tokens[4], bytes(16), bytes(2048), START) is Refusal.BOX_FULL
    small.do("taken", box, [mail.id for mail in small.waiting(box)])
    assert small.refused("deposit", tokens[4], bytes(16), bytes(32768), START) is Refusal.BOX_FULL


def test_one_owner_with_a_million_tokens(small):
    box = small.box()
    grants = [TokenGrant(hashlib.sha256(str(n).encode()).digest(), Right.DEPOSIT, 1, FAR) for n in range(6)]
    small.do("grant", box, grants[:4], START)
    assert small.refused("grant", box, grants[4:], START) is Refusal.BOX_FULL
    assert small.do("state", box).tokens == 4  # all or nothing
    small.do("grant", box, grants[4:5], START)
    assert small.refused("grant", box, grants[5:], START) is Refusal.BOX_FULL
    small.do("revoke", box, [grant.token_id for grant in grants])
    assert small.do("state", box).tokens == 0


def test_the_mailbox_holds_so_many_boxes_and_bytes(small):
    alice, bob = small.box("alice"), small.box("bob")
    assert small.refused("make_box", bytes(32), START) is Refusal.UNAVAILABLE
    for box, prekeys in ((alice, 26), (bob, 26)):
        for number in range(prekeys):
            small.do("publish", box, bytes(1900 * number), ())
    assert small.refused("publish", bob, bytes(55_000), ()) is Refusal.UNAVAILABLE
    assert small.refused("publish", bob, bytes(60_000), ()) is Refusal.BOX_FULL
    small.do("close_box", alice)
    small.do("publish", bob, bytes(55_000), ())
    small.box("carol")


# ---- prekeys ------------------------------------------------------------------------------------


def test_each_one_time_prekey_goes_to_one(rig):
    box = rig.box()
    token = rig.token(box, uses=100, right=Right.FETCH)
    rig.do("publish", box, b"bundle", [b"1", b"2"])
    rig.do("supply", box, [b"3"])
    found = [rig.do("fetch", token, START) for _ in range(5)]
    assert found == [Bundle(b"bundle", key) for key in (b"1", b"2", b"3", b"", b"")]
    rig.do("supply", box, [b"4"])
    rig.do("publish", box, b"newer", [b"5"])
    assert rig.do("fetch", token, START) == Bundle(b"newer", b"5")
    assert rig.do("fetch", token, START) == Bundle(b"newer")
    assert rig.do("state", box).one_times == 0


def test_a_fetch_uses_its_token(rig):
    box = rig.box()
    token = rig.token(box, uses=2, right=Right.FETCH)
    rig.do("publish", box, b"bundle", [])
    for _ in range(2):
        rig.do("fetch", token, START)
    assert rig.refused("fetch", token, START) is Refusal.TOKEN


def test_who_wants_to_use_up_the_one_time_prekeys_needs_long(rig):
    box = rig.box()
    token = rig.token(box, uses=1000, right=Right.FETCH)
    rig.do("publish", box, b"bundle", [bytes((n,)) for n in range(1, 101)])
    found = [rig.do("fetch", token, START).one_time for _ in range(50)]
    assert len([key for key in found if key]) == ONE_TIME_BURST
    assert rig.do("fetch", token, START + 60).one_time
    assert not rig.do("fetch", token, START + 60).one_time
    assert rig.do("state", box).one_times == 79


def test_so_many_one_time_prekeys(small):
    box = small.box()
    small.do("publish", box, b"b", [b"1", b"2", b"3"])
    assert small.refused("supply", box, [b"4"]) is Refusal.BOX_FULL
    assert small.refused("publish", box, b"b", [b"1", b"2", b"3", b"4"]) is Refusal.BOX_FULL
    assert small.do("state", box).one_times == 3


# ---- time ---------------------------------------------------------------------------------------


def test_messages_tokens_and_boxes_expire(rig):
    alice, bob = rig.box("alice"), rig.box("bob")
    token = rig.token(alice, uses=5, expires=int(START // DAY) + 60)
    rig.deposit(token)
    assert rig.do("sweep", START + 29 * DAY, 100) == 0
    assert rig.do("sweep", START + 30 * DAY, 100) == 1
    assert rig.waiting(alice) == []
    assert rig.do("sweep", START + 59 * DAY, 100) == 0
    assert rig.do("sweep", START + 60 * DAY, 100) == 1
    assert rig.do("state", alice).tokens == 0
    rig.do("still_there", [bob], START + 80 * DAY)
    assert rig.do("find_box", hashlib.sha256(b"alice").digest(), START + 89 * DAY) == alice
    assert rig.do("sweep", START + 178 * DAY, 100) == 1  # Bob was there on the 80th day
    assert rig.do("find_box", hashlib.sha256(b"bob").digest(), START) is None
    rig.check_sums()


def test_a_sweep_is_bounded(rig):
    box = rig.box()
    token = rig.token(box, uses=100)
    for number in range(10):
        rig.deposit(token, str(number))
    assert [rig.do("sweep", START + 31 * DAY, 4) for _ in range(4)] == [4, 4, 2, 0]


def test_a_used_up_token_is_forgotten_after_a_week(rig):
    box = rig.box()
    token = rig.token(box)
    rig.deposit(token)
    assert rig.do("sweep", START + 6 * DAY, 100) == 0
    assert rig.do("sweep", START + 7 * DAY, 100) == 1
    assert rig.do("state", box).tokens == 0


def test_a_box_number_does_not_come_again(rig):
    """A stream may be open whose box is gone: it must not find itself in another's."""
    first = rig.box("alice")
    rig.do("close_box", first)
    second = rig.box("bob")
    assert second != first
    for request in (("state", first), ("grant", first, [TokenGrant(bytes(32), Right.DEPOSIT, 1, FAR)], START),
                    ("publish", first, b"b", []), ("supply", first, [b"1"])):  # fmt: skip
        assert rig.refused(*request) is Refusal.UNAVAILABLE
    assert rig.waiting(first) == []
    rig.do("taken", first, [bytes(16)])
    rig.do("revoke", first, [bytes(32)])
    rig.do("close_box", first)


def test_a_closed_box_leaves_nothing(rig):
    box = rig.box()
    rig.deposit(rig.token(box))
    rig.token(box, right=Right.FETCH)
    rig.do("publish", box, b"bundle", [b"1"])
    rig.do("close_box", box)
    for table in ("boxes", "tokens", "messages", "one_times"):
        assert rig.store._db.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


# ---- what is on the disk ------------------------------------------------------------------------


def test_nothing_of_a_token_or_a_depositor_is_on_disk_and_what_was_taken_is_gone(tmp_path):
    rig = Rig(tmp_path / "state")
    box = rig.box()
    given = DeliveryPass.make(rng_of(1), START, seconds=DAY)
    rig.do("grant", box, given.grants(), START)
    token = given.token(0)
    envelope = token.seal(b"text", rng_of(2))
    rig.do("deposit", token.id, message_id_of(token.id, envelope), envelope, START)
    rig.again()  # with its log written back
    on_disk = b"".join(path.read_bytes() for path in (tmp_path / "state").iterdir())
    assert envelope in on_disk
    assert token.token not in on_disk
    [mail] = rig.waiting(box)
    rig.do("taken", box, [mail.id])
    rig.close()
    on_disk = b"".join(path.read_bytes() for path in (tmp_path / "state").iterdir())
    assert envelope[:64] not in on_disk
    assert envelope[-64:] not in on_disk


def test_all_survives_a_restart(rig):
    box = rig.box()
    token, fetching = rig.token(box, uses=3), rig.token(box, right=Right.FETCH)
    rig.deposit(token, "before")
    rig.do("publish", box, b"bundle", [b"1"])
    rig.again()
    assert rig.do("find_box", hashlib.sha256(b"alice").digest(), START) == box
    assert rig.texts(box) == ["before"]
    rig.deposit(token, "after")
    assert rig.do("fetch", fetching, START) == Bundle(b"bundle", b"1")


def test_files_are_the_owners_alone(rig, tmp_path):
    rig.box()
    for path in (tmp_path / "state").iterdir():
        assert path.stat().st_mode & 0o077 == 0, path


def test_one_failure_in_a_batch_is_its_own(rig):
    box = rig.box()
    token = rig.token(box, uses=9)

    def fails(store):
        store.grant(box, [TokenGrant(bytes(32), Right.DEPOSIT, 1, FAR)], START)
        raise sqlite3.OperationalError("disk I/O error")

    outcomes = rig.store.run(
        [
            lambda store: store.deposit(token, b"1" * 16, bytes(2048), START),
            fails,
            lambda store: store.deposit(bytes(32), b"2" * 16, bytes(2048), START),
            lambda store: store.deposit(token, b"3" * 16, bytes(2048), START),
        ]
    )
    assert outcomes[0] == outcomes[3] == box
    assert outcomes[1].refusal is Refusal.UNAVAILABLE
    assert outcomes[2].refusal is Refusal.TOKEN
    assert len(rig.waiting(box)) == 2
    assert rig.do("state", box).tokens == 1


def test_a_database_that_is_full(rig):
    """The hard limit of the file, whatever is charged: what is confirmed is kept, and can be taken."""
    box = rig.box()
    tokens = [rig.token(box, number, uses=1000) for number in range(8)]
    pages = rig.store._db.execute("PRAGMA page_count").fetchone()[0]
    rig.store._db.execute(f"PRAGMA max_page_count = {pages + 30}")
    kept = 0
    for number in range(60):
        envelope = str(number).encode().ljust(8192)
        deposit = tokens[number % 8], message_id_of(tokens[number % 8], envelope), envelope, START
        [outcome] = rig.store.run([lambda store, deposit=deposit: store.deposit(*deposit)])
        kept += outcome == box
        assert outcome == box or outcome.refusal is Refusal.UNAVAILABLE
    assert 0 < kept < 60
    assert len(rig.waiting(box)) == kept
    rig.check_sums()
    rig.do("taken", box, [mail.id for mail in rig.waiting(box)])
    assert rig.waiting(box) == []
    rig.deposit(tokens[0], "room again")


CHILD = """
import os, resource, signal, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from peers_live import START
from ptproxy.peers.mailbox_answers import RequestRefused
from ptproxy.peers.mailbox_delivery import message_id_of
from ptproxy.peers.mailbox_requests import Right, TokenGrant
from ptproxy.peers.mailbox_schema import NAME, SCHEMA, StoreLimits
from ptproxy.peers.mailbox_store import MailboxStore
from ptproxy.state import StateFolder
state = StateFolder(Path({folder!r}))
store = MailboxStore(state.database(NAME, SCHEMA), StoreLimits())
key, token = bytes(32), b"t" * 32
{setup}
[box] = store.run([lambda store: store.find_box(key, START) or store.make_box(key, START)])
store.run([lambda store: store.grant(box, [TokenGrant(token, Right.DEPOSIT, 60000, 30000)], START)])
number = {first}
while True:
    batch = []
    for _ in range(3):
        number += 1
        envelope = str(number).encode().ljust(2048)
        batch.append((number, message_id_of(token, envelope), envelope))
    def both(store, one):
        store.deposit(token, one[1], one[2], START)
        store.taken(box, [message_id_of(token, str(one[0] - 100).encode().ljust(2048))])
    outcomes = store.run([lambda store, one=one: both(store, one) for one in batch])
    for (done, _, _), outcome in zip(batch, outcomes):
        os.write(1, b"%d %s\\n" % (done, b"no" if isinstance(outcome, RequestRefused) else b"yes"))
"""


def child(folder, first=0, setup=""):
    code = CHILD.format(tests=str(Path(__file__).parent), folder=str(folder), first=first, setup=setup)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def confirmed(folder, process, enough):
    """Kill it after so many answers; the numbers that were confirmed."""
    said = b""
    while said.count(b"\n") < enough:
        data = process.stdout.read1(65536)
        assert data, process.stderr.read().decode()
        said += data
    process.send_signal(signal.SIGKILL)
    process.wait()
    said += process.stdout.read()
    process.stdout.close()
    process.stderr.close()
    return [int(line.split()[0]) for line in said.splitlines() if line.endswith(b"yes")]


def test_kill_9_loses_nothing_that_was_confirmed(tmp_path):
    """Each time in the middle of writing; the last hundred are kept, those before have been taken."""
    rng, last = random.Random(5), 0
    for _ in range(4):
        numbers = confirmed(tmp_path / "state", child(tmp_path / "state", last), rng.randrange(150, 400))
        rig = Rig(tmp_path / "state")
        box = rig.do("find_box", bytes(32), START)
        kept = [int(text) for text in (mail.envelope.decode() for mail in rig.waiting(box))]
        last = max(kept)  # what was committed may be ahead of what was said
        assert {number for number in numbers if number > last - 100} <= set(kept)
        assert not set(kept) & set(range(max(numbers) - 99))  # TAKEN was confirmed, too
        rig.check_sums()
        rig.close()


@pytest.mark.skipif(sys.platform != "linux", reason="limits of file size as Linux has them")
def test_a_disk_that_takes_no_more(tmp_path):
    """A real write that fails, at every size the log can have: what was confirmed is there afterwards."""
    limit = (
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300000, 300000))"
    )
    numbers = confirmed(tmp_path / "state", child(tmp_path / "state", 0, limit), 400)
    assert numbers
    assert max(numbers) < 399  # some were refused
    rig = Rig(tmp_path / "state")
    box = rig.do("find_box", bytes(32), START)
    kept = {int(mail.envelope) for mail in rig.waiting(box)}
    assert {number for number in numbers if number > max(kept) - 100} <= kept
    rig.check_sums()
    rig.close()


# ---- opening ------------------------------------------------------------------------------------


def test_a_database_that_another_program_holds(tmp_path):
    rig = Rig(tmp_path / "state")
    rig.box()
    rig.close()
    foreign = sqlite3.connect(tmp_path / "state" / "mailbox.sqlite3", timeout=0)
    foreign.execute("BEGIN IMMEDIATE")
    try:
        with (
            StateFolder(tmp_path / "state") as state,
            pytest.raises(StartError, match="another program has it open"),
        ):
            state.database(NAME, SCHEMA)
    finally:
        foreign.close()


def test_nobody_else_gets_in_while_it_is_open(rig, tmp_path):
    rig.box()
    foreign = sqlite3.connect(tmp_path / "state" / "mailbox.sqlite3", timeout=0)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        foreign.execute("SELECT * FROM boxes")
    foreign.close()


def test_what_is_no_database(tmp_path):
    with StateFolder(tmp_path / "state") as state:
        (tmp_path / "state" / "mailbox.sqlite3").write_bytes(b"something else " * 1000)
        with pytest.raises(StartError, match=r"mailbox\.sqlite3"):
            state.database(NAME, SCHEMA)


# ---- a random walk beside a simple model ---------------------------------------------------------


@pytest.mark.parametrize("seed", range(WALKS))
def test_a_walk(tmp_path, seed):
    """Any requests in any order, batched any way, reopened at any time: as a few dictionaries say."""
    rng = random.Random(seed)
    rig = Rig(tmp_path / "state")
    boxes = {rig.box(name): [] for name in "abc"}
    tokens: dict[bytes, list] = {}  # id → [box, uses, last message]
    for _ in range(60):
        step = rng.randrange(8)
        box = rng.choice(list(boxes))
        if step == 0:
            token = rng.randbytes(32)
            uses = rng.choice((1, 1, 3))
            rig.do("grant", box, [TokenGrant(token, Right.DEPOSIT, uses, FAR)], START)
            tokens[token] = [box, uses, None]
        elif step <= 3 and tokens:
            batch, expected = [], []
            for _ in range(rng.randrange(1, 5)):
                token = rng.choice(list(tokens))
                envelope = tokens[token][2] if rng.random() < 0.5 else None
                envelope = envelope or rng.randbytes(4).ljust(2048)
                batch.append((token, message_id_of(token, envelope), envelope, START))
                entry = tokens[token]
                known = (token, envelope) in boxes[entry[0]]
                if entry[2] == envelope or known:
                    expected.append(entry[0])
                elif not entry[1]:
                    expected.append(Refusal.TOKEN)
                else:
                    entry[1] -= 1
                    entry[2] = envelope
                    boxes[entry[0]].append((token, envelope))
                    expected.append(entry[0])
            outcomes = rig.store.run([lambda store, one=one: store.deposit(*one) for one in batch])
            assert [getattr(outcome, "refusal", outcome) for outcome in outcomes] == expected
        elif step <= 5:
            taken = rng.sample(boxes[box], rng.randrange(len(boxes[box]) + 1))
            rig.do("taken", box, [message_id_of(token, envelope) for token, envelope in taken])
            boxes[box] = [one for one in boxes[box] if one not in taken]
        elif step == 6 and tokens:
            token = rng.choice(list(tokens))
            rig.do("revoke", tokens.pop(token)[0], [token])
        elif rng.random() < 0.2:
            rig.again()
        for box, kept in boxes.items():
            assert [(mail.token_id, mail.envelope) for mail in rig.waiting(box)] == kept
    rig.check_sums()
    rig.close()


# ---- the owner's note ---------------------------------------------------------------------------


def test_a_note_takes_the_place_of_the_last_and_goes_with_its_box(rig):
    box, other = rig.box("a"), rig.box("b")
    assert rig.do("recall", box) == Note(b"")
    for note in (b"first", b"second"):
        rig.do("keep", box, note)
    assert (rig.do("recall", box), rig.do("recall", other)) == (Note(b"second"), Note(b""))
    rig.do("close_box", box)
    assert rig.store._db.execute("SELECT count(*) FROM notes").fetchone() == (0,)
    with pytest.raises(RequestRefused):
        rig.do("keep", box, b"third")


def test_a_mailbox_of_before_there_were_notes_gets_their_table(tmp_path):
    rig = Rig(tmp_path / "state")
    rig.store._db.execute("DROP TABLE notes")
    rig.close()
    rig = Rig(tmp_path / "state")
    box = rig.box()
    rig.do("keep", box, b"a note")
    rig.close()
    rig = Rig(tmp_path / "state")
    assert rig.do("recall", box) == Note(b"a note")
    rig.close()
