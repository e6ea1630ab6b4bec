"""The witness: a small file beside the database that says how far it had come, on which machine and where.

    witness = slot ‖ slot, 128 bytes each: nonce 12 ‖ AES-256-GCM(witness key, nonce, label,
              run 16 ‖ revision u64 ‖ machine 16 ‖ file 16) ‖ zeros

    machine = HMAC-SHA256(machine key, "machine" ‖ the system's own identifier), first 16 bytes
    file    = HMAC-SHA256(machine key, "file" ‖ what the file system calls the database), first 16 bytes

and zeros for what is not known.

Written after every commit, without a sync: a kill loses nothing of it, a power cut some seconds. So it may
be behind the database, and never ahead. The first write of a run is synced, to both slots; the others take
turns, so that one is whole whatever happens.
"""

from __future__ import annotations

import contextlib
import hmac
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag

from ptproxy.peers.store_lineage import Mark
from ptproxy.peers.store_rows import NONCE, RowKeys, fresh
from ptproxy.state import MarkFile

SLOT: Final = 128
"""Bytes of a slot; both fit one sector."""
UNKNOWN: Final = bytes(16)
MAX_IDENTIFIER: Final = 256
"""Bytes of a system's identifier; more is not one."""

_LABEL: Final = b"ptproxy 1 store witness"
_SEEN: Final = struct.Struct(">16sQ16s16s")
_SEALED: Final = NONCE + _SEEN.size + 16
_MACHINE_FILES: Final = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))


@dataclass(frozen=True, slots=True)
class Seen:
    """What a witness saw last."""

    mark: Mark
    machine: bytes
    file: bytes

    def same_place(self, other: Seen) -> bool:
        """Whether both are of one file on one machine, as far as they know."""
        files = UNKNOWN in (self.file, other.file) or self.file == other.file
        return files and self.machine == other.machine


class Witness:
    """The file, open."""

    __slots__ = ("_file", "_keys", "_number", "_place", "_turn")

    def __init__(self, file: MarkFile, keys: RowKeys, number: int) -> None:
        """``number``: what the file system calls the database, 0 where that means nothing."""
        self._file = file
        self._keys = keys
        self._number = number
        identifier = machine_identifier()
        self._place = (
            _blinded(keys, b"machine" + identifier) if identifier else UNKNOWN,
            _blinded(keys, b"file" + number.to_bytes(16, "big")) if number else UNKNOWN,
        )
        self._turn = 0

    def here(self, mark: Mark) -> Seen:
        """What it would write."""
        return Seen(mark, *self._place)

    def read(self) -> Seen | None:
        """What it saw last; None where there is nothing that this store wrote."""
        data = self._file.read(2 * SLOT)
        found = [self._open(data[at : at + _SEALED]) for at in (0, SLOT)]
        return max((seen for seen in found if seen), key=lambda seen: seen.mark.revision, default=None)

    def begin(self, mark: Mark) -> None:
        """The first of a run: both slots, on disk when this returns."""
        slot = self._seal(mark)
        self._file.write(0, slot + slot)
        self._file.sync()

    def follow(self, mark: Mark) -> None:
        """A commit was made."""
        self._file.write(self._turn * SLOT, self._seal(mark))
        self._turn ^= 1

    def hand_over(self, mark: Mark, keys: RowKeys, next_mark: Mark) -> Witness:
        """The same file for a store that is about to have other keys, good for both: it may stay as it is."""
        heir = Witness(self._file, keys, self._number)
        self._file.write(0, self._seal(mark) + heir._seal(next_mark))
        self._file.sync()
        return heir

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _seal(self, mark: Mark) -> bytes:
        seen, nonce = self.here(mark), fresh(NONCE)
        content = _SEEN.pack(mark.run, mark.revision, seen.machine, seen.file)
        return (nonce + self._keys.witness.encrypt(nonce, content, _LABEL)).ljust(SLOT, b"\0")

    def _open(self, slot: bytes) -> Seen | None:
        if len(slot) != _SEALED:
            return None
        try:
            content = self._keys.witness.decrypt(slot[:NONCE], slot[NONCE:], _LABEL)
        except InvalidTag:
            return None
        run, revision, machine, file = _SEEN.unpack(content)
        return Seen(Mark(run, revision), machine, file)


def _blinded(keys: RowKeys, what: bytes) -> bytes:
    """Of no use elsewhere: machine-id(5) asks for that."""
    return hmac.digest(keys.machine, what, "sha256")[: len(UNKNOWN)]


def machine_identifier() -> bytes:
    """What the operating system calls this installation of itself, empty where it does not say."""
    if sys.platform == "win32":
        return _windows_identifier()
    for path in _MACHINE_FILES:
        with contextlib.suppress(OSError), path.open("rb") as file:
            found = file.read(MAX_IDENTIFIER).strip()
            if found and found != b"uninitialized":
                return found
    return b""


def _windows_identifier() -> bytes:
    if sys.platform != "win32":
        return b""
    import winreg  # noqa: PLC0415  (Windows alone has it)

    with (
        contextlib.suppress(OSError),
        winreg.OpenKey(
            winreg.HKEY_LOCAL_MACHINE,
            r"SOFTWARE\Microsoft\Cryptography",
            0,
            winreg.KEY_READ | winreg.KEY_WOW64_64KEY,
        ) as key,
    ):
        return str(winreg.QueryValueEx(key, "MachineGuid")[0]).encode()[:MAX_IDENTIFIER]
    return b""
