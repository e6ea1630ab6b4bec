"""Why a message is refused.

    E2EError
    └── RatchetError             a message was refused; the ratchet is what it was
        ├── UnreadableError      no key of this session opens it
        ├── AlreadyReadError     a genuine header whose key was used or given up
        ├── TooFarAheadError     a genuine header that would skip too many messages
        └── RatchetRuleError     a genuine header that breaks a rule of RATCHET.md

No text says more than its class: an attacker who sees it learns nothing.
"""

from __future__ import annotations

from ptproxy.errors import E2EError


class RatchetError(E2EError):
    """A message was refused. Nothing has changed; the session goes on."""


class UnreadableError(RatchetError):
    """Forged, altered, cut, reflected, of another session, or of a chain that is no longer kept."""


class AlreadyReadError(RatchetError):
    """Its header is genuine, and its key was used before or given up: most often a repeated message."""


class TooFarAheadError(RatchetError):
    """Its header is genuine, and more messages before it are missing than keys are derived for.

    Later messages of the same chain are refused too. Where some of the chain
    was read, the session goes on when this side has written and the other has
    heard it. Where more than a thousand were lost before the first of a turn
    was read, it does not: the two agree anew.
    """


class RatchetRuleError(RatchetError):
    """Its header is genuine and breaks a rule: the program at the other end is faulty or hostile."""
