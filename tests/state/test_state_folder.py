"""One process a folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ptproxy.errors import StartError
from ptproxy.state import StateFolder


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
