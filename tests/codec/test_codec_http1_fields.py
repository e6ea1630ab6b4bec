"""HTTP/1.1 heads made of the HTTP/2 data of a browser, against what the browsers themselves wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_codec_h2_golden import browser

from ptproxy.codec.cookie import session_cookie_name
from ptproxy.codec.http1_fields import request_head
from ptproxy.codec.http_request import RequestHeads
from ptproxy.codec.interface import Appearance, CodecSettings
from ptproxy.codec.page.cache import SiteMemory
from ptproxy.codec.ws_upgrade import opening_in_request, upgrade_request

RECORDED = json.loads((Path(__file__).parent.parent / "vectors" / "h1-heads.json").read_text())


def known(name):
    return browser(name).with_values(system="X11; Linux x86_64")


@pytest.mark.parametrize("name", ["chromium", "firefox"])
@pytest.mark.parametrize("kind", ["navigation", "style", "script", "image", "icon", "fetch", "post"])
def test_heads_are_those_that_were_recorded(name, kind):
    recorded = RECORDED[name][kind]
    lines = dict(line.split(": ", 1) for line in recorded[1:])
    profile = known(name)
    variables = {
        "host": lines["Host"],
        "path": recorded[0].split()[1],
        "referer": lines.get("Referer", ""),
        "origin": f"https://{lines['Host']}",
        "length": lines.get("Content-Length", ""),
        "content_type": "application/octet-stream",
    }
    said = None
    if "Priority" in lines:  # the recorded page is not that of the data: urgency is the loader's business
        said = int(lines["Priority"].split(",")[0].removeprefix("u="))
    head = request_head(name, profile.fields(kind, variables, (), said))
    made = head.serialize().decode().rstrip("\r\n").split("\r\n")
    recorded = [line.replace("content-type:", "Content-Type:") for line in recorded]  # a script's spelling
    assert made == recorded


def test_cookies_are_one_line_before_connection_ends_in_firefox():
    fields = known("firefox").fields(
        "fetch", {"host": "a", "path": "/x", "referer": "https://a/"}, ("b=1", "c=2")
    )
    lines = request_head("firefox", fields).serialize().decode().split("\r\n")
    at = lines.index("Connection: keep-alive")
    assert lines[at + 1] == "Cookie: b=1; c=2"
    assert not any(line.startswith("te:") for line in lines)


def test_the_constants_without_an_appearance_are_the_recorded_browsers():
    """Only the brands may differ: those of a Chrome that people have, and of the build that was recorded."""
    settings = CodecSettings("site.example", "/x")
    memory = SiteMemory()
    look = Appearance(known("chromium"), memory)
    seen = CodecSettings("site.example", "/x", appearance=look)

    def lines(data):
        return [line for line in data.decode().split("\r\n") if not line.startswith("sec-ch-ua: ")]

    plain, recorded = RequestHeads(settings, platform="linux"), RequestHeads(seen)
    assert lines(plain.get(b"a=b")) == lines(recorded.get(b"a=b"))
    assert lines(plain.post(700, b"a=b")) == lines(recorded.post(700, b"a=b"))
    key = "dGhlIHNhbXBsZSBub25jZQ=="
    ours = upgrade_request(settings, b"x" * 80, key).serialize()
    assert ours == upgrade_request(seen, b"x" * 80, key).serialize()


@pytest.mark.parametrize("name", ["chromium", "firefox"])
def test_the_site_s_cookies_go_before_ours(name):
    memory = SiteMemory()
    memory.cookies.take(
        [("set-cookie", "sid=1; path=/"), ("set-cookie", "other=2; path=/elsewhere")], "site.example", "/"
    )
    settings = CodecSettings("site.example", "/x", appearance=Appearance(known(name), memory))
    cookie = upgrade_request(settings, b"x" * 80, "key").get("cookie")
    assert cookie.startswith("sid=1; ")
    assert "other" not in cookie
    head = RequestHeads(settings).get(b"ours=1")
    assert b"\r\nCookie: sid=1; ours=1\r\n" in head


@pytest.mark.parametrize("name", ["chromium", "firefox"])
def test_a_site_s_cookie_of_our_name_does_not_go_before_the_opening(name):
    """A bridge reads the first of a name: else one Set-Cookie of the site's ended every later carrier."""
    plain = CodecSettings("site.example", "/x")
    own = session_cookie_name(plain)
    memory = SiteMemory()
    for crumb in (own, f"{own}.0", f"{own}.1", "kept"):
        memory.cookies.take(
            [("set-cookie", f"{crumb}=abcdefghijklmnopqrstuvwx; path=/")], "site.example", "/"
        )
    settings = CodecSettings("site.example", "/x", appearance=Appearance(known(name), memory))
    key = "dGhlIHNhbXBsZSBub25jZQ=="
    head = upgrade_request(settings, b"x" * 80, key)
    assert opening_in_request(head, "/x", own) == (b"x" * 80, key)
    assert head.get("cookie").startswith("kept=")
    assert RequestHeads(settings).get(b"ours=1").count(own.encode()) == 0
    assert any(crumb.startswith(f"{own}=") for crumb in memory.crumbs("/"))  # pages have it as ever
