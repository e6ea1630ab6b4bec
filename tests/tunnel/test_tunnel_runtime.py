"""What no code awaits: a stranger's broken connection is no error, a fault of ours is one. Free memory."""

from __future__ import annotations

import asyncio
import ssl
import sys
from typing import Any

import pytest
from structlog.testing import capture_logs

from ptproxy.tunnel import memory as memory_module
from ptproxy.tunnel.memory import BUSY_CALLS, FreeMemory
from ptproxy.tunnel.runtime import _unforeseen


@pytest.mark.parametrize(
    ("exception", "told"),
    [
        (ConnectionResetError(), []),
        (ConnectionResetError, []),  # aiofastnet gives the class
        (ssl.SSLError(), []),
        (KeyError("bug"), ["error"]),
        (KeyError, ["error"]),
        (None, ["error"]),
    ],
    ids=repr,
)
def test_what_nobody_awaits(exception: Any, told: list[str]) -> None:
    loop = asyncio.new_event_loop()
    try:
        with capture_logs() as lines:
            _unforeseen(loop, {"message": "it broke", "exception": exception})
    finally:
        loop.close()
    assert [line["log_level"] for line in lines if line["log_level"] != "debug"] == told


def test_free_memory_goes_back_once_after_work(monkeypatch: pytest.MonkeyPatch) -> None:
    now, used, asked = 0.0, 0.0, 0
    monkeypatch.setattr("ptproxy.tunnel.memory.time.process_time", lambda: used)

    def trim(_: int) -> int:
        nonlocal asked
        asked += 1
        return 1

    monkeypatch.setattr("ptproxy.tunnel.memory._malloc_trim", lambda: trim)
    memory = FreeMemory(lambda: now)

    def after(seconds: float, cpu: float) -> bool:
        nonlocal now, used
        now, used = now + seconds, used + cpu
        return memory.give_back()

    assert not after(5, 0.01)  # nothing was done
    assert not after(5, 3.0)
    assert after(5, 0.01)
    assert not after(5, 0.01)
    assert [after(5, 3.0) for _ in range(BUSY_CALLS)] == [False] * (BUSY_CALLS - 1) + [True]
    assert asked == 2


def test_where_the_c_library_offers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ctypes", None)
    assert memory_module._malloc_trim() is None
