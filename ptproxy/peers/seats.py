"""Who may have how many streams at a service: so many in all, so many of one account, and nobody shut out.

When all places are taken, whoever has the most gives up the oldest of theirs to
an account that has fewer: to keep a newcomer out takes as many accounts as
there are places.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

S = TypeVar("S")


class Seats(Generic[S]):
    """The streams of a service by account."""

    __slots__ = ("_by_account", "_most", "_most_of_one", "_taken")

    def __init__(self, most: int, most_of_one: int) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._by_account: dict[str, dict[S, None]] = {}
        self._taken = 0

    def __len__(self) -> int:
        return self._taken

    def __iter__(self) -> Iterator[S]:
        return (stream for streams in list(self._by_account.values()) for stream in list(streams))

    def of(self, account: str) -> int:
        """How many an account has."""
        return len(self._by_account.get(account, ()))

    def may_sit(self, account: str) -> bool:
        """Whether there is a place for another stream of ``account``, if :meth:`crowded_out` makes it."""
        mine = self.of(account)
        if mine >= self._most_of_one:
            return False
        return self._taken < self._most or max(map(len, self._by_account.values())) > mine + 1

    def crowded_out(self) -> S | None:
        """The stream that has to leave first, None while there is room."""
        if self._taken < self._most:
            return None
        most: dict[S, None] = max(self._by_account.values(), key=len)
        return next(iter(most))

    def sit(self, account: str, stream: S) -> None:
        """``stream`` has a place."""
        self._by_account.setdefault(account, {})[stream] = None
        self._taken += 1

    def leave(self, account: str, stream: S) -> bool:
        """It has none any more; whether it had one."""
        streams = self._by_account.get(account, {})
        if stream not in streams:
            return False
        del streams[stream]
        self._taken -= 1
        if not streams:
            del self._by_account[account]
        return True
