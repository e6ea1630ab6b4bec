"""The port for Prometheus and for health checks: ``/metrics`` and ``/healthz``; off by default."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
from typing import Any, Final, Protocol

from ptproxy.config.quantities import Endpoint
from ptproxy.log import get_logger
from ptproxy.proxy.metrics_text import KIND
from ptproxy.proxy.startup import cannot_listen
from ptproxy.proxy.this_machine import Page, ThisMachinePort
from ptproxy.state.sockets import bind_socket

METRICS: Final = "/metrics"
HEALTH: Final = "/healthz"
UNIX_MODE: Final = 0o660
"""Mode of a Unix socket: its group decides who else may look."""
TRY_EVERY: Final = 1.0
"""Seconds between tries where the process that this one replaces still has the port."""

log = get_logger(__name__)


class Measured(Protocol):
    """A role that is measured; nothing here blocks."""

    def metrics(self) -> bytes:
        """In Prometheus' text format."""

    def health(self) -> dict[str, Any]:
        """``healthy`` and, where it is not, ``why``."""


def place_of(place: Endpoint, worker: int) -> Endpoint:
    """Where one of several workers listens: each at the next port, or the next name."""
    if not worker:
        return place
    if place.unix is not None:
        return Endpoint("", 0, place.unix.with_name(f"{place.unix.name}.{worker}"))
    return Endpoint(place.host, place.port + worker if place.port else 0)


async def open_metrics(
    loop: asyncio.AbstractEventLoop,
    stack: contextlib.AsyncExitStack,
    place: Endpoint | None,
    measured: Measured,
    *,
    wait: bool = False,
) -> None:
    """Listen there, until ``stack`` is closed; None: nowhere.

    ``wait``: another process may have the port for a while; it is then taken once that one has gone.
    Raises :class:`~ptproxy.errors.StartError`.
    """
    if place is None:
        return
    port = ThisMachinePort(loop, lambda path: page_at(path, measured))
    stack.push_async_callback(port.stop)
    try:
        await _listen(port, place)
    except OSError as error:
        if not wait or error.errno != errno.EADDRINUSE:
            raise cannot_listen(place, error) from None
        task = loop.create_task(_listen_later(port, place))
        stack.push_async_callback(_cancelled, task)


async def _listen(port: ThisMachinePort, place: Endpoint) -> None:
    if place.unix is None:
        host, number = await port.listen(place.literal, place.port)
        log.info("measures", listen=f"http://{Endpoint(host, number)}{METRICS}")
        return
    port.take(bind_socket(place.unix, UNIX_MODE))
    log.info("measures", listen=str(place))


async def _listen_later(port: ThisMachinePort, place: Endpoint) -> None:
    while True:
        await asyncio.sleep(TRY_EVERY)
        try:
            await _listen(port, place)
            return
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                log.error("no measures", why=str(cannot_listen(place, error)))
                return


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def page_at(path: str, measured: Measured) -> Page | None:
    """The page at a path."""
    if path == METRICS:
        return Page(KIND, measured.metrics())
    if path == HEALTH:
        health = measured.health()
        status = b"200 OK" if health["healthy"] else b"503 Service Unavailable"
        return Page(b"application/json", json.dumps(health).encode() + b"\n", status)
    return None
