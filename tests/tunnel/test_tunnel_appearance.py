"""Which browser a fingerprint stands for, on each system and from a file of the user's own."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from ptproxy.codec.page.cache import SiteMemory
from ptproxy.errors import StartError
from ptproxy.tunnel.appearance import RECORDED, appearance_of, browser_of, own_browser


def test_python_is_no_browser() -> None:
    assert appearance_of("python", SiteMemory()) is None


@pytest.mark.parametrize("fingerprint", list(RECORDED))
@pytest.mark.parametrize("platform", ["linux", "win32", "darwin", "android", "freebsd14"])
def test_the_system_we_run_on_is_named(fingerprint: str, platform: str) -> None:
    values = browser_of(fingerprint, platform).values
    assert "{" not in values["user_agent"]
    assert ("Windows" in values["user_agent"]) == (platform == "win32")
    if fingerprint == "chrome":
        assert ("Windows" in values["platform"]) == (platform == "win32")
        assert ("Google Chrome" in values["brands"]) == (platform in ("win32", "darwin", "android"))
        assert (values["mobile"] == "?1") == (platform == "android")


def test_a_file_of_one_s_own(tmp_path: Path) -> None:
    text = (files("ptproxy.codec") / "browsers" / RECORDED["chrome"]).read_text("utf-8")
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace("en-US,en;q=0.9", "de"))
    assert own_browser("chrome", path).values["accept_language"] == "de"
    with pytest.raises(StartError, match="chromium's"):
        own_browser("firefox", path)


@pytest.mark.parametrize("text", ["", "- 1", "browser: chromium", "a: [", "\0"])
def test_a_file_that_is_no_browser(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(StartError, match=r"tls\.profile"):
        own_browser("chrome", path)
    with pytest.raises(StartError, match="cannot read"):
        own_browser("chrome", tmp_path / "none.yaml")
