"""One process a folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ptproxy.errors import StartError
from ptproxy.state import StateFolder, holder_of


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
        root = Path(__file__).parent.parent.parent
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


def test_the_lock_is_handed_over_without_a_gap(tmp_path: Path) -> None:
    former = StateFolder(tmp_path / "state")
    assert holder_of(tmp_path / "state") is not None
    new = StateFolder(tmp_path / "state", former.duplicate_lock())
    former.close()
    with pytest.raises(StartError, match="another ptproxy"):
        StateFolder(tmp_path / "state")
    new.close()
    assert holder_of(tmp_path / "state") is None
    StateFolder(tmp_path / "state").close()


def test_another_folders_lock_is_refused(tmp_path: Path) -> None:
    with StateFolder(tmp_path / "one") as one, pytest.raises(StartError, match="not the lock"):
        StateFolder(tmp_path / "other", one.duplicate_lock())
    StateFolder(tmp_path / "other").close()


def test_a_holder_is_known_while_it_writes_over_a_longer_number(tmp_path: Path) -> None:
    with StateFolder(tmp_path):
        (tmp_path / "lock").write_bytes(b"99\n345\n")
        found = holder_of(tmp_path)
        assert found is not None
        assert found[0] == 99


def test_a_holder_says_who_it_is_and_each_time_anew(tmp_path: Path) -> None:
    assert holder_of(tmp_path / "nothing") is None
    with StateFolder(tmp_path) as folder:
        first = holder_of(tmp_path)
        assert first is not None
        assert first[0] == os.getpid()
        os.utime(tmp_path / "lock", (1, 1))
        folder.note_holder()
        assert holder_of(tmp_path) not in (first, (os.getpid(), 10**9))
        (tmp_path / "lock").write_bytes(b"")
        with pytest.raises(StartError, match="not known"):
            holder_of(tmp_path)
