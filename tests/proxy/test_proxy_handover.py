"""The two processes of a replacement: whichever fails, one of them is in charge, and only one."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from ptproxy.errors import ConfigError, StartError
from ptproxy.proxy import handover, succession
from ptproxy.proxy.control_reload import Reloads
from ptproxy.proxy.handover import DESCRIPTOR, VARIABLE, Former, Successor
from ptproxy.proxy.startup import Signals, first_of, hold_signals
from ptproxy.proxy.supervisor import tell_supervisor
from ptproxy.tunnel.handover_channel import Channel, Word
from ptproxy.tunnel.handover_record import VERSION

pytestmark = pytest.mark.skipif(not hasattr(os, "posix_spawn"), reason="replaced on POSIX only")

TALK = f"""
import os, socket, sys, time
assert os.environ[{VARIABLE!r}] == {str(DESCRIPTOR)!r}
sock = socket.socket(fileno={DESCRIPTOR})
def say(word, body=b""):
    sock.sendall(bytes([word, 0]) + len(body).to_bytes(4, "big") + body)
"""
"""What a new process that is none begins with."""
READY = f"say({int(Word.READY_FOR)}, {VERSION.to_bytes(2, 'big')!r})\n"


def program(text: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", TALK + text]


def ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sys.exit(3)", "has ended"),
        ("sock.sendall(b'GET / HTTP/1.1\\r\\n'); time.sleep(600)", "has ended"),
        (f"say({int(Word.TAKEN)}); time.sleep(600)", "nonsense"),
        (f"say({int(Word.READY_FOR)}, b'zz'); time.sleep(600)", "another way"),
        ("sock.close(); time.sleep(600)", "has ended"),
    ],
)
def test_one_that_does_not_get_ready_is_told_and_ended(
    text: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "GRACE", 0.2)

    async def main() -> None:
        successor = Successor(program(text))
        with pytest.raises(StartError, match=told):
            await successor.start()
        pid = successor.pid
        await successor.kill()
        assert ended(pid)

    asyncio.run(main())


def test_one_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "START_TIMEOUT", 0.1)

    async def main() -> None:
        successor = Successor(program("time.sleep(600)"))
        with pytest.raises(StartError, match="does not get ready"):
            await successor.start()
        pid = successor.pid
        await successor.kill()
        assert ended(pid)

    asyncio.run(main())


def test_a_program_that_is_not_there() -> None:
    async def main() -> None:
        successor = Successor(["/nowhere/at/all"])
        with pytest.raises(StartError, match="cannot be started"):
            await successor.start()
        await successor.kill()

    asyncio.run(main())


def test_one_that_the_kernel_has_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    # SIGCHLD stays ignored in what is started with it ignored; children then leave no status.
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    async def main() -> None:
        for grace, text in ((20.0, "sys.exit(3)"), (0.0, f"say({int(Word.TAKEN)}); time.sleep(600)")):
            monkeypatch.setattr(handover, "GRACE", grace)
            successor = Successor(program(text))
            with pytest.raises(StartError):
                await successor.start()
            pid = successor.pid
            await successor.kill()
            assert ended(pid)

    try:
        asyncio.run(main())
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_one_that_is_interrupted_is_told() -> None:
    async def main() -> None:
        successor = Successor(program("time.sleep(600)"))
        starting = asyncio.ensure_future(successor.start())
        while not successor.pid:
            await asyncio.sleep(0.01)
        successor.interrupt()
        with pytest.raises(StartError, match="has ended"):
            await starting
        await successor.kill()

    asyncio.run(main())


def test_one_that_dies_as_it_takes_over_is_told() -> None:
    async def main() -> None:
        successor = Successor(program(READY + "sock.recv(1)"))
        await successor.start()
        with pytest.raises((StartError, OSError)):
            await successor.give([0], b"x" * 5_000_000)
        await successor.kill()

    asyncio.run(main())


@pytest.mark.parametrize("word", [None, Word.TAKEN], ids=["dies", "talks"])
def test_one_that_never_says_that_it_goes_on_does_not(word: Word | None) -> None:
    # A GO that nobody reads must not leave the bridge without any process.
    async def main() -> None:
        text = READY + f"say({int(Word.TAKEN)})\nwhile sock.recv(1) != bytes([{int(Word.GO)}]): pass\n"
        successor = Successor(program(text + (f"say({int(word)}); time.sleep(600)" if word else "")))
        await successor.start()
        await successor.give([0], b"x")
        with pytest.raises(StartError):
            await successor.go()
        pid = successor.pid
        await successor.kill()
        assert ended(pid)

    asyncio.run(main())


def test_the_new_one_is_in_charge_once_it_has_said_so() -> None:
    async def main() -> None:
        channel, new = former()
        waiting = asyncio.ensure_future(new.wait_for_go())
        assert (await asyncio.to_thread(channel.hear, 60))[0] is Word.TAKEN
        channel.say(Word.GO, within=60)
        assert (await asyncio.to_thread(channel.hear, 60))[0] is Word.MINE
        await waiting
        new.close(asyncio.get_running_loop())
        channel.close()

    asyncio.run(main())


def test_a_new_one_whose_go_never_comes_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "TAKE_TIMEOUT", 0.05)

    async def main() -> None:
        channel, new = former()
        with pytest.raises(StartError, match="handover"):
            await new.wait_for_go()
        new.close(asyncio.get_running_loop())
        channel.close()

    asyncio.run(main())


def test_the_new_process_inherits_nothing_else() -> None:
    async def main() -> None:
        with socket.socket() as other:
            text = f"""
assert os.read(0, 1) == b"", "its standard input is nobody's"
try:
    os.fstat({other.fileno()})
except OSError:
    {READY}
