"""What the value of one setting may be: a type for each kind, read from what YAML gave.

Each reads as leniently as a person writes (one or a list, ``30s``, ``16 MiB``) and refuses with
what would be right. Relative paths start at the folder of the file (``context["folder"]``), codec
names are checked against ``context["codecs"]``.
"""

from __future__ import annotations

import base64
import ipaddress
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, PlainValidator, ValidationInfo

from ptproxy.config.forwards import MAX_FORWARDS, Forward
from ptproxy.config.link import Front, Link, check_codecs, check_pages, check_path
from ptproxy.config.quantities import (
    Endpoint,
    SiteUrl,
    parse_address,
    parse_duration,
    parse_host,
    parse_listen,
    parse_site,
    parse_size,
)
from ptproxy.config.reverses import MAX_REVERSES, Reverse

MAX_WEIGHTS: Final = 64
"""Bridges that have a weight of their own: as many as are remembered."""
MAX_WEIGHT: Final = 1000


_SOURCES = ("invite", "lines", "list", "chat")
_SHAPES = ("none", "chat", "browse", "bulk")
"""The built-in shapes, and none: what is not one of these is a file."""


def _folder(info: ValidationInfo) -> Path:
    """The folder that relative paths start from."""
    context: dict[str, Any] = info.context or {}
    folder: Path = context.get("folder", Path.cwd())
    return folder


def _path(value: object, info: ValidationInfo) -> Path:
    if isinstance(value, Path):
        return _folder(info) / value
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError("expected a file name, as in cert.pem or /etc/ptproxy/cert.pem")
    return _folder(info) / Path(value).expanduser()


def read_listen(value: object, info: ValidationInfo) -> tuple[Endpoint, ...]:
    """One address to listen on, or several, each once; ValueError for anything else."""
    texts = value if isinstance(value, list) else [value]
    if not texts:
        raise ValueError("expected at least one address, as in 127.0.0.1:1080")
    endpoints = tuple(parse_listen(text, _folder(info)) for text in texts)
    for endpoint in endpoints:
        if endpoints.count(endpoint) > 1 and endpoint.port:
            raise ValueError(f"{endpoint} stands twice")
    return endpoints


def _names(value: object) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("expected a codec's name or a list of them, as in [websocket, http]")
    return check_codecs(tuple(names))


def _codecs(value: object, info: ValidationInfo) -> tuple[str, ...]:
    names = _names(value)
    known: tuple[str, ...] | None = (info.context or {}).get("codecs")
    for name in names:
        if known is not None and name not in known:
            raise ValueError(f"there is no codec {name!r}; known are {', '.join(known)}")
    return names


def _pages(value: object) -> tuple[str, ...]:
    pages = [value] if isinstance(value, str) else value
    if not isinstance(pages, list) or not all(isinstance(page, str) for page in pages):
        raise ValueError("expected a page or a list of pages, as in [/, /about.html]")
    return check_pages(tuple(pages))


def read_text(value: object) -> str:
    """Text and nothing that YAML reads as something else; ValueError otherwise."""
    if not isinstance(value, str):
        raise ValueError("expected text")
    return value


def _link(value: object) -> Link:
    return Link.parse(read_text(value))


def _links(value: object) -> tuple[Link, ...]:
    items = value if isinstance(value, list) else [value]
    links = tuple(_link(item) for item in items)
    if len({(link.host, link.port) for link in links}) != len(links):
        raise ValueError("each bridge is named once")
    return links


def _fronts(value: object) -> tuple[Front, ...]:
    return tuple(Front.parse(text) for text in _texts(value))


def _public_key(value: object) -> bytes:
    text = read_text(value)
    try:
        key = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        key = b""
    if len(key) != 32 or base64.urlsafe_b64encode(key).rstrip(b"=").decode("ascii") != text:
        raise ValueError("expected a public key: 43 characters of base64url")
    return key


def _sources(value: object) -> tuple[str, ...]:
    names = _texts(value)
    for name in names:
        if name not in _SOURCES or names.count(name) > 1:
            raise ValueError(f"expected some of {', '.join(_SOURCES)}, each once")
    return names


def _weights(value: object) -> dict[str, float]:
    """Numbers by ``HOST:PORT``, in the one spelling of each."""
    if not isinstance(value, dict) or len(value) > MAX_WEIGHTS:
        raise ValueError(f"expected at most {MAX_WEIGHTS} lines HOST:PORT: NUMBER")
    weights = {}
    for place, weight in value.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= MAX_WEIGHT:
            raise ValueError(f"a weight is a number from 0 to {MAX_WEIGHT}, as in bridge.example:443: 3")
        weights[str(parse_address(read_text(place)))] = float(weight)
    return weights


def _list_place(value: object, info: ValidationInfo) -> str | Path:
    if not isinstance(value, str) or "://" not in value:
        return _path(value, info)
    if not value.startswith("https://") or not value.isascii() or not value.isprintable():
        raise ValueError("expected a file, or an address that starts with https://")
    return value


def _networks(value: object) -> tuple[str, ...]:
    texts = _texts(value)
    for text in texts:
        try:
            ipaddress.ip_network(text)
        except ValueError:
            raise ValueError(f"{text[:50]!r} is no network, as in 127.0.0.0/8") from None
    return texts


