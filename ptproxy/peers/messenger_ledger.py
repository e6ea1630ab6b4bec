"""All that a messenger knows, and the one way in which it changes: a transaction, saved, then told.

::

    async with ledger.change() as change:          # alone among all changes
        record.owes_hello = True                   # everything that can fail comes before the first change
        change.contact(record)
        change.tell(ContactChanged(record.id))
    # here it is on disk; events have been told, couriers woken

Pieces of the store: ``e2e/…`` are the correspondence's, ``messenger/…`` ours. A change that fails half-way
or cannot be saved makes the ledger *broken*: memory and disk differ, nothing more is done with it, and
the program opens it again from the disk. Nothing was sent and nothing shown of what is lost then.

The store is used by one thread at a time: by a worker thread in a transaction, by the loop inside of one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from ptproxy.e2e import Correspondence, Rng
from ptproxy.e2e.unsaved import Unsaved
from ptproxy.errors import StateError
from ptproxy.peers.messenger_contact import CONTACT, ContactRecord, contact_piece, history_list
from ptproxy.peers.messenger_events import ContactId, Event, Line, LineState
from ptproxy.peers.messenger_line import parse_line, serialize_line
from ptproxy.peers.messenger_outbox import Outbox, Sealed, Waiting, outbox_list, sealed_piece
from ptproxy.peers.messenger_passed_on import PASSED_ON, PassedOnList
from ptproxy.peers.messenger_passes import FEWEST, MAX_GIVEN, TOKENS, Given
from ptproxy.peers.messenger_profile import PROFILE, OwnInvite, Profile, invite_piece
from ptproxy.peers.messenger_records import RECORDS, FindSecrets
from ptproxy.peers.store import Doubt, Entry

E2E: Final = "e2e/"
_CONTACT: Final = "messenger/contact "
_INVITE: Final = "messenger/invite "
BOX_TOKENS: Final = 4_096
"""Tokens that a box has by default, until the mailbox says how many."""


class Store(Protocol):
    """What is needed of :class:`~ptproxy.peers.store.PeerStore`."""

    def pieces(self) -> dict[str, bytes]:
        """All named pieces."""

    def write(self, pieces: Mapping[str, bytes | None], entries: Sequence[Entry] = ()) -> None:
        """One transaction, synced."""

    def entries(self, list: str, before: int | None = None, limit: int = 100) -> list[tuple[int, bytes]]:
        """Entries numbered below ``before``, newest first; fewer than ``limit`` where that is too many."""

    def next_number(self, list: str) -> int:
        """A number that no entry of the list has had."""

    def note(self) -> bytes:
        """How far it has come, sealed, for other copies of it."""

    def check_clone(self, note: bytes) -> None:
        """Compare with a note: StoreRolledBackError, StoreClonedError, StateError where it is none."""

    @property
    def accepted(self) -> Collection[Doubt]:
        """What the person has said to go on in spite of."""


@dataclass(slots=True)
class TokenOwner:
    """What mail under a token of ours belongs to."""

    given: Given
    place: int
    """The token's place in the pass."""
    owner: ContactRecord | OwnInvite


class Change:
    """One transaction: what it changes, and what is told and woken when it is saved."""

    __slots__ = ("_ledger", "box_wanted", "entries", "events", "now", "woken")

    def __init__(self, ledger: Ledger, now: float) -> None:
        self._ledger = ledger
        self.now = now
        self.entries: list[Entry] = []
        self.events: list[Event] = []
        self.woken: dict[ContactId, None] = {}
        self.box_wanted = False

    def contact(self, record: ContactRecord) -> None:
        """This contact's record has changed."""
        self._ledger.unsaved.changed(record.piece, record)

    def profile(self) -> None:
        """Our profile has changed."""
        self._ledger.unsaved.changed(PROFILE, self._ledger.profile)

    def invite(self, invite: OwnInvite) -> None:
        """This invite has changed."""
        self._ledger.unsaved.changed(invite.piece, invite)

    def passed_on(self) -> None:
        """What contacts have passed on has changed."""
        self._ledger.unsaved.changed(PASSED_ON, self._ledger.passed_on)

    def records(self) -> None:
        """What lies in the directory, or is found there, has changed."""
        self._ledger.unsaved.changed(RECORDS, self._ledger.records)

    def sealed(self, outbox: Outbox) -> None:
        """The contact's sealed envelope has changed."""
        name = sealed_piece(outbox.contact)
        if outbox.sealed is None:
            self._ledger.unsaved.gone(name)
        else:
            self._ledger.unsaved.changed(name, outbox.sealed)

    def line(self, contact: ContactId, line: Line, said: int = 0) -> None:
        """A line of the history is new, or has changed."""
        self.entries.append(Entry(history_list(contact), line.number, serialize_line(line, said)))

    def waiting(self, contact: ContactId, waiting: Waiting) -> None:
        """A part waits."""
        self.entries.append(Entry(outbox_list(contact), waiting.entry, waiting.serialize()))

    def left(self, contact: ContactId, waiting: Waiting) -> None:
        """A part waits no more."""
        self.entries.append(Entry(outbox_list(contact), waiting.entry, None))

    def tell(self, event: Event) -> None:
        """Told once this is saved."""
        self.events.append(event)

    def wake(self, contact: ContactId) -> None:
        """There may be something to do for this contact."""
        self.woken[contact] = None

    def want_box(self) -> None:
        """Our own mailbox is to be told something."""
        self.box_wanted = True


