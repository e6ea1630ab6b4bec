"""Streams between two peers, sealed end to end, that outlive the connections that carry them.

A stream has an id, a seed and two ends; it is spoken over one connection after another (*meetings*, at
a rendezvous), and nothing of it is lost or repeated when one breaks. Whoever carries a
meeting sees records of five sizes. The keys come from the ratchet of the two peers' conversation
and from a Diffie-Hellman of each meeting, and are renewed as the ratchet turns. ``STREAM.md`` beside this
file has it byte by byte.

- ``signals``     what is said about a stream in the conversation: OPEN, MEET, END, FINISHED
- ``keys``        where every key comes from; which turn of the ratchet both sides take
- ``hello``       the first bytes of each side on a meeting
- ``records``     sealing, five sizes
- ``frames``      what is inside a record
- ``sending``, ``receiving``   one direction each: offsets, acknowledgement, credit
- ``meeting``     one connection: hello, records, new keys
- ``stream``      all of it together, and what outlives a meeting: the front door, with the order of calls
- ``refusals``    what breaks a meeting, and what ends the stream
"""

from ptproxy.e2e.stream.keys import Role, Seed, Turn, TurnSecrets
from ptproxy.e2e.stream.refusals import (
    MeetingError,
    StreamError,
    StreamRuleError,
    StreamSignalError,
    TurnsApartError,
)
from ptproxy.e2e.stream.signals import (
    MAX_PURPOSE,
    MAX_SIGNAL,
    SEED,
    STREAM_ID,
    EndSignal,
    FinishedSignal,
    MeetSignal,
    OpenSignal,
    StreamSignal,
    parse_signal,
)
from ptproxy.e2e.stream.stream import (
    DataReceived,
    EofReceived,
    Event,
    MeetingFailed,
    SealedStream,
    StreamFailed,
    StreamReset,
    Summons,
)

__all__ = [
    "MAX_PURPOSE",
    "MAX_SIGNAL",
    "SEED",
    "STREAM_ID",
    "DataReceived",
    "EndSignal",
    "EofReceived",
    "Event",
    "FinishedSignal",
    "MeetSignal",
    "MeetingError",
    "MeetingFailed",
    "OpenSignal",
    "Role",
    "SealedStream",
    "Seed",
    "StreamError",
    "StreamFailed",
    "StreamReset",
    "StreamRuleError",
    "StreamSignal",
    "StreamSignalError",
    "Summons",
    "Turn",
    "TurnSecrets",
    "TurnsApartError",
    "parse_signal",
]
