"""Hellos: what this client says, what installed browsers say, and how far they are apart."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import os
import random
import shutil
import signal
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hello_bytes import GREASE, python_hello

from ptproxy.codec.client_hello import ClientHello, ClientHelloReader
from ptproxy.errors import StartError
from ptproxy.inspect.greeting import HTTP1, HTTP2, GreetingServer
from ptproxy.inspect.ja4 import ja4
from ptproxy.inspect.own_hello import own_hellos
from ptproxy.inspect.recorded import RecordedHello, Traits, most_alike, recorded_hellos
from ptproxy.tunnel.certificate import self_signed

NAME = "site.example"


def certificate() -> tuple[bytes, bytes]:
    return self_signed(NAME, datetime.now(UTC), random.SystemRandom())


def own(fingerprint: str):
    pem, key = certificate()
    leaf = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem.decode())).digest()
    return asyncio.run(own_hellos(fingerprint, NAME, pem, key, leaf))


def of_python() -> ClientHello:
    hello = ClientHelloReader().receive_data(python_hello(NAME, "http/1.1"))
    assert hello is not None
    return hello


class TestRecordings:
    def test_they_are_of_two_browsers_and_both_uses(self) -> None:
        kinds = {(one.browser, one.use, one.resumed) for one in recorded_hellos()}
        for browser in ("chromium", "firefox"):
            for use in ("page", "websocket"):
                for resumed in (False, True):
                    assert (browser, use, resumed) in kinds

    def test_each_says_where_it_is_from(self) -> None:
        for one in recorded_hellos():
            datetime.strptime(one.recorded, "%Y-%m-%d")  # noqa: DTZ007
            assert one.version
            assert one.platform
            assert one.ja4[:4] == "t13d"
            assert one.resumed is (41 in one.traits.extensions)
            assert RecordedHello.parse(one.serialize()) == one

    def test_what_was_measured_stands_in_them(self) -> None:
        found = {str(one): one.ja4 for one in recorded_hellos()}
        assert found["chromium 156, page, first"] == "t13d1517h2_8daaf6152771_cb7bf5808d99"
        assert found["chromium 156, websocket, resumed"] == "t13d1517h1_8daaf6152771_c4a234726a38"
        assert found["firefox 153, page, resumed"] == "t13d1617h2_86a278354501_e6dcd7ae0a9e"


class TestLikeness:
    def test_values_of_grease_order_of_extensions_and_the_name_do_not_count(self) -> None:
        python = of_python()
        extensions = [pair for pair in python.extensions if pair[0] != 0]
        random.Random(1).shuffle(extensions)

        def greased(value: int, rest: list[tuple[int, bytes]]) -> Traits:
            ciphers = (value, *python.cipher_suites)
            return Traits.of(
                dataclasses.replace(python, cipher_suites=ciphers, extensions=((value, b""), *rest))
            )

        one = greased(GREASE[1], list(python.extensions))
        assert one.differences(greased(GREASE[2], extensions)) == []
        assert one.differences(Traits.of(python)) == ["grease: has ciphers 0, extensions of 0"]

    def test_an_extension_of_another_size_counts(self) -> None:
        python = of_python()
        longer = tuple((kind, body + b"\0" * (kind == 23)) for kind, body in python.extensions)
        (told,) = Traits.of(dataclasses.replace(python, extensions=longer)).differences(Traits.of(python))
        assert told == "sizes: has 23: 1; lacks 23: 0"

    def test_a_difference_is_told_by_what_is_there_and_what_is_not(self) -> None:
        hello = of_python()
        traits = Traits.of(hello)
        other = dataclasses.replace(
            traits,
            extensions=tuple(sorted({*traits.extensions, 51764} - {16})),
            alpn=("h2", "http/1.1"),
            ciphers=traits.ciphers[::-1],
        )
        assert traits.differences(other) == [
            "alpn: lacks h2",
            "ciphers: another order",
            "extensions: has ALPN (16); lacks trust_anchors (51764)",
        ]

    def test_a_browsers_hello_for_another_use_is_told(self) -> None:
        page = next(one for one in recorded_hellos() if str(one) == "chromium 156, page, first")
        wrong = dataclasses.replace(page, use="websocket")
        hello = of_python()
        known = [dataclasses.replace(wrong, traits=Traits.of(hello))]
        assert most_alike(hello, "websocket", known).equal
        told = most_alike(hello, "page", known)
        assert told.differences == ("use: a browser says this for a websocket, not for a page",)

    def test_the_browser_that_is_meant_is_compared_with(self) -> None:
        known = recorded_hellos()
        assert most_alike(of_python(), "page", known, ("firefox",)).recorded.browser == "firefox"
        assert most_alike(of_python(), "page", known, ("chromium",)).recorded.browser == "chromium"


class TestOwn:
    def test_python_is_no_browser(self) -> None:
        said = own("python")
        assert [(one.greeting, one.after) for one in said] == [
            ("visit", None), ("page", "visit"), ("websocket", "visit"),
        ]  # fmt: skip
        for one in said:
            assert one.heard.use == one.use
            assert one.heard.hello.server_name == NAME
            assert not one.heard.resumed
            assert not most_alike(one.heard.hello, one.use, recorded_hellos()).equal

    @pytest.mark.parametrize("fingerprint", ["chrome", "firefox"])
    def test_what_a_browser_s_fingerprint_says(self, fingerprint: str) -> None:
        pytest.importorskip("curl_cffi", exc_type=ImportError)
        said = own(fingerprint)
        assert [one.heard.resumed for one in said] == [False, True, True]
        known = recorded_hellos()
        for one in said:
            assert any(ja4(one.heard.hello) == recorded.ja4 for recorded in known), ja4(one.heard.hello)
            assert one.heard.size > 1000

    def test_another_program_s_hello_cannot_be_said(self) -> None:
        with pytest.raises(StartError, match="--listen"):
            own("browser")


class TestServer:
    def test_strangers_are_let_go_and_leave_no_greeting(self) -> None:
        async def main() -> None:
            async with GreetingServer(*certificate()) as server:
                for data in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\3\1\0\5hello"):
                    reader, writer = await asyncio.open_connection(*server.address)
                    writer.write(data)
                    writer.write_eof()
                    assert await reader.read() == b""
                    writer.close()
                    with contextlib.suppress(OSError):
                        await writer.wait_closed()
                assert server.heard == []

        asyncio.run(main())

    def test_a_hello_counts_without_a_request(self) -> None:
        async def main() -> None:
            async with GreetingServer(*certificate()) as server:
                _, writer = await asyncio.open_connection(*server.address)
                writer.write(python_hello(NAME))
                writer.write_eof()
                await server.news.wait()
                assert [one.use for one in server.heard] == ["none"]
                assert server.heard[0].size == len(python_hello(NAME))
                writer.close()

        asyncio.run(main())


@pytest.mark.program("chromium")
@pytest.mark.parametrize("alpn", [HTTP1, HTTP2])
def test_an_installed_chromium_is_recognised(tmp_path: Path, alpn: tuple[str, ...]) -> None:
    program = shutil.which("chromium")
    assert program is not None

    async def main():
        async with GreetingServer(*certificate(), alpn=alpn) as server:
            host, port = server.address
            process = await asyncio.create_subprocess_exec(
                program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic",
                "--no-first-run", "--disable-background-networking", "--disable-component-update",
                "--ignore-certificate-errors",
                f"--host-resolver-rules=MAP {NAME} {host}:{port},MAP * ~NOTFOUND,EXCLUDE 127.0.0.1",
                f"--user-data-dir={tmp_path}", f"https://{NAME}/",
                stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
            try:
                async with asyncio.timeout(60):
                    while "websocket" not in {one.use for one in server.heard}:
                        server.news.clear()
                        await server.news.wait()
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
            return server.heard

    seen = asyncio.run(main())
    page, socket = (next(one for one in seen if one.use == use) for use in ("page", "websocket"))
    assert page.hello.alpn == (b"h2", b"http/1.1")
    assert socket.hello.alpn == (b"http/1.1",)
    assert socket.resumed
    best = most_alike(page.hello, "page", recorded_hellos())
    assert "chromium" in best.recorded.browser  # of any version: not one cipher suite or extension more apart
    assert len(best.differences) <= 2, best
