"""A local program's connection, up to where it becomes a relay or ends.

It reads the program's request with a conversation of :mod:`ptproxy.front`, has
the target dialled in a task of its own (the only one at a time), and answers
when the far side has answered. From then on:

- a tunnel (SOCKS, CONNECT) becomes a :mod:`~ptproxy.tunnel.relay`, and the
  connection object is dropped;
- an association lives as long as its connection (:mod:`~ptproxy.proxy.datagrams`);
- a plain HTTP connection keeps its conversation between program and origin.

A program that leaves while its target is being dialled takes the dial along.
What it sends before the target has answered is kept, up to a limit, above
which its reading is paused; the same pause serves pipelined HTTP requests and
a stream that takes no more.
"""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING

from ptproxy.buffer import Buffer
from ptproxy.errors import DialError, FrontError, Reason
from ptproxy.front import (
    AssociationRequested,
    Conversation,
    Event,
    HttpProxy,
    OriginReleased,
    OriginRequested,
    PayloadReceived,
    ReplyBroken,
    ReplyReceived,
    TargetRequested,
    recognise,
)
from ptproxy.log import get_logger
from ptproxy.proxy.datagrams import LocalDatagrams
from ptproxy.proxy.early import EarlyData
from ptproxy.proxy.far_end import OriginEnd, TunnelEnd
from ptproxy.target import Target
from ptproxy.tunnel.relay import end_writing, reset_stream
from ptproxy.tunnel.stream import Dialer
from ptproxy.tunnel.tcp import BufferedReads, send_reset

if TYPE_CHECKING:
    from ptproxy.proxy.local import LocalProxy

log = get_logger(__name__)


