"""An HTTP/1 proxy: CONNECT, and plain requests in absolute-form (RFC 9110, RFC 9112 section 3.2).

CONNECT is answered with 200 once the target has answered, and bytes pass
untouched from then on. A plain request is rewritten to origin-form and goes to
its origin server on a stream of its own; the next request on the connection
uses the same stream when it is for the same origin and both sides allow it,
else it gets a new one. One request is under way at a time: pipelined ones wait
(``holding``). Request and reply bodies are passed on as they come.

Theory of operation. The local side is in one of four steps:

    head      a request's head is awaited (between requests: idle)
    body      a request's body is passed on
    waiting   the request is complete, its reply is not
    tunnel    after CONNECT

and the origin's side reads one reply's head, then its body. An exchange ends
when the reply is complete. A reply that is complete before its request ends
the connection: nothing says where the next request would start.

An answer of our own (400, 407, 502 …) always ends the connection too.
"""

from __future__ import annotations

import base64
import binascii
from enum import Enum
from typing import Final

from ptproxy.buffer import Buffer
from ptproxy.errors import FrontError, Reason
from ptproxy.front.absolute_form import AbsoluteForm, OtherScheme
from ptproxy.front.conversation import (
    Event,
    OriginReleased,
    OriginRequested,
    PayloadReceived,
    ReplyBroken,
    ReplyReceived,
    TargetRequested,
)
from ptproxy.front.http_body import Body, OpenBody, SizedBody, reply_body, request_body
from ptproxy.front.http_head import TOO_LONG, ReplyHead, RequestHead, head_end
from ptproxy.front.replies import http_answer, http_refusal
from ptproxy.front.users import Users
from ptproxy.target import Target, TargetError

MAX_FIRST_DATA: Final = 16 * 1024
"""Bytes of a head with the beginning of its body that are asked to travel with the request for
the stream; a head alone may be longer."""

_CHALLENGE: Final = 'Proxy-Authenticate: Basic realm="proxy", charset="UTF-8"\r\n'

_FAULT: Final = "Proxy-Status: proxy; error=http_protocol_error\r\n"
_CONNECT: Final = b"CONNECT"


class _Step(Enum):
    HEAD = 0
    BODY = 1
    WAITING = 2
    TUNNEL = 3


