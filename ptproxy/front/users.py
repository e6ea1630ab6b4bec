"""Who may use the local proxy: names and passwords, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

_Digests = tuple[bytes, bytes]


class Users:
    """A set of names with passwords; only their SHA-256 is kept in memory.

    SOCKS5 carries names and passwords of 1 to 255 bytes (RFC 1929 section 2);
    HTTP's basic scheme knows no name with a colon (RFC 7617 section 2).
    Raises ``ValueError`` for ones that could never be sent.
    """

    __slots__ = ("_digests",)

    def __init__(self, passwords: Mapping[str, str]) -> None:
        if not passwords:
            raise ValueError("at least one user is needed")
        for name, password in passwords.items():
            if not 0 < len(name.encode()) < 256 or ":" in name:
                raise ValueError("a user name has 1 to 255 bytes and no colon")
            if not 0 < len(password.encode()) < 256:
                raise ValueError("a password has 1 to 255 bytes")
        self._digests = [_digests(name.encode(), password.encode()) for name, password in passwords.items()]

    def admits(self, name: bytes, password: bytes) -> bool:
        """Whether ``name`` has this ``password``; takes as long for a wrong one as for a right one."""
        given_name, given_password = _digests(name, password)
        found = False
        for known_name, known_password in self._digests:
            same_name = hmac.compare_digest(known_name, given_name)
            same_password = hmac.compare_digest(known_password, given_password)
            found |= same_name & same_password
        return found


def _digests(name: bytes, password: bytes) -> _Digests:
    return hashlib.sha256(name).digest(), hashlib.sha256(password).digest()
