"""ptproxy started by another program, as its transport: Tor's managed proxies, Shadowsocks' plugins.

A *parent* starts the process, says by its environment what it wants, and learns
from standard output where we listen. On the client's side it connects to us and
we open a stream at the bridge; at the bridge each stream becomes a connection to
the parent. Nothing else is reachable through such a bridge: no way out, no names::

    tor ──SOCKS5──▶ tor_client ──▶ lines ══ tunnel ══▶ plugged ─▶ parent ──▶ tor's ExtORPort or ORPort
    ss-local ────▶ sip003_client ─▶ lines ══ tunnel ══▶ plugged ─▶ parent ──▶ ss-server

What is said, without I/O:

- :mod:`~ptproxy.pt.arguments`: the ways in which parents write ``key=value``.
- :mod:`~ptproxy.pt.tor_environment`, :mod:`~ptproxy.pt.tor_lines`: what tor tells us and what we tell it.
- :mod:`~ptproxy.pt.extorport`: the conversation with tor's extended port.
- :mod:`~ptproxy.pt.sip003_environment`: what Shadowsocks tells us.
- :mod:`~ptproxy.pt.bridge_line`, :mod:`~ptproxy.pt.webtunnel_line`: a bridge in the arguments of a line, so
  that its clients need no more; :mod:`~ptproxy.pt.upgrade`: WebTunnel's HTTP upgrade, both ways.

The rims around it:

- :mod:`~ptproxy.pt.tor`, :mod:`~ptproxy.pt.sip003`: a process from its start to its end. They listen and say
  so before the tunnel is imported, because parents wait for that and little else.
- :mod:`~ptproxy.pt.doors`: the listening sockets; :mod:`~ptproxy.pt.loading`, :mod:`~ptproxy.pt.ending`:
  what ends the process before and after the tunnel is there.
- :mod:`~ptproxy.pt.tor_client`, :mod:`~ptproxy.pt.sip003_client`: the parent's connections on the client's
  side; :mod:`~ptproxy.pt.lines`: a dialer for each bridge line in use.
- :mod:`~ptproxy.pt.tor_bridge`, :mod:`~ptproxy.pt.sip003_server` on :mod:`~ptproxy.pt.plugged`: the bridge;
  :mod:`~ptproxy.pt.parent`: its streams, handed to the parent; :mod:`~ptproxy.pt.identity`: the keys that it
  makes at its first start; :mod:`~ptproxy.pt.wanted`: what its operator may set.
- :mod:`~ptproxy.pt.webtunnel_bridge`, :mod:`~ptproxy.pt.webtunnel_client`: Tor Browser's WebTunnel, beside
  our tunnel; :mod:`~ptproxy.pt.datagrams`: SIP003u, both sides.

``TOR.md`` and ``SHADOWSOCKS.md`` beside this file say how to set either up.
"""
