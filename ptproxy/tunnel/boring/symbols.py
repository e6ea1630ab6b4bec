"""Addresses of functions that a loaded library holds but does not export, read from its own symbol table.

Wheels of curl_cffi carry BoringSSL inside, hidden from the dynamic linker but
named in ``.symtab`` (ELF, on Linux and Android) or in the nlist table (Mach-O,
on macOS). An address in memory is the one in the file plus one difference that
holds for the whole library; an exported function, whose address the linker
tells, gives the difference. Nothing is taken on trust: every function must lie
in the executable part of the file, and its first bytes in memory must be those
in the file, before anybody calls it.

Formats: System V ABI (gABI 4.1) chapters 4 and 5; Mach-O's ``<mach-o/loader.h>``
and ``<mach-o/nlist.h>``. Only 64-bit little-endian files, as every wheel is.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ptproxy.errors import StartError

COMPARED: Final = 32
"""Bytes of each function that are compared with the file."""

_ELF_MAGIC: Final = b"\x7fELF\x02\x01"
_MACHO_MAGIC: Final = b"\xcf\xfa\xed\xfe"


@dataclass(frozen=True, slots=True)
class Image:
    """What of a library file matters: where its code lies and what its functions are called."""

    data: bytes
    code_address: int
    """Where the file says that its executable part begins in memory (before the difference)."""
    code_offset: int
    """Where that part begins in the file."""
    code_size: int
    functions: dict[str, int]

    def first_bytes(self, address: int) -> bytes:
        """What the file holds at an address of its code; :class:`StartError` for one outside."""
        inside = address - self.code_address
        if not 0 <= inside <= self.code_size - COMPARED:
            raise StartError(
                "the browser's TLS library is not laid out as expected: a function outside its code"
            )
        return self.data[self.code_offset + inside : self.code_offset + inside + COMPARED]


def hidden_functions(
    library: ctypes.CDLL, path: Path, names: Collection[str], exported: Collection[str]
) -> dict[str, int]:
    """The address in memory of every one of ``names`` in ``library``, which was loaded from ``path``.

    ``exported`` are functions that the linker knows, the more the better: all
    must agree on the difference. Raises :class:`~ptproxy.errors.StartError`
    where a name is missing or anything does not agree.
    """
    image = parse_image(path.read_bytes(), frozenset(names) | frozenset(exported))
    missing = sorted((set(names) | set(exported)) - image.functions.keys())
    if missing:
        raise StartError(
            f"the browser's TLS library does not tell where {missing[0]} is ({len(missing)} missing)"
        )
    differences = {
        (ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0) - image.functions[name]
        for name in exported
    }
    if len(differences) != 1:
        raise StartError("the browser's TLS library in memory is not the one in its file")
    difference = differences.pop()
    found: dict[str, int] = {}
    for name in names:
        address = image.functions[name]
        expected = image.first_bytes(address)
        if ctypes.string_at(address + difference, COMPARED) != expected:
            raise StartError(f"the browser's TLS library in memory is not the one in its file: {name}")
        found[name] = address + difference
    return found


def parse_image(data: bytes, names: Collection[str]) -> Image:
    """What a library file says of these functions; :class:`~ptproxy.errors.StartError` where it is none."""
    try:
        if data.startswith(_ELF_MAGIC):
            return _parse_elf(data, names)
        if data.startswith(_MACHO_MAGIC):
            return _parse_macho(data, names)
    except (struct.error, IndexError, ValueError, OverflowError):
        raise StartError("the browser's TLS library has a damaged symbol table") from None
    raise StartError("the browser's TLS library has no symbol table that is known here")


def _parse_elf(data: bytes, names: Collection[str]) -> Image:
    """ELF64: section headers for ``.symtab``, program headers for the executable segment."""
    (program_offset, section_offset) = struct.unpack_from("<QQ", data, 32)
    (program_size, programs, section_size, sections) = struct.unpack_from("<HHHH", data, 54)
    code = None
    for index in range(programs):
        kind, flags, offset, address, _, size = struct.unpack_from(
            "<IIQQQQ", data, program_offset + index * program_size
        )
        if kind == 1 and flags & 1:  # PT_LOAD, PF_X
            code = (address, offset, size)
    headers = [
        struct.unpack_from("<IIQQQQIIQQ", data, section_offset + index * section_size)
        for index in range(sections)
    ]
    functions: dict[str, int] = {}
    for header in headers:
        if header[1] != 2:  # SHT_SYMTAB
            continue
        strings, offset, size = headers[header[6]][4], header[4], header[5]
        for name, info, _, section, value, _ in struct.iter_unpack("<IBBHQQ", data[offset : offset + size]):
            if info & 15 == 2 and section:  # STT_FUNC, defined here
                _keep(functions, names, data, strings + name, value)
    if code is None:
        raise StartError("the browser's TLS library holds no code")
    return Image(data, *code, functions)


def _parse_macho(data: bytes, names: Collection[str]) -> Image:
    """Mach-O 64: load commands ``LC_SEGMENT_64`` (for ``__TEXT``) and ``LC_SYMTAB``."""
    code = None
    functions: dict[str, int] = {}
    for command, offset in _load_commands(data):
        if command == 0x19:
            segment, address, _, file_offset, file_size = struct.unpack_from("<16sQQQQ", data, offset + 8)
            if segment.rstrip(b"\0") == b"__TEXT":
                code = (address, file_offset, file_size)
        elif command == 0x2:
            table, count, strings, _ = struct.unpack_from("<IIII", data, offset + 8)
            for name, kind, _, _, value in struct.iter_unpack("<IBBHQ", data[table : table + 16 * count]):
                if kind & 0xE0 == 0 and kind & 0x0E == 0x0E:  # not for debuggers; defined in a section
                    _keep(functions, names, data, strings + name + 1, value)  # C names begin with "_"
    if code is None:
        raise StartError("the browser's TLS library holds no code")
    return Image(data, *code, functions)


def _load_commands(data: bytes) -> Iterator[tuple[int, int]]:
    """Number and place of every load command."""
    (commands,) = struct.unpack_from("<I", data, 16)
    offset = 32
    for _ in range(commands):
        command, size = struct.unpack_from("<II", data, offset)
        if size < 8:
            raise ValueError("a load command without an end")
        yield command, offset
        offset += size


def _keep(functions: dict[str, int], names: Collection[str], data: bytes, place: int, value: int) -> None:
    """Note a function if it is one of those wanted."""
    name = data[place : data.index(b"\0", place)].decode("ascii", "replace")
    if name in names:
        functions[name] = value
