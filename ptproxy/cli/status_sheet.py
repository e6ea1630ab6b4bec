"""What ``ptproxy status`` shows, as facts and tables that a terminal view and plain text are made from."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

SAMPLES: Final = 40
"""Looks that the sparklines show."""
BARS: Final = "▁▂▃▄▅▆▇█"
SOON: Final = 14 * 86_400.0
"""Seconds before its end from which a certificate is something to see to."""

State = Mapping[str, Any]
Mood = Literal["good", "warning", "bad", ""]


@dataclass(frozen=True, slots=True)
class Fact:
    """One line: what, and how it is."""

    name: str
    text: str
    mood: Mood = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells under headings; each row has a mood."""

    name: str
    headings: tuple[str, ...]
    rows: list[tuple[tuple[str, ...], Mood]]


@dataclass(slots=True)
class Sheet:
    """Everything that is shown of one look."""

    title: str
    facts: list[Fact] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


class Pace:
    """Bytes a second from one look to the next, the last :data:`SAMPLES` of them."""

    def __init__(self) -> None:
        self.sent: deque[float] = deque(maxlen=SAMPLES)
        self.received: deque[float] = deque(maxlen=SAMPLES)
        self._last: tuple[float, int, int] | None = None

    def look(self, now: float, sent: int, received: int) -> None:
        """What was moved until now; another process's count begins anew."""
        last, self._last = self._last, (now, sent, received)
        if last is None or now <= last[0] or sent < last[1] or received < last[2]:
            return
        elapsed = now - last[0]
        self.sent.append((sent - last[1]) / elapsed)
        self.received.append((received - last[2]) / elapsed)


def sheet_of(state: State, pace: Pace) -> Sheet:
    """What one answer shows."""
    process, moved = state["process"], state["moved"]
    pace.look(process["now"], moved["sent"], moved["received"])
    sheet = Sheet(f"ptproxy {state['role']}")
    (_bridge if state["role"] == "bridge" else _client)(state, sheet, pace)
    up = span(process["now"] - process["began_at"])
    sheet.facts.append(Fact("process", f"{process['pid']}, for {up}, version {process['program']}"))
    sheet.facts.append(_resources(process))
    if state["reload"] is not None:
        sheet.facts.append(_reload(state["reload"], process["now"]))
    return sheet


# ---- a client ---------------------------------------------------------------------------------------


def _client(state: State, sheet: Sheet, pace: Pace) -> None:
    words: dict[str, tuple[str, Mood]] = {
        "connected": ("connected", "good"),
        "trying": ("trying to reach a bridge", "warning"),
        "blocked": ("blocked: every way failed lately; it tries on", "bad"),
    }
    text, mood = words.get(state["condition"], (state["condition"], "warning"))
    facts = sheet.facts
    facts.append(Fact("tunnel", text, mood))
    if state["why"]:
        facts.append(Fact("why", state["why"], mood))
    facts.append(Fact("listening", ", ".join(state["listening"]) or "nowhere"))
    facts.append(
        Fact(
            "open",
            f"{several(state['connections'], 'local connection')}, {several(state['streams'], 'stream')}",
        )
    )
    facts.extend(_traffic(state, pace, ("up", "sent"), ("down", "received")))
    block, now = state["last_block"], state["process"]["now"]
    if block is not None:
        where = f"front {block['front']} with {block['codec']}"
        seen = f"{block['degree']}: {where} of {block['bridge']}, {span(now - block['failed_at'])} ago"
        facts.append(Fact("last block", f"{seen}; {block['done']}" if block["done"] else seen, "warning"))
    for bridge in state["bridges"]:
        if bridge["account"] is not None:
            facts.append(_account(bridge["account"], now))
        sheet.tables += _bridge_tables(bridge)


def _account(account: State, now: float) -> Fact:
    """How the user stands with a bridge, as the bridge told last."""
    parts = [account["name"]]
    if account["state"] != "in force":
        words = {"quota": "the month's volume is used up", "expired": "its time is over"}
        parts.append(words.get(account["state"], account["state"]))
    if account["quota"] is not None:
        parts.append(f"{size(account['left'])} left of {size(account['quota'])}")
        if account["resets_at"] is not None:
            parts.append(f"anew in {span(account['resets_at'] - now)}")
    if account["expires_at"] is not None:
        parts.append(f"until {time.strftime('%Y-%m-%d', time.gmtime(account['expires_at']))}")
    if account["rate"] is not None:
        parts.append(f"at most {size(account['rate'])}/s")
    scarce = account["quota"] is not None and account["left"] < 0.1 * account["quota"]
    mood: Mood = "bad" if account["state"] != "in force" else "warning" if scarce else ""
    return Fact("account", ", ".join(parts), mood)


