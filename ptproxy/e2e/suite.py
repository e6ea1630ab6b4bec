"""Which algorithms a key agreement uses: one number for all of them, chosen by the responder's bundle."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from ptproxy.e2e.kem import Kem
from ptproxy.errors import E2EError


class Suite(IntEnum):
    """The number is part of the wire format (``PROTOCOL.md``, "Suites")."""

    X3DH = 1
    """Without a KEM: what is recorded now can be read with a quantum computer later."""
    PQXDH_768 = 2
    """The default."""
    PQXDH_1024 = 3

    @classmethod
    def parse(cls, number: int) -> Suite:
        """:class:`E2EError` for a number that this version does not know."""
        try:
            return cls(number)
        except ValueError:
            raise E2EError("a suite that this version does not know") from None

    @property
    def kem(self) -> Kem | None:
        """Its KEM, if it has one."""
        return _KEMS[self]

    @property
    def info(self) -> bytes:
        """HKDF's info (X3DH section 2.2, PQXDH section 2.2): no suite's secret is another's."""
        return _INFOS[self]

    @property
    def kem_prekey(self) -> int:
        """Bytes of an encoded KEM prekey, 0 without a KEM."""
        return 0 if self.kem is None else self.kem.encoded

    @property
    def ciphertext(self) -> int:
        """Bytes of a KEM ciphertext, 0 without a KEM."""
        return 0 if self.kem is None else self.kem.ciphertext


_KEMS: Final = {Suite.X3DH: None, Suite.PQXDH_768: Kem.ML_KEM_768, Suite.PQXDH_1024: Kem.ML_KEM_1024}
_INFOS: Final = {
    Suite.X3DH: b"ptproxy 1 e2e X3DH 25519 SHA-256",
    Suite.PQXDH_768: b"ptproxy 1 e2e PQXDH 25519 SHA-256 ML-KEM-768",
    Suite.PQXDH_1024: b"ptproxy 1 e2e PQXDH 25519 SHA-256 ML-KEM-1024",
}

POST_QUANTUM: Final = frozenset((Suite.PQXDH_768, Suite.PQXDH_1024))
"""What an initiator accepts unless told otherwise."""
