"""Who may ask the page for what; without I/O. The rules and their reasons are in the package's docstring."""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import dataclass, field
from typing import Final

from ptproxy.front.http_head import Fields, RequestHead
from ptproxy.proxy.page.request import Refused

COOKIE: Final = "ptproxy"
MAX_FORM: Final = 64 << 10
"""Bytes of a form without a picture: links have some hundred, an invite a few thousand."""
MAX_PICTURE: Final = 16 << 20
"""Bytes of a form with a picture: a photograph's, as ``ptproxy init client`` reads."""
SECRET: Final = 32
"""Bytes of each secret."""

_TARGET = re.compile(r"/([A-Za-z0-9_-]{43})(?:/([a-z.]{0,20}))?(?:\?([A-Za-z0-9_=&%.+-]{0,200}))?")
_SITES: Final[tuple[list[bytes], ...]] = ([], [b"same-origin"], [b"none"])
"""Sec-Fetch-Site of the page's own requests and of a person's; older browsers send none."""


def _draw() -> str:
    return secrets.token_urlsafe(SECRET)


@dataclass(frozen=True, slots=True)
class Keys:
    """The secrets of one start; each has 43 characters."""

    door: str = field(default_factory=_draw, repr=False)
    """In the address that a person opens."""
    place: str = field(default_factory=_draw, repr=False)
    """The path below which everything is: that of the cookie."""
    cookie: str = field(default_factory=_draw, repr=False)
    form: str = field(default_factory=_draw, repr=False)
    """In every form."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What an admitted request asks for."""

    method: str
    """``GET`` (HEAD too) or ``POST``."""
    path: str
    """Below the place; ``""`` is the page itself."""
    query: str
    is_door: bool = False


class Guard:
    """Admits requests, or refuses them."""

    def __init__(self, authority: str, keys: Keys) -> None:
        """``authority`` is what is listened on, as in a URL: ``127.0.0.1:8080``."""
        self.keys = keys
        self._host = authority.encode("ascii")
        self._origin = b"http://" + self._host

    def admit(self, head: RequestHead) -> Asked:
        """What it asks for; raises :class:`~ptproxy.proxy.page.request.Refused`."""
        fields = head.fields
        if fields.values_of(b"host") != [self._host]:
            raise Refused(421, "not this address")
        if head.method not in (b"GET", b"HEAD", b"POST"):
            raise Refused(405, "not this method")
        match = _TARGET.fullmatch(head.target.decode("latin-1"))
        if match is None:
            raise Refused(404, "nothing is there")
        first, path, query = match[1], match[2], match[3] or ""
        is_door = hmac.compare_digest(first, self.keys.door)
        is_place = hmac.compare_digest(first, self.keys.place)
        known = hmac.compare_digest(_cookie_of(fields), self.keys.cookie)
        method = "POST" if head.method == b"POST" else "GET"
        if is_door and path is None and method == "GET":
            return Asked(method, "", query, is_door=True)
        if not is_place or not known or path is None:
            raise Refused(403, "not without the page's address")
        self._check_origin(fields, method)
        return Asked(method, path, query)

    def body_of(self, head: RequestHead) -> int:
        """Admit a head; the bytes that its body may have."""
        asked = self.admit(head)
        if asked.method != "POST":
            return 0
        return MAX_PICTURE if asked.path == "link" else MAX_FORM

    def may_post(self, token: str) -> bool:
        """Whether a form's token is the page's."""
        return hmac.compare_digest(token.encode(), self.keys.form.encode())

    def _check_origin(self, fields: Fields, method: str) -> None:
        origins = fields.values_of(b"origin")
        if fields.values_of(b"sec-fetch-site") not in _SITES:
            raise Refused(403, "not from another page")
        if origins != [self._origin] and (method == "POST" or origins):
            raise Refused(403, "not from another page")


def _cookie_of(fields: Fields) -> str:
    """Our cookie, ``""`` where there is none, or more than one."""
    found = [
        value
        for line in fields.values_of(b"cookie")
        for pair in line.decode("latin-1").split(";")
        for name, _, value in [pair.strip(" \t").partition("=")]
        if name == COOKIE
    ]
    return found[0] if len(found) == 1 and found[0].isascii() else ""
