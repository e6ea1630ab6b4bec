"""Which event loop runs a role, and how it is started.

``auto`` is uvloop where it is installed and asyncio's own elsewhere (Windows, a
phone's Python). The transports on top come from :mod:`ptproxy.tunnel.tcp`,
which makes the same kind of choice for itself.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ptproxy.errors import StartError
from ptproxy.log import get_logger

T = TypeVar("T")

log = get_logger(__name__)


def loop_factory(loop: str = "auto") -> Callable[[], asyncio.AbstractEventLoop]:
    """The event loop maker for ``auto``, ``uvloop`` or ``asyncio``.

    Raises :class:`~ptproxy.errors.StartError` where uvloop is asked for and missing.
    """
    if loop == "asyncio":
        return asyncio.new_event_loop
    try:
        import uvloop  # noqa: PLC0415  (does not exist on every platform)
    except ImportError:
        if loop == "uvloop":
            raise StartError(
                "loop: uvloop is not installed here; use loop: auto, or pip install uvloop"
            ) from None
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def run(main: Coroutine[Any, Any, T], loop: str = "auto") -> T:
    """Run ``main`` to its end on the chosen loop and return its result.

    What start-up allocated is moved out of the garbage collector's sight, so
    that a collection never walks the imported modules.
    """
    if sys.implementation.name == "cpython":
        gc.collect()
        gc.freeze()
    with asyncio.Runner(loop_factory=loop_factory(loop)) as runner:
        runner.get_loop().set_exception_handler(_unforeseen)
        return runner.run(main)


def _unforeseen(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what no code awaits: a stranger's broken connection quietly, a bug of ours with its traceback."""
    del loop
    error = context.get("exception")
    kind = error if isinstance(error, type) else type(error)  # aiofastnet names a reset by its class alone
    if issubclass(kind, OSError):  # ssl.SSLError is one, too
        log.debug("connection failed", why=f"{context.get('message', '')}: {kind.__name__}")
    else:
        log.error(context.get("message") or "unforeseen error", exc_info=error)
