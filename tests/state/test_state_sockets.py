"""A Unix socket's name: its mode, who gives it up, and paths that are too long for one."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from ptproxy.errors import StartError
from ptproxy.state.sockets import LONGEST, bind_socket, reachable

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets")


def connected(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock, reachable(path) as name:
        return sock.connect_ex(name) == 0


def test_only_its_user_reaches_it(tmp_path: Path) -> None:
    named = bind_socket(tmp_path / "control")
    with named.sock as sock:
        sock.listen()
        assert stat.S_IMODE((tmp_path / "control").stat().st_mode) == 0o600
        assert connected(tmp_path / "control")
        assert os.listdir(tmp_path) == ["control"]  # no temporary name is left
        named.give_up()
        assert not (tmp_path / "control").exists()
        named.give_up()


def test_what_was_killed_is_replaced_and_a_successor_keeps_its_name(tmp_path: Path) -> None:
    path = tmp_path / "control"
    former = bind_socket(path)
    with former.sock, bind_socket(path).sock as sock:
        sock.listen()
        former.give_up()  # it ends later than the other one began
        assert connected(path)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no other way to a long path")
def test_a_path_may_be_long(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*["a folder of thirty characters "] * 5)
    folder.mkdir(parents=True)
    path = folder / "control"
    assert len(os.fsencode(path)) > LONGEST
    named = bind_socket(path)
    with named.sock as sock:
        sock.listen()
        assert connected(path)
        named.give_up()
    assert os.listdir(folder) == []


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="no such file"):
        bind_socket(tmp_path / "nowhere" / "control")


def test_nothing_but_a_socket_is_replaced(tmp_path: Path) -> None:
    """``metrics: {listen: unix:PATH}`` with a path that is something else's."""
    path = tmp_path / "of-worth"
    path.write_text("of worth")
    (tmp_path / "link").symlink_to(path)
    for name in ("of-worth", "link"):
        with pytest.raises(StartError, match="something else"):
            bind_socket(tmp_path / name)
    assert path.read_text() == "of worth"
    assert sorted(os.listdir(tmp_path)) == ["link", "of-worth"]
