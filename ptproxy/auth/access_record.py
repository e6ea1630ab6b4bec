"""Identities and invites as values, and their JSON-able form::

    {"version": 1,
     "identities": [{"key": 43 characters, "name": …, "enrolled_at": …, "expires_at": … | null,
                     "revoked": …, "invite": id or ""}],
     "invites":    [{"id": 64 hexadecimal digits, "name": …, "uses_left": …, "expires_at": … | null,
                     "lifetime": … | null}]}

Times are unix seconds. Unknown fields and versions are refused rather than
dropped: an older program must not rewrite what it does not understand.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ptproxy.auth.credentials import decode_key, encode_key
from ptproxy.errors import ConfigError

RECORD_VERSION: Final = 1
MAX_NAME: Final = 64
"""Characters of a name: it stands in log lines."""
MAX_USES: Final = 1_000_000
"""Uses of one invite: more is a typing error."""
MAX_TIME: Final = 2**53
"""Seconds: what every JSON reader keeps exactly."""

_INVITE_ID = re.compile(r"[0-9a-f]{64}")


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

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_time(self.enrolled_at)
        _check_time(0 if self.expires_at is None else self.expires_at)
        encode_key(self.public)
        if self.invite:
            _check_id(self.invite)
        if type(self.revoked) is not bool:
            raise ValueError("'revoked' is true or false")

    def serialize(self) -> dict[str, Any]:
        """The JSON-able form."""
        return {
            "key": encode_key(self.public),
            "name": self.name,
            "enrolled_at": self.enrolled_at,
            "expires_at": self.expires_at,
            "revoked": self.revoked,
            "invite": self.invite,
        }

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Identity:
        """From the JSON-able form; ValueError says what is wrong."""
        key, name, enrolled_at, expires_at, revoked, invite = _fields(
            data, ("key", "name", "enrolled_at", "expires_at", "revoked", "invite")
        )
        return cls(decode_key(_text(key)), name, enrolled_at, expires_at, revoked, invite)


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

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_time(0 if self.expires_at is None else self.expires_at)
        _check_time(0 if self.lifetime is None else self.lifetime)
        _check_id(self.id)
        if type(self.uses_left) is not int or not 0 <= self.uses_left <= MAX_USES:
            raise ValueError(f"uses are a number from 0 to {MAX_USES}")

    def serialize(self) -> dict[str, Any]:
        """The JSON-able form."""
        return {
            "id": self.id,
            "name": self.name,
            "uses_left": self.uses_left,
            "expires_at": self.expires_at,
            "lifetime": self.lifetime,
        }

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Invite:
        """From the JSON-able form; ValueError says what is wrong."""
        return cls(*_fields(data, ("id", "name", "uses_left", "expires_at", "lifetime")))


def serialize(identities: Iterable[Identity], invites: Iterable[Invite]) -> dict[str, Any]:
    """All of an access list, JSON-able."""
    return {
        "version": RECORD_VERSION,
        "identities": [identity.serialize() for identity in identities],
        "invites": [invite.serialize() for invite in invites],
    }


def parse(data: Mapping[str, Any]) -> tuple[list[Identity], list[Invite]]:
    """What :func:`serialize` gave; :class:`ConfigError` with a line for everything that is wrong."""
    if not isinstance(data, Mapping) or data.get("version") != RECORD_VERSION:
        raise ConfigError([f"access list: expected version {RECORD_VERSION}"])
    problems = [
        f"access list: unknown field {name!r}"
        for name in data
        if name not in ("version", "identities", "invites")
    ]
    identities: dict[bytes, Identity] = {}
    for where, entry in _entries(data, "identities", problems):
        try:
            identity = Identity.parse(entry)
        except ValueError as error:
            problems.append(f"{where}: {error}")
            continue
        if identity.public in identities:
            problems.append(f"{where}: the key is there twice")
        identities[identity.public] = identity
    invites: dict[str, Invite] = {}
    for where, entry in _entries(data, "invites", problems):
        try:
            invite = Invite.parse(entry)
        except ValueError as error:
            problems.append(f"{where}: {error}")
            continue
        if invite.id in invites:
            problems.append(f"{where}: the id is there twice")
        invites[invite.id] = invite
    if problems:
        raise ConfigError(problems)
    return list(identities.values()), list(invites.values())


def _entries(data: Mapping[str, Any], name: str, problems: list[str]) -> list[tuple[str, Any]]:
    """The entries of a list with the text that names each."""
    entries = data.get(name)
    if not isinstance(entries, list):
        problems.append(f"access list: {name} must be a list")
        return []
    return [(f"access list: {name}[{index}]", entry) for index, entry in enumerate(entries)]


def _fields(data: object, names: tuple[str, ...]) -> tuple[Any, ...]:
    """The values of exactly these fields."""
    if not isinstance(data, Mapping) or set(data) != set(names):
        raise ValueError(f"must have exactly the fields {', '.join(names)}")
    return tuple(data[name] for name in names)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("a key is text")
    return value


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise ValueError(f"a name is 1 to {MAX_NAME} printable characters")


def _check_time(time: object) -> None:
    if type(time) is not int or not 0 <= time < MAX_TIME:
        raise ValueError("times are whole seconds, or null where there is no end")


def _check_id(invite_id: object) -> None:
    if not isinstance(invite_id, str) or not _INVITE_ID.fullmatch(invite_id):
        raise ValueError("an invite's id is 64 hexadecimal digits")
