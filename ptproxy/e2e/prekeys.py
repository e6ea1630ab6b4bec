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
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from ptproxy.e2e import curve, kem
from ptproxy.e2e.bundle import (
    BUNDLE_LIFE,
    MAX_AHEAD,
    NO_ONE_TIME,
    ONE_TIME_LIFE,
    OneTimePrekey,
    PrekeyBundle,
    bundle_hash,
)
from ptproxy.e2e.curve import CurveKeyPair
from ptproxy.e2e.identity import OwnIdentity
from ptproxy.e2e.kem import KemKeyPair
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
ID_TRIES: Final = 64
"""Draws of an id that is not in use before the random numbers must be broken."""

_VERSION: Final = 1
_DIGEST: Final = 32
_NO_DIGEST: Final = bytes(_DIGEST)


@dataclass(slots=True)
class _Generation:
    """A signed prekey and its KEM prekey."""

    id: int
    made: int
    """Unix seconds."""
    age: int
    """Seconds counted since it was superseded."""
    pair: CurveKeyPair
    kem_pair: KemKeyPair | None
    digest: bytes
    """SHA-256 of the published bundle."""


@dataclass(slots=True)
class _OneTime:
    """A one-time prekey's private halves, as bytes: most are used by nobody."""

    id: int
    age: int
    """Seconds counted since it was made."""
    private: bytes = field(repr=False)
    seed: bytes = field(repr=False)
    digest: bytes
    """SHA-256 of the published one-time prekey."""


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
        "_generations",
        "_maintained",
        "_one_time",
        "_waiting_expires",
        "seen",
        "suite",
    )

    def __init__(self, suite: Suite) -> None:
        """Without keys: use :meth:`create` or :meth:`parse`."""
        self.suite = suite
        self.seen = ReplayCache()
        self._generations: list[_Generation] = []  # the current one first
        self._one_time: dict[int, _OneTime] = {}
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
        current = self._generations[0]
        data = _bundle(owner, self.suite, current.id, current.made, current.pair, current.kem_pair)
        if hashlib.sha256(data).digest() != current.digest:
            raise LocalProtocolError("prekeys: they belong to another identity")
        return data

    def maintain(self, owner: OwnIdentity, now: float, rng: Rng) -> Maintenance:
        """Rotate and delete what is due. To be called at every start and some times a day."""
        clock = int(now)
        if self._is_behind(clock):
            return Maintenance(bundle=False, one_time=False)
        self._grow_older(clock)
        current = self._generations[0]
        age = clock - current.made
        full = self.seen.full(current.id) and age >= EARLY and len(self._generations) < EARLY_BUNDLES
        rotated = full or not -MAX_AHEAD <= age < ROTATION
        if rotated:
            self._rotate(owner, clock, rng)
        self._delete()
        latest = clock + ONE_TIME_LIFE + MAX_AHEAD
        fresh = self._generations[0].made + BUNDLE_LIFE <= self._waiting_expires <= latest
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
        published = [self._make_one_time(owner, expires, rng) for _ in range(room)]
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
        generation, one_time = self._look_up(bundle_id, one_time_id)
        if one_time is None:
            digest = bundle_hash(generation.digest, _NO_DIGEST)
            return FoundPrekeys(generation.pair, None, generation.kem_pair, digest)
        return FoundPrekeys(
            generation.pair,
            CurveKeyPair(one_time.private),
            KemKeyPair(self.suite.kem, one_time.seed) if self.suite.kem else None,
            bundle_hash(generation.digest, one_time.digest),
        )

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

    def _look_up(self, bundle_id: int, one_time_id: int) -> tuple[_Generation, _OneTime | None]:
        generation = next((known for known in self._generations if known.id == bundle_id), None)
        if generation is None:
            raise UnknownPrekeyError("first message: to a signed prekey that is not here")
        if one_time_id == NO_ONE_TIME:
            if self.seen.full(bundle_id):
                raise E2EError("first message: without a one-time prekey, and the replay cache is full")
            return generation, None
        one_time = self._one_time.get(one_time_id)
        if one_time is None:
            raise UnknownPrekeyError("first message: to a one-time prekey that is not here")
        return generation, one_time

    def _is_behind(self, clock: int) -> bool:
        """Whether the clock is before the current bundle, and has not been for long (rule 6)."""
        if clock >= self._generations[0].made - MAX_AHEAD:
            self._behind_since = 0
            return False
        if not 0 < self._behind_since <= clock:
            self._behind_since = max(1, clock)
        return clock - self._behind_since < EARLY

    def _grow_older(self, clock: int) -> None:
        """Count the time since it was counted last (rule 5)."""
        step = min(max(0, clock - self._maintained), MAX_STEP)
        self._maintained = clock
        for generation in self._generations[1:]:
            generation.age += step
        for one_time in self._one_time.values():
            one_time.age += step

    def _rotate(self, owner: OwnIdentity, clock: int, rng: Rng) -> None:
        taken = {generation.id for generation in self._generations}
        number, pair = _new_id(taken, rng), CurveKeyPair.generate(rng)
        kem_pair = KemKeyPair.generate(self.suite.kem, rng) if self.suite.kem else None
        digest = hashlib.sha256(_bundle(owner, self.suite, number, clock, pair, kem_pair)).digest()
        self._generations.insert(0, _Generation(number, clock, 0, pair, kem_pair, digest))

    def _delete(self) -> None:
        self._generations = [known for known in self._generations if known.age < GRACE][:MAX_BUNDLES]
        self.seen.keep_only({known.id for known in self._generations})
        self._one_time = {
            number: one_time
            for number, one_time in self._one_time.items()
            if one_time.age < ONE_TIME_LIFE + GRACE
        }

    def _make_one_time(self, owner: OwnIdentity, expires: int, rng: Rng) -> bytes:
        number, pair = _new_id(self._one_time.keys(), rng), CurveKeyPair.generate(rng)
        kem_pair = KemKeyPair.generate(self.suite.kem, rng) if self.suite.kem else None
        public = kem_pair.public if kem_pair else None
        published = OneTimePrekey(self.suite, number, expires, pair.public, public).sign(owner)
        seed = kem_pair.serialize_private() if kem_pair else b""
        digest = hashlib.sha256(published).digest()
        self._one_time[number] = _OneTime(number, 0, pair.serialize_private(), seed, digest)
        return published

    def serialize(self) -> bytes:
        """All of it, secret: for the encrypted store and nothing else. The same bytes for the same state."""
        parts = [bytes((_VERSION, self.suite))]
        parts += [
            moment.to_bytes(8, "big")
            for moment in (self._maintained, self._behind_since, self._waiting_expires)
        ]
        parts.append(len(self._generations).to_bytes(1, "big"))
        for known in self._generations:
            parts += [known.id.to_bytes(4, "big"), known.made.to_bytes(8, "big")]
            parts += [known.age.to_bytes(4, "big"), known.pair.serialize_private()]
            parts += [known.kem_pair.serialize_private() if known.kem_pair else b"", known.digest]
        parts.append(len(self._one_time).to_bytes(2, "big"))
        for one_time in self._one_time.values():
            parts += [one_time.id.to_bytes(4, "big"), one_time.age.to_bytes(4, "big")]
            parts += [one_time.private, one_time.seed, one_time.digest]
        parts.append(self.seen.serialize())
        return b"".join(parts)

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
        seed = kem.SEED if prekeys.suite.kem else 0
        prekeys._maintained, prekeys._behind_since = fields.number(8), fields.number(8)
        prekeys._waiting_expires = fields.number(8)
        for _ in range(fields.number(1)):
            prekeys._generations.append(_parse_generation(fields, prekeys.suite))
        for _ in range(fields.number(2)):
            number, age, private = fields.number(4), fields.number(4), fields.take(curve.RAW)
            one_time = _OneTime(number, age, private, fields.take(seed), fields.take(_DIGEST))
            prekeys._one_time[one_time.id] = one_time
        prekeys.seen = ReplayCache.parse(fields.rest())
        if prekeys.serialize() != data or not prekeys._is_whole():
            raise damaged
        return prekeys

    def _is_whole(self) -> bool:
        """Whether this is a state that the methods above can leave."""
        ids = [generation.id for generation in self._generations]
        return (
            0 < len(ids) == len(set(ids)) <= MAX_BUNDLES
            and NO_ONE_TIME not in ids
            and all(generation.age < GRACE for generation in self._generations)
            and len(self._one_time) <= MAX_ONE_TIME
            and NO_ONE_TIME not in self._one_time
        )

    def __repr__(self) -> str:
        return f"<Prekeys {self.suite.name}, {len(self._generations)} signed, {len(self._one_time)} one-time>"


def _bundle(
    owner: OwnIdentity, suite: Suite, number: int, made: int, pair: CurveKeyPair, kem_pair: KemKeyPair | None
) -> bytes:
    public = kem_pair.public if kem_pair else None
    expires = made + BUNDLE_LIFE
    return PrekeyBundle(suite, owner.public, number, made, expires, pair.public, public).sign(owner)


def _new_id(taken: Collection[int], rng: Rng) -> int:
    """An id that is not in use. Random: counted ones would tell a mailbox how many are used."""
    for _ in range(ID_TRIES):
        number = int.from_bytes(rng(4), "big")
        if number != NO_ONE_TIME and number not in taken:
            return number
    raise LocalProtocolError("prekeys: the random numbers repeat")


def _parse_generation(fields: Fields, suite: Suite) -> _Generation:
    number, made, age = fields.number(4), fields.number(8), fields.number(4)
    pair = CurveKeyPair(fields.take(curve.RAW))
    kem_pair = KemKeyPair(suite.kem, fields.take(kem.SEED)) if suite.kem else None
    return _Generation(number, made, age, pair, kem_pair, fields.take(_DIGEST))
