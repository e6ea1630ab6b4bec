"""Identities and invites as values, and the JSON-able form of them and of accounts::

    {"version": 1 | 2 | 3,
     "identities": [{"key": 43 characters, "name": …, "enrolled_at": …, "expires_at": … | null,
                     "revoked": …, "invite": id or ""}],
     "invites":    [{"id": 64 hexadecimal digits, "name": …, "uses_left": …, "expires_at": … | null,
                     "lifetime": … | null}]}

Version 2 has one field more in each entry, ``"reverse": [port, …]``; version 3
one more in each invite, ``"account": name or ""``, and a third list, ``"accounts"``
(``account.py``). The oldest that holds everything is written.

Times are unix seconds. Unknown fields and versions are refused rather than
dropped: an older program must not rewrite what it does not understand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ptproxy.auth.access_values import (
    check_id,
    check_name,
    check_ports,
    check_time,
    exact_fields,
    key_text,
    port_list,
)
from ptproxy.auth.account import Account
from ptproxy.auth.credentials import decode_key, encode_key
from ptproxy.errors import ConfigError

RECORD_VERSION: Final = 3
MAX_USES: Final = 1_000_000
"""Uses of one invite: more is a typing error."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A public key that has been let in, under a name that its operator chose."""

    public: bytes
    name: str
    enrolled_at: int
    expires_at: int | None = None
    """From this time on it is out; None: never."""
    revoked: bool = False
    invite: str = ""
    """Id of the invite that enrolled it, or ``""``."""
    reverse: tuple[int, ...] = ()
    """Ports of the bridge at which it may offer services of its own (``ptproxy reverse``)."""

    def __post_init__(self) -> None:
        check_name(self.name)
        check_time(self.enrolled_at)
        check_time(0 if self.expires_at is None else self.expires_at)
        encode_key(self.public)
        if self.invite:
            check_id(self.invite)
        if type(self.revoked) is not bool:
            raise ValueError("'revoked' is true or false")
        check_ports(self.reverse)

    def serialize(self) -> dict[str, Any]:
        """The JSON-able form, of the newest version."""
        return {
            "key": encode_key(self.public),
            "name": self.name,
            "enrolled_at": self.enrolled_at,
            "expires_at": self.expires_at,
            "revoked": self.revoked,
            "invite": self.invite,
            "reverse": list(self.reverse),
        }

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Identity:
        """From the JSON-able form of the newest version; ValueError says what is wrong."""
        key, name, enrolled_at, expires_at, revoked, invite, reverse = exact_fields(
            data, ("key", "name", "enrolled_at", "expires_at", "revoked", "invite", "reverse")
        )
        public = decode_key(key_text(key))
        return cls(public, name, enrolled_at, expires_at, revoked, invite, port_list(reverse))


@dataclass(frozen=True, slots=True)
class Invite:
    """A token's right to enrol keys; ``id`` is a hash of the token."""

    id: str
    name: str
    """What identities enrolled by it are called (with a number where that is taken)."""
    uses_left: int
    expires_at: int | None = None
    """From this time on it enrols nobody; None: never."""
    lifetime: int | None = None
    """Seconds that an identity enrolled by it is admitted; None: for good."""
    reverse: tuple[int, ...] = ()
    """What such an identity gets as :attr:`Identity.reverse`."""
    account: str = ""
    """The account whose devices it enrols; ``""``: each identity is for itself."""

    def __post_init__(self) -> None:
        check_name(self.name)
        check_time(0 if self.expires_at is None else self.expires_at)
        check_time(0 if self.lifetime is None else self.lifetime)
        check_id(self.id)
        if type(self.uses_left) is not int or not 0 <= self.uses_left <= MAX_USES:
            raise ValueError(f"uses are a number from 0 to {MAX_USES}")
        check_ports(self.reverse)
        if self.account != "":
            check_name(self.account)

    def serialize(self) -> dict[str, Any]:
        """The JSON-able form, of the newest version."""
        return {
            "id": self.id,
            "name": self.name,
            "uses_left": self.uses_left,
            "expires_at": self.expires_at,
            "lifetime": self.lifetime,
            "reverse": list(self.reverse),
            "account": self.account,
        }

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Invite:
        """From the JSON-able form of the newest version; ValueError says what is wrong."""
        invite_id, name, uses_left, expires_at, lifetime, reverse, account = exact_fields(
            data, ("id", "name", "uses_left", "expires_at", "lifetime", "reverse", "account")
        )
        return cls(invite_id, name, uses_left, expires_at, lifetime, port_list(reverse), account)


