"""The fall-back through curl's own raw stream: the same promises, over HTTP/1.1 only."""

from __future__ import annotations

import asyncio
import gc
import random
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("curl_cffi", exc_type=ImportError)

from tunnel_browser import Peer, ja4, open_descriptors, serving
from tunnel_live import make_certificate

from ptproxy.errors import AuthenticationError, DialError, Reason, StartError
from ptproxy.tunnel.boring import boringssl
from ptproxy.tunnel.boring.browser_tls import BrowserTls
from ptproxy.tunnel.boring.curl_tls import CurlTls, chosen_browser_tls
from ptproxy.tunnel.boring.hello import CHROME_PAGE, CHROME_WEBSOCKET, Hello
from ptproxy.tunnel.tcp import send_reset
from ptproxy.tunnel.tls import ClientTrust, leaf_digest

CHROME_WEBSOCKET_JA4 = "t13d1515h1_8daaf6152771_e4c2b8c727f2"
CHROME_WEBSOCKET_RESUMED_JA4 = "t13d1516h1_8daaf6152771_3bf25d69fb96"


@pytest.fixture
def curl() -> Iterator[CurlTls]:
    made = CurlTls()
    yield made
    gc.collect()
    made.close()
    assert not made._shares


def test_bulk_both_ways_arrives_intact(run: Any, tmp_path: Path, curl: CurlTls) -> None:
    sent = random.Random(9).randbytes(8 << 20)

    async def main() -> None:
        async with serving(tmp_path) as server:
            client, transport, peer = await server.connect(CHROME_WEBSOCKET, by=curl)
            peer.echo = True
            transport.write(sent)
            await client.until(lambda: len(client.received) >= len(sent))
            assert client.received == sent
            told = transport.get_extra_info("ssl_object")
            assert (told.version(), told.selected_alpn_protocol()) == ("TLSv1.3", "http/1.1")
            assert told.cipher() == ("TLS_AES_256_GCM_SHA384", "TLSv1.3", 256)
            assert told.getpeercert(True) == ssl.PEM_cert_to_DER_cert(server.certificate.read_text())
            transport.close()
            assert await client.lost is None
            await peer.lost

    run(main())


def test_a_websocket_after_a_page_resumes_and_remembers_the_leaf(
    run: Any, tmp_path: Path, curl: CurlTls
) -> None:
    async def main() -> None:
        async with serving(tmp_path, alpn=("http/1.1",)) as server:
            pinned = ClientTrust(pin=leaf_digest(server.certificate))
            for hello in (CHROME_PAGE, CHROME_WEBSOCKET):
                client, transport, peer = await server.connect(hello, trust=pinned, by=curl)
                peer.transport.write(b".")
                await client.until(lambda: bool(client.received))  # noqa: B023
                resumed = transport.get_extra_info("ssl_object").resumed()
                transport.abort()
            assert resumed
            assert ja4(server.hellos[1]) == CHROME_WEBSOCKET_RESUMED_JA4

    run(main())


def test_http_2_is_refused(run: Any, tmp_path: Path, curl: CurlTls) -> None:
    async def main() -> None:
        async with serving(tmp_path) as server:
            with pytest.raises(DialError, match="HTTP/2") as caught:
                await server.connect(CHROME_PAGE, by=curl)
            assert caught.value.reason is Reason.UNSUPPORTED
            assert ja4(server.hellos[0]).startswith("t13d1516h2_")

    run(main())


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("name", "is not trusted"),
        ("authority", "is not trusted"),
        ("system", "is not trusted"),
        ("pin", "another certificate than the one its line pins"),
        ("version", r"did not speak TLS 1\.3"),
    ],
)
def test_who_is_not_believed(run: Any, tmp_path: Path, curl: CurlTls, what: str, why: str) -> None:
    async def main() -> None:
        most = ssl.TLSVersion.TLSv1_2 if what == "version" else ssl.TLSVersion.TLSv1_3
        (tmp_path / "other").mkdir()
        async with serving(tmp_path, most=most) as server:
            trust = {
                "authority": ClientTrust(authorities=make_certificate(tmp_path / "other")[0]),
                "system": ClientTrust(),
                "pin": ClientTrust(pin=bytes(32)),
            }.get(what, server.trust)
            name = "elsewhere.example" if what == "name" else "localhost"
            with pytest.raises(AuthenticationError, match=why):
                await server.connect(CHROME_WEBSOCKET, name, trust, by=curl)

    run(main())


