"""One client's stream at the mailbox: requests one after another, and mail for an owner who listens."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from ptproxy.buffer import Buffer
from ptproxy.errors import Reason
from ptproxy.log import get_logger
from ptproxy.peers.mailbox_answers import Answer, Displaced, Done, Mail, Refusal, Refused, RequestRefused
from ptproxy.peers.mailbox_conversation import BridgeConversation
from ptproxy.peers.mailbox_delivery import message_id_of, token_id_of
from ptproxy.peers.mailbox_frames import MailboxFrameError
from ptproxy.peers.mailbox_requests import (
    Close,
    Deposit,
    Fetch,
    Grant,
    Keep,
    Listen,
    Open,
    Publish,
    Recall,
    Request,
    Revoke,
    Status,
    Supply,
    Taken,
)
from ptproxy.peers.mailbox_schema import BOX_COST, MESSAGE_COST, ONE_TIME_COST, TOKEN_COST
from ptproxy.peers.mailbox_store import MailboxStore
from ptproxy.tunnel.relay import reset_stream

if TYPE_CHECKING:
    from ptproxy.peers.mailbox_service import MailboxService

FIRST_WAIT: Final = 30.0
"""Seconds for the first request; who says nothing holds a place."""
IDLE_WAIT: Final = 300.0
"""Seconds between requests of whoever does not listen for mail."""
PUSH_SIZE: Final = 64 << 10
"""Bytes of mail that are read from the store at a time: a stream's first window."""

log = get_logger(__name__)

Work = Callable[[MailboxStore], Any]


