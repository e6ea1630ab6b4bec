"""Where a bridge may connect to: judged on the address really dialled, never on a name.

The first of these that matches decides:

1. ``deny``: rules of the operator;
2. ``allow``: rules of the operator, exceptions to all that follows;
3. the refusals below: whatever is not the public Internet, the cloud
   providers' metadata addresses, and the bridge's own machine;
4. ``ports``: every other port is refused.

A rule is ``ADDRESS``, ``ADDRESS/PREFIX`` or ``*``, each with or without
``:PORT`` or ``:FIRST-LAST``; an IPv6 address with a port goes in brackets::

    10.0.0.0/8    127.0.0.1:8080    127.0.0.0/8:8000-9000    [::1]:80    [fd00::/8]:443    *:25

An IPv6 address that carries an IPv4 address (:mod:`ptproxy.addresses`) is judged
as itself and as every address that it carries: it is no way around a rule.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ptproxy.addresses import IP, carried, is_public, plain, tunnelled
from ptproxy.errors import ConfigError, Reason

MAX_RULES: Final = 1024
"""Rules a list may hold: each costs about 0.1 µs a connection."""


class RuleError(ValueError):
    """A rule or port range that cannot be read; the text says what would be right."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Addresses of one family (``version`` 4 or 6, 0 for both) with a range of ports."""

    version: int
    first: int
    last: int
    first_port: int = 0
    last_port: int = 65535

    def matches(self, version: int, number: int, port: int) -> bool:
        """Whether an address, as a number, and a port fall under this rule."""
        return (
            self.first_port <= port <= self.last_port
            and (self.version == version or not self.version)
            and self.first <= number <= self.last
        )

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Read a rule in the form above; raises :class:`RuleError`."""
        address, ports = _split(text.strip())
        first_port, last_port = parse_ports(ports) if ports is not None else (0, 65535)
        if address == "*":
            return cls(0, 0, (1 << 128) - 1, first_port, last_port)
        try:
            network = ipaddress.ip_network(address)
        except ValueError:
            raise RuleError(_advice(text, address)) from None
        return cls(
            network.version,
            int(network.network_address),
            int(network.broadcast_address),
            first_port,
            last_port,
        )


def parse_ports(text: str) -> tuple[int, int]:
    """``PORT`` or ``FIRST-LAST`` as its two ends; raises :class:`RuleError`."""
    first, dash, last = text.partition("-")
    numbers = [first, last] if dash else [first]
    if not all(part.isascii() and part.isdigit() and len(part) <= 5 for part in numbers):
        raise RuleError(f"{text!r} is no port: write a number from 1 to 65535, or two as in 8000-9000")
    low, high = int(numbers[0]), int(numbers[-1])
    if not 1 <= low <= high <= 65535:
        raise RuleError(f"{text!r} is no range of ports: both ends lie from 1 to 65535, the lower first")
    return low, high


def _split(text: str) -> tuple[str, str | None]:
    """The address part of a rule without its brackets, and its port part if it has one."""
    if text.startswith("["):
        inside, bracket, rest = text[1:].partition("]")
        prefix, colon, ports = rest.partition(":")
        if not bracket or (prefix and not prefix.startswith("/")) or ("/" in inside and prefix):
            raise RuleError(f"{text!r}: write an IPv6 rule as in [fd00::/8]:443")
        return inside + prefix, ports if colon else None
    if text.count(":") > 1:
        return text, None
    address, colon, ports = text.partition(":")
    return address, ports if colon else None


def _advice(text: str, address: str) -> str:
    """What is wrong with a rule whose address part cannot be read."""
    try:
        network = ipaddress.ip_network(address, strict=False)
    except ValueError:
        return (
            f"{text!r} is no rule: write an address, a network or *, as in 10.0.0.0/8, 127.0.0.1:8080 "
            "or [::1]:80 (names are not possible: rules judge the address that is really dialled)"
        )
    return f"{text!r} has bits set behind its prefix: did you mean {network}?"


def parse_rules(field: str, texts: Sequence[str], problems: list[str]) -> tuple[Rule, ...]:
    """Read a list of rules; each one that cannot be read adds a line to ``problems``."""
    rules = []
    if len(texts) > MAX_RULES:
        problems.append(f"{field}: at most {MAX_RULES} rules")
    for index, text in enumerate(texts[:MAX_RULES]):
        try:
            rules.append(Rule.parse(text))
        except RuleError as error:
            problems.append(f"{field}[{index}]: {error}")
    return tuple(rules)


class OwnAddresses:
    """The addresses of the bridge's own machine, which no client reaches through it.

    All its ports, not only the one it listens on: to a firewall a connection
    from the machine to itself looks like loopback whatever its address.
    """

    __slots__ = ("_is_local", "_known")

    def __init__(self, known: Iterable[IP] = (), is_local: Callable[[IP], bool] | None = None) -> None:
        self._known = frozenset(plain(ip) for ip in known)
        self._is_local = is_local

    def __contains__(self, ip: IP) -> bool:
        return ip in self._known or (self._is_local is not None and self._is_local(ip))


def is_local(ip: IP) -> bool:
    """Whether an interface of this machine has ``ip`` now: whether a socket can be bound to it (7 µs)."""
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((str(ip), 0))
    except OSError:
        return False
    return True


def local_test() -> Callable[[IP], bool] | None:
    """:func:`is_local`, or None where the system lets anybody bind any address (ip_nonlocal_bind)."""
    strangers = ("192.0.2.247", "198.51.100.247", "203.0.113.247")
    return None if all(is_local(ipaddress.IPv4Address(text)) for text in strangers) else is_local


class EgressPolicy:
    """Decides on addresses and ports; see the module's text for the order."""

    __slots__ = ("_allow", "_deny", "_own", "_ports")

    def __init__(
        self,
        *,
        allow: Sequence[Rule] = (),
        deny: Sequence[Rule] = (),
        ports: Sequence[tuple[int, int]] = ((1, 65535),),
        own: OwnAddresses | None = None,
    ) -> None:
        self._allow = tuple(allow)
        self._deny = tuple(deny)
        self._ports = tuple(ports)
        self._own = own if own is not None else OwnAddresses()

    @classmethod
    def parse(
        cls,
        *,
        allow: Sequence[str] = (),
        deny: Sequence[str] = (),
        ports: Sequence[str] = ("1-65535",),
        own: OwnAddresses | None = None,
    ) -> EgressPolicy:
        """A policy from a configuration's lists.

        Raises :class:`~ptproxy.errors.ConfigError` with a line for everything that is wrong.
        """
        problems: list[str] = []
        allow_rules = parse_rules("egress.allow", allow, problems)
        deny_rules = parse_rules("egress.deny", deny, problems)
        ranges = []
        for index, text in enumerate(ports):
            try:
                ranges.append(parse_ports(text.strip()))
            except RuleError as error:
                problems.append(f"egress.ports[{index}]: {error}")
        if problems:
            raise ConfigError(problems)
        return cls(allow=allow_rules, deny=deny_rules, ports=ranges, own=own)

    def decide(self, ip: IP, port: int) -> Reason | None:
        """:attr:`Reason.NOT_PERMITTED` for an address that must not be dialled, else None."""
        inner = carried(ip)
        faces = (*inner, *tunnelled(ip))
        if self._deny and any(_matches(self._deny, face, port) for face in (ip, *faces)):
            return Reason.NOT_PERMITTED
        if _matches(self._allow, ip, port):
            return None  # the exception covers whatever the address carries
        judged = [face for face in faces if not _matches(self._allow, face, port)]
        if inner and not judged:
            return None
        if ip in self._own or (not inner and not is_public(ip)):
            return Reason.NOT_PERMITTED
        if any(face in self._own or not is_public(face) for face in judged):
            return Reason.NOT_PERMITTED
        if any(first <= port <= last for first, last in self._ports):
            return None
        return Reason.NOT_PERMITTED


def _matches(rules: tuple[Rule, ...], ip: IP, port: int) -> bool:
    """Whether a rule covers ``ip`` and ``port``."""
    if not rules:
        return False
    version, number = ip.version, int(ip)
    return any(rule.matches(version, number, port) for rule in rules)
