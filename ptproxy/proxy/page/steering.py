"""What the page may ask of a client, and a running client that is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Protocol

from ptproxy.errors import ConfigError

State = Mapping[str, Any]
"""A client's status as the control socket tells it (``CONTROL.md``)."""

MAX_BRIDGE: Final = 300
"""Characters of a bridge's name, ``HOST:PORT``."""


class Phase(StrEnum):
    """Where a client is before and after it can be asked."""

    EMPTY = "empty"
    """There is no link yet."""
    STARTING = "starting"
    RUNNING = "running"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How a client is just now."""

    phase: Phase
    state: State | None = None
    """While it runs."""
    why: str = ""
    """Its last words, for whoever helps; English."""


class Steering(Protocol):
    """A client as its page sees it; what is done returns the key of the text that says so."""

    takes_links: bool
    reads_pictures: bool
    """Whether QR codes can be read on this machine."""

    async def look(self) -> Snapshot:
        """How it is."""

    async def take(self, given: bytes) -> str:
        """Use the link or invite in a text, or in a picture of its QR code."""

    async def choose(self, bridge: str) -> str:
        """Have new streams take this bridge, ``HOST:PORT``."""

    async def again(self) -> str:
        """Start a client that has ended."""


class RunningClient:
    """The client of this process. Its configuration is its owner's: links are not taken."""

    takes_links = False
    reads_pictures = False

    def __init__(self, state: Callable[[], State], prefer: Callable[[str], object]) -> None:
        """``prefer`` raises :class:`~ptproxy.errors.ConfigError` for a bridge that cannot be chosen."""
        self._state = state
        self._prefer = prefer

    async def look(self) -> Snapshot:
        """How it is."""
        return Snapshot(Phase.RUNNING, self._state())

    async def take(self, given: bytes) -> str:
        """Nothing is taken."""
        del given
        return "said_by_hand"

    async def choose(self, bridge: str) -> str:
        """Have new streams take this bridge."""
        try:
            self._prefer(bridge)
        except ConfigError:
            return "said_not_chosen"
        return "said_chosen"

    async def again(self) -> str:
        """It runs."""
        return "said_again"
