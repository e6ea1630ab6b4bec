"""Chromium over the SOCKS port and over the PAC file: the page comes, and no name is asked for outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from live import ENVIRONMENT

pytestmark = [pytest.mark.program("chromium", "unshare", "ip")]

TESTS = Path(__file__).parent.parent
MODULES = [str(folder) for folder in (TESTS / "api", TESTS / "proxy", TESTS, TESTS.parent)]
STUCK = 180
"""Seconds after which it counts as broken."""


def test_a_page_over_socks_and_over_the_pac_file_and_no_dns_outside(tmp_path):
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    script = (
        f"ip link set lo up && mount --bind {tmp_path / 'resolv.conf'} $(realpath /etc/resolv.conf) && "
        f"exec {sys.executable} {TESTS / 'end_to_end' / 'browser_ports.py'} {tmp_path}"
    )
    alone = ["unshare", "--map-root-user", "--net", "--mount"]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine gives no network namespace")
    done = subprocess.run(
        [*alone, "sh", "-c", script],
        env=ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(MODULES)},
        capture_output=True, text=True, timeout=STUCK, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["socks"]
    assert said["pac"]
    assert said["asked"] == []  # through the tunnel: nobody was asked
    # The same without a proxy, to know that the capture would have shown it.
    assert not said["direct"]
    assert said["asked_directly"] > 0
    assert said["packets"] > 100
