"""What all carriers of a role have moved, those included that have ended."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ptproxy.tunnel.carrier import Carrier


@dataclass(slots=True)
class Totals:
    """Carriers that have ended, and the bytes of their frames; only ever grows."""

    carriers: int = 0
    sent: int = 0
    received: int = 0

    def add(self, carrier: Carrier) -> None:
        """A carrier is over; to be called once for each."""
        self.carriers += 1
        self.sent += carrier.sent_bytes
        self.received += carrier.received_bytes

    def moved(self, live: Iterable[Carrier]) -> tuple[int, int]:
        """Bytes sent and received so far, with those of the carriers that live."""
        sent, received = self.sent, self.received
        for carrier in live:
            sent += carrier.sent_bytes
            received += carrier.received_bytes
        return sent, received
