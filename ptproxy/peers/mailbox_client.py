"""The mailbox as its users see it, over any dialer: deposit and fetch, own a box, collect what comes.

- :class:`MailboxSender`     anybody with a token: deposits, fetches a bundle
- :class:`MailboxOwner`      the owner of a box: tokens, prekeys, mail
- :func:`collect`            the owner's mail for as long as the program runs, whatever breaks

Whom the bridge sees is decided by the dialer: who is not to be linked with
their own box deposits through a dialer with another key (``PROTOCOL.md``).

Errors: :class:`~ptproxy.errors.DialError` where the stream is not opened or is
lost (the request may or may not have been done; all may be repeated),
:class:`~ptproxy.peers.mailbox_answers.RequestRefused`,
:class:`~ptproxy.peers.mailbox_frames.MailboxFrameError` for a mailbox that
breaks its protocol, :class:`BoxTakenOver`.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Final, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ptproxy.buffer import Buffer
from ptproxy.errors import DialError, PtproxyError, Reason
from ptproxy.log import get_logger
from ptproxy.peers.mailbox_answers import Answer, Bundle, Mail, Note, Refused, RequestRefused, State
from ptproxy.peers.mailbox_conversation import MAX_UNANSWERED, ClientConversation, prove
from ptproxy.peers.mailbox_delivery import DeliveryToken
from ptproxy.peers.mailbox_frames import MAX_ITEMS, MAX_SUPPLY, MAX_WINDOW, MailboxFrameError
from ptproxy.peers.mailbox_requests import (
    Close,
    Deposit,
    Fetch,
    Grant,
    Keep,
    Listen,
    Publish,
    Recall,
    Request,
    Revoke,
    Status,
    Supply,
    Taken,
    TokenGrant,
    runs_of,
)
from ptproxy.target import Target
from ptproxy.tunnel.relay import reset_stream
from ptproxy.tunnel.stream import Dialer

SERVICE: Final = Target.service("mailbox")
ANSWER_WAIT: Final = 120.0
"""Seconds for an answer: a mailbox makes who asks too fast wait, and a tunnel may be moving."""
WINDOW: Final = 16
"""Messages on their way to us that we have not taken yet: 2 MiB of the largest."""
AGAIN: Final = (2.0, 4.0)
"""Seconds until :func:`collect` opens a lost stream again, doubled while that fails ..."""
AGAIN_MOST: Final = 300.0
"""... up to this."""
REMEMBERED: Final = 4_096
"""Ids of messages taken, to drop the same one when it comes again."""

log = get_logger(__name__)


class BoxTakenOver(PtproxyError):  # noqa: N818  (an event, told as an error)
    """Another program has opened the same box: two that collect would take it from each other for ever."""


class _Stream(asyncio.Protocol):
    """A stream to the mailbox: requests out, answers and mail in."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.challenge: asyncio.Future[bytes] = loop.create_future()
        self.mail: deque[Mail] = deque()
        self.mail_came = asyncio.Event()
        self.conversation = ClientConversation()
        self.error: PtproxyError | None = None
        """Why it is over."""
        self._answers: deque[asyncio.Future[Answer]] = deque()
        self._room = asyncio.Semaphore(MAX_UNANSWERED)
        self._writable = asyncio.Event()
        self._writable.set()
        self._transport: Any = None

    async def request(self, request: Request) -> Any:
        """Ask, and wait for the answer."""
        async with self._room:
            await self._writable.wait()
            if self.error is not None:
                raise self.error
            answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            self._answers.append(answer)
            self._transport.write(self.conversation.ask(request))
            try:
                async with asyncio.timeout(ANSWER_WAIT):
                    found = await answer
            except TimeoutError:
                self.abort()
                raise DialError(Reason.TIMED_OUT, "the mailbox does not answer") from None
            except asyncio.CancelledError:
                self.abort()  # the next answer would be taken for another's
                raise
        if isinstance(found, Refused):
            raise RequestRefused(found.refusal, found.seconds)
        return found

    def abort(self) -> None:
        """Break it."""
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """End it."""
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self._transport = transport

    def data_received(self, data: Buffer) -> None:
        """Answers and mail."""
        if self.error is not None:
            return
        try:
            outcomes = self.conversation.receive_data(data)
        except MailboxFrameError as error:
            self._over(error)
            reset_stream(self._transport, Reason.GENERAL)
            return
        if outcomes.challenge is not None and not self.challenge.done():
            self.challenge.set_result(outcomes.challenge)
        for found in outcomes.answers:
            answer = self._answers.popleft()
            if not answer.done():
                answer.set_result(found)
        if outcomes.mail:
            self.mail += outcomes.mail
            self.mail_came.set()
        if outcomes.displaced:
            self._over(BoxTakenOver("another program has opened this box"))
            self._transport.close()

    def eof_received(self) -> bool:
        """The mailbox has ended it."""
        return False

    def pause_writing(self) -> None:
        """The bridge is behind."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        if isinstance(exc, DialError):
            self._over(exc)
        else:
            self._over(DialError(Reason.CONNECTION_LOST, "the mailbox has ended the stream"))

    def _over(self, error: PtproxyError) -> None:
        if self.error is None:
            self.error = error
        waiting_for: list[asyncio.Future[Any]] = [self.challenge, *self._answers]
        for waiting in waiting_for:
            if not waiting.done():
                waiting.set_exception(self.error)
                waiting.exception()  # nobody may be waiting any more
        self._answers.clear()
        self._writable.set()
        self.mail_came.set()


async def _open(dialer: Dialer, target: Target) -> _Stream:
    stream = _Stream()
    try:
        await dialer.dial(target, stream, stream.conversation.preface())
    except BaseException:
        stream.challenge.cancel()
        raise
    return stream


class _Session:
    """What sender and owner have in common: a stream that is closed at the end."""

    def __init__(self, stream: _Stream) -> None:
        self._stream = stream

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def abort(self) -> None:
        """Break the stream: whoever waits for an answer is told so at once."""
        self._stream.abort()

    def close(self) -> None:
        """End the stream. What was asked for and not answered may or may not be done."""
        self._stream.close()


class MailboxSender(_Session):
    """Anybody who has a token."""

    @classmethod
    async def connect(cls, dialer: Dialer, target: Target = SERVICE) -> Self:
        """Open a stream to the mailbox behind ``dialer``."""
        return cls(await _open(dialer, target))

    async def deposit(self, token: DeliveryToken, envelope: bytes) -> None:
        """Leave an envelope that ``token.seal`` made; when this returns it is on the mailbox's disk.

        After a DialError the same envelope may be deposited again: it is kept
        once. Sealing again would make another message of it.
        """
        await self._stream.request(Deposit(token.token, envelope))

    async def fetch(self, token: DeliveryToken) -> Bundle:
        """The owner's bundle and a one-time prekey, opaque here. Each call uses the token once."""
        bundle: Bundle = await self._stream.request(Fetch(token.token))
        return bundle


