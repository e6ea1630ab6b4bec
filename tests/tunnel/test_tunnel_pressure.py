"""An operator is told once that the memory for streams is nearly used up, and once that it is not."""

from __future__ import annotations

import pytest

from ptproxy.session import RetentionBudget
from ptproxy.tunnel import pressure
from ptproxy.tunnel.pressure import PressureLog


class Lines:
    """A log that is read."""

    def __init__(self) -> None:
        self.said: list[tuple[str, dict[str, int]]] = []

    def warning(self, event: str, **values: int) -> None:
        self.said.append((event, values))


def test_each_change_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = Lines()
    monkeypatch.setattr(pressure, "log", lines)
    budget = RetentionBudget(1 << 20)
    account = budget.open_account(0.0)
    told = PressureLog(budget)
    told.look([account])
    account.keep(1 << 20, 1.0)
    for _ in range(3):
        told.look([account])
    account.release(1 << 18, 2.0)  # less, but not free
    told.look([account])
    budget.ended = 3
    account.keep(1 << 18, 3.0)
    told.look([account])
    account.release(1 << 20, 4.0)
    for _ in range(3):
        told.look([account])
    (first, values), (second, then) = lines.said
    assert "nearly used up" in first
    limit, floor = 1 << 20, budget.floor
    assert values == {
        "used": limit, "limit": limit, "sessions": 1, "without_connection": 1, "each_may_keep": floor,
    }  # fmt: skip
    assert "again" in second
    assert then == {"used": 0, "limit": limit, "sessions_ended": 3}
