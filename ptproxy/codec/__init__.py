"""How bytes look on one carrier's connections: the codecs and the table of their names.

Where things are:

- ``interface``: what a codec is, the rules for every one of them. Read it first.
- ``websocket``: RFC 6455. The upgrade in ``ws_upgrade``, frames in ``ws_frames``,
  an open WebSocket in ``ws_connection``.
- ``http``: requests and responses that pass any reverse proxy; its parts in ``http_*``.
- ``random``: length, padding, data, nothing that recurs; its records in ``random_records``.
- ``join``, ``join_websocket``, ``join_http``: the client's end of the first two where a browser
  is the carrier: what is said on the local socket between its page and the client.
- shared: ``head`` (HTTP/1.1 message heads), ``cookie`` (the opening in a session
  cookie), ``profile`` (what the imitated browser says of itself), ``randomness``.
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