Entry = Account | Identity | Invite
"""One thing that an access list holds."""

KINDS: Final[dict[str, tuple[type[Entry], str, str]]] = {
    "identities": (Identity, "public", "the key"),
    "invites": (Invite, "id", "the id"),
    "accounts": (Account, "name", "the name"),
}
"""The lists of the stored form: what is in each, the field that it is known by, and that field in words."""


def serialize(
    identities: Iterable[Identity], invites: Iterable[Invite], accounts: Iterable[Account] = ()
) -> dict[str, Any]:
    """All of an access list, JSON-able, in the oldest version that holds it."""
    known = [each.serialize() for each in identities]
    open_invites = [each.serialize() for each in invites]
    limited = [each.serialize() for each in accounts]
    data = {"version": RECORD_VERSION, "identities": known, "invites": open_invites}
    if limited or any(entry["account"] for entry in open_invites):
        return {**data, "accounts": limited}
    for entry in open_invites:
        del entry["account"]
    if any(entry["reverse"] for entry in (*known, *open_invites)):
        return {**data, "version": 2}
    for entry in (*known, *open_invites):
        del entry["reverse"]
    return {**data, "version": 1}


def parse(data: Mapping[str, Any]) -> tuple[list[Identity], list[Invite], list[Account]]:
    """What :func:`serialize` gave; :class:`ConfigError` with a line for everything that is wrong."""
    version = data.get("version") if isinstance(data, Mapping) else None
    if type(version) is not int or not 1 <= version <= RECORD_VERSION:
        raise ConfigError([f"access list: expected version 1 to {RECORD_VERSION}"])
    lists = tuple(KINDS) if version >= 3 else ("identities", "invites")
    problems = [
        f"access list: unknown field {name!r}" for name in data if name != "version" and name not in lists
    ]
    added: dict[str, dict[str, Any]] = {name: {} for name in KINDS}
    if version < 3:
        added["invites"]["account"] = ""
    if version < 2:
        added["identities"]["reverse"] = added["invites"]["reverse"] = []
    found = {name: _parse_list(data, name, added[name], problems) for name in lists}
    if problems:
        raise ConfigError(problems)
    return found["identities"], found["invites"], found.get("accounts", [])


def _parse_list(
    data: Mapping[str, Any], name: str, added: Mapping[str, Any], problems: list[str]
) -> list[Any]:
    """The entries of one list, each as the newest version has it."""
    entries = data.get(name)
    if not isinstance(entries, list):
        problems.append(f"access list: {name} must be a list")
        return []
    kind, known_by, in_words = KINDS[name]
    found: dict[Any, Entry] = {}
    for index, entry in enumerate(entries):
        where = f"access list: {name}[{index}]"
        try:
            value = kind.parse(_with(entry, added))
        except ValueError as error:
            problems.append(f"{where}: {error}")
            continue
        if getattr(value, known_by) in found:
            problems.append(f"{where}: {in_words} is there twice")
        found[getattr(value, known_by)] = value
    return list(found.values())


def _with(entry: Any, added: Mapping[str, Any]) -> Any:
    """An entry as the newest version has it; one that has already what its version lacks is none."""
    if not isinstance(entry, Mapping) or not added.keys().isdisjoint(entry):
        return None
    return {**entry, **added}
