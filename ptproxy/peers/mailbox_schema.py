"""What a mailbox keeps, as tables, what each thing costs, and how much of it there may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

NAME: Final = "mailbox"
"""Of the database in the state folder."""
MESSAGE_COST: Final = 256
"""Bytes charged for a message's row besides its envelope."""
TOKEN_COST: Final = 160
ONE_TIME_COST: Final = 64
BOX_COST: Final = 1_024
SLACK: Final = 16 << 20
"""Bytes that the file may have beyond one and a half times what is charged: indexes, free pages."""

SCHEMA: Final = """
    CREATE TABLE totals (size INTEGER NOT NULL, boxes INTEGER NOT NULL);
    INSERT INTO totals VALUES (0, 0);
    CREATE TABLE boxes (
        box INTEGER PRIMARY KEY AUTOINCREMENT,  -- a stream may outlive its box: no number comes again
        key BLOB NOT NULL UNIQUE, seen INTEGER NOT NULL, size INTEGER NOT NULL, messages INTEGER NOT NULL,
        tokens INTEGER NOT NULL, one_times INTEGER NOT NULL, bundle BLOB NOT NULL);
    CREATE INDEX boxes_seen ON boxes (seen);
    CREATE TABLE tokens (
        id BLOB PRIMARY KEY, box INTEGER NOT NULL REFERENCES boxes, permits INTEGER NOT NULL,
        uses INTEGER NOT NULL, expires INTEGER NOT NULL, last BLOB NOT NULL,
        held INTEGER NOT NULL, held_size INTEGER NOT NULL) WITHOUT ROWID;
    CREATE INDEX tokens_box ON tokens (box);
    CREATE INDEX tokens_expire ON tokens (expires);
    CREATE TABLE messages (
        place INTEGER PRIMARY KEY, box INTEGER NOT NULL REFERENCES boxes, id BLOB NOT NULL,
        token BLOB NOT NULL, expires INTEGER NOT NULL, envelope BLOB NOT NULL);
    CREATE UNIQUE INDEX messages_id ON messages (box, id);
    CREATE INDEX messages_place ON messages (box, place);
    CREATE INDEX messages_expire ON messages (expires);
    CREATE TABLE one_times (
        place INTEGER PRIMARY KEY, box INTEGER NOT NULL REFERENCES boxes, prekey BLOB NOT NULL);
    CREATE INDEX one_times_box ON one_times (box)
"""

NOTES: Final = """
    CREATE TABLE IF NOT EXISTS notes (
        box INTEGER PRIMARY KEY REFERENCES boxes ON DELETE CASCADE, note BLOB NOT NULL)
"""
"""Made where it is missing: mailboxes there were before had none. Its cost is in that of the box."""


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """What is kept at most; sizes in bytes, times in days."""

    size: int = 1 << 30
    """All boxes together."""
    boxes: int = 10_000
    box_size: int = 16 << 20
    box_messages: int = 1_000
    box_tokens: int = 4_096
    box_one_times: int = 200
    keep: int = 30
    """A message that nobody collects."""
    away: int = 90
    """A box whose owner does not come."""
