"""The access list of a running bridge: on disk, shared with commands, followed."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from proxy_live import LOOPS, run, until

from ptproxy.auth.access import Access, AccessList
from ptproxy.auth.access_record import Identity
from ptproxy.auth.credentials import new_token
from ptproxy.errors import AuthenticationError, StartError
from ptproxy.proxy.account_store import DATABASE, DOCUMENT, SqliteStore
from ptproxy.proxy.accounts import Accounts
from ptproxy.state import Document

NOW = 1_800_000_000.0
KEY, OTHER = bytes([7]) * 32, bytes([8]) * 32


@contextlib.contextmanager
def accounts_of(folder: Path, access: Access = Access.ENROLLED) -> Iterator[Accounts]:
    with contextlib.closing(SqliteStore(folder, access)) as store:
        yield Accounts(store)


def as_a_command(folder: Path, change) -> None:
    """What ``ptproxy invite`` does beside a running bridge."""
    with contextlib.closing(SqliteStore(folder, Access.ENROLLED)) as store:
        store.update(change)


def test_enrolment_is_on_disk_before_it_counts(tmp_path: Path) -> None:
    token = new_token(random.Random(1))
    with accounts_of(tmp_path) as accounts:
        with pytest.raises(AuthenticationError):
            accounts.decide(KEY, token.secret, NOW)
        as_a_command(tmp_path, lambda access_list: access_list.invite(token, "anna"))
        assert accounts.reload()
        admission = accounts.decide(KEY, token.secret, NOW)
        # Meanwhile a command enrols somebody else: neither change loses the other's.
        as_a_command(tmp_path, lambda access_list: access_list.enrol(Identity(OTHER, "otto", 1)))
        identity = accounts.spend(admission, NOW)
        assert identity is not None
        assert identity.name == "anna"
        with accounts_of(tmp_path) as fresh:
            for each in (accounts, fresh):
                each.check(KEY, NOW)
                each.check(OTHER, NOW)
                with pytest.raises(AuthenticationError):
                    each.decide(bytes(32), token.secret, NOW)
        # Once more, for a client that did not see the answer; and a known key writes nothing.
        before = changes_in(tmp_path)
        assert accounts.spend(accounts.decide(KEY, b"", NOW), NOW) == identity
        assert changes_in(tmp_path) == before


def changes_in(folder: Path) -> int:
    with contextlib.closing(sqlite3.connect(folder / DATABASE)) as database:
        return int(database.execute("SELECT max(number) FROM changes").fetchone()[0])


def test_a_token_used_up_meanwhile_is_refused(tmp_path: Path) -> None:
    token = new_token(random.Random(2))
    as_a_command(tmp_path, lambda access_list: access_list.invite(token, "anna"))
    with accounts_of(tmp_path) as one, accounts_of(tmp_path) as two:
        late = two.decide(OTHER, token.secret, NOW)
        one.spend(one.decide(KEY, token.secret, NOW), NOW)
        with pytest.raises(AuthenticationError):
            two.spend(late, NOW)
        two.check(KEY, NOW)  # what the other did came in with the attempt
        assert OTHER not in two.list.identities


def test_a_list_that_cannot_be_written_enrols_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = new_token(random.Random(3))
    as_a_command(tmp_path, lambda access_list: access_list.invite(token, "anna"))
    with accounts_of(tmp_path) as accounts:
        admission = accounts.decide(KEY, token.secret, NOW)

        def full(database, known) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        with monkeypatch.context() as patch:
            patch.setattr("ptproxy.proxy.account_store._write_touched", full)
            with pytest.raises(AuthenticationError):
                accounts.spend(admission, NOW)
        with pytest.raises(AuthenticationError):
            accounts.check(KEY, NOW)
        assert accounts.list.invites[admission.invite].uses_left == 1
        assert accounts.spend(admission, NOW) is not None


def test_another_process_that_has_the_list_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ptproxy.proxy.account_store.WAIT", 0.01)
    token = new_token(random.Random(3))
    as_a_command(tmp_path, lambda access_list: access_list.invite(token, "anna"))
    with (
        accounts_of(tmp_path) as accounts,
        contextlib.closing(sqlite3.connect(tmp_path / DATABASE, isolation_level=None)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        admission = accounts.decide(KEY, token.secret, NOW)
        with pytest.raises(AuthenticationError, match="cannot be written"):
            accounts.spend(admission, NOW)
        accounts.store.follow()  # reading waits for nobody
        other.execute("ROLLBACK")
        assert accounts.spend(admission, NOW) is not None


def test_open_access_keeps_no_list(tmp_path: Path) -> None:
    with accounts_of(tmp_path, Access.OPEN) as accounts:
        assert accounts.spend(accounts.decide(KEY, b"", NOW), NOW) is None
        accounts.store.follow()
        assert not list(tmp_path.iterdir())


def test_damage_keeps_a_bridge_from_starting_but_not_from_running(tmp_path: Path) -> None:
    as_a_command(tmp_path, lambda access_list: access_list.enrol(Identity(KEY, "anna", 1)))
    with accounts_of(tmp_path) as accounts:
        with contextlib.closing(sqlite3.connect(tmp_path / DATABASE, isolation_level=None)) as other:
            other.execute("UPDATE entries SET entry = '{}'")
        assert not accounts.reload()
        accounts.check(KEY, NOW)
        with pytest.raises(StartError, match=r"accounts\.sqlite3: identities"):
            SqliteStore(tmp_path, Access.ENROLLED)
    (tmp_path / DATABASE).write_bytes(b"no database" * 1000)
    with pytest.raises(StartError, match=r"accounts\.sqlite3"):
        SqliteStore(tmp_path, Access.ENROLLED)


# ---- the older form ----------------------------------------------------------------------------------


def older(folder: Path) -> AccessList:
    """A list as it was before there was a database."""
    access_list = AccessList()
    access_list.enrol(Identity(KEY, "anna", 1, reverse=(2222,)))
    access_list.invite(new_token(random.Random(5)), "otto", uses=3)
    Document(folder, DOCUMENT).write(access_list.to_dict())
    return access_list


def test_the_older_form_is_taken_in_once(tmp_path: Path) -> None:
    before = older(tmp_path)
    with accounts_of(tmp_path) as accounts:
        assert accounts.list.to_dict() == before.to_dict()
    assert not (tmp_path / "access.json").exists()
    assert (tmp_path / "access.json.taken").exists()
    as_a_command(tmp_path, lambda access_list: access_list.revoke(KEY))
    older(tmp_path)  # killed before it was put aside: it is not taken in again
    with accounts_of(tmp_path) as accounts:
        assert accounts.list.identities[KEY].revoked
    assert not (tmp_path / "access.json").exists()


def test_an_older_program_that_went_on_meanwhile_is_not_forgotten(tmp_path: Path) -> None:
    """Somebody went back to it, and revoked a key there."""
    known = older(tmp_path)
    with accounts_of(tmp_path) as accounts:
        accounts.check(KEY, NOW)
    known.revoke(KEY)
    Document(tmp_path, DOCUMENT).write(known.to_dict())
    with pytest.raises(StartError, match="move away the one that is not right"):
        SqliteStore(tmp_path, Access.ENROLLED)
    assert (tmp_path / "access.json").exists()
    for path in tmp_path.glob(f"{DATABASE}*"):
        path.unlink()
    with accounts_of(tmp_path) as accounts:
        assert accounts.list.identities[KEY].revoked


def test_a_damaged_older_form_keeps_a_bridge_from_starting(tmp_path: Path) -> None:
    older(tmp_path)
    path = tmp_path / "access.json"
    good = path.read_text()
    for damage in ("{", good.replace('"anna"', "5"), good.replace('"revoked"', '"x"')):
        path.write_text(damage)
        with pytest.raises(StartError, match=r"access\.json"):
            SqliteStore(tmp_path, Access.ENROLLED)
        assert path.exists()
    path.write_text(good)
    with accounts_of(tmp_path) as accounts:
        accounts.check(KEY, NOW)


# ---- followed ------------------------------------------------------------------------------------------


def test_who_has_not_looked_for_long_reads_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ptproxy.proxy.account_store.KEPT_CHANGES", 3)
    with accounts_of(tmp_path) as accounts, accounts_of(tmp_path) as writer:
        keys = [bytes([number]) * 32 for number in range(9)]
        for number, key in enumerate(keys):
            new = Identity(key, f"client {number}", 1)
            writer.store.update(lambda known, new=new: known.enrol(new))
        accounts.store.follow()
        assert accounts.list.identities == writer.list.identities
        writer.store.update(lambda known: known.revoke(keys[0]))
        for key in keys[1:6]:
            writer.store.update(lambda known, key=key: known.revoke(key))
        accounts.store.update(lambda known: known.revoke(keys[8]))  # within a transaction
        assert [key for key in keys if accounts.list.identities[key].revoked] == [*keys[:6], keys[8]]


@pytest.mark.parametrize("kind", LOOPS[:2])
def test_a_changed_file_is_followed(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        as_a_command(tmp_path, lambda access_list: access_list.enrol(Identity(KEY, "anna", 1)))
        accounts = Accounts(SqliteStore(tmp_path, Access.ENROLLED))
        changes = []
        accounts.watch(asyncio.get_running_loop(), lambda: changes.append(1), every=0.01)
        as_a_command(tmp_path, lambda access_list: access_list.revoke(KEY))
        await until(lambda: bool(changes))
        with pytest.raises(AuthenticationError):
            accounts.check(KEY, NOW)
        await accounts.close()
        await accounts.close()

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("uses", [1, 0])
def test_a_change_that_comes_in_with_an_enrolment_is_followed_as_well(
    uses: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else whoever was revoked kept what was open, if somebody else came in that moment."""

    async def main() -> None:
        token = new_token(random.Random(4))
        as_a_command(tmp_path, lambda access_list: access_list.enrol(Identity(KEY, "anna", 1)))
        as_a_command(tmp_path, lambda access_list: access_list.invite(token, "otto"))
        accounts = Accounts(SqliteStore(tmp_path, Access.ENROLLED))
        admission = accounts.decide(OTHER, token.secret, NOW)
        changes: list[str] = []
        accounts.on_change.append(lambda: changes.append("services"))
        accounts.watch(asyncio.get_running_loop(), lambda: changes.append("sessions"), every=0.01)

        def change(access_list: AccessList) -> None:
            access_list.revoke(KEY)
            if not uses:
                access_list.withdraw(admission.invite)

        as_a_command(tmp_path, change)
        if uses:
            accounts.spend(admission, NOW)
        else:
            with pytest.raises(AuthenticationError):
                accounts.spend(admission, NOW)
        await until(lambda: changes == ["services", "sessions"])
        with pytest.raises(AuthenticationError):
            accounts.check(KEY, NOW)
        await accounts.close()

    run(LOOPS[0], monkeypatch, main)
