"""Files that grow: one writer, a name at the end, an age."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

import pytest

from ptproxy.errors import StartError
from ptproxy.state import PartialFile, remove_abandoned
from ptproxy.state import partial as partial_module

posix = pytest.mark.skipif(os.name != "posix", reason="elsewhere a file is renamed, and closed before that")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_partial_file_grows_and_gets_its_name(tmp_path):
    folder = tmp_path / "files"
    for number, name in enumerate(["a.txt", "a (2).txt", "a (3).txt"]):
        with PartialFile(folder, "x") as partial:
            assert partial.file.tell() == 0
            partial.file.write(b"%d" % number)
        partial = PartialFile(folder, "x")
        assert partial.file.tell() == 1
        assert partial.finish("a.txt") == folder / name
        assert partial.file.closed
        partial.close()
        assert (folder / name).read_bytes() == b"%d" % number
        assert (folder / name).stat().st_mode & 0o777 == 0o600
    assert names(folder) == ["a (2).txt", "a (3).txt", "a.txt"]


def test_a_partial_file_has_one_writer(tmp_path):
    partial = PartialFile(tmp_path, "x")
    with pytest.raises(StartError, match="already"):
        PartialFile(tmp_path, "x")
    PartialFile(tmp_path, "y").close()
    partial.drop()
    partial.close()
    assert names(tmp_path) == [".y.ptproxy.part"]


@pytest.mark.skipif(sys.platform == "win32", reason="no symbolic links without rights")
def test_a_partial_file_is_not_written_through_a_link(tmp_path):
    (tmp_path / "target").write_text("precious")
    (tmp_path / ".x.ptproxy.part").symlink_to(tmp_path / "target")
    with pytest.raises(StartError):
        PartialFile(tmp_path, "x")
    os.utime(tmp_path / ".x.ptproxy.part", (1, 1), follow_symlinks=False)
    assert remove_abandoned(tmp_path, 2) == 0
    assert (tmp_path / "target").read_text() == "precious"


def test_a_file_that_is_dropped_while_it_is_opened_is_not_written(tmp_path, monkeypatch):
    take = partial_module.take_lock

    def slow(file):
        (tmp_path / ".x.ptproxy.part").unlink()
        take(file)

    monkeypatch.setattr(partial_module, "take_lock", slow)
    with pytest.raises(StartError):
        PartialFile(tmp_path, "x")
    assert names(tmp_path) == []


@posix
def test_a_kill_between_two_names_leaves_the_finished_file_alone(tmp_path, monkeypatch):
    def linked_and_killed(old, new):
        os.link(old, new)
        raise KeyboardInterrupt

    partial = PartialFile(tmp_path, "x")
    partial.file.write(b"all of it")
    with monkeypatch.context() as patched:
        patched.setattr(partial_module, "rename_new", linked_and_killed)
        with pytest.raises(KeyboardInterrupt):
            partial.finish("a")
    partial.close()
    assert names(tmp_path) == [".x.ptproxy.part", "a"]
    with PartialFile(tmp_path, "x") as again:
        assert again.file.tell() == 0
        again.file.write(b"something else")
    assert (tmp_path / "a").read_bytes() == b"all of it"


@posix
def test_a_finished_file_whose_first_name_cannot_be_deleted_is_left_alone(tmp_path, monkeypatch):
    """As in a folder that only lets its files be written."""

    def forbidden(path, missing_ok=False):
        raise PermissionError

    partial = PartialFile(tmp_path, "x")
    partial.file.write(b"all of it")
    partial.close()
    os.link(tmp_path / ".x.ptproxy.part", tmp_path / "a")
    monkeypatch.setattr(Path, "unlink", forbidden)
    with pytest.raises(StartError, match="finished"):
        PartialFile(tmp_path, "x")
    assert (tmp_path / "a").read_bytes() == b"all of it"


@posix
def test_a_pipe_of_that_name_is_none_of_ours(tmp_path):
    """It is closed again, too: what is left open is an error here."""
    os.mkfifo(tmp_path / ".x.ptproxy.part")
    os.utime(tmp_path / ".x.ptproxy.part", (1, 1))
    assert remove_abandoned(tmp_path, 2) == 0
    with pytest.raises(StartError):
        PartialFile(tmp_path, "x")
    gc.collect()
    assert names(tmp_path) == [".x.ptproxy.part"]


def test_a_file_that_is_finished_while_it_is_opened_is_not_written(tmp_path, monkeypatch):
    first = PartialFile(tmp_path, "x")
    first.file.write(b"all of it")
    take = partial_module.take_lock

    def slow(file):
        first.finish("a")
        take(file)

    monkeypatch.setattr(partial_module, "take_lock", slow)
    with pytest.raises(StartError, match="already"):
        PartialFile(tmp_path, "x")
    assert names(tmp_path) == ["a"]


@posix
def test_nobody_else_has_it_before_it_has_its_name(tmp_path, monkeypatch):
    rename, tried = partial_module.rename_new, []

    def slow(old, new):
        with pytest.raises(StartError, match="already"):
            PartialFile(tmp_path, "x")
        tried.append(new)
        rename(old, new)

    monkeypatch.setattr(partial_module, "rename_new", slow)
    PartialFile(tmp_path, "x").finish("a")
    assert tried == [tmp_path / "a"]
    assert names(tmp_path) == ["a"]


def test_names_run_out(tmp_path, monkeypatch):
    monkeypatch.setattr(partial_module, "MAX_ALIKE", 3)
    (tmp_path / "a").write_text("")
    with pytest.raises(StartError, match="exists already"):
        PartialFile(tmp_path, "x").finish("a")
    assert names(tmp_path) == [".x.ptproxy.part", "a"]


def test_what_nobody_finishes_is_removed(tmp_path):
    for name, written in [("old", 100), ("open", 100), ("new", 201)]:
        PartialFile(tmp_path, name).close()
        os.utime(tmp_path / f".{name}.ptproxy.part", (written, written))
    (tmp_path / ".old.part").write_text("somebody else's")
    os.utime(tmp_path / ".old.part", (100, 100))
    held = PartialFile(tmp_path, "open")
    assert remove_abandoned(tmp_path, 200) == 1
    assert names(tmp_path) == [".new.ptproxy.part", ".old.part", ".open.ptproxy.part"]
    held.close()
    assert remove_abandoned(tmp_path, 200) == 1
    assert remove_abandoned(tmp_path / "missing", 200) == 0
    assert names(tmp_path) == [".new.ptproxy.part", ".old.part"]
