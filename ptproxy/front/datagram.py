"""The header of a SOCKS5 datagram (RFC 1928 section 7).

::

    00 00 │ fragment │ address (as in a request) │ port u16 │ data

Fragments (anything but 0) are refused: reassembly is optional in the RFC, and
no program in use sends them.
"""

from __future__ import annotations

from ptproxy.buffer import Buffer
from ptproxy.errors import FrontError
from ptproxy.target import Target, TargetError

_LONGEST_HEADER = 3 + 2 + 255 + 2


def parse_datagram(datagram: Buffer) -> tuple[Target, bytes]:
    """Where a local program's datagram goes, and its data.

    Raises :class:`~ptproxy.errors.FrontError`: drop the datagram silently.
    """
    head = bytes(datagram[:_LONGEST_HEADER])
    if head[:2] != b"\0\0":
        raise FrontError("not a SOCKS5 datagram")
    if len(head) < 4 or head[2]:
        raise FrontError("a fragment of a SOCKS5 datagram")
    if head[3] not in (1, 3, 4):
        raise FrontError("an unknown kind of SOCKS5 address")
    try:
        target, used = Target.parse_prefix(head[3:])
    except TargetError as error:
        raise FrontError(str(error)) from None
    return target, bytes(datagram[3 + used :])


def serialize_datagram(source: Target, data: bytes) -> bytes:
    """A datagram from ``source`` (an address) as the local program expects it."""
    return b"\0\0\0" + source.serialize() + data
