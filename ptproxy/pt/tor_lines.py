"""What a managed proxy tells tor, one line each (pt-spec section 3.3).

Nothing that tor would take for another line can get into one: whatever is not
ours goes through :func:`one_line` or is a quoted string.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ptproxy.pt.arguments import serialize_arguments
from ptproxy.pt.tor_environment import Place, format_place

VERSION: Final = "VERSION 1"
PROXY_DONE: Final = "PROXY DONE"
CMETHODS_DONE: Final = "CMETHODS DONE"
SMETHODS_DONE: Final = "SMETHODS DONE"

MAX_MESSAGE: Final = 400
"""Characters of a log message; tor takes more, people do not."""

_SEVERITIES: Final = {
    "debug": "debug",
    "info": "info",
    "warning": "warning",
    "error": "error",
    "critical": "error",
}
"""Our levels in tor's words. What a tor user should always see would be ``notice``: nothing is."""


def client_method(transport: str, place: Place) -> str:
    """We listen for tor's SOCKS5 there."""
    return f"CMETHOD {transport} socks5 {format_place(place)}"


def client_method_error(transport: str, text: str) -> str:
    """This transport cannot be had."""
    return f"CMETHOD-ERROR {transport} {one_line(text)}"


def bridge_method(transport: str, place: Place, arguments: Mapping[str, str]) -> str:
    """We listen for clients there; ``arguments`` are what their lines need."""
    line = f"SMETHOD {transport} {format_place(place)}"
    return f"{line} ARGS:{serialize_arguments(arguments)}" if arguments else line


def bridge_method_error(transport: str, text: str) -> str:
    """This transport cannot be had."""
    return f"SMETHOD-ERROR {transport} {one_line(text)}"


def log(level: str, text: str) -> str:
    """A line for tor's log; ``level`` as our own log has it."""
    return f"LOG SEVERITY={_SEVERITIES.get(level, 'info')} MESSAGE={quoted(text[:MAX_MESSAGE])}"


def version_status(implementation: str, version: str) -> str:
    """Who we are."""
    return f"STATUS TYPE=version IMPLEMENTATION={quoted(implementation)} VERSION={quoted(version)}"


def connection_status(transport: str, result: str) -> str:
    """How a connection to a bridge went: ``Success`` or ``Failed``. Which bridge is not said."""
    return f"STATUS TYPE=connection TRANSPORT={transport} CONNECT={result}"


def one_line(text: str) -> str:
    """``text`` without anything that ends or disturbs a line."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def quoted(text: str) -> str:
    """A quoted string as tor reads it: C's escapes, ASCII only (control-spec section 2.1.1)."""
    escaped = []
    for byte in one_line(text).encode("utf-8"):
        character = chr(byte)
        if character in '"\\':
            escaped.append(f"\\{character}")
        elif 32 <= byte < 127:
            escaped.append(character)
        else:
            escaped.append(f"\\{byte:03o}")
    return f'"{"".join(escaped)}"'
