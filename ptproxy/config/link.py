"""The bridge link: everything a client needs to know of one bridge, in one line of text.

    ptproxy://KEY@HOST:PORT?path=/x&pages=/,/a&name=N&codecs=a,b&cert=PIN&seal=1&binding=none&fronts=F,G&token=T

==========  =====================================================================================
KEY         the bridge's X25519 public key, base64url without padding (43 characters)
HOST:PORT   where to connect; an IPv6 address in brackets
path        the secret path of the codecs' requests; ``/`` when absent
pages       pages of the site, one of which a client visits first; ``/`` when absent
name        the TLS server name; HOST when absent
codecs      what the bridge speaks, in its order of preference (required)
cert        SHA-256 of the leaf certificate, base64url (43 characters); absent: the authorities decide
seal        ``1``: payload is sealed inside TLS as well (a CDN terminates it)
binding     ``none``: openings are not bound to the certificate; only together with ``seal=1``
fronts      where else the same bridge is reached, the best first (see below)
token       the invite: 16 bytes, base64url (22 characters); whoever holds it can enrol
==========  =====================================================================================

A further front is ``HOST:PORT``, and after semicolons ``name=N``, ``codecs=a+b``, ``cert=PIN``, each at
most once, in this order: another port or address family of the same server, or a CDN's. Without ``name``
the server name is the link's; without ``codecs`` all of the link's are spoken there; without ``cert`` the
link's pin holds where the server name is the link's, and elsewhere the authorities decide (a CDN renews its
certificates when it likes). Path, pages, seal and binding are the link's: a bridge with a CDN
among its fronts has ``seal=1`` and ``binding=none`` for all of them.

Values are percent-encoded where a URL demands it. Reading is strict: an unknown,
repeated or empty parameter is an error, so that a damaged link is noticed here
and not as a connection that mysteriously fails. One link has one spelling:
``Link.parse(text).serialize()`` is canonical.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from ptproxy.config.quantities import Endpoint, parse_address, parse_host

SCHEME: Final = "ptproxy"
MAX_LINK: Final = 2048
"""Longest link in characters; usual ones have 200 to 300 and fit a QR code."""
MAX_PATH: Final = 256
"""Longest secret path in characters: request heads must look ordinary."""
MAX_CODECS: Final = 16
"""Codecs a link may name."""
MAX_PAGES: Final = 16
"""Pages a link may name."""
MAX_FRONTS: Final = 7
"""Further fronts of a link: with the first one eight."""

_PARAMETERS: Final = ("path", "pages", "name", "codecs", "cert", "seal", "binding", "fronts", "token")
_FRONT_PARAMETERS: Final = ("name", "codecs", "cert")
_CODEC = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_PATH = re.compile(r"/[A-Za-z0-9._~!$'()*+,;=:@/-]*")


def check_path(path: str) -> str:
    """``path`` if it can be a codec's secret path; raises :class:`ValueError`."""
    if (
        not _PATH.fullmatch(path)
        or len(path) > MAX_PATH
        or "//" in path
        or {".", ".."} & set(path.split("/"))
    ):
        raise ValueError(
            f"{path[:60]!r} cannot be the path: write a plain URL path that starts with /, as in /assets/live"
        )
    return path


def check_pages(pages: tuple[str, ...]) -> tuple[str, ...]:
    """``pages`` if they can be pages to visit, none twice; raises :class:`ValueError`."""
    if not 0 < len(pages) <= MAX_PAGES or len(set(pages)) != len(pages):
        raise ValueError(f"expected 1 to {MAX_PAGES} different pages, as in [/, /about.html]")
    for page in pages:
        if "," in page or not _PATH.fullmatch(page) or len(page) > MAX_PATH:
            raise ValueError(
                f"{page[:60]!r} cannot be a page to visit: write a plain URL path, as in /about.html"
            )
    return pages


def check_codecs(codecs: tuple[str, ...]) -> tuple[str, ...]:
    """``codecs`` if they can be codec names, none twice; raises :class:`ValueError`."""
    for name in codecs:
        if not _CODEC.fullmatch(name):
            raise ValueError(f"{name[:40]!r} is no codec name: a-z, 0-9, _ and -, as in websocket")
    if not codecs:
        raise ValueError("at least one codec is needed, as in websocket")
    if len(set(codecs)) != len(codecs) or len(codecs) > MAX_CODECS:
        raise ValueError(f"each codec is named once, at most {MAX_CODECS} of them")
    return codecs


