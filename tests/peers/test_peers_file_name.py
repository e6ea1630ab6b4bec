"""Names of files that others have sent."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.peers.file_name import MAX_NAME, safe_name


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("picture.png", "picture.png"),
        ("Rechnung März 2027.pdf", "Rechnung März 2027.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Windows\\system32\\x.dll", "x.dll"),
        ("/", "file"),
        ("", "file"),
        ("..", "file"),
        (".bashrc", "bashrc"),
        ("a/", "file"),
        ("x\x00y\x1b[31m\nz", "xy[31mz"),
        ("photo\u202egpj.exe", "photogpj.exe"),
        ("zero\u200bwidth", "zerowidth"),
        ("a:b*c?.txt", "a_b_c_.txt"),
        ("trailing. . ", "trailing"),
        ("NUL", "_NUL"),
        ("con.txt", "_con.txt"),
        ("COM1 .log", "_COM1 .log"),
        ("console.txt", "console.txt"),
        ("two  \u2003spaces", "two spaces"),
        ("~/.ssh/id", "id"),
        ("-rf", "-rf"),
        ("\ud800", "file"),
    ],
)
def test_examples(said, name):
    assert safe_name(said) == name


@given(said=st.one_of(st.text(max_size=300), st.text("./\\ \u202e\x00ab:CON", max_size=20)))
def test_whatever_is_said_is_one_harmless_component(said):
    name = safe_name(said)
    assert name
    assert len(name.encode()) <= MAX_NAME + 1
    assert not set(name) & set('/\\<>:"|?*\0')
    assert not name.startswith((".", " "))
    assert not name.endswith((".", " "))
    assert not any(unicodedata.category(character).startswith("C") for character in name)
    assert safe_name(name) == name


def test_long_names_keep_their_suffix():
    assert safe_name("x" * 300 + ".tar") == "x" * 116 + ".tar"
    assert safe_name("ä" * 300) == "ä" * 60
    assert len(safe_name("x." + "y" * 300)) == 120
