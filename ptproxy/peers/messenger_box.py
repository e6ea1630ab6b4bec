"""Our own box: what comes is taken in, and the mailbox knows the tokens and prekeys that it should.

The order that makes a kill harmless: what is to be granted or published is saved, then told to the mailbox,
then saved as told; a contact hears of a pass only after that. Whatever is repeated changes nothing there
(GRANT), or takes the place of all (PUBLISH). A mailbox that has lost the box, or was set back, is noticed
by the number of tokens that it has, and told everything again.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from typing import Final

from ptproxy.config.link import Link
from ptproxy.e2e.prekeys import WAITING
from ptproxy.errors import DialError, PtproxyError, Reason
from ptproxy.log import get_logger
from ptproxy.peers.dialers import Dialers, Errand
from ptproxy.peers.mailbox_answers import Mail, RequestRefused
from ptproxy.peers.mailbox_client import AGAIN, AGAIN_MOST, BoxTakenOver, MailboxOwner, collect
from ptproxy.peers.mailbox_delivery import DAY, DeliveryPass, seal_prekeys
from ptproxy.peers.mailbox_frames import MailboxFrameError
from ptproxy.peers.mailbox_requests import Right, TokenGrant
from ptproxy.peers.messenger_contact import ContactRecord
from ptproxy.peers.messenger_copies import Notes
from ptproxy.peers.messenger_events import InviteReady, MailboxChanged, Trouble
from ptproxy.peers.messenger_ledger import Change, Ledger
from ptproxy.peers.messenger_moving import move
from ptproxy.peers.messenger_passes import FETCH_USES, GOOD_FOR, Given, PassState
from ptproxy.peers.messenger_profile import OwnInvite
from ptproxy.peers.messenger_receiving import receive

UPKEEP: Final = 3_600.0
"""Seconds between looks at the box and the prekeys."""
log = get_logger(__name__)


class Box:
    """The box of one identity, at one mailbox."""

    def __init__(self, ledger: Ledger, dialers: Dialers, *, pace: float = 1.0) -> None:
        """``pace`` multiplies every wait (tests)."""
        self.trouble = Trouble.MAILBOX_UNREACHABLE
        """Whether it is reached."""
        self.asked = asyncio.Event()
        """Set once this start has looked at its note there."""
        self.collected = asyncio.Event()
        """Set once all that waited there when this start first looked has been taken in."""
        self._ledger = ledger
        self._dialers = dialers
        self._pace = pace
        self._owner: MailboxOwner | None = None
        self._notes = Notes(ledger)
        self._wanted = asyncio.Event()
        self._tending = asyncio.Lock()
        self._seed = b""
        """Of the box that is connected, or about to be."""
        self._moved = asyncio.Event()

    def want(self) -> None:
        """The mailbox is perhaps to be told something."""
        self._wanted.set()

    async def move(self, mailbox: Link) -> None:
        """To another bridge; on disk when this returns. The old one is left at once: it may not answer."""
        async with self._ledger.change() as change:
            move(self._ledger, change, mailbox)
        self._notes = Notes(self._ledger)  # the old mailbox may have known none
        if self._owner is not None:
            self._owner.abort()
            self._owner = None
        self._moved.set()

    async def run(self) -> None:
        """Until cancelled; raises :class:`~ptproxy.peers.mailbox_client.BoxTakenOver`, StoreDoubtError."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._collect())
            tasks.create_task(self._keep())

    async def _collect(self) -> None:
        """Where the box is, and from the beginning where it has moved to."""
        while True:
            self._moved.clear()
            here = asyncio.ensure_future(self._collect_here())
            moved = asyncio.ensure_future(self._moved.wait())
            try:
                await asyncio.wait({here, moved}, return_when=asyncio.FIRST_COMPLETED)
                if here.done():
                    here.result()
            finally:
                here.cancel()
                moved.cancel()
                await asyncio.gather(here, moved, return_exceptions=True)

    async def _collect_here(self) -> None:
        again = AGAIN[0] * self._pace, AGAIN[1] * self._pace
        while True:
            try:
                await collect(self._connect, self._deliver, again=again, caught_up=self.collected.set)
            except BoxTakenOver:
                if self._is_here:
                    raise
                # else it was ourselves, who look into it as a former one
            except MailboxFrameError as error:
                log.warning("the mailbox breaks its protocol", why=str(error))
                await self._say(Trouble.MAILBOX_UNREACHABLE)
                await asyncio.sleep(AGAIN_MOST * self._pace)

    async def _connect(self) -> MailboxOwner:
        profile = self._ledger.profile
        self._owner = None
        self._seed = profile.box_seed
        try:
            dialer = self._dialers.dialer(profile.mailbox, profile.purpose(Errand.OWN_BOX, profile.mailbox))
            owner = await MailboxOwner.connect(dialer, profile.mailbox.key, profile.box_key())
        except PtproxyError:
            await self._say(Trouble.MAILBOX_UNREACHABLE)
            raise
        try:
            await self._notes.compare(owner)
            self.asked.set()
            self._ledger.box_tokens = owner.state.most_tokens
            await self._tend(owner, look=True)
        except BaseException:
            owner.close()
            raise
        self._owner = owner
        self._wanted.set()  # what came up meanwhile
        return owner

    async def _deliver(self, mail: Mail) -> None:
        async with self._ledger.change() as change:
            receive(self._ledger, change, mail)

    async def _keep(self) -> None:
        """Tend the box when something is wanted, and look at it from time to time."""
        clock = asyncio.get_running_loop().time
        due = clock() + UPKEEP * self._pace
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._wanted.wait()
            self._wanted.clear()
            look = clock() >= due
            if look:
                due = clock() + UPKEEP * self._pace
            owner = self._owner
            if owner is None:
                continue
            try:
                await self._tend(owner, look=look)
            except (DialError, MailboxFrameError):
                self._owner = None  # collect notices by itself

    async def _tend(self, owner: MailboxOwner, *, look: bool) -> None:
        async with self._tending:
            trouble = Trouble.NONE
            steps = [self._revoke, self._publish, self._grant]  # an invite that is ready finds a bundle
            if look:
                steps = [self._look, *steps, self._refill]
            try:
                for step in (*steps, self._notes.follow):
                    if not self._is_here:
                        raise DialError(Reason.CANCELLED, "the box has moved")
                    await step(owner)
            except RequestRefused as refused:
                log.warning("the mailbox does not take what it should", why=str(refused))
                trouble = Trouble.MAILBOX_FULL
            await self._say(trouble)

    @property
    def _is_here(self) -> bool:
        """Whether what is connected is still our box, and not one that we have left."""
        return self._seed == self._ledger.profile.box_seed

    async def _say(self, trouble: Trouble) -> None:
        if trouble is not self.trouble:
            self.trouble = trouble
            async with self._ledger.change() as change:
                change.tell(MailboxChanged(trouble))

    # ---- what the mailbox is told

    async def _look(self, owner: MailboxOwner) -> None:
        """Prekeys rotate, what is over goes; a mailbox that knows too little is told all again."""
        state = await owner.status()
        async with self._ledger.change() as change:
            self._ledger.box_tokens = state.most_tokens
            if self._ledger.correspondence.maintain(change.now, self._ledger.rng).one_time:
                self._ledger.profile.published = b""
                change.profile()
            for record in self._ledger.contacts.values():
                if record.given.prune(change.now) | record.held.prune(change.now):  # both are to be done
                    change.contact(record)
                    self._ledger.forget_tokens(record)
            for invite in list(self._ledger.invites.values()):
                if invite.over(change.now):
                    self._ledger.drop_invite(change, invite)
            if not state.tokens:
                self._forgotten(change)
            elif state.tokens < _deposits_granted(self._ledger, change.now):
                log.info("the mailbox knows fewer tokens than it was told: it is told again")
                for record in self._ledger.contacts.values():
                    for given in record.given.of(Right.DEPOSIT):
                        given.granted = False

    def _forgotten(self, change: Change) -> None:
        """The box is a new one: it was deleted, or this is the first time."""
        self._ledger.profile.published = b""
        change.profile()
        for record in self._ledger.contacts.values():
            for given in record.given.good():
                given.granted = False
        for invite in invites_here(self._ledger):
            for given in invite.passes:
                given.granted = False

    async def _revoke(self, owner: MailboxOwner) -> None:
        gone = list(self._ledger.profile.revoked)
        if gone:
            await owner.revoke(gone)
            async with self._ledger.change() as change:
                self._ledger.profile.revoked = [
                    number for number in self._ledger.profile.revoked if number not in gone
                ]
                change.profile()

    async def _grant(self, owner: MailboxOwner) -> None:
        """Make the passes that contacts lack, and have the mailbox know them, all in one go."""
        async with self._ledger.change() as change:
            _make_passes(self._ledger, change)
            contacts = [record for record in self._ledger.contacts.values() if _ungranted(record)]
            invites = [one for one in invites_here(self._ledger) if not one.passes[0].granted]
        given = [each for record in contacts for each in _ungranted(record)]
        given += [each for invite in invites for each in invite.passes]
        if not given:
            return
        await owner.grant([grant for each in given for grant in _grants_of(each)])
        async with self._ledger.change() as change:
            for each in given:
                each.granted = True
                each.state = max(each.state, PassState.GRANTED)
            for record in contacts:
                change.contact(record)
                change.wake(record.id)
            for invite in invites:
                if invite.invite.id in self._ledger.invites:
                    news = invite.state is PassState.MADE
                    invite.state = PassState.GRANTED
                    change.invite(invite)
                    if news:
                        change.tell(InviteReady(invite.invite.id))

    async def _publish(self, owner: MailboxOwner) -> None:
        """The bundle with new one-time prekeys, where the mailbox does not have the present one."""
        ledger = self._ledger
        async with ledger.change() as change:
            bundle = ledger.correspondence.bundle()
            digest = hashlib.sha256(bundle).digest()
            if ledger.profile.published == digest:
                return
            ledger.profile.published = b""
            change.profile()
            one_times = ledger.correspondence.replace(change.now, ledger.rng)
        key = ledger.profile.prekeys_key
        sealed = [seal_prekeys(key, one_time, ledger.rng) for one_time in one_times]
        await owner.publish(seal_prekeys(key, bundle, ledger.rng), sealed)
        await self._published(digest)

    async def _refill(self, owner: MailboxOwner) -> None:
        """More one-time prekeys; cut short, everything is published anew."""
        ledger = self._ledger
        available = (await owner.status()).one_times
        if available >= WAITING or not ledger.profile.published:
            return
        async with ledger.change() as change:
            digest = ledger.profile.published
            one_times = ledger.correspondence.refill(available, change.now, ledger.rng)
            ledger.profile.published = b""
            change.profile()
        key = ledger.profile.prekeys_key
        await owner.supply([seal_prekeys(key, one_time, ledger.rng) for one_time in one_times])
        await self._published(digest)

    async def _published(self, digest: bytes) -> None:
        async with self._ledger.change() as change:
            if self._is_here:
                self._ledger.profile.published = digest
                change.profile()


