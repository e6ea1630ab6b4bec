"""Says when the memory for streams is nearly used up, and when it is free again and what that took."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from ptproxy.log import get_logger
from ptproxy.session import RetentionBudget

FREE_AGAIN: Final = 0.5
"""Part of the budget that must be free before pressure counts as over: a budget at its edge fills no log."""

log = get_logger(__name__)


class PressureLog:
    """To be asked every few seconds; says each change once."""

    def __init__(self, budget: RetentionBudget) -> None:
        self._budget = budget
        self._pressed = False
        self._ended = 0

    def look(self, sessions: Collection[object]) -> None:
        """``sessions``: those that there are."""
        budget = self._budget
        if not self._pressed and budget.under_pressure:
            self._pressed = True
            adrift = sum(account.adrift and account.retained > 0 for account in budget.accounts)
            log.warning(
                "the memory for streams is nearly used up: sessions share what is left, those whose clients "
                "take nothing for a minute end (limits.memory)",
                used=budget.used, limit=budget.total, sessions=len(sessions), without_connection=adrift,
                each_may_keep=budget.floor,
            )  # fmt: skip
        elif self._pressed and budget.used < budget.total * FREE_AGAIN:
            self._pressed = False
            log.warning(
                "there is memory for streams again",
                used=budget.used, limit=budget.total, sessions_ended=budget.ended - self._ended,
            )  # fmt: skip
            self._ended = budget.ended
