"""Commands about invites to bridges: a part of what :mod:`~ptproxy.peers.chat.commands` begins."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Share:
    """An invite to bridges is passed on to a contact."""

    who: str
    invite: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Findable:
    """Whether a contact finds your mailbox in the directory when it is gone: on or off."""

    who: str
    state: str


@dataclass(frozen=True, slots=True)
class Bridges:
    """Invites to bridges that contacts have passed on."""


@dataclass(frozen=True, slots=True)
class Use:
    """One of them is taken: a client can find its bridges."""

    invite: str


@dataclass(frozen=True, slots=True)
class Drop:
    """One of them is not wanted, or no longer."""

    invite: str
