"""Who may use a bridge: enrolled identities, and the invites that enrol more of them.

Rules:

1. ``open``: every key is admitted except a revoked one; tokens mean nothing.
   ``enrolled``: a key is admitted when it is enrolled and neither expired nor
   revoked, or when it comes with the token of an invite that has uses left.
2. :meth:`AccessList.decide` changes nothing. :meth:`AccessList.spend`, called
   once the opening's CONFIRM has verified (R26), looks again, and only then
   takes a use from the invite: of two openings with the last use one wins.
3. A token presented again by the key that it enrolled is neither spent nor
   refused: the client did not see the first answer.
4. A revoked key stays out, whatever token it brings. An expired one may come
   back by an invite.
5. Of a token only a hash is kept (``credentials.token_id``).

Times are unix seconds. Files are not this module's business: ``to_dict`` and
``from_dict`` are JSON-able, with a version (``access_record.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from ptproxy.auth import access_record
from ptproxy.auth.access_record import MAX_NAME, Identity, Invite
from ptproxy.auth.credentials import Token, token_id
from ptproxy.errors import AuthenticationError


class Access(Enum):
    """Who is admitted; values as in the configuration."""

    OPEN = "open"
    ENROLLED = "enrolled"


@dataclass(frozen=True, slots=True)
class Admission:
    """A key that may use the bridge, as :meth:`AccessList.decide` found it."""

    public: bytes
    name: str
    """The identity's name, for logs and limits; ``""`` for an unknown key of an open bridge."""
    invite: str = ""
    """Id of the invite to be spent at CONFIRM; ``""``: none."""


class AccessList:
    """Identities by public key and invites by id. ``access`` is the bridge's configuration."""

    __slots__ = ("access", "identities", "invites")

    def __init__(self, access: Access = Access.ENROLLED) -> None:
        self.access = access
        self.identities: dict[bytes, Identity] = {}
        self.invites: dict[str, Invite] = {}

    # ---- asked at every opening -----------------------------------------------------------

    def decide(self, public: bytes, token: bytes, unix_now: float) -> Admission:
        """May ``public`` (32 bytes) with ``token`` (16 bytes or ``b""``) use the bridge?

        Changes nothing. Raises :class:`AuthenticationError`, whose text says why, for the log.
        """
        identity = self.identities.get(public)
        if identity is not None:
            if identity.revoked:
                raise AuthenticationError("access: the identity is revoked")
            if self.access is Access.OPEN or not _over(identity.expires_at, unix_now):
                return Admission(public, identity.name)
        elif self.access is Access.OPEN:
            return Admission(public, "")
        if not token:
            raise AuthenticationError(
                "access: the identity has expired" if identity else "access: an unknown key without an invite"
            )
        invite = self._usable_invite(token_id(token), unix_now)
        return Admission(public, identity.name if identity else invite.name, invite.id)

    def spend(self, admission: Admission, unix_now: float) -> Identity | None:
        """Make an admission good, once CONFIRM has verified: enrol its key by its invite if need be.

        Returns the identity, None for an unknown key of an open bridge. The list may have changed
        since ``decide``: raises :class:`AuthenticationError` if the key is no longer admitted.
        """
        public = admission.public
        identity = self.identities.get(public)
        if not admission.invite or (identity is not None and self._valid(identity, unix_now)):
            self.check(public, unix_now)
            return identity
        if identity is not None and identity.revoked:
            raise AuthenticationError("access: the identity is revoked")
        invite = self._usable_invite(admission.invite, unix_now)
        self.invites[invite.id] = replace(invite, uses_left=invite.uses_left - 1)
        now = int(unix_now)
        expires = None if invite.lifetime is None else now + invite.lifetime
        name = identity.name if identity else self._free_name(invite)
        return self.enrol(Identity(public, name, now, expires, invite=invite.id))

    def check(self, public: bytes, unix_now: float) -> None:
        """Return while ``public`` is admitted (invites aside), else :class:`AuthenticationError`.

        For sessions that exist, at each verification and when the list changes.
        """
        self.decide(public, b"", unix_now)

    # ---- asked by the operator ------------------------------------------------------------

    def enrol(self, identity: Identity) -> Identity:
        """Add or replace an identity; returns it."""
        self.identities[identity.public] = identity
        return identity

    def revoke(self, public: bytes) -> Identity:
        """Keep this key out from now on; KeyError if it was never enrolled."""
        return self.enrol(replace(self.identities[public], revoked=True))

    def invite(
        self,
        token: Token,
        name: str,
        *,
        uses: int = 1,
        expires_at: int | None = None,
        lifetime: int | None = None,
    ) -> Invite:
        """Let ``token`` enrol ``uses`` keys until ``expires_at`` (unix seconds; None: no end).

        Each identity then lasts ``lifetime`` seconds (None: for good). ValueError for impossible values.
        """
        invite = Invite(token.id, name, uses, expires_at, lifetime)
        self.invites[invite.id] = invite
        return invite

    def withdraw(self, invite_id: str) -> None:
        """Forget an invite; those it enrolled stay. KeyError if there is none."""
        del self.invites[invite_id]

    def prune(self, unix_now: float) -> None:
        """Forget invites that are used up or expired. Identities are kept: they say who was here."""
        dead = [
            invite.id
            for invite in self.invites.values()
            if invite.uses_left == 0 or _over(invite.expires_at, unix_now)
        ]
        for invite_id in dead:
            del self.invites[invite_id]

    def to_dict(self) -> dict[str, Any]:
        """Identities and invites, JSON-able; holds no token."""
        return access_record.serialize(self.identities.values(), self.invites.values())

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], access: Access = Access.ENROLLED) -> AccessList:
        """The list that :meth:`to_dict` gave; :class:`ConfigError` names everything that is wrong."""
        identities, invites = access_record.parse(data)
        access_list = cls(access)
        access_list.identities = {identity.public: identity for identity in identities}
        access_list.invites = {invite.id: invite for invite in invites}
        return access_list

    # ---- inside ---------------------------------------------------------------------------

    def _valid(self, identity: Identity, unix_now: float) -> bool:
        return not identity.revoked and not _over(identity.expires_at, unix_now)

    def _usable_invite(self, invite_id: str, unix_now: float) -> Invite:
        invite = self.invites.get(invite_id)
        if invite is None:
            raise AuthenticationError("access: an unknown invite")
        if _over(invite.expires_at, unix_now):
            raise AuthenticationError("access: the invite has expired")
        if invite.uses_left < 1:
            raise AuthenticationError("access: the invite is used up")
        return invite

    def _free_name(self, invite: Invite) -> str:
        """The invite's name, or where somebody has it, with a free number behind it."""
        taken = {identity.name for identity in self.identities.values()}
        if invite.name not in taken:
            return invite.name
        number = 1 + sum(identity.invite == invite.id for identity in self.identities.values())
        while True:
            suffix = f" {number}"
            name = invite.name[: MAX_NAME - len(suffix)] + suffix
            if name not in taken:
                return name
            number += 1

    def __repr__(self) -> str:
        counts = f"{len(self.identities)} identities, {len(self.invites)} invites"
        return f"<AccessList {self.access.value}: {counts}>"


def _over(expires_at: int | None, unix_now: float) -> bool:
    return expires_at is not None and unix_now >= expires_at
