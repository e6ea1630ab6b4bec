"""What a session tells: one dataclass for each thing that happened.

A ``DataReceived.data`` may be a view of the buffer given to
``receive_data``; it is good until that buffer is used again.
"""

from __future__ import annotations

from dataclasses import dataclass

from ptproxy.buffer import Buffer
from ptproxy.errors import Reason
from ptproxy.session.stream import Stream


@dataclass(slots=True)
class StreamOpened:
    """The peer opened ``stream``: dial ``stream.target``, then ``stream.accept()`` or ``stream.reset()``.

    ``first_data`` counts as received: the application takes it with ``stream.consume()`` as any other.
    """

    stream: Stream
    first_data: bytes


@dataclass(slots=True)
class StreamAccepted:
    """The far side reached the target of a stream that we opened. Told once."""

    stream: Stream


@dataclass(slots=True)
class DataReceived:
    """Bytes of a stream, in order, each once. ``stream.consume()`` them when the application has them."""

    stream: Stream
    data: Buffer


@dataclass(slots=True)
class EofReceived:
    """The peer sends nothing more on this stream. Told once."""

    stream: Stream


@dataclass(slots=True)
class StreamReset:
    """The stream was broken off, by the peer or by the session. Told once; the stream is gone."""

    stream: Stream
    reason: Reason


@dataclass(slots=True)
class StreamWritable:
    """``send_room()`` is above 0 again after it was not."""

    stream: Stream


@dataclass(slots=True)
class StreamFinished:
    """Both directions ended: our EOF was acknowledged and the peer's received. Told once."""

    stream: Stream


@dataclass(slots=True)
class DatagramReceived:
    """A datagram of an association; ``address`` in the target's wire form."""

    stream: Stream
    address: bytes
    data: bytes


@dataclass(slots=True)
class CarrierSuspected:
    """Client: nothing is answered on this carrier; dial another one beside it (R20)."""

    carrier: int


@dataclass(slots=True)
class CarrierGivenUp:
    """The session is done with this carrier: close its connection. Its streams have been moved."""

    carrier: int


@dataclass(slots=True)
class ChallengeReceived:
    """An opaque CHALLENGE for the authentication of this carrier."""

    carrier: int
    data: bytes


@dataclass(slots=True)
class ProofReceived:
    """An opaque PROOF for the authentication of this carrier."""

    carrier: int
    data: bytes


@dataclass(slots=True)
class GoawayReceived:
    """The peer wants no new streams on a carrier, or (None) none in this session (R25)."""

    carrier: int | None


Event = (
    StreamOpened
    | StreamAccepted
    | DataReceived
    | EofReceived
    | StreamReset
    | StreamWritable
    | StreamFinished
    | DatagramReceived
    | CarrierSuspected
    | CarrierGivenUp
    | ChallengeReceived
    | ProofReceived
    | GoawayReceived
)
