"""How a :class:`~ptproxy.errors.Reason` is told to a local program, protocol by protocol.

SOCKS5 (RFC 1928 section 6)::

    01 general failure       the tunnel is down, the session was lost, a limit, anything else
    02 not allowed           the bridge's egress policy refuses the target
    03 network unreachable
    04 host unreachable      also: the name does not exist (SOCKS5 has no code for it)
    05 connection refused
    06 TTL expired           the target did not answer in time (there is no other code for it)
    07 command not supported the bridge has no such service, or BIND was asked for
    08 address type not supported

SOCKS4 knows only 90 (granted), 91 (failed) and two codes for identd; whoever
needs reasons speaks SOCKS5 or HTTP. HTTP has a status, the error type of RFC
9209 in a ``Proxy-Status`` field, and a sentence in the body. Nothing in an
answer names this program: a page that provokes one learns that there is *a*
proxy, no more.
"""

from __future__ import annotations

from typing import Final

from ptproxy.errors import Reason

SOCKS5_SUCCEEDED: Final = 0
SOCKS5_FAILURE: Final = 1
SOCKS5_COMMAND_NOT_SUPPORTED: Final = 7
SOCKS5_ADDRESS_NOT_SUPPORTED: Final = 8

SOCKS4_GRANTED: Final = 90
SOCKS4_FAILED: Final = 91
SOCKS4_NOT_PERMITTED: Final = 93
"""A password is required, and SOCKS4 has none ("the client program and identd report different user-ids")."""

_SOCKS5: Final = {
    Reason.NOT_PERMITTED: 2,
    Reason.NETWORK_UNREACHABLE: 3,
    Reason.HOST_UNREACHABLE: 4,
    Reason.NAME_NOT_FOUND: 4,
    Reason.REFUSED: 5,
    Reason.TIMED_OUT: 6,
    Reason.UNSUPPORTED: SOCKS5_COMMAND_NOT_SUPPORTED,
}

_HTTP: Final = {
    Reason.CANCELLED: (502, "proxy_internal_error", "the connection was given up"),
    Reason.GENERAL: (502, "proxy_internal_error", "the target could not be reached"),
    Reason.NOT_PERMITTED: (403, "destination_ip_prohibited", "the far end does not permit this target"),
    Reason.NETWORK_UNREACHABLE: (502, "destination_ip_unroutable", "the target's network is unreachable"),
    Reason.HOST_UNREACHABLE: (502, "destination_unavailable", "the target is unreachable"),
    Reason.REFUSED: (502, "connection_refused", "the target refused the connection"),
    Reason.TIMED_OUT: (504, "connection_timeout", "the target did not answer in time"),
    Reason.NAME_NOT_FOUND: (502, "dns_error", "there is no such host name"),
    Reason.CONNECTION_LOST: (502, "connection_terminated", "the target broke the connection"),
    Reason.LIMIT: (503, "connection_limit_reached", "a limit of the far end is reached; try again later"),
    Reason.SHUTDOWN: (503, "proxy_internal_error", "the far end is shutting down; try again"),
    Reason.UNSUPPORTED: (501, "proxy_configuration_error", "the far end does not offer this"),
    Reason.TUNNEL_DOWN: (503, "proxy_internal_error", "the tunnel is down: no bridge can be reached"),
    Reason.SESSION_LOST: (503, "proxy_internal_error", "the tunnel was restarted; try again"),
}

_PHRASES: Final = {
    400: "Bad Request",
    403: "Forbidden",
    407: "Proxy Authentication Required",
    431: "Request Header Fields Too Large",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


def socks5_code(reason: Reason) -> int:
    """The REP field for ``reason``."""
    return _SOCKS5.get(reason, SOCKS5_FAILURE)


def http_refusal(reason: Reason, *, body: bool = True) -> bytes:
    """A whole HTTP answer for ``reason``; ``body`` False for an answer to HEAD."""
    status, error, text = _HTTP[reason]
    return http_answer(status, text, f"Proxy-Status: proxy; error={error}\r\n", body=body)


def http_answer(status: int, text: str, fields: str = "", *, body: bool = True) -> bytes:
    """A whole HTTP answer that ends the connection: one sentence of ``text``, more header ``fields``."""
    content = f"{text}\n".encode()
    head = (
        f"HTTP/1.1 {status} {_PHRASES[status]}\r\n{fields}Cache-Control: no-store\r\n"
        f"Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(content)}\r\n"
        "Connection: close\r\n\r\n"
    ).encode()
    return head + content if body else head
