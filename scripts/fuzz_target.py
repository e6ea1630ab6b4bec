"""What a fuzz target is, and how it reads its input.

A target is a function of bytes. It may end in one of the errors that its
parser documents; whatever else it raises is a finding, and so is an assertion
of its own that fails. Stateful ones read their input as a :class:`Tape` of
decisions: feed so many bytes, flip one, let time pass.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

GROUPS: Final = (
    "front",
    "codec",
    "http2",
    "pages",
    "auth",
    "session",
    "proxy",
    "people",
    "peers",
    "messenger",
    "e2e",
    "dht",
    "pt",
    "inspect",
)
"""Each a file ``fuzz_targets_GROUP.py`` with a :class:`Table`; a target's name begins with its group's."""

LONGEST: Final = 4096
"""Bytes of an input at most, unless the target says otherwise: long enough for every head and frame."""

Run = Callable[[bytes], object]


class Reach(Enum):
    """Who can send these bytes."""

    BEFORE = "before"
    """Anybody who connects, or whoever answers in place of the bridge."""
    AFTER = "after"
    """The other end, once it has proved who it is."""
    LOCAL = "local"
    """A program or a person at this machine, or what somebody gave a person to paste."""
    DISK = "disk"
    """What was stored: damaged, or another program's."""


@dataclass(frozen=True, slots=True)
class Target:
    """One parser, or a few that read the same bytes."""

    name: str
    reach: Reach
    reader: str
    """Whose process reads it: bridge, client, directory node, peer."""
    run: Run
    errors: tuple[type[BaseException], ...]
    """What it may raise."""
    seeds: Callable[[], Iterable[bytes]]
    """Inputs to begin with: sound ones, so that what is behind a signature is reached."""
    longest: int

    def try_one(self, data: bytes) -> None:
        """Raises where there is something to find."""
        try:
            self.run(data)
        except self.errors:
            pass


class Table(dict[str, Target]):
    """The targets of a group, by name."""

    def __init__(self, group: str) -> None:
        super().__init__()
        self.group = group

    def target(
        self,
        name: str,
        reach: Reach,
        reader: str,
        *errors: type[BaseException],
        seeds: Callable[[], Iterable[bytes]] = tuple,
        longest: int = LONGEST,
    ) -> Callable[[Run], Run]:
        """The decorator that makes a function a target."""

        def add(run: Run) -> Run:
            full = f"{self.group}.{name}"
            self[full] = Target(full, reach, reader, run, errors, seeds, longest)
            return run

        return add


def load(group: str) -> Table:
    """The group's targets; imports what they try."""
    table: Table = importlib.import_module(f"fuzz_targets_{group}").TABLE
    return table


class Tape:
    """An input read from its front; zeros behind its end."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def byte(self) -> int:
        """The next byte."""
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def number(self) -> int:
        """The next two bytes."""
        return self.byte() << 8 | self.byte()

    def take(self, size: int) -> bytes:
        """So many bytes, or what there is."""
        self._at += size
        return self._data[self._at - size : self._at]

    def piece(self) -> bytes:
        """Bytes behind their length: one byte of it, or 255 and two more."""
        size = self.byte()
        return self.take(size if size < 255 else self.number())

    def rest(self) -> bytes:
        """Everything that is left."""
        return self.take(len(self._data))


def piece(data: bytes) -> bytes:
    """The reverse of :meth:`Tape.piece`, for seeds."""
    return (bytes((len(data),)) if len(data) < 255 else b"\xff" + len(data).to_bytes(2, "big")) + data


def cut(data: bytes) -> Iterator[memoryview]:
    """What is behind the first byte, in pieces of as many bytes as that says; all at once for 0.

    A piece is overwritten once the next one is asked for, as a read buffer is: who kept a view of it
    reads zeros.
    """
    size = data[0] if data else 0
    rest = memoryview(data)[1:]
    for at in range(0, len(rest), size or max(len(rest), 1)):
        scratch = bytearray(rest[at : at + size] if size else rest)
        yield memoryview(scratch)
        scratch[:] = bytes(len(scratch))


def uncut(*seeds: bytes) -> list[bytes]:
    """Seeds for :func:`cut`: each whole, and in pieces of seven bytes."""
    return [bytes((size,)) + seed for seed in seeds for size in (0, 7)]
