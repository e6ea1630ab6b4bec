"""Whether a contact is what it claims: its signature first, then the work behind its id, each once."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from ptproxy.dht.admission import Admissions, TooManyChecksError
from ptproxy.dht.contact import Contact
from ptproxy.errors import DhtError

MAX_REMEMBERED: Final = 4_096
"""Contacts remembered, 700 bytes each: those of a table and what its lookups meet in an hour."""


class Vetting:
    """The contacts that were looked at; several nodes of one process may share it."""

    __slots__ = ("_admissions", "_seen")

    def __init__(self, admissions: Admissions) -> None:
        self._admissions = admissions
        self._seen: OrderedDict[Contact, bool] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def admit(self, contact: Contact, now: float) -> bool | None:
        """True or False; None if too many new ones came to be looked at now."""
        seen = self._seen.get(contact)
        if seen is not None:
            self._seen.move_to_end(contact)
            return seen
        try:
            contact.verify()
            self._admissions.check(contact.id, contact.key, contact.nonce, now)
        except TooManyChecksError:
            return None
        except DhtError:
            genuine = False
        else:
            genuine = True
        if len(self._seen) >= MAX_REMEMBERED:
            self._seen.popitem(last=False)
        self._seen[contact] = genuine
        return genuine
