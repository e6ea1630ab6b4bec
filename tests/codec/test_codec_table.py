"""The table of codecs: built-in ones, outside ones, broken ones."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint, PathDistribution

import pytest

from ptproxy.codec import codec_table
from ptproxy.codec.table import BUILT_IN, GROUP, CodecTable
from ptproxy.errors import StartError


class Morse:
    name = "morse"

    def client(self, settings, opening, rng): ...

    def reception(self, settings, rng): ...


MORSE = Morse()
NAMELESS = object()


class Half:
    name = "half"


def entry(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, GROUP)


def table(*entries: EntryPoint) -> CodecTable:
    return CodecTable(iter(entries))


def test_the_built_in_codecs_in_order_without_being_installed():
    assert list(table()) == ["websocket", "http", "random"]
    for name, codec in table().items():
        assert codec.name == name
    assert list(codec_table())[:3] == list(BUILT_IN)
    assert codec_table()["websocket"] is table()["websocket"]


def test_an_outside_codec_comes_after_them_by_name():
    codecs = table(
        entry("zulu", "nowhere:X"), entry("morse", f"{__name__}:MORSE"), entry("http", BUILT_IN["http"])
    )
    assert list(codecs) == ["websocket", "http", "random", "morse", "zulu"]
    assert codecs["morse"] is MORSE
    assert "zulu" in codecs
    assert len(codecs) == 5


def test_a_built_in_name_cannot_be_taken():
    assert table(entry("random", f"{__name__}:MORSE"))["random"].name == "random"


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (entry("gone", "no_such_module:X"), "ModuleNotFoundError"),
        (entry("gone", f"{__name__}:NOTHING"), "AttributeError"),
        (entry("Morse", f"{__name__}:MORSE"), "a codec's name is"),
        (entry("other", f"{__name__}:MORSE"), "not a codec of that name"),
        (entry("nameless", f"{__name__}:NAMELESS"), "not a codec of that name"),
        (entry("half", f"{__name__}:Half"), "lacks client()"),
    ],
)
def test_a_broken_outside_entry_is_named_when_used_and_breaks_nothing_else(broken, says):
    codecs = table(broken, entry("morse", f"{__name__}:MORSE"))
    assert codecs["morse"] is MORSE
    assert codecs["websocket"].name == "websocket"
    with pytest.raises(StartError, match=says) as caught:
        codecs[broken.name]
    assert broken.name in str(caught.value)
    assert broken.value in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_packages_offering_one_name():
    codecs = table(entry("morse", f"{__name__}:MORSE"), entry("morse", "elsewhere:MORSE"))
    with pytest.raises(StartError, match=r"more than once.*elsewhere:MORSE"):
        codecs["morse"]


def test_an_installed_package_is_named(tmp_path, monkeypatch):
    info = tmp_path / "broken_codec-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-codec\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\nbroken = broken_codec_module:X\n")
    codecs = CodecTable(iter(PathDistribution(info).entry_points))
    with pytest.raises(StartError, match=r"'broken' of broken-codec \(broken_codec_module:X\)"):
        codecs["broken"]
    monkeypatch.syspath_prepend(tmp_path)
    codec_table.cache_clear()
    try:
        assert "broken" in codec_table()
    finally:
        codec_table.cache_clear()


def test_an_unknown_name():
    with pytest.raises(KeyError):
        table()["nonsense"]


def test_codecs_are_imported_when_first_used():
    code = (
        "import sys; from ptproxy.codec import codec_table; t = codec_table(); list(t);"
        "assert 'ptproxy.codec.websocket' not in sys.modules; t['random'];"
        "assert 'ptproxy.codec.random' in sys.modules and 'ptproxy.codec.websocket' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
