"""Accounts as commands show them: to people in columns, to scripts as values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ptproxy.auth.access import AccessList
from ptproxy.auth.account import Account, Lapse, month_of
from ptproxy.auth.credentials import encode_key
from ptproxy.cli import words

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def size(number: int) -> str:
    """A size for people: ``1.5GiB``."""
    value, unit = float(number), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value /= 1024
        unit += 1
    return f"{value:.3g}{_UNITS[unit]}" if value < 1000 else f"{value:.0f}{_UNITS[unit]}"


def state_of(known: AccessList, account: Account, unix_now: float) -> str:
    """``in force``, or why it is not."""
    if not account.enabled:
        return "disabled"
    if account.expires_at is not None and unix_now >= account.expires_at:
        return Lapse.EXPIRED.value
    if account.quota is not None and _used(known, account, unix_now)[2] >= account.quota:
        return Lapse.QUOTA.value
    return "in force"


def summary(account: Account) -> str:
    """An account in one line."""
    said = [account.name, "enabled" if account.enabled else "disabled"]
    said.append(f"until {words.date(account.expires_at)}")
    if account.quota is not None:
        said.append(f"{size(account.quota)} a month from day {account.reset_day}")
    if account.rate is not None:
        said.append(f"{size(account.rate)}/s")
    said.append("1 device" if account.devices == 1 else f"{account.devices} devices")
    if account.targets:
        said.append(f"only to {' '.join(account.targets)}")
    if account.services is not None:
        said.append(f"services: {' '.join(account.services) or 'none'}")
    if account.reverse:
        said.append(f"offers at {', '.join(map(str, account.reverse))}")
    return "; ".join(said)


def details(known: AccessList, account: Account, unix_now: float) -> dict[str, Any]:
    """All about an account, JSON-able."""
    up, down, total = _used(known, account, unix_now)
    clients = [
        {"key": encode_key(each.public), "since": words.date(each.enrolled_at), "revoked": each.revoked}
        for each in known.named(account.name)
    ]
    invites = [
        {"id": each.id, "uses_left": each.uses_left, "until": words.date(each.expires_at)}
        for each in known.invites.values()
        if each.account == account.name
    ]
    return account.serialize() | {
        "state": state_of(known, account, unix_now),
        "used_up": up,
        "used_down": down,
        "left": None if account.quota is None else max(0, account.quota - total),
        "resets_at": month_of(account.reset_day, unix_now)[1],
        "clients": clients,
        "invites": invites,
    }


def table(known: AccessList, unix_now: float) -> str:
    """All accounts in columns."""
    rows = [("ACCOUNT", "STATE", "DEVICES", "USED", "OF", "NEW MONTH", "RATE", "UNTIL (UTC)", "NOTE")]
    for each in sorted(known.accounts.values(), key=lambda each: each.name):
        devices = sum(not device.revoked for device in known.named(each.name))
        rows.append(
            (
                each.name,
                state_of(known, each, unix_now),
                f"{devices}/{each.devices}",
                size(_used(known, each, unix_now)[2]),
                "-" if each.quota is None else size(each.quota),
                words.date(month_of(each.reset_day, unix_now)[1])[:10],
                "-" if each.rate is None else f"{size(each.rate)}/s",
                words.date(each.expires_at),
                each.note,
            )
        )
    if len(rows) == 1:
        return "no accounts; ptproxy account add makes one"
    return "\n".join(columns(rows))


def columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows as lines, each column as wide as its widest cell."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _used(known: AccessList, account: Account, unix_now: float) -> tuple[int, int, int]:
    used = known.used.get(account.name)
    if used is None or used.since < month_of(account.reset_day, unix_now)[0]:
        return 0, 0, 0
    return used.up, used.down, used.total
