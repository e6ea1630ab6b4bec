"""What becomes of streams when pages, the browser or the client die, or the browser is updated."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from chromium_rig import processes, site, until
from tunnel_live import ECHO, Collect

from ptproxy.errors import DialError, Reason
from ptproxy.tunnel.chromium import browser as browser_module
from ptproxy.tunnel.chromium.devtools import BrowserError
from ptproxy.tunnel.chromium.guest import Guest

pytestmark = pytest.mark.program("chromium", "nginx")

ROOT = Path(__file__).parents[3]


async def said_back(stream: Any, program: Collect, text: bytes) -> None:
    """The echo of what is said now, whenever it comes."""
    program.data.clear()
    stream.write(text)
    assert await program.until(len(text)) == text


@pytest.mark.parametrize(
    "kind", ["renderer", "utility", ""], ids=["its pages", "its network service", "the browser"]
)
@pytest.mark.parametrize("codec", ["websocket", "http"])
def test_streams_outlive_what_is_killed(browse: Any, tmp_path: Path, kind: str, codec: str) -> None:
    async def main() -> None:
        async with site(tmp_path) as there:
            browser = there.chromium()
            dialer = there.browsing(codec, browser)
            await dialer.start()
            first = next(iter(dialer.tunnel.carriers))
            program = Collect()
            stream = await dialer.dial(ECHO, program)
            await said_back(stream, program, b"before")
            for pid in processes(tmp_path, kind) if kind else [browser.process_id]:
                os.kill(pid, signal.SIGKILL)
            await until(lambda: first not in dialer.tunnel.carriers)
            await said_back(stream, program, b"after")
            assert len(there.exit.asked) == 1  # the stream itself, not another

    browse(main())


@pytest.mark.parametrize(
    "failure",
    [BrowserError("the browser does not answer Page.navigate"), DialError(Reason.HOST_UNREACHABLE)],
    ids=["a page that does not answer", "a visit that reaches nothing"],
)
def test_a_guest_that_fails_ends_no_carrier_of_another(
    browse: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: DialError
) -> None:
    async def main() -> None:
        async with site(tmp_path) as there:
            browser = there.chromium()
            dialer = there.browsing("websocket", browser)
            await dialer.start()
            first, process = next(iter(dialer.tunnel.carriers)), browser.process_id
            visit, fails = Guest.visit, iter([failure])

            async def failing(guest: Guest, origin: str, page: str) -> Any:
                for error in fails:
                    raise error
                return await visit(guest, origin, page)

            async def addresses(*_: Any) -> list[str]:
                return ["127.0.0.1", "127.0.0.2"]  # nobody is at the second

            monkeypatch.setattr(browser_module, "bridge_addresses", addresses)
            monkeypatch.setattr(Guest, "visit", failing)
            with pytest.raises(type(failure)):
                await browser.visit()
            visited = await browser.visit()
            assert (await visited.run.answers(), browser.process_id) == (True, process)
            visited.drop()
            stream = await dialer.dial(ECHO, program := Collect())
            await said_back(stream, program, b"as before")
            assert list(dialer.tunnel.carriers) == [first]

    browse(main())


def test_killed_clients_leave_no_browser_and_the_next_one_starts(browse: Any, tmp_path: Path) -> None:
    async def main() -> None:
        async with site(tmp_path) as there:
            there.chromium()  # for the pinned key
            arguments = (str(tmp_path), str(there.port), there.key.public.hex(), there.digest.hex())
            for turn in range(2):
                child = await asyncio.create_subprocess_exec(
                    sys.executable, str(Path(__file__).parent / "chromium_child.py"), *arguments,
                    stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)},
                )  # fmt: skip
                assert child.stdout is not None
                while not (await child.stdout.readline()).startswith(b"ready"):
                    assert child.returncode is None
                assert processes(tmp_path)
                child.kill()  # the second one starts while the first one's browser may still be there
                await child.wait()
                died = time.monotonic()
                if turn:
                    await until(lambda: not processes(tmp_path))
                    print(f"browser gone after {time.monotonic() - died:.2f} s")

    browse(main())


def updatable(folder: Path, first: str = "") -> Path:
    """A browser that can be updated: a script that starts the real one."""
    program = folder / "browser"
    real = f'exec {shutil.which("chromium")} "$@"'
    program.write_text(f'#!/bin/sh\ntest "$1" = --version && {real}\n{first}\n{real}\n')
    program.chmod(0o700)
    return program


def test_an_updated_browser_takes_over(browse: Any, tmp_path: Path) -> None:
    async def main() -> None:
        async with site(tmp_path) as there:
            program = updatable(tmp_path)
            browser = there.chromium(program=program)
            dialer = there.browsing("websocket", browser)
            await dialer.start()
            before = browser.process_id
            local = Collect()
            stream = await dialer.dial(ECHO, local)
            await said_back(stream, local, b"before")
            other = there.browsing("http", browser)
            await other.start()
            assert browser.process_id == before
            replacement = updatable(tmp_path / "..")
            replacement.rename(program)
            await said_back(stream, local, b"not disturbed by an update alone")
            assert browser.process_id == before
            await other.tunnel.connect("http")  # the next carrier is the new one's
            assert browser.process_id not in (before, None)
            await said_back(stream, local, b"after")

    browse(main())


def test_a_profile_that_the_browser_cannot_use_is_replaced(
    browse: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        monkeypatch.setattr(browser_module, "START_PAUSE", 0.01)
        async with site(tmp_path) as there:
            poison = tmp_path / "chromium" / "profile" / "poison"
            poison.parent.mkdir(parents=True)
            poison.write_text("")
            browser = there.chromium(program=updatable(tmp_path, f"test -e {poison} && exit 1"))
            await there.browsing("websocket", browser).start()
            assert not poison.exists()
            assert poison.parent.stat().st_mode & 0o777 == 0o700

    browse(main())


def test_a_browser_that_never_stays_is_given_up(
    browse: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        monkeypatch.setattr(browser_module, "START_PAUSE", 0.01)
        async with site(tmp_path) as there:
            browser = there.chromium(program=updatable(tmp_path, "echo broken >&2; exit 1"))
            with pytest.raises(DialError, match="broken"):
                await there.browsing("websocket", browser).start()
            assert browser.process_id is None

    browse(main())