class LocalConnection(BufferedReads):
    """A local program's connection, up to where it becomes a relay."""

    __slots__ = (
        "_behind", "_conversation", "_datagrams", "_early", "_ended", "_full", "_leaving",
        "_paused", "_proxy", "_ready", "_remote", "_stream", "_task", "transport",
    )  # fmt: skip

    transport: asyncio.Transport

    def __init__(self, proxy: LocalProxy) -> None:
        self._proxy = proxy
        self._conversation: Conversation | None = None
        self._task: asyncio.Task[None] | None = None
        self._remote: TunnelEnd | OriginEnd | None = None  # the far end dialled or used now
        self._stream: asyncio.Transport | None = None  # its transport, once it has answered
        self._ready = False  # the dial has returned: nothing early is left
        self._early = EarlyData()
        self._datagrams: LocalDatagrams | None = None
        self._ended = False  # the program will send no more
        self._leaving = False  # everything is said
        self._full = False  # the stream cannot take more
        self._behind = False  # the program does not read fast enough
        self._paused = False  # we do not read

    @property
    def idle(self) -> bool:
        """Whether nothing has been asked for yet, or nothing since the last answer."""
        conversation = self._conversation
        return conversation is None or (type(conversation) is HttpProxy and conversation.idle)

    # ---- what another front does differently --------------------------------------------------------

    @property
    def dialer(self) -> Dialer:
        """Who dials what the conversation asks for."""
        return self._proxy.dialer

    def converse(self, first: int) -> Conversation:
        """The conversation for a program whose first byte is ``first``."""
        return recognise(first)(self._proxy.users)

    # ---- what the transport tells --------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A program connected."""
        self.transport = transport  # type: ignore[assignment]  # BaseTransport only by its annotation
        if self._proxy.admit(self, self.break_off):
            self._proxy.heads.add(self)
        else:
            self._leaving = True
            # Not from within connection_made: aiofastnet goes on watching what is closed there.
            asyncio.get_running_loop().call_soon(send_reset, self.transport)

    def data_received(self, data: Buffer) -> None:
        """The program said something."""
        if self._leaving:
            return
        conversation = self._conversation
        try:
            if conversation is None:
                conversation = self._conversation = self.converse(data[0])
            events = conversation.receive_data(data)
        except FrontError as error:
            self._misunderstood(error)
        else:
            self._act(conversation, events)

    def eof_received(self) -> bool:
        """The program will send no more."""
        self._ended = True
        conversation = self._conversation
        if conversation is None or self._leaving or self._datagrams is not None:
            return False
        if type(self._remote) is TunnelEnd:
            # With something sent ahead it may wait for what the target says to that; else it has left.
            return bool(self._early)
        try:
            events = conversation.receive_eof()
        except FrontError as error:
            self._misunderstood(error)
        else:
            self._act(conversation, events)
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  (gone is gone)
        """The program is gone, and the dial under way with it."""
        self._leaving = True
        self._give_up()
        proxy = self._proxy
        proxy.heads.discard(self)
        proxy.farewells.discard(self)
        proxy.forget(self)

    def pause_writing(self) -> None:
        """The program does not read fast enough."""
        self._behind = True
        if self._stream is not None and not self._stream.is_closing():
            self._stream.pause_reading()

    def resume_writing(self) -> None:
        """The program has caught up."""
        self._behind = False
        if self._stream is not None and not self._stream.is_closing():
            self._stream.resume_reading()

    # ---- ends ------------------------------------------------------------------------------------

    def leave(self) -> None:
        """Close behind what was said, giving the program a moment to read it and to close first."""
        if self._leaving:
            return
        self._leaving = True
        self._give_up()
        self._proxy.heads.discard(self)
        transport = self.transport
        if transport.is_closing():
            return
        if self._ended:
            transport.close()
            return
        self._proxy.farewells.add(self)
        self._steer_reading()
        end_writing(transport)

    def break_off(self) -> None:
        """Reset the connection."""
        send_reset(self.transport)

    def overdue(self) -> None:
        """Its request, or its farewell, took too long."""
        if self._leaving:
            self.transport.abort()
        else:
            self.leave()

    def _give_up(self) -> None:
        """Cancel the dial, or break what it led to."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        stream, self._stream, self._remote = self._stream, None, None
        if stream is not None and not stream.is_closing():
            reset_stream(stream, Reason.CANCELLED)
        datagrams, self._datagrams = self._datagrams, None
        if datagrams is not None:
            self._proxy.associations -= 1
            datagrams.close()

    # ---- the conversation ------------------------------------------------------------------------

    def _act(self, conversation: Conversation, events: list[Event]) -> None:
        """Do what the conversation wants, then say what it says."""
        for event in events:
            if type(event) is ReplyReceived:
                self.transport.write(event.data)
            elif type(event) is PayloadReceived:
                self._pass_on(event.data)
            elif type(event) is TargetRequested:
                self._start(TunnelEnd(self), event.target, event.first_data)
            elif type(event) is OriginRequested:
                self._start(OriginEnd(self), event.target, event.first_data)
            elif type(event) is OriginReleased:
                self._release()
            elif type(event) is ReplyBroken:
                send_reset(self.transport)
            elif type(event) is AssociationRequested:
                self._proxy.heads.discard(self)
                self._task = self._proxy.spawn(self._associate(conversation, event.port))
        self._say(conversation)
        if conversation.closing:
            self.leave()
        elif type(conversation) is HttpProxy:
            if not conversation.idle:
                self._proxy.heads.discard(self)
            elif self._proxy.stopping:
                self.leave()
            else:
                self._proxy.heads.add(self)
            self._steer_reading()
        elif self._early:
            self._steer_reading()

    def _say(self, conversation: Conversation) -> None:
        answer = conversation.data_to_send()
        if answer:
            self.transport.write(answer)

    def _misunderstood(self, error: FrontError) -> None:
        """The program speaks wrongly: say so where its protocol can."""
        log.info("local program refused", error=str(error))
        if self._conversation is not None:
            self._say(self._conversation)
        self.leave()

    def _pass_on(self, data: Buffer) -> None:
        """To the stream, now or as soon as there is one."""
        if self._ready and self._stream is not None:
            self._stream.write(data)
        elif self._remote is not None:
            self._early.add(data)

    def _steer_reading(self) -> None:
        """Read from the program, or not."""
        conversation = self._conversation
        pause = not self._leaving and (
            self._full or self._early.full or (type(conversation) is HttpProxy and conversation.holding)
        )
        if pause != self._paused and not self.transport.is_closing():
            self._paused = pause
            if pause:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    # ---- dialling ----------------------------------------------------------------------------------

    def _start(self, remote: TunnelEnd | OriginEnd, target: Target, first_data: bytes) -> None:
        """Dial ``target``, with ``remote`` on the stream."""
        self._proxy.heads.discard(self)
        self._remote = remote
        self._ready = False
        self._full = False
        self._task = self._proxy.spawn(self._dial(remote, target, self._early.first_data(first_data)))

    async def _dial(self, remote: TunnelEnd | OriginEnd, target: Target, first_data: bytes) -> None:
        try:
            stream = await self.dialer.dial(target, remote, first_data)
        except DialError as error:
            log.info("target not reached", target=str(target), reason=error.reason.name.lower())
            self._refuse(error.reason)
            return
        except Exception:
            self._refuse(Reason.GENERAL)
            raise
        if remote is not self._remote:
            return  # released already
        self._task = None
        if type(remote) is TunnelEnd:
            self._become_relay(remote, stream)
        else:
            self._ready = True
            self._early.send_to(stream)
            self._steer_reading()

    def stream_made(self, remote: TunnelEnd | OriginEnd, stream: asyncio.Transport) -> None:
        """The target has answered: so can we."""
        conversation = self._conversation
        if remote is self._remote and conversation is not None:
            self._stream = stream
            conversation.send_accepted()
            self._say(conversation)
        else:
            reset_stream(stream, Reason.CANCELLED)

    def _refuse(self, reason: Reason) -> None:
        """What was asked for cannot be had."""
        self._task = None
        conversation = self._conversation
        if conversation is not None and not self._leaving:
            conversation.send_refused(reason)
            self._say(conversation)
            self.leave()

    def _become_relay(self, remote: TunnelEnd, stream: asyncio.Transport) -> None:
        """Couple the program's connection and the stream, and step out of the way."""
        transport = self.transport
        if transport.is_closing():
            return  # connection_lost follows, and gives the stream up
        proxy = self._proxy
        local = remote.local
        local.data_received = stream.write
        local.on_end = remote.on_end = functools.partial(proxy.forget, local)
        proxy.hand_over(self, local, functools.partial(send_reset, transport))
        remote.connection = self._stream = self._remote = None
        transport.set_protocol(local)
        if self._behind:
            proxy.loop.call_soon(local.pause_writing)
        if self._paused:
            transport.resume_reading()
        self._early.send_to(stream)
        if self._ended:
            local.eof_received()

    def _release(self) -> None:
        """The origin's stream is not wanted any more."""
        stream, self._stream, self._remote = self._stream, None, None
        self._ready = self._full = False
        self._early.clear()
        task, self._task = self._task, None
        if stream is not None:
            stream.close()
        elif task is not None:
            task.cancel()

    # ---- what an origin server says ---------------------------------------------------------------

    def reply_received(self, remote: OriginEnd, data: Buffer) -> None:
        """Bytes from the origin."""
        conversation = self._conversation
        if remote is self._remote and type(conversation) is HttpProxy:
            self._act(conversation, conversation.receive_reply(data))
            if self._behind and self._stream is not None and not self._stream.is_closing():
                self._stream.pause_reading()

    def reply_ended(self, remote: OriginEnd) -> None:
        """The origin will send no more."""
        conversation = self._conversation
        if remote is self._remote and type(conversation) is HttpProxy:
            self._act(conversation, conversation.receive_reply_eof())

    def reply_lost(self, remote: OriginEnd, exc: Exception | None) -> None:
        """The origin's stream is gone."""
        conversation = self._conversation
        if remote is self._remote and type(conversation) is HttpProxy:
            if exc is None:
                events = conversation.receive_reply_eof()
            else:
                reason = exc.reason if isinstance(exc, DialError) else Reason.CONNECTION_LOST
                events = conversation.receive_reply_lost(reason)
            self._act(conversation, events)

    def origin_full(self, remote: OriginEnd, *, full: bool) -> None:
        """Whether the origin's stream takes no more for now."""
        if remote is self._remote:
            self._full = full
            self._steer_reading()

    # ---- datagrams ------------------------------------------------------------------------------------

    async def _associate(self, conversation: Conversation, port: int) -> None:
        """UDP ASSOCIATE: a socket on the address that the program reached us at."""
        proxy = self._proxy
        if proxy.associations >= proxy.limits.associations:
            self._refuse(Reason.LIMIT)
            return
        local_host = self.transport.get_extra_info("sockname")[0]
        datagrams = LocalDatagrams(self.transport.get_extra_info("peername")[0], port, self.leave)
        proxy.associations += 1
        self._datagrams = datagrams
        try:
            association = await self.dialer.associate(datagrams)
            bound = await datagrams.open(proxy.loop, local_host, association)
        except (DialError, OSError) as error:
            reason = error.reason if isinstance(error, DialError) else Reason.GENERAL
            log.info("no UDP association", reason=reason.name.lower())
            self._refuse(reason)
            return
        except Exception:
            self._refuse(Reason.GENERAL)
            raise
        self._task = None
        conversation.send_accepted(*bound)
        self._say(conversation)
