"""The browser that a client looks like, by its fingerprint: recorded data with this system's name."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path
from typing import Final

import yaml

from ptproxy.codec.browser import Browser
from ptproxy.codec.http_request import PLATFORMS, brand_list
from ptproxy.codec.interface import Appearance
from ptproxy.codec.page.cache import SiteMemory
from ptproxy.codec.profile import SYSTEMS
from ptproxy.errors import LocalProtocolError, StartError, why

RECORDED: Final = {"chrome": "chromium-156.yaml", "firefox": "firefox-153.yaml"}
"""The recorded browser of each fingerprint, in ``codec/browsers``."""

NAMES: Final = {"chrome": "chromium", "firefox": "firefox"}
"""What the data calls the browser of each fingerprint."""

_FIREFOX_SYSTEMS: Final = {"darwin": "Macintosh; Intel Mac OS X 10.15", "android": "Android 15; Mobile"}
"""Where Firefox calls a system otherwise than Chromium does."""


def appearance_of(
    fingerprint: str, memory: SiteMemory, recorded: Path | None = None, platform: str = sys.platform
) -> Appearance | None:
    """What is imitated on a system as :data:`sys.platform` names it; None for ``python``.

    ``recorded``: a data file of the user's own, made by ``scripts/capture``.
    Raises :class:`~ptproxy.errors.StartError` where it is of no use.
    """
    if fingerprint not in RECORDED:
        return None
    if recorded is not None:
        return Appearance(own_browser(fingerprint, recorded), memory)
    return Appearance(browser_of(fingerprint, platform), memory)


def browser_of(fingerprint: str, platform: str = sys.platform) -> Browser:
    """What the browser of a fingerprint says of itself.

    Elsewhere than on Linux, where Chromium is common, the brands are those of
    the Chrome that people have.
    """
    browser = _parse((files("ptproxy.codec") / "browsers" / RECORDED[fingerprint]).read_text("utf-8"))
    systems = SYSTEMS | _FIREFOX_SYSTEMS if fingerprint == "firefox" else SYSTEMS
    values = {"system": systems.get(platform, SYSTEMS["linux"])}
    if fingerprint == "chrome":
        values["platform"] = f'"{PLATFORMS.get(platform, "Linux")}"'
        values["mobile"] = "?1" if platform == "android" else "?0"
        if platform in PLATFORMS:
            values["brands"] = brand_list(int(browser.version.split(".")[0]))
    return browser.with_values(**values)


def own_browser(fingerprint: str, recorded: Path) -> Browser:
    """The browser of a data file of the user's own, as it was recorded."""
    try:
        browser = _parse(recorded.read_text("utf-8"))
    except OSError as error:
        raise StartError(f"tls.profile: cannot read {recorded}: {why(error)}") from None
    except (LocalProtocolError, yaml.YAMLError, ValueError) as error:
        raise StartError(
            f"tls.profile: {recorded} is no browser's data as scripts/capture makes it: {error}"
        ) from None
    if browser.name != NAMES[fingerprint]:
        raise StartError(f"tls.profile: {recorded} is {browser.name}'s, the fingerprint {fingerprint}'s")
    return browser.with_values(system=SYSTEMS.get(sys.platform, SYSTEMS["linux"]))


def _parse(text: str) -> Browser:
    data = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506  (both are safe)
    if not isinstance(data, dict):
        raise LocalProtocolError("browser data: no mapping")
    return Browser.parse(data)
