"""What a web server in front of a bridge needs in its own configuration, as files to include.

The texts are in ``examples/``, with names in angle brackets for what differs
between bridges; ``configs/`` has them filled in for one. All three servers are
told the same:

- A request reaches the bridge only with the secret path *and* a session cookie
  of the form that the codecs send (``ptproxy/codec/cookie.py``); any other is the
  site's, handled where it would be if there were no bridge.
- What the bridge refuses, and every request while it is down, is handed back to
  the site and answered there as an unknown path is. Nothing of the bridge's
  answer is left.
- Bodies pass unbuffered both ways, connections to the bridge are kept, and an
  upgrade gets a connection of its own: a kept one belongs to the codec that
  spoke there first.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ptproxy.cli import written
from ptproxy.codec.cookie import session_cookie_name
from ptproxy.codec.interface import CodecSettings
from ptproxy.config.quantities import Endpoint, SiteUrl

SERVERS: Final = ("nginx", "caddy", "haproxy")
"""The web servers that there are texts for."""
SOCKET: Final = "unix:/run/ptproxy/bridge.sock"
"""A bridge's socket, in a folder that lets the web server in and nobody else."""
DEFAULT_LISTEN: Final[Mapping[str, str]] = {"nginx": SOCKET, "caddy": SOCKET, "haproxy": "127.0.0.1:9443"}
"""Where a bridge listens for each unless told otherwise. haproxy mostly lives in a chroot (Debian's default
configuration), inside which it would look for a socket's path."""
DEFAULT_SITE: Final = SiteUrl("http", "127.0.0.1", 8080)
"""What haproxy, which has no pages of its own, shows strangers, unless told otherwise."""

_FILES: Final[Mapping[str, tuple[str, ...]]] = {
    "nginx": ("nginx-http.conf", "nginx-site.conf"),
    "caddy": ("ptproxy.caddy",),
    "haproxy": ("haproxy-frontend.cfg", "haproxy-backend.cfg"),
}
_STEPS: Final[Mapping[str, tuple[str, ...]]] = {
    "nginx": (
        "nginx-http.conf goes where http {{ }} includes files, as in /etc/nginx/conf.d/ptproxy.conf;",
        "nginx-site.conf goes to /etc/nginx/snippets/ptproxy.conf, and into the site's server {{ }} goes",
        "    include snippets/ptproxy.conf;",
    ),
    "caddy": (
        "ptproxy.caddy goes beside the Caddyfile. Into the Caddyfile, outside of every site, goes",
        "    import ptproxy.caddy",
        "and into the site, as its first line",
        "    import ptproxy",
    ),
    "haproxy": (
        "The lines of haproxy-frontend.cfg go into the site's frontend, before its own use_backend;",
        "haproxy-backend.cfg goes behind all else, or to haproxy as the last -f. Strangers see {site}.",
    ),
}
_NAME = re.compile(r"<([a-z ]+)>")
_SOCKET = re.compile(r"/[A-Za-z0-9._/@+-]+")


@dataclass(frozen=True, slots=True)
class WebServer:
    """One of :data:`SERVERS`, and what it is to know of the bridge behind it."""

    name: str
    settings: CodecSettings
    """Host and secret path, as the codecs have them."""
    listen: Endpoint
    """Where the bridge listens: a Unix socket of an absolute path of plain characters, or loopback."""
    site: SiteUrl = DEFAULT_SITE
    """haproxy: the web server behind it."""

    def files(self) -> dict[str, str]:
        """The texts to write, by file name. Raises :class:`ValueError` for a socket's name it cannot say."""
        values = self._values()
        return {
            name: _NAME.sub(lambda match: values[match[1]], written.example(name))
            for name in _FILES[self.name]
        }

    def steps(self) -> list[str]:
        """Where the texts go, in lines."""
        return [line.format(site=self.site) for line in _STEPS[self.name]]

    def _values(self) -> dict[str, str]:
        cookie, path = session_cookie_name(self.settings), self.settings.path
        digest = hashlib.sha256(path.encode()).hexdigest()[:8]
        secure = f" ssl verify none sni str({self.site.host})" if self.site.scheme == "https" else ""
        return {
            "path": path.replace("'", "\\'") if self.name == "haproxy" else path,  # it knows quotes there
            "path regex": re.escape(path),
            "cookie": cookie,
            "cookie regex": re.escape(cookie),
            "upstream": self._upstream(),
            "nothing": f"unix/@ptproxy-{digest}",
            "site": f"{Endpoint(self.site.host, self.site.port)}{secure}",
        }

    def _upstream(self) -> str:
        """The bridge's address in the server's own notation."""
        socket = self.listen.unix
        if socket is None:
            return str(Endpoint(self.listen.literal, self.listen.port))
        if not _SOCKET.fullmatch(str(socket)):
            raise ValueError(
                f"a web server's configuration needs a whole path without spaces for the socket, "
                f"as in {SOCKET}, not {socket}"
            )
        return {"nginx": f"unix:{socket}", "caddy": f"unix/{socket}", "haproxy": f"unix@{socket}"}[self.name]
