"""ptproxy inside a Python program: streams through a bridge in asyncio's own shape, and a bridge to embed.

Everything here is reached as ``ptproxy.NAME``; ``API.md`` beside this file shows it, example by example.

- ``client``      ``ptproxy.connect``: a tunnel for as long as a program wants it
- ``source``      what ``connect`` and ``serve`` are given (a link, a file, a model), read
- ``streams``     a stream as an :class:`asyncio.StreamReader` and writer
- ``sockets``     a stream as a real socket, for TLS and for libraries that take nothing else
- ``datagrams``   UDP through the bridge
- ``blocking``    ``ptproxy.connect_blocking``: the same for programs without an event loop
- ``bridge``      ``ptproxy.serve``: a bridge, with services of the program's own
- ``failures``    what goes wrong, as the ``OSError`` that programs expect
- ``httpx_transport``, ``aiohttp_connector``, ``websockets_client``  the three libraries, each imported
  only when it is asked for

It composes what ``proxy`` runs and adds no protocol.
"""
