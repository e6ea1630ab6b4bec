"""The passes of one contact: those that we hold for its box, and those that it holds for ours.

Held, stored::

    count u8 │ (DeliveryPass 45 │ invite u8 (1: from its invite, 0: given to us) │ next u32 │ used u16) *

Given, stored::

    count u8 │ (DeliveryPass 45 │ state u8 │ used: a bit for each token, ceil(count / 8) bytes) *

A token that we hold is used in the order of its number, each once, whatever became of the deposit: a
deposit that is repeated repeats the envelope, with its token. Of what we have given, a token counts as
used when mail came under it. What was deposited and expired at the mailbox looks unused to us and used
to the contact: so the contact says how many it has left (``Wish``), and we believe that.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from ptproxy.errors import StateError
from ptproxy.fields import Fields
from ptproxy.peers.mailbox_delivery import DAY, DeliveryPass, DeliveryToken, PassError
from ptproxy.peers.mailbox_requests import Right

TOKENS: Final = 32
"""Tokens of a pass that a contact is given: a day's writing, and few enough for a hundred contacts."""
FEWEST: Final = 4
"""Tokens of a pass where a box has many contacts."""
GOOD_FOR: Final = 180 * DAY
"""Seconds for which a pass is good: a contact that is away for a season can still write."""
RENEWED: Final = 60 * DAY
"""Seconds before the end of its passes at which a contact is given new ones."""
LATE: Final = 35 * DAY
"""Seconds after its end for which a pass still opens mail: a mailbox keeps that for 30 days."""
MAX_HELD: Final = 16
"""Passes of one contact that we keep: it cannot fill our store."""
MAX_GIVEN: Final = 4
"""Deposit passes of one contact that are out at a time: 128 tokens of a box's 4,096."""
MAX_RETIRED: Final = 8
"""Passes of one contact that are not good any more and may still have mail waiting."""
FETCH_USES: Final = 8
"""Bundles that a contact can fetch with one pass: for sessions that were lost."""
ARRIVES: Final = DAY // 2
"""Seconds for which a pass that a contact was told of may not have come yet: less than a contact that has run
out waits until it asks again."""
RESERVE: Final = 2
"""Tokens that only messages with a pass inside may use: two who have run out could never write again."""

_PASS: Final = 45


@dataclass(slots=True)
class Held:
    """A pass for the contact's box."""

    given: DeliveryPass
    invite: bool
    """It came with the contact's invite: others may have it too, so that it is used last."""
    next: int = 0
    """The next token, counted from the pass's first."""
    used: int = 0
    """Uses of that token; only passes to fetch have more than one for us."""

    def left(self, today: float) -> int:
        """Uses that we have of it."""
        if today >= self.given.expires:
            return 0
        if self.given.right is Right.FETCH:
            return self.given.uses - self.used if self.next == 0 else 0
        return self.given.count - self.next


