"""The service ``account``: what is told, to whom, when; and what a client takes of it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_proxy_exit import FakeIncoming

from ptproxy.auth.access import Access
from ptproxy.auth.access_record import Identity
from ptproxy.auth.account import Account, Used, month_of
from ptproxy.errors import Reason, RemoteProtocolError, StartError
from ptproxy.proxy import account_follow
from ptproxy.proxy.account_follow import AccountFollower
from ptproxy.proxy.account_meter import AccountMeter
from ptproxy.proxy.account_service import MAX_OF_ONE, AccountService, FrameReader, Told
from ptproxy.proxy.account_store import SqliteStore
from ptproxy.proxy.accounts import Accounts
from ptproxy.target import Target
from ptproxy.tunnel.recognise import ACCOUNT_SERVICE

KEY = bytes([7]) * 32
NUMBERS = st.none() | st.integers(0, 2**63 - 1)
FRAMES = st.builds(
    Told,
    st.text(st.characters(codec="utf-8", categories=("L", "N")), max_size=64),
    st.sampled_from(["in force", "expired", "quota", "disabled", "revoked", "something new"]),
    NUMBERS, NUMBERS, st.integers(0, 2**63 - 1), NUMBERS, NUMBERS,
)  # fmt: skip


@given(st.lists(FRAMES, max_size=3), st.integers(1, 50))
def test_frames_come_back_however_they_are_cut(frames: list[Told], step: int) -> None:
    data = b"".join(each.serialize() for each in frames)
    reader = FrameReader()
    found = []
    for start in range(0, len(data), step):
        found += reader.receive_data(data[start : start + step])
    assert found == frames


@given(st.binary(max_size=200) | FRAMES.map(lambda each: each.serialize()[:-3] + b"5}\x00"))
def test_any_bytes_are_frames_or_an_error(data: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        FrameReader().receive_data(data)


@pytest.mark.parametrize("body", [b"", b"x", b"[" * 2000, b"{}", b'{"used": true}', b"\xff"])
def test_nonsense(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        FrameReader().receive_data(len(body).to_bytes(2, "big") + body)


@contextlib.asynccontextmanager
async def service_of(folder: Path, **limits):
    with contextlib.closing(SqliteStore(folder, Access.ENROLLED)) as store:
        store.update(lambda known: known.enrol(Identity(KEY, "anna", 1)))
        store.update(lambda known: known.keep_account(Account("anna", 1, **limits)))
        service = AccountService(Accounts(store))
        await service.start(None)  # type: ignore[arg-type]
        yield service, store.list
        await service.close()


def opened(service: AccountService, peer: str = "anna") -> FakeIncoming:
    incoming = FakeIncoming(Target.service(ACCOUNT_SERVICE))
    incoming.peer = peer
    service(incoming)
    return incoming


def said(incoming: FakeIncoming) -> list[Told]:
    frames = FrameReader().receive_data(bytes(incoming.stream.written))
    incoming.stream.written.clear()
    return frames


def test_only_what_is_noticeable_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        async with service_of(tmp_path, quota=1000) as (service, known):
            incoming = opened(service)
            (first,) = said(incoming)
            assert (first.name, first.state, first.quota, first.used) == ("anna", "in force", 1000, 0)
            since = month_of(1, time.time())[0]
            for used, told in ((100, []), (499, []), (500, ["in force"]), (600, []), (1000, ["quota"])):
                known.used["anna"] = Used(since, used, 0)
                service.look()
                assert [each.state for each in said(incoming)] == told
            incoming.stream.protocol.data_received(b"?")
            assert [each.used for each in said(incoming)] == [1000]
            incoming.stream.protocol.data_received(b"???")  # too soon
            assert said(incoming) == []
            known.keep_account(replace(known.accounts["anna"], enabled=False))
            incoming.stream.protocol.pause_writing()
            service.look()
            assert said(incoming) == []
            incoming.stream.protocol.resume_writing()
            assert [each.state for each in said(incoming)] == ["disabled"]
            incoming.stream.protocol.data_received(b"what?")
            assert incoming.stream.reset_reason is Reason.GENERAL

    asyncio.run(main())


def test_who_is_not_known_and_who_asks_too_often(tmp_path: Path) -> None:
    async def main() -> None:
        async with service_of(tmp_path) as (service, _):
            assert opened(service, "nobody").refused is Reason.UNSUPPORTED
            many = [opened(service) for _ in range(MAX_OF_ONE + 1)]
            assert [each.refused for each in many] == [None] * MAX_OF_ONE + [Reason.LIMIT]
            many[0].stream.close()
            await asyncio.sleep(0)
            assert opened(service).refused is None
            service.end_streams()
            assert opened(service).refused is Reason.SHUTDOWN

    asyncio.run(main())


def test_what_is_left() -> None:
    async def main() -> None:
        follower = AccountFollower(None)  # type: ignore[arg-type]
        assert follower.state() is None
        follower.received(Told("anna", "in force", None, 1000, 400, 5, None))
        state = follower.state()
        assert state is not None
        assert (state["left"], state["name"], state["state"]) == (600, "anna", "in force")
        follower.received(Told("anna", "quota", 2**62, 1000, 1400, 2**62, None))
        state = follower.state()
        assert state is not None
        assert state["left"] == 0
        await follower.stop()

    asyncio.run(main())


def test_the_last_word_gets_into_the_log_though_it_comes_right_behind_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines: list[str] = []
    shown = asyncio.Event()

    class Log:
        def info(self, text: str, **_: object) -> None:
            lines.append(text)

        def warning(self, text: str, **_: object) -> None:
            lines.append(text)
            shown.set()

    monkeypatch.setattr(account_follow, "log", Log())

    async def main(wait: float) -> None:
        monkeypatch.setattr(account_follow, "SHOW_EVERY", wait)
        lines.clear()
        shown.clear()
        follower = AccountFollower(None)  # type: ignore[arg-type]
        follower.received(Told("anna", "in force", None, 1000, 400, 5, None))
        for used in range(500, 900, 100):
            follower.received(Told("anna", "in force", None, 1000, used, 5, None))
        follower.received(Told("anna", "revoked", None, 1000, 900, 5, None))
        assert lines == ["account"]  # the others wait
        if wait < 1:
            await shown.wait()
        await follower.stop()
        assert lines[1:] == ["the bridge's operator has revoked this client's key"]

    asyncio.run(main(0.05))
    asyncio.run(main(3600.0))  # a client that ends before says it at its end


class FakeTunnel:
    def __init__(self) -> None:
        self.peer = "anna"
        self.total = (0, 0)

    def moved(self) -> tuple[int, int]:
        return self.total


def test_what_is_counted_is_written_once_also_where_writing_fails(tmp_path: Path) -> None:
    async def main() -> None:
        with contextlib.closing(SqliteStore(tmp_path, Access.ENROLLED)) as store:
            store.update(lambda known: known.keep_account(Account("anna", 1)))
            tunnels = [FakeTunnel(), FakeTunnel()]
            meter = AccountMeter(Accounts(store), lambda: tunnels, lambda: None)  # type: ignore[arg-type, return-value]
            real, failures = store.add_moved, [1, 1]

            def failing(*arguments):
                if failures and failures.pop():
                    raise StartError("disk full")
                return real(*arguments)

            store.add_moved = failing  # type: ignore[method-assign]
            meter.start(asyncio.get_running_loop())
            for step in range(1, 6):
                for tunnel in tunnels:
                    tunnel.total = (10 * step, step)
                meter.look()
                assert store.list.used["anna"].total == 22 * step
                await meter.write()
                assert store.list.used["anna"].total == 22 * step
            gone = tunnels.pop()
            gone.total = (60, 5)
            meter.session_over(gone)  # type: ignore[arg-type]
            writing = asyncio.ensure_future(meter.write())
            await asyncio.sleep(0)
            writing.cancel()  # as the task is that counts, when the bridge stops
            await asyncio.gather(writing, return_exceptions=True)
            await meter.close()
            used = store.add_moved({}, {}, time.time())["anna"]
            assert (used.up, used.down) == (110, 10)

    asyncio.run(main())
