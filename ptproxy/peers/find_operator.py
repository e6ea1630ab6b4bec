"""An operator's folder: the issuer's key, the list of buckets and invites, the bridges to publish through.

Two documents, mode 0600, that hold every secret: ``issuer`` is written once, ``invites`` is changed by
commands and by the publisher at the same time, each under the document's lock. The publisher adds
only how far each record is, so neither undoes what the other did.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from ptproxy.config.link import Link
from ptproxy.dht.identifier import Rng
from ptproxy.dht.issuing import InviteList
from ptproxy.dht.signing import KEY, SigningKey
from ptproxy.errors import StartError
from ptproxy.state import Document, Json

ISSUER: Final = "issuer"
INVITES: Final = "invites"
MAX_VIA: Final = 3
"""Bridges through which an operator publishes."""


class OperatorFolder:
    """What lies in one folder; every method raises :class:`~ptproxy.errors.StartError` and StateError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._issuer = Document(path, ISSUER)
        self._invites = Document(path, INVITES)

    @classmethod
    def is_one(cls, path: Path) -> bool:
        """Whether there is an operator's folder."""
        return (path / f"{ISSUER}.json").exists()

    @classmethod
    def create(cls, path: Path, via: tuple[Link, ...], rng: Rng) -> OperatorFolder:
        """A new one, with a key of its own; refuses where one is."""
        if cls.is_one(path):
            raise StartError(f"{path} is an operator's folder already; choose another one")
        folder = cls(path)
        folder._issuer.write(
            {
                "issuer": rng(KEY).hex(),
                "key": rng(KEY).hex(),
                "via": [link.serialize() for link in via],
            }
        )
        folder._invites.write(Operated(InviteList(folder.issuer), {}, [], 0).to_dict())
        return folder

    @property
    def issuer(self) -> SigningKey:
        """Who signs invites and records."""
        return SigningKey(self._secret("issuer"))

    @property
    def key(self) -> bytes:
        """The X25519 private key under which the bridges of :attr:`via` know the publisher."""
        return self._secret("key")

    @property
    def via(self) -> tuple[Link, ...]:
        """The bridges through which records are published."""
        try:
            return tuple(Link.parse(text) for text in self._read()["via"])
        except (KeyError, TypeError, ValueError, AttributeError):
            raise self._damaged() from None

    def set_via(self, via: tuple[Link, ...]) -> None:
        """Publish through other bridges."""
        self._issuer.update(lambda data: {**(data or {}), "via": [link.serialize() for link in via]})

    def load(self) -> Operated:
        """The list as it is now."""
        return Operated.of(self.issuer, self._invites.read() or {})

    def change(self, change: Callable[[Operated], None]) -> None:
        """Change the list, alone among all processes; an exception of ``change`` leaves it as it was."""

        def changed(operated: Operated) -> None:
            change(operated)
            operated.revision += 1

        self.progress(changed)

    def progress(self, change: Callable[[Operated], None]) -> None:
        """As :meth:`change`, for what tells nobody to read the list again: how far its records are."""
        issuer = self.issuer

        def update(data: Json | None) -> Json:
            operated = Operated.of(issuer, data or {})
            change(operated)
            return operated.to_dict()

        self._invites.update(update)

    def changed(self) -> bool:
        """Whether somebody else has changed the list since this object last read or wrote it."""
        return self._invites.changed()

    def _read(self) -> Json:
        data = self._issuer.read()
        if data is None:
            raise StartError(f"{self.path} is no operator's folder; ptproxy invite init makes one")
        return data

    def _secret(self, name: str) -> bytes:
        try:
            secret = bytes.fromhex(self._read()[name])
        except (KeyError, TypeError, ValueError):
            raise self._damaged() from None
        if len(secret) != KEY:
            raise self._damaged()
        return secret

    def _damaged(self) -> StartError:
        return StartError(f"{self._issuer.path} is damaged; put a backup in its place")


class Operated:
    """An :class:`~ptproxy.dht.issuing.InviteList` with what only its operator's programs know."""

    def __init__(self, listed: InviteList, notes: dict[str, str], hurry: list[str], revision: int) -> None:
        self.listed = listed
        self.revision = revision
        """Rises with every change that is not the publisher's."""
        self.notes = notes
        """For whom an invite is, by its id in hex."""
        self.hurry = hurry
        """Buckets whose change is to go out at once."""

    @classmethod
    def of(cls, issuer: SigningKey, data: Mapping[str, Any]) -> Operated:
        """From its document; StateError for one that is damaged."""
        listed = InviteList.from_dict(issuer, data.get("list") or InviteList(issuer).to_dict())
        notes, hurry = data.get("notes"), data.get("hurry")
        known = {invite.id.hex() for invite in listed.invites()}
        return cls(
            listed,
            {
                str(name): str(note)
                for name, note in (notes if isinstance(notes, dict) else {}).items()
                if name in known
            },
            [name for name in (hurry if isinstance(hurry, list) else []) if name in listed.buckets],
            revision if type(revision := data.get("revision")) is int else 0,
        )

    def to_dict(self) -> Json:
        """JSON-able, with every secret but the issuer's."""
        return {
            "list": self.listed.to_dict(),
            "notes": self.notes,
            "hurry": self.hurry,
            "revision": self.revision,
        }

    def note(self, identifier: bytes) -> str:
        """For whom an invite is."""
        return self.notes.get(identifier.hex(), "")
