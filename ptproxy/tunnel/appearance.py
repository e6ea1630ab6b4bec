"""The browser that a client looks like, by its fingerprint: recorded data with this system's name."""

from __future__ import annotations

import sys
from importlib.resources import files
from typing import Final

import yaml

from ptproxy.codec.browser import Browser
from ptproxy.codec.http_request import PLATFORMS, brand_list
from ptproxy.codec.interface import Appearance
from ptproxy.codec.page_cache import SiteMemory
from ptproxy.codec.profile import SYSTEMS

RECORDED: Final = {"chrome": "chromium-156.yaml", "firefox": "firefox-153.yaml"}
"""The recorded browser of each fingerprint, in ``codec/browsers``."""

_FIREFOX_SYSTEMS: Final = {"darwin": "Macintosh; Intel Mac OS X 10.15", "android": "Android 15; Mobile"}
"""Where Firefox calls a system otherwise than Chromium does."""


def appearance_of(fingerprint: str, memory: SiteMemory, platform: str = sys.platform) -> Appearance | None:
    """What is imitated on a system as :data:`sys.platform` names it; None for ``python``."""
    if fingerprint not in RECORDED:
        return None
    return Appearance(browser_of(fingerprint, platform), memory)


def browser_of(fingerprint: str, platform: str = sys.platform) -> Browser:
    """What the browser of a fingerprint says of itself.

    Elsewhere than on Linux, where Chromium is common, the brands are those of
    the Chrome that people have.
    """
    text = (files("ptproxy.codec") / "browsers" / RECORDED[fingerprint]).read_text("utf-8")
    browser = Browser.parse(yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))  # noqa: S506
    systems = SYSTEMS | _FIREFOX_SYSTEMS if fingerprint == "firefox" else SYSTEMS
    values = {"system": systems.get(platform, SYSTEMS["linux"])}
    if fingerprint == "chrome":
        values["platform"] = f'"{PLATFORMS.get(platform, "Linux")}"'
        values["mobile"] = "?1" if platform == "android" else "?0"
        if platform in PLATFORMS:
            values["brands"] = brand_list(int(browser.version.split(".")[0]))
    return browser.with_values(**values)