class Ledger:
    """The state of one identity's messenger."""

    def __init__(
        self,
        store: Store,
        correspondence: Correspondence,
        profile: Profile,
        clock: Callable[[], float],
        rng: Rng,
    ) -> None:
        """Empty but for these: use :meth:`load`."""
        self.store = store
        self.correspondence = correspondence
        self.profile = profile
        self.clock = clock
        self.rng = rng
        self.contacts: dict[ContactId, ContactRecord] = {}
        self.outboxes: dict[ContactId, Outbox] = {}
        self.invites: dict[bytes, OwnInvite] = {}
        self.tokens: dict[bytes, TokenOwner] = {}
        """By token id."""
        self.passed_on = PassedOnList()
        """Invites to bridges that contacts have passed on."""
        self.records = FindSecrets()
        """Under which contacts find us in the directory, and we them."""
        self.unsaved = Unsaved()
        self.box_tokens = BOX_TOKENS
        """Tokens that our box may have, as the mailbox said last."""
        self.changes = 0
        """Transactions of this start that are on disk."""
        self.on_event: Callable[[Event], None] = lambda _: None
        self.on_wake: Callable[[ContactId], None] = lambda _: None
        self.on_box_wanted: Callable[[], None] = lambda: None
        self._lock = asyncio.Lock()
        self.broken: BaseException | None = None
        """Why nothing more is done with it."""
        self._over = asyncio.Event()
        self._changed = asyncio.Event()

    # ---- from and to the store

    @classmethod
    def load(cls, store: Store, clock: Callable[[], float], rng: Rng) -> Ledger:
        """What the store holds; :class:`StateError` where it is damaged, or where there is nothing."""
        pieces = store.pieces()
        if PROFILE not in pieces:
            raise StateError("store: there is no messenger in it")
        of_e2e = {name.removeprefix(E2E): data for name, data in pieces.items() if name.startswith(E2E)}
        profile = Profile.parse(pieces[PROFILE])
        ledger = cls(store, Correspondence.parse(of_e2e), profile, clock, rng)
        for name, data in pieces.items():
            if name.startswith(_CONTACT):
                ledger._load_contact(name, data, pieces)
            elif name.startswith(_INVITE):
                invite = OwnInvite.parse(data)
                if invite_piece(invite.invite.id) != name:
                    raise StateError(f"store: {name}: no piece of this program's")
                ledger.put_invite(invite)
        if PASSED_ON in pieces:
            ledger.passed_on = PassedOnList.parse(pieces[PASSED_ON])
        if RECORDS in pieces:
            ledger.records = FindSecrets.parse(pieces[RECORDS])
        if ledger.contacts.keys() != ledger.correspondence.conversations.keys():
            raise StateError("store: contacts and conversations are not the same")
        return ledger

    def _load_contact(self, name: str, data: bytes, pieces: Mapping[str, bytes]) -> None:
        try:
            contact = bytes.fromhex(name.removeprefix(_CONTACT))
        except ValueError:
            contact = b""
        if len(contact) != CONTACT or contact_piece(contact) != name:
            raise StateError(f"store: {name}: no piece of this program's")
        outbox = self.put_contact(ContactRecord.parse(contact, data))
        name, before = outbox_list(contact), None
        while entries := self.store.entries(name, before):
            outbox.load(entries)
            before = entries[-1][0]
        outbox.last_entry = self.store.next_number(name) - 1
        sealed = pieces.get(sealed_piece(contact))
        outbox.sealed = None if sealed is None else Sealed.parse(sealed)

    @contextlib.asynccontextmanager
    async def change(self) -> AsyncIterator[Change]:
        """Alone, change; saved and told when this ends. Errors before the first change change nothing."""
        async with self._lock:
            if self.broken is not None:
                raise self.broken
            change = Change(self, self.clock())
            try:
                yield change
            except BaseException as error:
                if change.entries or self.unsaved or self.correspondence.has_unsaved:
                    self._break(error)
                raise
            await self._save(change)

    async def _save(self, change: Change) -> None:
        pieces = {E2E + name: data for name, data in self.correspondence.take_unsaved().items()}
        pieces |= self.unsaved.take()
        cancelled = False
        if pieces or change.entries:
            writing = asyncio.ensure_future(asyncio.to_thread(self.store.write, pieces, change.entries))
            while not writing.done():
                try:
                    await asyncio.wait({writing})
                except asyncio.CancelledError:  # it is written all the same; then we know what is on disk
                    cancelled = True
            if (error := writing.exception()) is not None:
                self._break(error)
                raise error
            self.changes += 1
        self._tell(change)
        if cancelled:
            raise asyncio.CancelledError

    def _break(self, error: BaseException) -> None:
        self.broken = error
        self._over.set()

    async def watch(self) -> None:
        """Wait until the ledger is broken, and raise what broke it."""
        await self._over.wait()
        if self.broken is not None:
            raise self.broken

    def _tell(self, change: Change) -> None:
        for event in change.events:
            try:
                self.on_event(event)
            except Exception as error:
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "the program failed at an event of the messenger", "exception": error}
                )
        for contact in change.woken:
            self.on_wake(contact)
        if change.box_wanted:
            self.on_box_wanted()
        self._changed.set()
        self._changed = asyncio.Event()

    async def next_change(self) -> None:
        """Wait until something has been saved."""
        await self._changed.wait()

    async def history(self, contact: ContactId, before: int | None, limit: int) -> list[Line]:
        """Lines, newest first."""
        async with self._lock:
            entries = await asyncio.to_thread(self.store.entries, history_list(contact), before, limit)
        return [parse_line(number, data)[0] for number, data in entries]

    def lines(self, contact: ContactId, first: int, count: int) -> list[tuple[Line, int]]:
        """Inside of a change: the lines of these numbers that there are, newest first."""
        oldest = self.contacts[contact].oldest  # those below may still be on disk, until this change is
        entries = self.store.entries(history_list(contact), first + count, count)
        return [parse_line(number, data) for number, data in entries if number >= max(first, oldest)]

    def set_state(self, change: Change, contact: ContactId, number: int, state: LineState) -> bool:
        """A line of ours has come further; whether it had not been so far."""
        for line, _ in self.lines(contact, number, 1):
            if line.state < state and line.state is not LineState.FAILED:
                change.line(contact, line.come_to(state))
                return True
        return False

    # ---- who and what there is

    def put_contact(self, record: ContactRecord) -> Outbox:
        """One more contact, or one whose record was loaded."""
        self.contacts[record.id] = record
        outbox = self.outboxes[record.id] = Outbox(record.id)
        for given in record.given.passes:
            self.know_tokens(given, record)
        return outbox

    def put_invite(self, invite: OwnInvite) -> None:
        """One more invite."""
        self.invites[invite.invite.id] = invite
        for given in invite.passes:
            self.know_tokens(given, invite)

    def know_tokens(self, given: Given, owner: ContactRecord | OwnInvite) -> None:
        """Mail under these tokens is of ``owner``."""
        for place, token in enumerate(given.tokens):
            self.tokens[token.id] = TokenOwner(given, place, owner)

    def forget_tokens(self, owner: ContactRecord | OwnInvite) -> None:
        """Mail under tokens of ``owner`` is nobody's any more, but for passes that it still has."""
        still = owner.given.passes if isinstance(owner, ContactRecord) else ()
        self.tokens = {
            number: known
            for number, known in self.tokens.items()
            if known.owner is not owner or any(known.given is given for given in still)
        }

    def drop_invite(self, change: Change, invite: OwnInvite) -> None:
        """It is gone, here and at the mailbox."""
        if invite.invite.mailbox.key == self.profile.mailbox.key:  # another bridge is not to see its tokens
            self.profile.revoke(invite.token_ids())
            change.profile()
        change.want_box()
        del self.invites[invite.invite.id]
        self.unsaved.gone(invite.piece)
        self.forget_tokens(invite)

    @property
    def wanted(self) -> int:
        """Tokens of a pass for one contact: all contacts together leave a quarter of the box free."""
        share = self.box_tokens * 3 // 4 // (MAX_GIVEN * max(1, len(self.contacts)))
        return max(FEWEST, min(TOKENS, share))
