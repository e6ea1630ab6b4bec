"""A bridge in the arguments of a parent's line: all that a client needs besides the address.

===========  =======================================================================================
key          the bridge's X25519 public key, base64url without padding (43 characters; required)
path         the secret path of the codecs' requests (required)
name         the TLS server name; the address when absent
cert         SHA-256 of the leaf certificate (43 characters); absent: the authorities decide
addr         HOST:PORT to connect to instead of the line's own address (a web server or CDN in front)
page         the page of the site that is visited first; ``/`` when absent
codecs       what the bridge speaks, joined by ``+``; only where the transport's name leaves it open
fronts       where else the same bridge is reached, the best first, joined by ``!``; each as in a link, but
             with ``/`` for ``;`` and ``*`` for ``=``: ``HOST:PORT/name*N/codecs*a+b/cert*PIN``
seal         ``1``: payload is sealed inside TLS as well
binding      ``none``: openings are not bound to the certificate; only together with ``seal=1``
fingerprint  the client's own choice: ``chrome`` (when absent), ``firefox`` or ``python``
shape        the client's own choice: ``browse`` (when absent), ``chat``, ``bulk`` or ``none``
===========  =======================================================================================

tor publishes these and refuses more than 510 bytes of them in a line; it gets
escapes wrong there, so no value has a comma, ``=``, ``\\`` or space
(:data:`SAFE`). Who holds the line can use the bridge: it is the secret.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ptproxy.config.link import Front, Link, check_pages, check_path
from ptproxy.config.quantities import parse_address, parse_host
from ptproxy.pt.arguments import ArgumentError, read_value, serialize_arguments

MAX_LINE: Final = 510
"""Bytes of arguments that tor takes in a bridge line."""
TRANSPORTS: Final = {
    "ptproxy": ("http", "websocket", "random"),
    "ptproxy_ws": ("websocket",),
    "ptproxy_http": ("http",),
    "ptproxy_random": ("random",),
}
"""Transports by name, each with the codecs it may use, best first."""
FINGERPRINTS: Final = ("chrome", "firefox", "python")
SHAPES: Final = ("browse", "chat", "bulk", "none")
SAFE: Final = re.compile(r"[A-Za-z0-9._~!$'()*+:@/\[\]-]+")
"""What values may consist of."""

_KEYS: Final = frozenset({
    "key", "path", "name", "cert", "addr", "page", "codecs", "fronts", "seal", "binding", "fingerprint",
    "shape",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class BridgeLine:
    """One bridge as a client was told of it, and how the client is to look."""

    link: Link
    fingerprint: str = "chrome"
    shape: str = "browse"


def parse_line(arguments: Mapping[str, str], codecs: tuple[str, ...], host: str, port: int) -> BridgeLine:
    """The bridge of a line for ``host``:``port``; raises :class:`ArgumentError`.

    ``codecs``: what the transport allows, best first.
    """
    for key in arguments.keys() - _KEYS:
        raise ArgumentError(f"the bridge line has an unknown argument {key[:20]!r}: is it a newer ptproxy's?")
    missing = next((key for key in ("key", "path") if not arguments.get(key)), None)
    if missing:
        raise ArgumentError(f"the bridge line has no {missing}=: was it copied whole?")
    try:
        if "addr" in arguments:
            address = read_value("addr", parse_address, arguments["addr"])
            host, port = address.host, address.port
        name = arguments.get("name", host)
        spoken = _codecs(arguments.get("codecs"), codecs)
        read_value("name", parse_host, name)
        link = Link(
            key=_digest(arguments["key"], "key"),
            host=host,
            port=port,
            path=read_value("path", check_path, arguments["path"]),
            pages=read_value("page", lambda page: check_pages((page,)), arguments.get("page", "/")),
            server_name=name,
            codecs=spoken,
            pin=_digest(arguments["cert"], "cert") if "cert" in arguments else None,
            seal=_choice(arguments, "seal", ("0", "1")) == "1",
            binding=_choice(arguments, "binding", ("certificate", "none")) == "certificate",
            fronts=fronts_for(read_value("fronts", _fronts, arguments["fronts"]), spoken)
            if "fronts" in arguments
            else (),
        )
        fingerprint = _choice(arguments, "fingerprint", FINGERPRINTS)
        return BridgeLine(link, fingerprint, _choice(arguments, "shape", SHAPES))
    except ValueError as error:
        raise ArgumentError(f"the bridge line cannot be used: {error}") from None


def line_arguments(link: Link, codecs: tuple[str, ...], *, address: str = "") -> dict[str, str]:
    """The arguments that a bridge publishes: what differs from what a client assumes.

    ``address``: ``HOST:PORT`` where clients are not to use the line's own.
    Raises :class:`ArgumentError` for a bridge that no line can describe.
    """
    found = {"key": _encode(link.key), "path": link.path, "name": link.server_name}
    if link.pin is not None:
        found["cert"] = _encode(link.pin)
    if address:
        found["addr"] = address
    if link.pages[0] != "/":
        found["page"] = link.pages[0]
    if link.codecs != codecs:
        found["codecs"] = "+".join(link.codecs)
    if link.seal:
        found["seal"] = "1"
    if not link.binding:
        found["binding"] = "none"
    for count in range(len(link.fronts), 0, -1):  # the best of them, where all would be too many
        fronts = {"fronts": "!".join(map(_front, link.fronts[:count]))}
        if len(serialize_arguments(found | fronts)) <= MAX_LINE:
            found |= fronts
            break
    for key, value in found.items():
        if not SAFE.fullmatch(value):
            raise ArgumentError(f"{key} has a character that tor cannot publish: use a-z, 0-9, . _ - and /")
    if len(serialize_arguments(found)) > MAX_LINE:
        raise ArgumentError(f"the bridge line would have more than {MAX_LINE} bytes: use a shorter name")
    return found


def _front(front: Front) -> str:
    """As in a link, without the characters that tor gets wrong."""
    return front.serialize().replace(";", "/").replace("=", "*")


def _fronts(text: str) -> list[Front]:
    """What :func:`_front` wrote."""
    return [Front.parse(each.replace("/", ";").replace("*", "=")) for each in text.split("!")]


def fronts_for(fronts: Sequence[Front], codecs: tuple[str, ...]) -> tuple[Front, ...]:
    """``fronts`` as a transport with these codecs uses them; those that speak none are left out."""
    kept = []
    for front in fronts:
        spoken = tuple(codec for codec in front.codecs if codec in codecs)
        if spoken or not front.codecs:
            kept.append(replace(front, codecs=spoken))
    return tuple(kept)


def _choice(arguments: Mapping[str, str], key: str, values: tuple[str, ...]) -> str:
    """One of ``values``, the first when absent."""
    value = arguments.get(key, values[0])
    if value not in values:
        raise ValueError(f"{key} is one of {', '.join(values)}")
    return value


def _codecs(text: str | None, allowed: tuple[str, ...]) -> tuple[str, ...]:
    if text is None:
        return allowed
    named = text.split("+")
    kept = tuple(codec for codec in named if codec in allowed)
    if not kept:
        raise ValueError("it speaks no codec of this transport")
    return kept


def _encode(data: bytes) -> str:
    """base64url without padding (RFC 4648 section 5)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _digest(text: str, what: str) -> bytes:
    """32 bytes in their one spelling."""
    try:
        data = base64.b64decode(f"{text}=", b"-_", validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if len(data) != 32 or _encode(data) != text:
        raise ValueError(f"{what} is not 43 characters of base64url: is it cut off?")
    return data