class HttpProxy:
    """An HTTP program's connection; see :class:`~ptproxy.front.conversation.Conversation`.

    Beyond it, for plain requests: ``receive_reply``, ``receive_reply_eof`` and
    ``receive_reply_lost`` take what the origin says on the stream that
    :class:`OriginRequested` asked for, up to :class:`OriginReleased`.
    """

    __slots__ = (
        "_body", "_client_stays", "_ended", "_held", "_method", "_minor", "_origin", "_origin_stays", "_out",
        "_reply_begun", "_reply_body", "_reply_head", "_reply_searched", "_reused", "_searched", "_step",
        "_users", "closing",
    )  # fmt: skip

    def __init__(self, users: Users | None = None) -> None:
        self.closing = False
        self._users = users
        self._step = _Step.HEAD
        self._held = bytearray()
        self._searched = 0
        self._out = b""
        self._ended = False  # the program will send no more
        self._origin: Target | None = None
        self._body: Body
        self._client_stays: bool
        self._origin_stays: bool
        self._reply_body: Body | None
        self._reply_head: bytearray
        self._reset_exchange()

    # ---- the local program's side ---------------------------------------------------------------

    @property
    def holding(self) -> bool:
        """Whether a pipelined request waits for the reply before it: read no more until it does not."""
        return self._step is _Step.WAITING and bool(self._held)

    @property
    def idle(self) -> bool:
        """Whether a request's head is awaited."""
        return self._step is _Step.HEAD

    def receive_data(self, data: Buffer) -> list[Event]:
        """Feed what the program sent; raises :class:`~ptproxy.errors.FrontError`."""
        if self.closing or not data:
            return []
        step = self._step
        if step is _Step.TUNNEL:
            return [PayloadReceived(data)]
        events: list[Event] = []
        if step is _Step.BODY:
            view = memoryview(data)
            used = self._take_body(view)
            events.append(PayloadReceived(view[:used]))
            self._held += view[used:]
            return events
        self._held += data
        if step is _Step.HEAD:
            self._read_request(events)
        return events

    def receive_eof(self) -> list[Event]:
        """The program will send no more; raises :class:`~ptproxy.errors.FrontError` inside a request."""
        self._ended = True
        if self._step is _Step.BODY and not self.closing:
            raise self._failed(400, "the request broke off")
        if self._step is _Step.HEAD:
            return self._leave()
        return []

    def send_accepted(self, host: str = "0.0.0.0", port: int = 0) -> None:
        """CONNECT succeeded. (Of a plain request's stream nothing is said.)"""
        if self._step is _Step.TUNNEL:
            self._out += b"HTTP/1.1 200 Connection established\r\n\r\n"

    def send_refused(self, reason: Reason) -> None:
        """Answer with the status for ``reason``; the connection then closes."""
        self._out += http_refusal(reason, body=self._method != b"HEAD")
        self._origin = None
        self.closing = True

    def data_to_send(self) -> bytes:
        """Drain our own answers; replies of origins are events instead."""
        out, self._out = self._out, b""
        return out

    def _read_request(self, events: list[Event]) -> None:
        """Begin an exchange if the head is there."""
        while self._held[:2] == b"\r\n":
            del self._held[:2]  # RFC 9112 section 2.2: empty lines before a request
        end = head_end(self._held, self._searched)
        self._searched = len(self._held)
        if not end:
            return
        if end == TOO_LONG:
            raise self._failed(431, "a request head above 64 KiB")
        try:
            head = RequestHead.parse(bytes(self._held[:end]))
        except FrontError as error:
            raise self._failed(400, str(error)) from None
        del self._held[:end]
        self._searched = 0
        self._reset_exchange()
        self._method = head.method
        self._check_user(head)
        if head.method == _CONNECT:
            self._begin_tunnel(head, events)
        else:
            self._begin_exchange(head, events)

    def _check_user(self, head: RequestHead) -> None:
        """RFC 7617: Basic, user and password in UTF-8."""
        if self._users is None:
            return
        values = head.fields.values_of(b"proxy-authorization")
        scheme, _, encoded = values[0].partition(b" ") if len(values) == 1 else (b"", b"", b"")
        name = password = b""
        if scheme.lower() == b"basic":
            try:
                name, _, password = base64.b64decode(encoded.strip(b" "), validate=True).partition(b":")
            except (binascii.Error, ValueError):
                name = b""
        if not self._users.admits(name, password):
            raise self._failed(407, "a user and a password are needed", _CHALLENGE)

    def _begin_tunnel(self, head: RequestHead, events: list[Event]) -> None:
        """CONNECT (RFC 9110 section 9.3.6)."""
        try:
            if head.fields.content_length() or head.fields.values_of(b"transfer-encoding"):
                raise FrontError("CONNECT has no body")
            target = Target.parse_text(head.target.decode("ascii"))
        except (TargetError, FrontError) as error:
            raise self._failed(400, str(error)) from None
        events += self._release()
        self._step = _Step.TUNNEL
        events.append(TargetRequested(target, bytes(self._held)))
        self._held = bytearray()

    def _begin_exchange(self, head: RequestHead, events: list[Event]) -> None:
        """A plain request: to the stream at hand, or to a new one."""
        try:
            target = AbsoluteForm.parse(head.target, head.method)
            if len(head.fields.values_of(b"host")) > 1:
                raise FrontError("two Host fields")
            self._body = request_body(head)
        except OtherScheme as error:
            raise self._failed(501, str(error)) from None
        except (TargetError, FrontError) as error:
            raise self._failed(400, str(error)) from None
        self._minor = head.minor
        self._client_stays = head.persistent
        first = head.serialize(target.origin_form, target.authority)
        payload = memoryview(bytes(self._held))
        used = self._take_body(payload)
        del self._held[:used]
        body = payload[:used]
        if used and len(first) + used <= MAX_FIRST_DATA:
            first += body
            body = body[used:]
        if target.origin == self._origin:
            self._reused = True
            events.append(PayloadReceived(first))
        else:
            events += self._release()
            self._origin = target.origin
            events.append(OriginRequested(target.origin, first))
        if body:
            events.append(PayloadReceived(body))

    def _take_body(self, data: memoryview) -> int:
        """How much of ``data`` is the request's body; the step follows from it."""
        try:
            used = self._body.take(data)
        except FrontError as error:
            raise self._failed(400, str(error)) from None
        self._step = _Step.WAITING if self._body.ended else _Step.BODY
        return used

    # ---- the origin server's side -----------------------------------------------------------------

    def receive_reply(self, data: Buffer) -> list[Event]:
        """Feed what the origin sent, however it is split. Its faults become events, never errors."""
        if self._origin is None or self.closing or not data:
            return []
        if self._step is _Step.HEAD:
            return self._release()  # it speaks without having been asked
        events: list[Event] = []
        view = memoryview(data)
        try:
            body = self._reply_body
            if body is None:
                self._reply_head += view
                view = self._read_reply_head(events)
                body = self._reply_body
            if body is None:
                return events
            used = body.take(view)
            if used:
                events.append(ReplyReceived(view[:used]))
            if body.ended:
                self._origin_stays &= used == len(view)
                self._finish(events)
        except FrontError as error:
            self._reply_searched = 1  # something came
            events += self._break_off(http_answer(502, str(error), _FAULT, body=self._method != b"HEAD"))
        return events

    def receive_reply_eof(self) -> list[Event]:
        """The origin will send no more."""
        if self._origin is None or self.closing:
            return []
        if self._step is _Step.HEAD:
            return self._release()
        if type(self._reply_body) is OpenBody:
            events: list[Event] = []
            self._finish(events)
            return events
        text = "the server ended the connection before its answer was complete"
        return self._break_off(http_answer(502, text, _FAULT, body=self._method != b"HEAD"))

    def receive_reply_lost(self, reason: Reason) -> list[Event]:
        """The stream to the origin broke."""
        if self._origin is None or self.closing:
            return []
        if self._step is _Step.HEAD:
            return self._release()
        return self._break_off(http_refusal(reason, body=self._method != b"HEAD"))

    def _read_reply_head(self, events: list[Event]) -> memoryview:
        """Pass the reply's head on when it is there; returns what is behind it."""
        received = self._reply_head
        while end := head_end(received, self._reply_searched):
            if end == TOO_LONG:
                raise FrontError("the server's head is above 64 KiB")
            self._reply_searched = 0
            head = ReplyHead.parse(bytes(received[:end]))
            del received[:end]
            if head.status == 101:
                raise FrontError("the server changes to a protocol that nobody asked for")
            if head.status < 200:
                if self._minor:
                    events.append(ReplyReceived(head.serialize(close=False)))
                continue
            body = reply_body(head, self._method)
            self._origin_stays = head.persistent
            self._client_stays &= self._body.ended and type(body) is not OpenBody
            if not self._minor and type(body) is not OpenBody and head.fields.values_of(b"transfer-encoding"):
                raise FrontError("the server answers HTTP/1.0 with chunks")
            events.append(ReplyReceived(head.serialize(close=not self._client_stays)))
            self._reply_begun = True
            self._reply_body = body
            self._reply_head = bytearray()
            self._reply_searched = 1
            return memoryview(received)
        self._reply_searched = len(received)
        return memoryview(b"")

    def _finish(self, events: list[Event]) -> None:
        """The reply is complete."""
        if not self._client_stays or self._step is not _Step.WAITING:
            events += self._leave()
            return
        if not self._origin_stays:
            events += self._release()
        self._step = _Step.HEAD
        self._reset_exchange()
        if self._held:
            try:
                self._read_request(events)
            except FrontError:
                events += self._release()
        if self._ended and self._step is _Step.HEAD and not self.closing:
            events += self._leave()

    def _break_off(self, answer: bytes) -> list[Event]:
        """The reply will not be complete: give ``answer`` instead, or break off when it has begun."""
        events = self._leave()
        if self._reply_begun:
            events.append(ReplyBroken())
        elif self._reply_searched or not self._reused:
            self._out += answer
        # Else the origin closed an idle stream just as the request left. Only the program can
        # know whether to ask again, and does so when a kept connection closes without an answer.
        return events

    # ---- both ---------------------------------------------------------------------------------------

    def _reset_exchange(self) -> None:
        self._body = SizedBody(0)
        self._method = b""
        self._minor = 1
        self._client_stays = True
        self._origin_stays = True
        self._reused = False
        self._reply_head = bytearray()
        self._reply_searched = 0
        self._reply_body = None
        self._reply_begun = False

    def _release(self) -> list[Event]:
        """Give the origin's stream up, if there is one."""
        if self._origin is None:
            return []
        self._origin = None
        return [OriginReleased()]

    def _leave(self) -> list[Event]:
        """End the connection behind what was sent."""
        self.closing = True
        return self._release()

    def _failed(self, status: int, text: str, fields: str = "") -> FrontError:
        if not self._reply_begun:
            self._out += http_answer(status, text, fields, body=self._method != b"HEAD")
        self.closing = True
        return FrontError(text)
