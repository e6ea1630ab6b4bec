"""Streams in memory between a client and a bridge's services, as a tunnel's are: credit, ends, resets."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
from collections import deque

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ptproxy.config.model import MailboxConfig
from ptproxy.errors import DialError, Reason
from ptproxy.peers.mailbox_client import MailboxOwner, MailboxSender
from ptproxy.peers.mailbox_service import MailboxService
from ptproxy.state import StateFolder

PATIENCE = 60.0
"""Seconds after which a test that waits for something that never comes is a failure."""
WINDOW = 64 << 10
"""Bytes of a stream's credit."""
MAILBOX = bytes(range(32))
"""The bridge's public key."""
DAY = 86_400
START = 20_000 * DAY + 1000.0
"""The clock's first time: on a day that is no common one (20,000 is no multiple of 7)."""


def run(main) -> None:
    """Run ``main()``; fails for tasks left behind and errors nobody caught."""
    errors = []

    async def watched():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        async with asyncio.timeout(PATIENCE):
            await main()
        for _ in range(5):
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(watched())
    assert not errors, errors


async def until(condition) -> None:
    """Wait until something is so."""
    while not condition():
        await asyncio.sleep(0.002)


class PipeStream(asyncio.Transport):
    """One end of a stream in memory."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self.rng = rng
        self.other: PipeStream
        self.protocol: asyncio.Protocol | None = None
        self.arrived: deque[bytes] = deque()
        self.waiting = 0
        self.paused = self.eof_sent = self.eof_told = self.closing = self.lost = False
        self.behind = self.scheduled = False
        self.reason: Reason | None = None

    def start(self, protocol) -> None:
        self.protocol = protocol
        protocol.connection_made(self)
        self.schedule()

    def set_protocol(self, protocol) -> None:
        self.protocol = protocol

    def is_closing(self) -> bool:
        return self.closing or self.lost

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False
        self.schedule()

    def write(self, data) -> None:
        other = self.other
        if self.lost or self.eof_sent or not data:
            return
        other.arrived.append(bytes(data))
        other.waiting += len(data)
        if other.waiting > WINDOW and not self.behind:
            self.behind = True
            self.protocol.pause_writing()
        other.schedule()

    def write_eof(self) -> None:
        if not self.eof_sent:
            self.eof_sent = True
            self.other.schedule()

    def close(self) -> None:
        self.closing = True
        self.write_eof()
        self.schedule()

    def abort(self) -> None:
        self.reset(Reason.CANCELLED)

    def reset(self, reason: Reason) -> None:
        if not self.lost:
            self.reason = reason
            self.lose(None)
            self.other.arrived.clear()
            self.other.lose(DialError(reason))

    def lose(self, exc) -> None:
        if not self.lost:
            self.lost = True
            if self.protocol is not None:
                asyncio.get_running_loop().call_soon(self.protocol.connection_lost, exc)

    def schedule(self) -> None:
        if not self.scheduled and not self.lost:
            self.scheduled = True
            asyncio.get_running_loop().call_soon(self.deliver)

    def listening(self) -> bool:
        return not self.lost and self.protocol is not None and (self.closing or not self.paused)

    def deliver(self) -> None:
        self.scheduled = False
        while (
            self.arrived
            and not self.lost
            and self.protocol is not None
            and not (self.paused and not self.closing)
        ):
            data = self.arrived.popleft()
            if not self.closing:
                size = self.rng.choice((1, 7, 4096, 1 << 20))
                if len(data) > size:
                    self.arrived.appendleft(data[size:])
                    data = data[:size]
                self.protocol.data_received(memoryview(data))
            self.waiting -= len(data)
            if self.other.behind and self.waiting <= WINDOW // 2 and not self.other.lost:
                self.other.behind = False
                self.other.protocol.resume_writing()
        if self.arrived or self.lost or self.protocol is None:
            return
        if self.other.eof_sent and not self.eof_told and self.listening():
            self.eof_told = True
            if not self.closing and not self.protocol.eof_received():
                self.close()
        if self.eof_sent and self.eof_told and self.other.eof_told:
            self.lose(None)
            self.other.lose(None)


class PipeIncoming:
    def __init__(self, target, peer, rng) -> None:
        self.target, self.peer, self.first_data, self.cancelled = target, peer, b"", False
        self.near, self.far = PipeStream(rng), PipeStream(rng)
        self.near.other, self.far.other = self.far, self.near
        self.decided: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_cancel(self, callback) -> None:
        """Nobody gives up a dial of a :class:`PipeDialer` but by its end."""

    def accept(self, protocol) -> PipeStream:
        self.decided.set_result(None)
        self.far.start(protocol)
        return self.far

    def refuse(self, reason) -> None:
        self.decided.set_exception(DialError(reason))


class PipeDialer:
    """A dialer to services in this process, under an account's name."""

    def __init__(self, account, *services, seed=0) -> None:
        self.account = account
        self.services = {service.name: service for service in services}
        self.rng = random.Random(seed)
        self.streams: list[PipeStream] = []

    async def dial(self, target, protocol, first_data=b""):
        service = self.services.get(target.service_name)
        if service is None:
            raise DialError(Reason.UNSUPPORTED)
        incoming = PipeIncoming(target, self.account, self.rng)
        incoming.near.protocol = protocol
        service(incoming)
        await incoming.decided
        self.streams.append(incoming.near)
        protocol.connection_made(incoming.near)
        incoming.near.schedule()
        incoming.near.write(first_data)
        return incoming.near

    def sever(self) -> None:
        """Break every stream, as a tunnel that is lost does."""
        for stream in self.streams:
            stream.reset(Reason.CONNECTION_LOST)
        self.streams.clear()


def rng_of(seed):
    """``rng(n)`` of a seed."""
    return random.Random(seed).randbytes


def key_of(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now

    def pass_days(self, days) -> None:
        self.now += days * DAY


class Mailbox:
    """A mailbox service in a folder, with a clock of its own."""

    def __init__(self, folder, key=MAILBOX, **config) -> None:
        self.folder = folder
        self.key = key
        self.clock = Clock()
        self.config = MailboxConfig(offer=True, **config)
        self.running: list[tuple[MailboxService, StateFolder]] = []

    async def start(self, **settings) -> MailboxService:
        state = StateFolder(self.folder / "state")
        service = MailboxService(self.key, self.config, clock=self.clock, **settings)
        await service.start(state)
        self.running.append((service, state))
        return service

    async def stop(self) -> None:
        while self.running:
            service, state = self.running.pop()
            service.end_streams()
            for _ in range(10):
                await asyncio.sleep(0)
            await service.close()
            state.close()

    async def owner(self, service, name="alice", account="account-a") -> MailboxOwner:
        return await MailboxOwner.connect(PipeDialer(account, service), MAILBOX, key_of(name))

    async def sender(self, service, account="account-b") -> MailboxSender:
        return await MailboxSender.connect(PipeDialer(account, service))


@contextlib.asynccontextmanager
async def mailbox(folder, **config):
    """A mailbox and its service, running."""
    box = Mailbox(folder, **config)
    try:
        yield box, await box.start()
    finally:
        await box.stop()