def settled(ledger: Ledger) -> bool:
    """Whether the mailbox has been told everything, as far as we know."""
    return (
        bool(ledger.profile.published)
        and not ledger.profile.revoked
        and not any(
            _ungranted(record) or record.pass_due
            for record in ledger.contacts.values()
            if not record.stranger
        )
        and all(invite.passes[0].granted for invite in invites_here(ledger))
    )


def invites_here(ledger: Ledger) -> list[OwnInvite]:
    """Those that name the present mailbox: of others no box but their own hears."""
    key = ledger.profile.mailbox.key
    return [invite for invite in ledger.invites.values() if invite.invite.mailbox.key == key]


def _ungranted(record: ContactRecord) -> list[Given]:
    return [given for given in record.given.good() if not given.granted]


def _grants_of(given: Given) -> list[TokenGrant]:
    """What the mailbox is told: of a contact's pass only the tokens that nothing came under."""
    unused = set(given.unused_ids())
    return [grant for grant in given.given.grants() if grant.token_id in unused]


def _deposits_granted(ledger: Ledger, now: float) -> int:
    """How many tokens of contacts the mailbox should know; it forgets used ones after a week."""
    return sum(
        given.unused
        for record in ledger.contacts.values()
        for given in record.given.of(Right.DEPOSIT)
        if given.granted and given.good_for(now) > DAY
    )


