"""One timer for many equal time limits, on a clock of the test's own."""

from __future__ import annotations

from ptproxy.proxy.deadlines import Deadlines


class Clock:
    """The part of an event loop that deadlines use."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[list] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback):
        return self.call_at(self.now + delay, callback)

    def call_at(self, when: float, callback):
        timer = [when, callback]
        self.timers.append(timer)

        class Handle:
            @staticmethod
            def cancel() -> None:
                self.timers.remove(timer)

        return Handle()

    def advance(self, to: float) -> None:
        while self.timers and min(self.timers)[0] <= to:
            timer = min(self.timers, key=lambda timer: timer[0])
            self.timers.remove(timer)
            self.now = timer[0]
            timer[1]()
        self.now = to


def test_each_item_is_overdue_once_in_its_own_time() -> None:
    clock = Clock()
    late: list[tuple[str, float]] = []
    deadlines: Deadlines[str] = Deadlines(clock, 10.0, lambda item: late.append((item, clock.now)))
    deadlines.add("a")
    clock.advance(103.0)
    deadlines.add("b")
    deadlines.add("a")  # keeps its time
    deadlines.add("c")
    clock.advance(104.0)
    deadlines.discard("c")
    deadlines.discard("never there")
    deadlines.add("d")
    assert len(clock.timers) == 1
    clock.advance(120.0)
    assert late == [("a", 110.0), ("b", 113.0), ("d", 114.0)]
    assert clock.timers == []
    deadlines.add("e")
    clock.advance(130.0)
    assert late[3:] == [("e", 130.0)]


def test_an_overdue_item_may_change_everything() -> None:
    clock = Clock()
    late: list[str] = []

    def overdue(item: str) -> None:
        late.append(item)
        deadlines.discard("b")
        if item == "a":
            deadlines.add("again")

    deadlines: Deadlines[str] = Deadlines(clock, 5.0, overdue)
    deadlines.add("a")
    clock.advance(101.0)
    deadlines.add("b")
    clock.advance(200.0)
    assert late == ["a", "again"]
    assert clock.timers == []


def test_close_forgets_all() -> None:
    clock = Clock()
    deadlines: Deadlines[str] = Deadlines(clock, 5.0, lambda item: None)
    deadlines.close()
    deadlines.add("a")
    deadlines.close()
    assert clock.timers == []
