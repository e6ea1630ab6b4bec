"""Both roles put together from a configuration: they run, they stop, and they say why they cannot start."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
from pathlib import Path

import pytest
from proxy_cert import make_certificate
from proxy_live import LOOPS, echo, run, serving, until
from site_live import free_port, say

from ptproxy.auth.access import Access, AccessList
from ptproxy.auth.credentials import StaticKey, new_token
from ptproxy.config.link import Link
from ptproxy.config.model import BridgeConfig, ClientConfig
from ptproxy.config.quantities import Endpoint
from ptproxy.errors import ConfigError, StartError
from ptproxy.proxy.account_store import SqliteStore
from ptproxy.proxy.bridge import own_addresses, run_bridge
from ptproxy.proxy.client import run_client
from ptproxy.proxy.resolve import Resolver
from ptproxy.proxy.startup import Signals, cannot_listen, within
from ptproxy.state import Document
from ptproxy.tunnel.tls import leaf_digest

RNG = random.SystemRandom()
TOKEN = new_token(RNG)


class Files:
    """What ``ptproxy init`` would have made, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.certificate, self.tls_key = make_certificate(folder)
        self.keys = {}
        for name in ("bridge", "client"):
            self.keys[name] = StaticKey.generate(RNG)
            path = folder / f"{name}.key"
            path.write_text(self.keys[name].serialize_private())
            path.chmod(0o600)
        access_list = AccessList()
        access_list.invite(TOKEN, "anna")
        Document(folder / "bridge-state", "access").write(access_list.to_dict())

    def bridge(self, **changes) -> BridgeConfig:
        settings = {
            "role": "bridge",
            "mode": "standalone",
            "listen": f"127.0.0.1:{self.port}",
            "address": f"localhost:{self.port}",
            "key": "bridge.key",
            "tls": {"certificate": "localhost.pem", "private_key": "localhost.key"},
            "site": "builtin",
            "state": "bridge-state",
            "egress": {"allow": ["127.0.0.1"]},
            "limits": {"drain": "5s"},
        }
        return BridgeConfig.model_validate(settings | changes, context={"folder": self.folder})

    def link(self, **changes) -> Link:
        parts = {
            "key": self.keys["bridge"].public,
            "host": "127.0.0.1",
            "port": self.port,
            "path": "/",
            "server_name": "localhost",
            "codecs": ("websocket",),
            "pin": leaf_digest(self.certificate),
            "seal": False,
            "binding": True,
            "token": TOKEN.secret,
        }
        return Link(**(parts | changes))

    def client(self, link: Link | None = None, **changes) -> ClientConfig:
        settings = {
            "role": "client",
            "listen": "127.0.0.1:0",
            "bridge": (link or self.link()).serialize(),
            "key": "client.key",
            "state": "client-state",
        }
        return ClientConfig.model_validate(settings | changes, context={"folder": self.folder})


class Running:
    """A role as a task, with the addresses that it listens on."""

    def __init__(self, role, config, **options) -> None:
        self.addresses: list[str] = []
        self.task = asyncio.ensure_future(role(config, ready=self.addresses.extend, **options))

    async def ready(self) -> tuple[str, int]:
        await until(lambda: bool(self.addresses) or self.task.done())
        if self.task.done():
            self.task.result()
        host, _, port = self.addresses[0].rpartition(":")
        return host, int(port)

    async def fails(self) -> str:
        with pytest.raises((StartError, ConfigError)) as caught:
            await self.task
        return str(caught.value)


async def through(proxy: tuple[str, int], target: tuple[str, int], data: bytes) -> bytes:
    """Speak through a SOCKS5 proxy; what comes back."""
    reader, writer = await asyncio.open_connection(*proxy)
    writer.write(b"\5\1\0\5\1\0\1" + socket.inet_aton(target[0]) + target[1].to_bytes(2, "big"))
    reply = await reader.readexactly(12)
    answer = b""
    if reply[3] == 0:
        writer.write(data)
        answer = await reader.readexactly(len(data))
    writer.close()
    await writer.wait_closed()
    return answer


