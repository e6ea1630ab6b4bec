"""Documents that a bridge signs for its clients to keep: of one kind, numbered, and good until a day.

::

    document = version u8 = 1 │ kind length u8 │ kind │ sequence u64 │ issued u64 │ expires u64 │ body
    signed   = document │ Ed25519 signature, 64 bytes, of "ptproxy 1 signed " │ bridge's static key │ document

The signing key is derived from the bridge's static key (``PROTOCOL.md``, "What a
bridge pushes"). Nothing here knows what a body means.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ptproxy.auth.credentials import StaticKey
from ptproxy.errors import AuthenticationError, LocalProtocolError

MAX_SIGNED: Final = 16_384
"""Bytes of a signed document."""
MAX_AHEAD: Final = 86_400
"""Seconds that ``issued`` may lie ahead of our clock: clocks of clients are wrong."""
MAX_LIFE: Final = 400 * 86_400
"""Seconds that a document may be good: a bridge that lives signs again long before."""

_VERSION: Final = 1
_LABEL: Final = b"ptproxy 1 signed "
_KEY_LABEL: Final = b"ptproxy 1 signing key"
_TIMES: Final = struct.Struct(">QQQ")
_SIGNATURE: Final = 64
_KIND: Final = re.compile(rb"[a-z]{1,32}")


@dataclass(frozen=True, slots=True)
class SignedDocument:
    """What a document says, once its signature has verified."""

    kind: str
    sequence: int
    """Rises with every change."""
    issued: int
    """Unix seconds."""
    expires: int
    """Unix seconds."""
    body: bytes

    def serialize(self) -> bytes:
        """Without its signature; :class:`LocalProtocolError` for one that cannot be said."""
        kind = self.kind.encode("ascii", "replace")
        if _KIND.fullmatch(kind) is None:
            raise LocalProtocolError("a document's kind is 1 to 32 letters a-z")
        try:
            times = _TIMES.pack(self.sequence, self.issued, self.expires)
        except struct.error:
            raise LocalProtocolError("a document's numbers are u64") from None
        data = bytes((_VERSION, len(kind))) + kind + times + self.body
        if len(data) + _SIGNATURE > MAX_SIGNED:
            raise LocalProtocolError(f"a signed document has {MAX_SIGNED} bytes at most")
        return data

    @classmethod
    def parse(cls, data: bytes) -> SignedDocument:
        """The reverse; :class:`AuthenticationError` for anything else."""
        kind = data[2 : 2 + data[1]] if len(data) > 2 else b""
        if len(data) < 2 + len(kind) + _TIMES.size or data[0] != _VERSION or _KIND.fullmatch(kind) is None:
            raise AuthenticationError("document: of another version, or cut short")
        sequence, issued, expires = _TIMES.unpack_from(data, 2 + len(kind))
        return cls(kind.decode("ascii"), sequence, issued, expires, data[2 + len(kind) + _TIMES.size :])


class Signer:
    """A bridge's signing key. ``public`` is its 32 public bytes."""

    __slots__ = ("_bridge", "_key", "public")

    def __init__(self, key: StaticKey) -> None:
        self._bridge = key.public
        self._key = Ed25519PrivateKey.from_private_bytes(key.derive(_KEY_LABEL))
        self.public = self._key.public_key().public_bytes_raw()

    def sign(self, document: SignedDocument) -> bytes:
        """The document with its signature."""
        data = document.serialize()
        return data + self._key.sign(_LABEL + self._bridge + data)

    def __repr__(self) -> str:
        return "<Signer>"


def verify(signed: bytes, kind: str, signing_key: bytes, bridge: bytes, unix_now: float) -> SignedDocument:
    """The document of ``kind`` that ``bridge`` (its static key) signed with ``signing_key``.

    :class:`AuthenticationError` for any other, and for one that is not good now.
    """
    if not _SIGNATURE < len(signed) <= MAX_SIGNED:
        raise AuthenticationError("document: of an impossible length")
    data, signature = signed[:-_SIGNATURE], signed[-_SIGNATURE:]
    try:
        Ed25519PublicKey.from_public_bytes(signing_key).verify(signature, _LABEL + bridge + data)
    except (InvalidSignature, ValueError):
        raise AuthenticationError("document: its signature does not verify") from None
    document = SignedDocument.parse(data)
    if document.kind != kind:
        raise AuthenticationError("document: of another kind than asked for")
    if not document.issued <= document.expires <= document.issued + MAX_LIFE:
        raise AuthenticationError("document: good for an impossible time")
    if document.issued > unix_now + MAX_AHEAD:
        raise AuthenticationError("document: from the future; is this machine's clock right?")
    if document.expires <= unix_now:
        raise AuthenticationError("document: it has expired")
    return document
