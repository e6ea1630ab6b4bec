"""What a contact needs to deposit: passes, their tokens, and envelopes of few sizes.

``PROTOCOL.md``, "Tokens and envelopes". A :class:`DeliveryPass` goes from the
box's owner to one contact, over the ratchet or in an invite; owner and contact
derive the same tokens from it. As text it is :meth:`DeliveryPass.serialize`::

    secret 32 │ right u8 │ first u32 │ count u16 │ uses u16 │ expires u32

Nothing here knows which numbers have been used: that is the contact's state.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ptproxy.buffer import Buffer
from ptproxy.errors import LocalProtocolError, RemoteProtocolError
from ptproxy.peers.mailbox_frames import ENVELOPE_SIZES, MAX_BUNDLE, MAX_ITEMS, MESSAGE_ID
from ptproxy.peers.mailbox_requests import Right, TokenGrant

SECRET: Final = 32
MAX_COUNT: Final = MAX_ITEMS
"""Tokens of one pass: one GRANT."""
COMMON_DAYS: Final = 7
"""Tokens expire on days that are multiples of this, so that the day does not tell passes apart."""
DAY: Final = 86_400

_NONCE: Final = 12
_TAG: Final = 16
_LENGTH: Final = 4
OVERHEAD: Final = _NONCE + _LENGTH + _TAG
"""Bytes of an envelope that are not the message or its padding."""
MAX_MESSAGE: Final = ENVELOPE_SIZES[-1] - OVERHEAD
"""Bytes of the longest message."""

PREKEYS_SIZES: Final = (256, 2_048, 4_096, MAX_BUNDLE)
"""Bytes of sealed bundles and one-time prekeys; the first two are a one-time prekey's."""

_TOKEN_LABEL: Final = b"ptproxy 1 delivery token"
_KEY_LABEL: Final = b"ptproxy 1 delivery envelope"
_TOKEN_ID_LABEL: Final = b"ptproxy 1 token id"
_ENVELOPE_LABEL: Final = b"ptproxy 1 envelope"
_PREKEYS_LABEL: Final = b"ptproxy 1 prekeys"
_MESSAGE_ID_LABEL: Final = b"ptproxy 1 message id"

Rng = Callable[[int], bytes]
"""``rng(n)``: n unpredictable bytes."""


class EnvelopeError(RemoteProtocolError):
    """Bytes that were not sealed under this token or key."""


class PassError(RemoteProtocolError):
    """Bytes that are no pass."""


def token_id_of(token: bytes) -> bytes:
    """What the mailbox knows a token by."""
    return hashlib.sha256(_TOKEN_ID_LABEL + token).digest()


def message_id_of(token_id: bytes, envelope: Buffer) -> bytes:
    """What a message is known by: a repeated deposit has the same id, everything else another."""
    return hashlib.sha256(b"".join((_MESSAGE_ID_LABEL, token_id, envelope))).digest()[:MESSAGE_ID]


