"""What users run: the local proxy on one side of the tunnel, the bridge's exits and web site on the other.

The two roles, each put together from its configuration and run until it is
told to stop: :mod:`~ptproxy.proxy.client` and :mod:`~ptproxy.proxy.bridge`, with
:mod:`~ptproxy.proxy.startup` (keys, signals, what keeps a role from starting) and
:mod:`~ptproxy.proxy.first_carrier` (a client whose bridge is not reached yet).

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
- ``site``              what strangers see: a real web server, whose connection and theirs are one
  ``splice``, or the pages of ``web_pages``, whose requests ``web_request`` reads as a common server does
- ``site_beside``       ... or a real web server's TLS port, which strangers get as it is
- ``reverse_service``   offers services behind clients at ports of the bridge (``REVERSE.md``), each of
  them a ``reverse_offer``; a client has ``reverse_client``, both ``reverse_frames``
- ``shape_push``        tells clients what to look like, over a service
- ``accounts``, ``openings``  the access list and the replay filter on disk
- ``succession``, ``handover``  a new process goes on with every stream (``REPLACE.md``), and
  ``supervisor``, which systemd hears of it by
- ``workers``           watches over several processes of one bridge (``WORKERS.md``), each of which has a
  ``post``; ``shared_openings`` is their replay filter

Either can be asked (``CONTROL.md``):

- ``control``           the socket, with ``control_lines`` and, for commands, ``control_asking``
- ``control_bridge``, ``control_client``  what each tells; ``control_process``, ``certificate_dates``
- ``control_reload``    reading a configuration again, with ``control_files`` (who notices a change) and
  ``control_bridge_reload``
- ``metrics_port``      ``/metrics`` and ``/healthz`` on a ``this_machine`` port, from ``metrics_roles``
  and ``metrics_text``

Both couple a TCP connection and a stream with ``tunnel.relay`` and keep time
limits with ``deadlines``. Nothing here knows codecs, carriers or frames: the local
side sees a :class:`~ptproxy.tunnel.stream.Dialer`, the far side an
:class:`~ptproxy.tunnel.stream.Incoming`; only the two roles name what is below.
"""
