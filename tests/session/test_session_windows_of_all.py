"""Windows of all sessions of a process together (R22): a client's many sessions do not add up without end."""

from __future__ import annotations

from session_pair import TARGET, Pair

from ptproxy.errors import Reason
from ptproxy.session.budget import EAGERNESS, RetentionBudget
from ptproxy.session.limits import KIB, MIB, Limits


def test_many_sessions_whose_targets_take_all_and_then_nothing_stay_inside_the_total() -> None:
    budget = RetentionBudget(8 * MIB)
    pairs = [Pair(Limits(), bridge=budget) for _ in range(16)]
    for pair in pairs:
        near, _ = pair.open()
        for _ in range(64):
            near.send_data(bytes(64 * KIB), pair.now)
            pair.pump()
    windows = [pair.bridge.account.windows for pair in pairs]
    assert sum(windows) == budget.windows <= budget.total + 16 * 64 * KIB  # first windows are not asked for
    assert max(windows) > 64 * KIB  # they do grow
    assert min(windows) == 64 * KIB  # and whoever comes last has a first window
    for pair in pairs:
        pair.bridge.close(Reason.SHUTDOWN, pair.now)
    assert budget.windows == 0


def test_alone_a_session_has_nearly_all() -> None:
    budget = RetentionBudget(MIB)
    account = budget.open_account(0.0)
    most = MIB * EAGERNESS // (EAGERNESS + 1)
    assert account.may_permit(most)
    assert not account.may_permit(most + 1)
    account.permit(2 * MIB)  # first windows are not asked for
    assert account.is_overdrawn
    assert not account.may_permit(1)
    account.close()
    account.permit(-5)  # what ends after its session
    assert budget.windows == 0
    assert not account.is_overdrawn


def test_beyond_the_total_first_windows_are_smaller_and_larger_ones_fall_back() -> None:
    budget = RetentionBudget(MIB)
    pair = Pair(Limits(), bridge=budget)
    near, far = pair.open()
    for _ in range(16):
        near.send_data(bytes(64 * KIB), pair.now)
        pair.pump()
    assert far.window == 256 * KIB
    for _ in range(13):
        pair.open()
    assert budget.windows > budget.total
    assert pair.bridge.open_stream(TARGET, b"", pair.now).window == 16 * KIB
    for _ in range(8):
        near.send_data(bytes(64 * KIB), pair.now)
        pair.pump()
    assert far.window < 256 * KIB  # R22: as far as that is needed, and never below what was granted
    assert budget.windows <= budget.total
