"""Documents: several writers, damage told clearly."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from ptproxy.errors import StartError
from ptproxy.state import Document, StateFolder


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
