"""What a TLS server's bytes show to whoever cannot read them: records, its ServerHello, alerts.

Everything here is told as short text, made to be compared: two servers whose
texts are equal answered alike. What differs between any two connections of one
server (randoms, keys, a session id that is echoed or not) is left out or told
as what it is.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

CHANGE_CIPHER_SPEC: Final = 20
ALERT: Final = 21
HANDSHAKE: Final = 22
APPLICATION_DATA: Final = 23

_RECORD_HEAD = 5
_KINDS: Final = {
    CHANGE_CIPHER_SPEC: "change_cipher_spec",
    ALERT: "alert",
    HANDSHAKE: "handshake",
    APPLICATION_DATA: "application_data",
}
_MESSAGES: Final = {
    0: "hello_request",
    2: "server_hello",
    4: "new_session_ticket",
    11: "certificate",
    12: "server_key_exchange",
    13: "certificate_request",
    14: "server_hello_done",
    20: "finished",
    22: "certificate_status",
}
_ALERTS: Final = {
    0: "close_notify",
    10: "unexpected_message",
    20: "bad_record_mac",
    21: "decryption_failed",
    22: "record_overflow",
    40: "handshake_failure",
    42: "bad_certificate",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    50: "decode_error",
    51: "decrypt_error",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    90: "user_canceled",
    100: "no_renegotiation",
    109: "missing_extension",
    110: "unsupported_extension",
    112: "unrecognized_name",
    113: "bad_certificate_status_response",
    115: "unknown_psk_identity",
    116: "certificate_required",
    120: "no_application_protocol",
}
_RETRY: Final = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
"""The random of a HelloRetryRequest (RFC 8446 section 4.1.3)."""
_SUPPORTED_VERSIONS: Final = 43
_KEY_SHARE: Final = 51


@dataclass(frozen=True, slots=True)
class ServerRecord:
    """One TLS record that a server sent."""

    kind: int
    version: int
    content: bytes
    """Encrypted, for kind 23."""


def looks_like_tls(data: bytes | bytearray) -> bool:
    """Whether bytes begin as a TLS record does."""
    return len(data) >= 3 and CHANGE_CIPHER_SPEC <= data[0] <= 24 and data[1] == 3 and data[2] <= 4


def split_records(data: bytes | bytearray) -> tuple[list[ServerRecord], bytes]:
    """The whole records that bytes begin with, and what is left (part of a record, or none)."""
    records, at = [], 0
    while looks_like_tls(data[at : at + 3]) and at + _RECORD_HEAD <= len(data):
        end = at + _RECORD_HEAD + int.from_bytes(data[at + 3 : at + 5])
        if end > len(data):
            break
        version = int.from_bytes(data[at + 1 : at + 3])
        records.append(ServerRecord(data[at], version, bytes(data[at + _RECORD_HEAD : end])))
        at = end
    return records, bytes(data[at:])


def alert_text(content: bytes) -> str:
    """An alert's level and description; ``encrypted`` where it cannot be read."""
    if len(content) != 2 or content[0] not in (1, 2):
        return "encrypted"
    level = "warning" if content[0] == 1 else "fatal"
    return f"{level} {_ALERTS.get(content[1], content[1])}"


def describe(records: list[ServerRecord]) -> tuple[str, ...]:
    """One text for each record in the clear; the encrypted ones of a row as one text."""
    texts: list[str] = []
    hidden = False  # whether handshake records are encrypted from here on (TLS 1.2 after its CCS)
    for record in records:
        if record.kind == ALERT:
            text = f"alert {alert_text(record.content)}"
        elif record.kind == HANDSHAKE and not hidden:
            text = "handshake " + ", ".join(_messages(record.content))
        else:
            text = _KINDS.get(record.kind, f"type {record.kind}")
        hidden = hidden or record.kind == CHANGE_CIPHER_SPEC
        if record.version != 0x0303:
            text += f" (version {record.version:04x})"
        if not (texts and record.kind == APPLICATION_DATA and texts[-1] == text):
            texts.append(text)
    return tuple(texts)


def _messages(content: bytes) -> list[str]:
    """The handshake messages that begin in a record, a ServerHello with what it chose."""
    found, at = [], 0
    while at + 4 <= len(content):
        kind, size = content[at], int.from_bytes(content[at + 1 : at + 4])
        body = content[at + 4 : at + 4 + size]
        name = _MESSAGES.get(kind, f"message {kind}")
        if kind == 2 and len(body) == size:
            name = server_hello_text(body)
        elif kind == 12 and len(body) > 3 and body[0] == 3:
            name += f" on group {int.from_bytes(body[1:3]):04x}"
        found.append(name)
        at += 4 + size
    return found


def server_hello_text(body: bytes) -> str:
    """What a ServerHello (its message's body) chose; every extension by number, in order."""
    try:
        retry = body[2:34] == _RETRY
        at = 35 + body[34]
        cipher, _compression = struct.unpack_from(">HB", body, at)
        parts = [f"version {int.from_bytes(body[:2]):04x}", f"cipher {cipher:04x}"]
        parts.append("session id" if body[34] else "no session id")
        at += 5  # and the extensions' length
        extensions = []
        while at + 4 <= len(body):
            kind, size = struct.unpack_from(">HH", body, at)
            extensions.append(_extension_text(kind, body[at + 4 : at + 4 + size]))
            at += 4 + size
    except (IndexError, struct.error):
        return "a broken server_hello"
    parts.append("extensions " + (" ".join(extensions) or "none"))
    return f"{'hello_retry_request' if retry else 'server_hello'} ({', '.join(parts)})"


def _extension_text(kind: int, body: bytes) -> str:
    """An extension's number, with its value where it is a choice."""
    if kind in (_SUPPORTED_VERSIONS, _KEY_SHARE) and len(body) >= 2:
        return f"{kind}={body[:2].hex()}"
    return str(kind)
