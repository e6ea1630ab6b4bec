"""The browser profile holds what a header line may hold, for every platform."""

from __future__ import annotations

import pytest

from ptproxy.codec.profile import CHROMIUM


@pytest.mark.parametrize("platform", ["linux", "win32", "darwin", "android", "freebsd14"])
def test_the_user_agent_names_the_system_we_run_on(platform):
    agent = CHROMIUM.user_agent_for(platform)
    assert agent.startswith("Mozilla/5.0 (")
    assert "{" not in agent
    assert agent.isascii()
    assert agent.isprintable()
    assert ("Windows" in agent) == (platform == "win32")


def test_the_profile_says_where_it_comes_from():
    assert CHROMIUM.source
    assert CHROMIUM.recorded >= "2026"