def _texts(value: object) -> tuple[str, ...]:
    items = value if isinstance(value, list) else [value]
    if any(isinstance(item, bool) or not isinstance(item, str | int) for item in items):
        raise ValueError("expected text or a list of texts")
    return tuple(str(item) for item in items)


def _trust(value: object, info: ValidationInfo) -> str | Path:
    return value if isinstance(value, str) and value in ("pin", "system") else _path(value, info)


def _shape(value: object, info: ValidationInfo) -> str | Path:
    if value == "auto":
        raise ValueError(
            "auto is for clients, which follow the bridge: write browse, chat, bulk, none or a file"
        )
    return value if isinstance(value, str) and value in _SHAPES else _path(value, info)


def _followed_shape(value: object, info: ValidationInfo) -> str | Path:
    return value if value == "auto" and isinstance(value, str) else _shape(value, info)


def _forwards(value: object) -> tuple[Forward, ...]:
    texts = value if isinstance(value, list) else [value]
    forwards = tuple(each if isinstance(each, Forward) else Forward.parse(each) for each in texts)
    if len(forwards) > MAX_FORWARDS:
        raise ValueError(f"at most {MAX_FORWARDS} forwards")
    for forward in forwards:
        same = [each for each in forwards if (each.kind, each.listen) == (forward.kind, forward.listen)]
        if len(same) > 1 and forward.listen.port:
            raise ValueError(f"{forward.listen} stands twice")
    return forwards


def _reverses(value: object) -> tuple[Reverse, ...]:
    texts = value if isinstance(value, list) else [value]
    reverses = tuple(Reverse.parse(each) for each in texts)
    if len(reverses) > MAX_REVERSES:
        raise ValueError(f"at most {MAX_REVERSES} reverses")
    ports = [each.port for each in reverses]
    for port in ports:
        if ports.count(port) > 1:
            raise ValueError(f"port {port} stands twice")
    return reverses


def _listening_ip(value: object) -> str:
    try:
        return str(ipaddress.ip_address(read_text(value)))
    except ValueError:
        raise ValueError("expected an IP address, as in 127.0.0.1 or 0.0.0.0") from None


def _local(value: object) -> Endpoint:
    endpoint = parse_listen(value)
    if not endpoint.is_local or endpoint.unix is not None:
        raise ValueError(f"{endpoint}: only for programs of this machine: write 127.0.0.1 or [::1]")
    return endpoint


def _measures(value: object, info: ValidationInfo) -> Endpoint:
    endpoint = parse_listen(value, _folder(info))
    if not endpoint.is_local:
        raise ValueError(
            f"{endpoint}: measures tell how many use a bridge, and when: write 127.0.0.1, [::1] or unix:PATH"
        )
    return endpoint


File = Annotated[Path, PlainValidator(_path)]
Listen = Annotated[tuple[Endpoint, ...], PlainValidator(read_listen)]
Address = Annotated[Endpoint, PlainValidator(parse_address)]
Forwards = Annotated[tuple[Forward, ...], PlainValidator(_forwards)]
Reverses = Annotated[tuple[Reverse, ...], PlainValidator(_reverses)]
ListeningIp = Annotated[str, PlainValidator(_listening_ip)]
MeasuresPlace = Annotated[Endpoint, PlainValidator(_measures)]
LocalPort = Annotated[Endpoint, PlainValidator(_local)]
Size = Annotated[int, PlainValidator(parse_size)]
Duration = Annotated[float, PlainValidator(parse_duration)]
Pages = Annotated[tuple[str, ...], PlainValidator(_pages)]
Codecs = Annotated[tuple[str, ...], PlainValidator(_codecs)]
Count = Annotated[int, Field(ge=1, le=10_000_000)]
Texts = Annotated[tuple[str, ...], PlainValidator(_texts)]
HostName = Annotated[str, PlainValidator(lambda value: parse_host(read_text(value)))]
UrlPath = Annotated[str, PlainValidator(lambda value: check_path(read_text(value)))]
BridgeLink = Annotated[Link, PlainValidator(_link)]
Links = Annotated[tuple[Link, ...], PlainValidator(_links)]
Fronts = Annotated[tuple[Front, ...], PlainValidator(_fronts)]
PublicKey = Annotated[bytes, PlainValidator(_public_key)]
Sources = Annotated[tuple[str, ...], PlainValidator(_sources)]
Weights = Annotated[dict[str, float], PlainValidator(_weights)]
ListPlace = Annotated[str | Path, PlainValidator(_list_place)]
Networks = Annotated[tuple[str, ...], PlainValidator(_networks)]
Off = BeforeValidator(lambda value: "off" if value is False else value)
"""YAML reads a plain ``off`` as false."""
Trust = Annotated[str | Path, PlainValidator(_trust)]
SiteChoice = Annotated[str | SiteUrl, PlainValidator(parse_site)]
ShapeChoice = Annotated[str | Path, PlainValidator(_shape)]
FollowedShape = Annotated[str | Path, PlainValidator(_followed_shape)]
Loop = Literal["auto", "uvloop", "asyncio"]