def _make_passes(ledger: Ledger, change: Change) -> None:
    """New passes for contacts that run out; with them for those that soon would, so that no refill
    says who has just written."""
    wanted = ledger.wanted
    contacts = [record for record in ledger.contacts.values() if not record.stranger]
    able = [record for record in contacts if not record.given.on_the_way()]
    if not any(_short(record, change.now, wanted) for record in able):
        return
    for record in able:
        if _short(record, change.now, wanted * 3 // 2):
            record.pass_due = False
            make_pass(ledger, change, record, Right.DEPOSIT, wanted)
        if record.given.lacks(Right.FETCH, change.now, 1):
            make_pass(ledger, change, record, Right.FETCH, 1)


def _short(record: ContactRecord, now: float, wanted: int) -> bool:
    return record.pass_due or record.given.lacks(Right.DEPOSIT, now, wanted)


def make_pass(ledger: Ledger, change: Change, record: ContactRecord, right: Right, count: int) -> None:
    """A pass of ``count`` tokens for a contact; our mailbox does not know it yet."""
    uses = FETCH_USES if right is Right.FETCH else 1
    given = Given(
        DeliveryPass.make(ledger.rng, change.now, seconds=GOOD_FOR, count=count, uses=uses, right=right)
    )
    displaced = record.given.add(given)
    if displaced:
        ledger.profile.revoke(displaced)
        change.profile()
        ledger.forget_tokens(record)
    ledger.know_tokens(given, record)
    change.contact(record)
