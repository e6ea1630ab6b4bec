"""The proxy of the user's own network through which a client's connections must leave, as a URL names it.

    socks5://USER:PASSWORD@HOST:PORT    socks4a://USER@HOST:PORT    http://USER:PASSWORD@HOST:PORT

Name and password are optional and percent-encoded (RFC 3986 section 2.1).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Literal, cast
from urllib.parse import unquote_to_bytes, urlsplit

SCHEMES: Final = ("socks5", "socks4a", "http")
MAX_CREDENTIAL: Final = 255
"""Bytes of a name or password (RFC 1929 section 2)."""

_BROKEN = re.compile(r"%(?![0-9A-Fa-f]{2})")

Scheme = Literal["socks5", "socks4a", "http"]


@dataclass(frozen=True, slots=True)
class UpstreamProxy:
    """One such proxy; name and password are ``""`` where none is needed."""

    scheme: Scheme
    host: str
    port: int
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @classmethod
    def parse(cls, url: str) -> UpstreamProxy:
        """Raises :class:`ValueError`, whose text never holds the URL: there may be a password in it."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise ValueError("not a URL as in socks5://127.0.0.1:1080") from None
        if parts.scheme not in SCHEMES:
            raise ValueError(f"the scheme is not one of {', '.join(SCHEMES)}")
        if not host or not port:
            raise ValueError("it needs a host and a port, as in socks5://127.0.0.1:1080")
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ValueError("something stands behind the port")
        if parts.scheme == "socks5" and (parts.username is None) != (parts.password is None):
            raise ValueError("SOCKS5 needs a name and a password, or neither")
        if parts.scheme == "socks4a" and parts.password:
            raise ValueError("SOCKS4a knows a name, but no password")
        scheme = cast("Scheme", parts.scheme)
        return cls(scheme, host, port, _credential(parts.username), _credential(parts.password))

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return self.host, self.port


def _credential(encoded: str | None) -> str:
    if not encoded:
        return ""
    try:
        text = "" if _BROKEN.search(encoded) else unquote_to_bytes(encoded).decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    if not text or len(text.encode()) > MAX_CREDENTIAL or not text.isprintable():
        raise ValueError("its name or password is wrongly encoded or too long")
    return text
