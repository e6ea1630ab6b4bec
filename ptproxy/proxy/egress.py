"""Connections from the bridge to the world: names resolved, addresses judged, families raced.

:class:`EgressDialer` is a :class:`~ptproxy.tunnel.stream.Dialer` that dials
from here, under an :class:`~ptproxy.proxy.policy.EgressPolicy`. A name is
resolved once and each of its addresses is judged as it is about to be dialled,
so nothing can be swapped in between.

A name with several addresses is dialled as RFC 8305 ("happy eyeballs") says:
families in turn, the next address as soon as one fails or after 250 ms, the
first connection wins. If none does, the reason told is the most telling one.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Sequence
from typing import Final, cast

from ptproxy.addresses import IP, plain
from ptproxy.errors import DialError, Reason
from ptproxy.proxy.egress_udp import EgressAssociation
from ptproxy.proxy.policy import EgressPolicy
from ptproxy.proxy.resolve import Resolver
from ptproxy.target import Target, is_reserved, literal
from ptproxy.tunnel.stream import Association, DatagramReceiver, Stream
from ptproxy.tunnel.tcp import connect_tcp, reason_of

CONNECT_TIMEOUT: Final = 10.0
"""Seconds a dial may take, its name's look-up included."""
ATTEMPT_DELAY: Final = 0.25
"""Seconds before the next address is tried beside one that has not answered (RFC 8305 section 5)."""
MAX_ATTEMPTS: Final = 8
"""Addresses of one name that are dialled."""
MAX_DIALS: Final = 2048
"""Dials at once in the whole bridge, those that are being given up included: each holds a descriptor that
no client has credit for yet. Clients share fewer, fairly (:mod:`ptproxy.proxy.bridge_exit`)."""
MAX_ASSOCIATIONS: Final = 2048
"""UDP associations at once in the whole bridge, likewise: two descriptors each."""

_OUT_OF_SOCKETS: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

_TELLING: Final = (
    Reason.REFUSED,
    Reason.NOT_PERMITTED,
    Reason.LIMIT,
    Reason.TIMED_OUT,
    Reason.HOST_UNREACHABLE,
    Reason.NETWORK_UNREACHABLE,
)
"""Reasons from the most telling to the least: that somebody answered says more than that nobody did."""


