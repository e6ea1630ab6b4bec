"""An account: what its keys may do together, until when and how much; and what is left of that.

An account is known by its name, which is the name of each identity (key) that
belongs to it. An identity without an account of its name is bound by nothing but
its own expiry: accounts are for those whom their operator wants to limit.

JSON-able form, every field in every entry::

    {"name": …, "created_at": …, "enabled": …, "expires_at": … | null, "devices": …,
     "quota": bytes | null, "reset_day": 1 to 28, "rate": bytes a second | null, "note": …,
     "targets": [rule, …], "services": [name, …] | null, "reverse": [port, …]}

A month begins at 00:00 UTC of its reset day. Times are unix seconds.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any, Final

from ptproxy.auth.access_values import check_name, check_ports, check_time, exact_fields

MAX_DEVICES: Final = 1_000
"""Keys of one account: more is a company, which is better served by several accounts."""
MAX_QUOTA: Final = 1 << 60
"""Bytes a month: an exbibyte, more is a typing error."""
MIN_RATE: Final = 1 << 10
"""Bytes a second: with less no TLS handshake ends in time."""
MAX_RATE: Final = 1 << 40
"""Bytes a second: more than any card; then no limit is meant."""
LAST_RESET_DAY: Final = 28
"""The last day that every month has."""
MAX_NOTE: Final = 200
"""Characters of an operator's note."""
MAX_RULES: Final = 64
"""Targets, and services, of one account: looked through at every stream."""
MAX_RULE: Final = 300
"""Characters of a target or service: a host name has 253."""
TOLD_FOR: Final = 7 * 86_400
"""Seconds after its end for which an identity is still told why nothing works. Later its keys get what
strangers get, so that a device found years later tells nobody that there is a bridge."""


class Lapse(Enum):
    """Why an identity that is no stranger may use nothing just now; values go over the wire."""

    EXPIRED = "expired"
    QUOTA = "quota"


@dataclass(frozen=True, slots=True)
class Account:
    """Limits and permissions of all keys of one name."""

    name: str
    created_at: int
    enabled: bool = True
    expires_at: int | None = None
    """From this time on it is out; None: never."""
    devices: int = 1
    """Keys that may be enrolled in it."""
    quota: int | None = None
    """Bytes a month, both ways together; None: as many as there are."""
    reset_day: int = 1
    """Day on which a month of it begins."""
    rate: int | None = None
    """Bytes a second, each way; None: as fast as it goes."""
    note: str = ""
    """For the operator alone."""
    targets: tuple[str, ...] = ()
    """Rules of where it may connect to (``proxy/account_policy.py``); empty: wherever the bridge may."""
    services: tuple[str, ...] | None = None
    """Services of the bridge that it may use; None: all."""
    reverse: tuple[int, ...] = ()
    """Ports of the bridge at which it may offer services of its own (``ptproxy reverse``)."""

    def __post_init__(self) -> None:
        check_name(self.name)
        check_time(self.created_at)
        check_time(0 if self.expires_at is None else self.expires_at)
        if type(self.enabled) is not bool:
            raise ValueError("'enabled' is true or false")
        _check_number("devices", self.devices, 1, MAX_DEVICES)
        _check_number("reset_day", self.reset_day, 1, LAST_RESET_DAY)
        _check_number("quota", 0 if self.quota is None else self.quota, 0, MAX_QUOTA)
        _check_number("rate", MIN_RATE if self.rate is None else self.rate, MIN_RATE, MAX_RATE)
        if not isinstance(self.note, str) or len(self.note) > MAX_NOTE or not _printable(self.note):
            raise ValueError(f"a note has at most {MAX_NOTE} printable characters")
        _check_rules("targets", self.targets)
        _check_rules("services", () if self.services is None else self.services)
        check_ports(self.reverse)

    def serialize(self) -> dict[str, Any]:
        """The JSON-able form."""
        entry = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in entry.items()}

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Account:
        """From the JSON-able form; ValueError says what is wrong."""
        names = tuple(each.name for each in fields(cls))
        entry = dict(zip(names, exact_fields(data, names), strict=True))
        for name in ("targets", "services", "reverse"):
            value = entry[name]
            if not isinstance(value, list) and not (name == "services" and value is None):
                raise ValueError(f"'{name}' is a list")
            entry[name] = value if value is None else tuple(value)
        return cls(**entry)


@dataclass(frozen=True, slots=True)
class Used:
    """What an account has moved in its month."""

    since: int
    """When that month began."""
    up: int
    """Bytes from its devices."""
    down: int
    """Bytes to them."""

    @property
    def total(self) -> int:
        """Both ways."""
        return self.up + self.down


@dataclass(frozen=True, slots=True)
class Standing:
    """How an identity stands: what its person is shown."""

    name: str
    lapse: Lapse | None
    expires_at: int | None
    quota: int | None
    used: int
    """Bytes moved in this month; 0 where nobody counts, as there is no account."""
    resets_at: int | None
    """When the next month begins; None without a quota."""
    rate: int | None


def month_of(reset_day: int, unix_now: float) -> tuple[int, int]:
    """When the month that ``unix_now`` lies in began, and when the next begins."""
    now = datetime.datetime.fromtimestamp(unix_now, datetime.UTC)
    begin = now.replace(day=reset_day, hour=0, minute=0, second=0, microsecond=0)
    if begin > now:
        begin = _next_month(begin, -1)
    return int(begin.timestamp()), int(_next_month(begin, 1).timestamp())


def _next_month(day: datetime.datetime, step: int) -> datetime.datetime:
    months = day.year * 12 + day.month - 1 + step
    return day.replace(year=months // 12, month=months % 12 + 1)


def _check_number(name: str, value: object, least: int, most: int) -> None:
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"'{name}' is a number from {least} to {most}")


def _check_rules(name: str, rules: tuple[str, ...]) -> None:
    if len(rules) > MAX_RULES:
        raise ValueError(f"at most {MAX_RULES} {name}")
    for each in rules:
        if not isinstance(each, str) or not 0 < len(each) <= MAX_RULE or not _printable(each):
            raise ValueError(f"each of '{name}' is a text of 1 to {MAX_RULE} printable characters")


def _printable(text: str) -> bool:
    return text.isprintable()
