"""A bridge that root starts serves as an ordinary user, for good, and says what that costs."""

from __future__ import annotations

import os
import pwd
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from free_ports import free_port
from live import HOST, PATIENCE, ROOT, Client, Program, edit, listens, made, read_exactly, through, until
from unprivileged import USER, Open, RootBridge, children, limit, low_port, needed, rights

from ptproxy.state import holder_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc of Linux")


@pytest.fixture(scope="module")
def python():
    return needed()


@pytest.fixture
def place(python):
    with Open() as path:
        yield path


def nobody():
    entry = pwd.getpwnam(USER)
    ids = ["\t".join([str(number)] * 4) for number in (entry.pw_uid, entry.pw_gid)]
    none = "0" * 16
    return {
        "Uid": ids[0], "Gid": ids[1], "Groups": str(entry.pw_gid), "CapPrm": none, "CapEff": none,
        "CapAmb": none, "NoNewPrivs": "1",
    }  # fmt: skip


def carries(client, echo):
    with through(client.port, echo) as sock:
        sock.sendall(b"all the same")
        assert read_exactly(sock, 12) == b"all the same"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bridge_serves_on_a_low_port_with_nothing_of_root(place, python, echo, workers):
    with (
        RootBridge(place / "bridge", python, workers=workers) as bridge,
        Client(place / "client", bridge.link, "websocket") as client,
    ):
        carries(client, echo)
        every = [bridge.program.pid, *children(bridge.program.pid)]
        assert len(every) == (1 if workers == 1 else 1 + workers)
        for pid in every:
            assert rights(pid) == nobody()
            assert limit(pid, "Max core file size") == ("0", "0")
            assert len(set(limit(pid, "Max open files"))) == 1
            assert Path(f"/proc/{pid}/mem").stat().st_uid == 0  # closed to others of that user
        assert {path.owner() for path in (bridge.folder / "state").rglob("*")} == {USER}
        assert (bridge.folder / "bridge.key").owner() == "root"
        assert "these files are only for root" in bridge.program.logged()


def test_a_worker_that_is_replaced_has_the_keys_that_only_root_could_read(place, python, echo):
    with RootBridge(place / "bridge", python, workers=2) as bridge:
        first = children(bridge.program.pid)
        for pid in first:
            os.kill(pid, signal.SIGKILL)
        log = bridge.program.logged
        until(lambda: len(set(children(bridge.program.pid)) - set(first)) == 2, "two others are there")
        until(lambda: log().count("a worker has keys and certificates as they were") == 4, log)
        with Client(place / "client", bridge.link, "http") as client:
            carries(client, echo)


def test_a_reload_that_needs_root_says_so_and_one_that_does_not_is_done(place, python, echo):
    with RootBridge(place / "bridge", python) as bridge:
        status, said = bridge.command("reload", "-c", bridge.config)
        assert status != 0
        assert "permission denied" in said
        assert f"runs as {USER} and gave root up for good" in said
        bridge.give_all()
        before = bridge.address
        edit(bridge.config, listen=[before, f"{HOST}:{low_port()}"])
        status, said = bridge.command("reload", "-c", bridge.config)
        assert status != 0
        assert "ports below 1024 need root" in said
        assert f"runs as {USER} and gave root up for good" in said
        port = free_port()
        edit(bridge.config, listen=[before, f"{HOST}:{port}"])
        assert bridge.command("reload", "-c", bridge.config)[0] == 0, bridge.program.logged()
        assert listens(port)
        edit(bridge.config, user="daemon")
        status, said = bridge.command("reload", "-c", bridge.config)
        assert status != 0
        assert "user: cannot change while the bridge runs" in said
        with Client(place / "client", bridge.link, "websocket") as client:
            carries(client, echo)


