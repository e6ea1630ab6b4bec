"""Which protocol a local program speaks, from its first byte.

04 is SOCKS4, 05 is SOCKS5, a letter starts an HTTP method; nothing else that
we understand begins like one of these, so one byte is enough however the
first bytes are split.
"""

from __future__ import annotations

from ptproxy.errors import FrontError
from ptproxy.front.conversation import Conversation
from ptproxy.front.http_proxy import HttpProxy
from ptproxy.front.socks4 import Socks4
from ptproxy.front.socks5 import Socks5

_TLS_HANDSHAKE = 0x16


def recognise(first_byte: int) -> type[Conversation]:
    """The conversation for a connection that starts with ``first_byte``.

    Raises :class:`~ptproxy.errors.FrontError` when it is none of the three.
    """
    if first_byte == 5:
        return Socks5
    if 0x41 <= first_byte & 0xDF <= 0x5A:
        return HttpProxy
    if first_byte == 4:
        return Socks4
    if first_byte == _TLS_HANDSHAKE:
        raise FrontError("a program speaks TLS to the local port: set it as an HTTP proxy, not an HTTPS one")
    raise FrontError("a program speaks neither SOCKS nor HTTP to the local port")
