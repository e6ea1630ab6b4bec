"""Sizes, durations and addresses as people write them in a configuration.

Every parser takes what YAML gives (text or a number), returns a plain value and
raises :class:`ValueError` with a text that says what would be right.
"""

from __future__ import annotations

import ipaddress
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

MAX_DURATION: Final = 366 * 86400.0
"""Longest duration in seconds that makes sense anywhere: a year."""
MAX_SIZE: Final = 1 << 50
"""Largest size in bytes: 1 PiB, beyond which a value is a slip of the hand."""
MAX_HOST: Final = 253
"""Longest host name in characters (RFC 1035 section 2.3.4, without the final dot)."""

_SIZE_UNITS: Final = {
    "": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30,
    "kb": 1000, "mb": 1000**2, "gb": 1000**3,
}  # fmt: skip
_TIME_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_QUANTITY = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)\s*([A-Za-z]*)")
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")


def parse_size(value: object) -> int:
    """Bytes from ``"256MiB"``, ``"64 KiB"``, ``"1GB"`` or a plain number of bytes."""
    number, unit = _split(value)
    factor = _SIZE_UNITS.get(unit.lower())
    if number is None or factor is None:
        raise ValueError(f"{_shown(value)} is no size: write a number with a unit, as in 256MiB or 64KiB")
    size = int(number * factor)
    if size > MAX_SIZE:
        raise ValueError(f"{_shown(value)} is more than any machine has: write a size as in 256MiB")
    return size


def parse_duration(value: object) -> float:
    """Seconds from ``"10s"``, ``"500ms"``, ``"5m"``, ``"2h"``, ``"30d"``; ``0`` and ``off`` are 0.0."""
    if value is False or value in (0, "0", "off"):
        return 0.0
    number, unit = _split(value)
    factor = _TIME_UNITS.get(unit)
    if number is None or factor is None:
        raise ValueError(
            f"{_shown(value)} is no duration: write a number with a unit, as in 500ms, 10s, 5m or 2h"
        )
    seconds = number * factor
    if seconds > MAX_DURATION:
        raise ValueError(f"{_shown(value)} is longer than a year: write a duration as in 10s or 5m")
    return seconds


def _split(value: object) -> tuple[float | None, str]:
    """The number and unit of a quantity; None where there is no number."""
    if isinstance(value, bool):
        return None, ""
    if isinstance(value, int | float):
        return (float(value), "") if value >= 0 and math.isfinite(value) else (None, "")
    match = _QUANTITY.fullmatch(value.strip()) if isinstance(value, str) else None
    return (float(match[1]), match[2]) if match else (None, "")


def _shown(value: object) -> str:
    """A value as it goes into a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def parse_host(text: str) -> str:
    """An IP literal or host name in its one canonical spelling (ASCII, lower case)."""
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        pass
    else:
        if ip.version == 6 and ip.scope_id:
            raise ValueError(f"{_shown(text)}: an address with a scope id means nothing elsewhere")
        return str(ip)
    name = text.removesuffix(".")
    if not name.isascii():
        try:
            name = name.encode("idna").decode("ascii")
        except UnicodeError:
            raise ValueError(f"{_shown(text)} is no host name") from None
    name = name.lower()
    if len(name) > MAX_HOST or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise ValueError(f"{_shown(text)} is neither a host name nor an IP address")
    if name.rsplit(".", 1)[-1].isdigit():
        raise ValueError(f"{_shown(text)} is neither an IP address nor a host name")
    return name


def is_ip(host: str) -> bool:
    """Whether a host is an IP literal."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address to listen on or to dial: ``host`` and ``port``, or the ``unix`` socket's path."""

    host: str
    port: int
    unix: Path | None = None

    def __str__(self) -> str:
        if self.unix is not None:
            return f"unix:{self.unix}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it: a Unix socket or loopback."""
        return (
            self.unix is not None
            or self.host == "localhost"
            or (is_ip(self.host) and ipaddress.ip_address(self.host).is_loopback)
        )

    @property
    def literal(self) -> str:
        """``host`` to listen on: what :func:`parse_listen` takes beside IP literals is ``localhost``."""
        return "127.0.0.1" if self.host == "localhost" else self.host


def parse_address(text: object, *, lowest_port: int = 1) -> Endpoint:
    """``HOST:PORT`` or ``[IPV6]:PORT``."""
    if not isinstance(text, str):
        raise ValueError(f"{_shown(text)} is no address: write HOST:PORT, as in 127.0.0.1:1080 or [::1]:1080")
    host, colon, port = text.strip().rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if ":" not in host:
            raise ValueError(f"{_shown(text)}: brackets are for IPv6 addresses")
    elif ":" in host:
        raise ValueError(f"{_shown(text)}: an IPv6 address goes in brackets, as in [::1]:443")
    if not colon or not host:
        raise ValueError(f"{_shown(text)} is no address: write HOST:PORT, as in 127.0.0.1:1080 or [::1]:1080")
    if not port.isascii() or not port.isdigit() or len(port) > 5 or not lowest_port <= int(port) <= 65535:
        raise ValueError(f"{_shown(text)}: the port is a number from {lowest_port} to 65535")
    return Endpoint(parse_host(host), int(port))


def parse_listen(text: object, folder: Path | None = None) -> Endpoint:
    """An address to listen on: ``IP:PORT`` (port 0: any free one) or ``unix:PATH``."""
    if isinstance(text, str) and text.startswith("unix:"):
        path = Path(text.removeprefix("unix:"))
        if path.name == "":
            raise ValueError("'unix:' needs a path, as in unix:/run/ptproxy/bridge.sock")
        return Endpoint("", 0, folder / path if folder is not None else path)
    endpoint = parse_address(text, lowest_port=0)
    if not is_ip(endpoint.host) and endpoint.host != "localhost":
        raise ValueError(
            f"{_shown(text)}: listen takes an IP address, as in 0.0.0.0:443, [::]:443 or 127.0.0.1:8443"
        )
    return endpoint


@dataclass(frozen=True, slots=True)
class SiteUrl:
    """A web site's origin: ``scheme`` is http or https."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.scheme}://{Endpoint(self.host, self.port)}"


def parse_site(value: object) -> str | SiteUrl:
    """``builtin`` or the origin of a web site, as in ``https://127.0.0.1:8443``."""
    advice = "write builtin, or where your web site listens, as in https://127.0.0.1:8443"
    if value == "builtin":
        return "builtin"
    if not isinstance(value, str):
        raise ValueError(f"{_shown(value)} is no web site: {advice}")
    try:
        url = urlsplit(value)
        host, port = url.hostname or "", url.port
    except ValueError:
        raise ValueError(f"{_shown(value)} is no web address: {advice}") from None
    if url.scheme not in ("http", "https") or not host or url.username is not None:
        raise ValueError(f"{_shown(value)} is no web site: {advice}")
    if url.path not in ("", "/") or url.query or url.fragment:
        raise ValueError(f"{_shown(value)}: only the site's root can stand behind a bridge; {advice}")
    if port == 0:
        raise ValueError(f"{_shown(value)}: the port is a number from 1 to 65535")
    return SiteUrl(url.scheme, parse_host(host), port or (80 if url.scheme == "http" else 443))
