"""A few bytes overwritten in place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ptproxy.errors import StartError
from ptproxy.state import MarkFile


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    mark = MarkFile(tmp_path / "mark")
    assert mark.read(8) == b""
    mark.sync()
    assert not mark.path.exists()
    mark.write(4, b"efgh")
    mark.write(0, b"abcd")
    mark.write(2, b"--")
    assert mark.read(100) == b"ab--efgh"
    assert mark.read(3) == b"ab-"
    mark.sync()
    mark.close()
    mark.close()
    mark.write(0, b"x")
    mark.close()
    assert MarkFile(mark.path).read(8) == b"xb--efgh"


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_it_is_private(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        mark = MarkFile(tmp_path / "mark")
        mark.write(0, b"x")
    finally:
        os.umask(umask)
    mark.close()
    assert mark.path.stat().st_mode & 0o777 == 0o600


def test_where_none_can_be(tmp_path: Path) -> None:
    mark = MarkFile(tmp_path / "missing" / "mark")
    with pytest.raises(StartError, match=r"cannot write .*mark"):
        mark.write(0, b"x")
    (tmp_path / "mark").mkdir()
    with pytest.raises(StartError, match=r"cannot read .*mark"):
        MarkFile(tmp_path / "mark").read(1)


def test_it_can_be_removed(tmp_path: Path) -> None:
    mark = MarkFile(tmp_path / "mark")
    mark.remove()
    mark.write(0, b"x")
    mark.remove()
    assert not mark.path.exists()
    mark.write(1, b"y")
    assert mark.read(8) == b"\0y"
    mark.close()
    (tmp_path / "folder").mkdir()
    with pytest.raises(StartError, match="cannot remove"):
        MarkFile(tmp_path / "folder").remove()
