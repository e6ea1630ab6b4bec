"""A client's status in the words of a person: which text, which bridges, what is left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from ptproxy.proxy.page.steering import Phase, Snapshot, State
from ptproxy.proxy.page.texts import Texts
from ptproxy.ways import Degree

MOST_BRIDGES: Final = 64
"""That are shown."""
LAST_DAY: Final = 253_402_300_799
"""Unix seconds: the last that a date can show."""
_ACCOUNTS: Final = ("expired", "quota", "disabled", "revoked")


@dataclass(frozen=True, slots=True)
class BridgeSeen:
    """One bridge."""

    name: str
    """``HOST:PORT``."""
    standing: str
    """The key of the text that says how it is."""
    may_choose: bool


@dataclass(frozen=True, slots=True)
class AccountSeen:
    """How the person stands at one bridge; each line says one thing."""

    bridge: str
    lines: tuple[str, ...]
    used: float | None = None
    """Share of the month's volume, 0 to 1; None where it has no limit."""


@dataclass(slots=True)
class View:
    """All that is shown of one look."""

    condition: str
    """``empty``, ``starting``, ``trying``, ``connected``, ``refused`` (by the bridge, which is reached),
    ``blocked``, ``stopping`` or ``ended``."""
    met: str = ""
    """The key of what stands in the way."""
    socks: str = ""
    bridges: list[BridgeSeen] = field(default_factory=list)
    accounts: list[AccountSeen] = field(default_factory=list)
    technical: str = ""
    """English; for whoever helps."""


def view_of(snapshot: Snapshot, texts: Texts) -> View:
    """What one look shows."""
    state = snapshot.state
    if snapshot.phase is not Phase.RUNNING or state is None:
        phase = Phase.STARTING if snapshot.phase is Phase.RUNNING else snapshot.phase
        return View(str(phase), technical=snapshot.why)
    choice = state.get("choice") or []
    condition = state["condition"]
    if condition == "trying" and choice and all(each["rests"] for each in choice):
        condition = "blocked"
    if condition == "connected" and _is_refused(state, choice):
        condition = "refused"
    view = View(condition if condition in ("connected", "refused", "blocked", "stopping") else "trying")
    if view.condition in ("trying", "blocked"):
        view.met = _met(state, choice)
    view.socks = next((each for each in state["listening"] if each[-1:].isdigit() and " " not in each), "")
    view.bridges = list(_bridges(state, choice))[:MOST_BRIDGES]
    view.accounts = [
        account_seen(bridge["bridge"], bridge["account"], texts)
        for bridge in state["bridges"]
        if bridge["account"] is not None
    ]
    view.technical = _technical(state)
    return view


def met_key(degree: str) -> str:
    """The text for a degree of blocking, by its own words."""
    try:
        return f"met_{Degree(degree).name.lower()}"
    except ValueError:  # a newer client's
        return "met_failed"


def _met(state: State, choice: list[Any]) -> str:
    block = state["last_block"]
    if block is not None:
        return met_key(block["degree"])
    return next((met_key(each["degree"]) for each in choice if each["degree"] != Degree.OPEN), "")


def _is_refused(state: State, choice: list[Any]) -> bool:
    """Whether new streams go to bridges that let this person do nothing."""
    taken = {each["bridge"] for each in choice if each["taken"]}
    asked = [each for each in state["bridges"] if each["bridge"] in taken or (not taken and each["carriers"])]
    return bool(asked) and all(each["account"] and each["account"]["state"] != "in force" for each in asked)


def _bridges(state: State, choice: list[Any]) -> Iterator[BridgeSeen]:
    """Every bridge that is known; of a client with one bridge, that."""
    if not choice:
        for each in state["bridges"]:
            standing = "bridge_in_use" if each["carriers"] else "bridge_trying"
            yield BridgeSeen(each["bridge"], standing, may_choose=False)
        return
    for each in choice:
        if each["in_use"]:
            standing = "bridge_in_use" if each["taken"] else "bridge_ready"
        else:
            standing = "bridge_blocked" if each["rests"] else "bridge_trying"
        yield BridgeSeen(each["bridge"], standing, may_choose=not each["taken"] and len(choice) > 1)


def account_seen(bridge: str, account: State, texts: Texts) -> AccountSeen:
    """What a bridge said of the person's account."""
    lines: list[str] = []
    used = None
    if account["state"] != "in force":
        lines.append(texts.say(f"account_{account['state'] if account['state'] in _ACCOUNTS else 'other'}"))
    if account["quota"] is None:
        lines.append(texts.say("account_no_quota"))
    else:
        used = min(1.0, account["used"] / account["quota"]) if account["quota"] else 1.0
        left, quota = size(account["left"], texts), size(account["quota"], texts)
        lines.append(texts.say("account_left", left=left, quota=quota))
        if account["resets_at"] is not None:
            lines.append(texts.say("account_resets", day=day(account["resets_at"])))
    if account["expires_at"] is not None:
        lines.append(texts.say("account_until", day=day(account["expires_at"])))
    return AccountSeen(bridge, tuple(lines), used)


def size(count: int, texts: Texts) -> str:
    """Bytes for a person: 2^20 or 2^30 of them are one."""
    unit, one = ("unit_gb", 1 << 30) if count >= 1 << 30 else ("unit_mb", 1 << 20)
    number = count / one
    return texts.say(unit, number=f"{number:.1f}" if 0 < number < 100 else f"{number:.0f}")


def day(unix: int) -> str:
    """A day as everybody can read it, UTC."""
    return time.strftime("%Y-%m-%d", time.gmtime(min(unix, LAST_DAY)))


def _technical(state: State) -> str:
    lines = [state["why"]] if state["why"] else []
    lines += [
        f"{bridge['bridge']}: front {way['front']}, {way['codec']}: {way['degree']}"
        for bridge in state["bridges"]
        for way in bridge["ways"]
        if way["degree"] != Degree.OPEN
    ]
    lines.append(f"ptproxy {state['process']['program']}, {state['fingerprint']}")
    return "\n".join(lines)
