"""A state folder is given to a user whole, and nothing else is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ptproxy.errors import StartError
from ptproxy.state.owner import give_folder, give_log

UID = GID = 65534

pytestmark = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away"
)


def owners(path: Path) -> set[int]:
    return {each.lstat().st_uid for each in (path, *path.rglob("*"))}


def test_a_new_folder_is_the_users(tmp_path: Path) -> None:
    give_folder(tmp_path / "state", UID, GID)
    status = (tmp_path / "state").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (UID, GID, 0o700)


def test_a_used_folder_is_given_with_all_that_is_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    (folder / "files").mkdir(parents=True)
    folder.chmod(0o700)
    for name in ("lock", "accounts.sqlite3", "files/one"):
        (folder / name).write_text(name)
    give_folder(folder, UID, GID)
    assert owners(folder) == {UID}
    give_folder(folder, UID, GID)  # once more: nothing is left to do


def test_links_out_of_it_give_nothing_away(tmp_path: Path) -> None:
    folder, other = tmp_path / "state", tmp_path / "other"
    folder.mkdir(mode=0o700)
    other.write_text("root's")
    (folder / "lock").touch()
    (folder / "soft").symlink_to(other)
    (folder / "hard").hardlink_to(other)
    give_folder(folder, UID, GID)
    assert other.stat().st_uid == 0
    assert (folder / "soft").lstat().st_uid == 0
    assert (folder / "lock").stat().st_uid == UID


@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_a_folder_of_roots_that_is_no_state_folder_is_kept(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "root"
    folder.mkdir()
    (folder / "secret" if mode == 0o700 else folder / "lock").write_text("root's")
    folder.chmod(mode)
    with pytest.raises(StartError, match=r"not plainly a state folder.*chown"):
        give_folder(folder, UID, GID)
    assert owners(folder) == {0}


def test_a_third_users_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    os.chown(folder, 1, 1)
    with pytest.raises(StartError, match="belongs to another user"):
        give_folder(folder, UID, GID)


def test_a_log_is_given_and_a_link_is_not_followed(tmp_path: Path) -> None:
    log, other = tmp_path / "bridge.log", tmp_path / "other"
    give_log(log, UID, GID)
    assert log.stat().st_uid == UID
    other.write_text("root's")
    log.unlink()
    log.symlink_to(other)
    with pytest.raises(StartError, match=r"log\.file"):
        give_log(log, UID, GID)
    assert other.stat().st_uid == 0
