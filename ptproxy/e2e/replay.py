"""Which first messages were accepted before.

An entry is 16 bytes of a hash of the opening's ephemeral key, listed under the bundle
that the opening used, and dropped with that bundle's private half: what it kept
out cannot be read any more then. So no clock decides what is a replay.

Bounded: a full list is never shortened. It says so (:meth:`ReplayCache.full`), and
first messages that only this list protects from a replay are refused.

::

    count u8 │ each: bundle id u32 │ count u16 │ keys of 16 bytes, sorted
"""

from __future__ import annotations

import hashlib
from typing import Final

from ptproxy.e2e.curve import CurveKey
from ptproxy.errors import LocalProtocolError, StateError
from ptproxy.fields import Fields

KEY: Final = 16
"""Bytes of an entry: nobody finds two ephemeral keys with the same 128 bits for what that would gain."""
MAX_KEYS: Final = 4_096
"""Entries under one bundle: new contacts in five weeks; 64 KiB."""
MAX_BUNDLES: Final = 12
"""Bundles with a list: five weekly ones, three early ones, the four that come before those go."""

_LABEL: Final = b"ptproxy 1 e2e replay\x00"


def replay_key(ephemeral: CurveKey) -> bytes:
    """16 bytes that name the opening made with ``ephemeral``, and the session that it began."""
    return hashlib.sha256(_LABEL + ephemeral.serialize()).digest()[:KEY]


class ReplayCache:
    """The openings accepted, by bundle."""

    __slots__ = ("_limit", "_seen")

    def __init__(self, limit: int = MAX_KEYS) -> None:
        self._limit = limit
        self._seen: dict[int, set[bytes]] = {}

    def __contains__(self, key: bytes) -> bool:
        """Whether an opening was accepted: a cheap first test."""
        return any(key in keys for keys in self._seen.values())

    def __len__(self) -> int:
        """How many openings are remembered."""
        return sum(len(keys) for keys in self._seen.values())

    def full(self, bundle_id: int) -> bool:
        """Whether no opening to this bundle can be remembered any more."""
        return len(self._seen.get(bundle_id, ())) >= self._limit

    def add(self, bundle_id: int, key: bytes) -> None:
        """Remember an opening that was accepted. Asking :meth:`full` first is the caller's part."""
        if self.full(bundle_id) or (bundle_id not in self._seen and len(self._seen) >= MAX_BUNDLES):
            raise LocalProtocolError("replay cache: asked to remember more than it may")
        self._seen.setdefault(bundle_id, set()).add(key)

    def keep_only(self, bundle_ids: set[int]) -> None:
        """Forget what belonged to any other bundle: its private half is gone."""
        for bundle_id in self._seen.keys() - bundle_ids:
            del self._seen[bundle_id]

    def serialize(self) -> bytes:
        """All of it, the same bytes for the same entries."""
        parts = [bytes((len(self._seen),))]
        for bundle_id, keys in sorted(self._seen.items()):
            parts += [bundle_id.to_bytes(4, "big"), len(keys).to_bytes(2, "big"), *sorted(keys)]
        return b"".join(parts)

    @classmethod
    def parse(cls, data: bytes, limit: int = MAX_KEYS) -> ReplayCache:
        """The reverse; :class:`StateError` where it is damaged."""
        damaged = StateError("replay cache: damaged")
        fields = Fields(data, damaged)
        cache = cls(limit)
        for _ in range(fields.number(1)):
            bundle_id = fields.number(4)
            keys = [fields.take(KEY) for _ in range(fields.number(2))]
            if bundle_id in cache._seen or not keys or len(keys) > limit or sorted(set(keys)) != keys:
                raise damaged
            cache._seen[bundle_id] = set(keys)
        fields.end()
        if len(cache._seen) > MAX_BUNDLES or sorted(cache._seen) != list(cache._seen):
            raise damaged
        return cache

    def __repr__(self) -> str:
        return f"<ReplayCache {len(self)}>"
