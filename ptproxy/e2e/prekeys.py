"""A peer's own prekeys: made, published, used once or for a week, deleted.

Rules (X3DH sections 3.2 and 4.6, PQXDH section 3.2):

1. The signed prekey and the bundle's KEM prekey are made together, under one id, and
   replaced together after ``ROTATION`` seconds.
2. A replaced one's private half is kept for ``GRACE`` seconds, for messages under way,
   and then deleted with what the replay cache held for it.
3. A one-time prekey's private half is deleted by :meth:`Prekeys.commit`, and by nothing
   that a message alone can cause. Unused ones go after ``ONE_TIME_LIFE + GRACE`` seconds.
4. A bundle does not outlive the one-time prekeys that wait beside it: they are
   replaced before.
5. Ages are counted from one :meth:`Prekeys.maintain` to the next, at most ``MAX_STEP`` seconds
   each, never backwards. So a wrong clock neither deletes what is needed nor keeps for
   years what is not; and mail that waited while we were away can still be read.
6. A clock from before the current bundle was wrong then or is wrong now. Nothing is
   made while it has not gone on like that for ``EARLY`` seconds: a machine that starts in
   1970 publishes nothing that everybody refuses.

Everything is plain state. Who calls a method that changes it saves
:meth:`Prekeys.serialize` before anything else happens, the mailbox's answer included.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from ptproxy.e2e.bundle import (
    BUNDLE_LIFE,
    MAX_AHEAD,
    NO_ONE_TIME,
    ONE_TIME_LIFE,
    bundle_hash,
)
from ptproxy.e2e.curve import CurveKeyPair
from ptproxy.e2e.identity import OwnIdentity
from ptproxy.e2e.kem import KemKeyPair
from ptproxy.e2e.prekey_pairs import OneTimePrekeyPair, SignedPrekeyPair
from ptproxy.e2e.refusals import KnownOpeningError, UnknownPrekeyError
from ptproxy.e2e.replay import MAX_BUNDLES, ReplayCache
from ptproxy.e2e.rng import Rng
from ptproxy.e2e.suite import Suite
from ptproxy.errors import E2EError, LocalProtocolError, StateError
from ptproxy.fields import Fields

ROTATION: Final = 7 * 86_400
"""Seconds for which a signed prekey is the current one."""
GRACE: Final = 28 * 86_400
"""Seconds for which a private half outlives its successor's coming: a mailbox may keep mail for weeks."""
EARLY: Final = 86_400
"""Seconds that a bundle stays current at least, with its replay list full or its time in the future."""
EARLY_BUNDLES: Final = MAX_BUNDLES - GRACE // ROTATION
"""Bundles with private halves up to which one may come early: so that no weekly one pushes another out."""
MAX_STEP: Final = ROTATION
"""Seconds that count at most between two maintenances."""
WAITING: Final = 100
"""One-time prekeys that should wait at the mailbox."""
MAX_ONE_TIME: Final = 1_000
"""One-time prekeys whose private halves are kept: drained ones are not replaced for ever; 140 kB."""

_VERSION: Final = 1
_TIME: Final = 8
_NO_DIGEST: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class FoundPrekeys:
    """The private halves that a first message asks for."""

    signed: CurveKeyPair
    one_time: CurveKeyPair | None
    kem: KemKeyPair | None
    bundle_hash: bytes


@dataclass(frozen=True, slots=True)
class Use:
    """What an accepted first message uses up."""

    bundle_id: int
    one_time_id: int
    key: bytes
    """:func:`~ptproxy.e2e.replay.replay_key` of its ephemeral key."""


@dataclass(frozen=True, slots=True)
class Maintenance:
    """What the mailbox has to be told after :meth:`Prekeys.maintain`."""

    bundle: bool
    """There is a new bundle to publish."""
    one_time: bool
    """The list of one-time prekeys there is to be replaced by :meth:`Prekeys.replace`'s."""


