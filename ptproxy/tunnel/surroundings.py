"""What networks this machine is in, and a word when that changes.

Nothing here sends a packet. On Linux the kernel tells of links, addresses and routes (rtnetlink(7));
elsewhere, and where that is refused, a UDP socket is connected twice a second, which only asks the routing
table for the local address that would be used. A clock that jumps against the
processor's own is a machine that slept (Linux: ``CLOCK_BOOTTIME`` counts sleep, ``CLOCK_MONOTONIC`` does
not; macOS: ``CLOCK_MONOTONIC_RAW`` and ``CLOCK_UPTIME_RAW``): after that everything is looked at anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from ptproxy.log import get_logger
from ptproxy.ways import Gateway, Surroundings, Ways
from ptproxy.ways.network import prefixes_of

TICK: Final = 0.5
"""Seconds between looks at the clocks, and at the routes where nobody tells of them."""
SETTLE: Final = 0.1
"""Seconds after the kernel's word until the look: a new lease comes in several messages."""
SLEPT: Final = 2.0
"""Seconds by which the clocks differ after a sleep, at least."""
ABSENT: Final = 1.0
"""Seconds without any network after which connections are given up though their address is there again: what
was on its way is sent again only when TCP's pauses are over, which are then as long as the absence was."""
LEARN: Final = 10.0
"""Seconds after a change in which the gateway's hardware address is looked for: it is known once the
first packet has left."""
GROUPS: Final = 0x1 | 0x10 | 0x40 | 0x100 | 0x400
"""RTMGRP_LINK, IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR, IPV6_ROUTE (linux/rtnetlink.h)."""
ASKED: Final = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
"""Documentation addresses (RFC 5737, RFC 3849): for the route to anywhere."""
PROC: Final = Path("/proc/net")
UP: Final = 0x1
REJECT: Final = 0x200
"""RTF_UP and RTF_REJECT of a route (linux/route.h, linux/ipv6_route.h)."""
COMPLETE: Final = 0x2
"""ATF_COM of an entry of the ARP table (linux/if_arp.h)."""
EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""What the system says where it has no more to give; it says nothing of networks then."""
GET_FLAGS: Final = 0x8913
RUNNING: Final = 0x40
"""SIOCGIFFLAGS and IFF_RUNNING (netdevice(7)): there is a cable, or the radio has a network."""

CLOCKS: Final[tuple[int | None, int | None]] = (
    (getattr(time, "CLOCK_MONOTONIC_RAW", None), getattr(time, "CLOCK_UPTIME_RAW", None))
    if sys.platform == "darwin"
    else (getattr(time, "CLOCK_BOOTTIME", None), getattr(time, "CLOCK_MONOTONIC", None))
)
"""One that counts sleep, and one that does not; None where there is none."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Change:
    """What became of this machine's networks."""

    now: Surroundings
    lost: frozenset[str] = frozenset()
    """Addresses connections from which are dead: those that are gone, and after a sleep or absence all."""
    is_elsewhere: bool = False
    """Whether what was asked before will not be answered: another network, or one again."""


