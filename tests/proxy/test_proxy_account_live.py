"""Accounts at a running bridge: limits hold, sessions end, and the person at the client sees why."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from proxy_live import LOOPS, echo, run, serving, until
from test_proxy_roles import TOKEN, Files, Running, through

from ptproxy.auth.access import Access, AccessList
from ptproxy.auth.access_record import Identity
from ptproxy.auth.account import Account, month_of
from ptproxy.proxy import account_follow, account_meter
from ptproxy.proxy.account_follow import AccountFollower
from ptproxy.proxy.account_store import SqliteStore
from ptproxy.proxy.bridge import run_bridge
from ptproxy.proxy.client import run_client


class Scene:
    """A bridge and a client of the account anna, as tasks, and a target."""

    def __init__(self, folder: Path) -> None:
        self.files = Files(folder)
        self.state = folder / "bridge-state"
        self.followers: list[AccountFollower] = []
        self.proxy: tuple[str, int] = ("", 0)
        self.target: tuple[str, int] = ("", 0)

    def change(self, change: Callable[[AccessList], object]) -> None:
        """What ``ptproxy account`` does."""
        with contextlib.closing(SqliteStore(self.state, Access.ENROLLED)) as store:
            store.update(change)

    def set(self, **fields) -> None:
        self.change(lambda known: known.keep_account(replace(known.accounts["anna"], **fields)))

    @property
    def told(self) -> dict:
        return (self.followers[-1].state() if self.followers else None) or {}

    async def works(self, data: bytes = b"hello") -> bool:
        return await through(self.proxy, self.target, data) == data

    async def until_works(self, expected: bool) -> None:
        while await self.works() is not expected:
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def scene(folder: Path, monkeypatch: pytest.MonkeyPatch, **limits) -> AsyncIterator[Scene]:
    made = Scene(folder)
    monkeypatch.setattr(account_follow, "AGAIN", (0.01, 0.02))
    monkeypatch.setattr(account_meter, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(account_meter, "WRITE_EVERY", 0.1)

    def follower(dialer):
        made.followers.append(AccountFollower(dialer, (0.0, 0.0)))
        return made.followers[-1]

    monkeypatch.setattr("ptproxy.proxy.client.AccountFollower", follower)
    key = made.files.keys["client"].public

    def begin(known: AccessList) -> None:
        known.withdraw(TOKEN.id)  # the link's: it would let an expired client in again
        known.enrol(Identity(key, "anna", 1))
        known.keep_account(Account("anna", int(time.time()), **limits))

    made.change(begin)
    async with serving(echo) as made.target:
        bridge = Running(run_bridge, made.files.bridge())
        await bridge.ready()
        client = Running(run_client, made.files.client())
        made.proxy = await client.ready()
        try:
            yield made
        finally:
            os.kill(os.getpid(), signal.SIGTERM)  # the client, which was last to ask for it
            await client.task
            bridge.task.cancel()
            await asyncio.gather(bridge.task, return_exceptions=True)


@pytest.mark.parametrize("kind", LOOPS[:1])
def test_a_quota_ends_streams_and_says_so_until_there_is_more(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with scene(tmp_path, monkeypatch, quota=200_000) as here:
            await until(lambda: here.told.get("state") == "in force")
            assert (here.told["name"], here.told["quota"]) == ("anna", 200_000)
            assert here.told["resets_at"] == month_of(1, time.time())[1]
            _, writer = await asyncio.open_connection(*here.proxy)
            assert await here.works(bytes(50_000))
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await here.works(bytes(150_000))  # goes over the quota, and may be ended on the way back
            await until(lambda: here.told["state"] == "quota")
            assert here.told["left"] == 0
            assert here.told["used"] >= 200_000
            await here.until_works(False)
            await until(lambda: _used(here) >= 200_000)  # and it is written
            here.set(quota=10_000_000)
            await until(lambda: here.told["state"] == "in force")
            await here.until_works(True)
            writer.close()

    run(kind, monkeypatch, main)


def _used(here: Scene) -> int:
    with contextlib.closing(SqliteStore(here.state, Access.ENROLLED)) as store:
        used = store.list.used.get("anna")
        return used.total if used is not None else 0


def test_a_revoked_client_is_told_and_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with scene(tmp_path, monkeypatch) as here:
            await until(lambda: here.told.get("state") == "in force")
            host, port = here.proxy
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"\5\1\0\5\1\0\1" + bytes([127, 0, 0, 1]) + here.target[1].to_bytes(2, "big"))
            await reader.readexactly(12)
            writer.write(b"there")
            assert await reader.readexactly(5) == b"there"
            here.change(lambda known: known.remove_account("anna"))
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""  # the stream that was open ends
            writer.close()
            await until(lambda: here.told["state"] == "revoked")
            await here.until_works(False)

    run(LOOPS[0], monkeypatch, main)


def test_a_disabled_account_is_told_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with scene(tmp_path, monkeypatch) as here:
            await until(lambda: here.told.get("state") == "in force")
            here.set(enabled=False)
            await until(lambda: here.told["state"] == "disabled")

    run(LOOPS[0], monkeypatch, main)


def test_an_expired_account_is_let_in_to_be_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with scene(tmp_path, monkeypatch, expires_at=int(time.time()) - 60) as here:
            await until(lambda: here.told.get("state") == "expired")
            assert not await here.works()
            here.set(expires_at=None)
            await until(lambda: here.told["state"] == "in force")
            await here.until_works(True)

    run(LOOPS[0], monkeypatch, main)


def test_targets_are_the_accounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with scene(tmp_path, monkeypatch, targets=("127.0.0.1:1",), rate=1 << 20) as here:
            assert not await here.works()
            here.set(targets=(f"127.0.0.1:{here.target[1]}",))
            await here.until_works(True)
            assert await here.works(bytes(3 << 20))  # at its rate: whole, whatever its streams wait

    run(LOOPS[0], monkeypatch, main)