class MailboxStream(asyncio.Protocol):
    """What is known of one stream."""

    def __init__(self, service: MailboxService, account: str, challenge: bytes) -> None:
        self.account = account
        self.box: int | None = None
        """The box that it has opened."""
        self._service = service
        self._conversation = BridgeConversation(service.identity, challenge)
        self._transport: Any = None
        self._requests: deque[Request] = deque()
        self._busy = False
        self._behind = False
        self._ended = False
        self._window = 0
        self._untaken: set[bytes] = set()
        self._mail_waits = False
        self._reading_mail = False
        self._timer: asyncio.TimerHandle | None = None
        self._idle_since = 0.0
        self._spoke = False

    # ---- the stream -----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open: a challenge for whoever wants to prove something."""
        self._transport = transport
        self._idle_since = self._service.loop.time()
        self._timer = self._service.loop.call_later(FIRST_WAIT, self._look)
        self._transport.write(self._conversation.greeting())

    def data_received(self, data: Buffer) -> None:
        """Requests, whole or in pieces."""
        if self._ended:
            return
        try:
            requests = self._conversation.receive_data(data)
        except MailboxFrameError as error:
            log.debug("a stream to the mailbox is reset", identity=self.account, why=str(error))
            self._reset(Reason.GENERAL)
            return
        if requests:
            self._spoke = True
            self._idle_since = self._service.loop.time()
            self._requests += requests
            self._next()
            if self._requests and not self._ended:
                self._transport.pause_reading()

    def eof_received(self) -> bool:
        """The client says no more; without it there is nobody to answer."""
        self.end()
        return False

    def pause_writing(self) -> None:
        """The client does not read: nothing more is done for it until it does."""
        self._behind = True

    def resume_writing(self) -> None:
        """It reads again."""
        self._behind = False
        self._next()
        self._push()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        del exc
        self._ended = True
        self._requests.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._service.gone(self)

    def end(self) -> None:
        """End it; what was answered arrives."""
        if not self._ended:
            self._ended = True
            self._requests.clear()
            self._transport.close()

    def displace(self) -> None:
        """Another stream has opened the box."""
        if not self._ended:
            self._transport.write(Displaced().serialize())
            self.end()

    def _reset(self, reason: Reason) -> None:
        self._ended = True
        self._requests.clear()
        reset_stream(self._transport, reason)

    def _look(self) -> None:
        """Whether it has been silent for too long."""
        loop = self._service.loop
        wait = IDLE_WAIT if self._spoke else FIRST_WAIT
        left = self._idle_since + wait - loop.time()
        if self._window or self._busy:
            left = max(left, wait)
        if left <= 0:
            self._reset(Reason.TIMED_OUT)
        else:
            self._timer = loop.call_later(left, self._look)

    # ---- requests, one after another --------------------------------------------------------------

    def _next(self) -> None:
        """Begin with the oldest request that waits, if none is being done."""
        if self._busy or self._behind or self._ended:
            return
        if not self._requests:
            self._transport.resume_reading()
            return
        service = self._service
        self._busy = True
        seconds = service.rates.requests.take(self.account, _effort(self._requests[0]), service.loop.time())
        if seconds:
            service.loop.call_later(seconds, self._idle_again)
        else:
            self._do(self._requests.popleft())

    def _idle_again(self) -> None:
        self._busy = False
        self._next()

    def _do(self, request: Request) -> None:
        """Do one request; it ends in :meth:`_answer`, now or later."""
        if isinstance(request, Open):
            self._open(request)
        elif isinstance(request, Deposit):
            self._deposit(request)
        elif isinstance(request, Fetch):
            self._fetch(request)
        elif self.box is None:
            self._answer(Refused(Refusal.UNAVAILABLE))  # it was asked for before OPEN was refused
        else:
            self._do_for_owner(request, self.box)

    def _do_for_owner(self, request: Request, box: int) -> None:
        now = self._service.clock()
        if isinstance(request, Grant):
            cost = len(request.tokens) * TOKEN_COST
            self._keep(cost, lambda store: store.grant(box, request.tokens, now))
        elif isinstance(request, Publish):
            cost = len(request.bundle) + _cost(request.one_times)
            self._keep(cost, lambda store: store.publish(box, request.bundle, request.one_times))
        elif isinstance(request, Supply):
            cost = _cost(request.one_times)
            self._keep(cost, lambda store: store.supply(box, request.one_times))
        elif isinstance(request, Revoke):
            self._submit(lambda store: store.revoke(box, request.token_ids), self._answer)
        elif isinstance(request, Status):
            self._submit(lambda store: store.state(box), self._answer)
        elif isinstance(request, Taken):
            self._submit(
                lambda store: store.taken(box, request.ids), lambda outcome: self._taken(request, outcome)
            )
        elif isinstance(request, Keep):
            self._submit(lambda store: store.keep(box, request.note), self._answer)
        elif isinstance(request, Recall):
            self._submit(lambda store: store.recall(box), self._answer)
        elif isinstance(request, Close):
            self._submit(lambda store: store.close_box(box), self._closed)
        elif isinstance(request, Listen):
            self._window = request.window
            self._answer(None)
            self.mail_waits()

    def _answer(self, outcome: Answer | RequestRefused | None) -> None:
        """The request that was being done has come to this."""
        self._busy = False
        if self._ended:
            return
        if isinstance(outcome, RequestRefused):
            outcome = Refused(outcome.refusal, outcome.seconds)
        self._transport.write(self._conversation.answer(outcome if outcome is not None else Done()))
        self._next()

    def _submit(self, work: Work, then: Callable[[Any], None]) -> None:
        self._service.thread.submit(work, then)

    def _keep(self, cost: int, work: Work, then: Callable[[Any], None] | None = None) -> None:
        """Do what keeps ``cost`` bytes on this account; they are given back if it is refused."""
        volume, now = self._service.rates.volume, self._service.loop.time()
        seconds = volume.take(self.account, cost, now)
        if seconds:
            self._answer(Refused(Refusal.LATER, seconds))
            return

        def done(outcome: Any) -> None:
            if isinstance(outcome, RequestRefused):
                volume.spend(self.account, -cost, now)
            (then or self._answer)(outcome)

        self._submit(work, done)

    # ---- anybody ----------------------------------------------------------------------------------

    def _deposit(self, request: Deposit) -> None:
        if self._guesses():
            return
        token_id = token_id_of(request.token)
        message_id = message_id_of(token_id, request.envelope)
        now = self._service.clock()
        self._keep(
            len(request.envelope) + MESSAGE_COST,
            lambda store: store.deposit(token_id, message_id, request.envelope, now),
            self._deposited,
        )

    def _deposited(self, outcome: int | RequestRefused) -> None:
        if isinstance(outcome, RequestRefused):
            self._note_guess(outcome)
            self._answer(outcome)
        else:
            self._answer(None)
            self._service.deposited(outcome)

    def _fetch(self, request: Fetch) -> None:
        service = self._service
        if self._guesses():
            return
        seconds = service.rates.fetches.take(self.account, 1, service.loop.time())
        if seconds:
            self._answer(Refused(Refusal.LATER, seconds))
            return
        token_id, now = token_id_of(request.token), service.clock()
        self._submit(lambda store: store.fetch(token_id, now), self._fetched)

    def _fetched(self, outcome: Any) -> None:
        if isinstance(outcome, RequestRefused):
            self._note_guess(outcome)
        self._answer(outcome)

    def _guesses(self) -> bool:
        """Whether this account has shown too many wrong tokens; then it is told so."""
        seconds = self._service.rates.wrong.wait(self.account, 1, self._service.loop.time())
        if seconds:
            self._answer(Refused(Refusal.LATER, seconds))
        return seconds > 0

    def _note_guess(self, refused: RequestRefused) -> None:
        if refused.refusal is Refusal.TOKEN:
            self._service.rates.wrong.spend(self.account, 1, self._service.loop.time())

    # ---- the owner --------------------------------------------------------------------------------

    def _open(self, request: Open) -> None:
        now = self._service.clock()

        def found(outcome: int | RequestRefused | None) -> None:
            if outcome is not None:
                self._opened(outcome)
                return
            seconds = self._service.rates.boxes.take(self.account, 1, self._service.loop.time())
            if seconds:
                self._answer(Refused(Refusal.LATER, seconds))
                return
            self._keep(
                BOX_COST,
                lambda store: store.find_box(request.box_key, now) or store.make_box(request.box_key, now),
                self._opened,
            )

        self._submit(lambda store: store.find_box(request.box_key, now), found)

    def _opened(self, outcome: int | RequestRefused) -> None:
        if isinstance(outcome, RequestRefused) or self._ended:
            self._answer(outcome if isinstance(outcome, RequestRefused) else None)
            return
        self.box = outcome
        self._service.opened(outcome, self)
        self._submit(lambda store: store.state(outcome), self._answer)

    def _taken(self, request: Taken, outcome: RequestRefused | None) -> None:
        if outcome is None:
            self._untaken.difference_update(request.ids)
        self._answer(outcome)
        self._push()

    def _closed(self, outcome: RequestRefused | None) -> None:
        self._answer(outcome)
        if outcome is None:
            self.end()

    def mail_waits(self) -> None:
        """Something may wait in the box."""
        self._mail_waits = True
        self._push()

    def _push(self) -> None:
        """Send what waits, as far as the window and the client's reading go."""
        box, room = self.box, self._window - len(self._untaken)
        if box is None or room <= 0 or not self._mail_waits:
            return
        if self._reading_mail or self._behind or self._ended:
            return
        self._reading_mail, self._mail_waits = True, False
        known = frozenset(self._untaken)
        self._submit(lambda store: store.waiting(box, known, room, PUSH_SIZE), self._pushed)

    def _pushed(self, outcome: list[Mail] | RequestRefused) -> None:
        self._reading_mail = False
        if self._ended:
            return
        if isinstance(outcome, RequestRefused):
            self._reset(Reason.GENERAL)  # the store fails: the owner comes again
            return
        for mail in outcome:
            self._untaken.add(mail.id)
            self._transport.write(mail.serialize())
        if outcome:
            self._mail_waits = True
        self._push()


def _cost(one_times: Sequence[bytes]) -> int:
    """Bytes charged for one-time prekeys."""
    return sum(map(len, one_times)) + len(one_times) * ONE_TIME_COST


def _effort(request: Request) -> float:
    """What a request counts as: one, and one for every 32 of its items."""
    if isinstance(request, Grant):
        return 1 + len(request.tokens) / 32
    if isinstance(request, Revoke):
        return 1 + len(request.token_ids) / 32
    if isinstance(request, Taken):
        return 1 + len(request.ids) / 32
    if isinstance(request, Publish | Supply):
        return 1 + len(request.one_times) / 32
    return 1
