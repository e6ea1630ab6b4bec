"""The installed browser: where it is, which version, and the command line it is started with.

Nothing but the bridge is ever looked up or connected to: every name but the
bridge's is mapped to nothing, proxies of the system are not used, and what
calls home by itself is switched off besides. What the switches leave alone is
everything that shows on the wire: TLS, HTTP, timing and order are those of the
same browser with a window.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ptproxy.codec.profile import CHROMIUM
from ptproxy.errors import StartError, why

NAMES: Final = (
    "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge",
    "microsoft-edge-stable",
)  # fmt: skip
"""Programs looked for, best first."""
PLACES: Final = (
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
)
"""Where they are on a Mac."""
OLDEST: Final = 124
"""The first major version with WebSocketStream, without which nothing holds a fast sender back."""
VERSION_TIMEOUT: Final = 20.0
"""Seconds for the browser to say its version: it may have to come from a slow disk."""

FEATURES: Final = (
    "AutofillServerCommunication",
    "DialMediaRouteProvider",
    "MediaRouter",
    "OptimizationHints",
    # windows of its own that nobody sees, and a process kept ready: 80 MiB
    "SpareRendererForSitePerProcess",
    "WebUIOmniboxAimPopup",
    "WebUIOmniboxFullPopup",
    "WebUIOmniboxPopup",
)
"""Parts that are switched off."""
SWITCHES: Final = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-proxy-server",
    "--no-pings",
    "--disable-background-networking",
    "--disable-breakpad",
    "--disable-client-side-phishing-detection",
    "--disable-component-extensions-with-background-pages",
    "--disable-component-update",
    "--disable-crash-reporter",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-extensions",
    "--disable-sync",
    "--metrics-recording-only",
    f"--disable-features={','.join(FEATURES)}",
    "--no-startup-window",
    # a page nobody looks at is not slowed down
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--disk-cache-size=50000000",
    # nothing is drawn, played or kept in a key ring
    "--disable-gpu",
    "--mute-audio",
    "--password-store=basic",
    "--use-mock-keychain",
    "--log-level=3",
)


@dataclass(frozen=True, slots=True)
class Program:
    """An installed browser as it was when we looked."""

    path: Path
    major: int
    name: str
    """As it calls itself: Chromium, Google Chrome, Microsoft Edge."""
    identity: tuple[int, int, int]
    """Device, inode and time of the program's file: an update changes it."""

    @classmethod
    def find(cls, configured: Path | None) -> Program:
        """The configured browser, or the first of those known; StartError where there is none that serves.

        Runs the program for its version, so it blocks for a while.
        """
        path = locate(configured)
        try:
            done = subprocess.run(  # noqa: S603  (the user's own choice, or one of NAMES)
                [path, "--version"], capture_output=True, timeout=VERSION_TIMEOUT, check=False, text=True,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            said = why(error) if isinstance(error, OSError) else "no answer"
            raise StartError(f"tls.browser: {path} does not run: {said}") from None
        match = re.search(r"([A-Za-z ]+?) ([0-9]+)\.[0-9.]+", done.stdout)
        if match is None:
            raise StartError(f"tls.browser: {path} says no version: it is no Chromium, Chrome or Edge")
        name, major = match[1].strip(), int(match[2])
        if major < OLDEST:
            raise StartError(
                f"tls.browser: {path} is version {major}; {OLDEST} or newer is needed: update it"
            )
        return cls(path, major, name, identity(path))

    def changed(self) -> bool:
        """Whether it was updated or removed since."""
        try:
            return identity(self.path) != self.identity
        except OSError:
            return True

    def user_agent(self) -> str:
        """What it calls itself with a window: the reduced form, which has the major version only."""
        agent = re.sub(r"Chrome/[0-9]+", f"Chrome/{self.major}", CHROMIUM.user_agent_for(sys.platform))
        return f"{agent} Edg/{self.major}.0.0.0" if "Edge" in self.name else agent

    def command(self, profile: Path, server_name: str, address: str, spki: str) -> list[str]:
        """Start it for one bridge: ``address`` is where ``server_name`` is, ``spki`` the pinned key or ""."""
        target = f"[{address}]" if ":" in address else address
        command = [
            str(self.path),
            *SWITCHES,
            f"--user-data-dir={profile}",
            f"--user-agent={self.user_agent()}",
            f"--host-resolver-rules=MAP {server_name} {target},MAP * ~NOTFOUND,EXCLUDE 127.0.0.1",
        ]
        if spki:
            command.append(f"--ignore-certificate-errors-spki-list={spki}")
        if runs_as_root():
            command.append("--no-sandbox")
        return command


def locate(configured: Path | None) -> Path:
    """The browser's path; StartError where there is none."""
    if sys.platform == "win32":
        raise StartError(
            "tls.fingerprint: browser needs a system with Unix pipes; on Windows use fingerprint: chrome"
        )
    if configured is not None:
        if os.access(configured, os.X_OK) and configured.is_file():
            return configured
        raise StartError(f"tls.browser: {configured} is not a program")
    for name in NAMES:
        found = shutil.which(name)
        if found is not None:
            return Path(found)
    for place in PLACES:
        if os.access(place, os.X_OK):
            return Path(place)
    raise StartError(
        "tls.fingerprint: browser needs an installed Chromium, Chrome or Edge: install one "
        "(Debian, Ubuntu: apt install chromium), or say where it is with tls.browser"
    )


def identity(path: Path) -> tuple[int, int, int]:
    """Tells one installed version's file from another's; raises OSError without one.

    Many systems start the browser through a script: the program beside its resources counts as well.
    """
    status = path.resolve().stat()
    for library in (Path("/usr/lib") / path.name / path.name, Path("/usr/lib64") / path.name / path.name):
        if library.is_file():
            status = library.stat()
    return status.st_dev, status.st_ino, status.st_mtime_ns


def runs_as_root() -> bool:
    """Whether the browser's own sandbox is impossible: it refuses to start as root with it."""
    return hasattr(os, "geteuid") and os.geteuid() == 0
