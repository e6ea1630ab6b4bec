"""One peer: what the person has said about it, and the sessions with it.

Sending goes into one session, the one of the highest rank; all are read. A conversation changes
nothing but what its :class:`~ptproxy.e2e.unsaved.Unsaved` then names: whoever calls
:meth:`Conversation.send` saves that before the bytes leave.
"""

from __future__ import annotations

from typing import Final

from ptproxy.e2e import succession
from ptproxy.e2e.bundle import VerifiedBundle
from ptproxy.e2e.contact import Contact, Standing
from ptproxy.e2e.content import MAX_BEGUN, MAX_BODY, Content, Kind
from ptproxy.e2e.fingerprint import Fingerprint
from ptproxy.e2e.first_message import Authorship, begin
from ptproxy.e2e.identity import OwnIdentity
from ptproxy.e2e.refusals import IdentityChangedError
from ptproxy.e2e.rng import Rng
from ptproxy.e2e.session import Session
from ptproxy.e2e.unsaved import Unsaved
from ptproxy.errors import E2EError, LocalProtocolError

MAX_SESSIONS: Final = 4
"""Sessions of one peer: two that crossed, and two of a peer that lost its state."""
SESSION_LIFE: Final = 30 * 86_400
"""Seconds without a message after which a session that is not sent in goes: no kept key is older."""


