"""Our mailbox moves to another bridge: what that does to the ledger, and how long the old box is kept.

Contacts are told in the conversation: a hello that names the new mailbox, with passes for the box there,
which it knows by then. So whoever moves does not need the old bridge any more, but only the contacts' own
mailboxes. Until a contact has written under a new pass, and until invites that name the old bridge are over,
mail may come there: the old box is collected, and its bundle kept fresh, without one-time prekeys. Then it
is closed; at the latest it is forgotten when the last pass for it has lapsed.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from typing import Final

from ptproxy.config.link import Link
from ptproxy.errors import DialError, PtproxyError
from ptproxy.log import get_logger
from ptproxy.peers.dialers import Dialers, Errand
from ptproxy.peers.mailbox_answers import Mail, RequestRefused
from ptproxy.peers.mailbox_client import AGAIN as AGAIN_FIRST
from ptproxy.peers.mailbox_client import AGAIN_MOST, BoxTakenOver, MailboxOwner, collect
from ptproxy.peers.mailbox_delivery import DAY, seal_prekeys
from ptproxy.peers.mailbox_frames import MailboxFrameError
from ptproxy.peers.messenger_contact import ContactRecord
from ptproxy.peers.messenger_ledger import Change, Ledger
from ptproxy.peers.messenger_passes import PassState
from ptproxy.peers.messenger_profile import FormerBox
from ptproxy.peers.messenger_receiving import receive

MAX_FORMER: Final = 4
"""Boxes that are kept; with one more the oldest is left to its bridge, which deletes it in time."""
WAITS: Final = 30
"""Days that a mailbox keeps what was deposited: for so long an old box is looked into at least."""
UPKEEP: Final = 3_600.0
"""Seconds between looks whether a box may go, or its bundle is too old."""
AGAIN: Final = 60.0
"""Seconds until a bridge that is not reached is tried again, doubled while that fails ..."""
SELDOM: Final = 3_600.0
"""... up to this: it may be gone for ever."""

log = get_logger(__name__)


def move(ledger: Ledger, change: Change, mailbox: Link) -> None:
    """From now on our box is at ``mailbox``; every contact is owed a hello that says so."""
    profile = ledger.profile
    if mailbox.key != profile.mailbox.key:
        _leave(ledger, change)
        back = next((box for box in profile.former if box.mailbox.key == mailbox.key), None)
        if back is not None:
            profile.former.remove(back)
        profile.box_seed = ledger.rng(32) if back is None else back.seed
        profile.published = b""
    profile.mailbox = mailbox
    change.profile()
    change.want_box()
    for record in ledger.contacts.values():
        if not record.stranger:
            record.owes_hello = True
            change.contact(record)
            change.wake(record.id)


def _leave(ledger: Ledger, change: Change) -> None:
    """The present box becomes a former one; nothing that is good there is good elsewhere."""
    profile, given = ledger.profile, []
    for record in ledger.contacts.values():
        given += [each.given.expires for each in record.given.good() if each.state is not PassState.MADE]
        record.given.retire_all()
        ledger.forget_tokens(record)
        record.pass_due = not record.stranger
        change.contact(record)
    for invite in list(ledger.invites.values()):
        if invite.state is PassState.MADE:
            ledger.drop_invite(change, invite)  # no mailbox knows it, and none will
        elif invite.invite.mailbox.key == profile.mailbox.key:
            given.append(invite.invite.expires)
    if given:  # else nobody was told of this box
        until = max(int(change.now // DAY) + WAITS, *given)
        profile.former.append(FormerBox(profile.mailbox, profile.box_seed, until, profile.published))
        del profile.former[:-MAX_FORMER]
    profile.revoked.clear()  # mail under them is nobody's, wherever it comes


def may_go(ledger: Ledger, box: FormerBox, now: float) -> bool:
    """Whether nothing can come to a former box any more that anybody would miss."""
    if now >= box.until * DAY:
        return True
    invites = (one for one in ledger.invites.values() if one.invite.mailbox.key == box.mailbox.key)
    return not any(one.open(now) or one.waiting for one in invites) and all(
        _has_come_over(record) for record in ledger.contacts.values()
    )


def _has_come_over(record: ContactRecord) -> bool:
    """Whether a contact writes under passes of the present box, or has none of an earlier one."""
    retired = any(each.state is PassState.RETIRED for each in record.given.passes)
    return record.stranger or not retired or any(each.used for each in record.given.good())


class FormerBoxes:
    """Those that are still looked into."""

    def __init__(self, ledger: Ledger, dialers: Dialers, *, pace: float = 1.0) -> None:
        """``pace`` multiplies every wait (tests)."""
        self._ledger = ledger
        self._dialers = dialers
        self._pace = pace
        self._wanted = asyncio.Event()

    def look(self) -> None:
        """There may be one more, or one less."""
        self._wanted.set()

    async def run(self) -> None:
        """Until cancelled; raises :class:`~ptproxy.peers.mailbox_client.BoxTakenOver`."""
        kept: dict[bytes, tuple[FormerBox, asyncio.Task[None]]] = {}
        async with asyncio.TaskGroup() as tasks:
            while True:
                former = self._ledger.profile.former
                for seed, (box, task) in list(kept.items()):
                    if task.done() or not _is_among(box, former):
                        task.cancel()  # we have moved back, or there are too many
                        del kept[seed]
                for box in former:
                    if box.seed not in kept:
                        keeper = _Keeper(self._ledger, self._dialers, box, self._pace)
                        kept[box.seed] = box, tasks.create_task(keeper.run())
                self._wanted.clear()
                await self._wanted.wait()


class _Keeper:
    """The one of one box."""

    def __init__(self, ledger: Ledger, dialers: Dialers, box: FormerBox, pace: float) -> None:
        self._ledger = ledger
        self._dialers = dialers
        self._box = box
        self._pace = pace
        self._failures = 0

    async def run(self) -> None:
        """Until the box is gone."""
        again = AGAIN_FIRST[0] * self._pace, AGAIN_FIRST[1] * self._pace
        while self._is_ours:
            try:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._pause() + UPKEEP * self._pace):
                        await collect(self._connect, self._deliver, again=again)
            except _Gone:
                return
            except BoxTakenOver:
                if self._is_ours:
                    raise
            except MailboxFrameError as error:
                log.warning("a former mailbox breaks its protocol", why=str(error))
                await asyncio.sleep(AGAIN_MOST * self._pace)

    @property
    def _is_ours(self) -> bool:
        return _is_among(self._box, self._ledger.profile.former)

    async def _connect(self) -> MailboxOwner:
        """The box, with a fresh bundle; :class:`_Gone` when it was closed instead."""
        profile, link = self._ledger.profile, self._box.mailbox
        await asyncio.sleep(self._pause())
        now = self._ledger.clock()
        if now >= self._box.until * DAY:
            await self._forget()
            raise _Gone
        try:
            dialer = self._dialers.dialer(link, profile.purpose(Errand.OWN_BOX, link))
            owner = await MailboxOwner.connect(dialer, link.key, self._box.box_key())
        except (DialError, RequestRefused):
            self._failures += 1
            raise
        try:
            await self._publish(owner)
            state = await owner.status()
            if may_go(self._ledger, self._box, now) and not state.messages:
                await owner.close_box()
                await self._forget()
                raise _Gone
        except BaseException:
            owner.close()
            raise
        self._failures = 0
        return owner

    def _pause(self) -> float:
        """Seconds before the bridge is tried, after so many failures: beside the time between two looks, or
        one that is as long would end it before it is over, and the bridge would never be tried again."""
        if not self._failures:
            return 0.0
        return min(AGAIN * 2.0 ** min(self._failures - 1, 16), SELDOM) * self._pace

    async def _publish(self, owner: MailboxOwner) -> None:
        """The present bundle, where the mailbox has another: invites that name this bridge still work."""
        ledger = self._ledger
        async with ledger.change():
            bundle = ledger.correspondence.bundle()
        digest = hashlib.sha256(bundle).digest()
        if self._box.published == digest:
            return
        try:
            await owner.publish(seal_prekeys(ledger.profile.prekeys_key, bundle, ledger.rng))
        except RequestRefused as refused:  # what waits there is worth more
            log.warning("a former mailbox does not take our bundle", why=str(refused))
            return
        async with ledger.change() as change:
            self._box.published = digest
            change.profile()

    async def _forget(self) -> None:
        async with self._ledger.change() as change:
            if self._is_ours:
                self._ledger.profile.former.remove(self._box)
                change.profile()

    async def _deliver(self, mail: Mail) -> None:
        if not self._is_ours:
            raise _Gone
        async with self._ledger.change() as change:
            receive(self._ledger, change, mail)


def _is_among(box: FormerBox, boxes: list[FormerBox]) -> bool:
    """This very object: one that was moved back to and left again is another."""
    return any(each is box for each in boxes)


class _Gone(PtproxyError):  # noqa: N818  (an outcome, not a fault)
    """This box is none of ours any more."""
