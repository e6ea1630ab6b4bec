"""A person's records in the directory: how to begin with them while they are away, where their mailbox is.

The seam for a messenger. A person gives each contact a secret (in its invite, or over the ratchet) and the
key that signs; under them lie the prekey bundle and the mailbox's place, newly sealed in every slot whether
they changed or not. So a contact finds both when the mailbox it knew is gone, and nobody else
sees that there is something to find::

    mine = PersonRecords(secret)                    one for each contact
    mine.bundle(data)   mine.mailbox(link, passes)
    await publish_person(directory, mine, signer, rng, now, save)     when deadline() is reached
    found = await find_bundle(directory, secret, key)

A bundle that was found is not verified: ``ptproxy.e2e.bundle.verify`` does that, against the identity that
the contact is known by. The bundle holds no one-time prekey; those come from the mailbox.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ptproxy.config.link import Link
from ptproxy.dht.identifier import Rng
from ptproxy.dht.person_record import MailboxPointer, PrekeyBundleRecord
from ptproxy.dht.publication import Progress, Publication, Turn
from ptproxy.dht.record_secret import RecordSecret, RecordType
from ptproxy.dht.signing import SigningKey
from ptproxy.errors import StateError
from ptproxy.peers.find_directory import Directory
from ptproxy.peers.find_publisher import sealed, written


class PersonRecords:
    """What one person publishes for one contact: publications for a :class:`Publisher`'s list."""

    __slots__ = ("_publications", "secret")

    def __init__(self, secret: RecordSecret) -> None:
        self.secret = secret
        self._publications: dict[RecordType, Publication] = {}

    def bundle(self, data: bytes) -> None:
        """Publish this prekey bundle from now on; :class:`LocalProtocolError` for one that is too long."""
        self._say(RecordType.PREKEY_BUNDLE, PrekeyBundleRecord(data).serialize())

    def mailbox(self, link: Link, passes: bytes = b"") -> None:
        """Publish where the mailbox is: at once, if it is another place than was said before.

        Other passes for the same place go out in the next turn.
        """
        content = MailboxPointer(link, passes).serialize()
        known = self._publications.get(RecordType.MAILBOX_POINTER)
        if known is None or MailboxPointer.parse(known.content).mailbox == link:
            self._say(RecordType.MAILBOX_POINTER, content)
        else:
            known.announce(content)  # letters to the old place are lost

    def due(self, now: float) -> list[tuple[Publication, Turn]]:
        """What is to be published ``now``."""
        return [(each, turn) for each in self._publications.values() for turn in each.due(now)]

    def deadline(self, now: float) -> float:
        """Unix seconds at which :meth:`due` has something next; infinity if there is nothing to say."""
        moments = (each.deadline(now) for each in self._publications.values())
        return min((moment for moment in moments if moment is not None), default=float("inf"))

    def progress(self) -> dict[str, Any]:
        """JSON-able: how far the records are, to survive a restart."""
        return {
            str(int(kind)): {
                str(epoch): [done.sequence, done.slot] for epoch, done in publication.progress.items()
            }
            for kind, publication in self._publications.items()
        }

    def resume(self, progress: Mapping[str, Any]) -> None:
        """Go on where :meth:`progress` was; StateError for what it never gave."""
        try:
            for kind, publication in self._publications.items():
                publication.resume(
                    {
                        int(epoch): Progress(int(sequence), int(slot))
                        for epoch, (sequence, slot) in dict(progress.get(str(int(kind)), {})).items()
                    }
                )
        except (TypeError, ValueError, AttributeError):
            raise StateError("how far a person's records are is damaged") from None

    def _say(self, kind: RecordType, content: bytes) -> None:
        known = self._publications.get(kind)
        if known is None:
            self._publications[kind] = Publication(self.secret, kind, content)
        else:
            known.content = content


async def publish_person(
    directory: Directory,
    mine: PersonRecords,
    signer: SigningKey,
    rng: Rng,
    now: float,
    save: Callable[[], None],
) -> int:
    """Publish what is due; how many records did not get out, and are due again.

    ``save`` keeps ``mine.progress()``: called before anything leaves, and behind it.
    """
    await directory.reach()
    records = [(each, turn, await sealed(directory, each, turn, signer, rng)) for each, turn in mine.due(now)]
    save()
    left = await written(directory, records)
    save()
    return left


async def find_bundle(directory: Directory, secret: RecordSecret, key: bytes) -> bytes | None:
    """The newest prekey bundle that ``key`` signed under ``secret``, not verified; None if there is none."""
    found = await directory.read(secret, RecordType.PREKEY_BUNDLE, key)
    return None if found is None else PrekeyBundleRecord.parse(found.content).bundle


async def find_mailbox(directory: Directory, secret: RecordSecret, key: bytes) -> MailboxPointer | None:
    """Where the mailbox is now, as ``key`` said under ``secret``; None if nothing is said."""
    found = await directory.read(secret, RecordType.MAILBOX_POINTER, key)
    return None if found is None else MailboxPointer.parse(found.content)
