"""Who dials what under which key: nobody whom a mailbox sees twice is to be one pseudonym there.

A messenger reaches its own box, the box of each contact and a rendezvous under keys that have
nothing in common (``PROTOCOL.md``, "What the mailbox sees"): it asks a :class:`Dialers` for each.
:class:`TunnelDialers` gives a tunnel of its own to every key, opened by the first dial and closed when
nothing has used it for a while. What they have in common is the machine's address: whoever operates
two bridges sees two tunnels that come from there, at times that may go together.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, Protocol

from ptproxy.auth.credentials import StaticKey
from ptproxy.codec.page.cache import SiteMemory
from ptproxy.config.link import Link
from ptproxy.errors import DialError, PtproxyError, Reason
from ptproxy.target import Target
from ptproxy.tunnel.appearance import appearance_of
from ptproxy.tunnel.client_tls import BrowserLikeTls, PythonTls
from ptproxy.tunnel.connect import Route, by_fronts
from ptproxy.tunnel.dial import TunnelDialer
from ptproxy.tunnel.stream import Association, DatagramReceiver, Dialer, Stream
from ptproxy.tunnel.surroundings import SurroundingsWatch, watch_network
from ptproxy.tunnel.tls import ClientTrust

IDLE: Final = 60.0
"""Seconds without a stream after which a tunnel is closed."""
MOST: Final = 64
"""Tunnels at a time: each is a connection of its own, with a visit of the site before it."""
MAX_KNOWN: Final = 2_048
"""Keys remembered, 1 kB each: more than there are contacts; those without a tunnel go first."""


class Errand(IntEnum):
    """What is done there. The number is part of the derivation of keys."""

    OWN_BOX = 1
    """Collect what comes for us."""
    DEPOSIT = 2
    """Leave something for one contact, fetch its bundle."""
    MEET = 3
    """Meet one contact at a rendezvous."""
    DIRECTORY = 4
    """Look something up in the directory, or publish there."""


@dataclass(frozen=True, slots=True)
class Purpose:
    """One pseudonym: what for, and for which contact (b"": for none), under which private key."""

    errand: Errand
    contact: bytes = b""
    key: bytes = field(default=b"", repr=False)
    """32 bytes, an X25519 private key for nothing else (``Messenger.purpose`` makes it); b"": any new one."""


class Dialers(Protocol):
    """Gives a dialer for a bridge and a purpose."""

    def dialer(self, link: Link, purpose: Purpose) -> Dialer:
        """A dialer to the bridge of ``link`` under a key for this purpose alone.

        It connects when something is dialled; whatever keeps it from that is a
        :class:`~ptproxy.errors.DialError` of the dial.
        """


def tunnel_to(link: Link, key: StaticKey, fingerprint: str = "chrome") -> TunnelDialer:
    """A tunnel that looks like that browser's visits (``python``: like nobody's), with one carrier.

    Raises StartError without the library.
    """

    def route_of(front: Link) -> Route:
        trust = ClientTrust(pin=front.pin)
        return Route(
            line=front,
            key=key,
            tls=PythonTls(trust) if fingerprint == "python" else BrowserLikeTls(fingerprint, trust),
            codecs=front.codecs,
            appearance=appearance_of(fingerprint, SiteMemory()),
        )

    return TunnelDialer(asyncio.get_running_loop(), by_fronts(link, route_of), carriers=1)


class TunnelDialers:
    """A tunnel for each link and key. To be closed by whoever made it."""

    def __init__(
        self,
        make: Callable[[Link, StaticKey], TunnelDialer] = tunnel_to,
        *,
        idle: float = IDLE,
        most: int = MOST,
    ) -> None:
        self.idle = idle
        self._make = make
        self._most = most
        self._known: OrderedDict[tuple[str, bytes], _OneTunnel] = OrderedDict()
        """The one that was used last at the end."""
        self._watch: SurroundingsWatch | None = None

    def dialer(self, link: Link, purpose: Purpose) -> Dialer:
        """See :class:`Dialers`."""
        key = purpose.key or secrets.token_bytes(32)
        name = link.serialize(), key
        known = self._known.get(name)
        if known is None:
            if len(self._known) >= MAX_KNOWN:
                self._known = OrderedDict((each.name, each) for each in self._known.values() if each.is_open)
            known = self._known[name] = _OneTunnel(self, name, link, StaticKey(key))
        return known

    def open_tunnel(self, one: _OneTunnel) -> TunnelDialer:
        """A tunnel for ``one``, not started; DialError(LIMIT) where there are too many in use."""
        self._known[one.name] = one
        self._known.move_to_end(one.name)
        open_ones = [each for each in self._known.values() if each.is_open and each is not one]
        if len(open_ones) >= self._most:
            spare = next((each for each in open_ones if not each.in_use), None)
            if spare is None:
                raise DialError(Reason.LIMIT, "too many tunnels are open at once")
            spare.retire()
        if self._watch is None:
            self._watch = watch_network(asyncio.get_running_loop(), self)
        return self._make(one.link, one.key)

    def network_changed(self, lost: frozenset[str]) -> None:
        """This machine is in another network; see :meth:`TunnelDialer.network_changed`."""
        for tunnel in self._tunnels():
            tunnel.network_changed(lost)

    def network_grew(self) -> None:
        """See :meth:`TunnelDialer.network_grew`."""
        for tunnel in self._tunnels():
            tunnel.network_grew()

    def _tunnels(self) -> list[TunnelDialer]:
        return [each.tunnel for each in self._known.values() if each.tunnel is not None]

    async def close(self) -> None:
        """Close every tunnel."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        await asyncio.gather(*(each.stop() for each in list(self._known.values())))


