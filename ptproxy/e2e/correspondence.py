"""All conversations of one identity: finds the session of whatever comes in, and says what to save.

A message is either of one session, or an opening and a message of the session that it begins;
which of the two its length says. Order of calls, on both sides::

    mine = Correspondence.create(owner, suite, now, rng)
    save(mine.take_unsaved())                              # always before the next line

    peer = mine.add(fingerprint, rng)
    peer.begin(verify(bundle, one_time, fingerprint, now), now, rng)
    message = peer.send(text, now, rng)
    save(mine.take_unsaved())                              # before the bytes leave
    deposit(message)

    received = mine.receive(message, now, rng)             # E2EError: refused, nothing has changed
    save(mine.take_unsaved())                              # before it is shown or confirmed
    show(received)

``save`` writes all pieces in one transaction, and with them what must not be lost when the program dies
right after it: a text that was read and not yet shown, the bytes of a message that have not yet left.
Those are sent as they are, never encrypted again. If it fails, or the program stops before it, the
object is thrown away and :meth:`Correspondence.parse` makes it again from what is stored: then
nothing was sent and nothing was shown.

Pieces: ``identity``, ``prekeys``, ``contact <id>``, ``session <key>``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from ptproxy.e2e.contact import Contact, Standing
from ptproxy.e2e.content import Content, Kind
from ptproxy.e2e.conversation import MAX_SESSIONS, Conversation, contact_name, session_name
from ptproxy.e2e.fingerprint import Fingerprint
from ptproxy.e2e.first_message import Authorship, Received, examine, opening_key, opening_length
from ptproxy.e2e.identity import OwnIdentity
from ptproxy.e2e.prekeys import Maintenance, Prekeys
from ptproxy.e2e.ratchet import SIZES, UnreadableError
from ptproxy.e2e.rng import Rng
from ptproxy.e2e.session import CONVERSATION, Session
from ptproxy.e2e.suite import Suite
from ptproxy.e2e.unsaved import Unsaved
from ptproxy.errors import E2EError, LocalProtocolError, StateError

MAX_CONVERSATIONS: Final = 1_000
"""Peers of one identity: each session costs a message that is nobody's 3 to 35 µs."""
MAX_STRANGERS: Final = 100
"""Of them, those who wrote first and were not answered: strangers keep nobody else out."""

_IDENTITY: Final = "identity"
_PREKEYS: Final = "prekeys"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """A message that was read, once: it never comes again."""

    conversation: Conversation
    standing: Standing
    """To be shown with it."""
    authorship: Authorship
    """Which proof its session began with: a deniable beginning does not prove who the peer is to
    whoever has lost keys of its own."""
    kind: Kind
    body: bytes = field(repr=False)
    """The text; the statement of a succession, which has verified; or what we cannot say the meaning of."""


