"""What status, reload and doctor show people: from made-up answers, and of real processes."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from free_ports import free_port
from hypothesis import given
from hypothesis import strategies as st
from test_cli_commands import good, run
from test_cli_run import running, stopped

from ptproxy.cli.asked import state_folder
from ptproxy.cli.status_sheet import SAMPLES, Fact, Pace, Sheet, Table, sheet_of, size, span, sparkline
from ptproxy.cli.status_text import text_of
from ptproxy.errors import ConfigError

NOW = 1_800_000_000.0
PROCESS = {
    "program": "1.0", "pid": 42, "began_at": NOW - 3_700, "now": NOW, "cpu": 12.5, "resident": 70 << 20,
    "descriptors": 30, "most_descriptors": 1024,
}  # fmt: skip


def way(front: int, codec: str, degree: str = "open", **values: Any) -> dict[str, Any]:
    return {
        "front": front, "codec": codec, "degree": degree, "failed_at": None, "rests": 0.0, "took": None,
        "done": "",
    } | values  # fmt: skip


def client(**changes: Any) -> dict[str, Any]:
    carrier = {
        "number": 3, "codec": "http", "sent": 2_000, "received": 3 << 20, "streams": 2, "rtt": 0.041,
        "suspect": False,
    }  # fmt: skip
    bridge = {
        "bridge": "bridge.example:443", "carriers": [carrier], "streams": 2, "error": "", "account": None,
        "ways": [way(1, "http", took=0.12), way(1, "websocket"), way(2, "http", "TCP silent", rests=41.0)],
    }  # fmt: skip
    return {
        "role": "client", "process": PROCESS, "condition": "connected", "why": "",
        "listening": ["127.0.0.1:1080"], "connections": 1, "fingerprint": "chrome", "bridges": [bridge],
        "carriers": {"http": 1}, "streams": 2, "moved": {"sent": 2_000, "received": 3 << 20, "carriers": 4},
        "last_block": None, "reload": None,
    } | changes  # fmt: skip


def bridge(**changes: Any) -> dict[str, Any]:
    one = {"name": "anna", "sessions": 1, "carriers": 2, "streams": 5, "sent": 10, "received": 20}
    return {
        "role": "bridge", "process": PROCESS, "condition": "running", "mode": "standalone",
        "listening": ["0.0.0.0:443"], "codecs": ["http"], "shape": "browse", "clients": [one], "known": 1,
        "sessions": {"open": 1, "limit": 10}, "carriers": {"http": 2}, "streams": 5, "leaving": 4,
        "strangers": 1, "undecided": 0, "moved": {"sent": 1, "received": 2, "carriers": 0},
        "memory": {"used": 1 << 20, "limit": 64 << 20, "pressed": False},
        "accounts": {"access": "enrolled", "identities": 3, "revoked": 1, "invites": 0},
        "certificate": {"ends_at": NOW + 86_400}, "reload": None,
    } | changes  # fmt: skip


def shown(state: dict[str, Any]) -> str:
    return text_of(sheet_of(state, Pace()))


def test_a_client_that_is_connected() -> None:
    text = shown(client())
    for words in ("connected", "1 local connection, 2 streams", "3.0 MiB in all", "41 ms", "120 ms"):
        assert words in text
    assert "not tried" in text  # a way of which nothing is known is not shown as open
    assert "42, for 1 h 1 min" in text


def test_a_client_that_is_blocked_says_by_what() -> None:
    block = way(2, "http", "TLS reset at ClientHello", failed_at=NOW - 130) | {"bridge": "bridge.example:443"}
    text = shown(client(condition="blocked", why="no carrier", last_block=block))
    assert "every way failed lately" in text
    assert "TLS reset at ClientHello: front 2 with http of bridge.example:443, 2 min 10 s ago" in text


@pytest.mark.parametrize(
    ("changes", "words", "mood"),
    [
        ({}, "anna, 9.0 GiB left of 10.0 GiB, anew in 2 d", ""),
        ({"left": 1 << 20}, "1.0 MiB left", "warning"),
        ({"state": "quota", "left": 0}, "the month's volume is used up", "bad"),
        ({"state": "expired", "quota": None, "left": None}, "its time is over", "bad"),
        (
            {"quota": None, "left": None, "expires_at": int(NOW), "rate": 1 << 20},
            "until 2027-01-15, at most",
            "",
        ),
    ],
)
def test_the_person_sees_what_is_left(changes: dict[str, Any], words: str, mood: str) -> None:
    state = client()
    state["bridges"][0]["account"] = {
        "name": "anna", "state": "in force", "expires_at": None, "quota": 10 << 30, "used": 1 << 30,
        "resets_at": int(NOW) + 2 * 86_400, "rate": None, "left": 9 << 30,
    } | changes  # fmt: skip
    (fact,) = [fact for fact in sheet_of(state, Pace()).facts if fact.name == "account"]
    assert words in fact.text
    assert fact.mood == mood


@pytest.mark.parametrize(
    ("changes", "words", "mood"),
    [
        ({"memory": {"used": 64 << 20, "limit": 64 << 20, "pressed": True}}, "64.0 MiB of 64.0 MiB", "bad"),
        ({"certificate": {"ends_at": NOW - 1}}, "has ended", "bad"),
        ({"certificate": {"ends_at": NOW + 86_400}}, "ends in 1 d", "warning"),
        ({"condition": "stopping"}, "stopping", "warning"),
        ({"reload": {"at": NOW - 5, "changed": [], "problems": ["line 3: no"]}}, "refused 5 s ago", "bad"),
        ({"process": PROCESS | {"descriptors": 1000}}, "1000 of 1024", "warning"),
    ],
)
def test_what_an_operator_must_see_stands_out(changes: dict[str, Any], words: str, mood: str) -> None:
    sheet = sheet_of(bridge(**changes), Pace())
    assert [fact.mood for fact in sheet.facts if words in fact.text] == [mood]


@given(st.text(), st.text())
def test_names_from_elsewhere_change_nothing_on_the_screen(name: str, problem: str) -> None:
    state = bridge(reload={"at": NOW, "changed": [], "problems": [problem]})
    state["clients"][0]["name"] = name
    assert all(line.isprintable() for line in shown(state).split("\n"))


def test_rates_begin_with_the_second_look_and_are_bounded() -> None:
    pace = Pace()
    for second in range(100):
        pace.look(NOW + second, 1000 * second, 0)
    assert list(pace.sent) == [1000.0] * SAMPLES
    pace.look(NOW + 100, 5, 0)  # another process
    assert list(pace.sent) == [1000.0] * SAMPLES
    pace.look(NOW + 100, 5, 0)  # the clock stood still
    assert sparkline(pace.sent) == "█" * SAMPLES
    assert sparkline(pace.received) == "▁" * SAMPLES


@given(st.floats(0, 1e15), st.floats(-10, 1e9))
def test_quantities_are_short(count: float, seconds: float) -> None:
    assert len(size(count)) <= 10
    assert len(span(seconds)) <= 14


def test_the_picture_has_what_the_text_has() -> None:
    console = pytest.importorskip("rich.console")
    view = pytest.importorskip("ptproxy.cli.status_view")
    for state in (client(), bridge()):
        sheet = sheet_of(state, Pace())
        recorder = console.Console(width=100, record=True, file=io.StringIO())
        recorder.print(view.view_of(sheet))
        text = recorder.export_text()
        for fact in sheet.facts:
            assert fact.name in text
        for table in sheet.tables:
            assert table.name in text
            assert all(row[0] in text for row, _ in table.rows)


def test_the_state_folder_of_a_broken_file(tmp_path: Path) -> None:
    path = tmp_path / "bridge.yaml"
    path.write_text("role: bridge\nnonsense: 1\nstate: here\nlisten: [")
    with pytest.raises(ConfigError, match="state"):
        state_folder(path)  # not even YAML
    path.write_text("role: bridge\nnonsense: 1\nstate: here\nlisten: nowhere\n")
    assert state_folder(path) == tmp_path / "here"
    path.write_text("role: bridge\nstate: {}\n")
    with pytest.raises(ConfigError, match=r"bridge\.yaml:2"):
        state_folder(path)


def test_a_bridge_and_a_client_from_their_files(tmp_path: Path) -> None:
    folder, port = tmp_path / "bridge", free_port()
    link = next(
        word
        for word in good("init", "bridge", folder, "--address", f"127.0.0.1:{port}").split()
        if word.startswith("ptproxy://")
    )
    good("init", "client", tmp_path / "client", "-", "--listen", "127.0.0.1:0", stdin=link)
    ours, theirs = folder / "bridge.yaml", tmp_path / "client" / "client.yaml"
    assert "nothing runs with the state folder" in run("status", "-c", ours).stderr

    theirs.write_text(
        yaml.safe_dump(yaml.safe_load(theirs.read_text()) | {"shape": "none", "codec": ["websocket"]})
    )

    found = run("doctor", "-c", theirs)
    assert found.exit_code == 1
    assert found.stdout.count("TCP refused") == 1  # one front, and no codec more of it
    with running("bridge", ours) as process:
        found = json.loads(good("doctor", "-c", theirs, "--json"))
        ways = {each["what"]: each["kind"] for each in found if each["what"].startswith("bridge, ")}
        assert ways == {"bridge, websocket": "fine"}
        assert "it runs, with 1 clients" in good("doctor", "-c", ours)
        with running("client", theirs) as other:
            state = json.loads(good("status", "-c", theirs, "--json"))
            assert state["condition"] == "connected"
            assert state["process"]["pid"] == other.pid
            assert "it runs and is connected" in good("doctor", "-c", theirs)
            text = good("status", "-c", ours)
            assert "1 in " in text
            assert "client" in text

            settings = yaml.safe_load(ours.read_text())
            ours.write_text(ours.read_text() + "nonsense: 1\n")
            refused = run("reload", "-c", ours)
            assert refused.exit_code == 2
            assert "nonsense" in refused.stderr
            settings["log"]["level"] = "debug"
            ours.write_text(yaml.safe_dump(settings))
            assert "reloaded: log" in good("reload", "-c", ours)
            assert "connected" in good("status", "-c", theirs)
        log = stopped(process)
    assert "not reloaded: all stays as it was" in log
    assert "[debug" in log.partition("asker=command changed=log")[2]


def test_doctor_of_a_file_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "client.yaml"
    path.write_text("role: client\nlisten: nowhere\n")
    result = run("doctor", "-c", path)
    assert result.exit_code == 1
    assert "listen" in result.stdout
    assert "key: is missing" in result.stdout


def test_what_comes_from_elsewhere_says_nothing_to_the_terminal() -> None:
    """rich lets an escape through: a bridge's reason could have set a window's title, or worse."""
    console = pytest.importorskip("rich.console")
    from ptproxy.cli.status_view import view_of

    evil = "x\x1b]0;title\x07\x9b2J"
    sheet = Sheet("client", [Fact("why", evil)], [Table("ways", ("way",), [((evil,), "bad")])])
    recorder = console.Console(file=io.StringIO(), width=80, force_terminal=True)
    recorder.print(view_of(sheet))
    for shown in (recorder.file.getvalue(), text_of(sheet)):
        assert "\x1b]" not in shown
        assert "\x9b" not in shown
        assert "x?]0;title??2J" in shown
