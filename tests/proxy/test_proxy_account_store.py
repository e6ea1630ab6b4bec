"""Accounts in SQLite: several processes at once, kills, and what is counted."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ptproxy.auth.access import Access
from ptproxy.auth.access_record import Identity
from ptproxy.auth.account import Account, Used, month_of
from ptproxy.auth.credentials import new_token
from ptproxy.errors import AuthenticationError, StartError
from ptproxy.proxy.account_store import DATABASE, SqliteStore

NOW = 1_800_000_000.0
ROOT = Path(__file__).parent.parent.parent


def store_of(folder: Path):
    return contextlib.closing(SqliteStore(folder, Access.ENROLLED))


def in_a_process(folder: Path, program: str, **options) -> subprocess.Popen[str]:
    head = (
        "import sys; from pathlib import Path\n"
        "from ptproxy.auth.access import Access\n"
        "from ptproxy.auth.access_record import Identity\n"
        "from ptproxy.proxy.account_store import SqliteStore\n"
        "store = SqliteStore(Path(sys.argv[1]), Access.ENROLLED)\n"
    )
    command = [sys.executable, "-c", head + program, str(folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, **options)


def test_two_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    """Both begin without a database: its making is one's at a time as well."""
    program = (
        "for number in range(40):\n"
        "    key = bytes([{0}, number]) * 16\n"
        "    store.update(lambda known: known.enrol(Identity(key, 'client {0} %d' % number, 1)))\n"
        "    store.add_moved({{'anna': (1, 2)}}, {{'anna': 1}}, 1.8e9)\n"
    )
    writers = [in_a_process(tmp_path, program.format(number)) for number in (1, 2)]
    for each in writers:
        assert each.communicate(timeout=120)[0] == ""
        assert each.returncode == 0
    with store_of(tmp_path) as store:
        assert len(store.list.identities) == 80
        assert store.list.used == {"anna": Used(month_of(1, NOW)[0], 80, 160)}


def test_a_last_use_is_one_processs(tmp_path: Path) -> None:
    token = new_token(random.Random(1))
    with store_of(tmp_path) as one, store_of(tmp_path) as two:
        one.update(lambda known: known.keep_account(Account("anna", 1)))
        one.update(lambda known: known.invite(token, "anna", uses=9, account="anna"))
        two.follow()
        keys = [bytes([number]) * 32 for number in (1, 2)]
        admissions = [
            each.list.decide(key, token.secret, NOW) for each, key in zip((one, two), keys, strict=True)
        ]
        one.update(lambda known: known.spend(admissions[0], NOW))
        with pytest.raises(AuthenticationError, match="all its devices"):
            two.update(lambda known: known.spend(admissions[1], NOW))
        assert two.list.to_dict() == one.list.to_dict()
        assert not two.list.touched


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX's")
def test_what_was_written_survives_a_kill_anywhere(tmp_path: Path) -> None:
    program = (
        "number = 1\n"
        "while True:\n"
        "    key = number.to_bytes(32, 'big')\n"
        "    store.update(lambda known: (known.enrol(Identity(key, 'a %d' % number, 1)),\n"
        "                                known.enrol(Identity(key[::-1], 'b %d' % number, 1))))\n"
        "    store.add_moved({'anna': (1, 1)}, {'anna': 1}, 1.8e9)\n"
        "    number += 1\n"
        "    print(number, flush=True)\n"
    )
    rng = random.Random(7)
    for _ in range(4):
        with in_a_process(tmp_path, program) as writer:
            assert writer.stdout is not None
            for _ in range(rng.randrange(1, 15)):
                last = int(writer.stdout.readline())
            os.kill(writer.pid, signal.SIGKILL)
            said = [int(line) for line in writer.stdout.read().split()]
            last = said[-1] if said else last
        with store_of(tmp_path) as store:
            known = {each.name for each in store.list.identities.values()}
            assert {f"{side} {number}" for side in "ab" for number in range(1, last)} <= known
            sides = [{name[2:] for name in known if name.startswith(side)} for side in "ab"]
            assert sides[0] == sides[1]  # a transaction is whole


def test_what_a_month_moved_ends_with_it(tmp_path: Path) -> None:
    since, until = month_of(5, NOW)
    with store_of(tmp_path) as store:
        store.add_moved({"anna": (1, 2), "gone": (9, 9)}, {"anna": 5}, NOW)
        assert store.add_moved({"anna": (1, 0)}, {"anna": 5}, until - 1) == {"anna": Used(since, 2, 2)}
        assert store.add_moved({"anna": (0, 7)}, {"anna": 5}, until) == {"anna": Used(until, 0, 7)}
        # A clock that was set back a little adds to the month that there is.
        assert store.add_moved({"anna": (1, 0)}, {"anna": 5}, until - 86_400) == {"anna": Used(until, 1, 7)}


