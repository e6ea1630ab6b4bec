"""Which carrier a stream goes to, and which carriers there are: the decisions alone."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.codec.shape import CLASSES, Shape
from ptproxy.proxy.shape_files import built_in
from ptproxy.target import Target
from ptproxy.tunnel.placement import (
    DIALS_A_SECOND,
    DIALS_AT_ONCE,
    INTEREST,
    LAPSE_FIRST,
    LAPSE_LAST,
    LEAVE_AFTER,
    MAX_CARRIERS,
    MAX_DIALS,
    Load,
    Placement,
    Riding,
    class_of,
    number_of,
)
from ptproxy.tunnel.recognise import Volume, by_beginning, by_target

SHAPE = built_in()
BOTH = ("websocket", "http")


class World:
    """Carriers and streams around a placement, with a clock."""

    def __init__(
        self, shape: Shape = SHAPE, codecs: tuple[str, ...] = BOTH, most: int = 4, seed: int = 1
    ) -> None:
        self.now = 1000.0
        self.placement = Placement(shape, codecs, most, random.Random(seed))
        self.next = 1
        self.live: dict[int, str] = {}
        self.sizes: dict[int, int] = {}
        self.streams: dict[int, tuple[str, int]] = {}
        self.closed: list[int] = []
        self.suspects: set[int] = set()
        self.opened = 0
        self.waiting = 0
        """Pages loaded for carriers to come ..."""
        self.loads = 0
        """... and pages loaded in all."""

    def open(self, traffic: str) -> int:
        number = self.next
        self.next += 1
        self.opened += 1
        self.live[number] = traffic
        self.placement.opened(number, traffic)
        return number

    def suspect(self, number: int) -> None:
        self.suspects.add(number)
        self.placement.suspect(number, self.now)

    def stream(self, traffic: str) -> int | None:
        carrier = self.placement.place(traffic, self.now)
        if carrier is not None:
            self.streams[self.next] = traffic, carrier
            self.next += 1
        return carrier

    def riding(self) -> list[Riding]:
        return [Riding(one, traffic, carrier) for one, (traffic, carrier) in self.streams.items()]

    def tick(self, seconds: float = 0.1, *, dials: bool = True) -> None:
        """One look, as the dialer does it; what is wanted is there by the next."""
        self.now += seconds
        placement = self.placement
        loads = {
            one: Load(
                sum(carrier == one and bool(traffic) for traffic, carrier in self.streams.values()),
                size,
                one in self.suspects,
            )
            for one, size in ((one, self.sizes.get(one, 0)) for one in self.live)
        }
        placement.observe(loads, self.now)
        for stream, to in placement.moves(self.riding(), self.now):
            self.streams[stream] = self.streams[stream][0], to
        for number in placement.over(self.riding(), self.now):
            assert all(carrier != number for _, carrier in self.streams.values()), "closed under a stream"
            self.close(number)
        if not placement.is_wanted_ahead(self.now):
            self.waiting = 0
        wanted = placement.wanted(self.now)
        assert len(wanted) <= MAX_DIALS
        for traffic in wanted if dials else ():
            placement.dialling(traffic)
            if self.waiting and traffic == placement.shape.start:
                self.waiting -= 1
            else:
                self.connect()
            placement.dialled(traffic)
            self.open(traffic)
        ahead = placement.wanted_ahead(self.waiting, self.now)
        assert ahead <= MAX_DIALS
        for _ in range(ahead if dials else 0):
            placement.visiting()
            self.connect()
            placement.visited()
            self.waiting += 1
        assert len(self.live) + self.waiting <= MAX_CARRIERS

    def connect(self) -> None:
        self.placement.connecting(self.now)
        self.loads += 1

    def close(self, number: int) -> None:
        self.placement.gone(number)
        self.closed.append(number)
        del self.live[number]

    def run(self, seconds: float, step: float = 0.5) -> None:
        for _ in range(int(seconds / step)):
            self.tick(step)

    def of(self, traffic: str) -> list[int]:
        return [number for number, one in self.live.items() if one == traffic]


def started(shape: Shape = SHAPE, **kwargs: object) -> World:
    world = World(shape, **kwargs)  # type: ignore[arg-type]
    world.open(shape.start)
    return world


def test_a_client_that_nobody_uses_keeps_one_carrier() -> None:
    world = started()
    world.run(7200, 5)
    assert (len(world.live), world.opened) == (1, 1)


def test_pages_are_loaded_ahead_while_somebody_is_active_and_not_much_longer() -> None:
    world = started()
    first = world.stream("browse")
    world.tick()
    assert first == 1
    assert (len(world.of("browse")), world.waiting) == (1, SHAPE.browse.warm_carriers)
    world.streams.clear()
    world.run(INTEREST + SHAPE.browse.rotate.age[1] + 1)
    assert (len(world.live), world.waiting) == (1, 0)
    opened, loads = world.opened, world.loads
    world.run(3600, 5)
    assert (world.opened, world.loads) == (opened, loads), "nothing is opened for nobody"


def test_streams_share_a_carrier_up_to_the_shape_and_then_one_opens_where_a_page_is_loaded() -> None:
    world = started()
    world.stream("browse")
    world.tick()
    placed = [world.stream("browse") for _ in range(SHAPE.browse.streams)]
    assert placed == [1] * SHAPE.browse.streams, "the one too many does not wait for the next carrier"
    loads = world.loads
    world.tick()
    assert (world.opened, world.loads) == (2, loads), "opened where a page was loaded"
    assert world.stream("browse") == world.of("browse")[1]
    world.tick()
    assert (world.opened, world.loads) == (2, loads + 1), "the next one's is loaded"


def test_a_site_that_closes_what_waits_is_not_visited_over_and_over() -> None:
    """Apache closes a connection that is idle for 5 s: two pages every 5 s would be no browser's habit."""
    world = started()
    for second in range(3600):
        world.stream("browse")
        world.tick(1.0)
        world.streams.clear()
        if second % 5 == 0 and world.waiting:
            world.waiting = 0
            world.placement.lapsed(world.now)
    assert world.loads <= 2 * (5 + 3600 / LAPSE_LAST) + 3600 / SHAPE.browse.rotate.age[0]
    world.placement.used_ahead()
    world.placement.lapsed(world.now)
    world.tick(LAPSE_FIRST + 1)
    world.stream("browse")
    world.tick()
    assert world.waiting, "once one was of use, they are loaded again soon"


