"""Degrees of blocking: what was done to an attempt, told from how far it came and how it ended.

================  =========================  ==================================================
came as far as    ended by                   degree
================  =========================  ==================================================
name              not found, silence         ``NAME``
TCP               refusal                    ``REFUSED``
TCP               silence                    ``SILENT``
any               no route                   ``OFFLINE``
TLS               reset, end                 ``HELLO_RESET``
TLS               silence                    ``HELLO_SILENT``
TLS               something untrusted        ``CERTIFICATE``, or ``PORTAL`` (see ``portal``)
opening           an answer not the bridge's ``PAGE``
opening           reset, end                 ``OPENING_RESET``
opening           silence                    ``OPENING_SILENT``
name, TCP, TLS    another way, much quicker  ``LATE``
open              (see ``cuts``)             ``CUT_BYTES``, ``CUT_SECONDS``, ``THROTTLED``
================  =========================  ==================================================

A degree is what it looks like from here. A bridge that is switched off, a firewall and a cable that was
pulled out can look alike; that is why a degree only chooses words and pauses, never what is trusted.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum

from ptproxy.errors import DialError, Reason


class Stage(IntEnum):
    """How far an attempt has come: what it was about when it ended."""

    NAME = 0
    """The front's name is looked up."""
    TCP = 1
    TLS = 2
    """Our ClientHello is out, or about to be."""
    OPENING = 3
    """TLS stands and shows the right certificate: a page is loaded, the opening is out."""
    OPEN = 4
    """The bridge has answered: a carrier."""


class Ending(StrEnum):
    """How an attempt ended."""

    NOT_FOUND = "not found"
    UNREACHABLE = "unreachable"
    """This machine has no route there."""
    REFUSED = "refused"
    RESET = "reset"
    """Reset, or closed: TCP says that it is over."""
    SILENCE = "silence"
    UNTRUSTED = "untrusted"
    """A certificate or an answer that is not the bridge's."""
    ANSWERED = "answered"
    """An answer as a web site gives it to strangers."""
    OTHER = "other"


class Degree(StrEnum):
    """What an attempt or a carrier met with; the text is for logs and people."""

    OPEN = "open"
    OFFLINE = "no network"
    NAME = "name not resolved"
    REFUSED = "TCP refused"
    SILENT = "TCP silent"
    HELLO_RESET = "TLS reset at ClientHello"
    HELLO_SILENT = "TLS silent after ClientHello"
    CERTIFICATE = "TLS certificate replaced"
    PORTAL = "something else answers, as a network's login page does"
    PAGE = "answered by a page, not by the bridge"
    OPENING_RESET = "cut at the opening"
    OPENING_SILENT = "opening not answered"
    CUT_BYTES = "cut after some bytes"
    CUT_SECONDS = "cut after some seconds"
    THROTTLED = "throttled"
    LATE = "no answer yet when another way was through"
    FAILED = "failed"

    @property
    def is_of_front(self) -> bool:
        """Whether it befell the address, whatever codec was to be spoken there."""
        return self in _OF_FRONT

    @property
    def is_of_life(self) -> bool:
        """Whether it befell a carrier that was open."""
        return self in (Degree.CUT_BYTES, Degree.CUT_SECONDS, Degree.THROTTLED)

    @property
    def is_of_network(self) -> bool:
        """Whether it says nothing of the bridge: there is no network to reach it over, or none yet."""
        return self in (Degree.OFFLINE, Degree.PORTAL)


_OF_FRONT = frozenset(
    {
        Degree.NAME, Degree.REFUSED, Degree.SILENT, Degree.HELLO_RESET, Degree.HELLO_SILENT,
        Degree.CERTIFICATE, Degree.PORTAL, Degree.OFFLINE, Degree.LATE,
    }
)  # fmt: skip

_OF_STAGE: dict[Stage, dict[Ending, Degree]] = {
    Stage.NAME: {Ending.NOT_FOUND: Degree.NAME, Ending.SILENCE: Degree.NAME},
    Stage.TCP: {
        Ending.REFUSED: Degree.REFUSED, Ending.RESET: Degree.REFUSED, Ending.SILENCE: Degree.SILENT,
        Ending.NOT_FOUND: Degree.NAME,
    },
    Stage.TLS: {
        Ending.REFUSED: Degree.HELLO_RESET, Ending.RESET: Degree.HELLO_RESET,
        Ending.SILENCE: Degree.HELLO_SILENT, Ending.UNTRUSTED: Degree.CERTIFICATE,
        Ending.ANSWERED: Degree.CERTIFICATE,
    },
    Stage.OPENING: {
        Ending.ANSWERED: Degree.PAGE, Ending.UNTRUSTED: Degree.PAGE, Ending.REFUSED: Degree.OPENING_RESET,
        Ending.RESET: Degree.OPENING_RESET, Ending.SILENCE: Degree.OPENING_SILENT,
    },
    Stage.OPEN: {},
}  # fmt: skip


def degree_of(stage: Stage, ending: Ending) -> Degree:
    """What an attempt met with that ended so at that stage; ``FAILED`` where that tells nothing."""
    if ending is Ending.UNREACHABLE:
        return Degree.OFFLINE
    return _OF_STAGE[stage].get(ending, Degree.FAILED)


def remedy(degree: Degree, others: int) -> str:
    """What a client does about it, for logs and people; ``others``: ways that are left. "": nothing."""
    if degree is Degree.OPEN:
        return ""
    if degree.is_of_network:
        return _OF_NETWORK[degree]
    if degree is Degree.LATE:
        return "the quicker way is used"
    if not others:
        return "it is the only way: it is tried again"
    if degree.is_of_life:
        return "its streams move to another way"
    return "the next way is tried"


_OF_NETWORK = {
    Degree.OFFLINE: "it waits for a network",
    Degree.PORTAL: "it waits for the login; nothing was said to whatever answers",
}


class Obstructed(DialError):  # noqa: N818  (what stands in the way)
    """A way that led nowhere, and what it met with."""

    def __init__(self, degree: Degree, reason: Reason, text: str = "") -> None:
        super().__init__(reason, text or str(degree))
        self.degree = degree