class SurroundingsWatch:
    """Watches until it is closed."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        changed: Callable[[Change], None],
        named: Callable[[Surroundings], None] | None = None,
        look: Callable[[], Surroundings] | None = None,
    ) -> None:
        """``changed`` is called in the loop, and ``named`` where the same network is only better known."""
        self._loop = loop
        self._changed = changed
        self._named = named
        self._look = look or look_around
        self._timer: asyncio.TimerHandle | None = None
        self._settling: asyncio.TimerHandle | None = None
        self._socket = routing_socket()
        self._drift = _drift()
        self._changed_at = self._left_at = loop.time()
        self.current = Surroundings()
        self.current = self._seen()
        if self._socket is not None:
            loop.add_reader(self._socket.fileno(), self._told)
        self._timer = loop.call_later(TICK, self._tick)

    def close(self) -> None:
        """No more."""
        for timer in (self._timer, self._settling):
            if timer is not None:
                timer.cancel()
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _told(self) -> None:
        """The kernel says that something changed; what, is looked up."""
        assert self._socket is not None
        with contextlib.suppress(OSError):  # more than the socket holds: a look tells all
            while self._socket.recv(65536):
                pass
        if self._settling is None:
            self._settling = self._loop.call_later(SETTLE, self._settled)

    def _settled(self) -> None:
        self._settling = None
        self.look()

    def _tick(self) -> None:
        self._timer = self._loop.call_later(TICK, self._tick)
        drift = _drift()
        slept, self._drift = drift - self._drift > SLEPT, drift
        if slept:
            log.info("this machine has slept")
            before = self.current
            self._tell(self._seen(), before.addresses, True)
        elif self._socket is None or self._is_unknown():
            self.look()

    def look(self) -> None:
        """See whether anything is different, and say so."""
        before, now = self.current, self._seen()
        elsewhere = now.is_elsewhere(before)
        if now != before or elsewhere:
            lost = now.lost_since(before)
            if now.connected and not elsewhere:  # as temporary addresses of IPv6 take turns (RFC 8981)
                lost = frozenset(each for each in lost if not is_ours(each))
            if before.connected and not now.connected:
                self._left_at = self._loop.time()
            elif not before.connected and self._loop.time() - self._left_at > ABSENT:
                lost |= now.addresses
            self._tell(now, lost, elsewhere)
        elif now.gateways[:1] and now.gateways[0].hardware != before.gateways[0].hardware:
            self.current = now
            if self._named is not None:
                self._named(now)

    def _tell(self, now: Surroundings, lost: frozenset[str], is_elsewhere: bool) -> None:
        self.current = now
        self._changed_at = self._loop.time()
        self._changed(Change(now, lost, is_elsewhere))

    def _seen(self) -> Surroundings:
        try:
            return self._look().remembering(self.current)
        except OSError as error:  # too many files are open, say: that is no other network
            log.debug("the networks cannot be looked at", why=type(error).__name__)
            return self.current

    def _is_unknown(self) -> bool:
        """Whether the gateway may still turn out to have a hardware address."""
        first = self.current.gateways[:1]
        return bool(first) and not first[0].hardware and self._loop.time() - self._changed_at < LEARN


class Travelling(Protocol):
    """What is told of networks: a dialer, or what has some."""

    def network_changed(self, lost: frozenset[str]) -> None:
        """See :meth:`~ptproxy.tunnel.dial.TunnelDialer.network_changed`."""

    def network_grew(self) -> None:
        """See :meth:`~ptproxy.tunnel.dial.TunnelDialer.network_grew`."""


def watch_network(
    loop: asyncio.AbstractEventLoop, told: Travelling, ways: Ways | None = None
) -> SurroundingsWatch:
    """Tell ``told``, and ``ways`` before it, when this machine changes its network, from now on."""

    def changed(change: Change) -> None:
        now = change.now
        if ways is not None:
            ways.enter(now.name(ways.secret), time.time())
        log.info("the network has changed", connected=now.connected, addresses_lost=len(change.lost))
        if change.lost or change.is_elsewhere:
            told.network_changed(change.lost)
        elif now.connected:
            told.network_grew()

    def named(now: Surroundings) -> None:
        if ways is not None:
            ways.learn_name(now.name(ways.secret), time.time())

    watch = SurroundingsWatch(loop, changed, named)
    if ways is not None:
        ways.enter(watch.current.name(ways.secret), time.time())
    return watch


def routing_socket() -> socket.socket | None:
    """A socket to which the kernel tells of links, addresses and routes; None where there is none."""
    family = getattr(socket, "AF_NETLINK", None)
    if family is None:
        return None
    sock = None
    try:
        sock = socket.socket(family, socket.SOCK_RAW, 0)  # NETLINK_ROUTE
        sock.setblocking(False)
        sock.bind((0, GROUPS))
    except OSError:  # a sandbox
        if sock is not None:
            sock.close()
        return None
    return sock


def look_around() -> Surroundings:
    """This machine's addresses towards anywhere, and the gateways of its default routes.

    Raises ``OSError`` where that cannot be found out just now.
    """
    addresses = set()
    for family, anywhere in ASKED:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.connect((anywhere, 9))  # sends nothing
                addresses.add(str(sock.getsockname()[0]))
        except OSError as error:
            if error.errno in EXHAUSTED:
                raise
    found = frozenset(addresses)
    if sys.platform == "linux" and _is_readable():
        return Surroundings(found, tuple(_linux_gateways()))
    return Surroundings(found, tuple(Gateway("", each) for each in sorted(prefixes_of(found))))


def _is_readable() -> bool:
    """Whether the kernel's tables are there for us: a sandbox may keep them."""
    try:
        (PROC / "route").read_bytes()
    except OSError as error:
        if error.errno in EXHAUSTED:
            raise
        return False
    return True


def is_ours(address: str) -> bool:
    """Whether this machine still has an address, though it would not be used for what is new."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((address, 0))
    except OSError as error:
        return error.errno in EXHAUSTED
    return True


def _linux_gateways() -> list[Gateway]:
    """Of default routes, IPv4 first and then by metric; those over a link that is not there are left out."""
    neighbours = {
        (fields[5], fields[0]): fields[3]
        for fields in _table("arp")
        if len(fields) >= 6 and int(fields[2], 16) & COMPLETE
    }
    found = []
    for fields in _table("route"):
        if len(fields) >= 8 and fields[1] == fields[7] == "00000000" and _leads(int(fields[3], 16)):
            address = socket.inet_ntoa(struct.pack("=L", int(fields[2], 16)))
            gateway = Gateway(fields[0], address, neighbours.get((fields[0], address), ""))
            found.append((4, int(fields[6]), gateway))
    for fields in _table("ipv6_route"):
        if len(fields) >= 10 and fields[0] == "0" * 32 and fields[1] == "00" and _leads(int(fields[8], 16)):
            address = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(fields[4]))
            found.append((6, int(fields[5], 16), Gateway(fields[9], address)))
    found.sort(key=lambda one: (*one[:2], one[2].interface, one[2].address))
    return [gateway for *_, gateway in found if gateway.interface != "lo" and _is_running(gateway.interface)]


def _leads(flags: int) -> bool:
    return bool(flags & UP) and not flags & REJECT


def _is_running(interface: str) -> bool:
    """Whether packets can leave there; True where the system does not say."""
    import fcntl  # noqa: PLC0415  (not everywhere)

    asked = struct.pack("16sH14x", interface.encode()[:15], 0)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            flags = struct.unpack_from("16sH", fcntl.ioctl(sock.fileno(), GET_FLAGS, asked))[1]
    except OSError:
        return True
    return bool(flags & RUNNING)


def _table(name: str) -> list[list[str]]:
    """The rows of a table of the kernel's, without its heading."""
    try:
        lines = (PROC / name).read_text("ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno in EXHAUSTED:
            raise
        return []
    return [line.split() for line in (lines if name == "ipv6_route" else lines[1:])]


def _drift() -> float:
    """Seconds by which a clock that counts sleep is ahead of one that does not."""
    counting, waking = CLOCKS
    if counting is None or waking is None or os.name != "posix":
        return 0.0
    return time.clock_gettime(counting) - time.clock_gettime(waking)
