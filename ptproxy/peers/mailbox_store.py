"""What a mailbox keeps: boxes, tokens, sealed messages and prekeys, in one SQLite database.

Plain functions of one thread, without a clock: ``now`` is a parameter. Each
request is all or nothing; :meth:`MailboxStore.run` puts many into one
transaction, so that they share one sync of the disk. What a request reports is
true only once ``run`` has returned.

A request that may not be raises :class:`~ptproxy.peers.mailbox_answers.RequestRefused`.
Nothing here says who deposited: accounts never come this far.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

from ptproxy.peers.mailbox_answers import Bundle, Mail, Note, Refusal, RequestRefused, State
from ptproxy.peers.mailbox_delivery import DAY
from ptproxy.peers.mailbox_rates import Rates
from ptproxy.peers.mailbox_requests import Right, TokenGrant
from ptproxy.peers.mailbox_schema import (
    BOX_COST,
    MESSAGE_COST,
    NOTES,
    ONE_TIME_COST,
    SLACK,
    TOKEN_COST,
    StoreLimits,
)
from ptproxy.state.database import DATABASE_PAGE

SHARE: Final = 4
"""One token may hold a fourth of its box: one contact cannot shut the others out."""
SPENT_DAYS: Final = 7
"""Days that a used-up token is remembered, for a deposit that is repeated because its answer got lost."""
MAX_TOKEN_DAYS: Final = 400
"""Days that a token may be good."""
ONE_TIME_BURST: Final = 20.0
ONE_TIME_RATE: Final = 1 / 60
"""One-time prekeys that a box hands out at once, and a second after that."""
Request = Callable[["MailboxStore"], Any]
"""One request: it calls methods of the store and returns what they say."""


class MailboxStore:
    """The mailbox's tables."""

    def __init__(self, database: sqlite3.Connection, limits: StoreLimits) -> None:
        """``database`` as :meth:`~ptproxy.state.StateFolder.database` opens it with the schema."""
        self.limits = limits
        self._db = database
        self._swept = False
        self._handed_out = Rates(ONE_TIME_BURST, ONE_TIME_RATE)
        pages = (limits.size * 3 // 2 + SLACK) // DATABASE_PAGE
        with contextlib.suppress(sqlite3.Error):  # no room: notes are refused, all else goes on
            database.execute(NOTES)
        database.execute(f"PRAGMA max_page_count = {pages}")

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def run(self, requests: Sequence[Request]) -> list[Any]:
        """Do all, each whole or not at all; what each returned or was refused with, once it is on disk.

        Where the disk or the database fails, that is ``RequestRefused(UNAVAILABLE)``,
        and what an unforeseen error ends comes back as that error: in both cases
        for those requests alone that fail by themselves, too.
        """
        try:
            outcomes = self._transaction(requests)
        except Exception as error:
            if len(requests) > 1:
                return [outcome for request in requests for outcome in self.run([request])]
            return [RequestRefused(Refusal.UNAVAILABLE) if isinstance(error, sqlite3.Error) else error]
        if self._swept:
            self._swept = False
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # what was deleted leaves the log, too
        return outcomes

    def _transaction(self, requests: Sequence[Request]) -> list[Any]:
        db = self._db
        outcomes = []
        try:
            db.execute("BEGIN IMMEDIATE")
            for request in requests:
                db.execute("SAVEPOINT request")
                try:
                    outcomes.append(request(self))
                except RequestRefused as refused:
                    db.execute("ROLLBACK TO request")
                    outcomes.append(refused)
                db.execute("RELEASE request")
            db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # it may have rolled back by itself
                db.execute("ROLLBACK")
            raise
        return outcomes

    # ---- the owner ------------------------------------------------------------------------------

    def find_box(self, key: bytes, now: float) -> int | None:
        """The box of this key, whose owner is there now; None where there is none."""
        row = self._one("SELECT box, seen FROM boxes WHERE key = ?", key)
        if row is None:
            return None
        if row[1] != int(now // DAY):
            self.still_there((row[0],), now)
        return int(row[0])

    def still_there(self, boxes: Collection[int], now: float) -> None:
        """The owners of these boxes are there, with streams that have been open for long."""
        today = int(now // DAY)
        self._db.executemany("UPDATE boxes SET seen = ? WHERE box = ?", [(today, box) for box in boxes])

    def make_box(self, key: bytes, now: float) -> int:
        """A new, empty box."""
        if self._total()[1] >= self.limits.boxes:
            raise RequestRefused(Refusal.UNAVAILABLE)
        made = self._db.execute(
            "INSERT INTO boxes (key, seen, size, messages, tokens, one_times, bundle) VALUES (?,?,0,0,0,0,?)",
            (key, int(now // DAY), b""),
        )
        assert made.lastrowid is not None
        self._db.execute("UPDATE totals SET boxes = boxes + 1")
        self._charge(made.lastrowid, BOX_COST)
        return made.lastrowid

    def state(self, box: int) -> State:
        """What the box holds."""
        row = self._one("SELECT messages, size, tokens, one_times FROM boxes WHERE box = ?", box)
        limits = self.limits
        if row is None:
            raise RequestRefused(Refusal.UNAVAILABLE)
        messages, size, tokens, one_times = row
        return State(
            messages,
            size,
            tokens,
            one_times,
            limits.box_messages,
            limits.box_size,
            limits.box_tokens,
            limits.box_one_times,
        )

    def grant(self, box: int, tokens: Collection[TokenGrant], now: float) -> None:
        """Make tokens good; those that are known, and those that have expired, are passed over."""
        today = int(now // DAY)
        last_day = today + MAX_TOKEN_DAYS
        rows = [
            (token.token_id, box, token.right, token.uses, min(token.expires, last_day), b"", 0, 0)
            for token in tokens
            if token.expires > today
        ]
        added = self._db.executemany("INSERT OR IGNORE INTO tokens VALUES (?,?,?,?,?,?,?,?)", rows).rowcount
        self._db.execute("UPDATE boxes SET tokens = tokens + ? WHERE box = ?", (added, box))
        if added and self.state(box).tokens > self.limits.box_tokens:
            raise RequestRefused(Refusal.BOX_FULL)
        self._charge(box, added * TOKEN_COST)

    def revoke(self, box: int, token_ids: Collection[bytes]) -> None:
        """Make tokens of this box good no longer; unknown ones are passed over."""
        gone = self._db.executemany(
            "DELETE FROM tokens WHERE id = ? AND box = ?", [(token_id, box) for token_id in token_ids]
        ).rowcount
        self._tokens_gone(box, gone)

    def publish(self, box: int, bundle: bytes, one_times: Sequence[bytes]) -> None:
        """Another bundle, and other one-time prekeys in place of those there were."""
        row = self._one("SELECT length(bundle), one_times FROM boxes WHERE box = ?", box)
        if row is None:
            raise RequestRefused(Refusal.UNAVAILABLE)
        (kept,) = self._one("SELECT coalesce(sum(length(prekey)), 0) FROM one_times WHERE box = ?", box)
        self._db.execute("DELETE FROM one_times WHERE box = ?", (box,))
        self._db.execute("UPDATE boxes SET bundle = ?, one_times = 0 WHERE box = ?", (bundle, box))
        self._charge(box, len(bundle) - row[0] - kept - row[1] * ONE_TIME_COST)
        self.supply(box, one_times)

    def supply(self, box: int, one_times: Sequence[bytes]) -> None:
        """More one-time prekeys."""
        if self.state(box).one_times + len(one_times) > self.limits.box_one_times:
            raise RequestRefused(Refusal.BOX_FULL)
        self._db.executemany(
            "INSERT INTO one_times (box, prekey) VALUES (?, ?)", [(box, prekey) for prekey in one_times]
        )
        self._db.execute("UPDATE boxes SET one_times = one_times + ? WHERE box = ?", (len(one_times), box))
        self._charge(box, sum(map(len, one_times)) + len(one_times) * ONE_TIME_COST)

    def waiting(self, box: int, known: Collection[bytes], most: int, most_size: int) -> list[Mail]:
        """The oldest messages that are not ``known``: ``most``, and one or so many as have ``most_size``."""
        rows = self._db.execute(
            "SELECT place, id, length(envelope) FROM messages WHERE box = ? ORDER BY place LIMIT ?",
            (box, most + len(known)),
        ).fetchall()
        found: list[Mail] = []
        size = 0
        for place, message_id, length in rows:
            if message_id in known:
                continue
            size += length
            if len(found) >= most or (found and size > most_size):
                break
            row = self._one("SELECT id, token, envelope FROM messages WHERE place = ?", place)
            assert row is not None
            found.append(Mail(*row))
        return found

    def taken(self, box: int, ids: Collection[bytes]) -> None:
        """The owner has these: they are deleted."""
        for message_id in ids:
            row = self._one("SELECT place FROM messages WHERE box = ? AND id = ?", box, message_id)
            if row is not None:
                self._delete_message(row[0])

    def keep(self, box: int, note: bytes) -> None:
        """The owner's note, in place of the one there was."""
        self.state(box)
        self._db.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (box, note))

    def recall(self, box: int) -> Note:
        """The owner's note; an empty one where there is none."""
        row = self._one("SELECT note FROM notes WHERE box = ?", box)
        return Note(b"" if row is None else row[0])

    def close_box(self, box: int) -> None:
        """Delete the box and all that is in it."""
        row = self._one("SELECT size FROM boxes WHERE box = ?", box)
        if row is not None:
            for table in ("messages", "one_times", "tokens", "boxes"):
                self._db.execute(f"DELETE FROM {table} WHERE box = ?", (box,))  # noqa: S608  (our own names)
            self._db.execute("UPDATE totals SET boxes = boxes - 1, size = size - ?", row)

    # ---- anybody --------------------------------------------------------------------------------

    def deposit(self, token_id: bytes, message_id: bytes, envelope: bytes, now: float) -> int:
        """Keep an envelope; returns its box. The same one once more is kept once."""
        today = int(now // DAY)
        box, uses, last, held, held_size = self._token(token_id, Right.DEPOSIT, today)
        known = self._one("SELECT 1 FROM messages WHERE box = ? AND id = ?", box, message_id)
        if known or last == message_id:
            return box
        if not uses:
            raise RequestRefused(Refusal.TOKEN)
        cost = len(envelope) + MESSAGE_COST
        limits = self.limits
        if held >= max(1, limits.box_messages // SHARE) or held_size + cost > limits.box_size // SHARE:
            raise RequestRefused(Refusal.BOX_FULL)
        if self.state(box).messages >= limits.box_messages:
            raise RequestRefused(Refusal.BOX_FULL)
        self._db.execute(
            "INSERT INTO messages (box, id, token, expires, envelope) VALUES (?,?,?,?,?)",
            (box, message_id, token_id, today + limits.keep, envelope),
        )
        self._db.execute("UPDATE boxes SET messages = messages + 1 WHERE box = ?", (box,))
        self._db.execute(
            "UPDATE tokens SET last = ?, held = held + 1, held_size = held_size + ? WHERE id = ?",
            (message_id, cost, token_id),
        )
        self._use(token_id, today)
        self._charge(box, cost)
        return box

    def fetch(self, token_id: bytes, now: float) -> Bundle:
        """The bundle, with a one-time prekey that nobody else gets while there are some."""
        today = int(now // DAY)
        box, uses, _, _, _ = self._token(token_id, Right.FETCH, today)
        row = self._one("SELECT bundle FROM boxes WHERE box = ?", box)
        if row is None or not row[0] or not uses:
            raise RequestRefused(Refusal.TOKEN)
        self._use(token_id, today)
        if self._handed_out.wait(box, 1, now):
            return Bundle(row[0])
        prekey = self._one("SELECT place, prekey FROM one_times WHERE box = ? ORDER BY place LIMIT 1", box)
        if prekey is None:
            return Bundle(row[0])
        self._handed_out.spend(box, 1, now)
        self._db.execute("DELETE FROM one_times WHERE place = ?", (prekey[0],))
        self._db.execute("UPDATE boxes SET one_times = one_times - 1 WHERE box = ?", (box,))
        self._charge(box, -len(prekey[1]) - ONE_TIME_COST)
        return Bundle(row[0], prekey[1])

    # ---- time -----------------------------------------------------------------------------------

    def sweep(self, now: float, most: int) -> int:
        """Delete up to ``most`` of what has expired; how many there were. Tidies the log afterwards."""
        self._swept = True
        today = int(now // DAY)
        messages = self._db.execute("SELECT place FROM messages WHERE expires <= ? LIMIT ?", (today, most))
        places = messages.fetchall()
        for (place,) in places:
            self._delete_message(place)
        tokens = self._db.execute("SELECT id, box FROM tokens WHERE expires <= ? LIMIT ?", (today, most))
        expired = tokens.fetchall()
        for token_id, box in expired:
            self.revoke(box, (token_id,))
        away = self._db.execute(
            "SELECT box FROM boxes WHERE seen <= ? LIMIT ?", (today - self.limits.away, max(1, most // 100))
        ).fetchall()
        for (box,) in away:
            self.close_box(box)
        return len(places) + len(expired) + len(away)

    def fill(self) -> float:
        """How much of what may be kept is kept, 0 to 1."""
        return self._total()[0] / self.limits.size

    # ---- the tables -----------------------------------------------------------------------------

    def _one(self, query: str, *values: object) -> Any:
        return self._db.execute(query, values).fetchone()

    def _total(self) -> tuple[int, int]:
        total: tuple[int, int] = self._one("SELECT size, boxes FROM totals")
        return total

    def _token(self, token_id: bytes, right: Right, today: int) -> tuple[int, int, bytes, int, int]:
        row: tuple[int, int, bytes, int, int] | None = self._one(
            "SELECT box, uses, last, held, held_size FROM tokens "
            "WHERE id = ? AND permits = ? AND expires > ?", token_id, right, today,
        )  # fmt: skip
        if row is None:
            raise RequestRefused(Refusal.TOKEN)
        return row

    def _use(self, token_id: bytes, today: int) -> None:
        """One use less; a token without any is kept for a while, for repetitions."""
        self._db.execute("UPDATE tokens SET uses = uses - 1 WHERE id = ?", (token_id,))
        self._db.execute(
            "UPDATE tokens SET expires = min(expires, ?) WHERE id = ? AND uses = 0",
            (today + SPENT_DAYS, token_id),
        )

    def _charge(self, box: int, cost: int) -> None:
        """Charge ``cost`` bytes to the box and the whole; refused where that is too much."""
        self._db.execute("UPDATE boxes SET size = size + ? WHERE box = ?", (cost, box))
        self._db.execute("UPDATE totals SET size = size + ?", (cost,))
        if cost > 0:
            if self.state(box).size > self.limits.box_size:
                raise RequestRefused(Refusal.BOX_FULL)
            if self._total()[0] > self.limits.size:
                raise RequestRefused(Refusal.UNAVAILABLE)

    def _delete_message(self, place: int) -> None:
        box, token_id, size = self._one(
            "SELECT box, token, length(envelope) FROM messages WHERE place = ?", place
        )
        cost = size + MESSAGE_COST
        self._db.execute("DELETE FROM messages WHERE place = ?", (place,))
        self._db.execute("UPDATE boxes SET messages = messages - 1 WHERE box = ?", (box,))
        self._db.execute(
            "UPDATE tokens SET held = max(0, held - 1), held_size = max(0, held_size - ?) WHERE id = ?",
            (cost, token_id),
        )
        self._charge(box, -cost)

    def _tokens_gone(self, box: int, count: int) -> None:
        self._db.execute("UPDATE boxes SET tokens = tokens - ? WHERE box = ?", (count, box))
        self._charge(box, -count * TOKEN_COST)
