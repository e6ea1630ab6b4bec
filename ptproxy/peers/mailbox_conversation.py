"""Who says what when on a mailbox's stream: both ends, without I/O.

The rules (``PROTOCOL.md``):

- The bridge says HELLO, the client its preface and a first frame. Is that OPEN,
  the stream is an owner's, once its signature over this stream's challenge has
  verified; else it is anybody's, who may deposit and fetch.
- Every request has one answer, in order; at most :data:`MAX_UNANSWERED` wait.
- MAIL comes between answers, after LISTEN, and never more than the window ahead
  of what was TAKEN. One OPEN, one LISTEN a stream.

Any breach raises :class:`~ptproxy.peers.mailbox_frames.MailboxFrameError`; the
stream is then to be reset, and nothing of it acted on any more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ptproxy.buffer import Buffer
from ptproxy.errors import LocalProtocolError
from ptproxy.peers.mailbox_answers import (
    DOWN_FRAMES,
    Answer,
    Bundle,
    Displaced,
    Done,
    Downward,
    Hello,
    Mail,
    Note,
    Refused,
    State,
)
from ptproxy.peers.mailbox_frames import PREFACE, FrameReader, MailboxFrameError
from ptproxy.peers.mailbox_requests import (
    FIRST_FRAMES,
    OWNER_FRAMES,
    SENDER_FRAMES,
    Close,
    Fetch,
    Listen,
    Open,
    Recall,
    Request,
    Status,
    Taken,
)

MAX_UNANSWERED: Final = 32
"""Requests of a stream that wait for their answers: what a hostile client can make us remember."""

_OWNER_LABEL: Final = b"ptproxy 1 mailbox owner"
_FIELD: Final = 2**255 - 19
_LOW_ORDER: Final = frozenset(
    (
        0,
        1,
        _FIELD - 1,
        0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
        0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
    )
)
"""y of the eight points of order 1, 2, 4 and 8 (RFC 8032 section 5.1.7 admits them): under such a
key a signature can be made without any private key, so its box would be everybody's."""


def prove(key: Ed25519PrivateKey, mailbox: bytes, challenge: bytes) -> Open:
    """The frame that opens the box of ``key``.

    ``mailbox``: the bridge's static public key, from its link and never from the stream.
    """
    box_key = key.public_key().public_bytes_raw()
    return Open(box_key, key.sign(b"".join((_OWNER_LABEL, mailbox, challenge, box_key))))


def verify(request: Open, mailbox: bytes, challenge: bytes) -> None:
    """Raises :class:`MailboxFrameError` unless ``request`` proves the box's key here and now."""
    signed = b"".join((_OWNER_LABEL, mailbox, challenge, request.box_key))
    y = int.from_bytes(request.box_key, "little") & (1 << 255) - 1
    if y in _LOW_ORDER or y >= _FIELD:
        raise MailboxFrameError("a box key that is nobody's")
    try:
        Ed25519PublicKey.from_public_bytes(request.box_key).verify(request.signature, signed)
    except (InvalidSignature, ValueError):
        raise MailboxFrameError("not the owner's signature") from None


