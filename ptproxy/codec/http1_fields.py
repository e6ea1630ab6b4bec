"""The request heads of browsers in HTTP/1.1, made of the header lists that they send over HTTP/2.

A browser has one list of headers for a request; what differs by version is
known (recorded 2026-11: Chromium 156 and Firefox 153 on Debian 12, the same
page over both)::

    HTTP/2                     HTTP/1.1
    :method, :path             the request line
    :authority                 Host, first
    cookie, in crumbs          Cookie, one line
    (none)                     Connection: keep-alive. Chromium: second. Firefox: before Referer,
                               of what a script asks for before Cookie
    priority                   Chromium: none, Firefox: as it is
    te                         none
    names in lower case        Each-Word-Capital; Chromium's client hints stay as they are
"""

from __future__ import annotations

from collections.abc import Sequence

from ptproxy.codec.head import HttpHead
from ptproxy.codec.http2.hpack import Field


def chromium_head(fields: Sequence[Field]) -> HttpHead:
    """Chromium's head for a header list of an HTTP/2 request."""
    pseudo, rest = _split(fields)
    lines = [("Host", pseudo[":authority"]), ("Connection", "keep-alive")]
    lines += [(_title(name), value) for name, value in rest if name != "priority"]
    return HttpHead(lines, pseudo[":method"], pseudo[":path"])


def firefox_head(fields: Sequence[Field]) -> HttpHead:
    """Firefox's head for a header list of an HTTP/2 request."""
    pseudo, rest = _split(fields)
    script = ("sec-fetch-dest", "empty") in rest
    behind = ("cookie", "upgrade-insecure-requests", "sec-fetch-dest") + (() if script else ("referer",))
    at = next((place for place, (name, _) in enumerate(rest) if name in behind), len(rest))
    lines = [("Host", pseudo[":authority"])]
    lines += [(_title(name), value) for name, value in rest[:at]]
    lines.append(("Connection", "keep-alive"))
    lines += [(_title(name), value) for name, value in rest[at:]]
    return HttpHead(lines, pseudo[":method"], pseudo[":path"])


def request_head(browser: str, fields: Sequence[Field]) -> HttpHead:
    """The head as the browser of that name writes it."""
    return firefox_head(fields) if browser == "firefox" else chromium_head(fields)


def _split(fields: Sequence[Field]) -> tuple[dict[str, str], list[Field]]:
    """Pseudo-header fields, and the rest with one cookie."""
    pseudo = {name: value for name, value in fields if name.startswith(":")}
    crumbs = [value for name, value in fields if name == "cookie"]
    rest: list[Field] = []
    for name, value in fields:
        if name == "cookie":
            if crumbs:
                rest.append((name, "; ".join(crumbs)))
                crumbs = []
        elif not name.startswith(":") and name != "te":
            rest.append((name, value))
    return pseudo, rest


def _title(name: str) -> str:
    return name if name.startswith("sec-ch-") else "-".join(part.capitalize() for part in name.split("-"))
