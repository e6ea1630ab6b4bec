"""What one end of a WebSocket that a ticket opened says, and when: payload in messages of drawn sizes.

The payload of its messages, joined, is a sequence of records::

    payload length u16 | padding length u8 | payload | padding

of which only the payloads are the carrier's stream. Padding is zeros here, and not looked at; a record may be
nothing else. Boundaries of messages mean nothing to the reader.

Without figures a :class:`Talker` pads nothing and holds nothing back. With them (``shape_talk.py``) a
little payload goes as people's chat does: a line at a time, of a drawn size, what it has no room for after
a pause; a bridge answers each read of lines after some milliseconds, with payload or without. More than
:data:`BURST` is no chat and goes at once, as it comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from ptproxy.buffer import Buffer
from ptproxy.codec.shape_talk import FIT_DRAWS, Kind, Talk, draw_size

RECORD_HEAD: Final = 3
"""Bytes before each record."""
MOST_PAYLOAD: Final = 0xFFFF
MOST_PADDING: Final = 0xFF
"""Bytes of one record."""
BURST: Final = 2048
"""Payload bytes that are held back at most: some twenty lines."""

CALM: Final = 150
"""Payload bytes of which nobody is in a hurry to be rid: some five lines."""
BESIDE: Final = 0.0015
"""Seconds between what comes before a line and the line: two writes, and so two TLS records."""


class RecordReader:
    """Takes the payload out of records, in any split; every byte string is some sequence of them."""

    __slots__ = ("_head", "_padding", "_payload")

    def __init__(self) -> None:
        self._head = b""  # the beginning of a record's head, at most 2 bytes
        self._payload = 0  # bytes of the current record still to come
        self._padding = 0

    def receive_data(self, data: Buffer) -> list[memoryview]:
        """The payload in ``data``, as views of it."""
        view = memoryview(data)
        out: list[memoryview] = []
        while view:
            if self._payload:
                out.append(view[: self._payload])
                taken = len(out[-1])
                self._payload -= taken
            elif self._padding:
                taken = min(self._padding, len(view))
                self._padding -= taken
            else:
                taken = RECORD_HEAD - len(self._head)
                head = self._head + bytes(view[:taken])
                if len(head) < RECORD_HEAD:
                    self._head = head
                    break
                self._head = b""
                self._payload, self._padding = int.from_bytes(head[:2], "big"), head[2]
            view = view[taken:]
        return out


def record(payload: Buffer, padding: int = 0) -> bytes:
    """One record."""
    return b"".join((len(payload).to_bytes(2, "big"), bytes((padding,)), payload, bytes(padding)))


def message(payload: Buffer, size: int) -> bytes:
    """Records of ``size`` bytes together that carry ``payload``, or of the fewest that can."""
    padding = max(size - RECORD_HEAD - len(payload), 0)
    taken = _padding(padding)
    parts = [record(payload, taken)]
    padding -= taken
    while padding:
        taken = _padding(padding - RECORD_HEAD)
        parts.append(record(b"", taken))
        padding -= RECORD_HEAD + taken
    return b"".join(parts)


def _padding(wanted: int) -> int:
    """As much of it as one record takes, so that what is left is none or has room for a head."""
    taken = min(wanted, MOST_PADDING)
    return taken - RECORD_HEAD if 0 < wanted - taken < RECORD_HEAD else taken


class Talker:
    """One end: :meth:`add` payload, tell when something came (:meth:`heard`), ask what is due."""

    __slots__ = (
        "_answer_at",
        "_begun",
        "_lead_at",
        "_line_at",
        "_ping_at",
        "_rng",
        "_talk",
        "_turns",
        "_waiting",
    )

    def __init__(self, rng: Random, talk: Talk | None = None) -> None:
        self._rng = rng
        self._talk = talk
        self._waiting = bytearray()
        self._line_at = 0.0  # no line before
        self._begun = False  # what comes before a line is said, the line is not
        self._answer_at: float | None = None
        self._ping_at: float | None = None
        self._lead_at: float | None = None
        self._turns: dict[Kind, int] = {}

    def follow(self, talk: Talk, now: float) -> list[bytes]:
        """Talk like this from now on; what is said at once."""
        self._talk = talk
        self._ping_at = now + talk.ping if talk.ping else None
        self._plan_lead(talk, now)
        return [message(b"", self._draw(talk, "first"))] if talk.first else []

    def add(self, chunks: Sequence[Buffer], now: float) -> list[bytes]:
        """Payload to send; the messages that leave now."""
        if self._talk is None or len(self._waiting) + sum(map(len, chunks)) > BURST:
            return self._at_once(chunks)
        for chunk in chunks:
            self._waiting += chunk
        return self.messages(now)

    def heard(self, now: float) -> None:
        """Lines came: one that answers follows them with its word."""
        talk = self._talk
        self._lead_at = None
        if talk is not None and talk.answer and self._answer_at is None:
            self._answer_at = now + self._rng.uniform(*talk.answer_after)

    def deadline(self) -> float | None:
        """When something is due without further cause."""
        said = self._answer_at  # what waits goes with it
        if said is None and (self._waiting or self._begun):
            said = self._line_at
        due = (said, self._lead_at, self._ping_at)
        return min((one for one in due if one is not None), default=None)

    def messages(self, now: float) -> list[bytes]:
        """The messages that are due."""
        talk = self._talk
        out: list[bytes] = []
        if talk is None:
            return out
        due = self._waiting and now >= self._line_at
        if self._lead_at is not None and (now >= self._lead_at or due):
            self._plan_lead(talk, now)
            self._say(self._line(talk), out)
            self._pause(talk, now)
        elif self._answer_at is not None:
            if now >= self._answer_at:
                self._answer_at = None
                self._say(self._draw(talk, "answer"), out)
                self._pause(talk, now)
        elif due or (self._begun and now >= self._line_at):
            if talk.before and not self._begun and self._rng.random() < talk.before_of:
                self._begun = True
                self._say(self._draw(talk, "before"), out)
                self._line_at = now + BESIDE
            else:
                self._begun = False
                self._say(self._line(talk), out)
                self._pause(talk, now)
        return out

    def ping_due(self, now: float) -> bool:
        """Whether a ping is to be sent; asked, it counts as sent."""
        if self._ping_at is None or self._talk is None or now < self._ping_at:
            return False
        self._ping_at = now + self._talk.ping
        return True

    def rest(self) -> list[bytes]:
        """What is still held back, at once: the conversation ends."""
        self._answer_at = self._ping_at = self._lead_at = None
        self._begun = False
        return self._at_once(()) if self._waiting else []

    def _plan_lead(self, talk: Talk, now: float) -> None:
        """A chat that somebody joins goes on: a line now and then until the one who joined speaks."""
        more = talk.lead_of and self._rng.random() < talk.lead_of
        self._lead_at = now + self._rng.uniform(*talk.lead) if more else None

    def _pause(self, talk: Talk, now: float) -> None:
        """Shorter the more waits: an acknowledgement behind it must come before its carrier is suspected."""
        hurry = max(1.0, len(self._waiting) / CALM)
        self._line_at = now + self._rng.uniform(*talk.pause) / hurry if self._waiting else now

    def _line(self, talk: Talk) -> int:
        size = self._draw(talk, "line")
        if talk.fit and self._rng.random() < talk.fit:
            for _ in range(FIT_DRAWS):
                if size - RECORD_HEAD >= len(self._waiting):
                    break
                size = draw_size(talk.line, self._turns["line"] - 1, self._rng)
        return size

    def _draw(self, talk: Talk, kind: Kind) -> int:
        turn = self._turns.get(kind, 0)
        self._turns[kind] = turn + 1
        return draw_size(talk.sizes(kind), turn, self._rng)

    def _say(self, size: int, out: list[bytes]) -> None:
        taken = min(max(size - RECORD_HEAD, 0), len(self._waiting))
        out.append(message(self._waiting[:taken], size))
        del self._waiting[:taken]

    def _at_once(self, chunks: Sequence[Buffer]) -> list[bytes]:
        whole = memoryview(b"".join((self._waiting, *chunks)))
        self._waiting = bytearray()
        return [record(whole[at : at + MOST_PAYLOAD]) for at in range(0, len(whole), MOST_PAYLOAD)]