@dataclass(frozen=True, slots=True)
class Front:
    """Where else a bridge is reached; empty fields are the link's own."""

    host: str
    port: int
    server_name: str = ""
    codecs: tuple[str, ...] = ()
    pin: bytes | None = None
    """32 bytes, or None: the link's where the server name is, else the authorities decide."""

    def __post_init__(self) -> None:
        if not 0 < self.port < 65536 or (self.pin is not None and len(self.pin) != 32):
            raise ValueError("a front has a port from 1 to 65535, and a certificate pin 32 bytes")
        for host in (self.host, self.server_name or self.host):
            if parse_host(host) != host:
                raise ValueError("host and server name must be written in ASCII and lower case")
        if self.codecs:
            check_codecs(self.codecs)

    @classmethod
    def parse(cls, text: str) -> Front:
        """Read ``HOST:PORT;name=N;codecs=a+b;cert=PIN``; raises :class:`ValueError`."""
        address, *parts = text.split(";")
        endpoint = parse_address(address)
        values: dict[str, str] = {}
        order = -1
        for part in parts:
            name, equals, value = part.partition("=")
            if name not in _FRONT_PARAMETERS or not equals or not value:
                raise ValueError(
                    "a front of the link is damaged: it reads HOST:PORT;name=N;codecs=a+b;cert=PIN"
                )
            if _FRONT_PARAMETERS.index(name) <= order:
                raise ValueError(f"{name} of a front of the link stands twice, or too late")
            order = _FRONT_PARAMETERS.index(name)
            values[name] = value
        return cls(
            endpoint.host,
            endpoint.port,
            parse_host(values["name"]) if "name" in values else "",
            tuple(values["codecs"].split("+")) if "codecs" in values else (),
            _decode(values["cert"], 32, "certificate pin of a front") if "cert" in values else None,
        )

    def serialize(self) -> str:
        """Its one spelling."""
        parts = [str(Endpoint(self.host, self.port))]
        if self.server_name:
            parts.append(f"name={self.server_name}")
        if self.codecs:
            parts.append(f"codecs={'+'.join(self.codecs)}")
        if self.pin is not None:
            parts.append(f"cert={_encode(self.pin)}")
        return ";".join(parts)


def check_fronts(
    fronts: tuple[Front, ...], own: tuple[str, int], codecs: tuple[str, ...]
) -> tuple[Front, ...]:
    """``fronts`` if a bridge at ``own`` that speaks ``codecs`` can have them; raises :class:`ValueError`."""
    if len(fronts) > MAX_FRONTS:
        raise ValueError(f"a bridge has at most {MAX_FRONTS} further fronts")
    places = [own, *((front.host, front.port) for front in fronts)]
    if len(set(places)) != len(places):
        raise ValueError("each front of a bridge is named once")
    for front in fronts:
        if not set(front.codecs) <= set(codecs):
            raise ValueError("a front speaks a codec that the bridge does not")
    return fronts


