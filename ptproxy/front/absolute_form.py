"""The target of a plain request to a proxy: absolute-form (RFC 9112 section 3.2.2), ``http`` only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ptproxy.errors import FrontError
from ptproxy.target import Target, TargetError

HTTP_PORT: Final = 80

_ABSOLUTE = re.compile(rb"http://([^/?#@]+)([/?][^#]*)?", re.IGNORECASE)
_SCHEME = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://")


class OtherScheme(FrontError):  # noqa: N818  (understood, but not for us)
    """The target has a scheme other than ``http``."""


@dataclass(frozen=True, slots=True)
class AbsoluteForm:
    """``http://authority/path?query`` in its parts."""

    origin: Target
    """The origin server."""
    authority: bytes
    """Host and port as written, for the Host field."""
    origin_form: bytes
    """What the origin server is asked for: path and query, or ``*`` (OPTIONS)."""

    @classmethod
    def parse(cls, target: bytes, method: bytes) -> AbsoluteForm:
        """Read a request's target.

        Raises :class:`OtherScheme`, :class:`~ptproxy.errors.FrontError` for what
        is not in absolute-form, :class:`~ptproxy.target.TargetError` for a host
        or port that cannot exist.
        """
        match = _ABSOLUTE.fullmatch(target)
        if match is None:
            if target[:7].lower() == b"http://":
                raise FrontError("an http:// address with a user name, a fragment or no host")
            if _SCHEME.match(target):
                raise OtherScheme("only http:// can be asked for here, and CONNECT for everything else")
            raise FrontError("this is an HTTP proxy and not a web site")
        authority, rest = match.groups(b"")
        if not rest:
            rest = b"*" if method == b"OPTIONS" else b"/"
        elif rest.startswith(b"?"):
            rest = b"/" + rest
        return cls(_origin(authority.decode("ascii")), authority, rest)


def _origin(authority: str) -> Target:
    """The origin server of ``host[:port]``; raises :class:`TargetError`."""
    host, colon, port = authority.rpartition(":")
    if not colon or authority.endswith("]"):
        host, port = authority, ""
    if port:
        return Target.parse_text(authority)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise TargetError("an IPv6 address goes in brackets")
    return Target.address(host, HTTP_PORT)
