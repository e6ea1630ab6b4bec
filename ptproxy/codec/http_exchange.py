"""What a client's http carrier has under way: numbered uploads and downloads, whatever carries them."""

from __future__ import annotations

from dataclasses import dataclass, field

from ptproxy.buffer import Buffer
from ptproxy.codec.http_records import RecordReader


@dataclass(slots=True, eq=False)
class Upload:
    """One POST, kept until it is answered."""

    number: int
    flags: int
    chunks: list[Buffer]
    size: int
    """Payload bytes."""
    failures: int = 0
    sent_at: float = 0.0


@dataclass(slots=True, eq=False)
class Download:
    """One GET and what has come of its body."""

    number: int
    kind: int
    """STREAM or POLL (number 0, the opening, counts as a poll: its answer is complete in itself)."""
    failures: int = 0
    touched: bool = False
    """Part of its body has come: it cannot be asked again."""
    payload: int = 0
    """Payload bytes that have come."""
    reader: RecordReader = field(default_factory=RecordReader)
    held: list[bytes] = field(default_factory=list)
    """Payload that has to wait for the download before this one."""


Exchange = Upload | Download
