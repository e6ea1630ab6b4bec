"""Whole-device tunnelling: the recipes of PROGRAMS.md, programs without a proxy, and what leaves the card."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from live import ENVIRONMENT, ROOT
from plugged import SIZE

pytestmark = [pytest.mark.program("unshare", "ip")]

ALONE = ["unshare", "--map-root-user", "--net", "--mount"]
# Recipes write into /etc and /run: into copies of this run.
COPIES = """
ip link set lo up
cp -a /etc {folder}/etc 2>/dev/null || true
rm -f {folder}/etc/resolv.conf
mount --bind {folder}/etc /etc
mount -t tmpfs tmpfs /run
exec {python} {program} {folder} {size}
"""
PROBE = "ip link set lo up && mount -t tmpfs tmpfs /run && ip netns add a && ip tuntap add dev t mode tun"
STUCK = 240
"""Seconds after which it counts as broken."""


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What ``device_ways.py`` tells."""
    if subprocess.run(
        [*ALONE, "sh", "-c", PROBE], env=ENVIRONMENT, capture_output=True, check=False
    ).returncode:
        pytest.skip("this machine gives no network namespace, or no TUN device in one")
    folder = tmp_path_factory.mktemp("device")
    program = Path(__file__).with_name("device_ways.py")
    script = COPIES.format(folder=folder, python=sys.executable, program=program, size=SIZE)
    done = subprocess.run(
        [*ALONE, "sh", "-c", script],
        env=ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests", program.parent)))},
        capture_output=True, text=True, timeout=STUCK, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + "".join(
        f"\n-- {log.name}\n{log.read_text()[-2000:]}" for log in folder.glob("**/*.log")
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_without_a_tunnel_the_world_answers_and_the_capture_sees_it(said):
    assert said["directly"]["page"] == said["expected"]
    assert said["directly"]["udp"] == "OVER UDP"
    beside = [packet for seen in said["directly"]["seen"] for packet in seen["beside"]]
    for port in (53, 80, 7777):
        assert any(f" {port}]" in packet for packet in beside), port


@pytest.mark.parametrize("way", ["shell", "device"])
def test_everything_goes_through_and_nothing_beside(said, way):
    tour = said[way]
    assert (tour["page"], tour["page6"]) == (said["expected"], said["expected"])
    assert tour["udp"] == "OVER UDP"
    for seen in tour["seen"]:
        assert seen["beside"] == []
        assert seen["lost"] == 0
        assert seen["packets"] > SIZE // 65536  # a page each, in packets of at most 64 KiB


def test_a_shell_has_no_other_way_out_when_something_ends(said):
    names = [line.split(": ")[1] for line in said["devices"].splitlines()]
    assert names == ["lo", "ptp0"]
    assert said["without client"].startswith("failed: ")
    assert said["without tun2socks"].startswith("failed: ")
    assert said["seen without"]["beside"] == []
    assert said["seen without"]["lost"] == 0
