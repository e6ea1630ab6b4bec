"""The bridges that a client knows, and where from: what each source said last, in the client's order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ptproxy.config.link import Link
from ptproxy.errors import StateError

MAX_LINES: Final = 64
"""Bridges of one source: a signed list's; an invite has three."""
MAX_SOURCES: Final = 32
MAX_TIME: Final = 253_402_300_799
"""Unix seconds until the year 10000: what any program can show as a date."""


@dataclass(frozen=True, slots=True)
class KnownBridge:
    """One bridge."""

    link: Link = field(repr=False)
    origins: tuple[str, ...]
    """Who named it, the first source in the client's order first."""
    seen: float
    """Unix seconds: when one of them named it last."""


@dataclass(slots=True)
class _Said:
    links: tuple[Link, ...]
    seen: float
    order: tuple[int, int]


class KnownBridges:
    """What sources have said. Names of sources are for people: ``invite 5e41…``, ``lines``, ``list``."""

    def __init__(self) -> None:
        self._said: dict[str, _Said] = {}

    def learn(self, source: str, links: Iterable[Link], now: float, order: tuple[int, int] = (0, 0)) -> bool:
        """What ``source`` says now, in place of what it said before; whether that makes a difference.

        ``order``: of two things that a source has said the one with the lower is the older one, and
        not believed again.
        """
        before = self._said.get(source)
        if before is not None and order < before.order:
            return False
        found = tuple(dict.fromkeys(links))[:MAX_LINES]
        if before is None and len(self._said) >= MAX_SOURCES:
            return False
        self._said[source] = _Said(found, now, order)
        return before is None or before.links != found

    def __contains__(self, source: str) -> bool:
        return source in self._said

    def keep(self, sources: Iterable[str]) -> None:
        """Forget every other source, and put these into their order."""
        self._said = {name: self._said[name] for name in sources if name in self._said}

    def merged(self) -> list[KnownBridge]:
        """Every bridge once, in the order of the sources; what is said later of one address counts."""
        found: dict[tuple[str, int], KnownBridge] = {}
        for source, said in self._said.items():
            for link in said.links:
                place = link.host, link.port
                known = found.get(place)
                if known is None:
                    found[place] = KnownBridge(link, (source,), said.seen)
                    continue
                newer = link if said.seen > known.seen else known.link
                found[place] = KnownBridge(newer, (*known.origins, source), max(known.seen, said.seen))
        return list(found.values())

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; links are secrets."""
        return {
            "sources": [
                {
                    "name": name,
                    "links": [link.serialize() for link in said.links],
                    "seen": said.seen,
                    "order": list(said.order),
                }
                for name, said in self._said.items()
            ]
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> KnownBridges:
        """What :meth:`to_dict` gave; :class:`StateError` for anything else."""
        known = cls()
        try:
            for said in list(data["sources"])[:MAX_SOURCES]:
                epoch, sequence = said["order"]
                links = tuple(Link.parse(text) for text in said["links"])
                seen, order = float(said["seen"]), (int(epoch), int(sequence))
                if not 0 <= seen <= MAX_TIME:
                    raise ValueError("an impossible time")
                known._said[str(said["name"])] = _Said(links[:MAX_LINES], seen, order)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            raise StateError("what was remembered of bridges is damaged") from None
        return known
