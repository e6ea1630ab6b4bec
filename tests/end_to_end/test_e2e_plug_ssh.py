"""SSH through a forwarded port: files up and down by sftp, and a command, with real ssh and sshd."""

from __future__ import annotations

import getpass
import os
import random
import shutil
import socketserver
import subprocess
from pathlib import Path

import pytest
from live import ENVIRONMENT, HOST, MIB, PATIENCE, Client, serving, sha256
from plugged import PLAIN, SIZE, forwarded

pytestmark = [pytest.mark.program(name) for name in ("ssh", "sftp", "sshd", "ssh-keygen")]

SERVER = """
HostKey {folder}/host
PidFile none
AuthorizedKeysFile {folder}/me.pub
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
"""


def new_key(file: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file], env=ENVIRONMENT, check=True)


@pytest.fixture(scope="module")
def server(folder):
    """The port of an SSH server that lets the key ``me`` in. Each connection has an sshd, as with inetd."""
    for name in ("host", "me"):
        new_key(folder / name)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where sshd confines its half that has no rights
    config = folder / "sshd_config"
    config.write_text(SERVER.format(folder=folder))
    # It starts itself anew by its whole path.
    argv = [shutil.which("sshd", path=ENVIRONMENT["PATH"]), "-i", "-e", "-f", config]

    class Session(socketserver.BaseRequestHandler):
        def handle(self):
            with (folder / "sshd.log").open("ab") as log:
                subprocess.run(
                    argv, env=ENVIRONMENT, stdin=self.request, stdout=self.request, stderr=log, check=False
                )

    with serving(Session) as port:
        yield port


@pytest.fixture(scope="module")
def options(folder, bridge, server):
    """What ssh and sftp are told: the client's forwarded port, and the server's key under its own name."""
    (folder / "known").write_text(f"server.test {(folder / 'host.pub').read_text()}")
    forward = f"{HOST}:0 -> {HOST}:{server}"
    with Client(folder / "ssh", bridge.link, "websocket", **PLAIN, forward=[forward]) as client:
        settings = {
            "Port": forwarded(client), "User": getpass.getuser(), "IdentityFile": folder / "me",
            "IdentitiesOnly": "yes", "HostKeyAlias": "server.test", "UserKnownHostsFile": folder / "known",
            "BatchMode": "yes",
        }  # fmt: skip
        yield ["-F", "none", *(f"-o{name}={value}" for name, value in settings.items())]


def run(*words, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [str(word) for word in words],
        env=ENVIRONMENT, input=stdin, capture_output=True, timeout=4 * PATIENCE, check=False,
    )  # fmt: skip


def test_files_go_up_and_come_down(options, tmp_path):
    rng = random.Random(22)
    with (tmp_path / "here").open("wb") as file:
        for _ in range(SIZE // MIB):
            file.write(rng.randbytes(MIB))
    batch = f"put {tmp_path}/here {tmp_path}/there\nget {tmp_path}/there {tmp_path}/back\n"
    done = run("sftp", *options, "-b", "-", HOST, stdin=batch.encode())
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "back").stat().st_size == SIZE
    assert sha256(tmp_path / "here") == sha256(tmp_path / "there") == sha256(tmp_path / "back")


def test_a_command_with_its_streams_and_its_status(options):
    block = random.Random(23).randbytes(MIB + 1)
    done = run("ssh", *options, HOST, "cat; echo told >&2; exit 7", stdin=block)
    assert (done.returncode, done.stderr) == (7, b"told\n")
    assert done.stdout == block


def test_a_server_with_another_key_is_refused(options, tmp_path):
    """ssh's own check holds: a forward takes nothing from it."""
    new_key(tmp_path / "other")
    known = tmp_path / "known"
    known.write_text(f"server.test {(tmp_path / 'other.pub').read_text()}")
    instead = [f"-oUserKnownHostsFile={known}" if "UserKnownHosts" in word else word for word in options]
    done = run("ssh", *instead, HOST, "true")
    assert done.returncode == 255
    assert b"Host key verification failed" in done.stderr
