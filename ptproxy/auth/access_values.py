"""What the fields of accounts, identities and invites may hold; ValueError says what is wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

MAX_REVERSE: Final = 64
"""Ports of the bridge that one identity may offer services at: each may hold a listening socket."""
MAX_NAME: Final = 64
"""Characters of a name: it stands in log lines."""
MAX_TIME: Final = 2**53
"""Seconds: what every JSON reader keeps exactly."""

_INVITE_ID = re.compile(r"[0-9a-f]{64}")


def exact_fields(data: object, names: tuple[str, ...]) -> tuple[Any, ...]:
    """The values of exactly these fields."""
    if not isinstance(data, Mapping) or set(data) != set(names):
        raise ValueError(f"must have exactly the fields {', '.join(names)}")
    return tuple(data[name] for name in names)


def key_text(value: object) -> str:
    """A key as text."""
    if not isinstance(value, str):
        raise ValueError("a key is text")
    return value


def port_list(value: object) -> tuple[int, ...]:
    """Ports from their JSON-able form; :func:`check_ports` judges them."""
    if not isinstance(value, list):
        raise ValueError("'reverse' is a list of ports")
    return tuple(value)


def check_ports(ports: tuple[int, ...]) -> None:
    """A few different ports."""
    if len(ports) > MAX_REVERSE:
        raise ValueError(f"at most {MAX_REVERSE} ports")
    if not all(type(port) is int and 0 < port < 65536 for port in ports):
        raise ValueError("ports are numbers from 1 to 65535")
    if len(set(ports)) != len(ports):
        raise ValueError("a port stands twice")


def check_name(name: object) -> None:
    """A name that can stand in a log line."""
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise ValueError(f"a name is 1 to {MAX_NAME} printable characters")


def check_time(time: object) -> None:
    """A time or a duration."""
    if type(time) is not int or not 0 <= time < MAX_TIME:
        raise ValueError("times are whole seconds, or null where there is no end")


def check_id(invite_id: object) -> None:
    """An invite's id."""
    if not isinstance(invite_id, str) or not _INVITE_ID.fullmatch(invite_id):
        raise ValueError("an invite's id is 64 hexadecimal digits")
