"""Where a stream is to go: a host and port, a service of the bridge, or a UDP association.

Wire form (``session`` carries it unread)::

    kind u8 │ …
    0x01    IPv4: 4 bytes, port u16
    0x03    name: length u8, that many bytes of ASCII (IDNA), port u16
    0x04    IPv6: 16 bytes, port u16
    0x05    service: length u8, that many bytes of ASCII
    0x06    a UDP association (nothing follows; each datagram names its own peer)

A program that can only name hosts names a service ``NAME.ptproxy.internal``
(:attr:`Target.service_name`); nothing below that name is ever looked up.

The address kinds are SOCKS5's (RFC 1928 section 5), so a request's address
and a datagram's address are the same bytes.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from ptproxy.errors import RemoteProtocolError

MAX_NAME: Final = 253
"""Longest host name in characters (RFC 1035 section 2.3.4, without the final dot)."""

SERVICE_DOMAIN: Final = "ptproxy.internal"
"""Reserved for the bridge's services; the public root will never have the top level ``internal``."""

_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_SERVICE = re.compile(r"[a-z][a-z0-9-]{0,62}")


class TargetError(RemoteProtocolError):
    """Bytes or text that name no target."""


@dataclass(frozen=True, slots=True)
class Target:
    """A TCP destination, ``host`` being an IPv4 or IPv6 literal or a name.

    ``Target.service(name)`` and ``Target.datagrams()`` make the two other kinds;
    they have port 0 and a ``kind`` of ``"service"`` or ``"datagrams"``.
    """

    host: str
    port: int
    kind: str = "address"

    @classmethod
    def address(cls, host: str, port: int) -> Target:
        """A checked address; names are brought to ASCII (IDNA) and lower case.

        Raises :class:`TargetError` for a host or port that cannot exist.
        """
        if not 0 < port < 65536:
            raise TargetError(f"port {port} is not between 1 and 65535")
        return cls(_host(host), port)

    @classmethod
    def service(cls, name: str) -> Target:
        """A service of the bridge itself, by name."""
        if not _SERVICE.fullmatch(name):
            raise TargetError("a service name is a-z, 0-9 and -, starting with a letter")
        return cls(name, 0, "service")

    @classmethod
    def datagrams(cls) -> Target:
        """A UDP association."""
        return cls("", 0, "datagrams")

    @classmethod
    def parse_text(cls, text: str) -> Target:
        """``host:port`` or ``[ipv6]:port``; raises :class:`TargetError`."""
        host, colon, port = text.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise TargetError("an IPv6 address goes in brackets: [::1]:443")
        if not colon or not port.isascii() or not port.isdigit() or len(port) > 5:
            raise TargetError("expected HOST:PORT")
        return cls.address(host, int(port))

    def __str__(self) -> str:
        if self.kind != "address":
            return f"{self.kind}:{self.host}" if self.host else self.kind
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def ip(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """The address where ``host`` is a literal, else None."""
        return literal(self.host)

    @property
    def service_name(self) -> str | None:
        """The service that this asks for, by kind or by reserved host; "" for none that could be; or None."""
        if self.kind == "service":
            return self.host
        if self.kind != "address" or not is_reserved(self.host):
            return None
        name = self.host.lower()[: -len(SERVICE_DOMAIN) - 1]
        return name if _SERVICE.fullmatch(name) else ""

    def serialize(self) -> bytes:
        """The wire form above."""
        if self.kind == "datagrams":
            return b"\x06"
        if self.kind == "service":
            name = self.host.encode("ascii")
            return bytes((5, len(name))) + name
        port = self.port.to_bytes(2, "big")
        ip = self.ip
        if ip is None:
            name = self.host.encode("ascii")
            return bytes((3, len(name))) + name + port
        return (b"\x01" if ip.version == 4 else b"\x04") + ip.packed + port

    @classmethod
    def parse(cls, data: bytes) -> Target:
        """The target in ``data``, which must hold nothing else; raises :class:`TargetError`."""
        target, used = cls.parse_prefix(data)
        if used != len(data):
            raise TargetError("bytes after the target")
        return target

    @classmethod
    def parse_prefix(cls, data: bytes) -> tuple[Target, int]:
        """The target at the head of ``data`` and its length; raises :class:`TargetError`."""
        kind = data[0] if data else 0
        if kind == 6:
            return cls.datagrams(), 1
        head = {1: 5, 4: 17}.get(kind)
        if kind in (3, 5):
            head = 2 + data[1] if len(data) > 1 else 2
        if head is None:
            raise TargetError("unknown kind of target")
        end = head if kind == 5 else head + 2
        if len(data) < end or head == 2:
            raise TargetError("target cut short")
        port = int.from_bytes(data[head:end], "big")
        if kind in (1, 4):
            if not port:
                raise TargetError("port 0 is not between 1 and 65535")
            return cls(str(ipaddress.ip_address(bytes(data[1:head]))), port), end
        try:
            name = bytes(data[2:head]).decode("ascii")
        except UnicodeDecodeError:
            raise TargetError("a host name in a target is ASCII") from None
        if kind == 5:
            return cls.service(name), end
        return cls.address(name, port), end


def is_reserved(host: str) -> bool:
    """Whether a host name is one of the bridge's own services, never to be looked up."""
    return f".{host.lower().rstrip('.')}".endswith(f".{SERVICE_DOMAIN}")


def literal(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that ``host`` spells, None for a name.

    As ``ipaddress.ip_address``, which tries a name as both families before it gives up: many times
    as long, at each of the places that a name comes by.
    """
    try:
        if ":" in host:
            return ipaddress.IPv6Address(host)
        return ipaddress.IPv4Address(host) if host[-1:].isdigit() else None
    except ValueError:
        return None


def _host(host: str) -> str:
    """``host`` in its one canonical spelling."""
    ip = literal(host)
    if ip is not None:
        if ip.version == 6 and ip.scope_id:
            raise TargetError("an address with a scope id means nothing at the far end")
        return str(ip)
    name = host[:-1] if host.endswith(".") else host
    if not name.isascii():
        try:
            name = name.encode("idna").decode("ascii")
        except UnicodeError:
            raise TargetError("not a host name") from None
    if not 0 < len(name) <= MAX_NAME or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise TargetError("not a host name")
    if name.rsplit(".", 1)[-1].isdigit():
        raise TargetError("neither an IP address nor a host name")
    return name.lower()
