"""Small secret files: read with one clear line for whatever is wrong with them.

Every function raises :class:`ValueError`; the text never holds content.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
import sys
from pathlib import Path
from typing import Final

from ptproxy.errors import why

MAX_SECRET: Final = 64 * 1024
"""Bytes a key or certificate file may have: chains of certificates have 10 KiB."""
OWNER_ONLY: Final = 0o077
"""Mode bits that a key file must not have."""
OWNER_AND_GROUP: Final = 0o027
"""The same for a TLS private key, which Debian keeps readable by the group ssl-cert."""


def read_text(path: Path, forbidden: int = 0, advice: str = "", encoding: str = "ascii") -> str:
    """The text of a small file, which must exist and not be empty.

    ``forbidden`` are mode bits it must not have (POSIX only); ``advice`` says
    how the file comes into being.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            data = file.read(MAX_SECRET + 1)
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}{'; ' if advice else ''}{advice}") from None
    except IsADirectoryError:
        raise ValueError(f"{path} is a folder, not a file") from None
    except OSError as error:
        raise ValueError(f"cannot read {path}: {why(error)}") from None
    if sys.platform != "win32" and mode & forbidden:
        right = mode & ~forbidden & 0o666 or 0o600
        raise ValueError(f"others can read or change {path} (mode {mode:04o}): chmod {right:04o} {path}")
    if not data.strip():
        raise ValueError(f"{path} is empty{'; ' if advice else ''}{advice}")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        text = ""
    if len(data) > MAX_SECRET or not text:
        raise ValueError(f"{path} is not the text file that is expected here")
    return text


def read_key(path: Path) -> str:
    """A static key's text, as ``auth.credentials.StaticKey.parse_private`` takes it."""
    text = read_text(path, OWNER_ONLY, "ptproxy init makes a key").strip()
    try:
        well_formed = len(text) == 43 and len(base64.b64decode(f"{text}=", b"-_", validate=True)) == 32
    except binascii.Error:
        well_formed = False
    if not well_formed:
        raise ValueError(f"{path} holds no key: expected one line of 43 characters of base64url")
    return text


def read_password(path: Path) -> str:
    """The first line of a password file (1 to 255 bytes of UTF-8, SOCKS allows no more)."""
    text = read_text(path, OWNER_ONLY, "write the password into it, mode 0600", "utf-8")
    password = text.partition("\n")[0].rstrip("\r")
    if not 1 <= len(password.encode()) <= 255:
        raise ValueError(f"{path}: the first line must be the password, 1 to 255 bytes")
    return password


def check_certificate(path: Path) -> None:
    """A certificate (chain) in PEM form."""
    if "-----BEGIN CERTIFICATE-----" not in read_text(path):
        raise ValueError(f"{path} holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)")


def check_private_key(path: Path) -> None:
    """A TLS private key in PEM form, not encrypted."""
    text = read_text(path, OWNER_AND_GROUP)
    if "PRIVATE KEY-----" not in text:
        raise ValueError(f"{path} holds no private key in PEM form (-----BEGIN PRIVATE KEY-----)")
    if "ENCRYPTED" in text:
        raise ValueError(
            f"{path} is encrypted: nobody is there to type a password, so keep it plain, mode 0600"
        )
