"""The access list of a running bridge: on disk, shared with commands, followed."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import pytest
from proxy_live import LOOPS, run, until

from ptproxy.auth.access import Access, AccessList
from ptproxy.auth.access_record import Identity
from ptproxy.auth.credentials import new_token
from ptproxy.errors import AuthenticationError, StartError
from ptproxy.proxy.accounts import DOCUMENT, Accounts
from ptproxy.state import Document

NOW = 1_800_000_000.0
KEY, OTHER = bytes([7]) * 32, bytes([8]) * 32


def document(folder: Path) -> Document:
    return Document(folder, DOCUMENT)


def as_a_command(folder: Path, change) -> None:
    """What ``ptproxy invite`` does beside a running bridge."""

    def update(data):
        access_list = AccessList.from_dict(data) if data is not None else AccessList()
        change(access_list)
        return access_list.to_dict()

    document(folder).update(update)


def test_enrolment_is_on_disk_before_it_counts(tmp_path: Path) -> None:
    token = new_token(random.Random(1))
    accounts = Accounts(document(tmp_path), Access.ENROLLED)
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
    fresh = Accounts(document(tmp_path), Access.ENROLLED)
    for each in (accounts, fresh):
        each.check(KEY, NOW)
        each.check(OTHER, NOW)
        with pytest.raises(AuthenticationError):
            each.decide(bytes(32), token.secret, NOW)
    # Once more, for a client that did not see the answer; and a known key writes nothing.
    before = (tmp_path / "access.json").stat()
    assert accounts.spend(accounts.decide(KEY, b"", NOW), NOW) == identity
    assert (tmp_path / "access.json").stat() == before


def test_a_token_used_up_meanwhile_is_refused(tmp_path: Path) -> None:
    token = new_token(random.Random(2))
    as_a_command(tmp_path, lambda access_list: access_list.invite(token, "anna"))
    one, two = (Accounts(document(tmp_path), Access.ENROLLED) for _ in range(2))
    late = two.decide(OTHER, token.secret, NOW)
    one.spend(one.decide(KEY, token.secret, NOW), NOW)
    with pytest.raises(AuthenticationError):
        two.spend(late, NOW)


def test_a_list_that_cannot_be_written_enrols_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = new_token(random.Random(3))
    as_a_command(tmp_path, lambda access_list: access_list.invite(token, "anna"))
    accounts = Accounts(document(tmp_path), Access.ENROLLED)
    admission = accounts.decide(KEY, token.secret, NOW)

    def full(self, data) -> None:
        raise StartError("cannot write access.json: no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Document, "write", full)
        with pytest.raises(AuthenticationError):
            accounts.spend(admission, NOW)
    with pytest.raises(AuthenticationError):
        accounts.check(KEY, NOW)
    assert accounts.spend(admission, NOW) is not None


def test_open_access_keeps_no_list(tmp_path: Path) -> None:
    accounts = Accounts(document(tmp_path), Access.OPEN)
    assert accounts.spend(accounts.decide(KEY, b"", NOW), NOW) is None
    assert not (tmp_path / "access.json").exists()


def test_damage_keeps_a_bridge_from_starting_but_not_from_running(tmp_path: Path) -> None:
    as_a_command(tmp_path, lambda access_list: access_list.enrol(Identity(KEY, "anna", 1)))
    accounts = Accounts(document(tmp_path), Access.ENROLLED)
    path = tmp_path / "access.json"
    good = json.loads(path.read_text())
    for damage in ("{", json.dumps(good | {"data": {"version": 1, "identities": 5}})):
        path.write_text(damage)
        assert not accounts.reload()
        accounts.check(KEY, NOW)
        with pytest.raises(StartError, match=r"access\.json"):
            Accounts(document(tmp_path), Access.ENROLLED)


@pytest.mark.parametrize("kind", LOOPS[:2])
def test_a_changed_file_is_followed(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        as_a_command(tmp_path, lambda access_list: access_list.enrol(Identity(KEY, "anna", 1)))
        accounts = Accounts(document(tmp_path), Access.ENROLLED)
        changes = []
        accounts.watch(asyncio.get_running_loop(), lambda: changes.append(1), every=0.01)
        as_a_command(tmp_path, lambda access_list: access_list.revoke(KEY))
        await until(lambda: bool(changes))
        with pytest.raises(AuthenticationError):
            accounts.check(KEY, NOW)
        await accounts.close()
        await accounts.close()

    run(kind, monkeypatch, main)
