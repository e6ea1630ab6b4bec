"""The first bytes of each side on a meeting: a fresh key, and the newest turn that it knows.

::

    hello = nonce 12, random │ AES-256-GCM(hello key(n, role), nonce, said)
    said  = X25519 key 32 │ session 16 │ turn u32 │ zeros

256 bytes, as the shortest record has: whoever carries a meeting sees no more than that it begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ptproxy.e2e.curve import RAW, CurveKey
from ptproxy.e2e.stream.keys import Turn
from ptproxy.e2e.stream.refusals import MeetingError
from ptproxy.errors import E2EError

HELLO: Final = 256
"""Bytes of a hello."""
NONCE: Final = 12
"""Bytes of its nonce."""
SESSION: Final = 16
"""Bytes that name a session."""

_SAID: Final = RAW + SESSION + 4
_PLAINTEXT: Final = HELLO - NONCE - 16


@dataclass(frozen=True, slots=True)
class Hello:
    """What one side says."""

    key: CurveKey
    newest: Turn

    def seal(self, key: bytes, nonce: bytes) -> bytes:
        """256 bytes."""
        said = self.key.raw + self.newest.session + self.newest.number.to_bytes(4, "big")
        return nonce + AESGCM(key).encrypt(nonce, said + bytes(_PLAINTEXT - _SAID), None)

    @classmethod
    def open(cls, data: bytes, key: bytes) -> Hello:
        """The reverse; :class:`MeetingError` for anything that the peer has not said in this meeting."""
        try:
            said = AESGCM(key).decrypt(data[:NONCE], data[NONCE:], None)
            peer = CurveKey(said[:RAW])
        except (InvalidTag, E2EError):
            raise MeetingError("stream: not the peer's hello") from None
        session = said[RAW : RAW + SESSION]
        return cls(peer, Turn(session, int.from_bytes(said[RAW + SESSION : _SAID], "big")))
