"""The small parts: intervals and the retention budget."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.errors import SessionError
from ptproxy.session.budget import LEAST_FLOOR, Account, RetentionBudget
from ptproxy.session.intervals import Intervals


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 8)), max_size=40))
def test_intervals_are_a_set(ranges: list[tuple[int, int]]) -> None:
    intervals = Intervals(100)
    reference: set[int] = set()
    for start, size in ranges:
        intervals.add_range(start, start + size)
        reference.update(range(start, start + size))
        assert [n for n in range(80) if n in intervals] == sorted(reference)
    runs = sum(1 for n in reference if n - 1 not in reference)
    assert len(intervals) == runs


def test_intervals_are_bounded() -> None:
    intervals = Intervals(3)
    for number in (1, 3, 5, 4):
        intervals.add(number)
    intervals.add(9)
    with pytest.raises(SessionError):
        intervals.add(20)
    intervals.add(2)
    assert len(intervals) == 2


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.integers(0, 500)), max_size=60))
def test_a_budget_is_never_overdrawn(steps: list[tuple[int, bool, int]]) -> None:
    budget = RetentionBudget(1000, floor=50)
    accounts = [budget.open_account(0) for _ in range(4)]
    for index, keeps, size in steps:
        account = accounts[index]
        if keeps:
            account.keep(min(size, max(0, account.room())), 0)
        else:
            account.release(min(size, account.retained), 0)
        assert budget.used == sum(a.retained for a in accounts) <= 1000
        assert budget.above == sum(max(0, a.retained - 50) for a in accounts)
        assert all(a.room() + a.retained >= 50 for a in accounts)
    for account in accounts:
        account.close()
    assert budget.used == budget.above == 0
    assert not budget.accounts


@given(st.lists(st.tuples(st.integers(0, 99), st.sampled_from("kkrc")), max_size=300))
def test_floors_are_smaller_where_sessions_are_many(steps: list[tuple[int, str]]) -> None:
    """Whoever comes has a floor, all floors together are a quarter of the budget, and it holds."""
    budget = RetentionBudget(256 * LEAST_FLOOR, floor=4 * LEAST_FLOOR)
    accounts: dict[int, Account] = {}
    for number, what in steps:
        account = accounts.get(number)
        if account is None:
            account = accounts[number] = budget.open_account(0)
        if what == "k":
            account.keep(max(0, account.room()), 0)
        elif what == "r":
            account.release(account.retained // 2, 0)
        else:
            accounts.pop(number).close()
        count = len(accounts)
        assert count * budget.floor <= budget.total // 4 or budget.floor == LEAST_FLOOR
        assert budget.floor == 4 * LEAST_FLOOR or count > 16
        assert budget.used == sum(a.retained for a in accounts.values()) <= budget.total
        assert budget.above == sum(max(0, a.retained - budget.floor) for a in accounts.values())
        assert all(a.room() + a.retained >= budget.floor for a in accounts.values())


def test_who_blocks_more_than_the_whole_goes_soon() -> None:
    budget = RetentionBudget(4 * LEAST_FLOOR, floor=LEAST_FLOOR)
    first = budget.open_account(0)
    first.keep(first.room(), 0)
    late = [budget.open_account(0) for _ in range(4)]
    for account in late:
        account.keep(account.room(), 0)
    assert budget.used > budget.total
    assert not first.is_victim(9.9, 60)
    assert [account.is_victim(10, 60) for account in (first, *late)] == [True] + 4 * [False]
    first.close()
    assert not any(account.is_victim(59, 60) for account in late)


def test_greedy_accounts_end_up_alike() -> None:
    budget = RetentionBudget(10_000, floor=0)
    accounts = [budget.open_account(0) for _ in range(3)]
    for _ in range(20_000):
        for account in accounts:
            if account.room() > 0:
                account.keep(1, 0)
        accounts[0].release(min(1, accounts[0].retained), 0)
    held = [a.retained for a in accounts]
    assert max(held[1:]) - min(held[1:]) <= 4
    assert budget.used < 10_000


def test_the_largest_stalled_account_goes_and_one_adrift_goes_first() -> None:
    budget = RetentionBudget(2000, floor=0)
    large, small, moving = (budget.open_account(0) for _ in range(3))
    for account, size in ((large, 500), (small, 300), (moving, 150)):
        account.adrift = False
        account.keep(size, 0)
    moving.progress_at = 50
    assert [a.is_victim(61, 60) for a in (large, small, moving)] == [True, False, False]
    small.adrift = True
    assert [a.is_victim(61, 60) for a in (large, small, moving)] == [False, True, False]
    assert not large.is_victim(59, 60)
    moving.release(150, 61)
    assert not small.is_victim(61, 60)  # no pressure
