"""Connecting with a browser's hello: what is said, who is believed, what is left behind."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("curl_cffi", exc_type=ImportError)

from tunnel_browser import (
    NAME,
    Peer,
    Server,
    browser,
    extensions,
    ja4,
    open_descriptors,
    serving,
    until_descriptors,
)

from ptproxy.errors import AuthenticationError, DialError, Reason, StartError
from ptproxy.tunnel.boring import boringssl
from ptproxy.tunnel.boring.browser_tls import BrowserTls
from ptproxy.tunnel.boring.check import proven_browser_tls
from ptproxy.tunnel.boring.hello import CHROME_PAGE, CHROME_WEBSOCKET, FIREFOX, Hello
from ptproxy.tunnel.tls import ClientTrust, check_leaf, leaf_digest

CHROME_PAGE_JA4 = "t13d1516h2_8daaf6152771_806a8c22fdea"
CHROME_WEBSOCKET_JA4 = "t13d1515h1_8daaf6152771_e4c2b8c727f2"
CHROME_WEBSOCKET_RESUMED_JA4 = "t13d1516h1_8daaf6152771_3bf25d69fb96"
FIREFOX_RESUMED_JA4 = "t13d1617h2_86a278354501_e6dcd7ae0a9e"
FIREFOX_JA4 = "t13d1617h2_86a278354501_3cbfd9057e0d"


@pytest.fixture(autouse=True)
def one_browser() -> BrowserTls:
    return browser()


class TestHello:
    @pytest.mark.parametrize(
        ("hello", "expected"),
        [(CHROME_PAGE, CHROME_PAGE_JA4), (CHROME_WEBSOCKET, CHROME_WEBSOCKET_JA4), (FIREFOX, FIREFOX_JA4)],
    )
    def test_it_is_the_browser_s(self, run: Any, tmp_path: Path, hello: Hello, expected: str) -> None:
        async def main() -> None:
            async with serving(tmp_path) as server:
                _, transport, _ = await server.connect(hello)
                transport.abort()
                assert ja4(server.hellos[0]) == expected

        run(main())

    @pytest.mark.parametrize(("hello", "orders"), [(CHROME_PAGE, 4), (FIREFOX, 1)])
    def test_chrome_permutes_its_extensions(
        self, run: Any, tmp_path: Path, one_browser: BrowserTls, hello: Hello, orders: int
    ) -> None:
        async def main() -> None:
            async with serving(tmp_path) as server:
                for _ in range(4):
                    (await server.connect(hello))[1].abort()
                    one_browser.tickets.forget()
                assert len({ja4(record) for record in server.hellos}) == 1
                assert len({tuple(extensions(record)) for record in server.hellos}) == orders

        run(main())

    def test_a_websocket_after_a_page_resumes_its_ticket(
        self, run: Any, tmp_path: Path, one_browser: BrowserTls
    ) -> None:
        async def main() -> None:
            async with serving(tmp_path) as server:
                page, transport, peer = await server.connect(CHROME_PAGE)
                peer.transport.write(b"a page")
                await page.until(lambda: bytes(page.received) == b"a page")  # the tickets came before it
                assert len(one_browser.tickets) == 2
                _, second, _ = await server.connect(CHROME_WEBSOCKET)
                assert ja4(server.hellos[1]) == CHROME_WEBSOCKET_RESUMED_JA4
                told = second.get_extra_info("ssl_object")
                assert told.resumed()
                assert told.selected_alpn_protocol() == "http/1.1"
                assert check_leaf(told, None) == leaf_digest(server.certificate)
                transport.abort()
                second.abort()

        run(main())

    def test_firefox_resumes_for_websockets_with_the_same_hello(self, run: Any, tmp_path: Path) -> None:
        async def main() -> None:
            async with serving(tmp_path) as server:
                for number in range(3):  # the second brings tickets, too
                    client, transport, peer = await server.connect(FIREFOX)
                    peer.transport.write(b".")
                    await client.until(lambda: bool(client.received))  # noqa: B023
                    assert transport.get_extra_info("ssl_object").resumed() is (number > 0)
                    transport.abort()
                assert [ja4(record) for record in server.hellos] == [FIREFOX_JA4] + [FIREFOX_RESUMED_JA4] * 2

        run(main())

    def test_a_ticket_is_for_the_same_name_trust_and_browser_only(
        self, run: Any, tmp_path: Path, one_browser: BrowserTls
    ) -> None:
        async def main() -> None:
            async with serving(tmp_path) as server:
                page, first, peer = await server.connect(CHROME_PAGE)
                peer.transport.write(b".")
                await page.until(lambda: bool(page.received))
                pinned = ClientTrust(pin=leaf_digest(server.certificate))
                for hello, trust in ((FIREFOX, server.trust), (CHROME_PAGE, pinned)):
                    _, other, _ = await server.connect(hello, trust=trust)
                    assert not other.get_extra_info("ssl_object").resumed()
                    other.abort()
                first.abort()

        run(main())

    @pytest.mark.parametrize("alpn", ["h2", "http/1.1"])
    def test_the_stream_is_raw_whatever_is_agreed_on(self, run: Any, tmp_path: Path, alpn: str) -> None:
        async def main() -> None:
            async with serving(tmp_path, alpn=(alpn,)) as server:
                client, transport, peer = await server.connect()
                told = transport.get_extra_info("ssl_object")
                assert (told.selected_alpn_protocol(), told.version()) == (alpn, "TLSv1.3")
                assert told.cipher()[0].startswith("TLS_")
                transport.write(b"first")
                await peer.until(lambda: bool(peer.received))
                assert bytes(peer.received) == b"first"  # and no HTTP/2 preface of curl's
                peer.transport.write(b"answer")
                await client.until(lambda: bytes(client.received) == b"answer")
                transport.abort()

        run(main())

    def test_an_unknown_browser(self, run: Any, tmp_path: Path) -> None:
        async def main() -> None:
            async with serving(tmp_path) as server:
                with pytest.raises(StartError, match="does not know netscape4"):
                    await server.connect(Hello("netscape", "netscape4", "https", close_notify=True))

        run(main())


class TestFailures:
    def test_nobody_listens(self, run: Any) -> None:
        with socket.create_server(("127.0.0.1", 0)) as sock:
            address = sock.getsockname()
        assert failure(run, address) is Reason.REFUSED

    def test_it_never_answers(self, run: Any) -> None:
        with socket.create_server(("127.0.0.1", 0)) as sock:
            assert failure(run, sock.getsockname(), timeout=0.1) is Reason.TIMED_OUT

    @pytest.mark.parametrize("reset", [False, True])
    def test_it_breaks_off(self, run: Any, reset: bool) -> None:
        assert failure(run, None, answer=b"", reset=reset) is Reason.CONNECTION_LOST

    def test_it_breaks_off_within_a_record(self, run: Any) -> None:
        assert failure(run, None, answer=b"\x16\x03\x03\x00\x7a\x02") is Reason.CONNECTION_LOST

    def test_it_speaks_something_else(self, run: Any) -> None:
        with pytest.raises(AuthenticationError, match=r"no TLS 1\.3 with the bridge: wrong version number"):
            failure(run, None, answer=b"HTTP/1.1 400 Bad Request\r\n\r\n")

    def test_it_refuses_the_handshake(self, run: Any) -> None:
        with pytest.raises(AuthenticationError, match=r"no TLS 1\.3 with the bridge: .*handshake failure"):
            failure(run, None, answer=b"\x15\x03\x01\x00\x02\x02\x28")

    def test_cancelled_at_any_point(self, run: Any, tmp_path: Path) -> None:
        async def main() -> None:
            async with serving(tmp_path) as server:
                await cancel_after(server, 200)  # once to the end, so that everything is loaded
                await asyncio.sleep(0.05)
                before = open_descriptors()
                for turns in [*range(12), *range(12, 120, 6)]:
                    await cancel_after(server, turns)
                await until_descriptors(before)

        run(main())

    def test_what_is_closed_is_freed(self, run: Any, tmp_path: Path, one_browser: BrowserTls) -> None:
        async def main() -> None:
            async with serving(tmp_path) as server:
                client, transport, peer = await server.connect()
                ssl_object = transport.get_extra_info("ssl_object")
                held = [weakref.ref(client), weakref.ref(transport)]
                transport.close()
                await asyncio.gather(client.lost, peer.lost)
                assert ssl_object._ssl.pointer == 0
                assert (ssl_object.getpeercert(True), ssl_object.version(), ssl_object.cipher()) == (
                    None,
                ) * 3
                assert not one_browser._maker._on_session
                del client, transport
                await asyncio.sleep(0.01)
                gc.collect()
                assert [ref() for ref in held] == [None, None]

        run(main())


async def cancel_after(server: Server, turns: int) -> None:
    """Connect, and give it up some turns of the loop later."""
    client = Peer()
    task = asyncio.create_task(
        browser().connect(
            asyncio.get_running_loop(), client, server.address, 5, CHROME_PAGE, NAME, server.trust
        )
    )
    for _ in range(turns):
        await asyncio.sleep(0)
    if task.cancel():
        with pytest.raises(asyncio.CancelledError):
            await task
        assert client.told == []
    else:
        task.result()[0].abort()
        await client.lost


def failure(
    run: Any,
    address: Any,
    *,
    answer: bytes | None = None,
    reset: bool = False,
    timeout: float = 5,
) -> Reason:
    """Why a connect failed; nothing of it is left."""

    async def main() -> Reason:
        async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            if reset:
                writer.transport.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0"
                )
                writer.transport.abort()
                return
            await reader.read(65536)
            writer.write(answer or b"")
            writer.close()

        loop, to = asyncio.get_running_loop(), address
        server = None
        if answer is not None:
            server = await asyncio.start_server(answered, "127.0.0.1", 0)
            to = server.sockets[0].getsockname()
        before = open_descriptors()
        client = Peer()
        try:
            with pytest.raises(DialError) as caught:
                await browser().connect(
                    loop, client, to, timeout, CHROME_PAGE, NAME, ClientTrust(pin=bytes(32))
                )
        finally:
            await until_descriptors(before)
            if server is not None:
                server.close()
                await server.wait_closed()
        assert client.told == []
        return caught.value.reason

    reason = run(main())
    assert isinstance(reason, Reason)
    return reason


class TestCheck:
    @pytest.mark.parametrize(
        ("function", "instead", "what"),
        [
            ("SSL_set_verify", lambda *_: None, "accepts a wrong name"),
            ("SSL_session_reused", lambda *_: 0, "does not get the ticket right"),
            ("SSL_version", lambda *_: 0x0303, "did not speak TLS 1.3"),
            ("SSL_do_handshake", lambda *_: 1, "TLS 1.3"),
            ("SSL_shutdown", lambda *_: 0, "does not get the end right"),
            ("SSL_clear", lambda *_: 0, "cannot begin anew"),
        ],
    )
    def test_a_function_that_does_something_else_is_noticed(
        self, monkeypatch: pytest.MonkeyPatch, function: str, instead: Any, what: str
    ) -> None:
        monkeypatch.setitem(boringssl.load()._functions, function, instead)
        before = open_descriptors()
        with pytest.raises(StartError, match=what):
            proven_browser_tls()
        gc.collect()
        assert open_descriptors() == before

    def test_curl_cffi_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
        with pytest.raises(StartError, match="curl_cffi is not installed"):
            boringssl.load.__wrapped__()

    def test_nothing_of_the_environment_is_used(self, tmp_path: Path) -> None:
        """No proxy is asked, no key is logged, no certificate file of curl's is read."""
        keys = tmp_path / "keys.log"
        program = (
            "import sys\n"
            "from ptproxy.tunnel.boring.check import proven_browser_tls\n"
            "proven_browser_tls()\n"
            "sys.exit('curl_cffi' in sys.modules)\n"
        )
        dead = "http://127.0.0.1:9"
        environment = os.environ | {
            "SSLKEYLOGFILE": str(keys), "HTTPS_PROXY": dead, "https_proxy": dead, "ALL_PROXY": dead,
            "PYTHONPATH": os.pathsep.join(sys.path),
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, timeout=60, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        assert not keys.exists() or keys.read_bytes() == b""