class MailboxOwner(_Session):
    """The owner of a box, and nobody else at this moment."""

    def __init__(self, stream: _Stream, state: State) -> None:
        super().__init__(stream)
        self.state = state
        """The box as it was last told."""

    @classmethod
    async def connect(
        cls, dialer: Dialer, mailbox: bytes, key: Ed25519PrivateKey, target: Target = SERVICE
    ) -> Self:
        """Open the box of ``key``, which is made where there is none.

        ``mailbox``: the bridge's static public key (``Link.key``), so that no other mailbox
        can use the proof. A stream that had the box open is ended.
        """
        stream = await _open(dialer, target)
        try:
            async with asyncio.timeout(ANSWER_WAIT):
                challenge = await stream.challenge
            state = await stream.request(prove(key, mailbox, challenge))
        except TimeoutError:
            stream.abort()
            raise DialError(Reason.TIMED_OUT, "the mailbox does not answer") from None
        except BaseException:
            stream.abort()
            raise
        return cls(stream, state)

    async def status(self) -> State:
        """What the box holds and may hold."""
        self.state = await self._stream.request(Status())
        return self.state

    async def grant(self, tokens: Sequence[TokenGrant]) -> None:
        """Make tokens good: best those of several contacts at once, so that nothing tells them apart."""
        ordered = sorted(tokens)  # across frames, too
        for start in range(0, len(ordered), MAX_ITEMS):
            await self._stream.request(Grant(tuple(ordered[start : start + MAX_ITEMS])))

    async def revoke(self, token_ids: Sequence[bytes]) -> None:
        """Make tokens good no longer; leave out those that were used, or they are linked."""
        ordered = sorted(token_ids)
        for start in range(0, len(ordered), MAX_ITEMS):
            await self._stream.request(Revoke(tuple(ordered[start : start + MAX_ITEMS])))

    async def publish(self, bundle: bytes, one_times: Sequence[bytes] = ()) -> None:
        """Replace bundle and one-time prekeys, each sealed (``mailbox_delivery.seal_prekeys``).

        Cut short it leaves the new bundle with fewer of them.
        """
        runs = runs_of(one_times, MAX_SUPPLY - len(bundle) - 2)
        await self._stream.request(Publish(bundle, runs[0] if runs else ()))
        for run in runs[1:]:
            await self._stream.request(Supply(run))

    async def supply(self, one_times: Sequence[bytes]) -> None:
        """Add one-time prekeys. Repeated after a DialError it could add them twice: publish anew instead."""
        for run in runs_of(one_times, MAX_SUPPLY):
            await self._stream.request(Supply(run))

    async def listen(self, window: int = WINDOW) -> None:
        """Have mail sent, at most ``window`` (1 to 64) messages ahead of what is taken. Once."""
        await self._stream.request(Listen(window))

    async def next_mail(self) -> Mail:
        """The next message; waits for as long as it takes. Raises what ended the stream."""
        stream = self._stream
        while not stream.mail:
            if stream.error is not None:
                raise stream.error
            stream.mail_came.clear()
            await stream.mail_came.wait()
        return stream.mail.popleft()

    async def taken(self, ids: Sequence[bytes]) -> None:
        """These are ours now: the mailbox deletes them. Only after they are safe on our side."""
        for start in range(0, len(ids), MAX_WINDOW):
            await self._stream.request(Taken(tuple(ids[start : start + MAX_WINDOW])))

    async def keep(self, note: bytes) -> None:
        """Leave a note of 1 to 64 bytes, opaque to the mailbox, in place of the one there was."""
        await self._stream.request(Keep(note))

    async def recall(self) -> bytes:
        """The note that was left last, by whichever copy of us; b"": none."""
        note: Note = await self._stream.request(Recall())
        return note.note

    async def close_box(self) -> None:
        """Delete the box with all that is in it, and end the stream."""
        await self._stream.request(Close())


