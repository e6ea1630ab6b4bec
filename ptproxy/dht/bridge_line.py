"""A bridge line inside a format: ``length u16 │ the line, ASCII, in its one canonical spelling``."""

from __future__ import annotations

from ptproxy.config.link import Link
from ptproxy.dht.record import RecordError
from ptproxy.fields import Fields


def take_line(fields: Fields) -> Link:
    """From the front of ``fields``; their error, or :class:`RecordError` for what is no bridge line."""
    line = fields.take(fields.number(2))
    try:
        text = line.decode("ascii")
        link = Link.parse(text)
    except ValueError:
        raise RecordError("a bridge line that cannot be read") from None
    if link.serialize() != text:
        raise RecordError("a bridge line in another spelling than its own")
    return link


def serialize_line(link: Link) -> bytes:
    """The reverse: 2 + 2,048 bytes at most, usually 200 to 300."""
    line = link.serialize().encode("ascii")
    return len(line).to_bytes(2, "big") + line
