"""Every codec of the table through the conformance suite, and faulty codecs that it must catch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import conformance
import pytest
from conformance import CHECKS, Trial, check_no_constant_bytes

from ptproxy.codec import codec_table
from ptproxy.codec.interface import CarrierEnded, CodecSettings, NotMine, PayloadReceived
from ptproxy.codec.random import BridgeRandom, ClientRandom, RandomReception
from ptproxy.codec.shape import BodySizes, ClassShape, Down, Up


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", ["websocket", "http", "random"])
def test_conformance(name, check, seed):
    check(Trial(codec_table()[name], seed))


SHAPE = ClassShape(
    "browse",
    ("http",),
    up=Up(post_body=(320, 700, 2200), in_flight=3, gather=0.002, record=(40, 130)),
    down=Down(2, BodySizes((900, 4000, 60_000)), 0.004, 2.0, 200_000, (24, 80)),
)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", ["websocket", "http", "random"])
def test_conformance_with_a_shape(name, check, seed):
    check(Trial(codec_table()[name], seed, CodecSettings("example.org", "/chat/7f3a", shape=SHAPE)))


def test_random_has_no_constant_bytes():
    check_no_constant_bytes(Trial(codec_table()["random"]))


def test_the_check_for_constant_bytes_can_fail():
    with pytest.raises(AssertionError, match="byte 0 "):
        check_no_constant_bytes(Trial(codec_table()["websocket"]), carriers=50)


def test_without_the_mask_in_c():
    """Where there is no wheel of websockets the codec masks with integers."""
    code = (
        "import sys; sys.modules['websockets.speedups'] = None\n"
        "from conformance import CHECKS, Trial\n"
        "from ptproxy.codec.websocket import WEBSOCKET\n"
        "from ptproxy.codec import ws_frames\n"
        "assert ws_frames.apply_mask is ws_frames.mask_by_integers\n"
        "for check in CHECKS: check(Trial(WEBSOCKET))\n"
    )
    path = os.pathsep.join([str(Path(conformance.__file__).parent), *sys.path])
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": path})


# ---- faults that the suite must catch -----------------------------------------------------------------


class DropsAByte(BridgeRandom):
    def receive_data(self, data, now):
        events = super().receive_data(data, now)
        for event in events:
            if type(event) is PayloadReceived and len(event.data) > 40:
                event.data = event.data[:-1]
        return events


class KeepsAView(BridgeRandom):
    """Hands a view out one call late."""

    late = None

    def receive_data(self, data, now):
        events = super().receive_data(data, now)
        if events and type(events[-1]) is PayloadReceived:
            late, self.late = self.late, events.pop()
            return [late, *events] if late else events
        return events


class AnswersStrangers(BridgeRandom):
    def receive_data(self, data, now):
        events = super().receive_data(data, now)
        if NotMine() in events:
            self._out.append(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        return events


class WaitsForStrangers(BridgeRandom):
    def receive_data(self, data, now):
        return [event for event in super().receive_data(data, now) if event != NotMine()]


class NeedsWholeReads(BridgeRandom):
    def receive_data(self, data, now):
        if len(data) == 1:
            self._refuse()
            return [NotMine()]
        return super().receive_data(data, now)


class CallsABreakAClose(BridgeRandom):
    def receive_eof(self, now):
        return [
            CarrierEnded(event.carrier, "") if type(event) is CarrierEnded else event
            for event in super().receive_eof(now)
        ]


class RaisesAnything(BridgeRandom):
    def receive_data(self, data, now):
        if bytes(data[:1]) == b"A":
            raise ValueError("an A")
        return super().receive_data(data, now)


class LateCallsRaise(BridgeRandom):
    def receive_data(self, data, now):
        if self.closing:
            raise RuntimeError("closed")
        return super().receive_data(data, now)


class TellsTwice(BridgeRandom):
    def receive_data(self, data, now):
        events = super().receive_data(data, now)
        return events + [event for event in events if type(event) is CarrierEnded]


class SameEveryTime(ClientRandom):
    def __init__(self, settings, opening, rng):
        import random

        super().__init__(settings, opening, random.Random(1))


class NeverCloses(ClientRandom):
    def _end(self, reason):
        events = super()._end(reason)
        self.closing = False
        return events


class LosesQueuedPayload(ClientRandom):
    def send_data(self, chunks, now):
        super().send_data([b"".join(chunks)[:200_000]], now)


class FaultyReception(RandomReception):
    end = BridgeRandom

    def open_link(self):
        return self.end(self._settings, self._rng)


class Faulty:
    """The random codec with one end replaced."""

    name = "random"

    def __init__(self, end):
        self.end = end

    def client(self, settings, opening, rng):
        return (self.end if issubclass(self.end, ClientRandom) else ClientRandom)(settings, opening, rng)

    def reception(self, settings, rng):
        reception = FaultyReception(settings, rng)
        if issubclass(self.end, BridgeRandom):
            reception.end = self.end
        return reception


FAULTS = [*BridgeRandom.__subclasses__(), *ClientRandom.__subclasses__()]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_the_suite_catches(fault):
    caught = []
    for check in CHECKS:
        try:
            check(Trial(Faulty(fault)))
        except Exception:  # any failure of a check is a catch
            caught.append(check.__name__)
    assert caught
    assert len(caught) < len(CHECKS)
