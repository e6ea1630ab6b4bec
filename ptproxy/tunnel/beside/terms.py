"""Which ClientHellos a bridge beside a web server answers by itself."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Final

from ptproxy.codec.client_hello import PRE_SHARED_KEY, TLS13, ClientHello
from ptproxy.tunnel.beside.h2_couple import H2Requests
from ptproxy.tunnel.beside.openssl import OpenSSL

LEGACY_VERSION: Final = 0x0303
"""What a client of TLS 1.3 says beside supported_versions (RFC 8446 section 4.1.2)."""
SESSION_ID: Final = 32
"""Bytes of the session id that stands for nothing (RFC 8446 appendix D.4)."""
SUITES: Final = (0x1301, 0x1302, 0x1303)
"""TLS 1.3's three suites that every browser offers."""
X25519: Final = 0x001D


@dataclass(slots=True)
class Terms:
    """On which a doorway answers by itself."""

    library: OpenSSL
    context: ssl.SSLContext
    """What strangers and clients meet; its ALPN protocols are ``protocols``."""
    server_name: str
    protocols: tuple[bytes, ...]
    """The web server's ALPN protocols, its favourite first."""
    ticket_name: bytes
    """How our tickets begin; the web server's begin in another way, and only it can take those."""
    requests: H2Requests | None = None
    """How a client's requests over HTTP/2 look; None: there are none."""

    def protocol_for(self, hello: ClientHello) -> bytes | None:
        """What to agree on with whom says this (b"": nothing); None: it is the web server's to answer."""
        offered = ticket_offered(hello)
        if offered is not None:
            # However unusual the hello: from the web server it would be no resumption, which is seen.
            if TLS13 not in hello.supported_versions or not offered.startswith(self.ticket_name):
                return None
            if not hello.alpn:
                return b""
        elif not usual(hello) or (hello.server_name or "").lower() != self.server_name.lower():
            return None
        return next((protocol for protocol in self.protocols if protocol in hello.alpn), None)


def usual(hello: ClientHello) -> bool:
    """Whether a ClientHello is in every respect as all browsers and we send it.

    Whatever else a library may be asked, each answers in its own way, so that is left to the web server's.
    """
    return (
        TLS13 in hello.supported_versions
        and hello.legacy_version == LEGACY_VERSION
        and len(hello.session_id) == SESSION_ID
        and hello.compression == b"\0"
        and set(SUITES) <= set(hello.cipher_suites)
        and X25519 in hello.key_share_groups
        and X25519 in hello.groups
        and not hello.has_early_data
    )


def ticket_offered(hello: ClientHello) -> bytes | None:
    """The first ticket of a pre_shared_key extension (RFC 8446 section 4.2.11), None without one."""
    body = hello.extension(PRE_SHARED_KEY)
    if body is None:
        return None
    size = int.from_bytes(body[2:4])
    return body[4 : 4 + size]
