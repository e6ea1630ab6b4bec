"""How much of each conversation is kept: beyond that the oldest lines go, with each new one that comes.

A contact that writes without end loses its own conversation's older lines, and takes no other's place. What
one message brings (256 lines at most) may be above the limits until the next one comes.
"""

from __future__ import annotations

from typing import Final

from ptproxy.peers.messenger_contact import ContactRecord, history_list
from ptproxy.peers.messenger_events import Direction, Line, LineState
from ptproxy.peers.messenger_ledger import Change, Ledger
from ptproxy.peers.messenger_line import parse_line, serialize_line
from ptproxy.peers.store import Entry

MAX_LINES: Final = 20_000
"""Lines of one conversation: ten years of five a day."""
MAX_BYTES: Final = 32 << 20
"""Bytes of one conversation, as stored: 2,000 of the longest lines."""
STRANGER_LINES: Final = 500
"""Lines of a stranger, of whom there may be a hundred."""
STRANGER_BYTES: Final = 1 << 20
"""Bytes of a stranger's lines."""
AT_A_TIME: Final = 100
"""Lines that go together: not each new one has to look for the oldest."""
STEPS: Final = 10
"""Times that so many go with one new line: what was there before there was a limit goes little by little."""


def add_line(ledger: Ledger, change: Change, record: ContactRecord, line: Line, said: int = 0) -> None:
    """A new line of a contact's; ``said``: what its sender calls it. The record is to be saved with it."""
    data = serialize_line(line, said)
    change.entries.append(Entry(history_list(record.id), line.number, data))
    record.kept += len(data)
    change.contact(record)
    most = (STRANGER_LINES, STRANGER_BYTES) if record.stranger else (MAX_LINES, MAX_BYTES)
    for _ in range(STEPS):
        over = record.last_number - record.oldest >= most[0] or record.kept > most[1]
        if not over or not _drop_oldest(ledger, change, record):
            return


def _drop_oldest(ledger: Ledger, change: Change, record: ContactRecord) -> bool:
    """The oldest lines that are on disk go; whether there were any to look for."""
    last = min(record.oldest + AT_A_TIME - 1, ledger.store.next_number(history_list(record.id)) - 1)
    if last < record.oldest:
        return False  # all that there is was written in this very change
    for number, data in ledger.store.entries(history_list(record.id), last + 1, AT_A_TIME):
        if number < record.oldest:
            continue
        line, _ = parse_line(number, data)
        if line.direction is Direction.THEIRS and line.state < LineState.READ:
            record.unread = max(0, record.unread - 1)
        record.kept = max(0, record.kept - len(data))  # 0: what came before there was a count
    numbers = range(record.oldest, last + 1)
    change.entries = [
        entry
        for entry in change.entries
        if entry.list != history_list(record.id) or entry.number not in numbers
    ]
    change.entries += [Entry(history_list(record.id), number, None) for number in numbers]
    record.oldest, record.read = last + 1, max(record.read, last)
    return True


def forget(change: Change, record: ContactRecord) -> None:
    """All lines of a contact go at once."""
    name = history_list(record.id)
    change.entries = [entry for entry in change.entries if entry.list != name]
    change.entries += [Entry(name, number, None) for number in range(record.oldest, record.last_number + 1)]