def test_openings_seen_are_left_for_the_next_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = Files(tmp_path)
    asked: list[Signals] = []

    def remember(*arguments) -> Signals:
        asked.append(Signals(*arguments))
        return asked[-1]

    async def main() -> None:
        bridge = Running(run_bridge, files.bridge(), signals_of=remember)
        await bridge.ready()
        async with serving(echo) as target:
            client = Running(run_client, files.client())
            assert await through(await client.ready(), target, b"seen") == b"seen"
        os.kill(os.getpid(), signal.SIGTERM)  # the client, which was last to ask for it
        await client.task
        asked[0].ask()
        await bridge.task
        left = Document(tmp_path / "bridge-state", "openings").read()
        assert left is not None
        assert left["seen"], "an opening of the last minute would be taken once more"

    run("asyncio", monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_a_bridge_and_a_client(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = Files(tmp_path)

    async def main() -> None:
        bridge = Running(run_bridge, files.bridge())
        await bridge.ready()
        client = Running(run_client, files.client())
        proxy = await client.ready()
        async with serving(echo) as target:
            data = bytes(range(256)) * 1000
            assert await through(proxy, target, data) == data
            assert await through(proxy, ("127.0.0.2", target[1]), data) == b""  # not on the allow list
        os.kill(os.getpid(), signal.SIGHUP)  # only the bridge listens to it
        await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGTERM)  # the client, which was last to ask for it
        await client.task
        bridge.task.cancel()
        await asyncio.gather(bridge.task, return_exceptions=True)
        with contextlib.closing(SqliteStore(tmp_path / "bridge-state", Access.ENROLLED)) as store:
            assert files.keys["client"].public in store.list.identities

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS[:2])
def test_a_stranger_sees_the_site(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ptproxy.tunnel.tls import ClientTrust, client_context

    files = Files(tmp_path)

    async def main() -> None:
        bridge = Running(run_bridge, files.bridge())
        address = await bridge.ready()
        tls = client_context(ClientTrust(pin=leaf_digest(files.certificate)))
        page = await say(address, b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", tls=tls)
        assert page.startswith(b"HTTP/1.1 200 OK\r\nServer: nginx\r\n")
        os.kill(os.getpid(), signal.SIGINT)
        await bridge.task

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS[:2])
@pytest.mark.parametrize("patient", [True, False])
@pytest.mark.parametrize("role", ["client", "bridge"])
def test_open_streams_drain_and_a_second_signal_does_not_wait(
    kind: str, patient: bool, role: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Files(tmp_path)
    asked: dict[object, Signals] = {}

    def remember(signals: Signals) -> Signals:
        asked[asyncio.current_task()] = signals
        return signals

    async def main() -> None:
        monkeypatch.setattr(Signals, "__enter__", remember)
        bridge = Running(run_bridge, files.bridge(limits={"drain": "1000s"}))
        await bridge.ready()
        client = Running(run_client, files.client(limits={"drain": "1000s"}))
        proxy = await client.ready()
        stopping, other = (client, bridge) if role == "client" else (bridge, client)
        async with serving(echo) as target:
            reader, writer = await asyncio.open_connection(*proxy)
            writer.write(b"\5\1\0\5\1\0\1" + socket.inet_aton(target[0]) + target[1].to_bytes(2, "big"))
            await reader.readexactly(12)
            asked[stopping.task].ask()
            await until(asked[stopping.task].stop.is_set)
            writer.write(b"still here")
            assert await reader.readexactly(10) == b"still here"
            with pytest.raises(ConnectionError):  # nothing new
                await asyncio.open_connection("127.0.0.1", proxy[1] if role == "client" else files.port)
            if patient:
                writer.close()
            else:
                asked[stopping.task].ask()
            await stopping.task
            writer.transport.abort()
            other.task.cancel()
            await asyncio.gather(other.task, return_exceptions=True)

    run(kind, monkeypatch, main)


def test_what_keeps_a_bridge_from_starting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = Files(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    _, other_key = make_certificate(other)
    open_key = tmp_path / "open.key"
    open_key.write_text((tmp_path / "bridge.key").read_text())
    open_key.chmod(0o644)
    (tmp_path / "junk.key").write_text("junk")
    (tmp_path / "junk.key").chmod(0o600)

    async def main() -> None:
        tls = {"certificate": "localhost.pem", "private_key": "localhost.key"}
        cases = {
            "there is no file": {"key": "missing.key"},
            "chmod": {"key": "open.key"},
            "holds no key": {"key": "junk.key"},
            "tls: cannot read": {"tls": tls | {"certificate": "missing.pem"}},
            "does not belong": {"tls": tls | {"private_key": str(other_key)}},
            "client_ca": {"tls": tls | {"client_certificates": "required", "client_ca": "missing.pem"}},
            "egress.allow[0]": {"egress": {"allow": ["nonsense"]}},
            "no such address": {"listen": "192.0.2.200:0"},
            "front_certificate": {"mode": "behind", "tls": {}},
        }
        for expected, changes in cases.items():
            message = await Running(run_bridge, files.bridge(**changes)).fails()
            assert expected in message
            assert "\n" not in message
        with socket.create_server(("127.0.0.1", files.port)):
            message = await Running(run_bridge, files.bridge()).fails()
        assert message == (
            f"listen: cannot listen on 127.0.0.1:{files.port}: "
            "another program listens there; stop it, or choose another address"
        )
        running = Running(run_bridge, files.bridge())
        await running.ready()
        assert "another ptproxy runs" in await Running(run_bridge, files.bridge()).fails()
        running.task.cancel()
        await asyncio.gather(running.task, return_exceptions=True)

    run("asyncio", monkeypatch, main)


def test_what_keeps_a_client_from_starting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = Files(tmp_path)
    (tmp_path / "password").write_text("secret\n")
    (tmp_path / "password").chmod(0o600)

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            message = await Running(run_client, files.client(listen=f"127.0.0.1:{port}")).fails()
            assert "another program listens there" in message
        message = await Running(run_client, files.client(key="missing.key")).fails()
        assert "there is no file" in message
        front = {"user": "anna", "password_file": "missing"}
        assert "missing" in await Running(run_client, files.client(front=front)).fails()
        bridge = Running(run_bridge, files.bridge())
        await bridge.ready()
        stranger = files.link(key=StaticKey.generate(RNG).public)
        for link in (stranger, files.link(pin=bytes(32)), files.link(token=bytes(16))):
            message = await Running(run_client, files.client(link)).fails()
            assert f"127.0.0.1:{files.port}" in message
            assert "\n" not in message
        bridge.task.cancel()
        await asyncio.gather(bridge.task, return_exceptions=True)

    run("asyncio", monkeypatch, main)


def test_a_client_waits_for_its_bridge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its port listens meanwhile, and what a program asks for there comes once the bridge is there."""
    files = Files(tmp_path)

    async def main() -> None:
        client = Running(run_client, files.client())
        proxy = await client.ready()
        async with serving(echo) as target:
            asked = asyncio.ensure_future(through(proxy, target, b"early"))
            await asyncio.sleep(0)
            bridge = Running(run_bridge, files.bridge())
            await bridge.ready()
            assert await asked == b"early"
        for running in (client, bridge):
            running.task.cancel()
            await asyncio.gather(running.task, return_exceptions=True)

    run("asyncio", monkeypatch, main)


def test_own_addresses_behind_a_cdn_are_not_looked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Files(tmp_path)
    asked = []

    def lookup(name: str):
        asked.append(name)
        return [(socket.AF_INET, 1, 6, "", ("8.8.8.8", 0))]

    async def main() -> None:
        resolver = Resolver(asyncio.get_running_loop(), lookup=lookup)
        config = files.bridge(address="bridge.example:443")
        assert [str(ip) for ip in await own_addresses(config, resolver)] == ["8.8.8.8", "127.0.0.1"]
        behind = files.bridge(address="cdn.example:443", mode="behind")
        assert [str(ip) for ip in await own_addresses(behind, resolver)] == ["127.0.0.1"]
        assert asked == ["bridge.example"]

    run("asyncio", monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS[:2])
@pytest.mark.parametrize("supported", [True, False])
def test_signals(kind: str, supported: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the loop's own signal handling, and (Windows) without."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        watched = loop
        if not supported:

            class Without:
                """A loop that cannot watch signals."""

                call_soon_threadsafe = staticmethod(loop.call_soon_threadsafe)

                @staticmethod
                def add_signal_handler(*_) -> None:
                    raise NotImplementedError

            watched = Without()
        before = signal.getsignal(signal.SIGTERM)
        reloads = []
        with Signals(watched, lambda: reloads.append(1)) as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            await until(lambda: bool(reloads))
            assert not signals.stop.is_set()
            os.kill(os.getpid(), signal.SIGTERM)
            await until(signals.stop.is_set)
            assert not signals.at_once.is_set()
            os.kill(os.getpid(), signal.SIGTERM)
            await until(signals.at_once.is_set)
        assert signal.getsignal(signal.SIGTERM) == before

    run(kind, monkeypatch, main)


def test_within_gives_up_its_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        asked = []

        async def work(seconds: float) -> None:
            asked.append(seconds)
            await asyncio.sleep(seconds)

        await within(0.0, asyncio.Event(), work)
        at_once = asyncio.Event()
        asyncio.get_running_loop().call_soon(at_once.set)
        await within(1000.0, at_once, work)
        assert asked == [0.0, 1000.0, 0.0]

        async def broken(seconds: float) -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await within(1.0, asyncio.Event(), broken)

    run("asyncio", monkeypatch, main)


def test_listening_errors_are_words() -> None:
    assert "below 1024" in str(
        cannot_listen(Endpoint("0.0.0.0", 443), PermissionError(13, "Permission denied"))
    )
    assert "permission denied" in str(
        cannot_listen(Endpoint("", 0, Path("/x/y")), PermissionError(13, "Permission denied"))
    )