def expiry_day(now: float, seconds: float) -> int:
    """The day on which a token expires that is to be good for ``seconds``: rounded up to a common day."""
    return -(-int((now + seconds) // DAY + 1) // COMMON_DAYS) * COMMON_DAYS


@dataclass(frozen=True, slots=True)
class DeliveryToken:
    """One token with the key of its envelopes; only ``token`` is told to the mailbox."""

    token: bytes = field(repr=False)
    key: bytes = field(repr=False)
    id: bytes

    def seal(self, message: bytes, rng: Rng) -> bytes:
        """An envelope of the least size that holds ``message``; LocalProtocolError above MAX_MESSAGE."""
        return _seal(self.key, _ENVELOPE_LABEL + self.id, ENVELOPE_SIZES, message, rng)

    def open(self, envelope: bytes) -> bytes:
        """The message in an envelope; raises :class:`EnvelopeError`."""
        return _open(self.key, _ENVELOPE_LABEL + self.id, ENVELOPE_SIZES, envelope)


def seal_prekeys(key: bytes, prekeys: bytes, rng: Rng) -> bytes:
    """A bundle or one-time prekey as the mailbox is to have it: it would else learn whose box it is.

    ``key``: 32 random bytes of the owner's, in every invite beside the pass to fetch.
    """
    return _seal(key, _PREKEYS_LABEL, PREKEYS_SIZES, prekeys, rng)


def open_prekeys(key: bytes, sealed: bytes) -> bytes:
    """What :func:`seal_prekeys` sealed; raises :class:`EnvelopeError`."""
    return _open(key, _PREKEYS_LABEL, PREKEYS_SIZES, sealed)


def _seal(key: bytes, label: bytes, sizes: Sequence[int], content: bytes, rng: Rng) -> bytes:
    """``nonce │ AES-256-GCM(length u32 │ content │ zeros)`` of the least of ``sizes``."""
    size = next((size for size in sizes if len(content) <= size - OVERHEAD), None)
    if size is None:
        raise LocalProtocolError(f"at most {sizes[-1] - OVERHEAD} bytes can be sealed here")
    plain = len(content).to_bytes(_LENGTH, "big") + content
    nonce = rng(_NONCE)
    return nonce + AESGCM(key).encrypt(nonce, plain.ljust(size - _NONCE - _TAG, b"\0"), label)


def _open(key: bytes, label: bytes, sizes: Sequence[int], sealed: bytes) -> bytes:
    if len(sealed) not in sizes:
        raise EnvelopeError("sealed bytes of an impossible size")
    try:
        padded = AESGCM(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], label)
    except InvalidTag:
        raise EnvelopeError("sealed bytes that do not open") from None
    size = int.from_bytes(padded[:_LENGTH], "big")
    if size > len(padded) - _LENGTH or padded[_LENGTH + size :].strip(b"\0"):
        raise EnvelopeError("sealed bytes with a wrong length inside")
    return padded[_LENGTH : _LENGTH + size]


_PASS: Final = struct.Struct(f">{SECRET}sBIHHI")


@dataclass(frozen=True, slots=True)
class DeliveryPass:
    """``count`` tokens, numbered from ``first``, of ``uses`` uses each; good before the day ``expires``."""

    secret: bytes = field(repr=False)
    right: Right
    first: int
    count: int
    uses: int
    expires: int

    @classmethod
    def make(
        cls,
        rng: Rng,
        now: float,
        *,
        seconds: float,
        count: int = 1,
        uses: int = 1,
        right: Right = Right.DEPOSIT,
    ) -> Self:
        """A new pass for one contact, good for ``seconds`` and some days more."""
        return cls(rng(SECRET), right, 0, count, uses, expiry_day(now, seconds))

    def next(self, now: float, *, seconds: float, count: int) -> Self:
        """More tokens of the same secret, numbered on: a refill needs no new secret to be sent."""
        return type(self)(
            self.secret, self.right, self.first + self.count, count, self.uses, expiry_day(now, seconds)
        )

    def token(self, number: int) -> DeliveryToken:
        """The token ``number``; LocalProtocolError where the pass has none of that number."""
        if not self.first <= number < self.first + self.count:
            raise LocalProtocolError("the pass has no token of that number")
        end = number.to_bytes(4, "big")
        token = _derive(self.secret, _TOKEN_LABEL + end)
        return DeliveryToken(token, _derive(self.secret, _KEY_LABEL + end), token_id_of(token))

    def tokens(self) -> Iterable[DeliveryToken]:
        """All its tokens, in the order of their numbers."""
        return (self.token(number) for number in range(self.first, self.first + self.count))

    def grants(self) -> list[TokenGrant]:
        """What the owner tells the mailbox, best together with other contacts' grants."""
        return [TokenGrant(token.id, self.right, self.uses, self.expires) for token in self.tokens()]

    def serialize(self) -> bytes:
        """45 bytes, as secret as what may be deposited with them."""
        return _PASS.pack(self.secret, self.right, self.first, self.count, self.uses, self.expires)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """The pass in 45 bytes; raises :class:`PassError`."""
        if len(data) != _PASS.size:
            raise PassError("a pass has 45 bytes")
        secret, right, first, count, uses, expires = _PASS.unpack(data)
        if right not in (Right.DEPOSIT, Right.FETCH) or not 0 < count <= MAX_COUNT or not uses:
            raise PassError("a pass that permits nothing")
        if first + count > 1 << 32:
            raise PassError("a pass whose numbers run out")
        return cls(secret, Right(right), first, count, uses, expires)


def _derive(secret: bytes, info: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, None, info).derive(secret)
