"""``ptproxy.serve``: a bridge within a program, its services, and how it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import pytest
from api_live import PLAIN, bridge_config, pair
from proxy_live import LOOPS, run, until
from test_proxy_exit import FakeIncoming

import ptproxy
from ptproxy.api import bridge as api_bridge
from ptproxy.errors import ConfigError, Reason, StartError
from ptproxy.target import Target


@pytest.mark.parametrize("kind", LOOPS[:2])
def test_services_of_the_programs_own(kind, tmp_path, monkeypatch) -> None:
    async def shout(reader, writer) -> None:
        writer.write((await reader.readline()).upper())

    async def broken(reader, writer) -> None:
        await reader.readline()
        raise RuntimeError("a bug of the service")

    async def main() -> None:
        async with pair(tmp_path, services={"shout": shout, "broken": broken}) as client:
            reader, writer = await client.open_service("shout")
            writer.write(b"hello\n")
            assert await reader.read() == b"HELLO\n"
            writer.close()
            # Programs that can only name hosts reach it too.
            reader, writer = await client.open_connection("shout.ptproxy.internal", 1, first_data=b"again\n")
            assert await reader.read() == b"AGAIN\n"
            writer.close()
            reader, writer = await client.open_service("broken")
            writer.write(b"hello\n")
            with pytest.raises(ptproxy.StreamLostError) as caught:
                await reader.read()
            assert caught.value.reason is Reason.GENERAL
            writer.close()

    run(kind, monkeypatch, main)


def test_it_leaves_the_programs_signals_alone_and_drains(tmp_path, monkeypatch) -> None:
    gate = asyncio.Event()
    asked: list[int] = []

    async def slow(reader, writer) -> None:
        await reader.readline()
        await gate.wait()
        writer.write(b"done\n")

    async def main() -> None:
        monkeypatch.setattr(signal, "set_wakeup_fd", signal.set_wakeup_fd)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: asked.append(1))
        config = bridge_config(tmp_path, limits={"drain": "1000s"})
        serving = ptproxy.serve(config, services={"slow": slow})
        bridge = await serving.__aenter__()
        async with ptproxy.connect(bridge.link(), **PLAIN) as client:
            reader, writer = await client.open_service("slow")
            writer.write(b"go\n")
            os.kill(os.getpid(), signal.SIGTERM)
            await until(lambda: bool(asked))
            bridge.reload()
            ending = asyncio.ensure_future(serving.__aexit__(None, None, None))
            await asyncio.sleep(0)
            gate.set()
            assert await reader.read() == b"done\n"
            writer.close()
            await writer.wait_closed()
            await ending
        asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)

    run("asyncio", monkeypatch, main)


def test_an_exception_ends_it_at_once(tmp_path, monkeypatch) -> None:
    async def main() -> None:
        with pytest.raises(KeyError):
            async with ptproxy.serve(bridge_config(tmp_path, limits={"drain": "1000s"})):
                raise KeyError
        async with ptproxy.serve(bridge_config(tmp_path)) as bridge:  # the folder is free again
            assert bridge.addresses == [f"127.0.0.1:{bridge.link().port}"]

    run("asyncio", monkeypatch, main)


def test_what_keeps_it_from_starting(tmp_path, monkeypatch) -> None:
    async def nothing(reader, writer) -> None: ...

    async def main() -> None:
        with pytest.raises(ConfigError):
            async with ptproxy.serve(tmp_path / "missing.yaml"):
                pass
        config = bridge_config(tmp_path)
        async with ptproxy.serve(config):
            with pytest.raises(StartError, match="another ptproxy runs"):
                async with ptproxy.serve(config):
                    pass
        for name in ("Not A Name", "shape"):
            with pytest.raises(StartError, match="services"):
                async with ptproxy.serve(config, services={name: nothing}):
                    pass

    run("asyncio", monkeypatch, main)


def test_import_ptproxy_imports_nothing_else() -> None:
    code = (
        "import sys, ptproxy\n"
        "assert not [name for name in sys.modules if name.startswith('ptproxy.')]\n"
        "assert 'asyncio' not in sys.modules\n"
        "missing = [name for name in ptproxy.__all__ if not hasattr(ptproxy, name)]\n"
        "assert not missing, missing\n"
        "assert not {'httpx', 'aiohttp', 'httpcore'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_one_client_does_not_take_a_service_from_the_others(monkeypatch) -> None:
    """Who has most of the places gives one up to who has fewer; nobody has more than a share."""
    monkeypatch.setattr(api_bridge, "MAX_STREAMS", 3)
    monkeypatch.setattr(api_bridge, "MAX_OF_ONE", 2)

    async def stay(reader, writer) -> None:
        await reader.read()

    async def main() -> None:
        service = api_bridge._Service("stay", stay)

        def opened(account):
            incoming = FakeIncoming(Target.service("stay"))
            incoming.peer = account
            service(incoming)
            return incoming

        first, second = opened("anna"), opened("anna")
        assert opened("anna").refused is Reason.LIMIT
        ben = opened("ben")
        await asyncio.sleep(0)
        carl, dora = opened("carl"), opened("dora")
        assert carl.refused is None
        assert dora.refused is Reason.LIMIT  # everybody has one
        await until(lambda: first.stream.reset_reason is Reason.SHUTDOWN)
        assert [each.stream.closed for each in (second, ben, carl)] == [False] * 3
        await service.close()
        await until(lambda: second.stream.closed and ben.stream.closed and carl.stream.closed)

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_stream_whose_place_goes_at_once_does_not_stay_open(monkeypatch) -> None:
    """Its task has not begun, so that nothing in it can end the stream."""
    monkeypatch.setattr(api_bridge, "MAX_STREAMS", 2)

    async def stay(reader, writer) -> None:
        await reader.read()

    async def main() -> None:
        service = api_bridge._Service("stay", stay)
        opened = []
        for account in ("anna", "anna", "ben"):
            opened.append(FakeIncoming(Target.service("stay")))
            opened[-1].peer = account
            service(opened[-1])
        await until(lambda: opened[0].stream.reset_reason is Reason.SHUTDOWN)
        assert [each.stream.closed for each in opened] == [True, False, False]
        await service.close()
        await until(lambda: all(each.stream.closed for each in opened))

    asyncio.run(asyncio.wait_for(main(), 60))