time.sleep(600)
"""
            successor = Successor(program(text))
            await successor.start()
            await successor.kill()

    asyncio.run(main())


def former() -> tuple[Channel, Former]:
    here, there = Channel.pair()
    return here, Former(there.detach())


def test_a_former_process_that_dies_after_all_was_taken_leaves_the_new_one_in_charge() -> None:
    async def main() -> None:
        channel, new = former()
        channel.close()
        await new.wait_for_go()
        new.close(asyncio.get_running_loop())

    asyncio.run(main())


@pytest.mark.parametrize("cut", ["at once", "amid the record", "nonsense"])
def test_a_former_process_that_dies_before_leaves_nobody_else(cut: str) -> None:
    async def main() -> None:
        channel, new = former()
        if cut == "amid the record":
            channel.say(Word.RECORD, b"half", within=5)
        elif cut == "nonsense":
            channel.say(Word.GO, within=5)
        if cut != "nonsense":
            channel.close()
        with pytest.raises(StartError, match="handover"):
            await new.ask()
        new.close(asyncio.get_running_loop())
        channel.close()

    asyncio.run(main())


@pytest.mark.parametrize("fault", [OSError("no room"), StartError("no room"), None])
def test_services_that_do_not_come_again_do_not_end_the_bridge(
    fault: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # ``None``: one that is never through with closing.
    monkeypatch.setattr(succession, "SERVICES_TIMEOUT", 0.05)
    happened: list[str] = []

    async def close_services() -> None:
        if fault is None:
            await asyncio.sleep(3600)

    async def start_services(services: object) -> None:
        happened.append("services")
        raise fault or AssertionError

    parts: Any = SimpleNamespace(
        listeners={}, close_services=close_services, start_services=start_services, own_services=list
    )
    standing: Any = SimpleNamespace(go_on=lambda: happened.append("streams"))
    asyncio.run(succession._go_on_here(parts, standing, succession.Succession([], list)))
    assert happened == (["streams", "services"] if fault else ["streams"])


@pytest.mark.parametrize("fails", [False, True], ids=["goes on there", "goes on here"])
def test_a_reload_waits_for_the_outcome(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It might listen where the new process is about to, or change what was handed over."""
    happened: list[str] = []
    asked: list[asyncio.Future[Any]] = []

    class Fake:
        pid = 1

        def __init__(self, command: object) -> None:
            pass

        async def start(self) -> None:
            happened.append("starts")
            asked.append(asyncio.ensure_future(reloads[0].reload("command")))
            reloads[0].soon("file")
            await rest()

        async def go(self) -> None:
            await rest()
            if fails:
                raise StartError("no")
            happened.append("goes on there")

        async def kill(self) -> None:
            await rest()
            happened.append("goes on here")

        def close(self) -> None:
            pass

    async def rest() -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    async def nothing(*_: object) -> None:
        pass

    async def work() -> tuple[str, ...]:
        happened.append("reload begins")
        await rest()
        happened.append("reload ends")
        return ()

    reloads: list[Reloads] = []
    standing: Any = SimpleNamespace(
        stand_still=lambda: None, check=lambda: None, release=lambda: None, streams=0
    )
    monkeypatch.setattr(succession, "Successor", Fake)
    monkeypatch.setattr(succession, "Standing", lambda bridge: standing)
    for name in ("_give", "_go_on_here", "_serve_out"):
        monkeypatch.setattr(succession, name, nothing)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        reloads.append(Reloads(loop, work))
        state = SimpleNamespace(note_holder=lambda: None)
        parts: Any = SimpleNamespace(bridge=None, listeners={}, state=state, reloads=reloads[0])
        reloads[0].soon("file")  # under way when the bridge is to be replaced
        await asyncio.sleep(0)
        done = await succession.hand_over(parts, succession.Succession([], list), Signals(loop))
        assert done is not fails
        await rest()
        (answer,) = await asyncio.gather(*asked, return_exceptions=True)
        if fails:
            assert answer == ()
        else:
            assert isinstance(answer, ConfigError)
            assert answer.problems == [succession.FOLLOWED]
        await rest()
        await reloads[0].stop()

    asyncio.run(main())
    one = ["reload begins", "reload ends"]
    assert happened == [*one, "starts", *(["goes on here", *one, *one] if fails else ["goes on there"])]


def test_a_supervisor_hears_what_is_said(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        tell_supervisor("READY=1")
        assert sock.recv(100) == b"READY=1"
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
        tell_supervisor("READY=1")
        monkeypatch.setenv("NOTIFY_SOCKET", "relative")
        tell_supervisor("READY=1")
        monkeypatch.delenv("NOTIFY_SOCKET")
        tell_supervisor("READY=1")


def test_signals_that_come_before_they_are_watched_are_not_lost() -> None:
    heard: list[str] = []

    async def main() -> None:
        with Signals(
            asyncio.get_running_loop(), lambda: heard.append("reload"), replacing=("SIGUSR2",)
        ) as signals:
            assert not await first_of(signals.stop, signals.replace)

    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        hold_signals("SIGHUP", "SIGUSR2")
        for number in (signal.SIGHUP, signal.SIGUSR2):  # to this thread: the test's program may have others
            signal.pthread_kill(threading.get_ident(), number)
        asyncio.run(asyncio.wait_for(main(), 120))
        assert heard == ["reload"]
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_signals_that_replace() -> None:
    async def main() -> None:
        with Signals(asyncio.get_running_loop(), replacing=("SIGUSR2",)) as signals:
            os.kill(os.getpid(), signal.SIGUSR2)
            assert not await first_of(signals.stop, signals.replace)
            signals.ask()
            assert await first_of(signals.stop, signals.replace)

    asyncio.run(main())
