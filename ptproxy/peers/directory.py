"""A directory node on real sockets: it answers, looks things up, keeps records, and survives restarts.

::

    identity = NodeIdentity.parse(text)
    async with await DirectoryNode.start(identity, network, settings) as node:
        node.join(contacts)
        lookup = await node.driver.look_up(location, PRIVATE, judge)
        written = await node.driver.publish(location, record)

Decisions are ``ptproxy.dht``'s; what is here is when they are asked for. ``DIRECTORY.md`` beside this
file says what travels and what is kept; ``directory_driver`` runs the node inside, ``directory_socket`` has its
datagrams, ``directory_upkeep`` hands records on, ``directory_store`` is the disk.

A node may forward sealed requests for somebody (a bridge whose guard it is): :meth:`DirectoryNode.forward`.
Messages of other kinds than the directory's go to whoever asked for them: :meth:`DirectoryNode.listen_for`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Final, Self, TypeAlias

from ptproxy.dht.admission import Admissions
from ptproxy.dht.beacon import Beacons
from ptproxy.dht.contact import Address, Contact
from ptproxy.dht.identifier import Rng
from ptproxy.dht.lookup import LookupRules
from ptproxy.dht.messages import VERSION
from ptproxy.dht.node import Node
from ptproxy.dht.record import NO_BEACON
from ptproxy.dht.responder import Responder, account
from ptproxy.dht.sealing import SEALED
from ptproxy.dht.storage import MAX_RECORDS, RecordStorage
from ptproxy.dht.table import RoutingTable
from ptproxy.dht.vetting import Vetting
from ptproxy.errors import DhtError, StartError
from ptproxy.log import get_logger
from ptproxy.peers.directory_clock import Now, SteadyClock
from ptproxy.peers.directory_driver import NodeDriver
from ptproxy.peers.directory_network import DirectoryNetwork, NodeIdentity
from ptproxy.peers.directory_socket import DirectorySocket

MAX_FORWARDS: Final = 256
"""Sealed requests that wait for their answers, for all whose guard we are."""
FORWARD_WAIT: Final = 1.5
"""Seconds that such a request waits: as long as the slowest query of a lookup."""

Take: TypeAlias = Callable[[bytes, Address], None]
"""Takes a message and where it came from; :class:`DhtError` for what is none."""


@dataclass(frozen=True, slots=True)
class DirectorySettings:
    """What an operator decides."""

    listen: Sequence[tuple[str, int]]
    """IP literals and UDP ports, one of each family at most; port 0: any."""
    address: Address | None = None
    """Where others reach us; None: where we listen (tests)."""
    records: int = MAX_RECORDS


@dataclass(frozen=True, slots=True)
class DirectoryStatus:
    """How a node is doing, for a line in the log."""

    nodes: int
    """Nodes in its table."""
    records: int
    network_size: int | None
    """How many nodes there are, by its own estimate."""
    requests: int
    """Requests that came, since the start; so are the following."""
    refused: int
    """Of these, those that were too many."""
    ignored: int
    """Datagrams and messages that were none."""


class DirectoryNode:
    """One node. Made by :meth:`start`; ``contact`` is what others are given to reach it."""

    contact: Contact
    driver: NodeDriver
    storage: RecordStorage
    beacons: Beacons | None

    @classmethod
    async def start(
        cls,
        identity: NodeIdentity,
        network: DirectoryNetwork,
        settings: DirectorySettings,
        *,
        vetting: Vetting | None = None,
        clock: Now | None = None,
        rng: Rng = os.urandom,
    ) -> Self:
        """A node that listens; raises :class:`StartError`. Nodes of one process may share ``vetting``."""
        raise NotImplementedError

    def join(self, contacts: Iterable[Contact]) -> None:
        """Get to know the network by these nodes, of which one that lives is enough; again while nobody is known."""
        raise NotImplementedError

    async def forward(self, address: Address, sealed: bytes) -> bytes:
        """Send a sealed request to the node at ``address`` and return its sealed answer.

        Raises :class:`DhtError` if none came in :data:`FORWARD_WAIT`, if :data:`MAX_FORWARDS` are
        waiting, or if no request may be sent there (not the Internet's address, no socket of that family).
        """
        raise NotImplementedError

    def listen_for(self, kind: int, take: Take) -> None:
        """Give messages whose first byte is ``kind`` (not 1 or 2: those are the directory's) to ``take``."""
        raise NotImplementedError

    def send(self, address: Address, message: bytes) -> None:
        """Send such a message: at most 4,764 bytes, lost like any datagram."""
        raise NotImplementedError

    def status(self) -> DirectoryStatus:
        """How it is doing."""
        raise NotImplementedError

    async def close(self) -> None:
        """Stop, and keep what is to be kept. May be called twice."""
        raise NotImplementedError
