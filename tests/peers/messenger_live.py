"""People with messengers, over mailboxes in this process; each can be killed and started again."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading

from peers_live import MAILBOX, Mailbox, PipeDialer, rng_of

from ptproxy.config.link import Link
from ptproxy.config.model import RendezvousConfig
from ptproxy.errors import DialError, Reason
from ptproxy.peers.contact_invite import ContactInvite
from ptproxy.peers.mailbox_client import MailboxOwner
from ptproxy.peers.messenger import Messenger
from ptproxy.peers.messenger_events import InviteReady, LineReceived
from ptproxy.peers.rendezvous_service import RendezvousService

PACE = 0.001
"""What every wait of a messenger is multiplied by."""


def link_of(key=MAILBOX, name="mailbox.example") -> Link:
    return Link(key=key, host=name, port=443, path="/box", server_name=name, codecs=("websocket",))


class MemoryStore:
    """A store that keeps what was written, whole or not at all, and can fail at a write, or from now on."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.dead = False
        self.kept = {}
        self.lists = {}
        self.last = {}
        self.writes = 0
        self.fail_at = 0

    def pieces(self):
        return dict(self.kept)

    def write(self, pieces, entries=()) -> None:
        with self.lock:
            self.writes += 1
            if self.dead or self.writes == self.fail_at:
                raise OSError("the disk is gone")
            self.apply(pieces, entries)

    def apply(self, pieces, entries):
        for name, value in pieces.items():
            if value is None:
                self.kept.pop(name, None)
            else:
                self.kept[name] = bytes(value)
        for entry in entries:
            rows = self.lists.setdefault(entry.list, {})
            if entry.value is None:
                rows.pop(entry.number, None)
            else:
                rows[entry.number] = bytes(entry.value)
                self.last[entry.list] = max(self.last.get(entry.list, 0), entry.number)

    def entries(self, list, before=None, limit=100):
        rows = self.lists.get(list, {})
        numbers = sorted((number for number in rows if before is None or number < before), reverse=True)
        return [(number, rows[number]) for number in numbers[:limit]]

    def next_number(self, list):
        return self.last.get(list, 0) + 1

    accepted = frozenset()

    def note(self):
        """Copies of this store know nothing of each other."""
        return b"a note"

    def check_clone(self, note):
        assert note == b"a note"

    def copy(self):
        """A disk image of this moment."""
        other = MemoryStore()
        with self.lock:
            other.kept = dict(self.kept)
            other.lists = {name: dict(rows) for name, rows in self.lists.items()}
            other.last = dict(self.last)
        return other


class Wires:
    """Dialers of one person: which mailbox a link leads to, and everything that was dialled."""

    def __init__(self, world) -> None:
        self.world = world
        self.purposes = {}
        self.dialers = {}
        self.down = False

    def dialer(self, link, purpose):
        known = self.dialers.get((link.key, purpose.key))
        if known is None:
            self.purposes[link.key, purpose.key] = purpose
            known = self.dialers[link.key, purpose.key] = Wire(self, link, purpose)
        return known

    def sever(self):
        for dialer in self.dialers.values():
            dialer.pipe.sever()


class Wire:
    def __init__(self, wires, link, purpose) -> None:
        self.wires, self.link = wires, link
        self.pipe = PipeDialer(purpose.key.hex())

    async def dial(self, target, protocol, first_data=b""):
        service = self.wires.world.services.get(self.link.key)
        if service is None or self.wires.down:
            raise DialError(Reason.TUNNEL_DOWN)
        self.pipe.services = {"mailbox": service} | self.wires.world.others
        return await self.pipe.dial(target, protocol, first_data)