class HeldPasses:
    """What we may do at the contact's box."""

    __slots__ = ("passes",)

    def __init__(self, passes: list[Held] | None = None) -> None:
        self.passes = passes if passes is not None else []

    def add(self, given: DeliveryPass, *, invite: bool) -> None:
        """A pass came; one that is known already changes nothing."""
        if any(held.given == given for held in self.passes):
            return
        if not invite:
            self.passes = [
                held for held in self.passes if not (held.invite and held.given.right is given.right)
            ]
        self.passes.append(Held(given, invite))
        del self.passes[:-MAX_HELD]

    def left(self, right: Right, now: float) -> int:
        """Tokens that can still be used."""
        return sum(held.left(now / DAY) for held in self.passes if held.given.right is right)

    def take(self, now: float) -> DeliveryToken | None:
        """The next token to deposit, used from now on: save before it is told to anybody. None: all are."""
        token = self.peek(now)
        for held in self.passes:
            if held.given.right is Right.DEPOSIT and held.left(now / DAY):
                held.next += 1
                break
        return token

    def peek(self, now: float) -> DeliveryToken | None:
        """The token that :meth:`take` would give."""
        for held in self.passes:
            if held.given.right is Right.DEPOSIT and held.left(now / DAY):
                return held.given.token(held.given.first + held.next)
        return None

    def fetching(self, now: float) -> DeliveryToken | None:
        """The token to fetch with, of the newest pass: a contact has one at a time. None: there is none.

        It counts as used when something was :meth:`fetched`. Whoever is cut off before does not know, and
        the mailbox does: an attempt that did not get there costs nothing.
        """
        for held in reversed(self.passes):
            if held.given.right is Right.FETCH and held.left(now / DAY):
                return held.given.token(held.given.first)
        return None

    def fetched(self, token: DeliveryToken) -> None:
        """A bundle has come by this token."""
        for held in self.passes:
            if held.given.right is Right.FETCH and held.given.token(held.given.first) == token:
                held.used = min(held.used + 1, held.given.uses)

    def prune(self, now: float) -> bool:
        """Forget what is used up or has expired; whether something was."""
        kept = [held for held in self.passes if held.left(now / DAY)]
        changed = len(kept) != len(self.passes)
        self.passes = kept
        return changed

    def serialize(self) -> bytes:
        """See the module."""
        return bytes((len(self.passes),)) + b"".join(
            held.given.serialize()
            + bytes((held.invite,))
            + held.next.to_bytes(4, "big")
            + held.used.to_bytes(2, "big")
            for held in self.passes
        )

    @classmethod
    def take_from(cls, fields: Fields, damaged: StateError) -> HeldPasses:
        """The reverse."""
        passes = []
        for _ in range(fields.number(1)):
            given, invite = _parse_pass(fields, damaged), fields.number(1)
            held = Held(given, bool(invite), fields.number(4), fields.number(2))
            if invite > 1 or held.next > given.count or held.used > given.uses:
                raise damaged
            passes.append(held)
        return cls(passes)


class PassState(IntEnum):
    """How far a pass that we give has come. The number is part of the stored form."""

    MADE = 0
    """Our mailbox does not know it yet."""
    GRANTED = 1
    """The mailbox knows it; the contact does not."""
    TOLD = 2
    """It is in a message that has been sealed."""
    RETIRED = 3
    """The mailbox is told to forget it; what it has under it already is still read."""


@dataclass(slots=True)
class Given:
    """A pass for our box."""

    given: DeliveryPass
    state: PassState = PassState.MADE
    used: int = 0
    """A bit for each token."""
    told: float = 0.0
    """When the contact was told of it; not stored, 0: before this program was started, or not yet."""
    granted: bool = field(init=False)
    """The mailbox knows it, as far as we know: not stored, since it may lose it again."""
    tokens: tuple[DeliveryToken, ...] = field(init=False, repr=False)
    """All of them, derived once."""

    def __post_init__(self) -> None:
        self.granted = self.state is not PassState.MADE
        self.tokens = tuple(self.given.tokens())

    @property
    def unused(self) -> int:
        """Tokens under which nothing came."""
        return self.given.count - self.used.bit_count()

    def unused_ids(self) -> list[bytes]:
        """Their ids."""
        return [token.id for place, token in enumerate(self.tokens) if not self.used >> place & 1]

    def good_for(self, now: float) -> float:
        """Seconds until it expires."""
        return self.given.expires * DAY - now


