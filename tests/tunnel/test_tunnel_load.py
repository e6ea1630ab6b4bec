"""How busy a carrier is, told soon enough for whoever comes right after a download."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import uvloop
from tunnel_live import ECHO, SOURCE, Collect, live

from ptproxy.tunnel import dial, parting
from ptproxy.tunnel.client_carrier import ClientCarrier
from ptproxy.tunnel.dial import BULK_RATE
from ptproxy.tunnel.load import SAMPLE, rate_of


@pytest.fixture
def carrier() -> ClientCarrier:
    made = ClientCarrier.__new__(ClientCarrier)  # what it needs to be counted, without a connection
    made.sent_bytes = made.received_bytes = made.sampled_bytes = 0
    made.sampled_at = made.rate = 0.0
    return made


def test_a_download_of_a_tenth_of_a_second_counts(carrier: ClientCarrier) -> None:
    carrier.received_bytes = BULK_RATE
    assert rate_of(carrier, 0.1) > BULK_RATE


def test_between_samples_the_last_one_holds(carrier: ClientCarrier) -> None:
    carrier.sent_bytes = 1000
    assert rate_of(carrier, SAMPLE / 2) == 0
    assert rate_of(carrier, SAMPLE) == pytest.approx(1000 / SAMPLE)
    carrier.sent_bytes = 9000
    assert rate_of(carrier, SAMPLE * 1.5) == pytest.approx(1000 / SAMPLE)


def test_what_has_ended_is_forgotten(carrier: ClientCarrier) -> None:
    carrier.received_bytes = BULK_RATE
    rate_of(carrier, 0.1)
    assert rate_of(carrier, 0.1 + SAMPLE) == 0


def test_who_comes_after_a_download_began_is_soon_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody looks at the streams again, what is known when one is opened is enough."""
    monkeypatch.setattr(parting, "EVERY", 3600.0)
    monkeypatch.setattr(dial, "BULK_RATE", 1 << 16)  # this machine may be busy

    async def main() -> None:
        async with live(tmp_path) as bridge, asyncio.timeout(60):
            dialer = await bridge.client(carriers=2)
            bulk = Collect()
            source = await dialer.dial(SOURCE, bulk)
            await bulk.until(1 << 20)
            await asyncio.sleep(2 * SAMPLE)
            echo = await dialer.dial(ECHO, Collect(), b"hi")
            while echo.state.carrier == source.state.carrier:
                bulk.data.clear()
                await asyncio.sleep(0.02)
            assert len(dialer.tunnel.carriers) == 2
            source.abort()

    uvloop.run(main())
