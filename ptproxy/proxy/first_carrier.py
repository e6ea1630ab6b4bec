"""A client's first carrier: waited for, tried on where nobody is reached, told where that is no use."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from ptproxy.config.link import Link
from ptproxy.config.model import ClientConfig
from ptproxy.config.quantities import Endpoint
from ptproxy.errors import AuthenticationError, DialError, PtproxyError, StartError
from ptproxy.log import get_logger
from ptproxy.proxy.bridge_choice import BridgeChoice
from ptproxy.proxy.one_bridge import OneBridge
from ptproxy.proxy.startup import Signals
from ptproxy.ways import Way, Ways

log = get_logger(__name__)


async def connect(
    config: ClientConfig, tunnel: OneBridge | BridgeChoice, signals: Signals, ways: Ways | None = None
) -> None:
    """Open the first carrier; gives up when told to stop.

    What is only out of reach is tried on beside the loop's other work: programs wait for it meanwhile.
    Raises StartError where somebody answers who is not the bridge, or does not let us in, unless
    ``ways`` remembers that the bridge did before: then it is perhaps in the way, and not wrong.
    """
    try:
        await unless_stopped(tunnel.start(), signals)
    except PtproxyError as error:
        line = tunnel.line or config.bridge
        told = not_connected(line, error)
        if isinstance(error, StartError) or not (isinstance(error, DialError) or _has_let_us_in(line, ways)):
            raise told from None
        log.warning("the client runs without its bridge for now, and goes on trying", why=str(told))
        tunnel.keep()


def _has_let_us_in(line: Link, ways: Ways | None) -> bool:
    """Whether any way to a bridge has ever led there."""
    return ways is not None and any(ways.has_led(Way(one.key, one.host, one.port)) for one in line.by_front())


async def unless_stopped(work: Coroutine[Any, Any, None], signals: Signals) -> None:
    """Do this, or give it up when told to stop; raises what it raises."""
    doing = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(signals.stop.wait())
    try:
        await asyncio.wait({doing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            doing.result()
    finally:
        doing.cancel()
        stopping.cancel()
        await asyncio.gather(doing, stopping, return_exceptions=True)


def not_connected(line: Link, error: PtproxyError) -> StartError:
    """What keeps the first carrier to the bridge of ``line`` from opening, for a person."""
    if isinstance(error, StartError):
        return error
    where = Endpoint(line.host, line.port)
    if isinstance(error, DialError):
        return StartError(f"the bridge at {where} is not reached: {error}")
    if isinstance(error, AuthenticationError):
        return StartError(f"what answers at {where} is not the bridge of the link: {error}")
    return StartError(
        f"the bridge at {where} did not let us in: a wrong or revoked key, a used-up invite, "
        f"or a clock off by more than a minute ({error})"
    )
