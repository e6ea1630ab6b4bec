"""What users run: the local proxy on one side of the tunnel, the bridge's exits and web site on the other.

On a client: :mod:`~ptproxy.proxy.local` listens for programs,
:mod:`~ptproxy.proxy.local_connection` holds one program's conversation and dial,
:mod:`~ptproxy.proxy.datagrams` its UDP association.

On a bridge: :mod:`~ptproxy.proxy.bridge_exit` takes the streams that clients
open, :mod:`~ptproxy.proxy.egress` dials their targets as far as
:mod:`~ptproxy.proxy.policy` permits, :mod:`~ptproxy.proxy.site` is what
strangers see.

Both couple a TCP connection and a stream with :mod:`~ptproxy.proxy.relay`.
Nothing here knows codecs, carriers or frames: the local side sees a
:class:`~ptproxy.tunnel.stream.Dialer`, the far side an
:class:`~ptproxy.tunnel.stream.Incoming`.
"""
