"""A guard of the directory: sends other bridges' sealed letters to directory nodes, from its own address.

The guard's service of a bridge that is known to everybody anyway. Each stream (one bridge, one of its
clients; the guard cannot tell which) has a UDP socket of its own, so that answers find their way back
unread. What nodes see is this machine's address, and nothing of who asks.

Whom it serves is decided by the bridge's access list. What it sends is bounded for each account, and goes to
public addresses only (``guard.allow`` makes exceptions); what comes back counts only from where a
letter went a moment ago.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

from ptproxy.buffer import Buffer
from ptproxy.config.model import GuardConfig
from ptproxy.dht.contact import Address
from ptproxy.dht.identifier import Rng
from ptproxy.dht.quota import LeakyBucket
from ptproxy.errors import DhtError, Reason, StartError, why
from ptproxy.log import get_logger
from ptproxy.peers.directory_network import MAX_TEXT, is_public, read_first_nodes
from ptproxy.peers.find_frames import BeaconFrame, FindFrameError, FrameReader, Letter, NetworkFrame
from ptproxy.peers.find_guard_beacon import BeaconWatch
from ptproxy.peers.find_guard_socket import GuardSocket
from ptproxy.peers.seats import Seats
from ptproxy.state import StateFolder
from ptproxy.tunnel.relay import reset_stream
from ptproxy.tunnel.stream import Incoming

SERVICE: Final = "directory-guard"
MAX_STREAMS: Final = 512
"""Streams of all bridges, each with a socket."""
STREAMS_OF_ONE: Final = 64
"""... of one bridge: so many of its clients look something up at a time."""
LETTERS_AT_ONCE: Final = 4_000
"""Letters of one bridge in one go: eight lookups with all their writes."""
LETTERS_PER_SECOND: Final = 100.0
"""... in the long run: 0.4 MB a second, and 0.1 ms of a core for each letter."""
ANSWER_WAIT: Final = 10.0
"""Seconds in which an answer may come; afterwards what comes from there is dropped."""
IDLE: Final = 120.0
"""Seconds without a letter after which a stream is ended: places are for those who look something up."""
MAX_ASKED: Final = 1_024
"""Addresses of one stream from which answers may come."""
MAX_UNSENT: Final = 1 << 20
"""Bytes of answers kept for a stream that is behind; what comes on top is dropped, as datagrams are."""
ACCOUNTS: Final = 4_096
"""Accounts whose rate is remembered."""
DOCUMENT: Final = "directory-beacon"
READ_AGAIN: Final = 300.0
"""Seconds after which the file of first nodes is looked at again."""


log = get_logger(__name__)


class GuardService:
    """A guard (a :class:`~ptproxy.tunnel.stream.BridgeService`)."""

    name = SERVICE

    def __init__(
        self,
        config: GuardConfig,
        *,
        rng: Rng = os.urandom,
        clock: Callable[[], float] = time.time,
        streams: int = MAX_STREAMS,
    ) -> None:
        self.rng = rng
        self._config = config
        self._clock = clock
        self._streams: Seats[_GuardStream] = Seats(streams, STREAMS_OF_ONE)
        self._rates: OrderedDict[str, LeakyBucket] = OrderedDict()
        self._allowed = [ipaddress.ip_network(text) for text in config.allow]
        self._beacon = BeaconWatch(rng, clock, self.permitted, self._tell_beacon)
        self._greeting = b""
        self._read_at = float("-inf")
        self._closed = False

    async def start(self, state: StateFolder) -> None:
        """Read the list of first nodes; raises :class:`~ptproxy.errors.StartError`."""
        self._greeting = self._read()
        self._read_at = self._clock()
        self._beacon.start(state.document(DOCUMENT))

    def __call__(self, incoming: Incoming) -> None:
        """A bridge's stream."""
        account = incoming.peer
        if self._closed:
            incoming.refuse(Reason.SHUTDOWN)
        elif not self._streams.may_sit(account):
            incoming.refuse(Reason.LIMIT)
        else:
            oldest = self._streams.crowded_out()
            if oldest is not None:
                oldest.end(Reason.LIMIT)
            stream = _GuardStream(self, account, self._greet())
            self._streams.sit(account, stream)
            incoming.accept(stream)

    def end_streams(self) -> None:
        """No more letters."""
        self._closed = True
        for stream in list(self._streams):
            stream.end(Reason.SHUTDOWN)

    async def close(self) -> None:
        """Sockets are closed with their streams, one turn of the loop later."""
        await self._beacon.close()
        await asyncio.sleep(0)

    def gone(self, stream: _GuardStream) -> None:
        """A stream is over."""
        self._streams.leave(stream.account, stream)

    def permitted(self, address: Address) -> bool:
        """Whether anything may be sent there at all."""
        ip = ipaddress.ip_address(address.host)
        return is_public(address) or any(ip in network for network in self._allowed)

    def may_send(self, account: str, address: Address) -> bool:
        """Whether ``account`` may have a letter sent there now."""
        if not self.permitted(address):
            return False
        bucket = self._rates.pop(account, None) or LeakyBucket(LETTERS_AT_ONCE, LETTERS_PER_SECOND)
        self._rates[account] = bucket
        if len(self._rates) > ACCOUNTS:
            self._rates.popitem(last=False)
        return bucket.take(1, asyncio.get_running_loop().time())

    def _greet(self) -> bytes:
        """The network as it is said to a newcomer, behind its beacons; a newer list is noticed."""
        if self._clock() - self._read_at > READ_AGAIN:
            self._read_at = self._clock()
            try:
                self._greeting = self._read()
            except StartError as error:
                log.error("the list of directory nodes stays as it was", why=str(error))
        beacons = (BeaconFrame(statement).serialize() for statement in self._beacon.statements())
        return b"".join((*beacons, self._greeting))

    def _tell_beacon(self, statement: bytes) -> None:
        """To all who are there: a publisher's stream may be older than the value of tomorrow."""
        frame = BeaconFrame(statement).serialize()
        for stream in list(self._streams):
            stream.tell(frame)

    def _read(self) -> bytes:
        path, key = self._config.network, self._config.network_key
        if path is None or key is None:
            raise StartError("guard: needs network and network_key: the signed list of directory nodes")
        try:
            with path.open(encoding="ascii", errors="replace") as file:
                text = file.read(MAX_TEXT + 2).strip()
            self._beacon.use(read_first_nodes(text, key, self._clock()))
        except OSError as error:
            raise StartError(f"guard.network: cannot read {path}: {why(error)}") from None
        except DhtError as error:
            raise StartError(f"guard.network: {path}: {error}") from None
        return NetworkFrame(key, text).serialize()


