"""What came of the ways on each network, and the order in which they are tried.

Kept are numbers and degrees under names that only this installation can make
(an HMAC of bridge, address and codec): the names tell no bridge to who has not the secret. A way is tried
in the order that the caller prefers; one that failed comes after all others
until its pause is over (:mod:`ptproxy.ways.way`), sooner where nothing else is
left. What befell an address (:attr:`Degree.is_of_front`) counts for every codec
spoken there.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ptproxy.errors import StateError
from ptproxy.ways.degrees import Degree
from ptproxy.ways.network import NOWHERE
from ptproxy.ways.portal import Portal
from ptproxy.ways.race import STAGGER, STAGGER_LEAST, STAGGER_MOST
from ptproxy.ways.way import FORGET, Record, Way

MAX_NETWORKS: Final = 16
"""Networks of which anything is known; the one longest not seen is forgotten."""
MAX_RECORDS: Final = 256
"""Ways of one network: 64 bridges with four ways each."""
NAME_SIZE: Final = 16
VERSION: Final = 1


@dataclass(slots=True)
class _Known:
    """What is known of the ways of one network."""

    seen_at: float = 0.0
    records: dict[str, Record] = field(default_factory=dict)


class Ways:
    """Every method takes ``now`` in unix seconds."""

    def __init__(self, secret: bytes) -> None:
        """``secret``: 32 bytes of this installation, not in what :meth:`to_dict` gives."""
        self.secret = secret
        self.network = NOWHERE
        self._networks: dict[str, _Known] = {NOWHERE: _Known()}
        self._best: dict[Way, float] = {}
        self._entered_at = 0.0
        self.changed = False
        """Whether anything is to be written since :meth:`to_dict`."""
        self.portal = Portal()

    # ---- where -----------------------------------------------------------------------------------

    def enter(self, network: str, now: float) -> None:
        """This machine is in that network now (:meth:`Surroundings.name`)."""
        if network != self.network:
            self._best.clear()
            self.portal.forget()
            self._entered_at = now
        self.network = network
        self._known(now)

    def learn_name(self, network: str, now: float) -> None:
        """The network that this machine is in has a better name; what was seen meanwhile is taken along."""
        before = self._networks.get(self.network)
        if network == self.network or before is None:
            return
        fresh = {name: one for name, one in before.records.items() if one.used_at >= self._entered_at}
        self.network = network
        records = self._known(now).records
        for name, one in fresh.items():
            del before.records[name]
            if name in records:
                records[name].follow(one)
            elif len(records) < MAX_RECORDS:
                records[name] = one
        self.changed = self.changed or bool(fresh)

    def _known(self, now: float) -> _Known:
        known = self._networks.get(self.network)
        if known is None:
            while len(self._networks) >= MAX_NETWORKS:
                del self._networks[min(self._networks, key=lambda name: self._networks[name].seen_at)]
            known = self._networks[self.network] = _Known()
        known.seen_at = now
        return known

    def _name(self, way: Way) -> str:
        said = b"\0".join((way.bridge, way.host.encode(), str(way.port).encode(), way.codec.encode()))
        return hmac.digest(self.secret, b"ptproxy way\0" + said, hashlib.sha256)[:NAME_SIZE].hex()

    def record(self, way: Way, now: float) -> Record:
        """What is known of a way here: to be looked at."""
        found = self._known(now).records.get(self._name(way))
        return found if found is not None and now - found.used_at < FORGET else Record()

    def _kept(self, way: Way, now: float) -> Record:
        """The same, to be changed."""
        self.changed = True
        records, name = self._known(now).records, self._name(way)
        found = records.get(name)
        if found is None or now - found.used_at >= FORGET:
            while len(records) >= MAX_RECORDS:
                del records[min(records, key=lambda one: records[one].used_at)]
            found = records[name] = Record()
        return found

    # ---- what happened ---------------------------------------------------------------------------

    def opened(self, way: Way, took: float, now: float) -> None:
        """A carrier came of it; TLS stood after ``took`` seconds."""
        for front in self.portal.opened(way):
            self.failed(front, Degree.CERTIFICATE, now)
        self._kept(way, now).opened(took, now)
        self._kept(way.front, now).opened(took, now)

    def failed(self, way: Way, degree: Degree, now: float) -> None:
        """An attempt met with that; what is not the bridge's fault counts against nobody."""
        if not degree.is_of_network:
            self._kept(way.front if degree.is_of_front else way, now).failed(degree, now)

    def cut(self, way: Way, size: int, seconds: float, now: float) -> Degree | None:
        """A carrier ended that we did not end; the rule behind it, once that shows: the way rests then."""
        return self._kept(way, now).cut(size, seconds, now)

    def flowed(self, way: Way, rate: float) -> float:
        """A carrier brought that many bytes a second; the best of this way in this network."""
        best = max(rate, self._best.pop(way, 0.0))
        if len(self._best) >= MAX_RECORDS:
            del self._best[next(iter(self._best))]
        self._best[way] = best
        return best

    def has_led(self, way: Way) -> bool:
        """Whether it led to its bridge, in any network that is remembered."""
        name = self._name(way)
        records = (known.records.get(name) for known in self._networks.values())
        return any(record is not None and record.opened_at is not None for record in records)

    # ---- what to do ------------------------------------------------------------------------------

    def rests_until(self, way: Way, now: float) -> float:
        """Until when a way, or its front, comes after all others; 0.0 where it does not."""
        return max(self.record(one, now).rests_until(now) for one in (way, way.front))

    def ordered(self, ways: Iterable[Way], now: float) -> list[Way]:
        """``ways`` in the order to try them: as they came; those that rest last, the soonest over first."""
        return sorted(ways, key=lambda way: self.rests_until(way, now))

    def stagger(self, way: Way, now: float) -> float:
        """Seconds that this one may take before another one is tried beside it."""
        took = self.record(way.front, now).took
        return STAGGER if took is None else min(max(2 * took, STAGGER_LEAST), STAGGER_MOST)

    def degree(self, way: Way, now: float) -> Degree:
        """What it met with last: the way itself, or its front since."""
        if self.portal.holds(way) and self.portal.stands(now):
            return Degree.PORTAL
        own, front = self.record(way, now), self.record(way.front, now)
        return front.degree if front.failures and front.used_at >= own.used_at else own.degree

    def took(self, way: Way, now: float) -> float | None:
        """Seconds until TLS stood with its front, smoothed; None where that is not known."""
        return self.record(way.front, now).took

    # ---- kept ------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; without the secret it names nothing."""
        self.changed = False
        return {
            "version": VERSION,
            "networks": {
                name: {
                    "seen_at": known.seen_at,
                    "records": {way: record.to_dict() for way, record in known.records.items()},
                }
                for name, known in self._networks.items()
            },
        }

    def load(self, data: Mapping[str, Any]) -> None:
        """Take what :meth:`to_dict` gave; :class:`StateError` for anything else, and nothing is taken."""
        try:
            if data["version"] != VERSION:
                raise StateError("what was remembered of ways is of another version")
            networks = {
                str(name): _Known(
                    float(known["seen_at"]),
                    {
                        str(way): Record.from_dict(record)
                        for way, record in list(known["records"].items())[:MAX_RECORDS]
                    },
                )
                for name, known in list(data["networks"].items())[:MAX_NETWORKS]
            }
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            raise StateError("what was remembered of ways is damaged") from None
        self._networks = networks
        self.changed = False
