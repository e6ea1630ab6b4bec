"""Retention: how much unacknowledged data a process keeps for all its sessions (R21).

Every session has an account. A session may always keep a floor; above it, it
may keep :data:`EAGERNESS` times what is free. So one busy session uses nearly
all of an idle process, many busy ones get equal parts, and something always
stays free for the next (the dynamic thresholds of Choudhury and Hahne, 1998).
Only floors may carry the sum above ``total``, by at most ``floor`` a session.
The same rule divides a session's share between its streams.
"""

from __future__ import annotations

from typing import Final

FLOOR: Final = 64 * 1024
"""Bytes any session may keep: one initial window, so that a full budget never stops small talk."""

EAGERNESS: Final = 4
"""How many times the free part one account may keep: alone it gets 4/5 of the whole, n get 4/(4n+1) each."""

PRESSURE: Final = 8
"""The budget is under pressure when less than 1/PRESSURE of it is free."""


class RetentionBudget:
    """The retention of one process, in bytes."""

    __slots__ = ("accounts", "floor", "total", "used")

    def __init__(self, total: int, floor: int = FLOOR) -> None:
        self.total = total
        self.floor = floor
        self.used = 0
        self.accounts: dict[Account, None] = {}

    def open_account(self, now: float) -> Account:
        """A session's account; it is closed with :meth:`Account.close`."""
        account = Account(self, now)
        self.accounts[account] = None
        return account

    @property
    def under_pressure(self) -> bool:
        """Whether nearly everything is used."""
        return (self.total - self.used) * PRESSURE < self.total


class Account:
    """One session's part of the budget."""

    __slots__ = ("adrift", "budget", "progress_at", "retained")

    def __init__(self, budget: RetentionBudget, now: float) -> None:
        self.budget = budget
        self.retained = 0
        """Bytes kept now."""
        self.adrift = True
        """The session has no carrier: under pressure it goes first (R22)."""
        self.progress_at = now
        """When the peer last acknowledged anything, or when something was first kept."""

    def keep(self, size: int, now: float) -> None:
        """``size`` more bytes are kept."""
        if not self.retained:
            self.progress_at = now
        self.retained += size
        self.budget.used += size

    def release(self, size: int, now: float) -> None:
        """``size`` bytes are kept no more."""
        if size:
            self.retained -= size
            self.budget.used -= size
            self.progress_at = now

    def room(self) -> int:
        """How many bytes more this session may keep now; negative where it keeps more than its share."""
        budget = self.budget
        free = budget.total - budget.used
        retained = self.retained
        if retained <= (EAGERNESS - 1) * free and retained + free >= budget.floor:
            return free  # the usual case of the line below
        return max(budget.floor, min(retained + free, EAGERNESS * free)) - retained

    def is_victim(self, now: float, patience: float) -> bool:
        """Whether the budget is under pressure and this is the largest account without progress (R21)."""
        if not self.retained or not self.budget.under_pressure or now - self.progress_at < patience:
            return False
        mine = (self.adrift, self.retained)
        return all(
            (other.adrift, other.retained) <= mine
            for other in self.budget.accounts
            if now - other.progress_at >= patience
        )

    def close(self) -> None:
        """The session is over."""
        self.release(self.retained, self.progress_at)
        self.budget.accounts.pop(self, None)
