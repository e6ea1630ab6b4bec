"""Running roles that read their configuration again: whole or not at all, and no stream ends."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from proxy_cert import make_certificate
from proxy_live import LOOPS, echo, run, serving
from test_proxy_roles import Files, Running, through

from ptproxy.config.model import LogConfig
from ptproxy.errors import ConfigError, StartError
from ptproxy.proxy.bridge import run_bridge
from ptproxy.proxy.client import run_client
from ptproxy.proxy.control_asking import Asking
from ptproxy.proxy.control_bridge_reload import BridgeReload
from ptproxy.proxy.control_files import FileWatch, status_of
from ptproxy.proxy.control_reload import ConfigSource, differing
from ptproxy.proxy.shape_push import ShapePush
from ptproxy.tunnel.tls import bridge_context, leaf_digest

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets")

Making = Callable[..., Any]


class Source:
    """A configuration file as the command line has one, without YAML."""

    def __init__(self, make: Making, path: Path) -> None:
        self._make = make
        self.changes: dict[str, Any] = {}
        self.problems: list[str] = []
        self.logs: list[LogConfig] = []
        path.write_text("what it says does not matter\n")
        self.source = ConfigSource(path, self.read, self.log)

    def read(self) -> Any:
        if self.problems:
            raise ConfigError(self.problems)
        return self._make(**self.changes)

    def log(self, config: LogConfig) -> None:
        if config.file is not None:
            raise StartError("log.file: cannot write")
        self.logs.append(config)


def ask(folder: Path, what: str) -> dict[str, Any]:
    with Asking(folder) as running:
        return running.ask(what)


async def reloaded(folder: Path) -> list[str]:
    return (await asyncio.to_thread(ask, folder, "reload"))["changed"]


async def refused(folder: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        await asyncio.to_thread(ask, folder, "reload")
    return caught.value.problems


async def state(folder: Path) -> dict[str, Any]:
    return await asyncio.to_thread(ask, folder, "state")


class OpenStream:
    """A stream that is to live through everything."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def says(self, data: bytes) -> None:
        self._writer.write(data)
        assert await self._reader.readexactly(len(data)) == data


