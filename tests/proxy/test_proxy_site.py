"""Sites over real sockets: the built-in one with curl, parts and time-outs, and the one that forwards."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path

import h11
import pytest
from proxy_live import LOOPS, echo, run, serving, until
from site_live import free_port, nginx, say, visited

from ptproxy.proxy import site as site_module
from ptproxy.proxy.site import BUILTIN, BuiltinSite, ForwardSite, NothingHere
from ptproxy.tunnel.listen import listen_unix
from ptproxy.tunnel.tls import ClientTrust, bridge_context, client_context, leaf_digest

GET = b"GET /%s HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"


def answers(data: bytes) -> list[tuple[int, bytes]]:
    """The statuses and bodies in what a server said, read by h11."""
    found = []
    while data:
        connection = h11.Connection(h11.CLIENT)
        connection.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
        connection.send(h11.EndOfMessage())
        connection.receive_data(data)
        status, body = 0, b""
        while (event := connection.next_event()) is not h11.NEED_DATA:
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
        found.append((status, body))
        data = connection.trailing_data[0]
    return found


@pytest.mark.parametrize("kind", LOOPS)
@pytest.mark.parametrize("part", [None, 1, 7])
def test_pages_pipelined_and_in_parts(kind: str, part: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        site = BuiltinSite(asyncio.get_running_loop())
        keep = GET.replace(b"Connection: close\r\n", b"")
        said = keep % b"" + keep % b"style.css" + keep % b"nothing" + keep % b"favicon.ico" + GET % b"plots/"
        for at_once in (False, True):
            async with visited(site, at_once=at_once) as address:
                found = answers(await say(address, said, part=part))
            files = ["index.html", "style.css", None, "favicon.ico", "plots/index.html"]
            assert [status for status, _ in found] == [200, 200, 404, 200, 200]
            for (_, body), name in zip(found, files, strict=True):
                assert name is None or body == (BUILTIN / name).read_bytes()
            await until(lambda: not site.visitors)

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_over_tls(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from proxy_cert import make_certificate

    certificate, key = make_certificate(tmp_path)

    async def main() -> None:
        site = BuiltinSite(asyncio.get_running_loop())
        client = client_context(ClientTrust(pin=leaf_digest(certificate)))
        async with visited(site, tls=bridge_context(certificate, key)) as address:
            ((status, _),) = answers(await say(address, GET % b"", tls=client))
            assert status == 200
            reader, writer = await asyncio.open_connection(*address, ssl=client)
            writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()
            await until(lambda: not site.visitors)

    run(kind, monkeypatch, main)


@pytest.mark.program("curl")
def test_curl_fetches_the_site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def main() -> None:
        site = BuiltinSite(asyncio.get_running_loop(), scheme="http")
        async with visited(site) as (host, port):
            url = f"http://{host}:{port}"

            async def curl(*arguments: str) -> str:
                process = await asyncio.create_subprocess_exec(
                    "curl", "-sS", "--noproxy", "*", *arguments, stdout=asyncio.subprocess.PIPE
                )
                output, _ = await process.communicate()
                assert process.returncode == 0
                return output.decode()

            saved = tmp_path / "page"
            assert await curl("-o", str(saved), "-w", "%{http_code} %{content_type}", url) == "200 text/html"
            assert saved.read_bytes() == (BUILTIN / "index.html").read_bytes()
            etag = tmp_path / "etag"
            await curl("--etag-save", str(etag), "-o", str(saved), f"{url}/style.css")
            code = ("-o", str(saved), "-w", "%{http_code}")
            assert await curl("--etag-compare", str(etag), *code, f"{url}/style.css") == "304"
            assert (
                await curl("-L", *code, "-w", "%{http_code} %{url_effective}", f"{url}/plots")
                == f"200 {url}/plots/"
            )
            assert await curl("-I", "-w", "%{http_code}", "-o", str(saved), f"{url}/nothing") == "404"
            assert await curl("-d", "a=b", *code, f"{url}/") == "405"
            assert await curl("-r", "0-14", f"{url}/") == "<!DOCTYPE html>"
            both = await curl(
                "-w", "%{num_connects}\n", *("-o", str(saved)) * 2, f"{url}/", f"{url}/robots.txt"
            )
            assert both == "1\n0\n"

    run("asyncio", monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_strangers_who_say_nothing_or_half_are_dropped(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        site = BuiltinSite(asyncio.get_running_loop(), header_timeout=0.05, keepalive_timeout=0.05)
        async with visited(site, at_once=True) as address:
            assert await say(address, b"") == b""
            assert await say(address, b"GET / HT") == b""
            kept = GET.replace(b"Connection: close\r\n", b"") % b"robots.txt"
            assert [status for status, _ in answers(await say(address, kept))] == [200]
            await until(lambda: not site.visitors)

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_a_stranger_who_never_reads_holds_little(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(site_module, "SEND_TIMEOUT", 0.1)
        monkeypatch.setattr(site_module, "MAX_REQUESTS", 10**9)
        site = BuiltinSite(asyncio.get_running_loop())
        async with visited(site, at_once=True) as address:
            reader, writer = await asyncio.open_connection(*address)
            reader._transport.pause_reading()
            kept = GET.replace(b"Connection: close\r\n", b"") % b""
            await until(lambda: bool(site.visitors))
            (visitor,) = site.visitors
            while not visitor._writing_paused:
                writer.write(kept * 1000)
                await asyncio.sleep(0)
            assert visitor._transport.get_write_buffer_size() < 1 << 18
            assert len(visitor._reader._buffer) < 1 << 19
            await until(lambda: not site.visitors)
            writer.transport.abort()

    run(kind, monkeypatch, main)


def test_limits_and_the_bridge_behind_a_web_server(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with visited(BuiltinSite(loop, most_connections=0), at_once=True) as address:
            assert await say(address, GET % b"") == b""
        monkeypatch.setattr(site_module, "MAX_REQUESTS", 2)
        kept = GET.replace(b"Connection: close\r\n", b"") % b"robots.txt"
        async with visited(BuiltinSite(loop)) as address:
            assert [status for status, _ in answers(await say(address, kept * 3))] == [200, 200]
        async with visited(BuiltinSite(loop, NothingHere())) as address:
            assert [status for status, _ in answers(await say(address, kept * 3))] == [404]  # and then closed
            assert [status for status, _ in answers(await say(address, b"\x16\x03\x01"))] == [404]

    run("asyncio", monkeypatch, main)


# ---- forwarding -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LOOPS)
def test_forwarding_is_raw_both_ways(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with serving(echo) as upstream:
            site = ForwardSite(asyncio.get_running_loop(), *upstream)
            async with visited(site) as address:
                data = bytes(range(256)) * 20000
                assert await say(address, data, end=True) == data
                await until(lambda: not site.splices)

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_forwarding_keeps_pace_with_a_slow_reader(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        size = 32 << 20

        async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            for _ in range(size >> 16):
                writer.write(bytes(1 << 16))
                await writer.drain()

        async with serving(pour) as upstream:
            site = ForwardSite(asyncio.get_running_loop(), *upstream)
            async with visited(site) as address:
                reader, writer = await asyncio.open_connection(*address)
                writer.write(b"go\n")
                got = 0
                while block := await reader.read(1 << 16):
                    got += len(block)
                    if got % 7 == 0:
                        await asyncio.sleep(0)
                    for splice in site.splices:
                        assert splice.stranger.transport.get_write_buffer_size() < 4 << 20
                assert got == size
                writer.close()
                await writer.wait_closed()
                await until(lambda: not site.splices)

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_forwarding_to_nothing_is_a_502(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        site = ForwardSite(asyncio.get_running_loop(), "127.0.0.1", free_port())
        async with visited(site) as address:
            for part in (None, 5):
                ((status, body),) = answers(await say(address, GET % b"", part=part))
                assert status == 502
                assert body.startswith(b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n")
            assert (await say(address, b"HEAD / HTTP/1.0\r\n\r\n")).endswith(b"Connection: close\r\n\r\n")
            await until(lambda: not site.splices)

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_a_broken_end_breaks_the_other(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        ended = []

        async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            line = await reader.readline()
            if line == b"reset me\n":
                writer.transport.abort()
            else:
                ended.append(await reader.read())

        async with serving(wait) as upstream:
            site = ForwardSite(asyncio.get_running_loop(), *upstream)
            async with visited(site) as address:
                assert await say(address, b"reset me\n") == b""
                _, writer = await asyncio.open_connection(*address)
                writer.write(b"stay\n")
                await until(lambda: any(splice.server.made for splice in site.splices))
                writer.close()
                await writer.wait_closed()
                await until(lambda: bool(ended) and not site.splices)

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_forwarding_to_a_unix_socket(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Shout(asyncio.Protocol):
        def connection_made(self, transport) -> None:
            self.transport = transport

        def data_received(self, data) -> None:
            self.transport.write(bytes(data).upper())
            self.transport.close()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        path = tmp_path / "site"
        server = await listen_unix(loop, Shout, str(path))
        site = ForwardSite(loop, "", 0, unix=path)
        async with visited(site) as address:
            assert await say(address, b"hello") == b"HELLO"
        server.close()
        await server.wait_closed()

    run(kind, monkeypatch, main)


@pytest.mark.program("nginx")
@pytest.mark.parametrize("kind", LOOPS)
def test_behind_it_is_a_real_nginx(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o755)

    async def main() -> None:
        with nginx(tmp_path, BUILTIN) as upstream:
            site = ForwardSite(asyncio.get_running_loop(), *upstream)
            async with visited(site) as address:
                kept = GET.replace(b"Connection: close\r\n", b"")
                found = answers(await say(address, kept % b"" + kept % b"no" + GET % b"style.css"))
                assert [status for status, _ in found] == [200, 404, 200]
                assert found[2][1] == (BUILTIN / "style.css").read_bytes()
                assert (await say(address, b"\x16\x03\x01junk")).startswith(b"HTTP/1.1 400 ")

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_endless_small_chunks_take_turns(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No turn of the loop reads more than its share, whoever sends; others are answered in between."""
    most, heads = 0, []

    async def main() -> None:
        nonlocal most
        site = BuiltinSite(asyncio.get_running_loop())
        spend = site.spend

        def spending(work: int) -> None:
            nonlocal most
            spend(work)
            most = max(most, site_module.WORK_A_TURN - site.work_left)

        monkeypatch.setattr(site, "spend", spending)
        chunks = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 50_000
        async with visited(site) as address:
            floods = [await asyncio.open_connection(*address) for _ in range(3)]
            for _, writer in floods:
                writer.write(chunks)
            found = answers(await say(address, GET % b"style.css"))
            assert [status for status, _ in found] == [200]
            for reader, writer in floods:
                writer.write(b"0\r\n\r\n" + GET % b"")
                heads.append(await reader.readline())
                writer.close()
        await until(lambda: not site.visitors)

    run(kind, monkeypatch, main)
    assert most <= site_module.WORK_A_TURN + site_module.REQUEST_WORK
    assert len(heads) == 3
    assert all(head.startswith(b"HTTP/1.1 ") for head in heads)
