"""Root opens a database in another user's folder: a link there leads to nothing that user may not open."""

from __future__ import annotations

import contextlib
import os
import sys

import pytest

from ptproxy.errors import StartError
from ptproxy.state import database
from ptproxy.state.as_owner import as_owner
from ptproxy.state.database import open_database, open_shared

THEM = 54321
"""A user of no name."""

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root of Linux acts as somebody else"
)


@pytest.fixture
def theirs(tmp_path):
    """A folder of another user, below one that is root's alone, as systemd's DynamicUser has it."""
    above = tmp_path / "private"
    above.mkdir(mode=0o700)
    folder = above / "theirs"
    folder.mkdir(mode=0o700)
    os.chown(folder, THEM, THEM)
    return folder


@pytest.fixture
def roots(tmp_path):
    """A file that is root's alone."""
    path = tmp_path / "roots"
    path.write_bytes(b"secret")
    path.chmod(0o600)
    return path


def test_it_is_their_rights_and_then_ours_again(theirs, roots) -> None:
    with as_owner(theirs):
        with pytest.raises(PermissionError):
            roots.open("r+b")
        with pytest.raises(PermissionError):
            os.chown(roots, THEM, THEM)
        (theirs / "new").write_bytes(b"")
    assert roots.read_bytes() == b"secret"
    status = (theirs / "new").stat()
    assert (status.st_uid, status.st_gid) == (THEM, THEM)
    with pytest.raises(KeyError), as_owner(theirs):
        raise KeyError
    assert roots.read_bytes() == b"secret"


@pytest.mark.parametrize(
    "opened", [lambda path: open_shared(path, "", 1, 1.0), lambda path: open_database(path, "", 1)]
)
@pytest.mark.parametrize("end", ["", "-wal", "-shm"])
@pytest.mark.parametrize("kind", ["symbolic", "hard"])
def test_a_link_that_is_put_there_after_the_look_leads_nowhere(
    kind, end, opened, theirs, roots, monkeypatch
) -> None:
    monkeypatch.setattr(database, "_refuse_links", lambda _: None)  # it looked a moment before
    path = theirs / "a.sqlite3"
    link = theirs / f"a.sqlite3{end}"
    if kind == "symbolic":
        link.symlink_to(roots)
    else:
        os.link(roots, link)
    with contextlib.suppress(StartError):
        opened(path).close()
    status = roots.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (0, 0, 0o600)
    assert roots.read_bytes() == b"secret"


@pytest.mark.parametrize(
    "opened", [lambda path: open_shared(path, "", 1, 1.0), lambda path: open_database(path, "", 1)]
)
def test_what_is_made_is_theirs(opened, theirs) -> None:
    found = opened(theirs / "a.sqlite3")
    found.execute("CREATE TABLE t (x)")
    made = list(theirs.iterdir())
    assert len(made) >= 2
    assert {path.stat().st_uid for path in made} == {THEM}
    found.close()
