"""Whole files, private modes."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ptproxy import state
from ptproxy.errors import StartError
from ptproxy.state import StateFolder
from ptproxy.state.database import open_database, open_shared
from ptproxy.state.files import LEFT, open_log, write_file
from ptproxy.state.lock import open_lock

posix = pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@posix
def test_files_and_folders_are_private(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        path = tmp_path / "a" / "b" / "key"
        state.write_file(path, "secret")
    finally:
        os.umask(umask)
    assert mode(path) == 0o600
    assert mode(path.parent) == mode(path.parent.parent) == 0o700


@posix
def test_replacing_a_file_makes_it_private(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("old")
    path.chmod(0o666)
    state.write_file(path, "new")
    assert mode(path) == 0o600
    assert path.read_text() == "new"


def test_nothing_is_left_beside_a_file(tmp_path: Path) -> None:
    state.write_file(tmp_path / "x", b"\x00\x01")
    state.write_file(tmp_path / "x", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_failed_write_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    state.write_file(path, "old")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StartError, match=r"cannot write .*x: no space left on device"):
        state.write_file(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]


def test_the_order_is_sync_then_rename_then_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (done.append("sync"), fsync(fd))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("rename"), replace(a, b))[1])
    state.write_file(tmp_path / "x", "y")
    assert done == (["sync", "rename", "sync"] if os.name == "posix" else ["sync", "rename"])


def test_an_existing_file_can_be_kept(tmp_path: Path) -> None:
    path = tmp_path / "x"
    state.write_file(path, "old", replace=False)
    with pytest.raises(StartError, match="exists already"):
        state.write_file(path, "new", replace=False)
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_in_the_way_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(StartError, match="cannot write"):
        state.write_file(tmp_path / "x" / "y", "")
    with pytest.raises(StartError, match="cannot use the folder"):
        StateFolder(tmp_path / "x")


def test_what_a_kill_has_left_goes_when_the_folder_is_taken(tmp_path: Path) -> None:
    code = f"""
import os
from pathlib import Path
from ptproxy.state import write_file
os.replace = lambda one, other: os.kill(os.getpid(), 9)
write_file(Path({str(tmp_path)!r}) / "key", "secret")
"""
    root = str(Path(__file__).parent.parent.parent)
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": root}, check=False)
    assert done.returncode != 0
    (left,) = tmp_path.iterdir()
    assert left.read_text() == "secret"
    other = tmp_path / ".key.swp"
    other.write_text("an editor's")
    os.utime(other, (1, 1))
    StateFolder(tmp_path).close()  # it may be in the middle of writing: a command holds no lock of the folder
    assert left.exists()
    old = time.time() - 2 * LEFT
    os.utime(left, (old, old))
    StateFolder(tmp_path).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".key.swp", "lock"]


@posix
def test_what_root_writes_into_a_users_folder_is_that_users(tmp_path, monkeypatch):
    """A command with sudo beside a service: the service has to read what was written."""
    given = []
    theirs = os.stat_result((stat.S_IFDIR | 0o700, 1, 1, 1, 1234, 5678, 0, 0, 0, 0))
    real = Path.stat
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "fchown", lambda _, user, group: given.append((user, group)))
    monkeypatch.setattr(Path, "stat", lambda path, **how: theirs if path == tmp_path else real(path, **how))
    monkeypatch.setattr("ptproxy.state.database.as_owner", contextlib.nullcontext)  # nobody is that user
    write_file(tmp_path / "access.json", b"{}")
    open_lock(tmp_path / "lock").close()
    open_log(tmp_path / "log").close()
    open_database(tmp_path / "accounts.sqlite3", "CREATE TABLE a (b)", 1).close()
    assert given == [(1234, 5678)] * 4


@posix
def test_nobody_but_root_gives_files_away(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "fchown", lambda *_: pytest.fail("given away"))
    write_file(tmp_path / "access.json", b"{}")


@posix
@pytest.mark.parametrize("exists", [False, True])
def test_root_gives_nothing_away_through_a_users_link(
    exists: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever owns a service's folder made root's files theirs: a link at the name of a lock was enough."""
    theirs, roots = tmp_path / "theirs", tmp_path / "roots"
    theirs.mkdir()
    if exists:
        roots.write_bytes(b"")
    monkeypatch.setattr("ptproxy.state.files.other_owner", lambda folder: (1000, 1000))
    monkeypatch.setattr("ptproxy.state.database.other_owner", lambda folder: (1000, 1000))
    given: list[int] = []
    monkeypatch.setattr(os, "fchown", lambda descriptor, *_: given.append(os.fstat(descriptor).st_ino))
    for name in ("a.lock", "b.sqlite3", "c.sqlite3-wal", "log"):
        (theirs / name).symlink_to(roots)
    with pytest.raises(OSError, match="symbolic"):
        open_lock(theirs / "a.lock")
    for name in ("a", "b", "c"):
        with pytest.raises(StartError, match="symbolic"):
            open_shared(theirs / f"{name}.sqlite3", "", 1, 1.0)
    with pytest.raises(StartError, match="symbolic"):
        open_database(theirs / "b.sqlite3", "", 1)
    with pytest.raises(StartError, match="symbolic"):
        open_log(theirs / "log")
    assert roots.exists() == exists
    if exists:
        assert roots.read_bytes() == b""
        os.link(roots, theirs / "d.lock")
        open_lock(theirs / "d.lock").close()
        assert roots.stat().st_ino not in given
