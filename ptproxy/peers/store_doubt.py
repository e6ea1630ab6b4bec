"""What makes it doubtful that a store is the newest and only copy, and how that is told.

Two places know better than the database itself: the witness beside it (``store_witness``), and any place that
all copies of an identity come to, its mailbox for example, if they leave a note there:

    note = nonce 12 ‖ AES-256-GCM(note key, nonce, label, run 16 ‖ revision u64), 52 bytes
"""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum
from typing import Final

from cryptography.exceptions import InvalidTag

from ptproxy.errors import StartError, StateError
from ptproxy.peers.store_head import Head
from ptproxy.peers.store_lineage import MARK, Finding, Mark
from ptproxy.peers.store_rows import NONCE, RowKeys, fresh
from ptproxy.peers.store_witness import Witness

NOTE: Final = NONCE + MARK + 16
"""Bytes of a note."""

_LABEL: Final = b"ptproxy 1 store note"


class Doubt(Enum):
    """What a person may accept."""

    ROLLED_BACK = "rolled back"
    """The database is older than what was here."""
    CLONED = "cloned"
    """It was copied here: from another machine, by a backup, or another copy has been written since."""


class StoreDoubtError(StartError):
    """The store may not be the newest or the only copy: a person has to decide."""

    doubt: Doubt


class StoreRolledBackError(StoreDoubtError):
    """The store is older than what was here."""

    doubt = Doubt.ROLLED_BACK


class StoreClonedError(StoreDoubtError):
    """The store is a copy, or has one that is in use."""

    doubt = Doubt.CLONED


def doubt_in(error: BaseException) -> StoreDoubtError | None:
    """The doubt that an error is, or that stands in a group of them, whatever else failed."""
    if isinstance(error, StoreDoubtError):
        return error
    if isinstance(error, BaseExceptionGroup):
        return next((doubt for each in error.exceptions if (doubt := doubt_in(each)) is not None), None)
    return None


def check_witness(witness: Witness, head: Head, accepted: Collection[Doubt]) -> frozenset[Doubt]:
    """Compare the database with what the witness saw last; the doubts there are, all of them accepted."""
    seen = witness.read()
    doubts: list[StoreDoubtError] = []
    if seen is None:
        doubts.append(StoreRolledBackError(
            "the file that goes with the store is missing: it was put back from a backup, or copied"
        ))  # fmt: skip
    else:
        finding = head.lineage.find(seen.mark, head.revision)
        if finding is not Finding.PAST and seen.mark.revision > head.revision:
            doubts.append(
                StoreRolledBackError("the store is older than the one that was here: it was put back")
            )
        elif finding is not Finding.PAST:
            doubts.append(StoreClonedError("the store is another copy than the one that was here"))
        if not seen.same_place(witness.here(seen.mark)):
            doubts.append(StoreClonedError(
                "the store was copied here, from another computer or from a backup; a second copy that is "
                "still used must not be"
            ))  # fmt: skip
    for doubt in doubts:
        if doubt.doubt not in accepted:
            raise doubt
    return frozenset(doubt.doubt for doubt in doubts)


def make_note(keys: RowKeys, mark: Mark) -> bytes:
    """Where a store is, for its other copies to read."""
    nonce = fresh(NONCE)
    return nonce + keys.note.encrypt(nonce, mark.serialize(), _LABEL)


def check_note(keys: RowKeys, head: Head, note: bytes) -> None:
    """Compare the store with a note."""
    try:
        content = keys.note.decrypt(note[:NONCE], note[NONCE:], _LABEL)
    except (InvalidTag, ValueError):
        raise StateError("store: no note of this store's") from None
    finding = head.lineage.find(Mark.parse(content), head.revision)
    if finding is Finding.AHEAD:
        raise StoreRolledBackError("the store is older than what it has left elsewhere: it was put back")
    if finding is Finding.FOREIGN:
        raise StoreClonedError("another copy of this store is in use elsewhere")
