"""Who rides with whom: bulk and what somebody waits for do not share a carrier where there may be two."""

from __future__ import annotations

import asyncio
from pathlib import Path

import uvloop
from hypothesis import given
from hypothesis import strategies as st
from tunnel_live import ECHO, SOURCE, Collect, live

from ptproxy.tunnel.balance import BULK, LOOKS, Advice, Balance, Riding

MUCH = 2 * BULK


def looked(
    balance: Balance, looks: int, rates: dict[int, tuple[int, int]], carriers: list[int]
) -> list[Advice]:
    """What is advised at each look; ``rates``: of each stream its carrier, and bytes a look."""
    advised = []
    for turn in range(looks):
        riding = [Riding(stream, carrier, turn * rate) for stream, (carrier, rate) in rates.items()]
        advised.append(balance.look(riding, carriers))
    return advised


def test_a_small_stream_leaves_what_has_been_bulk_for_a_while() -> None:
    balance = Balance()
    advised = looked(balance, LOOKS + 1, {2: (1, 64), 4: (1, MUCH)}, [1, 3])
    assert [one.moves for one in advised[:-1]] == [[]] * LOOKS
    assert advised[-1].moves == [(2, 3)]
    assert balance.busy == {1}


def test_where_there_is_no_other_carrier_one_is_missed() -> None:
    (*_, last) = looked(Balance(), LOOKS + 1, {2: (1, 64), 4: (1, MUCH)}, [1])
    assert last.is_short
    assert not last.moves


def test_bulk_alone_and_the_small_alone_stay() -> None:
    for advice in looked(Balance(), 9, {2: (1, 64), 4: (3, MUCH), 6: (3, MUCH)}, [1, 3]):
        assert not advice.moves
        assert not advice.is_short


def test_a_short_rush_is_not_bulk() -> None:
    balance, moved = Balance(), 0
    for turn in range(20):
        moved += MUCH if turn % 2 else 0
        assert not balance.look([Riding(2, 1, moved), Riding(4, 1, 0)], [1, 3]).moves


def test_what_was_bulk_and_is_no_more_is_left_in_peace() -> None:
    balance = Balance()
    looked(balance, LOOKS + 1, {4: (1, MUCH)}, [1, 3])
    assert balance.busy
    for _ in range(LOOKS):
        balance.look([Riding(4, 1, LOOKS * MUCH), Riding(6, 1, 0)], [1])
    assert not balance.busy


@given(st.data())
def test_moves_go_to_carriers_that_there_are_and_have_no_bulk(data: st.DataObject) -> None:
    balance, moved = Balance(), dict.fromkeys(range(0, 12, 2), 0)
    for _ in range(data.draw(st.integers(1, 8))):
        carriers = data.draw(st.lists(st.integers(1, 4), unique=True))
        riding = []
        for stream in moved:
            moved[stream] += data.draw(st.sampled_from([0, 64, MUCH]))
            riding.append(Riding(stream, data.draw(st.integers(1, 4)), moved[stream]))
        advice = balance.look(riding, carriers)
        at = {one.stream: one.carrier for one in riding}
        for stream, to in advice.moves:
            assert to in carriers
            assert to not in balance.busy
            assert at[stream] in balance.busy
        assert not (advice.is_short and advice.moves)


def test_a_stream_that_was_there_first_leaves_the_carrier_of_a_download(tmp_path: Path) -> None:
    async def main() -> None:
        async with live(tmp_path) as bridge, asyncio.timeout(60):
            dialer = await bridge.client(carriers=2)
            small, bulk = Collect(), Collect()
            echo = await dialer.dial(ECHO, small, b"hi")
            source = await dialer.dial(SOURCE, bulk)
            while echo.state.carrier == source.state.carrier or len(dialer.tunnel.carriers) < 2:
                bulk.data.clear()
                await asyncio.sleep(0.02)
            echo.write(b" there")
            assert await small.until(8) == b"hi there"
            source.abort()

    uvloop.run(main())