class GivenPasses:
    """What the contact may do at our box."""

    __slots__ = ("passes",)

    def __init__(self, passes: list[Given] | None = None) -> None:
        self.passes = passes if passes is not None else []

    def of(self, right: Right) -> list[Given]:
        """Those of one right that are good, oldest first."""
        return [each for each in self.good() if each.given.right is right]

    def good(self) -> list[Given]:
        """Those that are not retired, oldest first."""
        return [each for each in self.passes if each.state is not PassState.RETIRED]

    def add(self, given: Given) -> list[bytes]:
        """One more; the ids of the unused tokens of one that retires for it, to be revoked.

        The passes that have been retired longest are forgotten beyond ``MAX_RETIRED``.
        """
        self.passes.append(given)
        return self._retire_oldest(given.given.right)

    def take_over(self, other: GivenPasses) -> list[bytes]:
        """Those of the same peer under another identity, too, as newer ones; returns as :meth:`add` does."""
        self.passes += other.passes
        return self._retire_oldest(Right.DEPOSIT) + self._retire_oldest(Right.FETCH)

    def _retire_oldest(self, right: Right) -> list[bytes]:
        """No more than there may be of a right, and of those that are good no longer."""
        alike = self.of(right)
        displaced = alike[: -(MAX_GIVEN if right is Right.DEPOSIT else 1)]
        self._retire(displaced)
        return [number for each in displaced for number in each.unused_ids()]

    def retire_all(self) -> None:
        """The box moves: they are good for the old one alone, and what comes there is still read."""
        self.passes = [each for each in self.passes if each.state is not PassState.MADE]
        self._retire(self.good())

    def _retire(self, displaced: list[Given]) -> None:
        for each in displaced:
            each.state = PassState.RETIRED
        retired = [each for each in self.passes if each.state is PassState.RETIRED]
        for each in retired[:-MAX_RETIRED]:
            self.passes.remove(each)

    def untold(self, state: PassState) -> list[Given]:
        """Those that have come so far and no further."""
        return [each for each in self.passes if each.state is state]

    def on_the_way(self) -> bool:
        """Whether the contact is about to be told of a pass to deposit."""
        return any(each.state is not PassState.TOLD for each in self.of(Right.DEPOSIT))

    def may_be_unseen(self, now: float) -> bool:
        """Whether the contact was told of a pass to deposit that it may not have had yet when it wrote to us.

        Nothing came under any of its tokens. Two who write much at once ask in every message until a pass
        has come: who answered each wish with a pass would have the older ones retire, those under way first.
        """
        return any(
            each.state is PassState.TOLD and not each.used and abs(now - each.told) < ARRIVES
            for each in self.of(Right.DEPOSIT)
        )

    def may_be_lost(self) -> None:
        """The contact introduces itself, anew perhaps: what it asks for then, it has not."""
        for each in self.passes:
            each.told = 0.0

    def answerable(self) -> bool:
        """Whether the contact has a pass to answer with, or can be told of one."""
        return any(each.state is not PassState.MADE for each in self.of(Right.DEPOSIT))

    def lacks(self, right: Right, now: float, wanted: int) -> bool:
        """Whether there is to be another of ``right``: too few of ``wanted`` unused, or they soon expire."""
        fresh = [each for each in self.of(right) if each.good_for(now) > RENEWED]
        if right is Right.FETCH:
            return not fresh
        return sum(each.unused for each in fresh) * 2 <= wanted

    def prune(self, now: float) -> bool:
        """Forget what can have no mail any more; whether something was forgotten."""
        kept = [
            each
            for each in self.passes
            if each.good_for(now) > -LATE and (each.unused or each.given.right is Right.FETCH)
        ]
        changed = len(kept) != len(self.passes)
        self.passes = kept
        return changed

    def serialize(self) -> bytes:
        """See the module."""
        return bytes((len(self.passes),)) + b"".join(
            each.given.serialize()
            + bytes((each.state,))
            + each.used.to_bytes(-(-each.given.count // 8), "big")
            for each in self.passes
        )

    @classmethod
    def take_from(cls, fields: Fields, damaged: StateError) -> GivenPasses:
        """The reverse."""
        passes = []
        for _ in range(fields.number(1)):
            given, state = _parse_pass(fields, damaged), fields.number(1)
            used = fields.number(-(-given.count // 8))
            if state not in tuple(PassState) or used >> given.count:
                raise damaged
            passes.append(Given(given, PassState(state), used))
        return cls(passes)


def _parse_pass(fields: Fields, damaged: StateError) -> DeliveryPass:
    try:
        return DeliveryPass.parse(fields.take(_PASS))
    except PassError:
        raise damaged from None
