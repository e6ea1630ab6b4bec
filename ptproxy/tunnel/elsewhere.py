"""Which worker of a bridge a connection belongs to, and how it gets there.

A session is at the worker that its id names: the id's first byte modulo the number of
workers. New sessions are made where their first carrier was accepted, with an id that
says so. So whoever reads an opening knows where it belongs, and nothing is asked.
A request of an ``http`` carrier, and a WebSocket by a ticket, is found by its token
(:class:`~ptproxy.tunnel.shared_tables.TokenIndex`).

What belongs to another worker is handed to it before it was answered: the connection
itself where nothing here is needed to read it (behind a web server), else one end of a
pair, and its bytes pass through here. The opening was then looked up and entered in the
replay filter, which all workers share, by the one that accepted it; the other takes its
word for exactly that opening, by its hash.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Final

from ptproxy.auth.opening import PeerHello
from ptproxy.errors import AuthenticationError
from ptproxy.log import get_logger
from ptproxy.tunnel import tcp
from ptproxy.tunnel.neighbours import MOST_SAID, Handed, Neighbours
from ptproxy.tunnel.passage import Passage
from ptproxy.tunnel.shared_tables import Crowd, TokenIndex
from ptproxy.tunnel.tickets import token_of

if TYPE_CHECKING:
    from ptproxy.tunnel.arrival import Arrival
    from ptproxy.tunnel.gate import Gate

ADOPT_TIMEOUT: Final = 10.0
"""Seconds until a connection that was handed over has a transport: a turn of the loop or two."""

log = get_logger(__name__)


@dataclass(slots=True)
class Place:
    """What a worker knows of its place among the others."""

    index: int
    count: int
    neighbours: Neighbours
    crowd: Crowd
    tokens: TokenIndex
    whole: bool = False
    """Connections are handed over as they are: nothing here is between them and their bytes."""


class PublishedTokens(dict[str, Any]):
    """A table of tokens that the other workers see."""

    def __init__(self, index: TokenIndex) -> None:
        super().__init__()
        self._index = index

    def __setitem__(self, token: str, value: Any) -> None:
        super().__setitem__(token, value)
        self._index.publish(token)

    def __delitem__(self, token: str) -> None:
        super().__delitem__(token)
        self._index.withdraw(token)


class Elsewhere:
    """What a gate asks about connections that may belong to another worker."""

    def __init__(self, loop: asyncio.AbstractEventLoop, place: Place, gate: Gate) -> None:
        self._loop = loop
        self._place = place
        self._gate = gate
        self._tasks: set[asyncio.Task[None]] = set()
        gate.tickets.index = place.tokens
        self._readers: dict[str, Callable[[bytes], str | None]] = {}
        for name, reception in gate.receptions:
            read = getattr(reception, "token_of", None)
            if read is not None:
                reception.tokens = PublishedTokens(place.tokens)  # type: ignore[attr-defined]  # it has them
                self._readers[name] = read
        place.neighbours.begin(loop, self._taken)

    def new_session_id(self, rng: Random, size: int) -> bytes:
        """An id for a session that is made here."""
        first = rng.randrange(self._place.index, 256, self._place.count)
        return bytes((first,)) + rng.randbytes(size - 1)

    def home(self, session_id: bytes) -> int:
        """The worker that a session is at; this one for a session to be made (``b""``)."""
        return session_id[0] % self._place.count if session_id else self._place.index

    def is_here(self, session_id: bytes) -> bool:
        """Whether that is this one."""
        return self.home(session_id) == self._place.index

    def takes_opening(self, arrival: Arrival, opening: bytes, peer: PeerHello) -> bool:
        """Whether another worker has the connection from now on, as its opening names a session there.

        Raises :class:`~ptproxy.errors.AuthenticationError` for a connection on which more was answered here.
        """
        home = self.home(peer.hello.session_id)
        if home == self._place.index:
            return False
        if arrival.handed is not None or arrival.received is None:
            raise AuthenticationError("a session of another worker's, on a connection that is used here")
        self._hand(arrival, home, hashlib.sha256(opening).digest())
        return True

    def takes_request(self, arrival: Arrival) -> bool:
        """Whether another worker has the connection from now on, as a request there is for its carrier."""
        read = self._readers.get(arrival.codec_name)
        if read is None or arrival.handed is not None or arrival.received is None:
            return False
        token = read(bytes(arrival.received))
        owner = self._place.tokens.owner(token) if token is not None else None
        if owner is None:
            return False
        self._hand(arrival, owner, b"")
        return True

    def takes_ticket(self, arrival: Arrival, ticket: bytes) -> bool:
        """Whether another worker has the connection from now on, as the ticket it shows is one of there."""
        if arrival.handed is not None or arrival.received is None:
            return False
        owner = self._place.tokens.owner(token_of(ticket))
        if owner is None:
            return False
        self._hand(arrival, owner, b"")
        return True

    def close(self) -> None:
        """Neither hand over nor take any more."""
        self._place.neighbours.close()
        for task in self._tasks:
            task.cancel()

    # ---- out -----------------------------------------------------------------------------------------

    def _hand(self, arrival: Arrival, other: int, judged: bytes) -> None:
        origin = arrival.comes_from()
        sock = arrival.transport.get_extra_info("socket")
        neighbours = self._place.neighbours
        if self._place.whole and sock is not None and len(arrival.received or b"") <= MOST_SAID:
            said = self._gate.release(arrival)
            neighbours.hand(other, Handed(said, judged, origin), os.dup(sock.fileno()))
            arrival.transport.abort()  # of this process's descriptor only
            return
        here, there = socket.socketpair()
        passage = Passage(arrival)
        passage.receive_data(self._gate.pass_on(arrival, passage), 0.0)
        if not neighbours.hand(other, Handed(b"", judged, origin), there.detach()):
            here.close()
            arrival.abort()
            return
        self._own(passage.open(here))

    # ---- in ------------------------------------------------------------------------------------------

    def _taken(self, handed: Handed, sock: socket.socket) -> None:
        log.debug("a connection comes from the worker that accepted it", opening=bool(handed.judged))
        arrival = self._gate.arrival()
        arrival.handed = handed
        self._own(self._arrive(arrival, handed, sock))

    async def _arrive(self, arrival: Arrival, handed: Handed, sock: socket.socket) -> None:
        try:
            await tcp.adopt(self._loop, lambda: arrival, sock, timeout=ADOPT_TIMEOUT)
        except OSError as error:
            log.debug("a connection ended as it was handed over", why=type(error).__name__)
            return
        if handed.said and not arrival.ended:
            arrival.data_received(handed.said)

    def _own(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
