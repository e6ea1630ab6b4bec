"""What is kept of ourselves beside the identity: name, mailbox, the keys of the box, invites.

Stored, as the piece ``messenger/profile``::

    version u8 = 2 │ flags u8 (1: tell what was read, 2: the note at the mailbox is void)
    │ box seed 32 │ prekeys key 32 │ dialling secret 32
    │ published 0 or 32 with its length u8 │ name length u16 │ name │ link length u16 │ link
    │ successor 0 or 65 with its length u8                            the identity that is to follow, secret
    │ count u16 │ (token id 32) *                                     to be revoked
    │ count u8 │ (box seed 32 │ until u32, a day │ published 0 or 32 with its length u8
    │            │ link length u16 │ link) *                          former boxes; not in version 1

and as ``messenger/invite <id in hex>``::

    version u8 = 1 │ state u8 (0 made, 1 granted) │ left u16 │ label length u16 │ label
    │ count u16 │ (contact 16) *                                      who came by it and has no other pass yet
    │ the invite, as its text has it
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ptproxy.config.link import Link
from ptproxy.e2e import OwnIdentity, Rng
from ptproxy.errors import StateError
from ptproxy.fields import Fields
from ptproxy.peers.contact_invite import MAX_PERSONS, ContactInvite, InviteError
from ptproxy.peers.dialers import Errand, Purpose
from ptproxy.peers.mailbox_delivery import DAY
from ptproxy.peers.messenger_contact import CONTACT
from ptproxy.peers.messenger_events import ContactId
from ptproxy.peers.messenger_passes import LATE, Given, PassState
from ptproxy.peers.payload import MAX_NAME, PREKEYS_KEY

PROFILE: Final = "messenger/profile"
MAX_LABEL: Final = 256
"""Bytes of what the person calls an invite."""
MAX_REVOKED: Final = 8_192
"""Token ids that wait to be revoked: two boxes full; older ones expire by themselves."""

_VERSION: Final = 1
_PROFILE: Final = 2
_PROFILE_BEFORE: Final = 1
"""The version without former boxes."""
_SECRET: Final = 32
_DIAL_LABEL: Final = b"ptproxy 1 messenger dialling"


@dataclass(slots=True)
class FormerBox:
    """A box that we had before we moved, and where mail may still come."""

    mailbox: Link = field(repr=False)
    seed: bytes = field(repr=False)
    until: int
    """The day (since 1970, UTC) from whose beginning on nothing that we have given is good there."""
    published: bytes = b""
    """SHA-256 of the bundle that this mailbox has."""

    def box_key(self) -> Ed25519PrivateKey:
        """The key of the box."""
        return Ed25519PrivateKey.from_private_bytes(self.seed)

    def serialize(self) -> bytes:
        """See the module."""
        link = self.mailbox.serialize().encode("ascii")
        return b"".join(
            (
                self.seed,
                self.until.to_bytes(4, "big"),
                bytes((len(self.published),)) + self.published,
                len(link).to_bytes(2, "big") + link,
            )
        )

    @classmethod
    def take(cls, fields: Fields, damaged: StateError) -> FormerBox:
        """From the front of ``fields``; ``damaged`` is raised for anything else."""
        seed, until, published = fields.take(_SECRET), fields.number(4), fields.take(fields.number(1))
        link = _parse_link(fields, damaged)
        if len(published) not in (0, 32):
            raise damaged
        return cls(link, seed, until, published)


def _parse_link(fields: Fields, damaged: StateError) -> Link:
    try:
        return Link.parse(fields.take(fields.number(2)).decode("ascii"))
    except ValueError:
        raise damaged from None


@dataclass(slots=True)
class Profile:
    """Ourselves."""

    name: str
    mailbox: Link = field(repr=False)
    box_seed: bytes = field(repr=False)
    prekeys_key: bytes = field(repr=False)
    dialling: bytes = field(repr=False)
    published: bytes = b""
    """SHA-256 of the bundle that the mailbox has with all its one-time prekeys; b"": not known."""
    receipts: bool = True
    """Contacts are told what was read."""
    note_void: bool = False
    """The note at the mailbox is of a time that we have forgotten, and went on without."""
    successor: bytes = field(default=b"", repr=False)
    """An :class:`~ptproxy.e2e.OwnIdentity`, serialized, that contacts are being told of; b"": none."""
    revoked: list[bytes] = field(default_factory=list)
    """Ids of tokens that the mailbox is to forget."""
    former: list[FormerBox] = field(default_factory=list)
    """Boxes that we had before, oldest first (``messenger_moving``)."""

    @classmethod
    def make(cls, name: str, mailbox: Link, rng: Rng) -> Profile:
        """A new one, with a box of its own."""
        return cls(name, mailbox, rng(_SECRET), rng(PREKEYS_KEY), rng(_SECRET))

    def box_key(self) -> Ed25519PrivateKey:
        """The key of the box."""
        return Ed25519PrivateKey.from_private_bytes(self.box_seed)

    def purpose(self, errand: Errand, link: Link, contact: ContactId = b"") -> Purpose:
        """A pseudonym for one errand at one bridge, with its key: the same one each time."""
        info = _DIAL_LABEL + bytes((errand,)) + link.key + contact
        return Purpose(errand, contact, HKDF(hashes.SHA256(), _SECRET, None, info).derive(self.dialling))

    def revoke(self, token_ids: list[bytes]) -> None:
        """These tokens are to be good no longer."""
        self.revoked += token_ids
        del self.revoked[:-MAX_REVOKED]

    def serialize(self) -> bytes:
        """See the module."""
        name, link = self.name.encode(), self.mailbox.serialize().encode("ascii")
        return b"".join(
            (
                bytes((_PROFILE, self.receipts | self.note_void << 1)),
                self.box_seed,
                self.prekeys_key,
                self.dialling,
                bytes((len(self.published),)) + self.published,
                len(name).to_bytes(2, "big") + name,
                len(link).to_bytes(2, "big") + link,
                bytes((len(self.successor),)) + self.successor,
                len(self.revoked).to_bytes(2, "big") + b"".join(self.revoked),
                bytes((len(self.former),)) + b"".join(box.serialize() for box in self.former),
            )
        )

    @classmethod
    def parse(cls, data: bytes) -> Profile:
        """The reverse; :class:`StateError` where it is damaged."""
        damaged = StateError("profile: damaged, or of a version that this program does not know")
        fields = Fields(data, damaged)
        version, flags = fields.number(1), fields.number(1)
        if version not in (_PROFILE, _PROFILE_BEFORE) or flags > 3:
            raise damaged
        seed, prekeys_key, dialling = fields.take(_SECRET), fields.take(PREKEYS_KEY), fields.take(_SECRET)
        published = fields.take(fields.number(1))
        try:
            name = fields.take(fields.number(2)).decode()
        except ValueError:
            raise damaged from None
        mailbox = _parse_link(fields, damaged)
        successor = fields.take(fields.number(1))
        revoked = [fields.take(32) for _ in range(fields.number(2))]
        former = []
        if version == _PROFILE:
            former = [FormerBox.take(fields, damaged) for _ in range(fields.number(1))]
        fields.end()
        if successor:
            OwnIdentity.parse(successor)
        if len(published) not in (0, 32) or len(name.encode()) > MAX_NAME:
            raise damaged
        profile = cls(name, mailbox, seed, prekeys_key, dialling, published, bool(flags & 1))
        profile.note_void, profile.successor, profile.revoked = bool(flags & 2), successor, revoked
        profile.former = former
        return profile


@dataclass(slots=True)
class OwnInvite:
    """An invite that we have given somebody."""

    invite: ContactInvite
    label: str
    left: int
    """How many more may come by it."""
    state: PassState = PassState.MADE
    waiting: list[ContactId] = field(default_factory=list)
    """Who came by it and has not yet used a pass of its own: until then its tokens stay good."""
    passes: tuple[Given, Given] = field(init=False, repr=False)
    """To deposit, and to fetch."""

    def __post_init__(self) -> None:
        self.passes = (
            Given(self.invite.depositing(), self.state),
            Given(self.invite.fetching(), self.state),
        )

    @property
    def piece(self) -> str:
        """The name of its piece."""
        return invite_piece(self.invite.id)

    @property
    def spent(self) -> bool:
        """Nobody new may come, and nobody needs it any more."""
        return not self.left and not self.waiting

    def over(self, now: float) -> bool:
        """Whether no mail can come under it any more."""
        return now - self.invite.expires * DAY > LATE

    def open(self, now: float) -> bool:
        """Whether somebody new may come."""
        return self.left > 0 and now < self.invite.expires * DAY

    def token_ids(self) -> list[bytes]:
        """All of them."""
        return [token.id for given in self.passes for token in given.tokens]

    def serialize(self) -> bytes:
        """See the module."""
        label = self.label.encode()
        return b"".join(
            (
                bytes((_VERSION, self.state)),
                self.left.to_bytes(2, "big"),
                len(label).to_bytes(2, "big") + label,
                len(self.waiting).to_bytes(2, "big") + b"".join(self.waiting),
                self.invite.serialize().encode("ascii"),
            )
        )

    @classmethod
    def parse(cls, data: bytes) -> OwnInvite:
        """The reverse; :class:`StateError` where it is damaged."""
        damaged = StateError("own invite: damaged, or of a version that this program does not know")
        fields = Fields(data, damaged)
        version, state, left = fields.number(1), fields.number(1), fields.number(2)
        if version != _VERSION or state not in (PassState.MADE, PassState.GRANTED) or left > MAX_PERSONS:
            raise damaged
        try:
            label = fields.take(fields.number(2)).decode()
            waiting = [fields.take(CONTACT) for _ in range(fields.number(2))]
            invite = ContactInvite.parse(fields.rest().decode("ascii"))
        except (ValueError, InviteError):
            raise damaged from None
        return cls(invite, label, left, PassState(state), waiting)


@dataclass(frozen=True, slots=True)
class OpenInvite:
    """An invite of ours that is still good."""

    id: bytes
    label: str
    """What the person called it."""
    left: int
    """How many may still come by it."""
    expires: int
    """The day (since 1970, UTC) from whose beginning on it is worth nothing."""
    ready: bool
    """Our mailbox knows it."""
    invite: ContactInvite

    @classmethod
    def of(cls, own: OwnInvite) -> OpenInvite:
        """What the program above sees of it."""
        invite, ready = own.invite, own.state is not PassState.MADE
        return cls(invite.id, own.label, own.left, invite.expires, ready, invite)


def invite_piece(number: bytes) -> str:
    """The name of an invite's piece."""
    return f"messenger/invite {number.hex()}"
