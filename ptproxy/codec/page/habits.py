"""How one browser loads a page, as data: how urgent each thing is, in which step it is asked for, and when.

It is the ``loading`` part of a browser's data file (:mod:`ptproxy.codec.browser`)::

    roles          what: [urgency, said, step]; every one of ROLES
    most_urgent_first   of what is found at once; otherwise in the order of the document
    first_pictures how many pictures, which are not small, count as picture_first
    in_sight       the urgency of a picture once it is found to be in sight; null: no change
    tight_from, tight_limit   while a script holds the parser in the head, at most so many requests of that
                   urgency and less are under way; null: there is no such limit
    http1_patient  over HTTP/1.1 what is for these (sec-fetch-dest) waits for all style sheets and scripts
    delays         step: [least, most] seconds, drawn evenly between; null: the step does not happen
    ask_together   the share of requests found at once that leave together with the one before
    ask_pauses     of the others, the share before which there is a pause

Urgency is the browser's own scale, 0 the most urgent (an index into its
weights); ``said`` is the one in the priority field (RFC 9218). Steps:

``scan``       as soon as the markup is seen
``pictures``   a moment later
``layout``     once style sheets and scripts of the head are there
``icon``       once everything else is
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ptproxy.errors import LocalProtocolError

ROLES: Final = frozenset(
    (
        "style", "style_body", "style_print", "style_preload",
        "script", "script_body", "script_deferred", "script_preload", "module", "module_preload",
        "font", "font_preload", "frame",
        "picture", "picture_first", "picture_high", "picture_low", "picture_lazy", "picture_preload",
        "background", "poster", "prefetch", "icon",
    )
)  # fmt: skip
"""What a thing can be to a page."""
STEPS: Final = frozenset(("scan", "pictures", "layout", "icon"))
DELAYS: Final = frozenset(
    (
        "hello", "request", "scan", "scan_more", "pictures", "layout", "fonts", "sight", "broken", "icon",
        "ask_gap", "ask_pause",
    )
)  # fmt: skip
"""From the handshake to an HTTP/2 connection's first write, and from there (over HTTP/1.1 from the handshake)
to the page's request; from the page's first
bytes to the first requests; from further bytes to theirs; from there to pictures; from the last blocking
answer to what layout finds; from there to its fonts, and to pictures in sight becoming urgent; from the first
bytes of what is no picture to its request being given up; from the last answer to the icon; between requests
that are found at once; the same where the page's process does something else."""
_OPTIONAL: Final = frozenset(("hello", "pictures", "sight", "broken"))


@dataclass(frozen=True, slots=True)
class Role:
    """What a browser does about all things of one kind."""

    urgency: int
    said: int
    step: str


@dataclass(frozen=True, slots=True)
class LoadingHabits:
    """One browser's; see the module."""

    roles: Mapping[str, Role]
    most_urgent_first: bool
    first_pictures: int
    in_sight: int | None
    tight_from: int | None
    tight_limit: int
    http1_patient: frozenset[str]
    delays: Mapping[str, tuple[float, float] | None]
    ask_together: float
    ask_pauses: float

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> LoadingHabits:
        """From a browser's data file; :class:`LocalProtocolError` where it is wrong."""
        try:
            roles = {
                str(name): Role(int(one[0]), int(one[1]), str(one[2])) for name, one in data["roles"].items()
            }
            delays = {
                str(name): None if one is None else (float(one[0]), float(one[1]))
                for name, one in {"hello": None, **data["delays"]}.items()  # recorded before there was one
            }
            habits = cls(
                roles,
                bool(data["most_urgent_first"]),
                int(data["first_pictures"]),
                _optional(data["in_sight"]),
                _optional(data["tight_from"]),
                int(data["tight_limit"]),
                frozenset(str(one) for one in data["http1_patient"]),
                delays,
                float(data["ask_together"]),
                float(data["ask_pauses"]),
            )
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise LocalProtocolError(f"browser data: loading is malformed: {error!r}") from None
        if set(roles) != ROLES or not all(role.step in STEPS for role in roles.values()):
            raise LocalProtocolError("browser data: loading has other roles or steps than there are")
        if set(delays) != DELAYS or not all(0 <= one[0] <= one[1] for one in delays.values() if one):
            raise LocalProtocolError("browser data: loading has other delays than there are")
        absent = {name for name, one in delays.items() if one is None}
        if absent - _OPTIONAL or absent & {role.step for role in roles.values()}:
            raise LocalProtocolError("browser data: loading has a step without a delay")
        return habits


def _optional(value: Any) -> int | None:
    return None if value is None else int(value)
