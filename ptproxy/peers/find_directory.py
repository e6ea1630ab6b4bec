"""The directory as a client uses it: find a record, publish one, over all the bridges that it has.

Every bridge gives two ways (its guards), the paths of a lookup are spread over all of them. The lookup
itself runs here: bridges and guards carry sealed letters, and can only lose them.

Errors: :class:`DirectoryUnreachable` where no bridge has a way, or no node answers. A record that is not
there is None.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from ptproxy.dht import epoch as epochs
from ptproxy.dht.admission import Admissions
from ptproxy.dht.beacon import BeaconConflictError
from ptproxy.dht.diversity import Diversity
from ptproxy.dht.identifier import ID_BYTES, NodeId, Rng
from ptproxy.dht.lookup import Lookup
from ptproxy.dht.lookup_rules import PRIVATE, UPKEEP, Judge
from ptproxy.dht.probation import NO_PROBATION
from ptproxy.dht.record import Record
from ptproxy.dht.record import judge as judge_stored
from ptproxy.dht.record_secret import RecordContent, RecordSecret, RecordType
from ptproxy.dht.storage import Refusal
from ptproxy.dht.table import RoutingTable
from ptproxy.dht.vetting import Vetting
from ptproxy.dht.work import WorkTarget
from ptproxy.errors import DhtError, DialError, PtproxyError
from ptproxy.log import get_logger
from ptproxy.peers import directory_driver
from ptproxy.peers.directory_clock import Now, SteadyClock
from ptproxy.peers.directory_driver import NodeDriver
from ptproxy.peers.find_asking import AskingNode, Posted
from ptproxy.peers.find_frames import Letter
from ptproxy.peers.find_network import KnownNetwork
from ptproxy.peers.find_way import Way
from ptproxy.tunnel.stream import Dialer

WAYS: Final = 2
"""Streams through one bridge: it has two guards, and gives each stream to the next of them."""
GRACE: Final = 3.0
"""Seconds that further ways get to open once there is one."""
STALE: Final = 3_600.0
"""Seconds after which the table is filled anew."""
AT_ONCE: Final = 3
"""Records read or written at a time: each is three lookups with eight questions out, whose answers of four
datagrams each have to fit a guard's socket when they all come at once."""
ENOUGH: Final = 1 / 3
"""Of the nodes asked at one location, those that have to keep a record for it to be published there."""

log = get_logger(__name__)


class DirectoryUnreachable(PtproxyError):  # noqa: N818  (a state, told as an error)
    """No bridge leads to the directory now, or none of its nodes answers."""


@dataclass(slots=True)
class Written:
    """What became of a record: at each of its locations, how many nodes were asked, and what they said."""

    asked: dict[NodeId, int] = field(default_factory=dict)
    kept: dict[NodeId, int] = field(default_factory=dict)
    refused: Counter[Refusal] = field(default_factory=Counter)

    @property
    def is_published(self) -> bool:
        """Whether readers will find it: at two of three locations enough nodes keep it."""
        good = [place for place, asked in self.asked.items() if self.kept[place] > asked * ENOUGH]
        return len(good) >= max(1, len(self.asked) - 1)

    @property
    def is_stale(self) -> bool:
        """Whether most nodes hold another record that is as new."""
        return self.refused[Refusal.STALE] > sum(self.kept.values())