def test_carriers_that_are_to_be_there_at_once_do_not_wait_for_a_page_ahead() -> None:
    """As many pages loaded ahead as may be are no reason not to open what a stream needs."""
    world = started(replace(SHAPE, browse=replace(SHAPE.browse, streams=1, warm_carriers=4)))
    world.stream("browse")
    world.run(5)
    assert world.waiting == 3, "four of a class, with the one in use"
    world.stream("browse")
    world.tick()
    assert (len(world.of("browse")), world.waiting) == (2, 2)


def test_a_carrier_retires_by_age_from_its_first_stream_and_ends_when_it_is_empty() -> None:
    world = started()
    world.run(3600, 5)
    world.stream("browse")
    number = next(iter(world.streams))
    world.run(SHAPE.browse.rotate.age[1] + 0.5)
    assert list(world.live) == [1], "its stream is still there, and nobody needs another one"
    assert world.stream("browse") == 1, "until somebody comes, who does not wait"
    world.tick()
    assert world.stream("browse") == world.of("browse")[1], "it takes no new ones"
    del world.streams[number]
    world.run(LEAVE_AFTER + 1)
    assert 1 in world.closed


def test_a_carrier_retires_by_bytes() -> None:
    world = started()
    world.stream("browse")
    world.tick()
    world.sizes[1] = SHAPE.browse.rotate.size[1]
    world.tick()
    assert world.stream("browse") == 1
    world.tick()
    assert world.stream("browse") == world.of("browse")[1]


def test_figures_are_drawn_for_each_carrier() -> None:
    world = World()
    for _ in range(20):
        world.open("browse")
    ages = {place.age for place in world.placement.carriers.values()}
    assert len(ages) == 20
    assert all(SHAPE.browse.rotate.age[0] <= age <= SHAPE.browse.rotate.age[1] for age in ages)


def test_an_idle_stream_on_an_old_carrier_has_no_page_loaded_for_it() -> None:
    world = started()
    world.stream("browse")
    world.run(INTEREST + 100)
    opened = world.opened
    world.run(4 * 3600, 5)
    assert world.opened - opened <= 1
    assert len(world.live) <= 2


def test_a_stream_moves_off_an_old_carrier_to_one_in_use() -> None:
    world = started()
    world.stream("browse")
    world.run(SHAPE.browse.rotate.age[1] + 1)
    world.stream("browse")
    world.tick()
    assert world.stream("browse") == world.of("browse")[1]
    world.run(LEAVE_AFTER + 1)
    assert 1 in world.closed
    assert all(carrier != 1 for _, carrier in world.streams.values())


def test_chat_waits_for_nothing_and_moves_when_its_carrier_is_there() -> None:
    world = started()
    assert world.stream("chat") == 1
    world.tick()
    assert len(world.of("chat")) == 1
    world.tick()
    assert {carrier for _, carrier in world.streams.values()} == set(world.of("chat"))


@pytest.mark.parametrize("traffic", ["browse", "bulk"])
def test_a_chat_carrier_never_takes_pages_or_downloads(traffic: str) -> None:
    world = World()
    world.open("chat")
    assert world.stream(traffic) is None, "it waits for a carrier"
    world.tick()
    assert world.of(traffic)
    assert world.stream(traffic) in world.of(traffic)


