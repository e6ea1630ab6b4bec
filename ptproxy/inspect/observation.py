"""What one probe saw of one server, and in what two servers differ.

Kinds of observables, by how sure a difference is:

- *fixed* ones (handshake, certificate, clear records, alerts, tickets, answer)
  are what a server says to a question: one that gives two answers is unsteady.
- *loose* ones (record sizes, how and when the connection ends) hang on what the
  machine and the network did just then, too. Times are compared as a person
  with a clock would: at once, or after about so many seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Final

AT_ONCE: Final = 1.0
"""Seconds that count as no delay at all, at a server across the world on a busy day."""
TIME_SLACK: Final = 1.0
"""Seconds by which equal time-outs may differ …"""
TIME_SHARE: Final = 0.04
"""… and the share of a long one: a server's timers and ours."""
SIZE_SLACK: Final = 4
"""Bytes by which records may differ: an ECDSA signature has 70 to 72, a date in HPACK varies."""


@dataclass(slots=True)
class Observation:
    """What a probe saw. Texts are empty and times None where there was nothing to see."""

    reached: str = ""
    """Why the server was not reached."""
    handshake: str = ""
    """Version, cipher suite, protocol and resumption; or why there is none."""
    certificate: str = ""
    """Beginning of the leaf's SHA-256."""
    clear: tuple[str, ...] = ()
    """Records up to the end of the handshake, as far as they can be read."""
    alerts: tuple[str, ...] = ()
    """Alerts after the handshake (decrypted), as OpenSSL calls them."""
    tickets: str = ""
    """Session tickets: how long the server says they live."""
    answer: str = ""
    """What was said above TLS, or in the clear, masked."""
    flight_sizes: tuple[int, ...] = ()
    """Lengths of the handshake's records; compared where the certificate is the same."""
    sizes: tuple[int, ...] = ()
    """Lengths of the encrypted records after the handshake: tickets, answers, close_notify."""
    end: str = ""
    """``close_notify, FIN``, ``FIN``, ``RST``, ``open`` and so on."""
    first_byte: float | None = None
    """Seconds from the last thing sent to the first byte received."""
    ended: float | None = None
    """Seconds from the last thing sent to the end."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON: what there was."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: round(value, 2) if isinstance(value, float) else value
            for name, value in values.items()
            if value not in ("", (), None)
        }


@dataclass(frozen=True, slots=True)
class Difference:
    """One observable in which two servers differ."""

    observable: str
    reference: str
    bridge: str


def same_time(one: float | None, other: float | None) -> bool:
    """Whether two delays are of one class."""
    if one is None or other is None:
        return one is other
    if one < AT_ONCE and other < AT_ONCE:
        return True
    return abs(one - other) <= TIME_SLACK + TIME_SHARE * max(one, other)


def same_sizes(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether records have the same number and, but for :data:`SIZE_SLACK`, lengths."""
    return len(one) == len(other) and all(abs(a - b) <= SIZE_SLACK for a, b in zip(one, other, strict=True))


def _equal(one: object, other: object) -> bool:
    return one == other


_FIXED: Final = ("reached", "handshake", "certificate", "clear", "alerts", "tickets", "answer")
_LOOSE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "flight_sizes": same_sizes,
    "sizes": same_sizes,
    "end": _equal,
    "first_byte": same_time,
    "ended": same_time,
}
LOOSE: Final = frozenset(_LOOSE)
"""Observables in which a server may differ from itself."""


def differences(reference: Observation, bridge: Observation) -> list[Difference]:
    """Every observable in which two observations differ."""
    found = []
    for name in (*_FIXED, *_LOOSE):
        one, other = getattr(reference, name), getattr(bridge, name)
        if name == "flight_sizes" and reference.certificate != bridge.certificate:
            continue  # another certificate is another length; it is told once
        if not _LOOSE.get(name, _equal)(one, other):
            found.append(Difference(name, *_told(one, other)))
    return found


def _told(one: Any, other: Any) -> tuple[str, str]:
    """Two different values as texts that show the difference."""
    if isinstance(one, str) and isinstance(other, str):
        lines, others = one.split("\r\n"), other.split("\r\n")
        for line, counterpart in zip(lines, others, strict=False):
            if line != counterpart:
                return line, counterpart
        at = min(len(lines), len(others))
        return "\r\n".join(lines[at:]) or "nothing more", "\r\n".join(others[at:]) or "nothing more"
    return _one_told(one), _one_told(other)


def _one_told(value: Any) -> str:
    if value is None:
        return "never"
    if isinstance(value, float):
        return "at once" if value < AT_ONCE else f"after {value:.1f} s"
    return "; ".join(map(str, value)) or "none"