def _bridge_tables(bridge: State) -> list[Table]:
    carriers = [
        (
            (
                str(each["number"]), each["codec"], str(each["streams"]), size(each["sent"]),
                size(each["received"]), "" if each["rtt"] is None else f"{each['rtt'] * 1000:.0f} ms",
                "silent" if each["suspect"] else "",
            ),
            "warning" if each["suspect"] else "",
        )
        for each in bridge["carriers"]
    ]  # fmt: skip
    ways = [
        (
            (
                str(way["front"]), way["codec"], _met(way),
                "" if way["took"] is None else f"{way['took'] * 1000:.0f} ms",
                span(way["rests"]) if way["rests"] else "",
            ),
            _mood(way),
        )
        for way in bridge["ways"]
    ]  # fmt: skip
    return [
        Table(
            f"carriers to {bridge['bridge']}",
            ("no.", "codec", "streams", "up", "down", "round trip", ""),
            carriers,  # type: ignore[arg-type]  # a mood is one of a few texts
        ),
        Table(
            "ways there", ("front", "codec", "met with", "TLS stood after", "tried last for"),
            ways,  # type: ignore[arg-type]  # as above
        ),
    ]  # fmt: skip


def _met(way: State) -> str:
    return "not tried" if _is_untried(way) else str(way["degree"])


def _mood(way: State) -> Mood:
    if way["degree"] == "open":
        return "" if _is_untried(way) else "good"
    return "bad" if way["rests"] else "warning"


def _is_untried(way: State) -> bool:
    return way["degree"] == "open" and way["took"] is None


# ---- a bridge ---------------------------------------------------------------------------------------


def _bridge(state: State, sheet: Sheet, pace: Pace) -> None:
    facts, now = sheet.facts, state["process"]["now"]
    facts.append(Fact("bridge", state["condition"], "good" if state["condition"] == "running" else "warning"))
    facts.append(Fact("listening", f"{', '.join(state['listening'])} ({state['mode']})"))
    count = ", ".join(f"{number} {codec}" for codec, number in state["carriers"].items())
    facts.append(Fact("clients", f"{state['known']} in {several(state['sessions']['open'], 'session')}"))
    facts.append(Fact("carriers", count))
    facts.append(Fact("streams", f"{state['streams']}, {state['leaving']} of them to targets"))
    facts.extend(_traffic(state, pace, ("to clients", "sent"), ("from clients", "received")))
    memory = state["memory"]
    facts.append(
        Fact(
            "kept", f"{size(memory['used'])} of {size(memory['limit'])} until clients have them",
            "bad" if memory["pressed"] else "",
        )
    )  # fmt: skip
    accounts = state["accounts"]
    visitors = several(state["strangers"], "visitor")
    others = f"{visitors} of the site, {state['undecided']} not told apart yet"
    known = f"{accounts['identities']} ({accounts['revoked']} revoked)"
    left_over = several(accounts["invites"], "invite")
    facts.append(Fact("accounts", f"{accounts['access']}: {known}, {left_over} left"))
    facts.append(Fact("others", others))
    if state["certificate"] is not None:
        left = state["certificate"]["ends_at"] - now
        mood: Mood = "bad" if left <= 0 else "warning" if left < SOON else ""
        facts.append(Fact("certificate", "has ended" if left <= 0 else f"ends in {span(left)}", mood))
    rows: list[tuple[tuple[str, ...], Mood]] = [
        (
            (
                each["name"], str(each["sessions"]), str(each["carriers"]), str(each["streams"]),
                size(each["sent"]), size(each["received"]),
            ),
            "",
        )
        for each in state["clients"]
    ]  # fmt: skip
    headings = ("name", "sessions", "carriers", "streams", "to it", "from it")
    sheet.tables.append(Table("clients", headings, rows))


# ---- both -------------------------------------------------------------------------------------------


def _traffic(state: State, pace: Pace, *ways: tuple[str, str]) -> list[Fact]:
    facts = []
    for name, key in ways:
        rates: deque[float] = getattr(pace, key)
        text = f"{size(state['moved'][key])} in all"
        if rates:
            text = f"{size(rates[-1])}/s, {text}  {sparkline(rates)}"
        facts.append(Fact(name, text))
    return facts


def _resources(process: State) -> Fact:
    parts = [f"{process['cpu']:.1f} s of processor time"]
    if process["resident"] is not None:
        parts.append(f"{size(process['resident'])} of memory")
    used, most = process["descriptors"], process["most_descriptors"]
    tight = False
    if used is not None and most is not None:
        tight = most > 0 and used > 0.8 * most
        parts.append(f"{used} of {most} descriptors")
    return Fact("uses", ", ".join(parts), "warning" if tight else "")


def _reload(last: State, now: float) -> Fact:
    ago = f"{span(now - last['at'])} ago"
    if last["problems"]:
        return Fact("reload", f"refused {ago}: {last['problems'][0]}", "bad")
    return Fact("reload", f"{ago}: {', '.join(last['changed']) or 'no setting had changed'}")


def sparkline(rates: deque[float]) -> str:
    """The rates as bars, the highest one full."""
    top = max(rates) or 1.0
    return "".join(BARS[min(int(rate / top * len(BARS)), len(BARS) - 1)] for rate in rates)


def several(count: int, what: str) -> str:
    """A number of things."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def span(seconds: float) -> str:
    """A duration for people, in its two largest units."""
    left = max(int(seconds), 0)
    parts: list[str] = []
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        if left >= length or (unit == "s" and not parts):
            parts.append(f"{left // length} {unit}")
            left %= length
        elif parts:
            break
        if len(parts) == 2:
            break
    return " ".join(parts)