@pytest.mark.parametrize("ahead", [32, 400, 10_000])
def test_a_month_that_a_wrong_clock_began_does_not_last_until_then(tmp_path: Path, ahead: int) -> None:
    since, until = month_of(5, NOW)
    with store_of(tmp_path) as store:
        store.add_moved({"anna": (1, 2)}, {"anna": 5}, NOW)
        store.add_moved({"anna": (30, 40)}, {"anna": 5}, NOW + ahead * 86_400)
        assert store.add_moved({"anna": (5, 5)}, {"anna": 5}, NOW) == {"anna": Used(since, 35, 45)}
        assert store.add_moved({"anna": (1, 1)}, {"anna": 5}, until) == {"anna": Used(until, 1, 1)}


def test_counting_in_a_thread_beside_changes(tmp_path: Path) -> None:
    with store_of(tmp_path) as store:
        store.update(lambda known: known.keep_account(Account("anna", 1)))
        errors: list[BaseException] = []

        def count() -> None:
            try:
                for _ in range(50):
                    store.add_moved({"anna": (1, 1)}, {"anna": 1}, NOW)
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=count)
        thread.start()
        for number in range(50):
            new = Identity(number.to_bytes(32, "big"), f"client {number}", 1)
            store.update(lambda known, new=new: known.enrol(new))
            store.follow()
        thread.join()
        assert not errors
    with store_of(tmp_path) as store:
        assert store.list.used["anna"].total == 100
        assert len(store.list.identities) == 50


def test_counting_that_fails_says_so_and_adds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ptproxy.proxy.account_store.WAIT", 0.01)
    with store_of(tmp_path) as store:
        store.add_moved({"anna": (1, 1)}, {"anna": 1}, NOW)
        with contextlib.closing(sqlite3.connect(tmp_path / DATABASE, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StartError, match="cannot count"):
                store.add_moved({"anna": (1, 1)}, {"anna": 1}, NOW)
        assert store.add_moved({}, {}, NOW)["anna"].total == 2


def test_what_somebody_changes_by_hand_is_followed(tmp_path: Path) -> None:
    key = bytes([7]) * 32
    with store_of(tmp_path) as store:
        store.update(lambda known: known.enrol(Identity(key, "anna", 1)))
        with contextlib.closing(sqlite3.connect(tmp_path / DATABASE, isolation_level=None)) as hand:
            hand.execute("UPDATE entries SET entry = json_set(entry, '$.revoked', json('true'))")
        assert not store.news
        store.follow()
        assert store.news
        assert store.list.identities[key].revoked
        with contextlib.closing(sqlite3.connect(tmp_path / DATABASE, isolation_level=None)) as hand:
            hand.execute("DELETE FROM entries")
        store.follow()
        assert not store.list.identities


def test_what_a_command_changes_is_seen_while_we_count(tmp_path: Path) -> None:
    """POSIX: whoever closes any descriptor of a file loses all locks on it. Where a second connection's
    opening did that, the command's end took the log away beneath us, and nothing was followed any more."""
    program = (
        "store.update(lambda known: known.enrol(Identity(bytes([{0}]) * 32, 'client {0}', 1)))\n"
        "store.close()\n"
    )
    with store_of(tmp_path) as store:
        store.update(lambda known: known.keep_account(Account("anna", 1)))
        for number in range(3):
            store.add_moved({"anna": (1, 1)}, {"anna": 1}, NOW)
            store.follow()
            for words in ("store.close()", program.format(number)):  # one that only looks, one that changes
                assert in_a_process(tmp_path, words).communicate(timeout=120)[0] == ""
            store.follow()
            assert len(store.list.identities) == number + 1
            assert store.add_moved({}, {}, NOW)["anna"].total == 2 * number + 2
    with store_of(tmp_path) as store:
        assert len(store.list.identities) == 3
        assert store.list.used["anna"].total == 6


class Between:
    """A connection at whose next commit somebody else commits right behind."""

    def __init__(self, database: sqlite3.Connection, then: Callable[[], None]) -> None:
        self._database = database
        self._then: Callable[[], None] | None = then

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        cursor = self._database.execute(statement, *values)
        then, self._then = (self._then, None) if statement == "COMMIT" else (None, self._then)
        if then is not None:
            then()
        return cursor


def test_what_is_committed_right_behind_a_change_of_ours_is_followed(tmp_path: Path) -> None:
    """A revocation that a command made in that moment was never seen by the bridge."""
    key, other = bytes([1]) * 32, bytes([2]) * 32
    with store_of(tmp_path) as bridge, store_of(tmp_path) as command:
        bridge.update(lambda known: known.enrol(Identity(key, "anna", 1)))
        behind = Between(bridge._database, lambda: command.update(lambda known: known.revoke(key)))
        bridge._database = behind
        bridge.update(lambda known: known.enrol(Identity(other, "otto", 1)))
        bridge.follow()
        assert bridge.list.identities[key].revoked
        assert bridge.news


def by_hand(folder: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(folder / DATABASE)) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()


def test_an_impossible_entry_that_is_gone_again_is_nothing(tmp_path: Path) -> None:
    """It ended the task that follows the list, and with it every later revocation."""
    key = bytes([1]) * 32
    with store_of(tmp_path) as store:
        store.update(lambda known: known.enrol(Identity(key, "anna", 1)))
        by_hand(
            tmp_path,
            "INSERT INTO entries VALUES ('identities', 'anna', '{}')",
            "DELETE FROM entries WHERE id = 'anna'",
        )
        store.follow()
        assert set(store.list.identities) == {key}


def test_a_damaged_entry_keeps_nobody_in(tmp_path: Path) -> None:
    keys = [bytes([number]) * 32 for number in range(1, 5)]
    with store_of(tmp_path) as store:
        for number, key in enumerate(keys):
            store.update(lambda known, k=key, n=number: known.enrol(Identity(k, f"client {n}", 1)))
        by_hand(
            tmp_path,
            "INSERT INTO entries VALUES ('invites', 'x', '{}'), ('accounts', 'x', '{}')",
            "UPDATE entries SET entry = replace(entry, '\"revoked\":false', '\"revoked\":true')",
        )
        with pytest.raises(StartError, match=r"(invites|accounts) x"):
            store.follow()
        assert all(store.list.identities[key].revoked for key in keys)


@pytest.mark.parametrize("with_another", [False, True])
def test_a_database_that_was_replaced_under_us_enrols_nobody(with_another: bool, tmp_path: Path) -> None:
    """A backup that was put back: the bridge went on in a file that nobody else has."""
    key, other = bytes([1]) * 32, bytes([2]) * 32
    with store_of(tmp_path) as store:
        store.update(lambda known: known.enrol(Identity(key, "anna", 1)))
        for path in tmp_path.glob(f"{DATABASE}*"):
            path.unlink()
        if with_another:
            with store_of(tmp_path) as command:
                command.update(lambda known: known.enrol(Identity(key, "anna", 1, revoked=True)))
        with pytest.raises(StartError, match="replaced or removed"):
            store.follow()
        with pytest.raises(StartError, match="replaced or removed"):
            store.update(lambda known: known.enrol(Identity(other, "otto", 1)))
        assert other not in store.list.identities
        with pytest.raises(StartError, match="replaced or removed"):
            store.add_moved({"anna": (1, 2)}, {"anna": 1}, NOW)
    if with_another:
        with store_of(tmp_path) as command:
            assert command.list.identities[key].revoked


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE entries SET id = 'x' WHERE kind = 'identities'",
        "UPDATE entries SET kind = 'idDntities' WHERE kind = 'identities'",
        "UPDATE entries SET entry = '[]'",
        "UPDATE moved SET since = 'x'",
    ],
)
def test_a_damaged_database_is_one_kind_of_error(damage: str, tmp_path: Path) -> None:
    """What else came up ended the tasks that follow the list and count."""
    with store_of(tmp_path) as store:
        store.update(lambda known: known.enrol(Identity(bytes([1]) * 32, "anna", 1)))
        store.add_moved({"anna": (1, 2)}, {"anna": 1}, NOW)
        by_hand(tmp_path, "PRAGMA ignore_check_constraints = ON", damage)
        if "moved" in damage:
            with pytest.raises(StartError):
                store.add_moved({"otto": (1, 2)}, {"otto": 1}, NOW)
        else:
            with pytest.raises(StartError):
                store.follow()
    with pytest.raises(StartError):
        SqliteStore(tmp_path, Access.ENROLLED)


