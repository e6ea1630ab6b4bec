"""An operator's list: which bridges are in which bucket, and to which invites they are given out.

A bucket is up to three bridges with a name that only the operator knows. Each invite belongs to
one bucket and has a record of its own in each epoch. What an operator does, and what follows:

- **issue**: a new secret, published from now on until the invite expires
- **rotate**: other bridges in a bucket; its invites say so from their next turns on, each in its own time
- **revoke**: the invite's records say "no bridge" at once, and after their epochs nothing more

``to_dict`` holds every secret: for a file of mode 0600 and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ptproxy.config.link import Link
from ptproxy.dht import epoch as epochs
from ptproxy.dht.bridge_record import MAX_BRIDGES, BridgeBucket
from ptproxy.dht.epoch import SLOTS
from ptproxy.dht.identifier import Rng
from ptproxy.dht.invite import MAX_TIME, Invite, invite_id
from ptproxy.dht.publication import Progress, Publication
from ptproxy.dht.record_secret import MAX_EPOCH, MAX_SEQUENCE, RecordSecret, RecordType
from ptproxy.dht.signing import SigningKey
from ptproxy.errors import LocalProtocolError, StateError

MAX_INVITES: Final = 10_000
"""Invites of one list: 30,000 to 60,000 locations in six hours, 20 nodes each; more want another list."""
MAX_NAME: Final = 64
"""Characters of a bucket's name."""

_VERSION: Final = 1
_NAME = re.compile(r"[\w .,:@+-]{1,64}")
_SECRET = re.compile(r"[0-9a-f]{64}")


@dataclass(slots=True)
class IssuedInvite:
    """An invite as its operator keeps it: without the bridges that it had when it was made."""

    bucket: str
    expires: int
    """Unix seconds."""
    publication: Publication = field(repr=False)
    revoked: bool = False

    @property
    def id(self) -> bytes:
        """16 bytes: the invite's name in lists."""
        return invite_id(self.publication.secret)