@pytest.mark.parametrize(
    "answer", [b"", b"\x15\x03\x01\x00\x02\x02\x28", b"HTTP/1.1 400 Bad Request\r\n\r\n"]
)
def test_who_does_not_shake_hands(run: Any, curl: CurlTls, answer: bytes) -> None:
    async def main() -> None:
        async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(65536)
            writer.write(answer)
            writer.close()

        server = await asyncio.start_server(answered, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        with pytest.raises(AuthenticationError if answer else DialError) as caught:
            await curl.connect(
                asyncio.get_running_loop(),
                Peer(),
                address,
                5,
                CHROME_WEBSOCKET,
                "localhost",
                ClientTrust(pin=bytes(32)),
            )
        if not answer:
            assert caught.value.reason is Reason.CONNECTION_LOST
        server.close()
        await server.wait_closed()

    run(main())


def test_the_peer_breaks_the_connection(run: Any, tmp_path: Path, curl: CurlTls) -> None:
    async def main() -> None:
        async with serving(tmp_path) as server:
            client, _, peer = await server.connect(CHROME_WEBSOCKET, by=curl)
            peer.transport.write(b"last")
            send_reset(peer.transport)
            assert isinstance(await client.lost, ConnectionResetError)

    run(main())


def test_the_peer_closes(run: Any, tmp_path: Path, curl: CurlTls) -> None:
    async def main() -> None:
        async with serving(tmp_path) as server:
            client, _, peer = await server.connect(CHROME_WEBSOCKET, by=curl)
            peer.transport.write(b"last")
            peer.transport.close()
            assert await client.lost is None
            assert bytes(client.received) == b"last"
            assert client.told == ["made", "eof", "lost"]

    run(main())


def test_cancelled_at_any_point(run: Any, tmp_path: Path, curl: CurlTls) -> None:
    async def main() -> None:
        async with serving(tmp_path) as server:
            before = open_descriptors()
            for turns in range(0, 60, 2):
                client = Peer()
                task = asyncio.create_task(
                    curl.connect(
                        asyncio.get_running_loop(),
                        client,
                        server.address,
                        5,
                        CHROME_WEBSOCKET,
                        "localhost",
                        server.trust,
                    )
                )
                for _ in range(turns):
                    await asyncio.sleep(0)
                if task.cancel():
                    with pytest.raises(asyncio.CancelledError):
                        await task
                else:
                    task.result()[0].abort()
                    await client.lost
                del task
            gc.collect()
            for _ in range(200):
                await asyncio.sleep(0.01)
                if open_descriptors() <= before:
                    break
            assert open_descriptors() <= before

    run(main())


class TestChoice:
    def test_boringssl_where_it_can_be(self) -> None:
        assert isinstance(chosen_browser_tls(), BrowserTls)

    def test_curl_where_it_cannot(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def stripped(*_: Any) -> dict[str, int]:
            raise StartError("the browser's TLS library has no symbol table that is known here")

        monkeypatch.setattr(boringssl, "hidden_functions", stripped)
        boringssl.load.cache_clear()
        try:
            chosen = chosen_browser_tls()
        finally:
            boringssl.load.cache_clear()
        assert isinstance(chosen, CurlTls)
        assert "no symbol table" in chosen.reason

    def test_neither(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
        with pytest.raises(StartError, match="curl_cffi is not installed"):
            chosen_browser_tls()

    def test_an_unknown_browser(self, run: Any, tmp_path: Path, curl: CurlTls) -> None:
        async def main() -> None:
            async with serving(tmp_path) as server:
                with pytest.raises(StartError, match="does not know netscape4"):
                    await server.connect(Hello("netscape", "netscape4", "https", close_notify=True), by=curl)

        run(main())

    def test_an_unusable_file_is_told_at_the_start(self, tmp_path: Path, curl: CurlTls) -> None:
        with pytest.raises(StartError, match="cannot read authorities"):
            curl.trust(ClientTrust(authorities=tmp_path / "missing.pem"))
