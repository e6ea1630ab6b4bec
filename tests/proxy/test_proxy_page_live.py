"""The client's page over real sockets: whole visits, the slow, the many, and the end."""

from __future__ import annotations

import asyncio
import re
import stat

import pytest
from client_page_rig import StoodIn, client_state, form_body, post, request_head
from proxy_live import LOOPS, Program, run, until

from ptproxy.config.quantities import Endpoint
from ptproxy.errors import StartError
from ptproxy.proxy.page import port as page_port
from ptproxy.proxy.page.guard import MAX_PICTURE, Keys
from ptproxy.proxy.page.port import PagePort

HERE = Endpoint("127.0.0.1", 0)


async def asked(bound: Endpoint, data: bytes) -> bytes:
    """The answer to a request."""
    with await Program.connect((bound.host, bound.port)) as program:
        await program.send(data)
        return bytes(await program.read_all())


async def ended(program: Program) -> bool:
    """Whether its connection ends without a word."""
    try:
        return await program.read(1) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize("kind", LOOPS)
def test_a_visit_from_the_file_to_the_page(kind, monkeypatch, tmp_path) -> None:
    async def main() -> None:
        client = StoodIn(client_state())
        page = PagePort(asyncio.get_running_loop(), client)
        bound = await page.listen(HERE)
        opening = page.write_opening(tmp_path / "new")
        assert stat.S_IMODE(opening.stat().st_mode) == 0o600
        (door,) = set(re.findall(rf"http://{bound}(/[\w-]+)", opening.read_text()))
        answer = await asked(bound, f"GET {door} HTTP/1.1\r\nHost: {bound}\r\n\r\n".encode())
        cookie = re.search(rb"Set-Cookie: (ptproxy=[\w-]+); Path=(/[\w-]+/);", answer)
        assert cookie is not None
        head = f"GET {cookie[2].decode()} HTTP/1.1\r\nHost: {bound}\r\nCookie: {cookie[1].decode()}\r\n\r\n"
        assert b"Connected" in await asked(bound, head.encode())
        empty = await asked(bound, head.replace("GET", "HEAD").encode())
        assert empty.startswith(b"HTTP/1.1 200")
        assert empty.endswith(b"\r\n\r\n")
        form = post("link", {"link": b"ptproxy://x"}, keys=page.keys, authority=str(bound))
        assert (await asked(bound, form)).startswith(b"HTTP/1.1 303")
        assert client.taken == [b"ptproxy://x"]
        await until(lambda: not page.connections)
        await page.stop()

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_who_is_slow_or_one_too_many_is_closed(kind, monkeypatch) -> None:
    monkeypatch.setattr(page_port, "MAX_CONNECTIONS", 2)

    async def main() -> None:
        page = PagePort(asyncio.get_running_loop(), StoodIn(client_state()))
        bound = await page.listen(HERE)
        address = (bound.host, bound.port)
        with await Program.connect(address) as one, await Program.connect(address) as other:
            await until(lambda: len(page.connections) == 2)
            with await Program.connect(address) as third:
                assert await ended(third)
            await one.send(b"GET / HTTP/1.1\r\n")
            for connection in list(page.connections):
                assert connection._timer is not None
                connection.overdue()  # what its timer calls
            assert await ended(one)
            assert await ended(other)
        await until(lambda: not page.connections)
        await page.stop()

    run(kind, monkeypatch, main)


def test_a_head_has_little_time_and_a_body_more_but_few_of_them(monkeypatch) -> None:
    monkeypatch.setattr(page_port, "HEAD_PATIENCE", 3600.0)
    monkeypatch.setattr(page_port, "MAX_ADMITTED", 1)

    async def main() -> None:
        keys = Keys()
        page = PagePort(asyncio.get_running_loop(), StoodIn(client_state()), keys)
        bound = await page.listen(HERE)
        begun = request_head("POST", "link", authority=str(bound), keys=keys, content_length="100")
        address = (bound.host, bound.port)
        with await Program.connect(address) as slow:
            await slow.send(begun)
            await until(lambda: any(each.is_admitted for each in page.connections))
            monkeypatch.setattr(page_port, "HEAD_PATIENCE", 0.01)
            with await Program.connect(address) as mute:
                assert await ended(mute)  # by its timer
            monkeypatch.setattr(page_port, "HEAD_PATIENCE", 3600.0)
            busy = await asked(bound, request_head(authority=str(bound), keys=keys))
            assert busy.startswith(b"HTTP/1.1 503")
            assert any(each.is_admitted for each in page.connections)
            await page.stop()
            assert await ended(slow)

    run("asyncio", monkeypatch, main)


def test_a_body_that_is_too_long_is_told_so_and_not_kept(monkeypatch) -> None:
    async def main() -> None:
        keys = Keys()
        page = PagePort(asyncio.get_running_loop(), StoodIn(client_state()), keys)
        bound = await page.listen(HERE)
        length = str(MAX_PICTURE + 1)
        head = request_head("POST", "link", authority=str(bound), keys=keys, content_length=length)
        answer = await asked(bound, head + bytes(1 << 20))  # a reset does not overtake the answer
        assert answer.startswith(b"HTTP/1.1 413")
        assert b"too large" in answer
        await page.stop()

    run("asyncio", monkeypatch, main)


def test_strangers_get_nothing(monkeypatch) -> None:
    async def main() -> None:
        client = StoodIn(client_state())
        page = PagePort(asyncio.get_running_loop(), client)
        bound = await page.listen(HERE)
        for data in (
            b"GET / HTTP/1.1\r\nHost: attacker.example\r\n\r\n",
            post("link", {"link": b"x"}, authority=str(bound)),  # of another start's keys
            form_body({"a": b"x"}),
            b"\x16\x03\x01\x02\x00" + bytes(600) + b"\r\n\r\n",
        ):
            answer = await asked(bound, data)
            assert answer.startswith(b"HTTP/1.1 4")
            assert b"Set-Cookie" not in answer
            assert b"1080" not in answer
        assert not client.taken
        await page.stop()

    run("asyncio", monkeypatch, main)


def test_what_fails_is_answered_and_told_to_the_loop(monkeypatch) -> None:
    class Broken(StoodIn):
        async def look(self):
            raise ZeroDivisionError

    async def main() -> None:
        keys = Keys()
        page = PagePort(asyncio.get_running_loop(), Broken(), keys)
        bound = await page.listen(HERE)
        told: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        answer = await asked(bound, request_head(authority=str(bound), keys=keys))
        assert answer.startswith(b"HTTP/1.1 500")
        assert isinstance(told[0]["exception"], ZeroDivisionError)
        await page.stop()

    run("asyncio", monkeypatch, main)


def test_it_listens_on_this_machine_alone(monkeypatch) -> None:
    async def main() -> None:
        page = PagePort(asyncio.get_running_loop(), StoodIn())
        with pytest.raises(StartError, match="this machine"):
            await page.listen(Endpoint("0.0.0.0", 0))
        bound = await page.listen(HERE)
        with pytest.raises(StartError, match="another program"):
            await PagePort(asyncio.get_running_loop(), StoodIn()).listen(bound)
        await page.stop()

    run("asyncio", monkeypatch, main)