class Person:
    def __init__(self, world, name, link) -> None:
        self.world, self.name, self.link = world, name, link
        self.rng = rng_of(f"ptproxy messenger {name}")
        self.store = MemoryStore()
        self.wires = Wires(world)
        self.events = []
        self.was_put_back = False
        self.task = None

    async def start(self):
        if self.store.pieces():
            opening = Messenger.open(self.store, self.wires, clock=self.world.clock, rng=self.rng, pace=PACE)
        else:
            opening = Messenger.create(
                self.store, self.wires, self.name, self.link, clock=self.world.clock, rng=self.rng, pace=PACE
            )
        self.messenger = await opening
        self.messenger.on_event = self.events.append
        if self.was_put_back:
            self.was_put_back = False
            await self.messenger.start_anew()
        self.task = asyncio.ensure_future(self.messenger.run())
        return self

    async def stop(self):
        if self.task is not None:
            self.task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self.task
            self.task = None

    async def kill(self):
        """Nothing is written from this moment on, so nothing leaves or is shown; then memory is gone."""
        self.store.dead = True
        await self.stop()
        self.store.dead = False

    async def invite(self, **options) -> ContactInvite:
        made = await self.messenger.invite(**options)
        await self.until(lambda: InviteReady(made.id) in self.events)
        return made.invite

    async def until(self, condition):
        """Wait for something; an error of the messenger's shows."""
        while not condition():
            if self.task is not None and self.task.done():
                self.task.result()
            await asyncio.sleep(0.001)

    def peer(self, other):
        """The contact that ``other`` is here, None: it is none."""
        for peer in self.messenger.contacts():
            if peer.fingerprint == other.messenger.fingerprint:
                return peer
        return None

    def peer_of(self, invite):
        """The contact who gave this invite."""
        return next(peer for peer in self.messenger.contacts() if peer.fingerprint == invite.fingerprint)

    def peer_named(self, name):
        """The contact that calls itself so."""
        return next(peer for peer in self.messenger.contacts() if peer.said_name == name)

    @property
    def is_gone(self):
        """Whether the program was killed, or its disk has failed."""
        return self.task is None or self.task.done() or self.messenger.ledger.broken is not None

    async def recover(self):
        """The disk has failed: the program is started again from what it holds."""
        self.store.fail_at = 0
        await self.stop()
        await self.start()

    async def owner(self, world):
        """The box, opened by its owner; the messenger has to have been stopped, or is ended by it."""
        await self.stop()
        profile = self.messenger.ledger.profile
        pipe = PipeDialer("owner", world.services[profile.mailbox.key])
        return await MailboxOwner.connect(pipe, profile.mailbox.key, profile.box_key())

    async def heard(self, count):
        """Wait for that many lines; their texts."""
        await self.until(lambda: len(self.lines()) >= count)
        return self.lines()

    def lines(self):
        return [event.line.text for event in self.events if isinstance(event, LineReceived)]

    def told(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


class World:
    """Mailboxes by their key, people, one clock."""

    def __init__(self, folder) -> None:
        self.folder = folder
        self.mailboxes = {}
        self.services = {}
        self.people = []
        self.others = {}
        self.clock = None

    async def mailbox(self, key=MAILBOX, **config):
        box = Mailbox(self.folder / hashlib.sha256(key).hexdigest()[:8], key, **config)
        if self.clock is None:
            self.clock = box.clock
        box.clock = self.clock
        self.mailboxes[key] = box
        await self.open(key)
        return link_of(key)

    async def open(self, key=MAILBOX):
        box = self.mailboxes[key]
        self.services[key] = await box.start()

    async def shut(self, key=MAILBOX):
        del self.services[key]
        await self.mailboxes[key].stop()

    def person(self, name, link=None):
        person = Person(self, name, link or link_of())
        self.people.append(person)
        return person

    async def met(self, *names):
        """Two who have each other's passes."""
        alice, bob = [await self.person(name).start() for name in names or ("alice", "bob")]
        await bob.messenger.add(await alice.invite())
        await bob.until(lambda: bob.peer(alice).name)
        await alice.until(lambda: alice.peer(bob))
        await asyncio.gather(alice.messenger.settled(), bob.messenger.settled())
        return alice, bob

    async def close(self):
        for person in self.people:
            await person.stop()
        for service in self.others.values():
            service.end_streams()
            await service.close()
        for box in self.mailboxes.values():
            await box.stop()


@contextlib.asynccontextmanager
async def world(folder, *, meet=False, **config):
    """``meet``: its bridge has a rendezvous, too."""
    made = World(folder)
    try:
        if meet:
            made.others = {"rendezvous": RendezvousService(RendezvousConfig(offer=True))}
        await made.mailbox(**config)
        yield made
    finally:
        await made.close()