class Correspondence:
    """An identity, its prekeys and its conversations."""

    __slots__ = ("_by_fingerprint", "_unsaved", "conversations", "owner", "prekeys")

    def __init__(self, owner: OwnIdentity, prekeys: Prekeys) -> None:
        """Without conversations: use :meth:`create` or :meth:`parse`."""
        self.owner = owner
        self.prekeys = prekeys
        self.conversations: dict[bytes, Conversation] = {}
        """By id."""
        self._by_fingerprint: dict[Fingerprint, Conversation] = {}
        self._unsaved = Unsaved()

    @classmethod
    def create(cls, owner: OwnIdentity, suite: Suite, now: float, rng: Rng) -> Correspondence:
        """A new one, with prekeys to publish."""
        created = cls(owner, Prekeys.create(owner, suite, now, rng))
        created._unsaved.changed(_IDENTITY, owner)
        created._prekeys_changed()
        return created

    def add(self, fingerprint: Fingerprint, rng: Rng) -> Conversation:
        """The conversation with a peer whom the person names; the same one if there is one already.

        :class:`LocalProtocolError` for one's own fingerprint, or beyond ``MAX_CONVERSATIONS``.
        """
        if fingerprint == self.owner.public.fingerprint:
            raise LocalProtocolError("correspondence: with oneself")
        conversation = self.find(fingerprint)
        if conversation is None:
            if len(self.conversations) >= MAX_CONVERSATIONS:
                raise LocalProtocolError("correspondence: too many conversations")
            conversation = self._insert(rng(CONVERSATION), Contact(fingerprint))
        conversation.person_wants_it()
        return conversation

    def find(self, fingerprint: Fingerprint) -> Conversation | None:
        """The conversation with this identity, if there is one."""
        return self._by_fingerprint.get(fingerprint)

    def remove(self, conversation: Conversation) -> None:
        """Forget a peer and all that is kept about it. It can write again, as a stranger."""
        for session in list(conversation.sessions.values()):
            conversation.drop(session)
        del self.conversations[conversation.id]
        del self._by_fingerprint[conversation.contact.known]
        self._unsaved.gone(contact_name(conversation.id))

    def accept(self, conversation: Conversation, fingerprint: Fingerprint) -> None:
        """The person accepts the identity seen in place of the known one, by its fingerprint.

        Sessions with the old identity end; those that the new one has begun with us come over.
        :class:`E2EError`, and nothing changes, where the fingerprint is another one, or our own.
        """
        if fingerprint == self.owner.public.fingerprint:
            raise E2EError("correspondence: this is our own identity")
        old = conversation.contact.known
        conversation.accepted(fingerprint)
        del self._by_fingerprint[old]
        other = self.find(fingerprint)
        if other is not None:
            coming = list(other.sessions.values())
            conversation.contact.compared = other.contact.compared
            self.remove(other)
            for session in coming:
                conversation.adopt(session)
            conversation.contact.stale = other.contact.stale
        self._by_fingerprint[fingerprint] = conversation

    def receive(
        self, message: bytes, now: float, rng: Rng, accepted: Collection[Authorship] = frozenset(Authorship)
    ) -> ReceivedMessage:
        """Whatever came in; save before it is shown or confirmed.

        ``accepted`` says which proofs a first message may carry. :class:`E2EError`, in the kinds that
        :func:`~ptproxy.e2e.first_message.examine` and the ratchet have, where it is refused.
        """
        if len(message) in SIZES:
            return self._receive_later(message, now)
        session = self._session(opening_key(message))
        if session is not None:
            return self._read(session, _behind_opening(message), now)
        return self._receive_first(examine(message, self.owner, self.prekeys, accepted), now, rng)

    def maintain(self, now: float, rng: Rng) -> Maintenance:
        """At every start and some times a day: prekeys rotate, old sessions and keys go."""
        for conversation in self.conversations.values():
            conversation.expire(now)
        self._prekeys_changed()
        return self.prekeys.maintain(self.owner, now, rng)

    def start_anew(self, now: float, rng: Rng) -> None:
        """This state was put back, or has another copy: what it made before is no longer used for sending.

        Save, then publish the bundle, with :meth:`replace` in place of all one-time prekeys. Every
        conversation needs a beginning before the next message; its old sessions are still read. First
        messages under way that were made for the old prekeys are lost.
        """
        self.prekeys = Prekeys.create(self.owner, self.prekeys.suite, now, rng)
        self._prekeys_changed()
        for conversation in self.conversations.values():
            conversation.start_anew()

    def succeed(self, successor: OwnIdentity, now: float, rng: Rng) -> None:
        """From now on we are ``successor``: new prekeys, no session; the contacts are the same.

        Save, then publish the bundle, with :meth:`replace` in place of all one-time prekeys. What is under
        way to the old identity cannot be read any more. :class:`LocalProtocolError`, and nothing changes,
        where the two have a key in common.
        """
        if self.owner.public.shares_a_key_with(successor.public):
            raise LocalProtocolError("succession: a new identity has two new keys")
        self.prekeys = Prekeys.create(successor, self.prekeys.suite, now, rng)
        self.owner = successor
        self._unsaved.changed(_IDENTITY, successor)
        self._prekeys_changed()
        for conversation in self.conversations.values():
            conversation.succeed(successor)

    def bundle(self) -> bytes:
        """The bundle to publish."""
        return self.prekeys.bundle(self.owner)

    def refill(self, available: int, now: float, rng: Rng) -> list[bytes]:
        """One-time prekeys to add at the mailbox, which has ``available`` ones; save before they leave."""
        self._prekeys_changed()
        return self.prekeys.refill(self.owner, available, now, rng)

    def replace(self, now: float, rng: Rng) -> list[bytes]:
        """One-time prekeys in place of all at the mailbox; save before they leave."""
        self._prekeys_changed()
        return self.prekeys.replace(self.owner, now, rng)

    @property
    def has_unsaved(self) -> bool:
        """Whether :meth:`take_unsaved` would give anything."""
        return bool(self._unsaved)

    def take_unsaved(self) -> dict[str, bytes | None]:
        """The pieces to write, ``None`` for those to delete, in one transaction; empty: nothing to save."""
        return self._unsaved.take()

    def serialize(self) -> dict[str, bytes]:
        """Every piece: what the store has after the last save."""
        pieces = {_IDENTITY: self.owner.serialize(), _PREKEYS: self.prekeys.serialize()}
        for number, conversation in self.conversations.items():
            pieces[contact_name(number)] = conversation.contact.serialize()
            for key, session in conversation.sessions.items():
                pieces[session_name(key)] = session.serialize()
        return pieces

    @classmethod
    def parse(cls, pieces: Mapping[str, bytes]) -> Correspondence:
        """From all pieces of the store; :class:`StateError`, with the name of the piece that is damaged.

        Without a damaged contact and its sessions, or a damaged session, the rest can be parsed again:
        which of them to give up is for the person to say.
        """
        if _IDENTITY not in pieces or _PREKEYS not in pieces:
            raise StateError("store: the identity or the prekeys are missing")
        owner = _parse(_IDENTITY, OwnIdentity.parse, pieces)
        parsed = cls(owner, _parse(_PREKEYS, Prekeys.parse, pieces))
        others = sorted(pieces.keys() - {_IDENTITY, _PREKEYS})
        sessions = [name for name in others if name.startswith("session ")]
        contacts = [name for name in others if not name.startswith("session ")]
        for name in contacts:
            parsed._put_contact(name, _parse(name, Contact.parse, pieces))
        for name in sessions:
            parsed._put_session(name, _parse(name, Session.parse, pieces))
        return parsed

    def _put_contact(self, name: str, contact: Contact) -> None:
        try:
            number = bytes.fromhex(name.removeprefix("contact "))
        except ValueError:
            number = b""
        if (
            len(number) != CONVERSATION
            or contact_name(number) != name
            or self.find(contact.known) is not None
        ):
            raise StateError(f"store: {name}: no piece of this program's")
        self._insert(number, contact)

    def _put_session(self, name: str, session: Session) -> None:
        conversation = self.conversations.get(session.conversation)
        if session_name(session.key) != name or conversation is None:
            raise StateError(f"store: {name}: belongs to no contact")
        if len(conversation.sessions) >= MAX_SESSIONS:
            raise StateError(f"store: {name}: one session too many")
        conversation.sessions[session.key] = session

    def _insert(self, number: bytes, contact: Contact) -> Conversation:
        conversation = Conversation(number, contact, self.owner, self._unsaved)
        self.conversations[number] = conversation
        self._by_fingerprint[contact.known] = conversation
        return conversation

    def _all_sessions(self) -> Iterator[Session]:
        """The last heard first: most messages belong to whoever wrote last."""
        every = [session for known in self.conversations.values() for session in known.sessions.values()]
        return iter(sorted(every, key=lambda session: -session.heard))

    def _session(self, key: bytes) -> Session | None:
        for conversation in self.conversations.values():
            session = conversation.sessions.get(key)
            if session is not None:
                return session
        return None

    def _receive_later(self, message: bytes, now: float) -> ReceivedMessage:
        """A message without opening: of the session whose header key opens it."""
        for session in self._all_sessions():
            try:
                return self._read(session, message, now)
            except UnreadableError:
                continue
        raise UnreadableError("message: of no session")

    def _read(self, session: Session, message: bytes, now: float) -> ReceivedMessage:
        content = session.read(message, now)
        return self._taken_in(self.conversations[session.conversation], session, content, now)

    def _receive_first(self, received: Received, now: float, rng: Rng) -> ReceivedMessage:
        """An opening that has verified. Everything that can refuse comes before the first change."""
        fingerprint = received.peer.fingerprint
        conversation = self.find(fingerprint)
        if conversation is None:
            self._check_room_for_a_stranger()
        number = rng(CONVERSATION) if conversation is None else conversation.id
        session, content = Session.respond(number, received, now)
        self.prekeys.commit(received.use)
        self._prekeys_changed()
        if conversation is None:
            conversation = self._insert(number, Contact(fingerprint))
            self._unsaved.changed(contact_name(number), conversation.contact)
        conversation.add(session)
        return self._taken_in(conversation, session, content, now)

    def _check_room_for_a_stranger(self) -> None:
        strangers = sum(not known.contact.added for known in self.conversations.values())
        if strangers >= MAX_STRANGERS or len(self.conversations) >= MAX_CONVERSATIONS:
            raise E2EError("first message: from a stranger, and there are too many")

    def _taken_in(
        self, conversation: Conversation, session: Session, content: Content, now: float
    ) -> ReceivedMessage:
        kind = conversation.take_in(session, content, now)
        return ReceivedMessage(conversation, conversation.standing, session.authorship, kind, content.body)

    def _prekeys_changed(self) -> None:
        self._unsaved.changed(_PREKEYS, self.prekeys)

    def __repr__(self) -> str:
        return f"<Correspondence {len(self.conversations)} conversations>"


def _parse(name: str, parse: Callable[[bytes], T], pieces: Mapping[str, bytes]) -> T:
    """One piece; its name is said where it is damaged."""
    try:
        return parse(pieces[name])
    except StateError as error:
        raise StateError(f"store: {name}: {error}") from None


def _behind_opening(message: bytes) -> bytes:
    """The ratchet's message of a first message; :class:`E2EError` for a suite that we do not know."""
    return message[opening_length(Suite.parse(message[1])) :]
