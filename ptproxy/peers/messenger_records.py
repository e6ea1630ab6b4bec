"""Under which secrets contacts find us in the directory, and we them; how far our records there are.

Stored, as the piece ``messenger/records``::

    version u8 = 1 │ signing seed 32 │ count u16
    │ (contact 16 │ ours 0 or 32 with its length u8 │ theirs 0 or 64 with its length u8
    │  │ progress length u16 │ progress, as JSON) *
    │ network length u32 │ what is known of the directory, as JSON

``ours`` is the secret under which we publish for this contact, and for nobody else, so that nothing links two
contacts' records; ``theirs`` is the secret and the key under which the contact publishes for us. The person
decides for each contact: a record costs a lookup four times a day, and an operator of a bridge sees that.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

from ptproxy.dht.record_secret import SECRET, RecordSecret
from ptproxy.dht.signing import KEY, SigningKey
from ptproxy.e2e import Rng
from ptproxy.errors import LocalProtocolError, StateError
from ptproxy.fields import Fields
from ptproxy.peers.find_network import KnownNetwork
from ptproxy.peers.messenger_contact import CONTACT
from ptproxy.peers.messenger_events import ContactId

RECORDS: Final = "messenger/records"
MOST: Final = 16
"""Contacts that we publish for: each costs some 8 MB a day."""

_VERSION: Final = 1
_MAX_NETWORK: Final = 1 << 20


@dataclass(slots=True)
class ContactSecrets:
    """Of one contact."""

    ours: bytes = field(default=b"", repr=False)
    theirs: bytes = field(default=b"", repr=False)
    progress: dict[str, Any] = field(default_factory=dict)
    """As ``PersonRecords.progress`` gives it."""

    @property
    def secret(self) -> RecordSecret | None:
        """Under which we publish; None: we do not."""
        return RecordSecret(self.ours) if self.ours else None

    @property
    def found_by(self) -> tuple[RecordSecret, bytes] | None:
        """Under which the contact is found, and its public key; None: it has not said."""
        return (RecordSecret(self.theirs[:SECRET]), self.theirs[SECRET:]) if self.theirs else None


class FindSecrets:
    """All of them, our key, and the network that we ask."""

    __slots__ = ("contacts", "network", "seed")

    def __init__(self, seed: bytes = b"") -> None:
        """``seed``: 32 bytes, or none before there is anything to sign."""
        self.seed = seed
        self.contacts: dict[ContactId, ContactSecrets] = {}
        self.network = KnownNetwork()

    def publish_for(self, contact: ContactId, rng: Rng) -> bytes:
        """From now on; the secret and our public key, to tell the contact.

        :class:`LocalProtocolError` for one contact more than :data:`MOST`.
        """
        publishes = [name for name, each in self.contacts.items() if each.ours]
        if contact not in publishes and len(publishes) >= MOST:
            raise LocalProtocolError(f"{MOST} contacts at most find you in the directory")
        self.seed = self.seed or rng(KEY)
        known = self.contacts.setdefault(contact, ContactSecrets())
        if not known.ours:
            known.ours, known.progress = rng(SECRET), {}
        return known.ours + SigningKey(self.seed).public

    def forget(self, contact: ContactId) -> bool:
        """The contact is gone; whether there was anything of it."""
        return self.contacts.pop(contact, None) is not None

    def serialize(self) -> bytes:
        """See the module."""
        parts = [bytes((_VERSION,)), self.seed or bytes(KEY), len(self.contacts).to_bytes(2, "big")]
        for contact, each in self.contacts.items():
            progress = json.dumps(each.progress).encode()
            parts += [contact, bytes((len(each.ours),)), each.ours, bytes((len(each.theirs),)), each.theirs]
            parts += [len(progress).to_bytes(2, "big"), progress]
        network = json.dumps(self.network.to_dict()).encode()
        return b"".join((*parts, len(network).to_bytes(4, "big"), network))

    @classmethod
    def parse(cls, data: bytes) -> FindSecrets:
        """The reverse; :class:`StateError` where it is damaged."""
        damaged = StateError("records: damaged, or of a version that this program does not know")
        fields = Fields(data, damaged)
        if fields.number(1) != _VERSION:
            raise damaged
        seed = fields.take(KEY)
        found = cls(seed if any(seed) else b"")
        for _ in range(fields.number(2)):
            contact, ours = fields.take(CONTACT), fields.take(fields.number(1))
            theirs = fields.take(fields.number(1))
            progress = _json(fields.take(fields.number(2)), damaged)
            if len(ours) not in (0, SECRET) or len(theirs) not in (0, SECRET + KEY):
                raise damaged
            found.contacts[contact] = ContactSecrets(ours, theirs, progress)
        length = fields.number(4)
        if length > _MAX_NETWORK:
            raise damaged
        found.network = KnownNetwork.from_dict(_json(fields.take(length), damaged))
        fields.end()
        return found


def _json(data: bytes, damaged: StateError) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise damaged from None
    if not isinstance(found, dict):
        raise damaged
    return found
