"""Retention: how much unacknowledged data a process keeps for all its sessions (R21).

Every session has an account. A session may always keep a floor; floors together
are a quarter of the whole at most, so they become smaller where sessions are
many. Half of the whole is for what is above floors: of it a session may keep
:data:`EAGERNESS` times what is free. So one busy session uses nearly all of it
in an idle process, many busy ones get equal parts, and something always stays
free for the next (the dynamic thresholds of Choudhury and Hahne, 1998). The same
rule divides a session's share between its streams.

The last quarter is for floors that were larger once: whoever keeps what it had
when sessions were fewer need not give it back. So what is kept stays inside
``total`` while there is a floor's worth for each, sessions come and stall as
they may; each doubling beyond may add an eighth, and then who makes no progress
goes soon.

What peers may send and nobody has read yet (R22) is counted beside it: the windows of all sessions grow
inside ``total`` as well, each session's to :data:`EAGERNESS` times what is free of it. First windows are
not asked for.
"""

from __future__ import annotations

from typing import Final

FLOOR: Final = 64 * 1024
"""Bytes any session may keep: one initial window, so that a full budget never stops small talk."""

LEAST_FLOOR: Final = 4 * 1024
"""... however many sessions there are: a screenful."""

EAGERNESS: Final = 4
"""How many times the free part one account may keep: alone it gets 4/5 of the whole, n get 4/(4n+1) each."""

PRESSURE: Final = 8
"""The budget is under pressure when less than 1/PRESSURE of it is free."""

HASTE: Final = 6
"""How many times sooner who makes no progress goes when more than the whole is kept."""


def _shared(total: int) -> int:
    return total - total // 2


class RetentionBudget:
    """The retention of one process, in bytes."""

    __slots__ = (
        "_least",
        "_most",
        "above",
        "accounts",
        "ended",
        "floor",
        "shared",
        "total",
        "used",
        "windows",
    )

    def __init__(self, total: int, floor: int = FLOOR) -> None:
        self.total = total
        self.used = 0
        self.accounts: dict[Account, None] = {}
        self._most, self._least = floor, min(floor, LEAST_FLOOR)
        self.floor = floor
        """What each may keep now, whatever the others do."""
        self.shared = _shared(total)
        """What is for all together, above their floors: half, rounded up."""
        self.above = 0
        """How much of that is used."""
        self.windows = 0
        """Sum of the windows of all sessions (R22)."""
        self.ended = 0
        """How often a session went because it blocked a full budget."""

    def resize(self, total: int) -> None:
        """Another total from now on; what is kept beyond a smaller one stays until it is let go."""
        self.total, self.shared = total, _shared(total)
        self.divide()

    def open_account(self, now: float) -> Account:
        """A session's account; it is closed with :meth:`Account.close`."""
        account = Account(self, now)
        self.accounts[account] = None
        self.divide()
        return account

    def divide(self) -> None:
        """One account more or less: floors take a quarter of the whole at most."""
        count, floor = len(self.accounts), self._most
        while floor > self._least and count * floor * 4 > self.total:
            floor = max(self._least, floor // 2)
        if floor != self.floor:
            self.floor = floor
            self.above = sum(max(0, account.retained - floor) for account in self.accounts)

    @property
    def under_pressure(self) -> bool:
        """Whether nearly everything is used, or everything but floors."""
        total, shared = self.total, self.shared
        return (total - self.used) * PRESSURE < total or (shared - self.above) * PRESSURE < shared


class Account:
    """One session's part of the budget."""

    __slots__ = ("adrift", "budget", "progress_at", "retained", "windows")

    def __init__(self, budget: RetentionBudget, now: float) -> None:
        self.budget = budget
        self.retained = 0
        """Bytes kept now."""
        self.windows = 0
        """Sum of this session's windows."""
        self.adrift = True
        """The session has no carrier: under pressure it goes first (R22)."""
        self.progress_at = now
        """When the peer last acknowledged anything, or when something was first kept."""

    def keep(self, size: int, now: float) -> None:
        """``size`` more bytes are kept."""
        if not self.retained:
            self.progress_at = now
        before, budget = self.retained, self.budget
        self.retained = after = before + size
        budget.used += size
        floor = budget.floor
        if after > floor:
            budget.above += size if before > floor else after - floor

    def release(self, size: int, now: float) -> None:
        """The peer has acknowledged something: ``size`` bytes are kept no more."""
        self.progress_at = now
        if size:
            before, budget = self.retained, self.budget
            self.retained = after = before - size
            budget.used -= size
            floor = budget.floor
            if before > floor:
                budget.above -= size if after > floor else before - floor

    def room(self) -> int:
        """How many bytes more this session may keep now; negative where it keeps more than its share."""
        budget = self.budget
        retained, floor = self.retained, budget.floor
        free = budget.shared - budget.above
        if free < 0:
            free = 0
        if retained <= floor:
            return floor - retained + free
        above = retained - floor
        return free if above <= (EAGERNESS - 1) * free else EAGERNESS * free - above

    def permit(self, size: int) -> None:
        """The session's windows are together ``size`` bytes larger."""
        if self in self.budget.accounts:
            self.windows += size
            self.budget.windows += size

    def may_permit(self, size: int) -> bool:
        """Whether its windows may grow by ``size`` bytes, as far as all sessions of the process go (R22)."""
        budget = self.budget
        return self.windows + size <= EAGERNESS * (budget.total - budget.windows - size)

    @property
    def is_overdrawn(self) -> bool:
        """Whether the windows of all sessions are more than they may be together."""
        return self.budget.windows > self.budget.total

    def is_victim(self, now: float, patience: float) -> bool:
        """Whether the budget is under pressure and this is the largest account without progress (R21).

        ``patience`` is for how many seconds there was none; less will do where more than the whole is kept.
        """
        budget = self.budget
        if budget.used > budget.total:
            patience /= HASTE
        if not self.retained or not budget.under_pressure or now - self.progress_at < patience:
            return False
        mine = (self.adrift, self.retained)
        return all(
            (other.adrift, other.retained) <= mine
            for other in budget.accounts
            if now - other.progress_at >= patience
        )

    def close(self) -> None:
        """The session is over."""
        self.release(self.retained, self.progress_at)
        self.permit(-self.windows)
        if self.budget.accounts.pop(self, self) is None:
            self.budget.divide()