class Conversation:
    """A contact with its sessions."""

    __slots__ = ("_owner", "_unsaved", "contact", "id", "sessions")

    def __init__(self, number: bytes, contact: Contact, owner: OwnIdentity, unsaved: Unsaved) -> None:
        self.id = number
        """16 random bytes: ours alone, the same whatever identity the peer has."""
        self.contact = contact
        self.sessions: dict[bytes, Session] = {}
        """By key."""
        self._owner = owner
        self._unsaved = unsaved

    @property
    def standing(self) -> Standing:
        """Unverified, verified or changed."""
        return self.contact.standing

    @property
    def session(self) -> Session | None:
        """The one that is sent in; None where there is none yet, or none since :meth:`start_anew`."""
        return None if self.contact.stale else self._highest()

    def needs_beginning(self, now: float) -> bool:
        """Whether a bundle is to be fetched and :meth:`begin` called before the next :meth:`send`."""
        session = self.session
        return session is None or session.wants_another(now)

    def begin(
        self, verified: VerifiedBundle, now: float, rng: Rng, authorship: Authorship = Authorship.SIGNED
    ) -> None:
        """A session of our own, from what :func:`~ptproxy.e2e.bundle.verify` made of the peer's bundle.

        It wins over all that are known here. :class:`IdentityChangedError` while the contact
        is changed, :class:`LocalProtocolError` for another peer's bundle.
        """
        self._may_send()
        if verified.bundle.identity.fingerprint != self.contact.known:
            raise LocalProtocolError("conversation: another peer's bundle")
        beginning = begin(self._owner, verified, rng, authorship)
        latest = max((session.begun for session in self.sessions.values()), default=0)
        begun = min(max(int(now), latest + 1), MAX_BEGUN)
        self.add(Session.initiate(self.id, beginning, authorship, begun, now, rng))
        self.person_wants_it()

    def send(self, text: bytes, now: float, rng: Rng) -> bytes:
        """A message; save before it leaves.

        ``text`` has at most :data:`~ptproxy.e2e.content.MAX_BODY` bytes.
        :class:`IdentityChangedError` while the contact is changed,
        :class:`LocalProtocolError` for a longer text or without a session.
        """
        return self._send(Kind.TEXT, text, now, rng)

    def send_succession(self, statement: bytes, now: float, rng: Rng) -> bytes:
        """A message that names our successor: a statement of :func:`~ptproxy.e2e.succession.declare`."""
        return self._send(Kind.SUCCESSION, statement, now, rng)

    def compare(self, text: str) -> bool:
        """The person typed or scanned the peer's fingerprint: whether it is the known one, now verified."""
        same = self.contact.compare(text)
        if same:
            self._contact_changed()
        return same

    def see(self, identity: Fingerprint) -> None:
        """Another identity was found in this peer's place, say by :func:`~ptproxy.e2e.bundle.verify`."""
        self.contact.see(identity)
        self._contact_changed()

    def hear_succession(self, statement: bytes, now: float) -> None:
        """A statement that the known identity has a successor; :class:`E2EError` where it does not verify."""
        heard = succession.verify(statement, self.contact.known, now)
        self.contact.hear_succession(heard.new.fingerprint)
        self._contact_changed()

    def person_wants_it(self) -> None:
        """Whoever is written to is no stranger."""
        if not self.contact.added:
            self.contact.added = True
            self._contact_changed()

    def keep(self) -> None:
        """The person stays with the known identity."""
        self.contact.keep()
        self._contact_changed()

    def start_anew(self) -> None:
        """The sessions are of an old state: nothing more is sent in them, until one more has been begun."""
        if self.sessions and not self.contact.stale:
            self.contact.stale = True
            self._contact_changed()

    def succeed(self, successor: OwnIdentity) -> None:
        """We are another identity from now on: our sessions were the old one's."""
        self._owner = successor
        self._end_sessions()

    def take_in(self, session: Session, content: Content, now: float) -> Kind:
        """A message of ``session`` was read: what it means for the conversation, and what it is."""
        self._unsaved.changed(session_name(session.key), session)
        if content.kind is not Kind.SUCCESSION:
            return content.kind
        try:
            self.hear_succession(content.body, now)
        except E2EError:
            return Kind.UNKNOWN
        return Kind.SUCCESSION

    def add(self, session: Session) -> None:
        """One more session; at the bound the one that has been silent longest goes, never the winner."""
        self.sessions[session.key] = session
        self._unsaved.changed(session_name(session.key), session)
        winner = self._highest()
        if self.contact.stale and winner is session:
            self.contact.stale = False
            self._contact_changed()
        spare = [known for known in self.sessions.values() if known is not session and known is not winner]
        if len(self.sessions) > MAX_SESSIONS:
            self.drop(min(spare, key=lambda known: known.heard))

    def drop(self, session: Session) -> None:
        """Forget a session: what is under way in it can no longer be read."""
        del self.sessions[session.key]
        self._unsaved.gone(session_name(session.key))

    def expire(self, now: float) -> None:
        """Sessions that lost and fell silent go, and so do keys that were kept for too long."""
        winner = self.session
        for session in list(self.sessions.values()):
            if session is not winner and now - session.heard >= SESSION_LIFE:
                self.drop(session)
            elif session.ratchet.expire(now):
                self._unsaved.changed(session_name(session.key), session)

    def accepted(self, fingerprint: Fingerprint) -> None:
        """The person accepts the new identity: the sessions with the old one end."""
        self.contact.accept(fingerprint)
        self._end_sessions()

    def adopt(self, session: Session) -> None:
        """A session of the accepted identity, which had written to us as a stranger."""
        session.conversation = self.id
        self.add(session)

    def _send(self, kind: Kind, body: bytes, now: float, rng: Rng) -> bytes:
        self._may_send()
        if len(body) > MAX_BODY:
            raise LocalProtocolError(f"conversation: a text has at most {MAX_BODY} bytes")
        session = self.session
        if session is None:
            raise LocalProtocolError("conversation: not begun")
        message = session.write(kind, body, now, rng)
        self._unsaved.changed(session_name(session.key), session)
        self.person_wants_it()
        return message

    def _end_sessions(self) -> None:
        self.contact.stale = False
        for session in list(self.sessions.values()):
            self.drop(session)
        self._contact_changed()

    def _highest(self) -> Session | None:
        return max(self.sessions.values(), key=lambda session: session.rank, default=None)

    def _may_send(self) -> None:
        if self.standing is Standing.CHANGED:
            raise IdentityChangedError(
                "conversation: the peer's identity has changed; the person has to decide"
            )

    def _contact_changed(self) -> None:
        self._unsaved.changed(contact_name(self.id), self.contact)

    def __repr__(self) -> str:
        return f"<Conversation {self.id.hex()}, {self.standing.name.lower()}, {len(self.sessions)} sessions>"


def contact_name(number: bytes) -> str:
    """The name of a contact's piece."""
    return f"contact {number.hex()}"


def session_name(key: bytes) -> str:
    """The name of a session's piece."""
    return f"session {key.hex()}"
