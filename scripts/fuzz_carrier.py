"""A carrier's ends under a tape's orders, whatever their codec."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Any

from fuzz_target import Tape, piece

from ptproxy.codec.interface import CodecSettings, CodecType, OpeningReceived, PayloadReceived
from ptproxy.errors import CodecError

SETTINGS = CodecSettings("example.org", "/secret/path")
OPENING = bytes(range(200))
TOKEN_KEY = bytes(range(32))

Compose = Callable[[Tape], bytes]
"""Bytes that make sense to the other end, built as the tape says."""


class Carrier:
    """One end of a carrier under the tape's orders: what is fed, opened, ended, sent, and how time passes."""

    def __init__(self, tape: Tape, compose: Compose) -> None:
        self.tape = tape
        self.compose = compose
        self.now = 1000.0
        self.links: list[Any] = []
        self.codec: Any = None
        self.payload = 0

    def open(self) -> None:
        """Another connection; for subclasses."""
        raise NotImplementedError

    def take(self, link: Any, events: Iterable[Any]) -> None:
        """What the tunnel does with events."""
        for event in events:
            if isinstance(event, PayloadReceived):
                assert event.carrier is self.codec, "payload of somebody else's carrier"
                self.payload += len(event.data)
            elif isinstance(event, OpeningReceived):
                assert self.codec is None or self.codec is not link, "an opening on a link that has a carrier"
                if self.codec is None and self.tape.byte() & 7:
                    self.codec = event.accept(TOKEN_KEY, self.now)
                    self.take(link, link.receive_data(b"", self.now))
                    self.codec.send_data([b"message 2"], self.now)
                else:
                    event.refuse()

    def feed(self, link: Any, data: bytes) -> None:
        """Bytes came; after an error, and after the end, nothing more may happen."""
        scratch = bytearray(data)
        try:
            self.take(link, link.receive_data(memoryview(scratch), self.now))
        except CodecError:
            link.data_to_send()
            self.links.remove(link)
            return
        scratch[:] = bytes(len(scratch))
        link.data_to_send()
        if link.closing:
            assert not link.receive_data(b"late", self.now), "something happens after the end"
            self.links.remove(link)

    def step(self) -> None:
        """One order."""
        tape = self.tape
        kind = tape.byte()
        link = self.links[kind >> 4 & 3] if len(self.links) > kind >> 4 & 3 else (self.links or [None])[0]
        match kind & 15:
            case 0 | 1 | 2 | 3 | 4 if link is not None:
                self.feed(link, tape.piece())
            case 5 | 6 | 7 | 8 if link is not None:
                self.feed(link, self.compose(tape))
            case 9:
                self.open()
            case 10 if link is not None:
                self.take(link, link.receive_eof(self.now))
                self.links.remove(link)
            case 11:
                self.now += (0.01, 1.0, 30.0, 600.0)[tape.byte() & 3]
                if self.codec is not None and (due := self.codec.deadline()) is not None and due <= self.now:
                    self.take(None, self.codec.on_deadline(self.now))
            case 12 if self.codec is not None:
                size = min(tape.number(), max(self.codec.room(), 0))
                self.codec.send_data([bytes(size)], self.now)
            case 13 if self.codec is not None:
                self.codec.close(self.now)
        if self.codec is not None:
            for one in list(self.codec.links_to_flush()):
                one.data_to_send()

    def run(self) -> None:
        """The whole tape."""
        self.open()
        while self.tape:
            self.step()


class BridgeEnd(Carrier):
    """A bridge's, with strangers' connections beside."""

    def __init__(self, tape: Tape, compose: Compose, codec: CodecType) -> None:
        super().__init__(tape, compose)
        self.reception = codec.reception(SETTINGS, Random(1))

    def open(self) -> None:
        if len(self.links) < 4:
            self.links.append(self.reception.open_link())


class ClientEnd(Carrier):
    """A client's, whose bridge (or whoever answers in its place) says what the tape has."""

    def __init__(self, tape: Tape, compose: Compose, codec: Any) -> None:
        super().__init__(tape, compose)
        self.codec = codec
        self.proved = False

    def open(self) -> None:
        if self.codec.links_wanted > len(self.links):
            self.links.append(self.codec.open_link())
            self.links[-1].data_to_send()

    def take(self, link: Any, events: Iterable[Any]) -> None:
        super().take(link, events)
        if self.payload and not self.proved:
            self.proved = True
            self.codec.authenticated(TOKEN_KEY)


def orders(*steps: tuple[int, bytes]) -> bytes:
    """A tape for :class:`Carrier`."""
    return b"".join(bytes((kind,)) + data for kind, data in steps)


def fed(*data: bytes) -> bytes:
    """A tape that feeds these to the first link."""
    return orders(*((0, piece(one) + (b"\1" if index == 0 else b"")) for index, one in enumerate(data)))
