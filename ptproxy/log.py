"""Logs: structlog on a console or as JSON lines, with addresses scrubbed unless asked for.

``log = get_logger(__name__)`` at the top of a module; ``log.info("carrier open",
codec="http", rtt=0.04)``. Event texts are constant, what varies goes into keys.
A call below the level costs an attribute look-up.

Scrubbed are IP literals anywhere in a line and everything under the keys in
:data:`ADDRESS_KEYS` (a client's, a peer's, a target's), tracebacks included.
Keys, tokens and payload are never given to a logger at all.

:func:`set_up` is called by the command line, and again when a configuration was reloaded. Until then
(ptproxy as a library, tests) warnings and errors go to standard error, scrubbed, unless the
program that embeds ptproxy has configured structlog itself.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import re
import sys
from collections.abc import Callable, MutableMapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final, TextIO

import structlog
from structlog.typing import FilteringBoundLogger

from ptproxy.state import open_log

if TYPE_CHECKING:
    from ptproxy.config.model import LogConfig

ADDRESS_KEYS: Final = frozenset(
    {"address", "client", "destination", "host", "peer", "remote", "remote_address", "source", "target"}
)
"""Keys whose values are replaced whole, because they may hold host names."""
PLAIN_KEYS: Final = frozenset({"level", "timestamp", "where", "listen"})
"""Keys that are left alone: our own listening addresses are in the configuration anyway."""
SCRUBBED: Final = "[scrubbed]"

_IPV4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.]?\w)")
_IPV6 = re.compile(r"(?<![\w:])[0-9A-Fa-f:]*:[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*(?:%\w+)?")

Event = MutableMapping[str, Any]

_loggers: list[
    Any
] = []  # as many as there are modules; each remembers how logs were set up at its first line
_files: list[TextIO] = []  # the log file that :func:`set_up` opened, until it is called again


def get_logger(name: str) -> FilteringBoundLogger:
    """A logger whose lines carry ``name`` under ``where``; cheap to make, follows :func:`set_up`."""
    logger: FilteringBoundLogger = structlog.get_logger(where=name.removeprefix("ptproxy."))
    _loggers.append(logger)
    return logger


def set_up(config: LogConfig, stream: TextIO | None = None) -> None:
    """Send all logs, the standard library's included, where ``config`` says.

    ``stream`` takes the place of standard error (tests). Raises
    :class:`~ptproxy.errors.StartError` when the log file cannot be opened.
    """
    file = open_log(config.file) if config.file is not None else None
    out = file or stream or sys.stderr
    chain = processors(config.format, config.addresses, colors=_colors(out))
    _configure(chain, config.level, out, cache=True)
    # Not below info: hpack's debug lines hold header fields, and so cookies.
    libraries = max(_level(config.level), logging.INFO)
    logging.basicConfig(handlers=[_FromStandardLibrary()], level=libraries, force=True)
    while _files:
        _files.pop().close()
    if file is not None:
        _files.append(file)


def tell(parent: Callable[[str, str], None], level: str = "info") -> None:
    """Give each line's level and text, scrubbed, to the program that started us, not as :func:`set_up`."""

    def render(_logger: object, method: str, event: Event) -> str:
        event.pop("level", None)
        text = str(event.pop("event", ""))
        values = " ".join(f"{key}={value}" for key, value in event.items() if key != "where")
        parent(method, f"{text}: {values}" if values else text)
        raise structlog.DropEvent

    _configure([structlog.processors.format_exc_info, scrub, render], level, sys.stderr, cache=True)
    logging.basicConfig(handlers=[_FromStandardLibrary()], level=logging.INFO, force=True)


def _configure(chain: list[Callable[..., Any]], level: str, out: TextIO, *, cache: bool) -> None:
    for logger in _loggers:
        logger.__dict__.pop("bind", None)  # where structlog caches what it made at the first line
    structlog.configure(
        processors=chain,
        wrapper_class=structlog.make_filtering_bound_logger(_level(level)),
        context_class=dict,
        logger_factory=structlog.WriteLoggerFactory(file=_Sink(out)),  # type: ignore[arg-type]  # it writes and flushes: enough
        cache_logger_on_first_use=cache,
    )


def processors(
    form: str = "console", addresses: str = "scrubbed", *, colors: bool = False
) -> list[Callable[..., Any]]:
    """What a line goes through, in order; the last one makes text of it.

    ``form`` and ``addresses`` are the values of the configuration's ``log`` section.
    """
    chain: list[Callable[..., Any]] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    if addresses == "scrubbed":
        chain.append(scrub)
    if form == "json":
        chain.append(structlog.processors.JSONRenderer(default=str, ensure_ascii=False))
    else:
        chain.append(
            structlog.dev.ConsoleRenderer(
                colors=colors, exception_formatter=structlog.dev.plain_traceback, pad_event_to=36
            )
        )
    return chain


def scrub(_logger: object, _method: str, event: Event) -> Event:
    """A structlog processor: ``event`` without client and target addresses."""
    for key, value in event.items():
        if key not in PLAIN_KEYS:
            event[key] = SCRUBBED if key in ADDRESS_KEYS and value else _scrubbed(value)
    return event


def scrub_text(text: str) -> str:
    """``text`` with every IP literal replaced."""
    if ":" in text:
        text = _IPV6.sub(_without_ipv6, text)
    return _IPV4.sub(SCRUBBED, text)


def _scrubbed(value: object) -> object:
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, str):
        return scrub_text(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [_scrubbed(item) for item in value]
    if isinstance(value, dict):
        return {
            key: SCRUBBED if key in ADDRESS_KEYS and item else _scrubbed(item) for key, item in value.items()
        }
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    return scrub_text(str(value) if isinstance(value, PurePath | BaseException) else repr(value))


def _without_ipv6(match: re.Match[str]) -> str:
    """What a run of hex digits and colons becomes; a clock time, say, stays."""
    text = match[0].partition("%")[0]
    for candidate in (text, text.rstrip(".:"), text.rstrip(".").removesuffix(":")):
        try:
            ipaddress.IPv6Address(candidate)
        except ValueError:
            continue
        return SCRUBBED + text[len(candidate) :] if candidate != "::" else match[0]
    return match[0]


def _level(name: str) -> int:
    return int(logging.getLevelNamesMapping()[name.upper()])


def _colors(out: TextIO) -> bool:
    return out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class _Sink:
    """Where lines go; a full disk or closed terminal loses lines, never connections."""

    __slots__ = ("__weakref__", "_out")

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def write(self, text: str) -> None:
        """One line with its end."""
        try:
            self._out.write(text)
        except (OSError, ValueError):
            pass

    def flush(self) -> None:
        """After each line."""
        try:
            self._out.flush()
        except (OSError, ValueError):
            pass


class _FromStandardLibrary(logging.Handler):
    """Takes the lines of libraries that use :mod:`logging` (asyncio) through the same processors."""

    def emit(self, record: logging.LogRecord) -> None:
        """Pass one record on."""
        logger: Any = structlog.get_logger(where=record.name)
        logger.log(record.levelno, record.getMessage(), exc_info=record.exc_info)


if not structlog.is_configured():
    _configure(processors(), "warning", sys.stderr, cache=False)
