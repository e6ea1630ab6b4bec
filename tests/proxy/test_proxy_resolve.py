"""The resolver: both families, sharing, keeping, bounds, and names that do not exist."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest
from proxy_live import LOOPS, run, until

from ptproxy.errors import DialError, Reason
from ptproxy.proxy import resolve
from ptproxy.proxy.resolve import Resolver


def found(*addresses: str):
    """An answer of getaddrinfo."""
    return [
        (socket.AF_INET6, 1, 6, "", (text, 0, 0, 0)) if ":" in text else (socket.AF_INET, 1, 6, "", (text, 0))
        for text in addresses
    ]


class Names:
    """A look-up that can be held up, and counts."""

    def __init__(self, table) -> None:
        self.table = table
        self.asked: list[str] = []
        self.running = self.most = 0
        self.go = threading.Event()
        self.go.set()
        self.lock = threading.Lock()

    def __call__(self, name: str):
        with self.lock:
            self.asked.append(name)
            self.running += 1
            self.most = max(self.most, self.running)
        try:
            self.go.wait(20)
            answer = self.table.get(name, socket.gaierror(socket.EAI_NONAME, "no"))
            if isinstance(answer, Exception):
                raise answer
            return answer
        finally:
            with self.lock:
                self.running -= 1


async def reason(coroutine) -> Reason:
    with pytest.raises(DialError) as caught:
        await coroutine
    return caught.value.reason


@pytest.mark.parametrize("kind", LOOPS[:2])
def test_addresses_in_order_without_repeats(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        names = Names({"a.example": found("2a00::1", "1.2.3.4", "1.2.3.4", "fe80::1%eth0")})
        resolver = Resolver(asyncio.get_running_loop(), lookup=names)
        assert resolver.known("a.example") is None
        answer = await resolver.resolve("a.example")
        assert [str(ip) for ip in answer] == ["2a00::1", "1.2.3.4", "fe80::1"]
        assert resolver.known("a.example") == answer == await resolver.resolve("a.example")
        assert names.asked == ["a.example"]
        resolver.close()

    run(kind, monkeypatch, main)


def test_the_system_s_resolver_knows_localhost(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        answer = await Resolver(asyncio.get_running_loop()).resolve("localhost")
        assert all(ip.is_loopback for ip in answer)

    run("asyncio", monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS[:2])
def test_one_look_up_for_all_who_wait(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        names = Names(
            {"a.example": found("1.2.3.4"), "b.example": socket.gaierror(socket.EAI_AGAIN, "later")}
        )
        names.go.clear()
        resolver = Resolver(asyncio.get_running_loop(), lookup=names)
        waiting = [asyncio.ensure_future(resolver.resolve(name)) for name in ["a.example", "b.example"] * 10]
        await until(lambda: len(names.asked) == 2)
        waiting[0].cancel()
        names.go.set()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert all(str(ips[0]) == "1.2.3.4" for ips in results[2::2])
        assert {error.reason for error in results[1::2]} == {Reason.NAME_NOT_FOUND}
        assert len({id(error) for error in results[1::2]}) == 10
        assert sorted(names.asked) == ["a.example", "b.example"]

    run(kind, monkeypatch, main)


def test_failures_and_what_they_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        table = {
            "memory.example": socket.gaierror(socket.EAI_MEMORY, "x"),
            "empty.example": [],
            "label.example": UnicodeError("label too long"),
            "os.example": OSError(5, "x"),
            "bug.example": RuntimeError("x"),
        }
        resolver = Resolver(asyncio.get_running_loop(), lookup=Names(table))
        expected = [
            Reason.GENERAL,
            Reason.NAME_NOT_FOUND,
            Reason.NAME_NOT_FOUND,
            Reason.NAME_NOT_FOUND,
            Reason.GENERAL,
        ]
        assert [await reason(resolver.resolve(name)) for name in table] == expected
        assert await reason(resolver.resolve("none.example")) is Reason.NAME_NOT_FOUND
        with pytest.raises(DialError):
            resolver.known("none.example")

    run("asyncio", monkeypatch, main)


def test_answers_are_kept_for_a_while_and_not_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(resolve, "MAX_KEPT", 3)
        names = Names({f"{number}.example": found("1.2.3.4") for number in range(5)})
        resolver = Resolver(asyncio.get_running_loop(), lookup=names)
        for number in range(5):
            await resolver.resolve(f"{number}.example")
        assert [resolver.known(f"{number}.example") is not None for number in range(5)] == [False] * 2 + [
            True
        ] * 3
        monkeypatch.setattr(resolve, "KEEP", -1.0)
        monkeypatch.setattr(resolve, "KEEP_FAILURE", -1.0)
        await resolver.resolve("0.example")
        assert resolver.known("0.example") is None
        await reason(resolver.resolve("none.example"))
        assert resolver.known("none.example") is None

    run("asyncio", monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS[:2])
def test_bounds(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(resolve, "MAX_WAITING", 4)
        names = Names({f"{number}.example": found("1.2.3.4") for number in range(9)})
        names.go.clear()
        resolver = Resolver(asyncio.get_running_loop(), lookup=names, threads=2)
        waiting = [asyncio.ensure_future(resolver.resolve(f"{number}.example")) for number in range(6)]
        await until(lambda: names.running == 2)
        assert await reason(resolver.resolve("8.example")) is Reason.LIMIT
        names.go.set()
        assert len(await asyncio.gather(*waiting)) == 6
        assert names.most == 2
        assert str((await resolver.resolve("8.example"))[0]) == "1.2.3.4"

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS[:2])
def test_a_silent_name_server_and_the_end(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        names = Names({"slow.example": found("1.2.3.4")})
        names.go.clear()
        resolver = Resolver(asyncio.get_running_loop(), lookup=names, timeout=0.02)
        assert await reason(resolver.resolve("slow.example")) is Reason.TIMED_OUT
        patient = Resolver(asyncio.get_running_loop(), lookup=names)
        waiting = asyncio.ensure_future(patient.resolve("slow.example"))
        await until(lambda: names.running == 2)
        patient.close()
        assert await reason(waiting) is Reason.SHUTDOWN
        assert await reason(patient.resolve("slow.example")) is Reason.SHUTDOWN
        names.go.set()
        await until(lambda: resolver.known("slow.example") is not None)

    run(kind, monkeypatch, main)
