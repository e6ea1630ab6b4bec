"""The PAC file: what it says, and to whom."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy_live import LOOPS, Program, run, until

from ptproxy.config.quantities import Endpoint
from ptproxy.proxy import this_machine
from ptproxy.proxy.pac import KIND, PATH, PacServer, pac_text
from ptproxy.proxy.this_machine import Page, answer_to


def pages(path: str) -> Page | None:
    return Page(KIND, b"the file") if path == PATH else None


GET = b"GET /proxy.pac HTTP/1.1\r\nHost: 127.0.0.1:1081\r\n\r\n"


async def ended(program: Program) -> bool:
    """Whether its connection ends without a word."""
    try:
        return await program.read(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("kind", LOOPS)
def test_it_is_served(kind, monkeypatch) -> None:
    monkeypatch.setattr(this_machine, "MAX_CONNECTIONS", 2)

    async def main() -> None:
        server = PacServer(asyncio.get_running_loop(), Endpoint("127.0.0.1", 1080))
        address = await server.listen("127.0.0.1", 0)
        with await Program.connect(address) as program:
            for byte in GET:
                await program.send(bytes([byte]))
            answer = await program.read_all()
        assert answer.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ns-proxy-autoconfig\r\n")
        assert answer.endswith(b"\r\n\r\n" + pac_text(Endpoint("127.0.0.1", 1080)).encode())
        with await Program.connect(address) as one, await Program.connect(address) as other:
            await until(lambda: len(server.connections) == 2)
            with await Program.connect(address) as third:  # one too many
                assert await ended(third)
            await one.send(GET)
            assert (await one.read_all()).startswith(b"HTTP/1.1 200")
            await server.stop()
            assert await ended(other)
        await until(lambda: not server.connections)

    run(kind, monkeypatch, main)


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (GET, b"200"),
        (GET.replace(b"127.0.0.1", b"localhost"), b"200"),
        (GET.replace(b"127.0.0.1:1081", b"[::1]:1081"), b"200"),
        (GET.replace(b".pac", b".pac?x=1"), b"200"),
        (GET.replace(b"GET", b"HEAD"), b"200"),
        (GET.replace(b"GET", b"POST"), b"400"),
        (GET.replace(b".pac", b".js"), b"404"),
        (GET.replace(b"127.0.0.1:1081", b"attacker.example"), b"400"),  # a name of somebody's page
        (GET.replace(b"Host: 127.0.0.1:1081\r\n", b""), b"400"),
        (GET.replace(b"\r\n\r\n", b"\r\nHost: attacker.example\r\n\r\n"), b"400"),
        (GET.replace(b"/proxy.pac", b"http://127.0.0.1/proxy.pac"), b"400"),
        (GET.replace(b"\r\n\r\n", b"\r\nX: " + bytes(9000) + b"\r\n\r\n"), b"400"),
    ],
)
def test_only_this_machine_is_answered(request_head: bytes, status: bytes) -> None:
    answer = answer_to(request_head, pages)
    assert answer.split(b" ")[1] == status
    assert answer.endswith(b"the file") == (status == b"200" and request_head.startswith(b"GET"))


def test_no_page_of_another_site_may_run_it() -> None:
    """It is JavaScript: as ``<script src>`` any page could call it, and learn of the proxy."""
    head, _, _ = answer_to(GET, pages).partition(b"\r\n\r\n")
    fields = head.split(b"\r\n")
    assert b"X-Content-Type-Options: nosniff" in fields  # Fetch, section 3.6: no script of that type
    assert b"Cross-Origin-Resource-Policy: same-origin" in fields  # Fetch, section 3.7


@given(st.binary(max_size=200))
def test_garbage_gets_an_answer(data: bytes) -> None:
    assert answer_to(data, pages).startswith((b"HTTP/1.1 400", b"HTTP/1.1 404", b"HTTP/1.1 200"))


def test_nothing_goes_around_the_proxy() -> None:
    text = pac_text(Endpoint("::1", 1080))
    assert 'return "PROXY [::1]:1080";' in text
    assert "SOCKS" not in text  # with which some browsers look names up by themselves
    assert text.count("DIRECT") == 1  # this machine's own
