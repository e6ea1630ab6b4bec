"""A machine that changes its network is told of it; on Linux by a real interface in a namespace."""

from __future__ import annotations

import asyncio
import errno
import subprocess
import sys
import textwrap
from typing import Any

import pytest

from ptproxy.tunnel import surroundings
from ptproxy.tunnel.surroundings import SurroundingsWatch, look_around
from ptproxy.ways import Gateway, Surroundings

HOME = Surroundings(frozenset({"192.0.2.7"}), (Gateway("wlan0", "192.0.2.1", "aa:bb:cc:dd:ee:ff"),))
CAFE = Surroundings(frozenset({"198.51.100.9"}), (Gateway("wlan0", "198.51.100.1", "00:11:22:33:44:55"),))


def watched(run: Any, monkeypatch: Any, looks: list[Surroundings], drifts: list[float]) -> list[Any]:
    """What is told while these are seen, a look a tick, without the kernel's word."""
    told: list[Any] = []
    monkeypatch.setattr(surroundings, "TICK", 0.001)
    monkeypatch.setattr(surroundings, "routing_socket", lambda: None)
    monkeypatch.setattr(surroundings, "_drift", lambda: drifts.pop(0) if len(drifts) > 1 else drifts[0])

    async def main() -> None:
        loop = asyncio.get_running_loop()
        watch = SurroundingsWatch(
            loop,
            lambda change: told.append((change.now, change.lost)),
            look=lambda: looks.pop(0) if len(looks) > 1 else looks[0],
        )
        while len(looks) > 1 or len(drifts) > 1:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        watch.close()

    run(main())
    return told


def test_another_network_is_told_once_with_what_was_lost(run: Any, monkeypatch: Any) -> None:
    away = Surroundings()
    told = watched(run, monkeypatch, [HOME, HOME, away, away, CAFE, CAFE], [0.0])
    assert told == [(away, HOME.addresses), (CAFE, frozenset())]


def test_after_a_sleep_every_connection_is_doubted(run: Any, monkeypatch: Any) -> None:
    assert watched(run, monkeypatch, [HOME], [0.0, 0.0, 3600.0]) == [(HOME, HOME.addresses)]


def test_where_the_kernels_tables_are_kept_from_us_the_address_tells(monkeypatch: Any) -> None:
    class Kept:
        def __truediv__(self, name: str) -> Kept:
            return self

        def read_bytes(self) -> bytes:
            raise PermissionError

        read_text = read_bytes

    monkeypatch.setattr(surroundings, "PROC", Kept())
    seen = look_around()
    assert {each.interface for each in seen.gateways} <= {""}
    assert seen.connected == bool(seen.addresses)


def test_a_network_gets_its_better_name_without_a_change(run: Any, monkeypatch: Any) -> None:
    """The gateway's hardware address is known a moment later, and forgotten now and then."""
    bare = Surroundings(HOME.addresses, (Gateway("wlan0", "192.0.2.1"),))
    looks = [bare, bare, HOME, bare]
    changed, named = [], []
    monkeypatch.setattr(surroundings, "routing_socket", lambda: None)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        watch = SurroundingsWatch(loop, changed.append, named.append, lambda: looks.pop(0))
        while looks:
            watch.look()
        watch.close()
        assert watch.current.name(bytes(32)) == HOME.name(bytes(32))

    run(main())
    assert changed == []
    assert [each.gateways[0].hardware for each in named] == [HOME.gateways[0].hardware]


def test_a_look_around_is_repeatable() -> None:
    assert look_around() == look_around()


INSIDE = """
    import asyncio, subprocess
    from ptproxy.tunnel.surroundings import SurroundingsWatch
    from ptproxy.ways import Gateway

    def ip(*words):
        subprocess.run(["ip", *words], check=True)

    async def main():
        told = asyncio.Queue()
        watch = SurroundingsWatch(
            asyncio.get_running_loop(), lambda change: told.put_nowait((change.now, change.lost))
        )
        assert watch._socket is not None
        watch._timer.cancel()  # by the kernel's word alone
        assert not watch.current.connected, watch.current
        ip("link", "add", "d0", "type", "veth", "peer", "name", "d1")
        ip("addr", "add", "192.0.2.7/24", "dev", "d0")
        ip("link", "set", "d1", "up")
        ip("link", "set", "d0", "up")
        ip("route", "add", "default", "via", "192.0.2.1")
        async with asyncio.timeout(60):
            now, _ = await told.get()
            while not now.connected:
                now, _ = await told.get()
        assert now.addresses == {"192.0.2.7"} and now.gateways == (Gateway("d0", "192.0.2.1"),), now
        ip("link", "set", "d0", "down")
        async with asyncio.timeout(60):
            now, lost = await told.get()
            while now.connected:
                now, lost = await told.get()
        assert lost == {"192.0.2.7"}, lost
        watch.close()
        print("told")

    asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="rtnetlink is Linux's")
@pytest.mark.program("ip", "unshare")
def test_the_kernel_tells_of_a_network(tmp_path: Any) -> None:
    script = tmp_path / "inside.py"
    script.write_text(textwrap.dedent(INSIDE))
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--net", sys.executable, script],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if "unshare" in done.stderr or "Unknown device type" in done.stderr:
        pytest.skip("this kernel gives no such namespace")
    assert done.stdout == "told\n", done.stderr


def test_an_address_that_is_only_preferred_no_more_is_not_lost(run: Any, monkeypatch: Any) -> None:
    """Temporary addresses take turns; connections from the former one are well (RFC 8981 section 3.4)."""
    before = Surroundings(frozenset({"127.0.0.1"}), HOME.gateways)
    told = watched(run, monkeypatch, [before, before, HOME], [0.0])
    assert told == [(HOME, frozenset())]
    gone = Surroundings(frozenset({"192.0.2.77"}), HOME.gateways)
    assert watched(run, monkeypatch, [HOME, gone], [0.0]) == [(gone, HOME.addresses)]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS])
def test_no_descriptor_for_a_look_is_no_other_network(run: Any, monkeypatch: Any, number: int) -> None:
    """Else a program that opens too many connections would end every carrier."""
    changed: list[Any] = []
    monkeypatch.setattr(surroundings, "routing_socket", lambda: None)

    class Scarce:
        def __init__(self, *words: object) -> None:
            raise OSError(number, "no more")

    async def main() -> None:
        watch = SurroundingsWatch(asyncio.get_running_loop(), changed.append)
        before = watch.current
        with monkeypatch.context() as scarce:
            scarce.setattr(surroundings.socket, "socket", Scarce)
            watch.look()
        watch.look()
        watch.close()
        assert watch.current == before

    run(main())
    assert changed == []