@dataclass(frozen=True, slots=True)
class Link:
    """One bridge as its clients see it; the fields are the module's table."""

    key: bytes
    """32 bytes: the bridge's X25519 public key."""
    host: str
    port: int
    path: str
    server_name: str
    codecs: tuple[str, ...]
    pin: bytes | None = None
    """32 bytes: SHA-256 of the leaf certificate (DER), or None."""
    seal: bool = False
    binding: bool = True
    token: bytes = field(default=b"", repr=False)
    """16 bytes, or none."""
    pages: tuple[str, ...] = ("/",)
    """What a client that looks like a browser visits first: one of these."""
    fronts: tuple[Front, ...] = ()
    """Where else this bridge is reached."""

    def __repr__(self) -> str:
        # Whoever has the key and the path can use the bridge: they are nothing for logs and tracebacks.
        return f"<Link {self.host}:{self.port}>"

    def __post_init__(self) -> None:
        if (
            len(self.key) != 32
            or (self.pin is not None and len(self.pin) != 32)
            or len(self.token) not in (0, 16)
        ):
            raise ValueError("a bridge key and a certificate pin have 32 bytes, an invite token 16")
        if not 0 < self.port < 65536:
            raise ValueError(f"port {self.port} is not between 1 and 65535")
        if parse_host(self.host) != self.host or parse_host(self.server_name) != self.server_name:
            raise ValueError("host and server name must be written in ASCII and lower case")
        check_path(self.path)
        check_codecs(self.codecs)
        check_pages(self.pages)
        check_fronts(self.fronts, (self.host, self.port), self.codecs)
        if not self.binding and not self.seal:
            raise ValueError(
                "binding=none needs seal=1: without either, whoever terminates TLS could read along"
            )

    @classmethod
    def parse(cls, text: str) -> Link:
        """Read a link; raises :class:`ValueError` saying what is wrong, never repeating a secret."""
        text = text.strip()
        if not text.startswith(f"{SCHEME}://"):
            raise ValueError(f"a bridge link starts with {SCHEME}://")
        if (
            len(text) > MAX_LINK
            or not text.isascii()
            or any(ord(letter) <= 32 or ord(letter) > 126 for letter in text)
        ):
            raise ValueError(
                f"a bridge link is one line of at most {MAX_LINK} ASCII characters without spaces"
            )
        authority, question, query = text.removeprefix(f"{SCHEME}://").partition("?")
        key_text, at, address = authority.partition("@")
        if not at or not question or "#" in text:
            raise ValueError(
                f"a bridge link reads {SCHEME}://KEY@HOST:PORT?path=…&codecs=…: is a part cut off?"
            )
        key = _decode(key_text, 32, "bridge key")
        endpoint = parse_address(address.removesuffix("/"))
        values = _parameters(query)
        if "codecs" not in values:
            raise ValueError("the link names no codecs: is its end cut off?")
        for name, only in (("seal", "1"), ("binding", "none")):
            if values.get(name, only) != only:
                raise ValueError(f"{name} in the link can only be {only!r}")
        link = cls(
            key=key,
            host=endpoint.host,
            port=endpoint.port,
            path=values.get("path", "/"),
            server_name=parse_host(values.get("name", endpoint.host)),
            codecs=tuple(values["codecs"].split(",")),
            pages=tuple(values.get("pages", "/").split(",")),
            pin=_decode(values["cert"], 32, "certificate pin") if "cert" in values else None,
            seal="seal" in values,
            binding="binding" not in values,
            token=_decode(values["token"], 16, "invite token") if "token" in values else b"",
            fronts=tuple(Front.parse(text) for text in values["fronts"].split(","))
            if "fronts" in values
            else (),
        )
        if len(link.serialize()) > MAX_LINK:  # it is kept in that spelling, and has to be read again
            raise ValueError(f"a bridge link has at most {MAX_LINK} characters, with all that a URL encodes")
        return link

    def by_front(self) -> tuple[Link, ...]:
        """The bridge by each of its fronts, its own first: links that name one front only."""
        return (replace(self, fronts=()), *(self._through(front) for front in self.fronts))

    def _through(self, front: Front) -> Link:
        """The same bridge by that front."""
        elsewhere = front.server_name not in ("", self.server_name)
        return replace(
            self,
            host=front.host,
            port=front.port,
            server_name=front.server_name or self.server_name,
            codecs=tuple(codec for codec in self.codecs if codec in front.codecs)
            if front.codecs
            else self.codecs,
            pin=front.pin if front.pin is not None or elsewhere else self.pin,
            fronts=(),
        )

    def serialize(self) -> str:
        """The link's one canonical spelling."""
        values = {"path": "" if self.path == "/" else self.path}
        values["pages"] = "" if self.pages == ("/",) else ",".join(self.pages)
        values["name"] = "" if self.server_name == self.host else self.server_name
        values["codecs"] = ",".join(self.codecs)
        values["cert"] = "" if self.pin is None else _encode(self.pin)
        values["seal"] = "1" if self.seal else ""
        values["binding"] = "" if self.binding else "none"
        values["fronts"] = ",".join(front.serialize() for front in self.fronts)
        values["token"] = _encode(self.token)
        query = "&".join(f"{name}={quote(value, safe='/,:;=+')}" for name, value in values.items() if value)
        return f"{SCHEME}://{_encode(self.key)}@{Endpoint(self.host, self.port)}?{query}"


def _parameters(query: str) -> dict[str, str]:
    """The parameters of a link, each at most once, all known, none empty."""
    values: dict[str, str] = {}
    for part in query.split("&"):
        name, _, encoded = part.partition("=")
        if name not in _PARAMETERS:
            shown = name[:20] if name.isalnum() else "…"
            raise ValueError(
                f"unknown parameter {shown!r} in the link: it is damaged, or a newer ptproxy made it"
            )
        if name in values:
            raise ValueError(f"{name} stands twice in the link")
        if not re.fullmatch(r"(?:[^%]|%[0-9A-Fa-f]{2})+", encoded):
            raise ValueError(f"{name} in the link is empty or wrongly encoded")
        try:
            values[name] = unquote_to_bytes(encoded).decode("ascii")
        except UnicodeDecodeError:
            raise ValueError(f"{name} in the link is not ASCII") from None
    return values


def _encode(data: bytes) -> str:
    """base64url without padding (RFC 4648 section 5)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decode(text: str, length: int, what: str) -> bytes:
    """Exactly ``length`` bytes of unpadded, canonical base64url; raises :class:`ValueError`."""
    characters = (length * 4 + 2) // 3
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)) if len(text) == characters else b""
    except (ValueError, binascii.Error):
        data = b""
    if len(data) != length or _encode(data) != text:
        raise ValueError(
            f"the {what} in the link is not {characters} characters of base64url: is it cut off?"
        )
    return data