class _GuardStream(asyncio.Protocol):
    """One stream and its sockets."""

    def __init__(self, service: GuardService, account: str, greeting: bytes) -> None:
        self.account = account
        self._service = service
        self._greeting = greeting
        self._reader = FrameReader()
        self._transport: Any = None
        self._sockets: dict[int, GuardSocket] = {}
        self._asked: OrderedDict[Address, float] = OrderedDict()
        self._behind = False
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        self._over = False
        self._last = asyncio.get_running_loop().time()
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The network first."""
        self._transport = transport
        self._transport.write(self._greeting)
        self._look()

    def _look(self) -> None:
        """End it if nothing was asked for long; else look again when that may be so."""
        loop = asyncio.get_running_loop()
        left = self._last + IDLE - loop.time()
        if left > 0:
            self._timer = loop.call_later(left, self._look)
        else:
            self.end(Reason.TIMED_OUT)

    def data_received(self, data: Buffer) -> None:
        """Letters to send."""
        if self._over:
            return
        try:
            for frame in self._reader.receive_data(data):
                if not isinstance(frame, Letter):
                    raise FindFrameError("only a guard says which network it knows")
                self._send(frame)
        except FindFrameError as error:
            log.warning("a bridge breaks the directory's protocol", identity=self.account, why=str(error))
            self.end(Reason.GENERAL)

    def _send(self, letter: Letter) -> None:
        self._last = asyncio.get_running_loop().time()
        if not self._service.may_send(self.account, letter.address):
            return  # lost, as datagrams are: the lookup asks somebody else
        self._asked.pop(letter.address, None)
        self._asked[letter.address] = asyncio.get_running_loop().time()
        if len(self._asked) > MAX_ASKED:
            self._asked.popitem(last=False)
        family = len(letter.address.host)
        socket = self._sockets.get(family)
        if socket is None:
            socket = self._sockets[family] = GuardSocket(
                self._expects, self._answered, self._fail, self._service.rng, family
            )
        socket.send(letter)

    def _fail(self) -> None:
        """There is no socket for it: its client goes on by its other ways."""
        self.end(Reason.LIMIT)

    def _expects(self, source: Address) -> bool:
        """Whether a letter went there a moment ago."""
        asked = self._asked.get(source)
        return asked is not None and asyncio.get_running_loop().time() - asked <= ANSWER_WAIT

    def _answered(self, letter: Letter) -> None:
        """A message came from a node."""
        if self._over:
            return
        try:
            frame = letter.serialize()
            FrameReader().receive_data(frame)  # what we would not take up does not go down either
        except DhtError:
            return
        self.tell(frame)

    def tell(self, frame: bytes) -> None:
        """Send a frame down, or lose it where the stream is far behind."""
        if self._over:
            return
        if not self._behind:
            self._transport.write(frame)
        elif self._unsent_bytes + len(frame) <= MAX_UNSENT:
            self._unsent.append(frame)
            self._unsent_bytes += len(frame)

    def pause_writing(self) -> None:
        """The bridge is behind."""
        self._behind = True

    def resume_writing(self) -> None:
        """It has caught up."""
        self._behind = False
        unsent, self._unsent, self._unsent_bytes = self._unsent, [], 0
        for frame in unsent:
            self._transport.write(frame)

    def eof_received(self) -> bool:
        """The client is done."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        del exc
        self._leave()

    def end(self, reason: Reason) -> None:
        """End it for ``reason``."""
        self._leave()
        reset_stream(self._transport, reason)

    def _leave(self) -> None:
        if not self._over:
            self._over = True
            self._unsent.clear()
            if self._timer is not None:
                self._timer.cancel()
            for socket in self._sockets.values():
                socket.close()
            self._service.gone(self)