class Directory:
    """Reads and writes records through ``dialers``, the bridges by name. To be closed by whoever made it."""

    def __init__(
        self,
        dialers: Mapping[str, Dialer],
        network: KnownNetwork,
        rng: Rng,
        *,
        diversity: Diversity | None = None,
        clock: Now | None = None,
    ) -> None:
        """``diversity``: how many nodes of one network are asked; the default is right outside of tests."""
        self.network = network
        self._dialers = dict(dialers)
        self._rng = rng
        self._clock = clock or SteadyClock()
        self._private = replace(PRIVATE, diversity=diversity or Diversity())
        self._upkeep = replace(UPKEEP, diversity=diversity or Diversity())
        self._ways: list[Way] = []
        self._driver: NodeDriver | None = None
        self._node: AskingNode | None = None
        self._filled = float("-inf")
        self._preparing = asyncio.Lock()
        self._places = asyncio.Semaphore(AT_ONCE)

    def use(self, dialers: Mapping[str, Dialer]) -> None:
        """From the next record on go through these bridges."""
        for way in self._ways:
            if dialers.get(way.name) is not self._dialers.get(way.name):
                way.abort()
        self._dialers = dict(dialers)

    @property
    def record_work(self) -> WorkTarget:
        """What the network asks of a record; :class:`DhtError` while no network is known."""
        return self.network.begin(self._clock()).record_work

    async def close(self) -> None:
        """End all ways. Who waits for something is to be cancelled before."""
        if self._driver is not None:
            self._driver.close()
        for way in self._ways:
            way.abort()
        await asyncio.sleep(0)

    # ---- what it is for ----------------------------------------------------------------------------

    async def reach(self) -> None:
        """Get to know the directory, as any reading or writing does first; raises DirectoryUnreachable."""
        await self._prepare()

    async def read(self, secret: RecordSecret, kind: RecordType, issuer: bytes) -> RecordContent | None:
        """The newest record of ``kind`` that ``issuer`` (its public key) published under ``secret``, or None.

        The current epoch is searched first, then the neighbour that may be another clock's.
        """
        async with self._places:
            driver = await self._prepare()
            current, _ = searched = epochs.epochs_to_search(self._clock())
            for epoch in searched:
                beacon = self.network.beacon(epoch, self._clock())
                if beacon is None:
                    log.info("the beacon is not known", epoch=epoch)
                    continue
                keys = secret.keys(kind, epoch)
                log.info("looking for a record", kind=kind.name.lower(), epoch=epoch)
                found = await self._seek(
                    driver, keys.locations(beacon), functools.partial(keys.judge, issuer=issuer)
                )
                newest = keys.newest(found, issuer)
                if newest is not None:
                    log.info("record found", epoch=epoch, sequence=newest.sequence)
                    return newest
            self._beacon(current)  # what was not looked for is not known to be missing
            log.info("no record found", kind=kind.name.lower())
            return None

    async def held(self, record: Record) -> int | None:
        """The highest sequence of a record that nodes hold in this one's place, whoever wrote it; or None."""
        async with self._places:
            driver = await self._prepare()
            sequences = []
            epoch = record.header.epoch
            beacon = self._beacon(epoch)
            for location in record.header.locations(beacon):
                look = functools.partial(judge_stored, location=location, epoch=epoch, beacon=beacon)
                found = await self._seek(driver, (location,), look)
                sequences += [sequence for data in found if (sequence := look(data)) is not None]
            return max(sequences, default=None)

    async def write(self, record: Record) -> Written:
        """Have ``record`` kept at its three locations; what nodes said of it."""
        async with self._places:
            driver = await self._prepare()
            data = record.serialize()
            locations = record.header.locations(self._beacon(record.header.epoch))
            parts: Sequence[directory_driver.Written] = await asyncio.gather(
                *(driver.publish(location, data, self._private) for location in locations)
            )
            self._check_ways()
            written = Written()
            for location, part in zip(locations, parts, strict=True):
                written.kept[location] = len(part.kept)
                written.asked[location] = len(part.kept) + sum(part.refused.values()) + part.silent
                written.refused.update(part.refused)
            log.info(
                "record written", asked=sum(written.asked.values()), kept=sum(written.kept.values()),
                refused={refusal.name.lower(): count for refusal, count in written.refused.items()},
            )  # fmt: skip
            return written

    # ---- getting there -----------------------------------------------------------------------------

    async def _prepare(self) -> NodeDriver:
        """Ways and a table, made where they are missing."""
        async with self._preparing:
            await self._open_ways()
            now = self._clock()
            first = self.network.begin(now)
            self._learn_beacons(now)
            if self._driver is None or self._node is None:
                own = int.from_bytes(self._rng(ID_BYTES), "big")
                table = RoutingTable(own, self._upkeep.diversity, NO_PROBATION)
                admit = Vetting(Admissions(first.id_work)).admit
                self._node = AskingNode(table, admit, self._rng, self._upkeep, self._send)
                self._driver = NodeDriver(asyncio.get_running_loop(), self._node, _nothing, self._clock)
            begin = {contact.id: contact for contact in (*self.network.contacts, *first.contacts)}
            self._node.first = tuple(begin.values())
            if now - self._filled > STALE or not len(self._node.table):
                await self._fill(self._driver, self._node)
            return self._driver

    async def _fill(self, driver: NodeDriver, node: AskingNode) -> None:
        """Look up random places: the table fills, and tells how large the network is."""
        log.info("getting to know the directory", nodes=len(node.first), ways=len(self._ways))
        for _ in range(2):
            place = int.from_bytes(self._rng(ID_BYTES), "big")
            lookup = await driver.look_up(place, self._upkeep)
            node.size.found(place, [contact.id for contact in lookup.closest()])
        if not len(node.table):
            raise DirectoryUnreachable("no node of the directory answers")
        self._filled = self._clock()
        self.network.met(known.contact for known in node.table)
        size = node.network_size()
        log.info("the directory answers", known=len(node.table), nodes=round(size) if size else None)

    async def _open_ways(self) -> None:
        self._ways = [way for way in self._ways if way.is_open]
        there = Counter(way.name for way in self._ways)
        made = [Way(name, self._received) for name in self._dialers for _ in range(WAYS - there[name])]
        opening = {asyncio.ensure_future(way.open(self._dialers[way.name])): way for way in made}
        try:
            trouble = await self._open_some(opening)
        finally:
            for task in opening:
                task.cancel()
            await asyncio.gather(*opening, return_exceptions=True)
            for way in made:
                if way not in self._ways:
                    way.abort()  # else its guard would keep it a place for two minutes
        self._ways.sort(key=lambda way: way.name)
        if not self._ways:
            if self.network.lapse(self._clock()):
                log.warning("the list of directory nodes is over; the next one that is named is taken")
            raise DirectoryUnreachable(f"no bridge leads to the directory ({trouble})")

    async def _open_some(self, opening: dict[asyncio.Task[None], Way]) -> str:
        """Take the ways that open, the first however long it takes, others for :data:`GRACE` more.

        What kept one from it, for a person.
        """
        trouble = "there is no bridge"
        waiting = set(opening)
        while waiting:
            grace = GRACE if self._ways else None
            done, waiting = await asyncio.wait(waiting, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                break  # a bridge that takes so long would keep the others waiting each time
            for task in done:
                way, error = opening[task], task.exception()
                if isinstance(error, DialError):
                    trouble = f"{way.name}: {error}"
                    log.info("a bridge has no way to the directory", via=way.name, why=str(error))
                elif error is not None:
                    raise error
                elif self._is_ours(way):
                    self._ways.append(way)
                else:
                    trouble = f"{way.name}: its list of directory nodes is not used"
        return trouble

    def _is_ours(self, way: Way) -> bool:
        """Whether a way leads to our network; a newer list of its nodes is taken."""
        assert way.network is not None
        try:
            if self.network.offer(way.network.key, way.network.text, self._clock()):
                log.info("a new list of directory nodes", via=way.name)
        except DhtError as error:
            log.warning("a guard's list of directory nodes is not used", via=way.name, why=str(error))
            if way.network.key != self.network.key:
                way.abort()
                return False
        return True

    def _learn_beacons(self, now: float) -> None:
        """Take what guards have told of the beacon."""
        for way in self._ways:
            told, way.beacons = way.beacons, []
            for statement in told:
                try:
                    self.network.learn(statement, now)
                except BeaconConflictError as error:
                    log.warning("two beacons of one day: tell the directory's operator", why=str(error))
                except DhtError as error:
                    log.info("a guard's beacon is not used", via=way.name, why=str(error))

    def _beacon(self, epoch: int) -> bytes:
        """What locations of ``epoch`` are made with; raises DirectoryUnreachable while that is not known."""
        beacon = self.network.beacon(epoch, self._clock())
        if beacon is None:
            raise DirectoryUnreachable("the directory's beacon of the day is not known yet")
        return beacon

    # ---- lookups -----------------------------------------------------------------------------------

    async def _seek(self, driver: NodeDriver, locations: Sequence[NodeId], judge: Judge) -> list[bytes]:
        """The newest accepted record of each location where there is one."""
        lookups: Sequence[Lookup] = await asyncio.gather(
            *(driver.look_up(place, self._private, judge) for place in locations)
        )
        for lookup in lookups:
            log.info(
                "lookup ended", place=_short(lookup.target), asked=lookup.asked,
                hops=lookup.depth(), holders=len(lookup.holders),
            )  # fmt: skip
        self._check_ways()
        return [lookup.record.record for lookup in lookups if lookup.record is not None]

    def _check_ways(self) -> None:
        """What was not found while nobody could be asked is not known to be missing."""
        if not any(way.is_open for way in self._ways):
            raise DirectoryUnreachable("the ways to the directory are lost")

    def _send(self, posted: Posted) -> None:
        """Send a letter by the way of its path: what a node is told again has to come the same way."""
        way = self._ways[posted.path % len(self._ways)] if self._ways else None
        if way is not None and way.is_open:
            log.debug("asks", node=_short(posted.node), path=posted.path, via=way.name)
            way.send(posted.letter)

    def _received(self, way: Way, letter: Letter) -> None:
        if self._driver is None or self._node is None:
            return
        with contextlib.suppress(DhtError):
            node, answer = self._node.open(letter)
            log.debug("answers", node=_short(node), via=way.name)
            self._driver.receive(answer, letter.address)
        self._driver.flush()


def _nothing(*_: object) -> None:
    """An asking node sends by itself."""


def _short(place: NodeId) -> str:
    """The beginning of a place: enough to follow it through a log."""
    return f"{place:064x}"[:10]
