"""Session tickets: two of a server, the latest first, each once, all of them freed."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from ptproxy.tunnel.boring.tickets import MOST_OF_ONE, MOST_SERVERS, Tickets


def test_the_two_latest_are_kept_and_the_latest_is_offered_first() -> None:
    freed: list[int] = []
    tickets = Tickets(freed.append)
    for session in (1, 2, 3):
        tickets.put("site", session)
    assert freed == [1]
    assert [tickets.take("site"), tickets.take("site"), tickets.take("site")] == [3, 2, None]
    assert freed == [1]  # those taken are the taker's


def test_another_key_gets_none() -> None:
    tickets = Tickets(lambda _: None)
    tickets.put(("chrome", "site"), 1)
    assert tickets.take(("firefox", "site")) is None


def test_the_server_that_was_longest_silent_goes_first() -> None:
    freed: list[int] = []
    tickets = Tickets(freed.append)
    for number in range(MOST_SERVERS):
        tickets.put(number, number)
    tickets.put(0, 1000)
    tickets.put("new", 1001)
    assert freed == [1]
    assert tickets.take(0) == 1000


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 80)), max_size=300))
def test_every_session_is_freed_once_or_taken_once(steps: list[tuple[bool, int]]) -> None:
    ended: Counter[int] = Counter()
    tickets = Tickets(lambda session: ended.update([session]))
    for number, (put, key) in enumerate(steps):
        if put:
            tickets.put(key, number)
        elif (taken := tickets.take(key)) is not None:
            ended[taken] += 1
        assert len(tickets) <= MOST_OF_ONE * MOST_SERVERS
    tickets.forget()
    assert ended == Counter({number: 1 for number, (put, _) in enumerate(steps) if put})
