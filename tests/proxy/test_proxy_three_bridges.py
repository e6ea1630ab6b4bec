"""Three bridges over real sockets, one of which swallows every packet; looked at with a capture."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
STUCK = 180
"""Seconds after which it counts as broken; a run takes four."""


@pytest.mark.skipif(sys.platform != "linux", reason="namespaces and captures are Linux's")
@pytest.mark.program("unshare", "ip")
def test_one_is_in_a_hole_and_comes_back_without_probing():
    alone = ["unshare", "--map-root-user", "--net"]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine gives no network namespace")
    script = f"ip link set lo up && exec {sys.executable} {TESTS / 'proxy' / 'ways_scenario.py'} 1 40"
    done = subprocess.run(
        [*alone, "sh", "-c", script],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS / "tunnel"), str(TESTS.parent)])},
        capture_output=True, text=True, timeout=STUCK, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [run] = json.loads(done.stdout.splitlines()[-1])["runs"]
    assert run["tried"] >= 1  # the capture sees what is sent
    assert run["quiet"] == 0  # while nobody needs anything
    assert run["resting"] == 0  # while it rests, whoever opens streams
    assert min(run["in_use"]) >= 1  # all three, once it is back
