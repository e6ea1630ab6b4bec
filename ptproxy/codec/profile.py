"""What the imitated browser says of itself in HTTP: data, with where and when it was seen.

A profile and the TLS fingerprint (``tls.fingerprint``) must be of one browser;
a User-Agent of one system over the TCP of another is a contradiction that a
front can see, so the system is the one we run on.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Profile:
    """One browser's constant header values."""

    name: str
    source: str
    """Program and version it was recorded from."""
    recorded: str
    """Month or day, ISO 8601."""
    user_agent: str
    """With ``{system}`` where the operating system stands."""
    accept_encoding: str
    accept_language: str
    websocket_extensions: str

    def user_agent_for(self, platform: str = sys.platform) -> str:
        """The User-Agent of this browser on a platform as :data:`sys.platform` names it."""
        return self.user_agent.format(system=SYSTEMS.get(platform, SYSTEMS["linux"]))


SYSTEMS = {
    "linux": "X11; Linux x86_64",
    "win32": "Windows NT 10.0; Win64; x64",
    "darwin": "Macintosh; Intel Mac OS X 10_15_7",
    "android": "Linux; Android 10; K",
}
"""What Chromium's reduced User-Agent names each system, whatever the real version of the system."""

CHROMIUM = Profile(
    name="chromium",
    source="Chromium 156 on Debian 12, its requests read by a TLS server of our own",
    recorded="2026-11",
    user_agent="Mozilla/5.0 ({system}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36",
    accept_encoding="gzip, deflate, br, zstd",
    accept_language="en-US,en;q=0.9",
    websocket_extensions="permessage-deflate; client_max_window_bits",
)
