"""A plugged-in bridge's own keys: made once, kept, and told of before they are loaded."""

from __future__ import annotations

import json
import ssl
import stat
import threading
from pathlib import Path

import pytest

from ptproxy.errors import StartError
from ptproxy.pt.identity import (
    CERTIFICATE_FILE,
    KEY_FILE,
    PRIVATE_FILE,
    Identity,
    hold_folder,
    load_identity,
)
from ptproxy.pt.plugged import check_identity, make_config
from ptproxy.pt.wanted import Wanted
from ptproxy.tunnel.tls import leaf_digest


def identity_in(folder: Path, wanted: Wanted | None = None) -> Identity:
    with hold_folder(folder) as state:
        return load_identity(state, wanted or Wanted())


def test_it_is_made_once(tmp_path: Path) -> None:
    first = identity_in(tmp_path / "a" / "b")
    assert identity_in(tmp_path / "a" / "b") == first
    assert identity_in(tmp_path / "other") != first
    assert leaf_digest(tmp_path / "a" / "b" / CERTIFICATE_FILE) == first.pin


def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    identity_in(tmp_path / "a")
    for name in (KEY_FILE, PRIVATE_FILE, "line.json"):
        assert stat.S_IMODE((tmp_path / "a" / name).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700


def test_it_makes_a_bridge(tmp_path: Path) -> None:
    made = identity_in(tmp_path)
    config = make_config(made, Wanted(), tmp_path, ["websocket"], ("127.0.0.1", 4433))
    check_identity(made, config)
    assert config.access == "open"
    assert (config.server_name, config.path) == (made.name, made.path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / CERTIFICATE_FILE, tmp_path / PRIVATE_FILE)


def test_another_name_needs_another_certificate_and_nothing_else(tmp_path: Path) -> None:
    first = identity_in(tmp_path)
    named = identity_in(tmp_path, Wanted(name="example.org"))
    assert (named.public, named.path, named.name) == (first.public, first.path, "example.org")
    assert named.pin != first.pin
    assert identity_in(tmp_path) == named


def test_a_certificate_of_an_authority_is_not_pinned_and_a_self_signed_one_is(tmp_path: Path) -> None:
    own = identity_in(tmp_path / "own", Wanted(name="example.org"))
    wanted = Wanted("example.org", tmp_path / "own" / CERTIFICATE_FILE, tmp_path / "own" / PRIVATE_FILE)
    assert identity_in(tmp_path / "bridge", wanted).pin == own.pin
    assert identity_in(tmp_path / "bridge", wanted).name == "example.org"


def test_files_that_do_not_belong_together_are_noticed(tmp_path: Path) -> None:
    made, other = identity_in(tmp_path / "a"), identity_in(tmp_path / "b")
    for name in (KEY_FILE, CERTIFICATE_FILE):
        before = (tmp_path / "a" / name).read_bytes()
        (tmp_path / "a" / name).write_bytes((tmp_path / "b" / name).read_bytes())
        config = make_config(made, Wanted(), tmp_path / "a", ["websocket"], ("127.0.0.1", 4433))
        with pytest.raises(StartError, match="do not belong together"):
            check_identity(made, config)
        (tmp_path / "a" / name).write_bytes(before)
    assert other != made


@pytest.mark.parametrize(
    "change", [{"public": "00"}, {"path": "no"}, {"name": "a b"}, {"pin": "zz"}, {"pin": 7}, {"public": None}]
)
def test_a_damaged_document_is_told(tmp_path: Path, change: dict[str, object]) -> None:
    identity_in(tmp_path)
    path = tmp_path / "line.json"
    document = json.loads(path.read_text())
    document["data"] |= change
    path.write_text(json.dumps(document))
    with pytest.raises(StartError, match="damaged"):
        identity_in(tmp_path)


def test_a_predecessor_is_waited_for(tmp_path: Path) -> None:
    held = hold_folder(tmp_path)
    with pytest.raises(StartError, match="another ptproxy"):
        hold_folder(tmp_path, 0.0)
    waiting = threading.Event()

    def leave() -> None:
        waiting.wait()
        held.close()

    thread = threading.Thread(target=leave)
    thread.start()
    waiting.set()
    hold_folder(tmp_path, 60.0).close()
    thread.join()


def test_a_folder_that_cannot_be_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError):
        hold_folder(tmp_path / "file" / "folder", 3600.0)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"colour": "red"}, "no option 'colour'"),
        ({"certificate": "/a.pem"}, "go together"),
        ({"certificate": "/a.pem", "private-key": "/a.key"}, "name"),
        ({"site": "ftp://x"}, "web site"),
        ({"name": "a b"}, "a b"),
    ],
)
def test_options_that_are_none(options: dict[str, str], what: str) -> None:
    with pytest.raises(StartError, match=what):
        Wanted.parse(options)
