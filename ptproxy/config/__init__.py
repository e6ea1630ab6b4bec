"""Configuration: YAML files and bridge links, read into checked objects.

Where to look:

- :mod:`~ptproxy.config.model`: the two roles' settings; attribute names are the YAML keys.
- :mod:`~ptproxy.config.values`: what the value of one setting may be.
- :mod:`~ptproxy.config.rules`: what must hold between fields, with advice.
- :mod:`~ptproxy.config.load`: a file into a model, every problem at once as ``file:line: field: …``.
- :mod:`~ptproxy.config.document`: YAML into plain data that remembers its lines.
- :mod:`~ptproxy.config.quantities`: sizes, durations, addresses.
- :mod:`~ptproxy.config.link`: ``ptproxy://…``, all that a client needs to know of a bridge.
- :mod:`~ptproxy.config.keyfile`: reading small secret files with one clear line for what is wrong.

Nothing here opens a socket, writes a file or knows what a key is good for.
"""
