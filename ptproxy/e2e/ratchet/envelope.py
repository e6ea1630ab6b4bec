"""What of a message is seen: a random nonce and two AEAD ciphertexts, in one of eight lengths.

    nonce 12 ‖ AES-256-GCM(header key, AD; header) ‖ AES-256-GCM(message key, AD ‖ sealed header; body)
    body = length u32 ‖ plaintext ‖ zeros

(RATCHET.md, *Message*; Signal's HENCRYPT and ENCRYPT.) The nonce serves under
two keys. A message key has one message only, yet its nonce is random: a state
that ran twice, restored from a backup, repeats a key but not the nonce with it.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ptproxy.e2e.ratchet.header import LONG, SHORT, Header, Part
from ptproxy.e2e.ratchet.refusals import RatchetRuleError, UnreadableError
from ptproxy.errors import LocalProtocolError

SIZES: Final = (384, 896, 1920, 3968, 8064, 16256, 32640, 65408)
"""Bytes that a message can have: few, so that a length says little. Each is 128 below a power of two.

What is put around a message (an envelope of a mailbox, a session's name) stays
below that power; and a short text has the same envelope of 2,048 bytes whether
a KEM step is under way or not.
"""
NONCE: Final = 12
"""Bytes of a nonce (SP 800-38D section 8.2.2: random)."""
TAG: Final = 16
"""Bytes of an AEAD tag."""
_LENGTH: Final = 4
_AROUND: Final = NONCE + TAG + TAG + _LENGTH
MAX_PLAINTEXT: Final = SIZES[-1] - _AROUND - LONG
"""Bytes of the longest plaintext: it fits beside either form of header."""

_KNOWN_SIZES: Final = frozenset(SIZES)


def seal(
    header_cipher: AESGCM, message_key: bytes, ad: bytes, header: bytes, plaintext: bytes, nonce: bytes
) -> bytes:
    """A whole message. ``plaintext`` has at most :data:`MAX_PLAINTEXT` bytes."""
    needed = _AROUND + len(header) + len(plaintext)
    size = SIZES[bisect_left(SIZES, needed)]
    body = len(plaintext).to_bytes(_LENGTH, "big") + plaintext + bytes(size - needed)
    sealed_header = header_cipher.encrypt(nonce, header, ad)
    return nonce + sealed_header + AESGCM(message_key).encrypt(nonce, body, ad + sealed_header)


def check_plaintext(plaintext: bytes) -> None:
    """Raise :class:`LocalProtocolError` where a plaintext is too long."""
    if len(plaintext) > MAX_PLAINTEXT:
        raise LocalProtocolError(f"ratchet: a plaintext has at most {MAX_PLAINTEXT} bytes")


def check_size(message: bytes) -> None:
    """Raise :class:`UnreadableError` for a length that no message has."""
    if len(message) not in _KNOWN_SIZES:
        raise UnreadableError("ratchet: not a message")


def open_header(cipher: AESGCM, ad: bytes, message: bytes) -> Header | None:
    """The header of a message of a known size, if it is one under this key.

    :class:`RatchetRuleError` if it is, and says what no side may say.
    """
    nonce = message[:NONCE]
    for form in (SHORT, LONG):
        end = NONCE + form + TAG
        if end > len(message):
            break
        try:
            return Header.parse(cipher.decrypt(nonce, message[NONCE:end], ad))
        except InvalidTag:
            continue
    return None


def open_body(message_key: bytes, ad: bytes, message: bytes, header: Header) -> bytes:
    """The plaintext behind ``header``; :class:`UnreadableError` if anything of the message was touched."""
    end = NONCE + (SHORT + TAG if header.part is Part.NOTHING else LONG + TAG)
    try:
        body = AESGCM(message_key).decrypt(message[:NONCE], message[end:], ad + message[NONCE:end])
    except InvalidTag:
        raise UnreadableError("ratchet: not a message of this session") from None
    length = int.from_bytes(body[:_LENGTH], "big")
    if length > len(body) - _LENGTH:
        raise RatchetRuleError("ratchet: a body longer than its message")
    return body[_LENGTH : _LENGTH + length]
