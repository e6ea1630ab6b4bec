"""Sealed records: a carrier's bytes encrypted below the codec, where a third party terminates TLS.

    record = masked length (2 bytes) ‖ AES-256-GCM(plaintext of 1 to 16384 bytes), 16 bytes longer

- Length: u16 big-endian, the plaintext's; xored with the next two bytes of
  AES-256-CTR(length key, counter from zero), length key = HKDF-Expand(key, "length").
- Nonce: 12 bytes, the number of the record under this key, from 0, big-endian; no associated data.
- After 2^20 records (at most 16 GiB, far below RFC 8446 section 5.5's 2^24.5) both sides
  replace key by HKDF-Expand(key, "next"); numbers and length keystream start again.

Each direction has its own key (``keys.py``). A record cut off, changed, left
out, doubled or moved raises :class:`~ptproxy.errors.AuthenticationError`; the
carrier is then dead. A changed length is found when as many bytes as it says
have come.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ptproxy.auth.mask import expand
from ptproxy.buffer import Buffer
from ptproxy.errors import AuthenticationError

MAX_RECORD: Final = 16384
"""Plaintext bytes of one record: as a TLS record, so that a reader waits for no more than one of them."""
REKEY_AFTER: Final = 1 << 20
"""Records under one key."""
SEAL_KEY_LENGTH: Final = 32
"""Bytes of a seal key (AES-256)."""

_TAG: Final = 16
_HEAD: Final = struct.Struct(">H")
_MASKS: Final = struct.Struct(
    ">512H"
)  # length masks made at once: one call of the cipher for as many records


class _RecordKey:
    """One direction's key: nonces and length masks in step, a new key when they are used up."""

    __slots__ = ("_key", "_mask_index", "_masks", "_number", "_stream", "aead")

    def __init__(self, key: bytes) -> None:
        if len(key) != SEAL_KEY_LENGTH:
            raise ValueError("a seal key is 32 bytes")
        self._install(key)

    def _install(self, key: bytes) -> None:
        self._key = key
        self.aead = AESGCM(key)
        self._stream = Cipher(algorithms.AES(expand(key, b"length")), modes.CTR(bytes(16))).encryptor()
        self._masks: tuple[int, ...] = ()
        self._mask_index = 0
        self._number = 0

    def length_mask(self) -> int:
        """The next record's length mask: asked first, once a record."""
        if self._number == REKEY_AFTER:
            self._install(expand(self._key, b"next"))
        index = self._mask_index
        if index == len(self._masks):
            self._masks = _MASKS.unpack(self._stream.update(bytes(_MASKS.size)))
            index = 0
        self._mask_index = index + 1
        return self._masks[index]

    def nonce(self) -> bytes:
        """The next record's nonce: asked second, once a record."""
        number = self._number
        self._number = number + 1
        return number.to_bytes(12, "big")

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class Sealer:
    """Seals one direction of a carrier under ``key`` (32 bytes)."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = _RecordKey(key)

    def seal(self, chunks: Sequence[Buffer]) -> list[bytes]:
        """The bytes to send for all of ``chunks``: small ones share a record, large ones are divided."""
        sealed: list[bytes] = []
        gathered: list[Buffer] = []
        size = 0
        for chunk in chunks:
            if size + len(chunk) < MAX_RECORD:
                gathered.append(chunk)
                size += len(chunk)
                continue
            view = memoryview(chunk)
            while size + len(view) >= MAX_RECORD:
                gathered.append(view[: MAX_RECORD - size])
                view = view[MAX_RECORD - size :]
                self._seal_record(gathered, MAX_RECORD, sealed)
                gathered = []
                size = 0
            gathered.append(view)
            size = len(view)
        if size:
            self._seal_record(gathered, size, sealed)
        return sealed

    def _seal_record(self, gathered: list[Buffer], size: int, sealed: list[bytes]) -> None:
        key = self._key
        plaintext = gathered[0] if len(gathered) == 1 else b"".join(gathered)
        sealed.append(_HEAD.pack(size ^ key.length_mask()))
        sealed.append(key.aead.encrypt(key.nonce(), plaintext, None))

    def __repr__(self) -> str:
        return "<Sealer>"


class Opener:
    """Opens what the other end's :class:`Sealer` of the same ``key`` (32 bytes) has sealed."""

    __slots__ = ("_buffer", "_key", "_wanted")

    def __init__(self, key: bytes) -> None:
        self._key = _RecordKey(key)
        self._buffer = bytearray()
        self._wanted = _HEAD.size  # bytes of the part that comes next: a head, or a record's ciphertext

    def receive_data(self, data: Buffer) -> list[Buffer]:
        """The plaintexts of the records that ``data`` completes, in order; any split.

        Raises :class:`AuthenticationError`; plaintexts of the same call are then lost with the carrier.
        """
        opened: list[Buffer] = []
        view = memoryview(data)
        buffer = self._buffer
        position, end = 0, len(view)
        while position < end:
            next_position = position + self._wanted - len(buffer)
            if next_position > end:
                buffer += view[position:]
                break
            part: Buffer = view[position:next_position]
            position = next_position
            if buffer:
                buffer += part
                part = bytes(buffer)
                buffer.clear()
            if self._wanted == _HEAD.size:  # a ciphertext is never that short
                self._wanted = self._open_head(part)
            else:
                opened.append(self._open_record(part))
                self._wanted = _HEAD.size
        return opened

    def _open_head(self, head: Buffer) -> int:
        """The length of the ciphertext that follows."""
        length: int = _HEAD.unpack(head)[0] ^ self._key.length_mask()
        if not 0 < length <= MAX_RECORD:
            raise AuthenticationError("seal: a record of impossible length")
        return length + _TAG

    def _open_record(self, ciphertext: Buffer) -> bytes:
        try:
            return self._key.aead.decrypt(self._key.nonce(), ciphertext, None)
        except InvalidTag:
            raise AuthenticationError("seal: a record does not verify") from None

    def __repr__(self) -> str:
        return "<Opener>"
