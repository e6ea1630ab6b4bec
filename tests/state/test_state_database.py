"""Databases: made once, private, exclusive."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from ptproxy.errors import StartError
from ptproxy.state import StateFolder

posix = pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


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
