"""Pauses between dials that failed, by a clock that a test moves."""

from __future__ import annotations

import asyncio
import contextlib
import random
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from ptproxy.tunnel.rest import BACKOFF_LAST, HASTE, LOGIN_PAUSE, Rest


class Leaping(asyncio.SelectorEventLoop):
    """A loop without idle time: where it would wait it is later at once."""

    def __init__(self) -> None:
        self.leapt = 0.0
        super().__init__(_Instant(self))

    def time(self) -> float:
        return self.leapt


class _Instant(selectors.DefaultSelector):
    def __init__(self, loop: Leaping) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        self._loop.leapt += timeout or 0.0
        return super().select(0)


def within(main: Callable[[Rest], Coroutine[Any, Any, list[float]]]) -> list[float]:
    async def made() -> list[float]:
        return await main(Rest(asyncio.get_running_loop(), random.Random(8)))

    with asyncio.Runner(loop_factory=Leaping) as runner:
        return runner.run(made())


async def pauses(rest: Rest, seconds: float, count: int) -> list[float]:
    loop, took = asyncio.get_running_loop(), []
    for _ in range(count):
        began = loop.time()
        await rest.take(seconds)
        took.append(loop.time() - began)
    return took


def test_behind_a_login_page_pauses_are_below_a_second_and_no_two_alike() -> None:
    async def main(rest: Rest) -> list[float]:
        rest.is_held = lambda: True
        return await pauses(rest, BACKOFF_LAST, 40)

    took = within(main)
    assert LOGIN_PAUSE[0] <= min(took)
    assert max(took) <= LOGIN_PAUSE[1] + 0.01 < 1.0
    assert len({round(each, 2) for each in took}) > 20


@pytest.mark.parametrize("seconds", [3.0, 30.0])
def test_what_somebody_waits_for_is_not_dialled_to_a_beat(seconds: float) -> None:
    async def main(rest: Rest) -> list[float]:
        with rest.waited_for():
            return await pauses(rest, seconds, 40)

    took, nominal = within(main), max(1.0, seconds / 6)
    assert nominal * HASTE[0] <= min(took)
    assert max(took) <= nominal * HASTE[1] + 0.01
    assert len({round(each, 2) for each in took}) > 20


def test_a_pause_lasts_where_nobody_waits_and_no_longer_where_somebody_comes() -> None:
    async def main(rest: Rest) -> list[float]:
        whole = await pauses(rest, 4.0, 1)
        with contextlib.ExitStack() as waiting:
            asyncio.get_running_loop().call_later(2.0, waiting.enter_context, rest.waited_for())
            return whole + await pauses(rest, 4.0, 1)

    whole, cut = within(main)
    assert whole == pytest.approx(4.0, abs=0.01)
    assert 2.0 <= cut <= 2.3
