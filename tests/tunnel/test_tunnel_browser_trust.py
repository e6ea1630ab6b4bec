"""Connecting with a browser's hello: who is believed, and who is not."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("curl_cffi", exc_type=ImportError)

from tunnel_browser import NAME, Peer, browser, open_descriptors, serving, until_descriptors
from tunnel_live import make_certificate

from ptproxy.errors import AuthenticationError, StartError
from ptproxy.tunnel.boring.browser_tls import BrowserTls
from ptproxy.tunnel.boring.hello import CHROME_PAGE
from ptproxy.tunnel.tls import ClientTrust, leaf_digest


@pytest.fixture(autouse=True)
def one_browser() -> BrowserTls:
    return browser()


class TestTrust:
    def test_an_authority_of_one_s_own(self, run: Any, tmp_path: Path) -> None:
        async def main() -> None:
            async with serving(tmp_path) as server:
                client = Peer()
                transport, digest = await browser().connect(
                    asyncio.get_running_loop(), client, server.address, 5, CHROME_PAGE, NAME, server.trust
                )
                assert digest == leaf_digest(server.certificate)
                shown = transport.get_extra_info("ssl_object").getpeercert(True)
                assert shown == ssl.PEM_cert_to_DER_cert(server.certificate.read_text())
                transport.abort()

        run(main())

    @pytest.mark.parametrize(
        "name", ["elsewhere.example", "localhost.example", "127.0.0.1", "xn--bcher-kva.example"]
    )
    def test_a_wrong_name(self, run: Any, tmp_path: Path, name: str) -> None:
        refused(run, tmp_path, "not trusted: .*mismatch", name=name)

    def test_an_authority_that_did_not_sign_it(self, run: Any, tmp_path: Path) -> None:
        (tmp_path / "other").mkdir()
        other, _ = make_certificate(tmp_path / "other")
        refused(run, tmp_path, "not trusted: ", trust=ClientTrust(authorities=other))

    def test_the_system_s_authorities_do_not_know_it(self, run: Any, tmp_path: Path) -> None:
        refused(run, tmp_path, "not trusted: self.signed certificate", trust=ClientTrust())

    def test_the_system_s_authorities_are_those_of_ssl(
        self, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def main() -> None:
            async with serving(tmp_path) as server:
                monkeypatch.setenv("SSL_CERT_FILE", str(server.certificate))
                fresh = BrowserTls()
                transport, _ = await fresh.connect(
                    asyncio.get_running_loop(), Peer(), server.address, 5, CHROME_PAGE, NAME, ClientTrust()
                )
                transport.abort()
                await asyncio.sleep(0.01)
                fresh.close()

        run(main())

    def test_the_right_pin_needs_no_authority_and_no_name(self, run: Any, tmp_path: Path) -> None:
        async def main() -> None:
            async with serving(tmp_path) as server:
                pin = leaf_digest(server.certificate)
                _, transport, _ = await server.connect(name="cdn.example", trust=ClientTrust(pin=pin))
                transport.abort()

        run(main())

    def test_a_wrong_pin(self, run: Any, tmp_path: Path) -> None:
        pin = hashlib.sha256(b"another").digest()
        refused(run, tmp_path, "another certificate than the one its line pins", trust=ClientTrust(pin=pin))

    def test_tls_1_2(self, run: Any, tmp_path: Path) -> None:
        refused(run, tmp_path, "did not speak TLS 1.3", most=ssl.TLSVersion.TLSv1_2)

    def test_a_file_that_holds_no_authority(self, tmp_path: Path, one_browser: BrowserTls) -> None:
        (tmp_path / "empty.pem").write_text("nothing")
        for path in (tmp_path / "empty.pem", tmp_path / "missing.pem"):
            with pytest.raises(StartError, match=f"cannot read authorities from {path}"):
                one_browser.trust(ClientTrust(authorities=path))

    def test_an_ip_literal_as_the_name(self, run: Any, tmp_path: Path) -> None:
        refused(run, tmp_path, "not trusted: .*mismatch", name="::1")

    def test_ipv6_with_another_name_than_the_address(self, run: Any, tmp_path: Path) -> None:
        async def main() -> None:
            async with serving(tmp_path, host="::1", name="site.example") as server:
                client, transport, peer = await server.connect(name="site.example")
                assert transport.get_extra_info("peername")[0] == "::1"
                assert b"site.example" in server.hellos[0]
                peer.transport.write(b"hi")
                await client.until(lambda: bool(client.received))
                transport.abort()

        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            pytest.skip("no IPv6 here")
        run(main())


def refused(
    run: Any, folder: Path, why: str, *, name: str = NAME, trust: ClientTrust | None = None, **options: Any
) -> None:
    """The connection comes to nothing, and nothing of it is left."""

    async def main() -> None:
        async with serving(folder, **options) as server:
            with pytest.raises(AuthenticationError, match=why):
                await server.connect(name=name, trust=trust)
            await asyncio.sleep(0.05)
            before = open_descriptors()
            for _ in range(3):
                with pytest.raises(AuthenticationError, match=why):
                    await server.connect(name=name, trust=trust)
            await until_descriptors(before)

    run(main())
