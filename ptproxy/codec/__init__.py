"""How bytes look on one carrier's connections: the codecs and the table of their names.

Where things are:

- ``interface``: what a codec is, the rules for every one of them. Read it first.
- ``websocket``: RFC 6455. The upgrade in ``ws_upgrade``, frames in ``ws_frames``,
  an open WebSocket in ``ws_connection``, a bridge's pings in ``ws_keepalive``; what is said on
  one that a ticket opened, and when, in ``ws_talk``.
- ``http``: requests and responses that pass any reverse proxy; its parts in ``http_*``.
- ``random``: length, padding, data, nothing that recurs; its records in ``random_records``.
- ``join``, ``join_websocket``, ``join_http``: the client's end of the first two where a browser
  is the carrier: what is said on the local socket between its page and the client.
- a client as a browser (``BROWSER.md``): ``browser`` (one browser as data, from
  ``browsers/*.yaml``), ``http2`` (its HTTP/2, and a bridge's that reads along), the heads
  of its HTTP/1.1 in ``http1_fields``; ``page``: a page loaded before anything else, and what
  is remembered of it; ``http_h2_client``: the ``http`` codec over HTTP/2.
- an installed browser as the carrier: ``join``, ``join_websocket``, ``join_http``.
- ``shape``: which sizes, pauses and volumes traffic of a class takes, as data; its parts in
  ``shape_parts``, ``shape_talk`` and ``shape_reading``, the built-in ones in ``shapes/``; ``shape_drawing``
  draws figures from recorded cover.
- ``h2_bridge``: a bridge in the middle of a web server's HTTP/2 connection, some of whose
  streams are its own (``h2_own``, ``h2_plain``).
- shared: ``head`` (HTTP/1.1 message heads), ``cookie`` (the opening in a session
  cookie), ``profile`` (a browser's constants where none is imitated), ``randomness``.
- ``client_hello``: a TLS client's first message, for whoever looks at it before TLS does.
- ``table``: :func:`codec_table`, the codecs by name, those of other packages too.

``PROTOCOL.md`` has the wire formats byte by byte, ``tests/vectors/codec.json`` and
``http.json`` examples of them; ``tests/codec/conformance.py`` tries any codec,
an outside package's as well.

A package adds a codec by an entry point, and its users by naming it::

    [project.entry-points."ptproxy.codecs"]
    morse = "my_package.morse:MORSE"        # an object that is an interface.CodecType
"""

from ptproxy.codec.table import CodecTable, codec_table

__all__ = ["CodecTable", "codec_table"]
