"""State on disk: whole files, private modes, one process a folder, damage told clearly."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ptproxy import state
from ptproxy.errors import StartError
from ptproxy.state import Document, StateFolder

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


def test_a_folder_belongs_to_one_process(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    code = f"""
from pathlib import Path
from ptproxy.state import StateFolder
from ptproxy.errors import StartError
try:
    StateFolder(Path({str(folder)!r}))
    print("mine")
except StartError as error:
    print(error)
"""

    def other() -> str:
        root = Path(__file__).parent.parent
        return subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root)},
        ).stdout.strip()

    with StateFolder(folder) as held:
        assert "another ptproxy runs with the folder" in other()
        with pytest.raises(StartError, match="another ptproxy"):
            StateFolder(folder)
        held.close()
        held.close()
    assert other() == "mine"


def test_documents(tmp_path: Path) -> None:
    with StateFolder(tmp_path / "state") as folder:
        document = folder.document("access")
        assert document.read() is None
        assert not document.changed()
        document.write({"a": [1, "ä"]})
        assert not document.changed()
        assert folder.document("access").read() == {"a": [1, "ä"]}
        raw = json.loads(document.path.read_text())
        assert raw == {"ptproxy": "access", "version": 1, "data": {"a": [1, "ä"]}}


def test_a_change_by_somebody_else_is_noticed(tmp_path: Path) -> None:
    ours, theirs = Document(tmp_path, "access"), Document(tmp_path, "access")
    ours.write({"n": 1})
    assert theirs.changed()
    assert theirs.read() == {"n": 1}
    theirs.update(lambda data: {"n": (data or {})["n"] + 1})
    assert ours.changed()
    assert ours.read() == {"n": 2}
    assert not ours.changed()
    theirs.update(lambda _data: None)
    assert not ours.changed()
    ours.path.unlink()
    assert ours.changed()


def test_updates_do_not_lose_one_another(tmp_path: Path) -> None:
    def work() -> None:
        document = Document(tmp_path, "count")
        for _ in range(20):
            document.update(lambda data: {"n": (data or {"n": 0})["n"] + 1})

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Document(tmp_path, "count").read() == {"n": 80}


def test_a_change_that_fails_leaves_the_document(tmp_path: Path) -> None:
    document = Document(tmp_path, "x")
    document.write({"n": 1})

    def change(_data: object) -> dict[str, int]:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        document.update(change)
    assert document.read() == {"n": 1}
    document.update(lambda _data: {"n": 2})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is damaged: it is no access document"),
        (b"{", "is damaged: it is no access document"),
        (b"\xff\xfe", "is damaged"),
        (b"[]", "is damaged: it is no access document"),
        (b"[" * 100_000, "is damaged"),
        (b'{"ptproxy": "other", "version": 1, "data": {}}', "is damaged: it is no access document"),
        (b'{"ptproxy": "access", "version": 1}', "is damaged: its version or content"),
        (b'{"ptproxy": "access", "version": "1", "data": {}}', "is damaged: its version"),
        (b'{"ptproxy": "access", "version": 0, "data": {}}', "is damaged: its version"),
        (b'{"ptproxy": "access", "version": 1, "data": []}', "is damaged: its version or content"),
        (b'{"ptproxy": "access", "version": 2, "data": {}}', "newer ptproxy"),
    ],
)
def test_damage_is_told(tmp_path: Path, content: bytes, message: str) -> None:
    document = Document(tmp_path, "access")
    document.path.write_bytes(content)
    with pytest.raises(StartError, match=message) as caught:
        document.read()
    assert "\n" not in str(caught.value)
    assert str(document.path) in str(caught.value)
    with pytest.raises(StartError):
        document.update(lambda _data: {})
    assert document.path.read_bytes() == content


def test_a_document_that_cannot_be_read(tmp_path: Path) -> None:
    document = Document(tmp_path, "access")
    document.path.mkdir()
    with pytest.raises(StartError, match="cannot read"):
        document.read()


# ---- databases ----------------------------------------------------------------------------------


def test_a_database_is_made_once_and_kept(tmp_path: Path) -> None:
    with StateFolder(tmp_path / "state") as folder:
        database = folder.database("some", "CREATE TABLE one (a)")
        database.execute("INSERT INTO one VALUES (7)")
        database.close()
        database = folder.database("some", "CREATE TABLE one (a)")
        assert database.execute("SELECT a FROM one").fetchall() == [(7,)]
        names = ("journal_mode", "synchronous", "locking_mode", "secure_delete", "foreign_keys")
        settings = [database.execute(f"PRAGMA {name}").fetchone()[0] for name in names]
        assert settings == ["wal", 2, "exclusive", 1, 1]
        database.close()


@posix
def test_a_database_and_its_log_are_private(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        with StateFolder(tmp_path / "state") as folder:
            database = folder.database("some", "CREATE TABLE one (a)")
            database.execute("INSERT INTO one VALUES (7)")
            files = sorted(path.name for path in folder.path.glob("some*"))
            assert files == ["some.sqlite3", "some.sqlite3-wal"]
            assert {mode(folder.path / name) for name in files} == {0o600}
            database.close()
    finally:
        os.umask(umask)


def test_a_schema_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with StateFolder(tmp_path / "state") as folder:
        with pytest.raises(StartError, match=r"some\.sqlite3"):
            folder.database("some", "CREATE TABLE one (a); CREATE TABLE one (a)")
        folder.database("some", "CREATE TABLE one (a)").close()


def test_a_database_of_a_newer_version(tmp_path: Path) -> None:
    with StateFolder(tmp_path / "state") as folder:
        folder.database("some", "CREATE TABLE one (a)", 2).close()
        with pytest.raises(StartError, match="newer ptproxy"):
            folder.database("some", "CREATE TABLE one (a)", 1)


def test_a_database_where_none_can_be(tmp_path: Path) -> None:
    with StateFolder(tmp_path / "state") as folder:
        (tmp_path / "state" / "some.sqlite3").mkdir()
        with pytest.raises(StartError, match="cannot open"):
            folder.database("some", "CREATE TABLE one (a)")


# ---- files that grow --------------------------------------------------------------------------------


def test_a_partial_file_grows_and_gets_its_name(tmp_path):
    folder = tmp_path / "files"
    for number, name in enumerate(["a.txt", "a (2).txt", "a (3).txt"]):
        with state.open_partial(folder, "x") as file:
            assert file.tell() == 0
            file.write(b"%d" % number)
        file = state.open_partial(folder, "x")
        assert file.tell() == 1
        assert state.finish_partial(file, folder, "x", "a.txt") == folder / name
        assert file.closed
        assert (folder / name).read_bytes() == b"%d" % number
        assert (folder / name).stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in folder.iterdir()) == ["a (2).txt", "a (3).txt", "a.txt"]


def test_a_partial_file_has_one_writer(tmp_path):
    with state.open_partial(tmp_path, "x"):
        with pytest.raises(StartError, match="already"):
            state.open_partial(tmp_path, "x")
        state.open_partial(tmp_path, "y").close()
    file = state.open_partial(tmp_path, "x")
    state.drop_partial(file, tmp_path, "x")
    assert [path.name for path in tmp_path.iterdir()] == [".y.part"]


@pytest.mark.skipif(sys.platform == "win32", reason="no symbolic links without rights")
def test_a_partial_file_is_not_written_through_a_link(tmp_path):
    (tmp_path / "target").write_text("precious")
    (tmp_path / ".x.part").symlink_to(tmp_path / "target")
    with pytest.raises(StartError):
        state.open_partial(tmp_path, "x")
    assert (tmp_path / "target").read_text() == "precious"


def test_names_run_out(tmp_path, monkeypatch):
    monkeypatch.setattr(state, "MAX_ALIKE", 3)
    (tmp_path / "a").write_text("")
    with pytest.raises(StartError, match="exists already"):
        state.finish_partial(state.open_partial(tmp_path, "x"), tmp_path, "x", "a")
