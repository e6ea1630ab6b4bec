"""kill -9 at any point: nothing is lost, nothing is read twice, no key seals two messages that leave."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from store_folder import KEY, copy, made

from ptproxy.peers.store import Doubt, Entry, PeerStore
from ptproxy.state import StateFolder

KILLS = int(os.environ.get("PTPROXY_STORE_KILLS", "40"))
HERE = Path(__file__).parent
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")


def run_trial(folder, seed, kills, who):
    """In a process of its own, which has no threads: it forks."""
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}
    command = [sys.executable, str(HERE / "store_kill.py"), str(folder), str(seed), str(kills), who]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@forks
def test_two_people_who_are_killed_all_the_time(tmp_path):
    ran = run_trial(tmp_path, 1, KILLS, "Person")
    assert ran.returncode == 0, ran.stderr
    figures = json.loads(ran.stdout)
    assert figures["killed"] >= KILLS * 3 // 4
    assert figures["lines"] > 10


@forks
@pytest.mark.parametrize(
    ("who", "fault"),
    [
        ("LeavesFirst", "one key for two messages|refuses what comes for the first time|twice|lost"),
        ("InTwo", "lost"),
        ("ShownFirst", "refuses what comes for the first time|twice|lost|out of order"),
    ],
)
def test_who_is_careless_is_found_out(tmp_path, who, fault):
    """The same trial, with the order of things wrong: that it is passed otherwise means something."""
    for seed in range(20):
        (tmp_path / str(seed)).mkdir()
        ran = run_trial(tmp_path / str(seed), seed, 30, who)
        if ran.returncode:
            assert "Fault" in ran.stderr
            assert any(words in ran.stderr for words in fault.split("|")), ran.stderr
            return
    pytest.fail("nobody noticed")


def test_a_log_that_was_cut_anywhere_leaves_one_of_the_states_that_were(tmp_path):
    """A power cut: of what was not synced any part may be missing; whole transactions are, or none."""
    (tmp_path / "cut").mkdir()
    states = [({}, [])]
    with made(tmp_path) as store:
        store.tidy()
        for number in range(1, 6):
            store.write({"a": bytes([number]), "b": bytes(number * 900)}, [Entry("h", number, b"x")])
            states.append((store.pieces(), store.entries("h")))
        copy(tmp_path, tmp_path / "cut")
    log = (tmp_path / "cut" / "peer.sqlite3-wal").read_bytes()
    database = (tmp_path / "cut" / "peer.sqlite3").read_bytes()
    found = []
    for length in range(0, len(log) + 1, 997):
        (tmp_path / "cut" / "peer.sqlite3").write_bytes(database)
        (tmp_path / "cut" / "peer.sqlite3-wal").write_bytes(log[:length])
        with (
            StateFolder(tmp_path / "cut") as folder,
            PeerStore.open(folder, KEY, frozenset(Doubt)) as store,
        ):
            found.append(states.index((store.pieces(), store.entries("h"))))
    assert found == sorted(found)
    assert set(found[:-1]) >= {0, 1, 2, 3, 4}
