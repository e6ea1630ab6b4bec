"""One courier for each contact with something to do: fetches, begins, deposits, as often as it takes.

What is to be done is decided by :func:`~ptproxy.peers.messenger_sending.next_job` in a transaction; a courier
does it and says what came of it. It comes when its contact is woken, stays a while with its stream open
for what follows, and goes. Couriers of different contacts share nothing, not even a stream to the same
mailbox: each dials under a key of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Final

from ptproxy.config.link import Link
from ptproxy.errors import DialError, RemoteProtocolError
from ptproxy.log import get_logger
from ptproxy.peers.dialers import Dialers, Errand
from ptproxy.peers.mailbox_answers import Refusal, RequestRefused
from ptproxy.peers.mailbox_client import MailboxSender
from ptproxy.peers.messenger_events import ContactId, DeliveryTroubled, Trouble
from ptproxy.peers.messenger_ledger import Ledger
from ptproxy.peers.messenger_sending import (
    Blocked,
    Deposit,
    Fetch,
    deposited,
    fetched,
    next_job,
    seal_again,
)

AT_ONCE: Final = 8
"""Couriers that ask their mailboxes at the same time: a program that comes back after weeks has hundreds."""
LINGER: Final = 20.0
"""Seconds that a stream stays open for what follows; a mailbox resets silent ones after 300."""
AGAIN: Final = (1.0, 2.0)
"""Seconds until a mailbox that was not reached is tried again, doubled while that fails ..."""
AGAIN_MOST: Final = 300.0
"""... up to this."""
HOPELESS: Final = (1_800.0, 3_600.0)
"""Seconds until something is tried again that only the contact can mend, doubled up to ..."""
HOPELESS_MOST: Final = 43_200.0
"""... this: a box that was deleted comes back with its owner."""
BUSY: Final = (30.0, 60.0)
"""Seconds until a full box is tried again, at least what the mailbox says."""
REFUSALS: Final = 10
"""Tokens refused one after another until we wait: a mailbox lets us be wrong 30 times, and a state that was
put back does not know which it has used."""
GONE: Final = 5
"""Failures one after another, half a minute and more, from which on a mailbox may be gone for good."""
NEVER: Final = 86_400.0
"""Seconds that a blocked courier would wait; it is woken when something changes."""
HASTE: Final = 1.0
"""Seconds between two tries at least, however often somebody writes."""

log = get_logger(__name__)


class Couriers:
    """Those that are on their way."""

    def __init__(
        self, ledger: Ledger, dialers: Dialers, *, rng: random.Random | None = None, pace: float = 1.0
    ) -> None:
        """``pace`` multiplies every wait (tests)."""
        self.ledger = ledger
        self.dialers = dialers
        self.dice = rng if rng is not None else random.SystemRandom()
        self.pace = pace
        self.slots = asyncio.Semaphore(AT_ONCE)
        self.on_lost: Callable[[ContactId], None] = lambda _: None
        """Told a contact whose mailbox is not reached for long, or takes nothing from us."""
        self.troubles: dict[ContactId, Trouble] = {}
        self._couriers: dict[ContactId, _Courier] = {}
        self._due: dict[ContactId, None] = {}
        self._wanted = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        self._couriers, self._due = {}, dict.fromkeys(self.ledger.contacts)
        async with asyncio.TaskGroup() as tasks:
            while True:
                for contact in self._due:
                    courier = self._couriers[contact] = _Courier(self, contact)
                    tasks.create_task(courier.run())
                self._due = {}
                self._wanted.clear()
                await self._wanted.wait()

    def wake(self, contact: ContactId) -> None:
        """There may be something to do for this contact."""
        courier = self._couriers.get(contact)
        if courier is not None:
            courier.woken.set()
        else:
            self._due[contact] = None
            self._wanted.set()

    def gone(self, contact: ContactId) -> None:
        """A courier has left."""
        self._couriers.pop(contact, None)

    def forget(self, contact: ContactId) -> None:
        """The contact was removed: its courier notices."""
        self.troubles.pop(contact, None)
        courier = self._couriers.get(contact)
        if courier is not None:
            courier.woken.set()


class _Courier:
    """The one of one contact."""

    def __init__(self, couriers: Couriers, contact: ContactId) -> None:
        self.woken = asyncio.Event()
        self._couriers = couriers
        self._ledger = couriers.ledger
        self._contact = contact
        self._sender: MailboxSender | None = None
        self._to: Link | None = None
        self._failures = 0
        self._refusals = 0

    async def run(self) -> None:
        """Until there has been nothing to do for a while."""
        try:
            while self._contact in self._ledger.contacts:
                self.woken.clear()
                pause = await self._step()
                if pause is None:
                    if not await self._woken_within(LINGER):
                        return
                elif pause > 0:
                    shortest = min(pause, HASTE) * self._couriers.pace
                    await asyncio.sleep(shortest)
                    if await self._woken_within(pause - HASTE):
                        self._refusals = 0  # there may be new passes
        finally:
            self._hang_up()
            self._couriers.gone(self._contact)

    async def _woken_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds) * self._couriers.pace):
                await self.woken.wait()
        return self.woken.is_set()  # also where it came with the time-out: nobody would tell us again

    async def _step(self) -> float | None:
        """Do what is next; seconds to wait before what follows, None where there is nothing."""
        async with self._ledger.change() as change:
            record = self._ledger.contacts.get(self._contact)
            job = None if record is None else next_job(self._ledger, change, record)
        match job:
            case Deposit():
                return await self._try(job.link, lambda sender: self._deposit(sender, job))
            case Fetch():
                return await self._try(job.link, lambda sender: self._fetch(sender, job))
            case Blocked():
                self._hang_up()
                return await self._blocked(job.trouble)
            case None:
                await self._trouble(Trouble.NONE)
                return None

    async def _try(self, link: Link, do: Callable[[MailboxSender], Awaitable[float]]) -> float:
        """At the contact's mailbox, with all that can go wrong on the way there."""
        try:
            async with self._couriers.slots:
                return await do(await self._connected(link))
        except RequestRefused as refused:
            self._failures += 1
            await self._trouble(Trouble.MAILBOX_FULL)
            return max(float(refused.seconds), self._wait(BUSY, HOPELESS_MOST))
        except (DialError, RemoteProtocolError) as error:
            log.debug("a contact's mailbox is out of reach", why=str(error))
            self._hang_up()
            self._failures += 1
            if self._failures >= GONE:
                self._couriers.on_lost(self._contact)
            await self._trouble(Trouble.MAILBOX_UNREACHABLE)
            return self._wait(AGAIN, AGAIN_MOST)

    async def _deposit(self, sender: MailboxSender, job: Deposit) -> float:
        try:
            await sender.deposit(job.sealed.delivery(), job.sealed.envelope)
        except RequestRefused as refused:
            if refused.refusal is not Refusal.TOKEN:
                raise
            return await self._refused(job)
        self._failures = self._refusals = 0
        async with self._ledger.change() as change:
            record = self._ledger.contacts.get(self._contact)
            if record is not None:
                deposited(self._ledger, change, record, job.sealed)
        return 0

    async def _refused(self, job: Deposit) -> float:
        """The token is not known there (any more): the next one, some times; then only the contact helps."""
        self._refusals += 1
        again = False
        if self._refusals % REFUSALS:
            async with self._ledger.change() as change:
                record = self._ledger.contacts.get(self._contact)
                again = record is not None and seal_again(self._ledger, change, record, job.sealed)
        return 0 if again else await self._hopeless(Trouble.NO_PASS)

    async def _fetch(self, sender: MailboxSender, job: Fetch) -> float:
        try:
            bundle = await sender.fetch(job.token)
        except RequestRefused as refused:
            if refused.refusal is not Refusal.TOKEN:
                raise
            return await self._hopeless(Trouble.NO_PASS)
        async with self._ledger.change() as change:
            record = self._ledger.contacts.get(self._contact)
            if record is None:
                return 0
            trouble = fetched(self._ledger, change, record, job.token, bundle)
        if trouble is Trouble.NONE:
            self._failures = 0
            return 0
        return await self._hopeless(trouble)

    async def _hopeless(self, trouble: Trouble) -> float:
        self._failures += 1
        self._couriers.on_lost(self._contact)
        await self._trouble(trouble)
        return self._wait(HOPELESS, HOPELESS_MOST)

    async def _blocked(self, trouble: Trouble) -> float:
        if trouble is Trouble.NO_PASS:
            self._couriers.on_lost(self._contact)
        await self._trouble(trouble)
        return NEVER

    async def _trouble(self, trouble: Trouble) -> None:
        """Tell it where it is news."""
        known = self._couriers.troubles
        if known.get(self._contact, Trouble.NONE) is not trouble and self._contact in self._ledger.contacts:
            known[self._contact] = trouble
            async with self._ledger.change() as change:
                change.tell(DeliveryTroubled(self._contact, trouble))

    def _wait(self, first: tuple[float, float], most: float) -> float:
        doublings = min(max(0, self._failures - 1), 16)
        return min(self._couriers.dice.uniform(*first) * float(1 << doublings), most)

    async def _connected(self, link: Link) -> MailboxSender:
        if self._sender is None or self._to != link:
            self._hang_up()
            purpose = self._ledger.profile.purpose(Errand.DEPOSIT, link, self._contact)
            self._sender = await MailboxSender.connect(self._couriers.dialers.dialer(link, purpose))
            self._to = link
        return self._sender

    def _hang_up(self) -> None:
        if self._sender is not None:
            self._sender.close()
            self._sender = None