class EgressDialer:
    """Dials TCP and UDP from the bridge."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        policy: EgressPolicy,
        resolver: Resolver | None = None,
        *,
        ipv6: bool = True,
        timeout: float = CONNECT_TIMEOUT,
        own_name: str = "",
        most_dials: int = MAX_DIALS,
        most_associations: int = MAX_ASSOCIATIONS,
    ) -> None:
        """``own_name`` is the host that the bridge's clients dial: it is refused unresolved.

        Behind a CDN its addresses are not the bridge's own and belong to many other sites.
        """
        self.policy = policy
        self.resolver = resolver if resolver is not None else Resolver(loop)
        self.associations: set[EgressAssociation] = set()
        self._loop = loop
        self._ipv6 = ipv6
        self._timeout = timeout
        self._dialling: set[asyncio.Protocol] = set()
        self._own_name = own_name.lower().rstrip(".")
        self._most_dials = most_dials
        self._most_associations = most_associations

    @property
    def dials(self) -> int:
        """Dials under way."""
        return len(self._dialling)

    def change(self, policy: EgressPolicy, *, ipv6: bool, timeout: float) -> None:
        """Other rules from now on; what is open, or being dialled, goes on."""
        self.policy = policy
        self._ipv6 = ipv6
        self._timeout = timeout

    async def dial(self, target: Target, protocol: asyncio.Protocol, first_data: bytes = b"") -> Stream:
        """Connect by TCP; see :class:`~ptproxy.tunnel.stream.Dialer`.

        Raises :class:`~ptproxy.errors.DialError`; after that, or a cancel, nothing is left open.
        """
        if target.kind != "address":
            raise DialError(Reason.UNSUPPORTED)
        if self.dials >= self._most_dials:
            raise DialError(Reason.LIMIT, "too many dials at once")
        self._dialling.add(protocol)
        try:
            ip, port = target.ip, target.port
            if ip is not None:
                transport = await self._connect(self._permitted(ip, port), port, protocol, self._timeout)
            else:
                until = self._loop.time() + self._timeout
                addresses = await self.addresses(target.host, port)
                transport = await self._race(addresses, port, protocol, until - self._loop.time())
        finally:
            self._dialling.discard(protocol)
        if first_data:
            transport.write(first_data)
        return transport

    async def associate(self, receiver: DatagramReceiver) -> Association:
        """Open a UDP association, whose datagrams are judged one by one; raises DialError."""
        if len(self.associations) >= self._most_associations:
            raise DialError(Reason.LIMIT, "too many UDP associations")
        association = EgressAssociation(
            self._loop, receiver, self._permitted, self.addresses, self.associations.discard
        )
        self.associations.add(association)
        try:
            await association.open(ipv6=self._ipv6)
        except OSError as error:
            association.close()
            raise DialError(_reason(error)) from error
        except BaseException:
            association.close()
            raise
        return association

    async def close(self) -> None:
        """End the associations; whoever dials ends by itself."""
        for association in list(self.associations):
            association.lose(DialError(Reason.SHUTDOWN))
        self.resolver.close()
        await asyncio.sleep(0)

    async def addresses(self, host: str, port: int) -> list[IP]:
        """The addresses of a name or literal that may be dialled, best first, families in turn.

        Raises DialError where there is none.
        """
        ip = literal(host)
        if ip is not None:
            return [self._permitted(ip, port)]
        if is_reserved(host):
            raise DialError(Reason.UNSUPPORTED, "a name of the bridge's services")
        if host.lower() == self._own_name:
            raise DialError(Reason.NOT_PERMITTED, "the bridge itself")
        found = [plain(ip) for ip in await self.resolver.resolve(host)]
        usable = [ip for ip in found if ip.version == 4 or self._ipv6]
        if not usable:
            raise DialError(Reason.NETWORK_UNREACHABLE, "only IPv6 addresses, and egress.ipv6 is off")
        permitted = [ip for ip in usable if self.policy.decide(ip, port) is None]
        if not permitted:
            raise DialError(Reason.NOT_PERMITTED)
        return interleave(permitted)[:MAX_ATTEMPTS]

    def _permitted(self, ip: IP, port: int) -> IP:
        """``ip`` as it will be dialled; raises DialError where it must not be."""
        ip = plain(ip)
        if ip.version == 6 and not self._ipv6:
            raise DialError(Reason.NETWORK_UNREACHABLE, "egress.ipv6 is off")
        refusal = self.policy.decide(ip, port)
        if refusal is not None:
            raise DialError(refusal)
        return ip

    async def _connect(self, ip: IP, port: int, protocol: asyncio.Protocol, timeout: float) -> Stream:  # noqa: ASYNC109  (told as a DialError)
        """Dial one judged address."""
        try:
            return await connect_tcp(self._loop, protocol, str(ip), port, timeout)
        except OSError as error:
            raise DialError(_reason(error)) from error
        except DialError as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and cause.errno in _OUT_OF_SOCKETS:
                raise DialError(Reason.LIMIT, "the bridge is out of sockets") from cause
            raise

    async def _race(
        self,
        addresses: Sequence[IP],
        port: int,
        protocol: asyncio.Protocol,
        timeout: float,  # noqa: ASYNC109  (told as a DialError)
    ) -> Stream:
        """Dial judged addresses until one answers."""
        if len(addresses) == 1:
            return await self._connect(addresses[0], port, protocol, timeout)
        race = _Race(self._loop, protocol)
        running: set[asyncio.Task[Stream]] = set()
        failures: list[Reason] = []
        waiting = list(addresses)
        try:
            async with asyncio.timeout(timeout):
                while waiting or running:
                    if waiting:
                        runner = _Runner(race)
                        attempt = self._connect(waiting.pop(0), port, runner, timeout)
                        runner.task = self._loop.create_task(attempt)
                        running.add(runner.task)
                    delay = ATTEMPT_DELAY if waiting else None
                    done, running = await asyncio.wait(
                        running, timeout=delay, return_when=asyncio.FIRST_COMPLETED
                    )
                    if race.first is not None:  # its task has a turn to go at most
                        await asyncio.wait({race.first.task})
                        running.discard(race.first.task)
                        done = {race.first.task}
                    failures += [reason for task in done if (reason := _outcome(task)) is not None]
                    if race.first is not None:
                        if _outcome(race.first.task) is None:
                            return race.take()
                        break
        except TimeoutError:
            failures.append(Reason.TIMED_OUT)
        finally:
            race.over = True
            for task in running:
                task.cancel()
            if running:
                await asyncio.gather(*running, return_exceptions=True)
            race.drop_untaken()
        raise DialError(most_telling(failures))


class _Race:
    """Several connects for one protocol: the first to be connected gets it."""

    __slots__ = ("first", "loop", "over", "protocol", "taken", "winner")

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: asyncio.Protocol) -> None:
        self.loop = loop
        self.protocol = protocol
        self.first: _Runner | None = None
        self.winner: asyncio.Transport | None = None
        self.over = False
        self.taken = False

    def take(self) -> asyncio.Transport:
        """The connection that won."""
        assert self.winner is not None
        self.taken = True
        return self.winner

    def drop_untaken(self) -> None:
        """Close a connection that won as its dial was given up."""
        if self.winner is not None and not self.taken:
            self.winner.abort()


class _Runner(asyncio.Protocol):
    """Stands on a connection for as long as it takes to see whether it has won."""

    __slots__ = ("_race", "task")

    task: asyncio.Task[Stream]

    def __init__(self, race: _Race) -> None:
        self._race = race

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Before anything can be read: the first one becomes the protocol's, later ones are closed."""
        race = self._race
        connected = cast("asyncio.Transport", transport)
        if race.winner is not None or race.over:
            # Not at once: aiofastnet 1.2 would go on watching the descriptor, which may be another's by then.
            race.loop.call_soon(connected.abort)
            return
        race.first = self
        race.winner = connected
        race.winner.set_protocol(race.protocol)
        race.protocol.connection_made(transport)


def interleave(addresses: Sequence[IP]) -> list[IP]:
    """Families in turn, beginning with the first address's (RFC 8305 section 4)."""
    if not addresses:
        return []
    first = addresses[0].version
    queues: tuple[list[IP], list[IP]] = (
        [ip for ip in addresses if ip.version == first],
        [ip for ip in addresses if ip.version != first],
    )
    longest = max(map(len, queues))
    return [queue[index] for index in range(longest) for queue in queues if index < len(queue)]


def most_telling(reasons: Sequence[Reason]) -> Reason:
    """The reason that says most about why several addresses failed."""
    for reason in _TELLING:
        if reason in reasons:
            return reason
    return reasons[0] if reasons else Reason.GENERAL


def _outcome(task: asyncio.Task[Stream]) -> Reason | None:
    """Why an attempt failed, None if it did not."""
    if task.cancelled():
        return Reason.TIMED_OUT
    error = task.exception()
    if error is None:
        return None
    return error.reason if isinstance(error, DialError) else reason_of(error)


def _reason(error: OSError) -> Reason:
    """The reason for a socket that could not even be made."""
    return Reason.LIMIT if error.errno in _OUT_OF_SOCKETS else reason_of(error)