def test_what_outgrows_chat_leaves_its_carrier_at_once() -> None:
    world = started()
    world.stream("chat")
    world.tick()
    world.tick()
    (stream,) = world.streams
    assert world.streams[stream][1] in world.of("chat")
    world.streams[stream] = "browse", world.streams[stream][1]
    world.tick()
    assert world.streams[stream][1] in world.of("browse")


def test_bulk_moves_off_the_page_carriers() -> None:
    world = started()
    world.stream("browse")
    (stream,) = world.streams
    world.streams[stream] = "bulk", 1
    world.tick()
    world.tick()
    assert world.streams[stream][1] in world.of("bulk")


def test_a_silent_stream_is_nobodys_reason() -> None:
    world = started()
    world.stream("")
    world.run(3600, 5)
    assert (world.opened, len(world.live)) == (1, 1)
    world.stream("browse")
    world.run(200)
    assert {carrier for traffic, carrier in world.streams.values() if not traffic} <= set(world.live)


def test_a_suspect_carrier_takes_nothing_new_and_is_replaced() -> None:
    world = started()
    world.suspect(1)
    world.tick()
    assert len(world.live) == 2
    assert world.stream("browse") == world.of("browse")[1]


def test_a_carrier_that_has_answered_is_suspect_no_more() -> None:
    """It stayed so: nothing was placed on it, and one that was the only one was replaced for ever."""
    world = started()
    world.stream("browse")
    world.suspect(1)
    world.tick(dials=False)
    assert world.placement.is_bare
    assert world.placement.wanted(world.now)
    world.suspects.clear()
    world.tick(dials=False)
    assert not world.placement.is_bare
    assert not world.placement.wanted(world.now)
    assert world.stream("browse") == 1
    assert world.live == {1: "browse"}


def test_one_that_is_worn_out_stays_retired_when_it_answers() -> None:
    world = started()
    world.stream("browse")
    world.sizes[1] = 1 << 41
    world.tick(dials=False)
    since = world.placement.carriers[1].retired_at
    assert since is not None
    world.suspect(1)
    world.tick(dials=False)
    assert world.placement.carriers[1].retired_at == since
    world.suspects.clear()
    world.tick(dials=False)
    assert world.placement.carriers[1].retired_at == since


def test_nothing_is_dialled_twice() -> None:
    world = started()
    world.stream("chat")
    for _ in range(5):
        world.tick(dials=False)
    wanted = world.placement.wanted(world.now)
    for traffic in wanted:
        world.placement.dialling(traffic)
    assert world.placement.wanted(world.now) == []
    for traffic in wanted:
        world.placement.dialled(traffic)
    assert world.placement.wanted(world.now) == wanted


@pytest.mark.parametrize(
    ("codecs", "chat", "browse"),
    [
        (BOTH, ("websocket", "http"), ("http", "websocket")),
        (("http",), ("http",), ("http",)),
        (("random",), ("random",), ("random",)),
        (("random", "websocket"), ("websocket", "random"), ("websocket", "random")),
    ],
)
def test_codecs_of_a_class(codecs: tuple[str, ...], chat: tuple[str, ...], browse: tuple[str, ...]) -> None:
    placement = Placement(SHAPE, codecs, 4, random.Random(1))
    assert placement.codecs("chat") == chat
    assert placement.codecs("browse") == browse


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["chat", "browse", "bulk", "end", "grow", "move", "die", "wait", "long", "suspect", "answer"]
            ),
            st.integers(0, 9),
        ),
        max_size=120,
    ),
    st.sampled_from([BOTH, ("http",), ("random",)]),
    st.sampled_from(["browse", "chat", "bulk"]),
    st.integers(1, 6),
)
def test_whatever_happens_carriers_are_bounded_and_streams_are_where_they_may_be(
    steps: list[tuple[str, int]], codecs: tuple[str, ...], start: str, most: int
) -> None:
    shape = built_in(start)
    world = started(shape, codecs=codecs, most=most)
    for what, index in steps:
        streams = sorted(world.streams)
        carriers = sorted(world.live)
        if what in CLASSES:
            carrier = world.stream(what)
            assert carrier is None or what not in shape[world.live[carrier]].never
        elif what == "end" and streams:
            del world.streams[streams[index % len(streams)]]
        elif what == "move" and streams:
            stream = streams[index % len(streams)]
            limit = shape[world.streams[stream][0]].outgrown if world.streams[stream][0] else None
            if limit is not None:
                world.streams[stream] = limit.to, world.streams[stream][1]
        elif what == "grow" and carriers:
            world.sizes[carriers[index % len(carriers)]] = 1 << 41
        elif what == "suspect" and carriers:
            world.suspect(carriers[index % len(carriers)])
        elif what == "answer":
            world.suspects.clear()
        elif what == "die" and carriers:
            number = carriers[index % len(carriers)]
            world.close(number)
            for stream, (traffic, carrier) in list(world.streams.items()):
                if carrier == number:  # as the session does: bound to any other
                    world.streams[stream] = traffic, min(world.live, default=0)
                    if not world.live:
                        del world.streams[stream]
        world.tick({"wait": 3.0, "long": 90.0}.get(what, 0.1))
    world.run(30, 1)
    assert world.live
    suspects = {one for one, place in world.placement.carriers.items() if place.suspect_at is not None}
    assert suspects <= world.suspects
    for traffic, carrier in world.streams.values():
        assert carrier in world.live
        assert traffic not in shape[world.live[carrier]].never
    world.streams.clear()
    world.run(900, 5)  # longer than any carrier lives once it has been used
    assert len(world.live) == 1
    assert not any(place.suspect_at is not None for place in world.placement.carriers.values())


