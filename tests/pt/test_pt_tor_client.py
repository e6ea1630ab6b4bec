"""tor's connections on the client's side, without a bridge."""

from __future__ import annotations

import asyncio

import pytest

from ptproxy.errors import DialError, Reason, StartError
from ptproxy.pt.tor_client import Caller
from ptproxy.target import Target


class Missing:
    """A way that needs a library which is not installed."""

    def check(self, arguments: dict[str, str]) -> None:
        """Nothing is wrong with the line."""

    async def dial(self, *_):
        raise StartError("pip install it")


def test_what_is_not_installed_is_told_to_tor_and_is_no_failure_of_ours() -> None:
    said: list[str] = []

    async def main() -> None:
        caller = Caller("webtunnel", Missing(), said.append)
        with pytest.raises(DialError) as caught:
            await caller.dial(Target.address("192.0.2.1", 443), asyncio.Protocol())
        assert caught.value.reason is Reason.GENERAL

    asyncio.run(main())
    assert said == ["STATUS TYPE=connection TRANSPORT=webtunnel CONNECT=Failed"]
