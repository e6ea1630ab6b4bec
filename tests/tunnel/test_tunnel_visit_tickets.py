"""A WebSocket resumes a ticket: where others have used up the page's, the next one is waited for."""

from __future__ import annotations

import asyncio
import random
from types import SimpleNamespace
from typing import Any

import pytest

from ptproxy.codec.page.cache import SiteMemory
from ptproxy.tunnel import visit as visit_module
from ptproxy.tunnel.appearance import appearance_of
from ptproxy.tunnel.visit import Visitor


class Site(Visitor):
    """A visitor whose visits are only counted; each leaves as many tickets as are given."""

    def __init__(self, given: int) -> None:
        self.given = given
        self.tickets = 0
        self.visits = 0
        tls = SimpleNamespace()
        route: Any = SimpleNamespace(tls=tls)
        super().__init__(
            asyncio.get_running_loop(), route, appearance_of("chrome", SiteMemory()), random.Random(1)
        )
        self.tls = tls
        self.show()

    def show(self) -> None:
        self.tls.resumable = self.tickets > 0

    async def visit(self, assets: str = "all", left: int = 0) -> Any:
        del assets, left
        self.visits += 1
        self.tickets += self.given
        self.show()

    def keep(self, visited: Any) -> None:
        del visited

    async def dial(self) -> bool:
        """As a carrier's: whether there is a ticket, which it uses."""
        await self.prepare()
        resumed = self.tickets > 0
        self.tickets -= resumed
        self.show()
        return resumed


def run(test: Any) -> None:
    asyncio.run(test())


def test_the_third_of_three_dials_waits_for_the_first_one_s_ticket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visit_module, "TICKET_PATIENCE", 3600.0)

    async def main() -> None:
        site = Site(2)
        assert await site.dial()
        assert await site.dial()
        third = asyncio.create_task(site.dial())
        await asyncio.sleep(0.1)
        assert not third.done()
        site.tickets = 1
        site.show()
        async with asyncio.timeout(30):
            assert await third
        assert site.visits == 1

    run(main)


def test_where_none_comes_the_page_is_visited_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visit_module, "TICKET_PATIENCE", 0.1)

    async def main() -> None:
        site = Site(2)
        async with asyncio.timeout(30):
            assert all(await asyncio.gather(*(site.dial() for _ in range(5))))
        assert site.visits == 3

    run(main)


def test_a_site_that_gives_none_is_visited_once_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visit_module, "TICKET_PATIENCE", 3600.0)

    async def main() -> None:
        site = Site(0)
        async with asyncio.timeout(30):
            assert not any(await asyncio.gather(*(site.dial() for _ in range(5))))
        assert site.visits == 1
        assert site._last is not None
        site._last -= visit_module.VISIT_EVERY
        assert not await site.dial()
        assert site.visits == 2

    run(main)


def test_a_site_that_gives_none_any_more_is_not_visited_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visit_module, "TICKET_PATIENCE", 0.1)

    async def main() -> None:
        site = Site(1)
        assert await site.dial()
        site.given = 0
        async with asyncio.timeout(30):
            for _ in range(5):
                assert not await site.dial()
        assert site.visits == 2

    run(main)
