"""Places at a service: who may sit, who has to leave."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ptproxy.peers.seats import Seats


def test_one_account_has_so_many():
    seats = Seats(10, 2)
    seats.sit("a", 1)
    seats.sit("a", 2)
    assert not seats.may_sit("a")
    assert seats.may_sit("b")
    assert seats.crowded_out() is None


def test_the_oldest_of_who_has_most_leaves():
    seats = Seats(4, 4)
    for number in range(3):
        seats.sit("a", number)
    seats.sit("b", 9)
    assert seats.may_sit("c")
    assert seats.may_sit("b")
    assert not seats.may_sit("a")
    assert seats.crowded_out() == 0
    assert seats.leave("a", 0)
    assert not seats.leave("a", 0)
    assert not seats.leave("nobody", 0)
    seats.sit("c", 10)
    assert not seats.may_sit("b")  # nobody has two more than b would
    assert sorted(seats) == [1, 2, 9, 10]


@given(steps=st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), max_size=80))
def test_bounds_hold_and_who_has_few_is_never_turned_out(steps):
    seats, number = Seats(6, 3), 0
    streams = {}
    for account, comes in steps:
        mine = [stream for stream, owner in streams.items() if owner == account]
        if not comes:
            if mine:
                assert seats.leave(account, mine[0])
                del streams[mine[0]]
        elif seats.may_sit(account):
            oldest = seats.crowded_out()
            if oldest is not None:
                assert sum(owner == streams[oldest] for owner in streams.values()) > len(mine) + 1
                assert seats.leave(streams.pop(oldest), oldest)
            number += 1
            seats.sit(account, number)
            streams[number] = account
        assert len(seats) == len(streams) <= 6
        assert sorted(seats) == sorted(streams)
        assert all(seats.of(name) <= 3 for name in "abcdef")