class BridgeConversation:
    """One stream, seen from the mailbox."""

    __slots__ = ("_begun", "_challenge", "_listening", "_mailbox", "_permitted", "_reader", "unanswered")

    def __init__(self, mailbox: bytes, challenge: bytes) -> None:
        """``challenge``: 32 fresh random bytes, of this stream alone."""
        self._mailbox = mailbox
        self._challenge = challenge
        self._reader = FrameReader()
        self._permitted: Mapping[int, type[Request]] = FIRST_FRAMES
        self._begun = False
        self._listening = False
        self.unanswered = 0
        """Requests given to our side that it has not answered."""

    def greeting(self) -> bytes:
        """The first bytes down."""
        return Hello(self._challenge).serialize()

    def receive_data(self, data: Buffer) -> list[Request]:
        """The requests that are complete; an OPEN among them has been verified."""
        self._reader.receive_data(data)
        found: list[Request] = []
        if not self._begun:
            self._begun = self._reader.take(PREFACE)
            if not self._begun:
                return found
        while (request := self._reader.next_frame(self._permitted)) is not None:
            if self.unanswered >= MAX_UNANSWERED:
                raise MailboxFrameError("too many requests at once")
            self._turn(request)
            self.unanswered += 1
            found.append(request)
        return found

    def answer(self, answer: Answer) -> bytes:
        """The bytes of the answer to the oldest request that has none."""
        if not self.unanswered:
            raise LocalProtocolError("an answer that nobody asked for")
        self.unanswered -= 1
        return answer.serialize()

    def _turn(self, request: Request) -> None:
        """Whether ``request`` comes at its time."""
        if self._permitted is FIRST_FRAMES:
            self._permitted = OWNER_FRAMES if type(request) is Open else SENDER_FRAMES
        if type(request) is Open:
            verify(request, self._mailbox, self._challenge)
        elif type(request) is Listen:
            if self._listening:
                raise MailboxFrameError("a second LISTEN")
            self._listening = True
        elif type(request) is Close:
            self._permitted = {}


@dataclass(slots=True)
class Outcomes:
    """What some bytes from the mailbox came to."""

    challenge: bytes | None = None
    """From HELLO."""
    answers: list[Answer] = field(default_factory=list)
    """In the order of the requests."""
    mail: list[Mail] = field(default_factory=list)
    displaced: bool = False
    """Whether another stream has taken the box over; this one ends."""


class ClientConversation:
    """One stream, seen from a client."""

    __slots__ = ("_expected", "_greeted", "_reader", "_untaken", "_window")

    def __init__(self) -> None:
        self._reader = FrameReader()
        self._expected: deque[type[Answer]] = deque()
        self._greeted = False
        self._window = 0
        self._untaken = 0

    @property
    def unanswered(self) -> int:
        """Requests that wait for their answers."""
        return len(self._expected)

    def preface(self) -> bytes:
        """The first bytes up."""
        return PREFACE

    def ask(self, request: Request) -> bytes:
        """The bytes of a request; its answer is the next one that no earlier request gets."""
        if len(self._expected) >= MAX_UNANSWERED:
            raise LocalProtocolError("too many requests at once")
        if type(request) is Listen:
            self._window = request.window
        elif type(request) is Taken:
            self._untaken = max(0, self._untaken - len(request.ids))
        kind: type[Answer] = Done
        if isinstance(request, Open | Status):
            kind = State
        elif type(request) is Fetch:
            kind = Bundle
        elif type(request) is Recall:
            kind = Note
        self._expected.append(kind)
        return request.serialize()

    def receive_data(self, data: Buffer) -> Outcomes:
        """What is complete. Raises :class:`MailboxFrameError` for what a mailbox would not say."""
        self._reader.receive_data(data)
        outcomes = Outcomes()
        while (frame := self._reader.next_frame(DOWN_FRAMES)) is not None:
            self._received(frame, outcomes)
        return outcomes

    def _received(self, frame: Downward, outcomes: Outcomes) -> None:
        if isinstance(frame, Hello):
            if self._greeted:
                raise MailboxFrameError("a second HELLO")
            self._greeted, outcomes.challenge = True, frame.challenge
        elif not self._greeted:
            raise MailboxFrameError("a frame before HELLO")
        elif isinstance(frame, Mail):
            self._untaken += 1
            if self._untaken > self._window:
                raise MailboxFrameError("more mail than the window")
            outcomes.mail.append(frame)
        elif isinstance(frame, Displaced):
            outcomes.displaced = True
        else:
            if not self._expected:
                raise MailboxFrameError("an answer that nobody asked for")
            if type(frame) is not self._expected.popleft() and not isinstance(frame, Refused):
                raise MailboxFrameError("the answer to another kind of request")
            outcomes.answers.append(frame)
