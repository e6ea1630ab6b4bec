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
6. Identities of one name that is an account's are that account's devices: it
   may be disabled, end, or have used up its month. What has ended or is used up
   lapses (:meth:`AccessList.lapse`): its person may be told so, and nothing else.
7. An invite of an account enrols devices into it, as many as it may have. An
   invite without one makes an identity for itself, also of an account's device
   that has expired.

Times are unix seconds. Files are not this module's business: ``to_dict`` and
``from_dict`` are JSON-able, with a version (``access_record.py``); what has been
changed since is in :attr:`AccessList.touched`. What accounts have moved is
counted elsewhere and put into :attr:`AccessList.used`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from ptproxy.auth import access_record
from ptproxy.auth.access_record import KINDS, Entry, Identity, Invite
from ptproxy.auth.access_values import MAX_NAME
from ptproxy.auth.account import TOLD_FOR, Account, Lapse, Standing, Used, month_of
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
    """Identities by public key, invites by id, accounts by name. ``access`` is the bridge's configuration."""

    __slots__ = ("_by_name", "access", "accounts", "identities", "invites", "touched", "used")

    def __init__(self, access: Access = Access.ENROLLED) -> None:
        self.access = access
        self.identities: dict[bytes, Identity] = {}
        self.invites: dict[str, Invite] = {}
        self.accounts: dict[str, Account] = {}
        self.used: dict[str, Used] = {}
        """What accounts have moved in their months, by name; of a month that is over: nothing."""
        self.touched: set[tuple[str, Any]] = set()
        """What was changed and is to be stored: a list of the stored form, and what is known by in it."""
        self._by_name: dict[str, dict[bytes, None]] | None = None  # None: to be made from identities

    # ---- asked at every opening -----------------------------------------------------------

    def decide(self, public: bytes, token: bytes, unix_now: float) -> Admission:
        """May ``public`` (32 bytes) with ``token`` (16 bytes or ``b""``) use the bridge?

        Changes nothing. Raises :class:`AuthenticationError`, whose text says why, for the log.
        """
        identity = self.identities.get(public)
        if identity is None and self.access is Access.OPEN:
            return Admission(public, "")
        why = "an unknown key without an invite"
        if identity is not None:
            self._refuse_kept_out(identity)
            lapsed = self._lapse(identity, unix_now)
            if lapsed is None:
                return Admission(public, identity.name)
            if lapsed is Lapse.QUOTA:
                raise AuthenticationError("access: the quota is used up")
            why = "the identity has expired"
        if not token:
            raise AuthenticationError(f"access: {why}")
        invite = self._usable_invite(token_id(token), unix_now)
        self._refuse_full(invite, public, unix_now)
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
        if identity is not None:
            self._refuse_kept_out(identity)
        invite = self._usable_invite(admission.invite, unix_now)
        self._refuse_full(invite, public, unix_now)
        self._put("invites", invite.id, replace(invite, uses_left=invite.uses_left - 1))
        now = int(unix_now)
        expires = None if invite.lifetime is None else now + invite.lifetime
        keeps = identity is not None and not invite.account and identity.name not in self.accounts
        name = identity.name if identity and keeps else invite.account or self._free_name(invite)
        reverse = invite.reverse or (identity.reverse if identity else ())
        return self.enrol(Identity(public, name, now, expires, invite=invite.id, reverse=reverse))

    def check(self, public: bytes, unix_now: float) -> None:
        """Return while ``public`` is admitted (invites aside), else :class:`AuthenticationError`.

        For sessions that exist, at each verification and when the list changes.
        """
        self.decide(public, b"", unix_now)

    def lapse(self, public: bytes, unix_now: float) -> Lapse | None:
        """Why this key may use nothing just now, though its person may be told so; None for all others.

        Among them are keys that are in and keys that are out: :meth:`check` says which.
        """
        identity = self.identities.get(public)
        if identity is None or self._kept_out(identity):
            return None
        lapsed, ended = self._lapse(identity, unix_now), self._ends(identity)
        if lapsed is Lapse.EXPIRED and ended is not None:
            account = self.accounts.get(identity.name)
            whole = account is not None and account.expires_at == ended
            # One device of several that has expired is out: their name is all that services know.
            told = (whole or len(self.named(identity.name)) == 1) and unix_now < ended + TOLD_FOR
            return lapsed if told else None
        return lapsed

    def lapse_of(self, name: str, unix_now: float) -> Lapse | None:
        """:meth:`lapse` of the identities of this name, which all have the same or are out."""
        for each in self.named(name):
            lapsed = self.lapse(each.public, unix_now)
            if lapsed is not None:
                return lapsed
        return None

    def kept_out(self, public: bytes) -> str:
        """``revoked`` or ``disabled`` for a key that nothing lets in, else ``""``."""
        identity = self.identities.get(public)
        return self._kept_out(identity) if identity is not None else ""

    def standing(self, public: bytes, unix_now: float) -> Standing | None:
        """How the identity of this key stands, for its person; None for one that is not known."""
        identity = self.identities.get(public)
        if identity is None:
            return None
        account = self.accounts.get(identity.name)
        lapsed, ends = self._lapse(identity, unix_now), self._ends(identity)
        if account is None:
            return Standing(identity.name, lapsed, ends, None, 0, None, None)
        _, resets_at = month_of(account.reset_day, unix_now)
        used = self._used(account, unix_now)
        resets = resets_at if account.quota is not None else None
        return Standing(identity.name, lapsed, ends, account.quota, used, resets, account.rate)

    def reverse_ports(self, name: str, unix_now: float) -> tuple[int, ...]:
        """The bridge's ports at which the identity of this name may offer services; empty for none.

        Names are all that services know of clients. An identity that is out may
        nothing, and of two with one name neither, unless both are an account's.
        """
        named = [each for each in self.named(name) if self._valid(each, unix_now)]
        account = self.accounts.get(name)
        if account is not None:
            return account.reverse if named else ()
        return named[0].reverse if len(named) == 1 else ()

    def named(self, name: str) -> list[Identity]:
        """The identities of this name."""
        return [self.identities[public] for public in self._index().get(name, ())]

    # ---- asked by the operator ------------------------------------------------------------

    def enrol(self, identity: Identity) -> Identity:
        """Add or replace an identity; returns it."""
        self._put("identities", identity.public, identity)
        return identity

    def revoke(self, public: bytes) -> Identity:
        """Keep this key out from now on; KeyError if it was never enrolled."""
        return self.enrol(replace(self.identities[public], revoked=True))

    def keep_account(self, account: Account) -> Account:
        """Add or replace an account; returns it. Identities of its name are its devices from now on."""
        self._put("accounts", account.name, account)
        return account

    def remove_account(self, name: str) -> None:
        """Forget an account and its invites; its devices are revoked. KeyError if there is none."""
        del self.accounts[name]
        self.touched.add(("accounts", name))
        for identity in self.named(name):
            self.revoke(identity.public)
        for invite in [each for each in self.invites.values() if each.account == name]:
            self.withdraw(invite.id)

    def invite(
        self,
        token: Token,
        name: str,
        *,
        uses: int = 1,
        expires_at: int | None = None,
        lifetime: int | None = None,
        account: str = "",
    ) -> Invite:
        """Let ``token`` enrol ``uses`` keys until ``expires_at`` (unix seconds; None: no end).

        Each identity then lasts ``lifetime`` seconds (None: for good), and is a device of
        ``account`` where one is named. ValueError for impossible values.
        """
        invite = Invite(token.id, name, uses, expires_at, lifetime, account=account)
        self._put("invites", invite.id, invite)
        return invite

    def permit_reverse(self, which: Entry, ports: tuple[int, ...]) -> None:
        """Let an identity, an account, or all that an invite will enrol, offer services at these ports
        and no others.

        ValueError for impossible ports.
        """
        changed = replace(which, reverse=ports)
        for kind, (made, known_by, _) in KINDS.items():
            if isinstance(changed, made):
                self._put(kind, getattr(changed, known_by), changed)

    def withdraw(self, invite_id: str) -> None:
        """Forget an invite; those it enrolled stay. KeyError if there is none."""
        del self.invites[invite_id]
        self.touched.add(("invites", invite_id))

    def prune(self, unix_now: float) -> None:
        """Forget invites that are used up or expired. Identities are kept: they say who was here."""
        dead = [
            invite.id
            for invite in self.invites.values()
            if invite.uses_left == 0 or _over(invite.expires_at, unix_now)
        ]
        for invite_id in dead:
            self.withdraw(invite_id)

    # ---- asked by whoever stores it ---------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Identities, invites and accounts, JSON-able; holds no token."""
        return access_record.serialize(
            self.identities.values(), self.invites.values(), self.accounts.values()
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], access: Access = Access.ENROLLED) -> AccessList:
        """The list that :meth:`to_dict` gave; :class:`ConfigError` names everything that is wrong."""
        identities, invites, accounts = access_record.parse(data)
        access_list = cls(access)
        access_list.identities = {identity.public: identity for identity in identities}
        access_list.invites = {invite.id: invite for invite in invites}
        access_list.accounts = {account.name: account for account in accounts}
        return access_list

    def take_in(self, kind: str, known_by: Any, entry: Entry | None) -> None:
        """What the store has of this (None: nothing any more) is right; it counts as stored."""
        if entry is None:
            if kind == "identities":
                self._unindex(known_by)
            self._entries(kind).pop(known_by, None)
        else:
            self._put(kind, known_by, entry)
        self.touched.discard((kind, known_by))

    def become(self, other: AccessList) -> None:
        """All that the other list has is right, in place of what this one has; it counts as stored."""
        self.identities, self.invites, self.accounts = other.identities, other.invites, other.accounts
        self.used = other.used
        self.touched.clear()
        self._by_name = None

    # ---- inside ---------------------------------------------------------------------------

    def _put(self, kind: str, known_by: Any, entry: Entry) -> None:
        if isinstance(entry, Identity):
            self._unindex(entry.public)
            if self._by_name is not None:
                self._by_name.setdefault(entry.name, {})[entry.public] = None
        self._entries(kind)[known_by] = entry
        self.touched.add((kind, known_by))

    def _entries(self, kind: str) -> dict[Any, Entry]:
        entries: dict[Any, Entry] = getattr(self, kind)
        return entries

    def _index(self) -> dict[str, dict[bytes, None]]:
        if self._by_name is None:
            self._by_name = {}
            for each in self.identities.values():
                self._by_name.setdefault(each.name, {})[each.public] = None
        return self._by_name

    def _unindex(self, public: bytes) -> None:
        before = self.identities.get(public)
        if before is not None and self._by_name is not None:
            named = self._by_name[before.name]
            del named[public]
            if not named:
                del self._by_name[before.name]

    def _valid(self, identity: Identity, unix_now: float) -> bool:
        return not self._kept_out(identity) and self._lapse(identity, unix_now) is None

    def _kept_out(self, identity: Identity) -> str:
        account = self.accounts.get(identity.name)
        if identity.revoked:
            return "revoked"
        return "disabled" if account is not None and not account.enabled else ""

    def _refuse_kept_out(self, identity: Identity) -> None:
        out = self._kept_out(identity)
        if out:
            what = "identity" if identity.revoked else "account"
            raise AuthenticationError(f"access: the {what} is {out}")

    def _ends(self, identity: Identity) -> int | None:
        """When the identity expires; at an open bridge only its account can."""
        account = self.accounts.get(identity.name)
        own = None if self.access is Access.OPEN else identity.expires_at
        ends = [each for each in (own, account.expires_at if account else None) if each is not None]
        return min(ends, default=None)

    def _lapse(self, identity: Identity, unix_now: float) -> Lapse | None:
        if _over(self._ends(identity), unix_now):
            return Lapse.EXPIRED
        account = self.accounts.get(identity.name)
        if account is None or account.quota is None or self._used(account, unix_now) < account.quota:
            return None
        return Lapse.QUOTA

    def _used(self, account: Account, unix_now: float) -> int:
        """Bytes that the account has moved in its present month."""
        used = self.used.get(account.name)
        if used is None or used.since < month_of(account.reset_day, unix_now)[0]:
            return 0
        return used.total

    def _usable_invite(self, invite_id: str, unix_now: float) -> Invite:
        invite = self.invites.get(invite_id)
        if invite is None:
            raise AuthenticationError("access: an unknown invite")
        if _over(invite.expires_at, unix_now):
            raise AuthenticationError("access: the invite has expired")
        if invite.uses_left < 1:
            raise AuthenticationError("access: the invite is used up")
        return invite

    def _refuse_full(self, invite: Invite, public: bytes, unix_now: float) -> None:
        """An account takes a device while it is in force and has room for one."""
        if not invite.account:
            return
        account = self.accounts.get(invite.account)
        if account is None or not account.enabled or _over(account.expires_at, unix_now):
            raise AuthenticationError("access: the invite's account is not in force")
        others = [
            each
            for each in self.named(account.name)
            if each.public != public and not each.revoked and not _over(each.expires_at, unix_now)
        ]
        if len(others) >= account.devices:
            raise AuthenticationError("access: the account has all its devices")

    def _free_name(self, invite: Invite) -> str:
        """The invite's name, or where somebody has it, with a free number behind it."""
        taken = self._index()
        if invite.name not in taken and invite.name not in self.accounts:
            return invite.name
        number = 1 + sum(identity.invite == invite.id for identity in self.identities.values())
        while True:
            suffix = f" {number}"
            name = invite.name[: MAX_NAME - len(suffix)] + suffix
            if name not in taken and name not in self.accounts:
                return name
            number += 1

    def __repr__(self) -> str:
        counts = (
            f"{len(self.identities)} identities, {len(self.invites)} invites, {len(self.accounts)} accounts"
        )
        return f"<AccessList {self.access.value}: {counts}>"


def _over(expires_at: int | None, unix_now: float) -> bool:
    return expires_at is not None and unix_now >= expires_at
