"""Retention: how much unacknowledged data a process keeps for all its sessions (R21).

Every session has an account. A session may always keep a floor; above it,
shares are fair between sessions: the larger of an equal part and half of
what is free, so that one busy session uses an idle process and many busy
ones get the same. The floor may carry the sum above ``total``, by at most
``floor`` a session.
"""

from __future__ import annotations

from typing import Final

FLOOR: Final = 64 * 1024
"""Bytes any session may keep: one initial window, so that a full budget never stops small talk."""

PRESSURE: Final = 8
"""The budget is under pressure when less than 1/PRESSURE of it is free."""


class RetentionBudget:
    """The retention of one process, in bytes."""

    __slots__ = ("accounts", "active", "floor", "total", "used")

    def __init__(self, total: int, floor: int = FLOOR) -> None:
        self.total = total
        self.floor = floor
        self.used = 0
        self.active = 0
        """Accounts that keep anything now."""
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
        budget = self.budget
        if not self.retained:
            budget.active += 1
            self.progress_at = now
        self.retained += size
        budget.used += size

    def release(self, size: int, now: float) -> None:
        """``size`` bytes are kept no more."""
        if size:
            budget = self.budget
            self.retained -= size
            budget.used -= size
            if not self.retained:
                budget.active -= 1
            self.progress_at = now

    def share(self) -> int:
        """How many bytes this session may keep now."""
        budget = self.budget
        active = budget.active if self.retained else budget.active + 1
        return max(budget.floor, budget.total // active, self.retained + (budget.total - budget.used) // 2)

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
