"""What users run: the local proxy on one side of the tunnel, the bridge's exits and web site on the other.

The two roles, each put together from its configuration and run until it is
told to stop: :mod:`~ptproxy.proxy.client` and :mod:`~ptproxy.proxy.bridge`, with
:mod:`~ptproxy.proxy.startup` (keys, signals, what keeps a role from starting).

On a client:

- ``local``             listens for programs, counts them, stops
- ``local_connection``  one program's conversation and dial, with ``early`` (what it sends before
  its target has answered) and ``far_end`` (the protocol on the stream dialled for it)
- ``datagrams``         a program's UDP association
- ``shape_follow``      takes what the bridge pushes; ``shape_files`` has the built-in shapes

On a bridge:

- ``bridge_exit``       takes the streams that clients open: dialled, served or refused
- ``egress``            dials targets, with ``resolve`` (names), ``policy`` (which addresses are
  permitted) and ``egress_udp`` (associations)
- ``site``              what strangers see: a real web server, or the pages of ``web_pages``,
  whose requests ``web_request`` reads as a common web server does
- ``site_beside``       ... or a real web server's TLS port, which strangers get as it is
- ``shape_push``        tells clients what to look like, over a service
- ``accounts``, ``openings``  the access list and the replay filter on disk

Both couple a TCP connection and a stream with ``tunnel.relay`` and keep time
limits with ``deadlines``. Nothing here knows codecs, carriers or frames: the local
side sees a :class:`~ptproxy.tunnel.stream.Dialer`, the far side an
:class:`~ptproxy.tunnel.stream.Incoming`; only the two roles name what is below.
"""
