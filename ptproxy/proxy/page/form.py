"""The fields of a form, as browsers send them with ``multipart/form-data`` (RFC 7578); without I/O."""

from __future__ import annotations

import re
from typing import Final

from ptproxy.errors import FrontError
from ptproxy.front.http_head import RequestHead, check_field
from ptproxy.proxy.page.request import Refused

MAX_FIELDS: Final = 8
"""Of a form; the page's longest has four."""
MAX_PART_HEAD: Final = 2048
"""Bytes of the lines above a field: its name, and a file's."""

_KIND = re.compile(rb'multipart/form-data;[ \t]*boundary="?([0-9A-Za-z\'()+_,./:=?-]{1,70})"?', re.IGNORECASE)
_NAME = re.compile(rb'form-data;[ \t]*name="([a-z]{1,20})"(?:;.*)?')


def read_form(head: RequestHead, body: bytes) -> dict[str, bytes]:
    """The fields by name; raises :class:`~ptproxy.proxy.page.request.Refused` for what no browser sends."""
    kinds = head.fields.values_of(b"content-type")
    match = _KIND.fullmatch(kinds[0]) if len(kinds) == 1 else None
    if match is None:
        raise Refused(415, "not a form of this page")
    line = b"--" + match[1]
    parts = (b"\r\n" + body).split(b"\r\n" + line, MAX_FIELDS + 2)
    if parts[0] or parts[-1] not in (b"--", b"--\r\n") or len(parts) > MAX_FIELDS + 2:
        raise Refused(400, "a form that is damaged")
    found: dict[str, bytes] = {}
    for part in parts[1:-1]:
        name, value = _field(part)
        if name in found:
            raise Refused(400, "a form with a field twice")
        found[name] = value
    return found


def _field(part: bytes) -> tuple[str, bytes]:
    above, empty, value = part.partition(b"\r\n\r\n")
    if not part.startswith(b"\r\n") or not empty or len(above) > MAX_PART_HEAD:
        raise Refused(400, "a form that is damaged")
    try:
        fields = [check_field(line) for line in above[2:].split(b"\r\n")]
    except FrontError:
        raise Refused(400, "a form that is damaged") from None
    said = [value for name, value in fields if name.lower() == b"content-disposition"]
    match = _NAME.fullmatch(said[0]) if len(said) == 1 else None
    if match is None:
        raise Refused(400, "a field without a name")
    return match[1].decode("ascii"), value
