"""A guard's knowledge of the beacon: asked from directory nodes while it is missing, handed on as it is.

Clients and publishers reach no node themselves, and need the value of the day before they can seal anything
for one: so their guard asks for it (``directory_beacon``), as nodes do among each other, and says it to each
stream. A statement verifies by itself. A guard can withhold it, as it can withhold everything.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Final

from ptproxy.dht.beacon import BeaconConflictError, Beacons
from ptproxy.dht.contact import Address
from ptproxy.dht.epoch import epoch_of
from ptproxy.dht.first_nodes import FirstNodes
from ptproxy.dht.identifier import Rng
from ptproxy.errors import DhtError, StartError
from ptproxy.log import get_logger
from ptproxy.peers.directory_beacon import TELL, BeaconGossip
from ptproxy.peers.find_frames import Letter
from ptproxy.peers.find_guard_socket import GuardSocket
from ptproxy.state import Document

AGAIN: Final = (2.0, 60.0)
"""Seconds until nodes are asked again for the value of today: at first, and at most."""
AHEAD: Final = 600.0
"""Seconds between two questions for the value of tomorrow, which may not exist yet."""
LOOK: Final = 60.0
"""Seconds between looks whether a value is missing: an epoch begins at midnight UTC."""

log = get_logger(__name__)


class BeaconWatch:
    """The values that one guard knows. To be closed by whoever started it."""

    def __init__(
        self,
        rng: Rng,
        clock: Callable[[], float],
        permitted: Callable[[Address], bool],
        told: Callable[[bytes], None],
    ) -> None:
        """``permitted``: whether a node may be asked there; ``told`` is given each new statement."""
        self._rng = rng
        self._clock = clock
        self._permitted = permitted
        self._told = told
        self._beacons: Beacons | None = None
        self._gossip: BeaconGossip | None = None
        self._nodes: tuple[Address, ...] = ()
        self._sockets: dict[int, GuardSocket] = {}
        self._document: Document | None = None
        self._task: asyncio.Task[None] | None = None

    def use(self, first: FirstNodes) -> None:
        """Of this network, from now on; what was known stays where its signers are the same."""
        before = self.statements()
        self._nodes = tuple(each.address for each in first.contacts if self._permitted(each.address))
        self._beacons = None if first.signers is None else Beacons(first.signers)
        self._gossip = None if self._beacons is None else BeaconGossip(self._beacons)
        self._learn(before)

    def start(self, document: Document) -> None:
        """Take back what ``document`` kept, and keep asking; a network without a beacon asks nothing."""
        self._document = document
        kept = document.read() or {}
        said = kept.get("beacons")
        found = []
        for text in said if isinstance(said, list) else []:
            try:
                found.append(bytes.fromhex(text))
            except (TypeError, ValueError):
                continue  # asked for again
        self._learn(found)
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Ask no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._hang_up()

    def statements(self) -> list[bytes]:
        """Of the epoch before, the current one and the next, as far as they are known."""
        if self._beacons is None:
            return []
        current = epoch_of(self._clock())
        said = (self._beacons.statement(epoch) for epoch in (current - 1, current, current + 1))
        return [statement for statement in said if statement is not None]

    def _learn(self, statements: Sequence[bytes]) -> None:
        """What was known before."""
        for statement in statements:
            if self._beacons is not None:
                try:
                    self._beacons.learn(statement, self._clock())
                except DhtError:
                    continue  # of another day, or of other signers

    async def _run(self) -> None:
        pause = AGAIN[0]
        while True:
            now = self._clock()
            missing = [] if self._gossip is None else self._gossip.missing(now)
            if self._gossip is None or not missing:
                self._hang_up()
                pause, wait = AGAIN[0], LOOK
            else:
                self._ask(self._gossip, now)
                wait = pause if epoch_of(now) in missing else AHEAD
                pause = min(2 * pause, AGAIN[1])
            await asyncio.sleep(wait * random.uniform(0.75, 1.25))

    def _ask(self, gossip: BeaconGossip, now: float) -> None:
        nodes = list(self._nodes)
        random.shuffle(nodes)
        for address, request in gossip.ask(nodes, now):
            family = len(address.host)
            socket = self._sockets.get(family)
            if socket is None:
                socket = self._sockets[family] = GuardSocket(
                    self._expects, self._answered, self._hang_up, self._rng, family
                )
            socket.send(Letter(address, request))

    def _expects(self, source: Address) -> bool:
        return source in self._nodes

    def _answered(self, letter: Letter) -> None:
        gossip = self._gossip
        if gossip is None or letter.message[:1] != bytes((TELL,)):
            return
        before = self.statements()
        try:
            gossip.receive(letter.message, letter.address, self._clock())
        except BeaconConflictError as error:
            log.error("two beacons of one day: ask the directory's operator", why=str(error))
        except DhtError as error:
            log.info("a node's beacon is not used", why=str(error))
        new = [statement for statement in self.statements() if statement not in before]
        for statement in new:
            log.info("the beacon is known", epoch=int.from_bytes(statement[1:5], "big"))
            self._told(statement)
        if new:
            self._save()

    def _save(self) -> None:
        if self._document is not None:
            try:
                self._document.write({"beacons": [each.hex() for each in self.statements()]})
            except StartError as error:
                log.warning("the beacon is not kept", why=str(error))

    def _hang_up(self) -> None:
        sockets, self._sockets = self._sockets, {}
        for socket in sockets.values():
            socket.close()
