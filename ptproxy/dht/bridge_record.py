"""What a bridge bucket's record says: the one to three bridge lines that its invite is good for now.

::

    content = count u8, 0 to 3 │ bridge line (``bridge_line``) *

None: the invite has been withdrawn, or its bridges have and there are no others yet. The
same form stands in an invite, which has one line at least. A line may hold an enrolment
token, so contents are secrets like the invite itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from ptproxy.config.link import Link
from ptproxy.dht.bridge_line import serialize_line, take_line
from ptproxy.dht.record import RecordError
from ptproxy.dht.record_secret import MAX_CONTENT
from ptproxy.errors import LocalProtocolError
from ptproxy.fields import Fields

MAX_BRIDGES: Final = 3
"""Bridges of a bucket: whoever leaks an invite exposes at most these."""


@dataclass(frozen=True, slots=True)
class BridgeBucket:
    """None to three bridges, no line twice; :class:`LocalProtocolError` for more."""

    bridges: tuple[Link, ...] = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.bridges) > MAX_BRIDGES or len(set(self.bridges)) != len(self.bridges):
            raise LocalProtocolError(f"a bucket has at most {MAX_BRIDGES} bridges, each once")

    @classmethod
    def parse(cls, data: bytes) -> BridgeBucket:
        """From a record's content; :class:`RecordError` for anything else."""
        fields = Fields(data, RecordError("bridge bucket: of another length than it says"))
        bucket = cls.take(fields)
        fields.end()
        return bucket

    @classmethod
    def take(cls, fields: Fields) -> BridgeBucket:
        """From the front of ``fields``; their error, or :class:`RecordError`."""
        count = fields.number(1)
        if count > MAX_BRIDGES:
            raise RecordError(f"bridge bucket: more than {MAX_BRIDGES} bridges")
        bridges = tuple(take_line(fields) for _ in range(count))
        if len(set(bridges)) != count:
            raise RecordError("bridge bucket: a bridge stands in it twice")
        return cls(bridges)

    def serialize(self) -> bytes:
        """The reverse; :class:`LocalProtocolError` where the lines are too long for a record."""
        data = bytes((len(self.bridges),)) + b"".join(map(serialize_line, self.bridges))
        if len(data) > MAX_CONTENT:
            raise LocalProtocolError(
                f"these bridge lines have {len(data)} bytes, a bucket {MAX_CONTENT}: "
                "give them fewer pages or shorter paths"
            )
        return data
