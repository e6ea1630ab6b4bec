"""One session: a ratchet, how it began, and what goes before its messages.

A peer can have several: both may begin at once, and who has lost its state begins anew. All of
them are read; what is sent goes into the one of the highest :attr:`Session.rank`, which both sides
compute from the same facts, in whatever order these arrive.

Stored: ``version u8 = 1 │ conversation 16 │ key 16 │ session id 32 │ begun u64 │ heard u64
│ authorship u8 │ length u16 │ opening │ ratchet``
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ptproxy.e2e.content import Content, Kind
from ptproxy.e2e.first_message import Authorship, Beginning, Received
from ptproxy.e2e.ratchet import Ratchet
from ptproxy.e2e.replay import KEY
from ptproxy.e2e.rng import Rng
from ptproxy.errors import StateError
from ptproxy.fields import Fields

CONVERSATION: Final = 16
"""Bytes of a conversation's id."""
MAX_UNANSWERED: Final = 900
"""Messages without an answer after which a session asks for another: a thousand lost would end it."""
MAX_OPENING_AGE: Final = 28 * 86_400
"""Seconds after which an unanswered opening asks for another: its prekeys' private halves are gone."""

_VERSION: Final = 1
_ID: Final = 32


@dataclass(slots=True, eq=False, repr=False)
class Session:
    """A ratchet with its name."""

    conversation: bytes
    """The id of the conversation that it belongs to, 16 bytes."""
    key: bytes
    """16 bytes: what :func:`~ptproxy.e2e.first_message.opening_key` says of its opening."""
    id: bytes
    """32 bytes, public, the same on both sides."""
    ratchet: Ratchet
    authorship: Authorship
    """Which proof its opening carried, whoever made it."""
    begun: int = 0
    """When, in unix seconds of who began it; a new one says at least one more than those it knows."""
    heard: int = 0
    """When it was begun here, or last read, in unix seconds of our clock."""
    opening: bytes = b""
    """What goes before each message of ours until one of the peer's was read."""

    @classmethod
    def initiate(
        cls,
        conversation: bytes,
        beginning: Beginning,
        authorship: Authorship,
        begun: int,
        now: float,
        rng: Rng,
    ) -> Session:
        """The side that has begun."""
        agreed = beginning.agreement
        ratchet = Ratchet.initiate(agreed.secret, agreed.associated_data, beginning.ratchet_key, now, rng)
        return cls(
            conversation,
            beginning.key,
            agreed.session_id,
            ratchet,
            authorship,
            begun,
            heard=max(0, int(now)),
            opening=beginning.opening,
        )

    @classmethod
    def respond(cls, conversation: bytes, received: Received, now: float) -> tuple[Session, Content]:
        """The other side, with what the first message says.

        :class:`~ptproxy.e2e.ratchet.RatchetError` where the ratchet's message is refused.
        """
        agreed = received.agreement
        ratchet = Ratchet.respond(agreed.secret, agreed.associated_data, received.ratchet_pair, now)
        session = cls(conversation, received.use.key, agreed.session_id, ratchet, received.authorship)
        content = session.read(received.payload, now)
        session.begun = content.begun
        return session, content

    @property
    def rank(self) -> tuple[int, int]:
        """The latest begun wins, of equal ones the smaller id."""
        return self.begun, -int.from_bytes(self.id, "big")

    def wants_another(self, now: float) -> bool:
        """Whether a new session is to be begun before this one can no longer be read."""
        late = bool(self.opening) and now - self.heard >= MAX_OPENING_AGE
        return late or self.ratchet.unanswered >= MAX_UNANSWERED

    def write(self, kind: Kind, body: bytes, now: float, rng: Rng) -> bytes:
        """A message, with the opening before it where the peer has not answered."""
        return self.opening + self.ratchet.encrypt(Content(kind, self.begun, body).serialize(), now, rng)

    def read(self, message: bytes, now: float) -> Content:
        """A message without opening; :class:`~ptproxy.e2e.ratchet.RatchetError` where it is refused."""
        content = Content.parse(self.ratchet.decrypt(message, now))
        self.opening = b""
        self.heard = max(0, int(now))
        return content

    def serialize(self) -> bytes:
        """All of it, secret: for the encrypted store and nothing else."""
        return (
            bytes((_VERSION,))
            + self.conversation
            + self.key
            + self.id
            + self.begun.to_bytes(8, "big")
            + self.heard.to_bytes(8, "big")
            + bytes((self.authorship,))
            + len(self.opening).to_bytes(2, "big")
            + self.opening
            + self.ratchet.serialize()
        )

    @classmethod
    def parse(cls, data: bytes) -> Session:
        """The reverse; :class:`StateError` where it is damaged."""
        damaged = StateError("session: damaged, or of a version that this program does not know")
        fields = Fields(data, damaged)
        if fields.number(1) != _VERSION:
            raise damaged
        conversation, key, session_id = fields.take(CONVERSATION), fields.take(KEY), fields.take(_ID)
        begun, heard, authorship = fields.number(8), fields.number(8), fields.number(1)
        opening = fields.take(fields.number(2))
        if authorship not in tuple(Authorship):
            raise damaged
        ratchet = Ratchet.parse(fields.rest())
        return cls(conversation, key, session_id, ratchet, Authorship(authorship), begun, heard, opening)

    def __repr__(self) -> str:
        return f"<Session {self.key.hex()}, {self.ratchet!r}>"
