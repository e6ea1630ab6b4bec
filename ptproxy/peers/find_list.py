"""A signed list of bridges: a file, or what an address answers; for many people, unlike an invite.

::

    list = version u8 = 1 │ key 32 │ sequence u64 │ expires u64 │ count u8
           │ bridge line * (``dht.bridge_line``)
           │ signature 64 by the key, label "ptproxy 1 bridge list ", of everything before it
    text = "ptproxy-bridges:" │ the bytes in base64url without padding (RFC 4648 section 5)

Whoever reads a list knows its bridges, a censor too: it is for bridges that many may know, a club's, say.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Final

from ptproxy.config.link import Link
from ptproxy.dht import signing
from ptproxy.dht.bridge_line import serialize_line, take_line
from ptproxy.dht.signing import KEY, SIGNATURE, SigningKey
from ptproxy.errors import DhtError, LocalProtocolError
from ptproxy.fields import Fields

PREFIX: Final = "ptproxy-bridges:"
MAX_BRIDGES: Final = 64
MAX_TEXT: Final = 256 << 10
"""Characters of a list: 64 of the longest bridge lines."""
MAX_TIME: Final = 2**53

_VERSION: Final = 1
_LABEL: Final = b"ptproxy 1 bridge list "


class BridgeListError(DhtError):
    """Text that is no list, or not that of the key, or no longer good; the message is for a person."""


@dataclass(frozen=True, slots=True)
class BridgeList:
    """What a list says."""

    key: bytes
    sequence: int
    expires: int
    """Unix seconds."""
    bridges: tuple[Link, ...] = field(repr=False)

    @classmethod
    def sign(cls, signer: SigningKey, sequence: int, expires: int, bridges: tuple[Link, ...]) -> str:
        """A list as text; :class:`LocalProtocolError` for one that cannot be."""
        if not 0 < len(bridges) <= MAX_BRIDGES or len(set(bridges)) != len(bridges):
            raise LocalProtocolError(f"a list has 1 to {MAX_BRIDGES} bridges, each once")
        if not (0 <= sequence <= MAX_TIME and 0 <= expires <= MAX_TIME):
            raise LocalProtocolError("a list's sequence or time that cannot be")
        said = bytes((_VERSION,)) + signer.public + sequence.to_bytes(8, "big") + expires.to_bytes(8, "big")
        said += bytes((len(bridges),)) + b"".join(map(serialize_line, bridges))
        return PREFIX + _encode(said + signer.sign(_LABEL, said))

    @classmethod
    def signer(cls, text: str) -> bytes:
        """Whose list it says that it is: for :meth:`parse`, where nobody else has said so."""
        fields = Fields(
            _decode(text.strip()), BridgeListError("this list of bridges is cut short, or damaged")
        )
        fields.number(1)
        return fields.take(KEY)

    @classmethod
    def parse(cls, text: str, key: bytes, now: float) -> BridgeList:
        """The list that ``key`` signed, if it is good ``now``; :class:`BridgeListError` for anything else."""
        data = _decode(text.strip())
        damaged = BridgeListError("this list of bridges is cut short, or damaged")
        fields = Fields(data, damaged)
        try:
            if fields.number(1) != _VERSION:
                raise BridgeListError("this list of bridges is of a version that this program does not know")
            if fields.take(KEY) != key:
                raise BridgeListError("this list of bridges is another signer's")
            sequence, expires, count = fields.number(8), fields.number(8), fields.number(1)
            if not 0 < count <= MAX_BRIDGES:
                raise damaged
            bridges = tuple(take_line(fields) for _ in range(count))
            said = fields.so_far()
            signature = fields.take(SIGNATURE)
            fields.end()
            signing.verify(key, signature, _LABEL, said)
        except BridgeListError:
            raise
        except DhtError as error:
            raise BridgeListError(f"this list of bridges is damaged, or was changed ({error})") from None
        if len(set(bridges)) != len(bridges):
            raise damaged
        if now >= expires:
            raise BridgeListError("this list of bridges has expired")
        return cls(key, sequence, expires, bridges)


def _decode(text: str) -> bytes:
    if not text.startswith(PREFIX) or len(text) > MAX_TEXT or not text.isascii():
        raise BridgeListError(f"a list of bridges is one line that starts with {PREFIX}")
    body = text.removeprefix(PREFIX)
    try:
        data = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
    except binascii.Error:
        data = b""
    if _encode(data) != body:
        raise BridgeListError("this list of bridges is cut short, or damaged")
    return data


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")
