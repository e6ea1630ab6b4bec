"""What the roles read beside the tunnel: DNS, a bridge's web site, reverse ports, pushes, rules, files."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from fuzz_target import Reach, Table, Tape, cut, piece, uncut

from ptproxy.auth import ReplayFilter
from ptproxy.auth.signed import SignedDocument
from ptproxy.codec.browser import Browser
from ptproxy.config.document import parse as parse_document
from ptproxy.config.forwards import Forward
from ptproxy.config.quantities import (
    parse_address,
    parse_duration,
    parse_host,
    parse_listen,
    parse_site,
    parse_size,
)
from ptproxy.config.reverses import Reverse
from ptproxy.config.upstream import UpstreamProxy
from ptproxy.errors import ConfigError, LocalProtocolError, RemoteProtocolError, StateError
from ptproxy.log import scrub_text
from ptproxy.proxy.dns import DnsError, Query
from ptproxy.proxy.policy import Rule, RuleError
from ptproxy.proxy.reverse_frames import (
    FROM_BRIDGE,
    FROM_CLIENT,
    Alive,
    Arrived,
    FrameReader,
    Offer,
    Offered,
    Refused,
    ReverseError,
    Take,
    Why,
)
from ptproxy.proxy.reverse_frames import (
    Reach as Reachable,
)
from ptproxy.proxy.shape_follow import PushReader, read_body
from ptproxy.proxy.this_machine import Page, answer_to
from ptproxy.proxy.web_pages import Pages, normal_path
from ptproxy.proxy.web_request import RequestReader
from ptproxy.tunnel.recognise import by_beginning
from ptproxy.ways.memory import Ways

TABLE = Table("proxy")
QUERY = b"\x12\x34\x01\x00\x00\x01\0\0\0\0\0\1\7example\3org\0\0\1\0\1\0\0\x29\x04\xd0\0\0\0\0\0\0"


@TABLE.target(
    "dns", Reach.LOCAL, "client", DnsError, seeds=lambda: [piece(QUERY) + QUERY[:2] + b"\x81\x80" + QUERY[4:]]
)
def dns(data: bytes) -> None:
    """A program's query, and what a resolver answers to it."""
    tape = Tape(data)
    query = Query.parse(tape.piece())
    query.failed()
    assert len(query.answer(tape.rest())) <= max(query.room, 600)


FRAMES = (
    Offer(8080),
    Take(bytes(16)),
    Alive(),
    Offered(Reachable.OTHERS),
    Refused(Why.NOT_PERMITTED),
    Arrived(bytes(16)),
)


@TABLE.target(
    "reverse",
    Reach.AFTER,
    "bridge, client",
    ReverseError,
    seeds=lambda: [
        bytes((side,)) + one for side in (0, 1) for one in uncut(*(frame.serialize() for frame in FRAMES))
    ],
)
def reverse(data: bytes) -> None:
    """Frames about ports that a client offers."""
    reader = FrameReader(FROM_CLIENT if data[:1] == b"\1" else FROM_BRIDGE)
    for part in cut(data[1:]):
        reader.receive_data(part)
        while (frame := reader.next_frame()) is not None:
            assert type(frame).parse(frame.serialize()[2:]) == frame


WEB = (
    b"GET /a/../%2e/b?c HTTP/1.1\r\nHost: a.org\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;a\r\nabc\r\n0\r\nT: x\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\nx",
    b"GET /\r\n",
    b"\r\n\r\nOPTIONS * HTTP/1.1\nHost: [::1]:80\n\n",
    b"PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
)
PAGES: list[Any] = []


def pages() -> Any:
    """The built-in web site's pages, read once."""
    if not PAGES:
        PAGES.append(Pages(Path(str(files("ptproxy.proxy") / "builtin_site"))))
    return PAGES[0]


@TABLE.target("web", Reach.BEFORE, "bridge", seeds=lambda: uncut(*WEB))
def web(data: bytes) -> None:
    """Requests of strangers to the web site, as a web server reads them, and its answers."""
    reader = RequestReader()
    for part in cut(data):
        reader.receive_data(part)
        while (request := reader.next_request()) is not None:
            if not request.refusal:
                normal_path(request.uri)
                pages().answer(request, scheme="https", local_port=443, date="now")


@TABLE.target(
    "pac",
    Reach.LOCAL,
    "client",
    seeds=lambda: [
        b"GET /proxy.pac HTTP/1.1\r\nHost: 127.0.0.1:1081\r\n\r\n",
        b"HEAD /proxy.pac HTTP/1.0\r\nHost: localhost\r\n\r\n",
    ],
)
def pac(data: bytes) -> None:
    """A browser that asks for its proxy."""
    pages = {"/proxy.pac": Page(b"application/x-ns-proxy-autoconfig", b"function")}
    assert answer_to(data, pages.get).startswith(b"HTTP/1.1 ")


