"""What a probe is: connections, and what is done on each, as data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Watch(Enum):
    """How long a connection is watched after the last step."""

    SHORT = "short"
    """Until a server that answers at all has answered."""
    LONG = "long"
    """Until the time-outs of common web servers have struck."""


class Ticket(Enum):
    """What a TLS connection does about session tickets."""

    NONE = "none"
    RESUME = "resume"
    """Offers the ticket of the probe's connection before this one."""


@dataclass(frozen=True, slots=True)
class Send:
    """Bytes: application data where the connection is TLS, else as they are."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Pause:
    """Seconds of silence between two steps."""

    seconds: float


@dataclass(frozen=True, slots=True)
class SayGoodbye:
    """Send close_notify."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Send FIN, and go on listening."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """Send again, in the clear, every byte that the probe's connection before this one put on the wire."""


@dataclass(frozen=True, slots=True)
class SendAfterEnd:
    """Once the server has sent FIN, send this: a closed socket answers RST, one half closed takes it."""

    data: bytes


Step = Send | Pause | SayGoodbye | Finish | Repeat | SendAfterEnd

SERVER_NAME = "*"
"""Stands for the name that the operator gives."""


@dataclass(frozen=True, slots=True)
class Tls:
    """How a connection is made TLS by Python's ssl."""

    alpn: tuple[str, ...] = ("http/1.1",)
    name: str | None = SERVER_NAME
    highest: str = "1.3"
    """The highest version that is offered: 1.3 or 1.2."""
    ciphers: str = ""
    """Cipher suites of TLS 1.2, as OpenSSL writes them."""
    ticket: Ticket = Ticket.NONE


@dataclass(frozen=True, slots=True)
class Visit:
    """One connection of a probe."""

    steps: tuple[Step, ...]
    tls: Tls | None = None
    """None: bytes are sent as they are."""
    watch: Watch = Watch.SHORT


@dataclass(frozen=True, slots=True)
class Probe:
    """A question to a server. What its last connection shows is its answer."""

    name: str
    family: str
    visits: tuple[Visit, ...]

    @property
    def long(self) -> bool:
        """Whether it waits for time-outs."""
        return any(visit.watch is Watch.LONG for visit in self.visits)
