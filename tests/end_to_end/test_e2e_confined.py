"""The systemd units: what they forbid is not needed, and systemd has no complaint."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from live import CODECS, ENVIRONMENT, MIB, ROOT, Bridge, Client, Program, read_exactly, through

UNITS = ROOT / "configs" / "systemd"
CONFINED = Path(__file__).with_name("confined.py")
EXPOSURE = {"ptproxy-bridge": 16, "ptproxy-directory": 12}
"""What ``systemd-analyze security`` says at most, times ten."""
PROBE = """
import ctypes, mmap, os, socket
try:
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
except PermissionError:
    print("no packets")
print("no mounts" if ctypes.CDLL(None, use_errno=True).mount(b"x", b"/mnt", b"tmpfs", 0, None) else "mounted")
print(re.search(r"NoNewPrivs:\\t(\\d)", open("/proc/self/status").read())[1])
"""

pytestmark = pytest.mark.program("systemd-analyze")


class ConfinedBridge(Bridge):
    def start(self):
        self.program = Program(
            "bridge",
            [sys.executable, CONFINED, UNITS / "ptproxy-bridge.service", *self.command()],
            self.folder,
        )
        self.program.ready(rb"listening on .*\n")
        return self

    def command(self):
        return [sys.executable, "-m", "ptproxy", "bridge", "-c", self.config]


class ConfinedClient(Client):
    def launch(self):
        unit = UNITS / "ptproxy-client.service"
        command = [sys.executable, "-m", "ptproxy", "client", "-c", self.config]
        self.program = Program("client", [sys.executable, CONFINED, unit, *command], self.folder)
        return self.program


def test_the_confinement_of_these_tests_confines():
    unit = UNITS / "ptproxy-bridge.service"
    said = subprocess.run(
        [sys.executable, CONFINED, unit, sys.executable, "-c", f"import re\n{PROBE}"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert said.split("\n") == ["no packets", "no mounts", "1", ""]


@pytest.mark.parametrize("codec", CODECS)
def test_a_bridge_and_a_client_work_confined(tmp_path, codec, echo):
    with (
        ConfinedBridge(tmp_path / "bridge") as bridge,
        ConfinedClient(tmp_path / "client", bridge.link, codec) as client,
        through(client.port, echo) as sock,
    ):
        block = bytes(range(256)) * 256
        for _ in range(MIB // len(block)):
            sock.sendall(block)
            assert read_exactly(sock, len(block)) == block
        assert not re.search(
            "PermissionError|not permitted", bridge.program.logged() + client.program.logged()
        )


@pytest.mark.parametrize("name", EXPOSURE)
def test_systemd_finds_little_exposed(name):
    unit = UNITS / f"{name}.service"
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE[name]}", unit],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-400:]


@pytest.mark.parametrize("unit", sorted(UNITS.glob("*.service")), ids=lambda unit: unit.stem)
def test_systemd_reads_the_whole_unit(unit, tmp_path):
    runnable = tmp_path / unit.name
    text = re.sub(r"/usr/local/bin/ptproxy", "/bin/true", unit.read_text())
    runnable.write_text(re.sub(r"Documentation=.*\n", "", text))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", runnable],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
