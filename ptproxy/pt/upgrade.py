"""WebTunnel's way in: an HTTP/1.1 upgrade on a secret path, then the parent's bytes as they are.

::

    → GET /SECRET HTTP/1.1 │ Host: NAME │ Connection: Upgrade │ Upgrade: websocket
    ← HTTP/1.1 101 Switching Protocols │ Connection: upgrade │ Upgrade: websocket
    ⇄ bytes

That is all that Tor Browser's WebTunnel (version 0.0.1 and later) says and
wants to hear; with a Sec-WebSocket-Key it also gets RFC 6455's answer to one.
The path is the secret: whoever asks for another meets the web site.
"""

from __future__ import annotations

import hmac
import re

from ptproxy.buffer import Buffer
from ptproxy.codec.head import HttpHead, RequestReader, ResponseHead, ResponseReader
from ptproxy.codec.ws_upgrade import accept_value
from ptproxy.errors import CodecError
from ptproxy.pt.webtunnel_line import WebTunnelLine


def upgrade_request(line: WebTunnelLine) -> bytes:
    """What a client says first."""
    fields = [("Host", line.http_host), ("Connection", "Upgrade"), ("Upgrade", "websocket")]
    return HttpHead(fields, "GET", line.path).serialize()


def accept_upgrade(received: bytes, path: str) -> tuple[bytes, bytes] | None:
    """The answer to a client's request and the bytes behind it; None for whatever is no such request."""
    end = received.find(b"\r\n\r\n") + 4
    reader = RequestReader()
    try:
        head = reader.receive_data(received[:end]) if end > 3 else None
        if (
            head is None
            or not hmac.compare_digest(head.target.encode("latin-1"), path.encode("ascii"))
            or (head.method, head.version) != ("GET", "HTTP/1.1")
            or head.tokens("upgrade") != ["websocket"]
            or "upgrade" not in head.tokens("connection")
            or head.get("content-length") not in (None, "0")
            or head.get("transfer-encoding") is not None
        ):
            return None
        key = head.get("sec-websocket-key")
    except CodecError:
        return None
    fields = [("Connection", "upgrade"), ("Upgrade", "websocket")]
    if key is not None and re.fullmatch(r"[A-Za-z0-9+/]{22}==", key):
        fields.append(("Sec-WebSocket-Accept", accept_value(key)))
    return ResponseHead(fields, 101, "Switching Protocols").serialize(), received[end:]


class UpgradeAnswer:
    """Reads the bridge's answer; ``rest`` is what came behind it."""

    __slots__ = ("_received", "rest")

    def __init__(self) -> None:
        self._received = b""
        self.rest = b""

    def receive_data(self, data: Buffer) -> bool:
        """Feed what came; True once it is upgraded. Raises :class:`~ptproxy.errors.CodecError`."""
        self._received += bytes(data)
        end = self._received.find(b"\r\n\r\n") + 4
        head = ResponseReader().receive_data(self._received[:end] if end > 3 else self._received)
        if head is None:
            return False
        if head.status != 101:
            raise CodecError(f"the web server answers {head.status}: is the path right?")
        if head.tokens("upgrade") != ["websocket"] or "upgrade" not in head.tokens("connection"):
            raise CodecError("the web server does not upgrade the connection")
        self.rest = self._received[end:]
        return True