@contextlib.asynccontextmanager
async def stream(proxy: tuple[str, int], target: tuple[str, int]) -> AsyncIterator[OpenStream]:
    reader, writer = await asyncio.open_connection(*proxy)
    writer.write(b"\5\1\0\5\1\0\1" + socket.inet_aton(target[0]) + target[1].to_bytes(2, "big"))
    assert (await reader.readexactly(12))[3] == 0
    try:
        yield OpenStream(reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("kind", LOOPS[:2])
def test_a_bridge_follows_its_file(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, folder = Files(tmp_path), tmp_path / "bridge-state"
    source = Source(files.bridge, tmp_path / "bridge.yaml")

    async def main() -> None:
        bridge = Running(run_bridge, files.bridge(), source=source.source)
        await bridge.ready()
        client = Running(run_client, files.client(shape="none"))
        proxy = await client.ready()
        async with serving(echo) as target, stream(proxy, target) as old:
            await old.says(b"before")
            assert await reloaded(folder) == []

            source.changes = {"egress": {"allow": []}, "log": {"level": "debug"}, "limits": {"streams": 7}}
            assert await reloaded(folder) == ["egress", "limits.streams", "limits.drain", "log"]
            assert [each.level for each in source.logs] == ["debug"]
            assert await through(proxy, target, b"refused now") == b""

            source.problems = ["bridge.yaml:3: egress: one", "bridge.yaml:4: log: another"]
            assert await refused(folder) == source.problems
            told = await state(folder)
            assert told["reload"]["problems"] == source.problems
            assert told["streams"] >= 1
            assert told["clients"][0]["name"] == "anna"

            source.problems = []
            source.changes = {"egress": {"allow": ["127.0.0.1"]}}
            assert "egress" in await reloaded(folder)
            assert await through(proxy, target, b"permitted again") == b"permitted again"
            await old.says(b"after all of it")
        client.task.cancel()
        bridge.task.cancel()
        await asyncio.gather(client.task, bridge.task, return_exceptions=True)
        assert not (folder / "control").exists()

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS[:2])
def test_a_bridge_moves_and_changes_its_certificate(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, folder = Files(tmp_path), tmp_path / "bridge-state"
    source = Source(files.bridge, tmp_path / "bridge.yaml")

    async def main() -> None:
        bridge = Running(run_bridge, files.bridge(), source=source.source)
        _, port = await bridge.ready()
        client = Running(run_client, files.client(shape="none"))
        proxy = await client.ready()
        async with serving(echo) as target, stream(proxy, target) as old:
            source.changes = {"listen": ["127.0.0.1:0"]}
            assert await reloaded(folder) == ["listen"]
            (moved,) = (await state(folder))["listening"]
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)
            await old.says(b"the connection that came by the old address goes on")

            (tmp_path / "new").mkdir()
            certificate, key = make_certificate(tmp_path / "new")
            source.changes["tls"] = {"certificate": str(certificate), "private_key": str(key)}
            assert await reloaded(folder) == ["tls.certificate", "tls.private_key"]
            await old.says(b"still")
            link = files.link(port=int(moved.rpartition(":")[2]), pin=leaf_digest(certificate))
            second = Running(run_client, files.client(link, shape="none", state="second-state"))
            assert (
                await through(await second.ready(), target, b"the new one is shown")
                == b"the new one is shown"
            )

            taken = source.changes | {"listen": ["127.0.0.1:0", f"127.0.0.1:{target[1]}"]}
            source.changes = taken | {"egress": {"allow": []}}
            (problem,) = await refused(folder)
            assert "cannot listen" in problem
            assert (await state(folder))["listening"] == [moved]
            assert await through(proxy, target, b"nothing of it") == b"nothing of it"
            await old.says(b"to the end")
        for role in (second, client, bridge):
            role.task.cancel()
        await asyncio.gather(second.task, client.task, bridge.task, return_exceptions=True)

    run(kind, monkeypatch, main)


def test_what_fails_late_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log file cannot be opened once shape and addresses have changed."""
    files, folder = Files(tmp_path), tmp_path / "bridge-state"
    source = Source(files.bridge, tmp_path / "bridge.yaml")
    pushed: list[str] = []
    change = ShapePush.change

    def remember(self: ShapePush, shape: Any) -> None:
        pushed.append(shape.name)
        change(self, shape)

    async def main() -> None:
        bridge = Running(run_bridge, files.bridge(), source=source.source)
        await bridge.ready()
        monkeypatch.setattr(ShapePush, "change", remember)
        before = await state(folder)
        source.changes = {
            "listen": [f"127.0.0.1:{files.port}", "127.0.0.1:0"],
            "shape": "bulk",
            "log": {"file": "log"},
            "egress": {"allow": []},
        }
        assert await refused(folder) == ["log.file: cannot write"]
        assert pushed == ["bulk", "browse"]
        after = await state(folder)
        assert (after["listening"], after["shape"]) == (before["listening"], before["shape"])
        descriptors = after["process"]["descriptors"]
        for _ in range(3):
            await refused(folder)
        assert (await state(folder))["process"]["descriptors"] == descriptors  # nothing is left listening
        bridge.task.cancel()
        await asyncio.gather(bridge.task, return_exceptions=True)

    run("asyncio", monkeypatch, main)


def shakes_hands(context: ssl.SSLContext) -> bool:
    """Whether a handshake with this server's context works; without a network."""
    client_context = ssl.create_default_context()
    client_context.check_hostname, client_context.verify_mode = False, ssl.CERT_NONE
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(5):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError:
                return False
    return client.version() is not None


def test_half_of_a_pair_takes_no_key_away(tmp_path: Path) -> None:
    """A certificate that changes between its trial and its loading; its key comes a moment later."""
    config = Files(tmp_path).bridge()
    certificate, key = config.tls.certificate, config.tls.private_key
    assert certificate is not None
    assert key is not None
    context = bridge_context(certificate, key)
    reload = BridgeReload(SimpleNamespace(), None, context, None)  # type: ignore[arg-type]
    (tmp_path / "new").mkdir()
    other, its_key = make_certificate(tmp_path / "new")
    certificate.write_bytes(other.read_bytes())
    with pytest.raises(StartError, match="does not belong"):
        reload._load_certificates(config)
    assert shakes_hands(context)
    key.write_bytes(its_key.read_bytes())
    reload._load_certificates(config)
    assert shakes_hands(context)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"codecs": ["http"]}, ["codecs"]),
        ({"path": "/other", "egress": {"allow": []}}, ["path"]),
        ({"limits": {"handshakes": 3, "drain": "5s"}, "access": "open"}, ["access", "limits.handshakes"]),
        ({"metrics": {"listen": "127.0.0.1:0"}}, ["metrics.listen"]),
    ],
)
def test_what_cannot_change_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], names: list[str]
) -> None:
    files, folder = Files(tmp_path), tmp_path / "bridge-state"
    source = Source(files.bridge, tmp_path / "bridge.yaml")

    async def main() -> None:
        bridge = Running(run_bridge, files.bridge(), source=source.source)
        await bridge.ready()
        source.changes = changes
        problems = await refused(folder)
        assert [problem.split(": ")[1] for problem in problems] == names
        assert all("--replace" in problem for problem in problems)
        bridge.task.cancel()
        await asyncio.gather(bridge.task, return_exceptions=True)

    run("asyncio", monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS[:2])
