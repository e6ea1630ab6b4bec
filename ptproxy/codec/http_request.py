"""A browser's fetch() in HTTP/1.1: the heads of the http codec's requests, header by header.

Order and case are those of the browser of ``settings.appearance``; without one
Chromium's, for ``fetch(path)`` and ``fetch(path, {method: "POST", body: bytes})``
of a page of the same site::

    GET path HTTP/1.1                         POST path HTTP/1.1
    Host, Connection: keep-alive              Host, Connection: keep-alive, Content-Length
    sec-ch-ua-platform                        sec-ch-ua-platform
    User-Agent, sec-ch-ua                     User-Agent, sec-ch-ua, Content-Type
    sec-ch-ua-mobile, Accept                  sec-ch-ua-mobile, Accept, Origin
    Sec-Fetch-Site, -Mode, -Dest, Referer     Sec-Fetch-Site, -Mode, -Dest, Referer
    Accept-Encoding, Accept-Language, Cookie  Accept-Encoding, Accept-Language, Cookie

Everything but Content-Length and Cookie is constant, so a head is two
replacements in a template.
"""

from __future__ import annotations

import re
import sys

from ptproxy.codec.cookie import session_cookie_name
from ptproxy.codec.head import HttpHead
from ptproxy.codec.http1_fields import request_head
from ptproxy.codec.interface import Appearance, CodecSettings
from ptproxy.codec.profile import CHROMIUM, Profile

PLATFORMS = {"win32": "Windows", "darwin": "macOS", "android": "Android"}
"""The value of ``sec-ch-ua-platform`` by :data:`sys.platform`; others are Linux."""
_GREASE = " (:-./);=?_"
_GREASE_VERSIONS = ("8", "99", "24")
_BRAND_ORDERS = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))


def brand_list(major: int) -> str:
    """The value of ``sec-ch-ua``: Chromium's own rule (user_agent_utils.cc) of order and GREASE a version."""
    size = len(_GREASE)
    grease = f"Not{_GREASE[major % size]}A{_GREASE[(major + 1) % size]}Brand"
    brands = [""] * 3
    order = _BRAND_ORDERS[major % 6]
    brands[order[0]] = f'"{grease}";v="{_GREASE_VERSIONS[major % 3]}"'
    brands[order[1]] = f'"Chromium";v="{major}"'
    brands[order[2]] = f'"Google Chrome";v="{major}"'
    return ", ".join(brands)


class RequestHeads:
    """Heads of one carrier's requests as bytes."""

    __slots__ = ("_get", "_post")

    def __init__(self, settings: CodecSettings, profile: Profile = CHROMIUM, platform: str = sys.platform):
        if settings.appearance is not None:
            self._get, self._post = _templates(settings, settings.appearance)
            return
        agent = profile.user_agent_for(platform)
        version = re.search(r"Chrome/([0-9]+)", agent)
        major = int(version[1]) if version else 0
        origin = f"https://{settings.host}"
        referer = f"{origin}/"
        start = [("Host", settings.host), ("Connection", "keep-alive")]
        hints = [("sec-ch-ua-platform", f'"{PLATFORMS.get(platform, "Linux")}"'), ("User-Agent", agent)]
        hints.append(("sec-ch-ua", brand_list(major)))
        accept = [("sec-ch-ua-mobile", "?1" if platform == "android" else "?0"), ("Accept", "*/*")]
        tail = [
            ("Sec-Fetch-Site", "same-origin"),
            ("Sec-Fetch-Mode", "cors"),
            ("Sec-Fetch-Dest", "empty"),
            ("Referer", referer),
            ("Accept-Encoding", profile.accept_encoding),
            ("Accept-Language", profile.accept_language),
            ("Cookie", "\x01"),
        ]
        body = [("Content-Type", "application/octet-stream")]
        get = HttpHead([*start, *hints, *accept, *tail], "GET", settings.path)
        post = HttpHead(
            [*start, ("Content-Length", "\x02"), *hints, *body, *accept, ("Origin", origin), *tail],
            "POST",
            settings.path,
        )
        self._get = _template(get)
        self._post = _template(post)

    def get(self, cookie: bytes) -> bytes:
        """The head of a GET with this Cookie header value."""
        return self._get % cookie

    def post(self, length: int, cookie: bytes) -> bytes:
        """The head of a POST with a body of ``length`` bytes."""
        return self._post % (length, cookie)


def _templates(settings: CodecSettings, look: Appearance) -> tuple[bytes, bytes]:
    """Templates of a GET and a POST as the browser's data has them; the site's cookies before ours."""
    origin = f"https://{settings.host}"
    variables = {"host": settings.host, "path": settings.path, "referer": f"{origin}/"}
    crumbs = (*look.memory.crumbs(settings.path, session_cookie_name(settings)), "\x01")
    get = look.browser.fields("fetch", variables, crumbs)
    variables |= {"length": "\x02", "content_type": "application/octet-stream", "origin": origin}
    post = look.browser.fields("post", variables, crumbs)
    return (
        _template(request_head(look.browser.name, get)),
        _template(request_head(look.browser.name, post)),
    )


def _template(head: HttpHead) -> bytes:
    text = head.serialize().replace(b"%", b"%%")
    return text.replace(b"\x01", b"%b").replace(b"\x02", b"%d")
