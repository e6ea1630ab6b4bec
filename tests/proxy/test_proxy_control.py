"""The control socket: its lines, who may speak, and how much."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy_live import LOOPS, run, until

from ptproxy.config.quantities import Endpoint
from ptproxy.errors import ConfigError, StartError
from ptproxy.proxy import control
from ptproxy.proxy.control import ControlPort
from ptproxy.proxy.control_asking import Asking, workers_of
from ptproxy.proxy.control_lines import (
    MAX_PROBLEMS,
    MAX_REPLY,
    MAX_REQUEST,
    ControlError,
    Reply,
    Request,
)
from ptproxy.proxy.metrics_port import place_of

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets")

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


# ---- lines ------------------------------------------------------------------------------------------


@given(st.from_regex(r"[a-z]{1,32}", fullmatch=True))
def test_a_request_comes_back(ask: str) -> None:
    assert Request.parse(Request(ask).serialize().removesuffix(b"\n")) == Request(ask)


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=4))
def test_an_answer_comes_back(answer: dict[str, Any]) -> None:
    line = Reply(answer).serialize()
    assert line.count(b"\n") == 1
    assert Reply.parse(line.removesuffix(b"\n")) == Reply(answer)


@given(st.lists(st.text(max_size=50), min_size=1, max_size=100))
def test_reasons_come_back_bounded(problems: list[str]) -> None:
    reply = Reply.parse(Reply.refusal(problems).serialize().removesuffix(b"\n"))
    assert reply.answer is None
    assert len(reply.problems) == min(len(problems), MAX_PROBLEMS)
    assert list(reply.problems[:10]) == problems[:10]


@given(st.binary(max_size=200) | JSON.map(lambda data: json.dumps(data).encode()))
def test_garbage_is_one_kind_of_error(line: bytes) -> None:
    for kind in (Request, Reply):
        try:
            kind.parse(line)
        except ControlError:
            pass
        else:
            pytest.fail("garbage was taken")


@given(st.dictionaries(st.sampled_from(["version", "ask", "answer", "problems", "more"]), JSON))
def test_what_is_nearly_right_is_taken_whole_or_refused(data: dict[str, Any]) -> None:
    data["version"] = 1
    line = json.dumps(data).encode()
    for kind in (Request, Reply):
        try:
            again = kind.parse(line)
        except ControlError:
            continue
        assert kind.parse(again.serialize().removesuffix(b"\n")) == again


def test_long_lines_and_other_versions_are_refused() -> None:
    with pytest.raises(ControlError, match="too long"):
        Request.parse(b" " * MAX_REQUEST)
    with pytest.raises(ControlError, match="version 1"):
        Request.parse(b'{"version": 2, "ask": "state"}')
    with pytest.raises(ControlError, match="version 1"):
        Request.parse(b'{"version": true, "ask": "state"}')
    with pytest.raises(ControlError):
        Request.parse(b"[" * 4000)  # deeper than a parser recurses
    line = Reply({"all": "x" * MAX_REPLY}).serialize()
    assert Reply.parse(line.removesuffix(b"\n")).problems == ("the answer is too long",)


# ---- the port ---------------------------------------------------------------------------------------


class Answers:
    """What a role would answer."""

    def __init__(self) -> None:
        self.asked = 0
        self.go_on = asyncio.Event()

    def state(self) -> dict[str, Any]:
        self.asked += 1
        return {"asked": self.asked}

    def large(self) -> dict[str, Any]:
        self.asked += 1
        return {"large": "x" * 900_000}

    async def slow(self) -> dict[str, Any]:
        await self.go_on.wait()
        return {}

    async def refuse(self) -> dict[str, Any]:
        raise ConfigError(["one thing", "another"])

    def fail(self) -> dict[str, Any]:
        raise StartError("no room")

    def port(self, folder: Path) -> ControlPort:
        names = ("state", "large", "slow", "refuse", "fail")
        port = ControlPort(asyncio.get_running_loop(), {name: getattr(self, name) for name in names})
        port.listen(folder)
        return port


def ask(folder: Path, *what: str) -> list[dict[str, Any]]:
    with Asking(folder) as running:
        return [running.ask(each) for each in what]


@pytest.mark.parametrize("kind", LOOPS)
def test_it_answers_its_user(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        port = Answers().port(tmp_path)
        assert stat.S_IMODE((tmp_path / "control").stat().st_mode) == 0o600
        answers = await asyncio.to_thread(ask, tmp_path, "state", "large", "state")
        assert [answers[0], answers[2]] == [{"asked": 1}, {"asked": 3}]
        with pytest.raises(ConfigError) as refused:
            await asyncio.to_thread(ask, tmp_path, "refuse")
        assert refused.value.problems == ["one thing", "another"]
        with pytest.raises(ConfigError, match="no room"):
            await asyncio.to_thread(ask, tmp_path, "fail")
        with pytest.raises(ConfigError, match="cannot be asked"):
            await asyncio.to_thread(ask, tmp_path, "stop")
        await port.stop()
        assert not (tmp_path / "control").exists()
        with pytest.raises(StartError, match="nothing runs"):
            ask(tmp_path, "state")

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_pieces_garbage_and_requests_in_a_row(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        port = Answers().port(tmp_path)
        reader, writer = await asyncio.open_unix_connection(tmp_path / "control", limit=1 << 21)
        line = Request("state").serialize()
        writer.write(line + line + b"nonsense\n" + line[:10])
        assert [json.loads(await reader.readline()).get("answer") for _ in range(2)] == [
            {"asked": 1},
            {"asked": 2},
        ]
        assert json.loads(await reader.readline())["problems"] == ["not a line of JSON"]
        for byte in line[10:]:
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert json.loads(await reader.readline())["answer"] == {"asked": 3}
        writer.write(b" " * MAX_REQUEST + b"\n" + line)
        assert json.loads(await reader.readline())["problems"] == ["the line is too long"]
        writer.close()
        await until(lambda: not port.connections)
        await port.stop()

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_who_does_not_read_gets_no_more(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        answers = Answers()
        port = answers.port(tmp_path)
        line = Request("large").serialize()
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(tmp_path / "control"))
            sock.sendall(line * 4)
            await until(lambda: answers.asked > 0 and not port.tasks)
            for _ in range(20):
                await asyncio.sleep(0)
            assert answers.asked == 1
            lines = await asyncio.to_thread(read_lines, sock, 4)
            assert all("answer" in json.loads(each) for each in lines)
            assert answers.asked == 4
            sock.sendall(b" " * 3 * MAX_REQUEST)  # without an end, and without waiting for one
            await until(lambda: not port.connections)
        await port.stop()

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_connections_are_few_and_strangers_none(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "MAX_CONNECTIONS", 2)

    async def main() -> None:
        port = Answers().port(tmp_path)
        held = [await asyncio.open_unix_connection(tmp_path / "control") for _ in range(2)]
        await until(lambda: len(port.connections) == 2)
        reader, writer = await asyncio.open_unix_connection(tmp_path / "control")
        assert await ended(reader)
        for _, each in (*held, (reader, writer)):
            each.close()
        await until(lambda: not port.connections)
        monkeypatch.setattr(control, "peer_of", lambda sock: os.geteuid() + 1)
        reader, writer = await asyncio.open_unix_connection(tmp_path / "control")
        writer.write(Request("state").serialize())
        assert await ended(reader)
        writer.close()
        await port.stop()

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_it_stops_in_the_middle_of_an_answer(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        port = Answers().port(tmp_path)
        reader, writer = await asyncio.open_unix_connection(tmp_path / "control")
        writer.write(Request("slow").serialize())
        await until(lambda: bool(port.tasks))
        await port.stop()
        assert await ended(reader)
        writer.close()

    run(kind, monkeypatch, main)


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="this system does not tell who connects")
def test_the_kernel_says_who_connects() -> None:
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        assert control.peer_of(one) == os.geteuid()


def test_what_fails_unforeseen_is_answered_all_the_same(tmp_path: Path) -> None:
    """Else the asker waits for a minute, and the process looks as if it stood still."""

    def fail() -> dict[str, Any]:
        raise RuntimeError("a mistake of ours")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        seen: list[str] = []
        loop.set_exception_handler(lambda _, context: seen.append(str(context["exception"])))
        port = ControlPort(loop, {"state": fail, "health": lambda: {"healthy": True}})
        port.listen(tmp_path)

        def ask() -> None:
            with Asking(tmp_path) as running:
                with pytest.raises(ConfigError) as caught:
                    running.ask("state")
                assert caught.value.problems == ["it failed in an unforeseen way; the log says how"]
                assert running.ask("health") == {"healthy": True}

        await asyncio.to_thread(ask)
        assert seen == ["a mistake of ours"]
        await port.stop()

    asyncio.run(main())


def test_each_worker_is_asked_by_itself(tmp_path: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ports = [ControlPort(loop, {"state": functools.partial(dict, worker=number)}) for number in range(3)]
        for number, port in enumerate(ports):
            port.listen(tmp_path, number)
        (tmp_path / "control.x").touch()
        (tmp_path / "control.7").touch()  # no socket
        with socket.socket(socket.AF_UNIX) as left:  # of a worker that was killed, and is not started again
            left.bind(str(tmp_path / "control.8"))
        assert workers_of(tmp_path) == [0, 1, 2]

        def ask_one(number: int) -> dict[str, Any]:
            with Asking(tmp_path, worker=number) as running:
                return running.ask("state")

        for number in range(3):
            assert await asyncio.to_thread(ask_one, number) == {"worker": number}
        for port in ports:
            await port.stop()
        assert workers_of(tmp_path) == [0]

    asyncio.run(main())
    tcp, unix = Endpoint("127.0.0.1", 9464), Endpoint("", 0, Path("/run/measures"))
    assert place_of(tcp, 0) == tcp
    assert place_of(tcp, 2).port == 9466
    assert str(place_of(unix, 1)) == "unix:/run/measures.1"


def test_without_a_folder_a_role_runs_all_the_same(tmp_path: Path) -> None:
    async def main() -> None:
        port = ControlPort(asyncio.get_running_loop(), {})
        port.listen(tmp_path / "nowhere")
        await port.stop()

    asyncio.run(main())


def read_lines(sock: socket.socket, count: int) -> list[bytes]:
    with sock.makefile("rb") as file:
        return [file.readline() for _ in range(count)]


async def ended(reader: asyncio.StreamReader) -> bool:
    """Whether the connection ends without a word."""
    try:
        return await reader.read(1) == b""
    except ConnectionResetError:
        return True