# ---- classes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("port", "traffic"),
    [(22, "browse"), (6697, "chat"), (5222, "chat"), (443, "browse"), (873, "bulk"), (6881, "bulk")],
)
def test_ports_suggest_a_class(port: int, traffic: str) -> None:
    assert by_target(Target.address("192.0.2.1", port), "browse") == traffic


def test_other_targets() -> None:
    assert by_target(Target.address("192.0.2.1", 443), "chat") == "chat"
    assert by_target(Target.service("shape"), "browse") == ""
    assert by_target(Target.service("mailbox"), "browse") == "chat"
    assert by_target(Target.address("mailbox.ptproxy.internal", 443), "browse") == "chat"
    assert by_target(Target.address("shape.ptproxy.internal", 443), "browse") == ""
    assert by_target(Target.datagrams(), "chat") == "browse"


@pytest.mark.parametrize(
    ("data", "traffic"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", None),
        (b"NICK anna\r\n", "chat"),
        (b"CAP LS 302\r\n", "chat"),
        (b"<?xml version='1.0'?><stream:stream", "chat"),
        (b"GET / HTTP/1.1\r\n", "browse"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "browse"),
        (b"\x13BitTorrent protocol" + bytes(8), "bulk"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", None),
        (b"", None),
        (b"GE", None),
    ],
)
def test_first_bytes_show_a_class(data: bytes, traffic: str | None) -> None:
    assert by_beginning(data) == traffic


def test_a_stream_outgrows_its_class_by_what_it_moves_in_a_time() -> None:
    limit = SHAPE.chat.outgrown
    assert limit is not None
    slow, total, now = Volume(), 0, 0.0
    for _ in range(600):  # an hour of chat: a line of 100 bytes every six seconds
        total, now = total + 100, now + 6
        assert slow.outgrown(SHAPE.chat, total, now) is None
    fast = Volume()
    assert fast.outgrown(SHAPE.chat, 10, 0.0) is None
    assert fast.outgrown(SHAPE.chat, limit.size + 11, 0.1) == "browse"
    assert Volume().outgrown(SHAPE.bulk, 1 << 60, 0.0) is None
    assert Volume().outgrown(SHAPE.chat, limit.size + 1, 0.0) == "browse", "at the first look, too"


def test_classes_have_numbers() -> None:
    assert [class_of(number) for number in (0, 1, 2, 3, 4, 255)] == ["", *CLASSES, "", ""]
    assert [number_of(traffic) for traffic in ("", *CLASSES)] == [0, 1, 2, 3]


def test_a_shape_that_changes_its_mind_fast_opens_no_storm() -> None:
    """The least age and bytes that the limits allow, a stream a tick: still a bounded rate of dials."""
    rotate = replace(SHAPE.browse.rotate, age=(5.0, 5.0), size=(2000, 2000))
    world = started(replace(SHAPE, browse=replace(SHAPE.browse, rotate=rotate, warm_carriers=4, streams=1)))
    for _ in range(600):
        world.stream("browse")
        for number in world.live:
            world.sizes[number] = 5000
        world.tick()
        for stream in list(world.streams)[:-20]:
            del world.streams[stream]
    assert world.loads <= DIALS_AT_ONCE + 60 * DIALS_A_SECOND
    assert world.opened <= 1 + world.loads


def test_there_are_never_more_carriers_than_a_session_takes() -> None:
    """A stream for each carrier, and as many of a class as one likes."""
    shape = replace(SHAPE, browse=replace(SHAPE.browse, streams=1, warm_carriers=4))
    world = started(shape, most=64)
    seen = 0
    for _ in range(40):
        world.stream("browse")
        world.run(1)
        seen = max(seen, len(world.live) + world.waiting)
    assert seen == MAX_CARRIERS
    assert all(carrier in world.live for _, carrier in world.streams.values())
