"""What tor and Shadowsocks tell the program, and what tor's own protocols say."""

from __future__ import annotations

import json
import struct

from fuzz_target import Reach, Table, cut, uncut

from ptproxy.config.link import Link
from ptproxy.errors import CodecError, StartError
from ptproxy.pt.arguments import (
    ArgumentError,
    parse_options,
    parse_server_options,
    parse_socks,
    serialize_options,
)
from ptproxy.pt.bridge_line import line_arguments, parse_line
from ptproxy.pt.extorport import COOKIE_HEADER, ExtOrPort, ExtOrPortError, parse_cookie
from ptproxy.pt.identity import Identity
from ptproxy.pt.sip003_environment import read_plugin
from ptproxy.pt.tor_environment import parse_place, read
from ptproxy.pt.tor_lines import client_method_error, log
from ptproxy.pt.upgrade import UpgradeAnswer, accept_upgrade
from ptproxy.pt.wanted import Wanted
from ptproxy.pt.webtunnel_line import parse_webtunnel
from ptproxy.tunnel.boring.symbols import parse_image
from ptproxy.tunnel.chromium.devtools import MessageReader

TABLE = Table("pt")
LINK = Link(bytes(range(32)), "example.org", 443, "/a", "example.org", ("websocket",), pin=bytes(32))
CODECS = ("websocket", "http")
LINE = serialize_options(line_arguments(LINK, CODECS)).encode()
WEBTUNNEL = b"url=https://example.org:8443/secret;addr=192.0.2.1:443;servername=a.example;ver=0.0.1"


@TABLE.target(
    "arguments",
    Reach.LOCAL,
    "client, bridge",
    ArgumentError,
    seeds=lambda: [LINE, WEBTUNNEL, b"ptproxy:name=x;other:a=b\\;c", b"a\\=b=c;bare"],
)
def arguments(data: bytes) -> None:
    """Arguments in each of three forms; what is read is written so that it is read the same."""
    text = data.decode("utf-8", "replace")
    for parse in (parse_options, parse_server_options):
        try:
            parse(text)
        except ArgumentError:
            continue
    found = parse_options(text)
    assert parse_options(serialize_options(found)) == found
    parse_socks(data, b"\0")


@TABLE.target("line", Reach.LOCAL, "client", ArgumentError, seeds=lambda: [LINE, WEBTUNNEL])
def line(data: bytes) -> None:
    """A bridge line of ptproxy's, and one of WebTunnel's."""
    found = parse_options(data.decode("utf-8", "replace"))
    try:
        parse_webtunnel(found)
    except ArgumentError:
        parse_line(found, CODECS, "192.0.2.1", 443)


ENVIRONMENTS = (
    (
        b"TOR_PT_SERVER_TRANSPORTS=ptproxy\nTOR_PT_STATE_LOCATION=/s\nTOR_PT_ORPORT=127.0.0.1:9001\nTOR_PT_SERVER_BINDADDR=ptproxy-[::]:443\n"
        b"TOR_PT_SERVER_TRANSPORT_OPTIONS=ptproxy:name=x"
    ),
    b"TOR_PT_CLIENT_TRANSPORTS=ptproxy,webtunnel\nTOR_PT_STATE_LOCATION=/s\nTOR_PT_PROXY=socks5://u:p@127.0.0.1:9050",
    b"SS_REMOTE_HOST=::|0.0.0.0\nSS_REMOTE_PORT=443\nSS_LOCAL_HOST=127.0.0.1\nSS_LOCAL_PORT=8388\nSS_PLUGIN_OPTIONS=server;name=x",
)


@TABLE.target("environment", Reach.LOCAL, "client, bridge", StartError, seeds=lambda: ENVIRONMENTS)
def environment(data: bytes) -> None:
    """The environment that a parent sets."""
    pairs = (one.partition("=") for one in data.decode("utf-8", "replace").split("\n"))
    found = {name: value for name, equals, value in pairs if equals and "\0" not in value}
    try:
        read(found)
    except StartError:
        Wanted.parse(dict(read_plugin(found).options))


