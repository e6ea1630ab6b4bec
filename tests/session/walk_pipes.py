"""What the random walk's carriers are made of: pipes of bytes, and limits of a few bytes."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import replace

from walk_wire import Word

from ptproxy.session import Limits, frames
from ptproxy.session.frames import FrameParser

FRAME_NAMES = {value: name for name, value in vars(frames).items() if name.isupper() and type(value) is int}
FRAME_NAMES.update({frames.OPEN: "OPEN", frames.DATA: "DATA", frames.PONG: "PONG"})

MOST_CARRIERS = 7
"""Places for carriers: few, so that room must be made for new ones."""
NEVER = 1e9
"""Seconds beyond every walk."""


def tiny_limits(rng: random.Random, pressing: bool, strict: bool) -> tuple[Limits, int, int]:
    """Limits of a few bytes; the total and the floor of a retention budget to match."""
    window = rng.choice((3, 6, 12, 12))
    limits = Limits(
        max_carriers=MOST_CARRIERS,
        initial_window=window,
        window_growth=2,
        max_window=window * rng.choice((1, 4, 16)),
        receive_budget=window * rng.choice((1, 2, 8)),
        acknowledge_after=rng.choice((1, 4, 64)),
        resend_wait=rng.choice((0, 3, 1000)),
        shared_frame=rng.choice((1, 2, 4)),
        lone_frame=rng.choice((2, 5, 16)),
        open_data=rng.choice((0, 2, 8)),
        join_below=rng.choice((0, 1024)),
        interactive_bytes=10,
        budget_poll=3.0,
        ask_delay=rng.choice((0.0, 0.05)),
        pressure_time=20.0 if pressing else NEVER,
        suspect_after=NEVER if strict else 1.0,
        safety_net=NEVER if strict else 10.0,
    )
    # Not drawn, for seeds to go on meaning what they meant.
    soon = replace(limits, acknowledge_within=0.4 if limits.lone_frame == 5 else 0.1)
    return soon, rng.choice((8, 30, 300)), 4


def patient(limits: Limits) -> Limits:
    """A client may be slow to acknowledge: a bridge draws no conclusions from it (R20)."""
    within = {1: 0.1, 4: 0.4, 64: 4.0}[limits.acknowledge_after]
    return replace(limits, acknowledge_within=within, along_after=0.0 if limits.open_data else 0.005)


def describe(data: bytes) -> str:
    """Frames for the trace."""
    parts = []
    for kind, *fields in FrameParser().receive_data(data):
        shown = ", ".join(str(f.nbytes if isinstance(f, memoryview) else f) for f in fields)
        parts.append(f"{FRAME_NAMES[kind]}({shown})")
    return " ".join(parts)


class Way:
    """One direction of a carrier: the bytes under way, and the frames that they are."""

    __slots__ = ("arrived", "bytes", "put", "words")

    def __init__(self) -> None:
        self.bytes = bytearray()
        self.words: deque[Word] = deque()
        self.put = self.arrived = 0  # how many bytes ever went in, and came out

    def add(self, data: bytes, words: list[Word]) -> None:
        """The frames of one drain go on their way."""
        self.bytes += data
        self.put += len(data)
        self.words += words

    def take(self, count: int) -> tuple[bytearray, list[Word]]:
        """The next ``count`` bytes, and the frames that are whole with them."""
        data = self.bytes[:count]
        del self.bytes[:count]
        self.arrived += count
        whole = []
        while self.words and self.words[0][0] <= self.arrived:
            whole.append(self.words.popleft())
        return data, whole

    def clear(self) -> None:
        """Nobody reads this any more."""
        self.bytes.clear()


class Pipe:
    """One carrier between the two: bytes under way each way, and who still regards it as alive."""

    __slots__ = ("alive", "arrives", "bridge", "client", "down", "incarnation", "number", "open", "up")

    def __init__(self, number: int, alive: tuple[int, ...], incarnation: int) -> None:
        self.number = number
        self.alive = alive
        self.incarnation = incarnation
        self.up = Way()
        self.down = Way()
        self.open = True  # bytes written still arrive
        self.arrives = True  # CONFIRM was not lost
        self.client = "dialling"  # attached, done
        self.bridge = "waiting"  # attached, done
