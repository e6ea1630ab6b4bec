"""ptproxy: a client and a bridge that carry streams over TLS 1.3 connections which look like the web's.

Everything that is a protocol is a plain object that takes bytes and returns
bytes; everything that touches a socket, a clock or a file is a thin rim around
it. Imports go strictly down, packages in one row never see one another
(``tests/test_imports.py`` holds both rules)::

    cli                                  what a person starts
    api                                  what a program imports: ``ptproxy.connect``, ``ptproxy.serve``
    proxy                                local front (SOCKS, HTTP) ◀ relay ▶ bridge: egress, web site
    peers                                beside it: messages and streams between people, and what they meet at
    inspect                              beside both, for cli alone: bridge and client as a censor sees them
    ──────── Dialer, Exit, Incoming: all that the rows above know of those below (tunnel.stream) ────────
    tunnel                               asyncio: TLS, carriers, sessions driven by the loop
    session │ auth │ codec │ front       without I/O: streams that outlive connections │ who is at the
      │ e2e │ dht                        other end │ how bytes look │ SOCKS and HTTP conversations │
                                         cryptography between peers │ a directory's network and records
    config  target  addresses            configuration and links, where a stream goes, what an IP address
      buffer  fields                     leads to, bytes that wait, how fixed formats are taken apart
    errors                               what is raised on purpose, and the reasons a stream ends with

``log`` and ``state`` (the only writer of files) stand beside the rows from ``tunnel`` up.

The words: a *session* is the set of streams between one client and one bridge;
a *carrier* is one connection that carries some of them for a while, speaking
one *codec*; a *link* is either a codec's side of one TCP connection
(:mod:`ptproxy.codec.interface`) or the ``ptproxy://`` line that tells a client
all about a bridge (:mod:`ptproxy.config.link`).

One byte's way from a local program: ``proxy.local_connection`` asks a
``tunnel.dial.TunnelDialer`` for a stream, ``tunnel.stream.TunnelStream`` writes
into a ``session.ClientSession``, ``tunnel.carrier.Carrier`` draws frames from
it through a codec into TLS; at the bridge ``tunnel.gate`` has told the client
from a stranger, ``tunnel.bridge`` feeds a ``session.BridgeSession``, and
``proxy.bridge_exit`` dials the target. Each package's docstring is its own map,
``PROTOCOL.md`` beside ``session``, ``auth``, ``codec``, ``e2e``, ``dht`` and ``peers`` their wire formats,
``THREATS.md`` what all of it is for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

__version__: Final = "0.1.0.dev0"

_PUBLIC: Final = {
    "connect": "ptproxy.api.client",
    "Client": "ptproxy.api.client",
    "connect_blocking": "ptproxy.api.blocking",
    "BlockingClient": "ptproxy.api.blocking",
    "serve": "ptproxy.api.bridge",
    "Bridge": "ptproxy.api.bridge",
    "Datagrams": "ptproxy.api.datagrams",
    "ConnectError": "ptproxy.api.failures",
    "StreamLostError": "ptproxy.api.failures",
    "Reason": "ptproxy.errors",
    "Target": "ptproxy.target",
    "Link": "ptproxy.config.link",
}
"""What a program uses, and where it is; nothing is imported before it is asked for."""

__all__ = [
    "BlockingClient",
    "Bridge",
    "Client",
    "ConnectError",
    "Datagrams",
    "Link",
    "Reason",
    "StreamLostError",
    "Target",
    "__version__",
    "connect",
    "connect_blocking",
    "serve",
]


if TYPE_CHECKING:
    from ptproxy.api.blocking import BlockingClient, connect_blocking
    from ptproxy.api.bridge import Bridge, serve
    from ptproxy.api.client import Client, connect
    from ptproxy.api.datagrams import Datagrams
    from ptproxy.api.failures import ConnectError, StreamLostError
    from ptproxy.config.link import Link
    from ptproxy.errors import Reason
    from ptproxy.target import Target
else:

    def __getattr__(name):
        """A public name, imported at its first use (PEP 562)."""
        if name not in _PUBLIC:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(_PUBLIC[name]), name)
        globals()[name] = value
        return value
