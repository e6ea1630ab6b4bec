"""Where one account may connect to: a list that narrows what the bridge permits, and never widens it.

A rule is one of the bridge's own (:mod:`ptproxy.proxy.policy`), judged on the address
really dialled, or a name, judged on what the client asked for::

    93.184.216.0/24    *:443    [2606:2800::/32]:80-443        addresses
    example.org        *.example.org:443                       a name; a name and all below it

A target that a name allows is still dialled under the bridge's rules: whoever owns
a name can make it mean any address, which the bridge then judges as ever.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ptproxy.addresses import IP, carried
from ptproxy.config.quantities import is_ip, parse_host
from ptproxy.errors import Reason
from ptproxy.proxy.egress import EgressDialer
from ptproxy.proxy.policy import EgressPolicy, Rule, RuleError, parse_ports


@dataclass(frozen=True, slots=True)
class NameRule:
    """A host name, or with ``below`` all names below one as well, with a range of ports."""

    name: str
    below: bool
    first_port: int = 0
    last_port: int = 65535

    def matches(self, host: str, port: int) -> bool:
        """Whether a host as a client wrote it, and a port, fall under this rule."""
        host = host.lower().removesuffix(".")
        named = host == self.name or (self.below and host.endswith("." + self.name))
        return named and self.first_port <= port <= self.last_port

    @classmethod
    def parse(cls, text: str) -> NameRule:
        """Read a name rule; raises :class:`~ptproxy.proxy.policy.RuleError`."""
        name, colon, ports = text.strip().partition(":")
        below = name.startswith("*.")
        try:
            host = parse_host(name.removeprefix("*."))
        except ValueError:
            host = ""
        if not host or is_ip(host) or "*" in host:
            raise RuleError(
                f"{text!r} is no rule: write an address, a network or a name, as in 10.0.0.0/8, *:443, "
                "example.org or *.example.org:443"
            )
        first, last = parse_ports(ports) if colon else (0, 65535)
        return cls(host, below, first, last)


class AccountTargets:
    """The rules of one account; without a rule nothing is allowed."""

    __slots__ = ("_addresses", "_names")

    def __init__(self, texts: Iterable[str]) -> None:
        """Read them; raises :class:`~ptproxy.proxy.policy.RuleError`."""
        self._addresses: list[Rule] = []
        self._names: list[NameRule] = []
        for text in texts:
            try:
                self._addresses.append(Rule.parse(text))
            except RuleError:
                if "/" in text or text.startswith("["):
                    raise
                self._names.append(NameRule.parse(text))

    def allows_name(self, host: str, port: int) -> bool:
        """Whether a name is allowed, whatever its addresses."""
        return any(rule.matches(host, port) for rule in self._names)

    def allows(self, ip: IP, port: int) -> bool:
        """Whether an address is: as itself, or by every IPv4 address that it carries."""
        inner = carried(ip)
        return self._matches(ip, port) or (bool(inner) and all(self._matches(each, port) for each in inner))

    def _matches(self, ip: IP, port: int) -> bool:
        version, number = ip.version, int(ip)
        return any(rule.matches(version, number, port) for rule in self._addresses)


class NarrowedPolicy(EgressPolicy):
    """A bridge's policy, and an account's rules besides."""

    __slots__ = ("_policy", "_targets")

    def __init__(self, policy: EgressPolicy, targets: AccountTargets) -> None:
        super().__init__()
        self._policy = policy
        self._targets = targets

    def decide(self, ip: IP, port: int) -> Reason | None:
        """As :meth:`EgressPolicy.decide`: both must permit it."""
        refusal = self._policy.decide(ip, port)
        if refusal is None and not self._targets.allows(ip, port):
            return Reason.NOT_PERMITTED
        return refusal


class NarrowedDialer(EgressDialer):
    """A bridge's dialer for one account: the same counters and limits, fewer targets."""

    def __init__(self, dialer: EgressDialer, targets: AccountTargets) -> None:
        vars(self).update(vars(dialer))
        self.policy = NarrowedPolicy(dialer.policy, targets)
        self._whole = dialer
        self._targets = targets

    async def addresses(self, host: str, port: int) -> list[IP]:
        """As :meth:`EgressDialer.addresses`; a name that is allowed is so with all its addresses."""
        if self._targets.allows_name(host, port):
            return await self._whole.addresses(host, port)
        return await super().addresses(host, port)