def test_a_bridge_of_an_ordinary_user_is_replaced_on_its_low_port(place, python, echo):
    bridge = RootBridge(place / "bridge", python, session_state="keep")
    bridge.give_all()
    state = bridge.folder / "state"
    with (
        bridge,
        Client(place / "client", bridge.link, "websocket") as client,
        through(client.port, echo) as sock,
    ):
        sock.sendall(b"before")
        assert read_exactly(sock, 6) == b"before"
        status, said = bridge.command("bridge", "-c", bridge.config, "--replace")
        assert status == 0, said + bridge.program.logged()
        pid, _ = holder_of(state)
        try:
            assert pid != bridge.program.pid
            assert rights(pid) == nobody()
            sock.sendall(b"after")
            assert read_exactly(sock, 5) == b"after"
        finally:
            os.kill(pid, signal.SIGTERM)
            until(lambda: holder_of(state) is None, "the new process ends")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"user": "no-such-user"}, "user: this machine has no user 'no-such-user'"),
        ({"group": "no-such-group"}, "group: this machine has no group 'no-such-group'"),
        ({"user": "root"}, "user: that is root's"),
        ({"user": None, "group": "daemon"}, "group: is the user's: set user as well"),
    ],
)
def test_a_user_that_cannot_be_is_told_by_check_and_at_the_start(place, python, changes, words):
    bridge = RootBridge(place / "bridge", python, **changes)
    for command in (("check", bridge.config), ("bridge", "-c", bridge.config)):
        status, said = bridge.command(*command)
        assert status != 0
        assert words in said
    assert (bridge.folder / "state").owner() == "root"


def test_a_folder_that_lets_the_user_not_through_is_named(place, python):
    bridge = RootBridge(place / "bridge", python)
    bridge.folder.chmod(0o700)
    status, said = bridge.command("bridge", "-c", bridge.config)
    assert status != 0
    assert f"{USER} cannot get to {bridge.folder}/state: {bridge.folder} lets it not through" in said


def test_who_is_not_root_becomes_nobody_else(place, python):
    bridge = RootBridge(place / "bridge", python, user="daemon")
    bridge.give_all()
    done = subprocess.run(
        [bridge.python, "-m", "ptproxy", "bridge", "-c", bridge.config], cwd=ROOT, env=bridge.env,
        user=USER, group="nogroup", extra_groups=[], capture_output=True, text=True, check=False,
        timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode != 0
    assert "user: only root can become daemon" in done.stderr


GIVE_UP = """
import ctypes, os
from ptproxy.proxy.become import RunAs
RunAs.of("nobody", None).become()
libc = ctypes.CDLL(None, use_errno=True)
back = [
    libc.setuid(0), libc.seteuid(0), libc.setreuid(0, 0), libc.setresuid(0, 0, 0), libc.setgid(0),
    libc.setegid(0), libc.setresgid(0, 0, 0), libc.setgroups(0, None),
]
print(set(back), os.getresuid(), os.environ["HOME"])
try:
    open("/etc/shadow")
except PermissionError:
    print("not even that")
"""


def test_what_was_given_up_cannot_be_had_again(python):
    program, environment = python
    said = subprocess.run(
        [program, "-c", GIVE_UP], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout
    entry = pwd.getpwnam(USER)
    assert said == f"{{-1}} {(entry.pw_uid,) * 3} {entry.pw_dir}\nnot even that\n"


def test_a_directory_node_is_an_ordinary_user_on_a_low_port(place, python):
    program, environment = python
    folder, port = place / "node", low_port()
    made("directory", "init", folder, "--address", f"{HOST}:{port}", "--lab")
    folder.chmod(0o755)
    edit(folder / "directory.yaml", user=USER)
    node = Program(
        "node", [program, "-m", "ptproxy", "directory", "run", "-c", folder / "directory.yaml"], folder,
        env=environment,
    )  # fmt: skip
    try:
        node.ready(rb"listening on .*\n")
        assert rights(node.pid) == nobody()
        assert (folder / "state").owner() == USER
    finally:
        assert node.stop() == 0, node.logged()
    assert not re.search("Traceback|PermissionError", node.logged())