@pytest.mark.parametrize("row", ["'identities', NULL, '{}'", "'identities', 7, 7", "NULL, NULL, NULL"])
def test_columns_that_hold_no_text_are_the_same_error(row: str, tmp_path: Path) -> None:
    with store_of(tmp_path) as store:
        store.update(lambda known: known.enrol(Identity(bytes([1]) * 32, "anna", 1)))
    by_hand(
        tmp_path,
        "DROP TABLE entries",
        "CREATE TABLE entries (kind, id, entry)",
        f"INSERT INTO entries VALUES ({row})",
    )
    with pytest.raises(StartError):
        SqliteStore(tmp_path, Access.ENROLLED)


def test_damage_that_sqlite_cannot_put_into_words_is_the_same_error(tmp_path: Path) -> None:
    """A trigger that names a table in bytes that are no UTF-8: Python cannot read what SQLite says of it."""
    with store_of(tmp_path) as store:
        store.update(lambda known: known.enrol(Identity(bytes([1]) * 32, "anna", 1)))
    path = tmp_path / DATABASE
    database = sqlite3.connect(path)
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    damaged = path.read_bytes().replace(b"INSERT INTO changes", b"INSERT INTO chan\x9ees")
    path.write_bytes(damaged)
    with store_of(tmp_path) as store:
        with pytest.raises(StartError):
            store.update(lambda known: known.enrol(Identity(bytes([2]) * 32, "otto", 1)))
        assert bytes([1]) * 32 in store.list.identities
        assert bytes([2]) * 32 not in store.list.identities