class InviteList:
    """One operator's buckets and invites. The repr shows nothing."""

    __slots__ = ("_buckets", "_invites", "issuer")

    def __init__(self, issuer: SigningKey) -> None:
        self.issuer = issuer
        self._buckets: dict[str, BridgeBucket] = {}
        self._invites: dict[bytes, IssuedInvite] = {}

    @property
    def buckets(self) -> Mapping[str, BridgeBucket]:
        """By name."""
        return self._buckets

    def invites(self) -> Iterator[IssuedInvite]:
        """All that are not forgotten, oldest first."""
        return iter(self._invites.values())

    def put(self, name: str, bridges: tuple[Link, ...]) -> None:
        """Make the bucket ``name``, or change its bridges: its invites say so at their next turns.

        :class:`LocalProtocolError` for a name or bridges that cannot be. See :meth:`hurry`.
        """
        if _NAME.fullmatch(name) is None:
            raise LocalProtocolError(
                f"a bucket's name has 1 to {MAX_NAME} letters, digits, spaces and .,:@+-_"
            )
        bucket = BridgeBucket(bridges)
        content = bucket.serialize()
        self._buckets[name] = bucket
        for invite in self._of(name):
            invite.publication.content = content

    def hurry(self, name: str) -> None:
        """Let the invites of a bucket say what it holds at once: none of its old bridges works any more.

        Whoever watches many nodes sees records that change together: KeyError if there is no such bucket.
        """
        content = self._buckets[name].serialize()
        for invite in self._of(name):
            invite.publication.announce(content)

    def issue(self, name: str, expires: int, rng: Rng) -> Invite:
        """A new invite to the bucket ``name``, good until ``expires`` (unix seconds).

        KeyError if there is no such bucket, :class:`LocalProtocolError` if it is empty or there are
        too many invites.
        """
        bucket = self._buckets[name]
        if len(self._invites) >= MAX_INVITES:
            raise LocalProtocolError(f"one list holds {MAX_INVITES} invites")
        invite = Invite.issue(self.issuer, bucket.bridges, expires, rng)
        publication = Publication(
            invite.secret, RecordType.BRIDGE_BUCKET, bucket.serialize(), _last_epoch(expires)
        )
        self._invites[invite.id] = IssuedInvite(name, expires, publication)
        return invite

    def revoke(self, identifier: bytes, now: float) -> None:
        """Say "no bridge" to whoever has this invite, and soon nothing. KeyError if there is none.

        What it showed is known: :meth:`put` other bridges in its bucket too.
        """
        invite = self._invites[identifier]
        if not invite.revoked:
            invite.revoked = True
            invite.publication.withdraw(BridgeBucket(()).serialize(), now)

    def published(self, now: float) -> list[Publication]:
        """Everything that is to be published now or later; forgets invites that are over."""
        self._invites = {
            identifier: invite
            for identifier, invite in self._invites.items()
            if not invite.publication.is_over(now)
        }
        return [invite.publication for invite in self._invites.values()]

    def _of(self, name: str) -> list[IssuedInvite]:
        return [invite for invite in self._invites.values() if invite.bucket == name and not invite.revoked]

    # ---- stored ---------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; with every secret, the issuer's private key excepted."""
        return {
            "version": _VERSION,
            "buckets": {
                name: [bridge.serialize() for bridge in bucket.bridges]
                for name, bucket in self._buckets.items()
            },
            "invites": [_invite_to_dict(invite) for invite in self._invites.values()],
        }

    @classmethod
    def from_dict(cls, issuer: SigningKey, data: Mapping[str, Any]) -> InviteList:
        """The list that :meth:`to_dict` gave; :class:`StateError` says what is wrong."""
        listed = cls(issuer)
        try:
            if data["version"] != _VERSION or set(data) != {"version", "buckets", "invites"}:
                raise StateError("the list of invites is of a version that this program does not know")
            for name, lines in dict(data["buckets"]).items():
                if len(lines) > MAX_BRIDGES:
                    raise ValueError("too many bridges")
                listed.put(name, tuple(Link.parse(line) for line in lines))
            for stored in list(data["invites"]):
                invite = _invite_from_dict(stored, listed._buckets)
                listed._invites[invite.id] = invite
            if len(listed._invites) > MAX_INVITES:
                raise ValueError("too many invites")
        except (KeyError, TypeError, ValueError, AttributeError, LocalProtocolError):
            raise StateError("the list of invites is damaged") from None
        return listed

    def __repr__(self) -> str:
        return f"<InviteList {len(self._buckets)} buckets, {len(self._invites)} invites>"


def _invite_to_dict(invite: IssuedInvite) -> dict[str, Any]:
    return {
        "secret": invite.publication.secret.data.hex(),
        "bucket": invite.bucket,
        "expires": invite.expires,
        "revoked": invite.revoked,
        "last_epoch": invite.publication.last_epoch,
        "progress": {
            str(epoch): [done.sequence, done.slot + 1] for epoch, done in invite.publication.progress.items()
        },
    }


def _invite_from_dict(stored: Mapping[str, Any], buckets: Mapping[str, BridgeBucket]) -> IssuedInvite:
    revoked = stored["revoked"]
    if _SECRET.fullmatch(stored["secret"]) is None or type(revoked) is not bool or len(stored) != 6:
        raise ValueError("an invite that cannot be")
    bucket = BridgeBucket(()) if revoked else buckets[stored["bucket"]]
    secret = RecordSecret(bytes.fromhex(stored["secret"]))
    last_epoch = _number(stored["last_epoch"], MAX_EPOCH)
    publication = Publication(secret, RecordType.BRIDGE_BUCKET, bucket.serialize(), last_epoch)
    publication.resume(
        {
            int(epoch): Progress(_number(sequence, MAX_SEQUENCE), _number(slot, SLOTS) - 1)
            for epoch, (sequence, slot) in stored["progress"].items()
        }
    )
    if revoked:  # it may not have got out before the restart
        publication.announce(publication.content)
    return IssuedInvite(stored["bucket"], _number(stored["expires"], MAX_TIME), publication, revoked)


def _last_epoch(expires: int) -> int:
    """The epoch in which the last moment before ``expires`` lies."""
    return min(max(epochs.epoch_of(expires - 1), 0), MAX_EPOCH)


def _number(value: object, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError("a number that cannot be")
    return value