class _OneTunnel:
    """The dialer of one key: its tunnel while somebody uses it."""

    def __init__(self, dialers: TunnelDialers, name: tuple[str, bytes], link: Link, key: StaticKey) -> None:
        self.name = name
        self.link = link
        self.key = key
        self._dialers = dialers
        self.tunnel: TunnelDialer | None = None
        self._starting = asyncio.Lock()
        self._dialling = 0
        self._streams: list[Stream] = []
        self._timer: asyncio.TimerHandle | None = None
        self._stopping: set[asyncio.Task[None]] = set()

    async def dial(self, target: Target, protocol: asyncio.Protocol, first_data: bytes = b"") -> Stream:
        """See :class:`~ptproxy.tunnel.stream.Dialer`."""
        self._dialling += 1
        try:
            stream = await (await self._ready()).dial(target, protocol, first_data)
        finally:
            self._dialling -= 1
            self._watch()
        self._streams.append(stream)
        return stream

    async def associate(self, receiver: DatagramReceiver) -> Association:
        """See :class:`~ptproxy.tunnel.stream.Dialer`; it does not keep the tunnel from being idle."""
        return await (await self._ready()).associate(receiver)

    @property
    def is_open(self) -> bool:
        """Whether there is a tunnel."""
        return self.tunnel is not None

    @property
    def in_use(self) -> bool:
        """Whether somebody dials, or a stream is open."""
        self._streams = [stream for stream in self._streams if not stream.is_closing()]
        return bool(self._dialling or self._streams)

    async def _ready(self) -> TunnelDialer:
        async with self._starting:
            if self.tunnel is None:
                try:
                    tunnel = self._dialers.open_tunnel(self)
                except PtproxyError as error:
                    raise _as_dial_error(error) from None
                self.tunnel = tunnel
                try:
                    await tunnel.start()
                except BaseException as error:
                    self.tunnel = None
                    await tunnel.stop()
                    if isinstance(error, PtproxyError):
                        raise _as_dial_error(error) from None
                    raise
            return self.tunnel

    def _watch(self) -> None:
        """Look again when it may be idle."""
        if self._timer is None and self.tunnel is not None:
            self._timer = asyncio.get_running_loop().call_later(self._dialers.idle, self._look)

    def _look(self) -> None:
        self._timer = None
        if self.in_use:
            self._watch()
        elif self.tunnel is not None:
            self.retire()

    def retire(self) -> None:
        """Close the tunnel in the background; :meth:`stop` waits for that too."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.tunnel is not None:
            task = asyncio.ensure_future(self.tunnel.stop())
            self.tunnel = None
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)

    async def stop(self) -> None:
        """Close it, and wait until it is closed."""
        self.retire()
        await asyncio.gather(*self._stopping)


def _as_dial_error(error: PtproxyError) -> DialError:
    """Whatever keeps a tunnel from opening, in a dialer's words."""
    return error if isinstance(error, DialError) else DialError(Reason.TUNNEL_DOWN, str(error))