@TABLE.target("place", Reach.LOCAL, "bridge", ValueError, seeds=lambda: [b"127.0.0.1:1", b"[::1]:65535"])
def place(data: bytes) -> None:
    """An address of tor's."""
    parse_place(data.decode("utf-8", "replace"))


@TABLE.target("told", Reach.BEFORE, "client, bridge", seeds=lambda: [b'text "quoted\\\r\nSMETHOD forged'])
def told(data: bytes) -> None:
    """Hostile text in what tor is told: one line, whatever it holds."""
    text = data.decode("utf-8", "replace")
    for said in (log("notice", text), client_method_error("ptproxy", text)):
        assert "\n" not in said.removesuffix("\n")
        assert "\r" not in said


@TABLE.target(
    "extorport",
    Reach.LOCAL,
    "bridge",
    ExtOrPortError,
    seeds=lambda: uncut(b"\1\2\0" + bytes(64) + b"\1\x10\0\0\0more", COOKIE_HEADER + bytes(32)),
)
def extorport(data: bytes) -> None:
    """tor's extended port, as far as it comes without the cookie; the cookie's file."""
    talk = ExtOrPort(bytes(32), bytes(32), "ptproxy", "192.0.2.1:5")
    try:
        for part in cut(data):
            talk.receive_data(part)
            talk.data_to_send()
        talk.receive_eof()
    except ExtOrPortError:
        parse_cookie(data[1:])


UPGRADE = (
    b"GET /secret HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nrest"
)


@TABLE.target(
    "upgrade",
    Reach.BEFORE,
    "bridge, client",
    CodecError,
    seeds=lambda: uncut(
        UPGRADE, b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nrest"
    ),
)
def upgrade(data: bytes) -> None:
    """WebTunnel's upgrade, on both sides."""
    accept_upgrade(data[1:], "/secret")
    answer = UpgradeAnswer()
    for part in cut(data):
        if answer.receive_data(part):
            return


@TABLE.target(
    "identity",
    Reach.DISK,
    "bridge",
    ValueError,
    seeds=lambda: [json.dumps(Identity(bytes(32), "/a", "a.example", bytes(32)).serialize()).encode()],
)
def identity(data: bytes) -> None:
    """A bridge's identity under tor."""
    try:
        found = json.loads(data)
    except RecursionError:
        return
    if isinstance(found, dict):
        made = Identity.parse(found)
        assert Identity.parse(made.serialize()) == made


@TABLE.target(
    "devtools", Reach.LOCAL, "client", ValueError, seeds=lambda: uncut(b'{"id":1}\0{"method":"x"}\0')
)
def devtools(data: bytes) -> None:
    """What the browser says on its pipe."""
    reader = MessageReader()
    for part in cut(data):
        reader.receive_data(part)


def _elf() -> bytes:
    head = (
        b"\x7fELF\x02\x01\x01"
        + bytes(9)
        + struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 120, 0, 64, 56, 1, 64, 3, 0)
    )
    program = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, 400, 400, 4096)
    sections = (
        bytes(64)
        + struct.pack("<IIQQQQIIQQ", 0, 2, 0, 0, 312, 48, 2, 0, 8, 24)
        + struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, 360, 9, 0, 0, 1, 0)
    )
    symbols = bytes(24) + struct.pack("<IBBHQQ", 1, 0x12, 0, 1, 16, 8)
    return head + program + sections + symbols + b"\0SSL_new\0" + bytes(60)


@TABLE.target("symbols", Reach.DISK, "client", StartError, seeds=lambda: [_elf()])
def symbols(data: bytes) -> None:
    """The symbol table of the browser's TLS library."""
    image = parse_image(data, frozenset({"SSL_new", "SSL_free"}))
    for address in image.functions.values():
        image.first_bytes(address)
