"""Handing records on: what nobody has brought again for hours goes to those who are closest to it now.

So a record outlives the nodes that were given it, as long as its epoch lasts. A few at a time, so
that a node with 16,384 records is a steady trickle to its neighbours and not a flood.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

from ptproxy.dht.lookup import Lookup
from ptproxy.dht.lookup_rules import LookupRules
from ptproxy.dht.storage import RecordStorage, StoredRecord
from ptproxy.peers.directory_driver import NodeBusyError, NodeDriver, Written

AT_ONCE: Final = 4
"""Records on their way at a time."""
BATCH: Final = 64
"""Records picked at a look, one a minute: 23,040 in six hours, more than a node keeps."""
AGAIN: Final = 600.0
"""Seconds until a record is tried again that nobody answered for: we were off the network."""


class HandingOn:
    """One node's records on their way to others."""

    __slots__ = ("_driver", "_loop", "_rules", "_running", "_storage", "_waiting", "handed_on")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, driver: NodeDriver, storage: RecordStorage, rules: LookupRules
    ) -> None:
        self.handed_on = 0
        """Records that others have taken, or had."""
        self._loop = loop
        self._driver = driver
        self._storage = storage
        self._rules = rules
        self._waiting: list[StoredRecord] = []
        self._running = 0

    def begin(self, now: float) -> None:
        """Look for records that are due; to be called every minute. Nothing happens while nobody is known."""
        if not self._waiting and len(self._driver.node.table):
            self._waiting.extend(self._storage.due(now, BATCH))
        self._go_on()

    def _go_on(self) -> None:
        while self._waiting and self._running < AT_ONCE:
            stored = self._waiting[0]
            try:
                self._driver.search(stored.location, partial(self._found, stored), self._rules)
            except NodeBusyError:
                return
            del self._waiting[0]
            self._running += 1

    def _found(self, stored: StoredRecord, lookup: Lookup) -> None:
        self._driver.write(lookup, stored.data, partial(self._written, stored))

    def _written(self, stored: StoredRecord, written: Written) -> None:
        self._running -= 1
        if written.kept or written.refused:
            self.handed_on += 1
        else:
            stored.hand_on = self._driver.clock() + AGAIN
        self._loop.call_soon(self._go_on)