@TABLE.target(
    "push",
    Reach.AFTER,
    "client",
    RemoteProtocolError,
    seeds=lambda: [
        b"\1" + json.dumps({"shape": None}).encode(),
        b"\0\0\0\0\0\4abcd\0\0\0\1x",
        *(b"\1" + shape for shape in _shapes()),
    ],
    longest=16384,
)
def push(data: bytes) -> None:
    """The stream of pushes, and (1) the shape in one that a bridge has signed."""
    if data[:1] == b"\1":
        read_body(SignedDocument("shape", 1, 0, 0, data[1:]))
        return
    reader = PushReader()
    for part in cut(data[1:]):
        reader.receive_data(part)


def _shapes() -> list[bytes]:
    return [json.dumps({"shape": one}, default=str).encode() for one in _data("shapes")]


def _data(folder: str) -> list[Any]:
    """The data files of a folder of the codec's."""
    return [
        yaml.safe_load(one.read_text("utf-8"))
        for one in sorted((files("ptproxy.codec") / folder).iterdir(), key=str)
        if one.name.endswith(".yaml")
    ]


@TABLE.target(
    "browser",
    Reach.DISK,
    "client",
    LocalProtocolError,
    seeds=lambda: [json.dumps(one, default=str).encode() for one in _data("browsers")],
    longest=16384,
)
def browser(data: bytes) -> None:
    """A browser's data file, as far as JSON goes."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return
    Browser.parse(found)


@TABLE.target(
    "document",
    Reach.LOCAL,
    "bridge, client",
    seeds=lambda: [
        b"listen: 0.0.0.0:443\ntls:\n  certificate: a.pem\negress:\n  deny: [10.0.0.0/8]\n",
        b"a: &x [1, *x]\nb: !!python/object x\n<<: {c: d}\n",
    ],
    longest=8192,
)
def document(data: bytes) -> None:
    """A configuration's YAML: problems are told, not raised."""
    parse_document(data.decode("utf-8", "replace"))


TYPED = (
    b"127.0.0.1:1080",
    b"[::1]:8443",
    b"unix:/run/x",
    b"64 MiB",
    b"1h30m",
    b"10.0.0.0/8:80-90",
    b"*:53",
    b"8080=example.org:80",
    b"socks5://u:p@[::1]:9050",
    b"https://a.example/x",
    b"caf\xc3\xa9.example",
    b"10.0.0.1, fe80::1%eth0",
)


@TABLE.target("typed", Reach.LOCAL, "bridge, client", seeds=lambda: TYPED)
def typed(data: bytes) -> None:
    """Whatever a person can type into a configuration as one value."""
    text = data.decode("utf-8", "replace")
    for read in (
        parse_address,
        parse_listen,
        parse_host,
        parse_site,
        parse_size,
        parse_duration,
        Forward.parse,
        Reverse.parse,
        UpstreamProxy.parse,
        Rule.parse,
    ):
        try:
            read(text)
        except (ValueError, RuleError):
            continue


@TABLE.target(
    "ways", Reach.DISK, "client", StateError, seeds=lambda: [json.dumps(Ways(bytes(32)).to_dict()).encode()]
)
def ways(data: bytes) -> None:
    """What was remembered of ways to bridges; what is taken can be kept again."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return
    known = Ways(bytes(32))
    known.load(found)
    json.dumps(known.to_dict())


@TABLE.target(
    "replay", Reach.DISK, "bridge", ConfigError, seeds=lambda: [json.dumps(_filled().snapshot()).encode()]
)
def replay(data: bytes) -> None:
    """What was kept of the replay filter; what is taken up refuses as before, and can be put down."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(found, dict):
        taken = ReplayFilter.restore(found)
        taken.check_and_add(bytes(range(32)), 1_800_000_000, 1_800_000_001.0)
        ReplayFilter.restore(taken.snapshot())


def _filled() -> ReplayFilter:
    made = ReplayFilter(1_800_000_000 - 3600)
    for number in range(3):
        made.check_and_add(bytes((number,)) * 32, 1_800_000_000, 1_800_000_001.0)
    return made


@TABLE.target(
    "log",
    Reach.BEFORE,
    "bridge, client",
    seeds=lambda: [b"ptproxy://key@example.org:443/a?x=y#n", b"\x1b[31m\r\nforged"],
)
def log(data: bytes) -> None:
    """Hostile text in a line of the log; the first bytes of a stream."""
    scrub_text(data.decode("utf-8", "replace"))
    by_beginning(data)