async def collect(
    connect: Callable[[], Awaitable[MailboxOwner]],
    deliver: Callable[[Mail], Awaitable[None]],
    *,
    window: int = WINDOW,
    rng: random.Random | None = None,
    again: tuple[float, float] = AGAIN,
    caught_up: Callable[[], None] = lambda: None,
) -> None:
    """Deliver all that comes, one after another and in order, until cancelled.

    ``deliver`` returns when the message is safe; only then is it deleted at the
    mailbox. ``caught_up`` is called when all that waited at the opening of a stream
    has been delivered, for each stream once at the most. Lost streams are opened
    again. A message that comes again because its deletion was not confirmed is
    not delivered again by the same call of this; after a restart of the program
    it can be, with the same id.

    Ends with what ``deliver`` raises, with :class:`BoxTakenOver`, or with
    MailboxFrameError.
    """
    dice = rng if rng is not None else random.SystemRandom()
    seen: OrderedDict[bytes, None] = OrderedDict()
    wait = 1.0
    while True:
        try:
            async with await connect() as owner:
                left = owner.state.messages
                await owner.listen(window)
                wait = 1.0
                while True:
                    if not left:
                        caught_up()
                    left -= 1
                    mail = await owner.next_mail()
                    if mail.id not in seen:
                        await deliver(mail)
                        seen[mail.id] = None
                        if len(seen) > REMEMBERED:
                            seen.popitem(last=False)
                    await owner.taken((mail.id,))
        except (DialError, RequestRefused) as error:
            log.debug("the mailbox is out of reach", why=str(error))
        await asyncio.sleep(min(wait * dice.uniform(*again), AGAIN_MOST))
        wait = min(2 * wait, AGAIN_MOST)