class Prekeys:
    """All prekeys of one identity, of one suite, with the replay cache."""

    __slots__ = (
        "_behind_since",
        "_maintained",
        "_one_time",
        "_signed",
        "_waiting_expires",
        "seen",
        "suite",
    )

    def __init__(self, suite: Suite) -> None:
        """Without keys: use :meth:`create` or :meth:`parse`."""
        self.suite = suite
        self.seen = ReplayCache()
        self._signed: list[SignedPrekeyPair] = []  # the current one first
        self._one_time: dict[int, OneTimePrekeyPair] = {}
        self._waiting_expires = 0  # the earliest expiry among what may wait at the mailbox; 0: nothing does
        self._maintained = 0  # when ages were counted last
        self._behind_since = 0  # when the clock was first seen before the current bundle; 0: it is not

    @classmethod
    def create(cls, owner: OwnIdentity, suite: Suite, now: float, rng: Rng) -> Prekeys:
        """New ones, with a bundle and no one-time prekeys yet; ``rng`` is a CSPRNG in production."""
        prekeys = cls(suite)
        prekeys._maintained = int(now)
        prekeys._rotate(owner, int(now), rng)
        return prekeys

    @property
    def one_time_kept(self) -> int:
        """How many one-time prekeys have their private half here, waiting or handed out."""
        return len(self._one_time)

    def bundle(self, owner: OwnIdentity) -> bytes:
        """The current bundle, to be published; the same bytes until it rotates."""
        current = self._signed[0]
        data = current.sign_bundle(owner, self.suite)
        if hashlib.sha256(data).digest() != current.digest:
            raise LocalProtocolError("prekeys: they belong to another identity")
        return data

    def maintain(self, owner: OwnIdentity, now: float, rng: Rng) -> Maintenance:
        """Rotate and delete what is due. To be called at every start and some times a day."""
        clock = int(now)
        if self._is_behind(clock):
            return Maintenance(bundle=False, one_time=False)
        self._grow_older(clock)
        current = self._signed[0]
        age = clock - current.made
        full = self.seen.full(current.id) and age >= EARLY and len(self._signed) < EARLY_BUNDLES
        rotated = full or not -MAX_AHEAD <= age < ROTATION
        if rotated:
            self._rotate(owner, clock, rng)
        self._delete()
        latest = clock + ONE_TIME_LIFE + MAX_AHEAD
        fresh = self._signed[0].made + BUNDLE_LIFE <= self._waiting_expires <= latest
        return Maintenance(bundle=rotated, one_time=bool(self._waiting_expires) and not fresh)

    def refill(self, owner: OwnIdentity, available: int, now: float, rng: Rng) -> list[bytes]:
        """New one-time prekeys to add at the mailbox, which says that it has ``available`` ones.

        Fewer than it lacks, or none, once ``MAX_ONE_TIME`` are kept: agreements then go
        without, until the handed-out ones are used or ``GRACE`` seconds old.
        """
        if self._is_behind(int(now)):
            return []
        if available <= 0 and len(self._one_time) > MAX_ONE_TIME - WAITING:  # all of them are handed out
            self._one_time = {
                number: one_time for number, one_time in self._one_time.items() if one_time.age < GRACE
            }
        room = min(WAITING - max(0, available), MAX_ONE_TIME - len(self._one_time))
        expires = int(now) + ONE_TIME_LIFE
        published = []
        for _ in range(room):
            made, data = OneTimePrekeyPair.make(owner, self.suite, self._one_time.keys(), expires, rng)
            self._one_time[made.id] = made
            published.append(data)
        if published:
            waiting = self._waiting_expires if available > 0 else 0
            self._waiting_expires = min(waiting or expires, expires)
        return published

    def replace(self, owner: OwnIdentity, now: float, rng: Rng) -> list[bytes]:
        """New one-time prekeys in place of all that wait at the mailbox; those handed out still work.

        They may be none (see :meth:`refill`): the list there is emptied nevertheless.
        """
        if not self._is_behind(int(now)):
            self._waiting_expires = 0
        return self.refill(owner, 0, now, rng)

    def find(self, bundle_id: int, one_time_id: int) -> FoundPrekeys:
        """The private halves for a first message; nothing changes.

        :class:`UnknownPrekeyError` where one of them is not here (any more), plain
        :class:`E2EError` where only the replay cache would protect the message and it is full.
        """
        signed, one_time = self._look_up(bundle_id, one_time_id)
        if one_time is None:
            return FoundPrekeys(signed.pair, None, signed.kem_pair, bundle_hash(signed.digest, _NO_DIGEST))
        pair, kem_pair = one_time.pairs(self.suite)
        return FoundPrekeys(signed.pair, pair, kem_pair, bundle_hash(signed.digest, one_time.digest))

    def commit(self, use: Use) -> None:
        """A first message was accepted, the ratchet's message in it read: use up what it used.

        Raises as :meth:`find` does, or :class:`KnownOpeningError`, where another message was
        committed since; nothing changes then.
        """
        if use.key in self.seen:
            raise KnownOpeningError(use.key)
        self._look_up(use.bundle_id, use.one_time_id)
        if not self.seen.full(use.bundle_id):
            self.seen.add(use.bundle_id, use.key)
        if use.one_time_id != NO_ONE_TIME:
            del self._one_time[use.one_time_id]

    def _look_up(self, bundle_id: int, one_time_id: int) -> tuple[SignedPrekeyPair, OneTimePrekeyPair | None]:
        signed = next((each for each in self._signed if each.id == bundle_id), None)
        if signed is None:
            raise UnknownPrekeyError("first message: to a signed prekey that is not here")
        if one_time_id == NO_ONE_TIME:
            if self.seen.full(bundle_id):
                raise E2EError("first message: without a one-time prekey, and the replay cache is full")
            return signed, None
        one_time = self._one_time.get(one_time_id)
        if one_time is None:
            raise UnknownPrekeyError("first message: to a one-time prekey that is not here")
        return signed, one_time

    def _is_behind(self, clock: int) -> bool:
        """Whether the clock is before the current bundle, and has not been for long (rule 6)."""
        if clock >= self._signed[0].made - MAX_AHEAD:
            self._behind_since = 0
            return False
        if not 0 < self._behind_since <= clock:
            self._behind_since = max(1, clock)
        return clock - self._behind_since < EARLY

    def _grow_older(self, clock: int) -> None:
        """Count the time since it was counted last (rule 5)."""
        step = min(max(0, clock - self._maintained), MAX_STEP)
        self._maintained = clock
        for known in self._signed[1:]:
            known.age += step
        for one_time in self._one_time.values():
            one_time.age += step

    def _rotate(self, owner: OwnIdentity, clock: int, rng: Rng) -> None:
        taken = {known.id for known in self._signed}
        self._signed.insert(0, SignedPrekeyPair.make(owner, self.suite, taken, clock, rng))

    def _delete(self) -> None:
        self._signed = [known for known in self._signed if known.age < GRACE][:MAX_BUNDLES]
        self.seen.keep_only({known.id for known in self._signed})
        self._one_time = {
            number: one_time
            for number, one_time in self._one_time.items()
            if one_time.age < ONE_TIME_LIFE + GRACE
        }

    def serialize(self) -> bytes:
        """All of it, secret: for the encrypted store and nothing else. The same bytes for the same state."""
        moments = (self._maintained, self._behind_since, self._waiting_expires)
        return b"".join(
            (
                bytes((_VERSION, self.suite)),
                *(moment.to_bytes(_TIME, "big") for moment in moments),
                len(self._signed).to_bytes(1, "big"),
                *(known.serialize() for known in self._signed),
                len(self._one_time).to_bytes(2, "big"),
                *(one_time.serialize() for one_time in self._one_time.values()),
                self.seen.serialize(),
            )
        )

    @classmethod
    def parse(cls, data: bytes) -> Prekeys:
        """The reverse; :class:`StateError` where it is damaged: new prekeys are to be made then."""
        damaged = StateError("prekeys: damaged, or of a version that this program does not know")
        fields = Fields(data, damaged)
        if fields.number(1) != _VERSION:
            raise damaged
        try:
            prekeys = cls(Suite.parse(fields.number(1)))
        except E2EError:
            raise damaged from None
        prekeys._maintained, prekeys._behind_since = fields.number(_TIME), fields.number(_TIME)
        prekeys._waiting_expires = fields.number(_TIME)
        for _ in range(fields.number(1)):
            prekeys._signed.append(SignedPrekeyPair.parse(fields, prekeys.suite))
        for _ in range(fields.number(2)):
            one_time = OneTimePrekeyPair.parse(fields, prekeys.suite)
            prekeys._one_time[one_time.id] = one_time
        prekeys.seen = ReplayCache.parse(fields.rest())
        if prekeys.serialize() != data or not prekeys._is_whole():
            raise damaged
        return prekeys

    def _is_whole(self) -> bool:
        """Whether this is a state that the methods above can leave."""
        ids = [known.id for known in self._signed]
        return (
            0 < len(ids) == len(set(ids)) <= MAX_BUNDLES
            and NO_ONE_TIME not in ids
            and all(known.age < GRACE for known in self._signed)
            and len(self._one_time) <= MAX_ONE_TIME
            and NO_ONE_TIME not in self._one_time
        )

    def __repr__(self) -> str:
        return f"<Prekeys {self.suite.name}, {len(self._signed)} signed, {len(self._one_time)} one-time>"
