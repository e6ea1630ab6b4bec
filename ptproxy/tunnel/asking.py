"""A stream or an association is asked for at the bridge, and waited for until the far side has its word."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Final, cast

from ptproxy.errors import DialError, LocalProtocolError, Reason
from ptproxy.session import SessionExhausted
from ptproxy.target import Target
from ptproxy.tunnel.association import TunnelAssociation
from ptproxy.tunnel.client import ClientTunnel
from ptproxy.tunnel.stream import Association, DatagramReceiver, Stream, TunnelStream

OPEN_TIMEOUT: Final = 75.0
"""Seconds that a dial waits for the far side's word; the bridge's own connect limit is shorter."""


async def open_stream(stream: TunnelStream, target: Target, first_data: bytes, carrier: int | None) -> Stream:
    """Open ``stream`` on a carrier, None: the session's choice; raises :class:`~ptproxy.errors.DialError`."""
    tunnel = cast("ClientTunnel", stream.tunnel)
    with _refusals():
        stream.state = tunnel.session.open_stream(target.serialize(), first_data, tunnel.now(), carrier)
    stream.state.owner = stream
    await _opened(tunnel, stream)
    stream.start()
    return stream


async def open_association(
    tunnel: ClientTunnel, receiver: DatagramReceiver, carrier: int | None
) -> Association:
    """Open an association on a carrier, as :func:`open_stream`."""
    association = TunnelAssociation(tunnel, receiver)
    with _refusals():
        association.state = tunnel.session.open_association(
            Target.datagrams().serialize(), tunnel.now(), carrier
        )
    association.state.owner = association
    await _opened(tunnel, association)
    return association


async def _opened(tunnel: ClientTunnel, opening: TunnelStream | TunnelAssociation) -> None:
    """Wait for the far side's word; a dial that is given up resets the stream."""
    opening.opened = tunnel.loop.create_future()
    tunnel.schedule()
    overdue = tunnel.loop.call_later(OPEN_TIMEOUT, _time_out, opening.opened)
    try:
        await opening.opened
    except (DialError, asyncio.CancelledError) as error:
        state, now = opening.state, tunnel.now()
        if state.owner is not None:
            state.owner = None
            state.reset(Reason.CANCELLED, now)
            tunnel.schedule()
        if isinstance(error, DialError):
            raise DialError(error.reason, str(error)) from None
        raise
    finally:
        overdue.cancel()
        opening.opened = None


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """What a session says that takes no stream now, as a dialer says it."""
    try:
        yield
    except SessionExhausted as error:
        raise DialError(Reason.LIMIT, str(error)) from None
    except LocalProtocolError:  # GOAWAY or its end came while the dial waited
        raise DialError(Reason.TUNNEL_DOWN, "the session has just ended") from None


def _time_out(opened: asyncio.Future[None]) -> None:
    if not opened.done():
        opened.set_exception(DialError(Reason.TIMED_OUT))