def test_a_client_follows_its_file(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, folder = Files(tmp_path), tmp_path / "client-state"

    def make(**changes: Any) -> Any:
        return files.client(**({"shape": "none"} | changes))

    source = Source(make, tmp_path / "client.yaml")

    async def main() -> None:
        bridge = Running(run_bridge, files.bridge())
        await bridge.ready()
        client = Running(run_client, make(), config_source=source.source)
        proxy = await client.ready()
        async with serving(echo) as target, stream(proxy, target) as old:
            told = await state(folder)
            assert told["condition"] == "connected"
            assert told["listening"] == [f"127.0.0.1:{proxy[1]}"]
            assert told["bridges"][0]["ways"][0]["degree"] == "open"

            source.changes = {"listen": ["127.0.0.1:0", "[::1]:0"] if socket.has_ipv6 else ["127.0.0.1:0"]}
            assert await reloaded(folder) == (["listen"] if socket.has_ipv6 else [])
            source.changes = {"listen": ["127.0.0.2:0"], "log": {"level": "error"}}
            assert await reloaded(folder) == ["listen", "log"]
            (moved,) = (await state(folder))["listening"]
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(*proxy)
            host, _, port = moved.rpartition(":")
            assert await through((host, int(port)), target, b"by the new address") == b"by the new address"
            await old.says(b"and the old one")

            source.changes |= {"listen": ["127.0.0.1:0"], "codec": ["http"]}
            assert [each.split(": ")[1] for each in await refused(folder)] == ["codec"]
            assert (await state(folder))["listening"] == [moved]
        client.task.cancel()
        bridge.task.cancel()
        await asyncio.gather(client.task, bridge.task, return_exceptions=True)

    run(kind, monkeypatch, main)


def test_a_change_of_the_file_is_followed_once_it_is_whole(tmp_path: Path) -> None:
    async def main() -> None:
        calls: list[None] = []
        one, other = tmp_path / "one", tmp_path / "other"
        one.write_text("1")
        watch = FileWatch(asyncio.get_running_loop(), lambda: calls.append(None), every=3600.0)
        watch.follow([one, other])
        watch.look()
        assert not calls
        one.write_text("1, and half of")
        watch.look()
        other.write_text("its key")  # a moment later
        watch.look()
        assert not calls
        watch.look()
        assert len(calls) == 1
        watch.look()
        one.unlink()
        watch.look()
        watch.look()
        assert len(calls) == 2
        other.write_text("read by a command just now")
        watch.note()
        watch.look()
        watch.look()
        assert len(calls) == 2
        watch.stop()

    asyncio.run(main())


def test_what_changes_while_other_files_come_to_be_followed_is_seen(tmp_path: Path) -> None:
    """A reload names another certificate; the file it was read from is written again before it ends."""

    async def main() -> None:
        calls: list[None] = []
        config, certificate = tmp_path / "config", tmp_path / "certificate"
        config.write_text("1")
        certificate.write_text("1")
        watch = FileWatch(asyncio.get_running_loop(), lambda: calls.append(None), every=3600.0)
        watch.follow([config])
        watch.note()  # and now it is read
        config.write_text("2, which nobody has read")
        watch.follow([config, certificate])
        watch.look()
        watch.look()
        assert len(calls) == 1
        watch.look()
        assert len(calls) == 1
        watch.stop()

    asyncio.run(main())


def test_what_has_changed_since_it_was_read_is_seen(tmp_path: Path) -> None:
    """A process that starts reads its configuration long before it follows it."""

    async def main() -> None:
        calls: list[None] = []
        config, certificate = tmp_path / "config", tmp_path / "certificate"
        config.write_text("1")
        certificate.write_text("1")
        read = {path: status_of(path) for path in (config, certificate)}
        watch = FileWatch(asyncio.get_running_loop(), lambda: calls.append(None), every=3600.0)
        watch.follow([config, certificate], read)
        watch.look()
        assert not calls
        watch.stop()
        config.write_text("2, which nobody has read")
        watch = FileWatch(asyncio.get_running_loop(), lambda: calls.append(None), every=3600.0)
        watch.follow([config, certificate], read)
        watch.look()
        watch.look()
        assert len(calls) == 1
        watch.stop()

    asyncio.run(main())


def test_a_bridge_reads_what_has_changed_while_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, folder = Files(tmp_path), tmp_path / "bridge-state"
    path = tmp_path / "bridge.yaml"
    source = Source(files.bridge, path)
    started = dataclasses.replace(source.source, seen={path: status_of(path)})

    async def main() -> None:
        config = files.bridge()
        path.write_text("changed after it was read\n")
        source.changes = {"egress": {"allow": []}}
        bridge = Running(run_bridge, config, source=started)
        await bridge.ready()
        async with asyncio.timeout(120):
            while (told := (await state(folder))["reload"]) is None:
                await asyncio.sleep(0.05)
        assert "egress" in told["changed"]
        bridge.task.cancel()
        await asyncio.gather(bridge.task, return_exceptions=True)

    run("asyncio", monkeypatch, main)


def test_a_section_of_which_all_can_change_is_one_name(tmp_path: Path) -> None:
    files = Files(tmp_path)
    old = files.bridge()
    new = files.bridge(egress={"ports": ["1"], "ipv6": False}, limits={"drain": "1s", "idle": "1h"})
    assert list(differing(old, new, frozenset({"egress"}))) == ["egress", "limits.idle", "limits.drain"]


def test_a_socket_that_a_kill_has_left_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, folder = Files(tmp_path), tmp_path / "bridge-state"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(folder / "control"))
    os.chmod(folder / "control", 0o777)

    async def main() -> None:
        bridge = Running(run_bridge, files.bridge())
        await bridge.ready()
        assert (await state(folder))["condition"] == "running"
        bridge.task.cancel()
        await asyncio.gather(bridge.task, return_exceptions=True)

    run("asyncio", monkeypatch, main)
