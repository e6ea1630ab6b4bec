"""The cookies of one site, as a browser keeps and sends them (RFC 6265 sections 5.2 to 5.4, and later rules).

Everything goes over TLS to one host, so what matters of a cookie is its name,
path and end. A browser would send all that fits; here what goes into one
request is bounded as well: a site that sets hundreds of kilobytes is refused by
its own server in a browser, and would be the end of every carrier here.
"""

from __future__ import annotations

import email.utils
import re
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import Any, Final

from ptproxy.codec.http2.hpack import Field

MAX_COOKIES: Final = 180
"""Cookies kept of a site (Chromium's kDomainMaxCookies, ``net/cookies/cookie_monster.cc``)."""
PURGED_TO: Final = 150
"""... and how many are left once there are more (kDomainPurgeCookies: 30 go), the longest unused first."""
MAX_COOKIE: Final = 4096
"""Bytes of one cookie's name and value (RFC 6265 section 6.1; more is refused)."""
MAX_ATTRIBUTE: Final = 1024
"""Bytes of an attribute's value; a longer one is as if it were not there (RFC 6265bis section 5.6)."""
MAX_SENT: Final = MAX_COOKIE + 3
"""Bytes of cookies in one request, of those that go first: one of the largest, and with an opening beside it
the line stays below the 8 KiB that servers take."""
MAX_AGE: Final = 400 * 86400.0
"""Seconds that a cookie is kept at most (RFC 6265bis section 5.5, Chromium since 104)."""

_NAME = re.compile(r"[!-:<>-~](?:[ -:<>-~]*[!-:<>-~])?")
_VALUE = re.compile(r"(?:[!-:<-~](?:[ -:<-~]*[!-:<-~])?)?")
_PATH = re.compile(r"/[ -:<-~]*")
_AGE = re.compile(r"-?[0-9]+")


@dataclass(slots=True)
class Cookie:
    """One of them; times are unix time."""

    name: str
    value: str
    path: str
    expires: float | None
    """None: it ends with the browser."""
    created: float
    used: float


class CookieJar:
    """Those of one host, by name and path."""

    __slots__ = ("_cookies", "_now")

    def __init__(self) -> None:
        self._cookies: dict[tuple[str, str], Cookie] = {}
        self._now = 0.0

    def __len__(self) -> int:
        return len(self._cookies)

    def at(self, now: float) -> None:
        """It is now so late; what has expired is gone."""
        self._now = now
        for key, one in list(self._cookies.items()):
            if one.expires is not None and one.expires <= now:
                del self._cookies[key]

    def take(self, fields: Iterable[Field], host: str, path: str) -> None:
        """Keep, replace or forget as an answer's Set-Cookie fields say; ``path`` is what was asked for."""
        for name, value in fields:
            if name == "set-cookie":
                self._take(value, host.lower().partition(":")[0], path.partition("?")[0])
                if len(self._cookies) > MAX_COOKIES:
                    self._purge()

    def _purge(self) -> None:
        used = sorted(self._cookies.items(), key=lambda item: item[1].used)
        for key, _ in used[:-PURGED_TO]:
            del self._cookies[key]

    def _take(self, text: str, host: str, path: str) -> None:
        pair, *rest = text.split(";")
        name, equals, value = (part.strip(" \t") for part in pair.partition("="))
        if not equals or len(name) + len(value) > MAX_COOKIE:
            return
        attributes = _attributes(rest)
        if not (_NAME.fullmatch(name) and _VALUE.fullmatch(value) and _is_permitted(name, attributes, host)):
            return
        prefix = attributes.get("path", "")
        if not _PATH.fullmatch(prefix):
            prefix = path[: path.rfind("/")] or "/"
        expires = _expiry(attributes, self._now)
        if expires is not None and expires <= self._now:
            self._cookies.pop((name, prefix), None)
            return
        old = self._cookies.get((name, prefix))
        created = self._now if old is None else old.created
        self._cookies[name, prefix] = Cookie(name, value, prefix, expires, created, self._now)

    def crumbs(self, path: str, without: Iterable[str] = ()) -> tuple[str, ...]:
        """``name=value`` of those for a request, the longest path first and then the oldest, up to
        :data:`MAX_SENT`; none of a name in ``without``."""
        path = path.partition("?")[0]
        fitting = [
            one for one in self._cookies.values() if _is_below(path, one.path) and one.name not in without
        ]
        fitting.sort(key=lambda one: (-len(one.path), one.created))
        sent: list[str] = []
        room = MAX_SENT
        for one in fitting:
            room -= len(one.name) + len(one.value) + len("=; ")
            if room < 0:
                break
            one.used = self._now
            sent.append(f"{one.name}={one.value}")
        return tuple(sent)

    def dump(self) -> list[list[Any]]:
        """What outlives the browser, in JSON's types."""
        return [list(astuple(one)) for one in self._cookies.values() if one.expires is not None]

    @classmethod
    def load(cls, data: Iterable[Iterable[Any]]) -> CookieJar:
        """What :meth:`dump` gave; anything else raises TypeError or ValueError."""
        jar = cls()
        for values in data:
            one = Cookie(*values)
            times = (one.expires, one.created, one.used)
            texts = _NAME.fullmatch(one.name) and _VALUE.fullmatch(one.value) and _PATH.fullmatch(one.path)
            size = len(one.name) + len(one.value)
            if not texts or size > MAX_COOKIE or not all(isinstance(time, int | float) for time in times):
                raise ValueError("a cookie that no site set")
            jar._cookies[one.name, one.path] = one
        if len(jar) > MAX_COOKIES:
            raise ValueError("more cookies than are kept")
        return jar


def _attributes(parts: Iterable[str]) -> dict[str, str]:
    """By name in lower case; of one that is said twice the last counts."""
    found: dict[str, str] = {}
    for part in parts:
        name, _, value = part.partition("=")
        if len(value.strip()) <= MAX_ATTRIBUTE:
            found[name.strip().lower()] = value.strip()
    return found


def _is_permitted(name: str, attributes: dict[str, str], host: str) -> bool:
    """Whether a browser takes it: its domain, and what its name or attributes promise."""
    domain = attributes.get("domain", "").lower().removeprefix(".")
    if domain and host != domain and not host.endswith(f".{domain}"):
        return False
    secure, lower = "secure" in attributes, name.lower()
    if lower.startswith("__host-") and (domain or attributes.get("path") != "/"):
        return False
    promised = lower.startswith(("__secure-", "__host-")) or "partitioned" in attributes
    return secure or not (promised or attributes.get("samesite", "").lower() == "none")


def _expiry(attributes: dict[str, str], now: float) -> float | None:
    """When it ends, in unix time; None: with the browser. Max-Age goes before Expires."""
    age = attributes.get("max-age", "")
    if _AGE.fullmatch(age):
        seconds = float(age) if len(age) < 16 else (-1.0 if age.startswith("-") else MAX_AGE)
        return now + min(seconds, MAX_AGE)
    end = unix_time(attributes.get("expires", ""))
    return None if end is None else min(end, now + MAX_AGE)


def _is_below(path: str, prefix: str) -> bool:
    """Path-match (RFC 6265 section 5.1.4)."""
    return path == prefix or path.startswith(prefix if prefix.endswith("/") else prefix + "/")


def unix_time(text: str) -> float | None:
    """A date (RFC 9110 section 5.6.7, or with hyphens as in old cookies), None for anything else."""
    try:
        return email.utils.parsedate_to_datetime(text[:64]).timestamp()
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
