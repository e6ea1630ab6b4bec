"""WebTunnel: Tor Browser's client at our bridge, our client there too, and strangers who meet the site."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import itertools
import os
import random
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pt_live import (
    COOKIE,
    HEADER,
    PATIENCE,
    Threads,
    echo,
    exactly,
    extended_or_port,
    line_of,
    started,
    tor_environment,
)

from ptproxy.errors import CodecError, DialError
from ptproxy.pt.arguments import ArgumentError
from ptproxy.pt.upgrade import UpgradeAnswer, accept_upgrade, upgrade_request
from ptproxy.pt.webtunnel_bridge import UpgradedConnection
from ptproxy.pt.webtunnel_client import WebTunnelWay, _Upgrading
from ptproxy.pt.webtunnel_line import parse_webtunnel, webtunnel_arguments
from ptproxy.target import Target
from ptproxy.tunnel.certificate import self_signed
from ptproxy.tunnel.outward import STRAIGHT
from ptproxy.tunnel.tls import ClientTrust

# What the Go client of Tor Browser writes, byte by byte (net/http's Request.Write with its headers).
GO_REQUEST = (
    b"GET /secret HTTP/1.1\r\nHost: bridge.example\r\nUser-Agent: Go-http-client/1.1\r\n"
    b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n"
)
ANSWER = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"


def test_tor_browsers_request_is_answered_as_it_wants() -> None:
    assert accept_upgrade(GO_REQUEST + b"early", "/secret") == (ANSWER, b"early")


def test_a_key_gets_its_answer() -> None:
    request = GO_REQUEST[:-2] + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    made = accept_upgrade(request, "/secret")
    assert made is not None
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in made[0]  # RFC 6455 section 1.3


@pytest.mark.parametrize(
    "request_",
    [
        GO_REQUEST.replace(b"/secret", b"/secreu"),
        GO_REQUEST.replace(b"/secret", b"/secret/"),
        GO_REQUEST.replace(b"GET", b"POST"),
        GO_REQUEST.replace(b"1.1\r\nHost", b"1.0\r\nHost"),
        GO_REQUEST.replace(b"websocket", b"h2c"),
        GO_REQUEST.replace(b"Connection: upgrade\r\n", b""),
        GO_REQUEST[:-2] + b"Content-Length: 5\r\n\r\nhello",
        GO_REQUEST[:-2] + b"Transfer-Encoding: chunked\r\n\r\n",
        GO_REQUEST[:-2],
        b"",
    ],
)
def test_whatever_is_no_such_request_is_the_sites(request_: bytes) -> None:
    assert accept_upgrade(request_, "/secret") is None


@given(st.binary(max_size=200))
def test_garbage_is_the_sites(data: bytes) -> None:
    assert accept_upgrade(data, "/secret") is None
    assert accept_upgrade(data + b"\r\n\r\n", "/secret") is None
    answer = UpgradeAnswer()
    with contextlib.suppress(CodecError):
        assert not answer.receive_data(data)


def test_our_request_is_one() -> None:
    line = parse_webtunnel(webtunnel_arguments("bridge.example", 8443, "/secret"))
    assert b"Host: bridge.example:8443\r\n" in upgrade_request(line)
    assert accept_upgrade(upgrade_request(line), "/secret") == (ANSWER, b"")


@given(st.lists(st.integers(0, len(ANSWER) + 4), max_size=5))
def test_an_answer_is_read_however_it_is_split(cuts: list[int]) -> None:
    said = ANSWER + b"rest"
    answer, upgraded = UpgradeAnswer(), False
    places = [0, *sorted(cuts), len(said)]
    for start, end in itertools.pairwise(places):
        if upgraded:
            answer.rest += said[start:end]
        else:
            upgraded = answer.receive_data(said[start:end])
    assert upgraded
    assert answer.rest == b"rest"


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 404 Not Found\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
    ],
)
def test_answers_that_are_none(said: bytes) -> None:
    with pytest.raises(CodecError):
        UpgradeAnswer().receive_data(said)


def test_lines_of_the_tor_project() -> None:
    line = parse_webtunnel(
        {"url": "https://example.org/aBc123", "ver": "0.0.3", "utls": "hellorandomizednoalpn"}
    )
    assert (line.host, line.port, line.server_name, line.path) == (
        "example.org",
        443,
        "example.org",
        "/aBc123",
    )
    line = parse_webtunnel(
        {"url": "https://example.org/x", "addr": "192.0.2.1:8443", "servername": "www.example.net"}
    )
    assert (line.host, line.port, line.server_name, line.http_host) == (
        "192.0.2.1", 8443, "www.example.net", "example.org",
    )  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"url": "http://example.org/x"},
        {"url": "https:///x"},
        {"url": "https://example.org:99999/x"},
        {"url": "https://example.org/x?y=z"},
        {"url": "https://example.org/x", "addr": "nowhere"},
        {"url": "https://example.org/x", "cert": "abc"},
        {"url": "https://example.org/x", "fingerprint": "opera"},
    ],
)
def test_lines_that_cannot_be_used(arguments: dict[str, str]) -> None:
    with pytest.raises(ArgumentError):
        parse_webtunnel(arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"url": "https://tell nobody/x"},
        {"url": "https://example.org/tell nobody"},
        {"url": "https://example.org:tell nobody/x"},
        {"url": "https://[tell nobody]/x"},
        {"url": "https://example.org/x", "addr": "tell nobody"},
        {"url": "https://example.org/x", "servername": "tell nobody"},
    ],
)
def test_what_is_wrong_is_said_without_the_value(arguments: dict[str, str]) -> None:
    with pytest.raises(ArgumentError) as caught:
        parse_webtunnel(arguments)
    assert "nobody" not in str(caught.value)


class Paused:
    """A transport that remembers whether it is read."""

    reading = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes) -> None:
        pass

    def set_protocol(self, protocol: object) -> None:
        pass


class Behind(asyncio.Protocol):
    """A side whose own transport has had enough with the first bytes."""

    def connection_made(self, transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.pause_reading()


def test_a_parent_that_is_behind_with_the_first_bytes_is_given_no_more() -> None:
    async def main() -> None:
        transport = Paused()
        UpgradedConnection(transport, ANSWER, b"early", lambda _: None).accept(Behind())
        await asyncio.sleep(0)  # delivered in the loop's next turn
        assert not transport.reading

    asyncio.run(main())


def test_a_tor_that_is_behind_with_the_first_bytes_is_given_no_more() -> None:
    async def main() -> None:
        transport, upgrading, behind = Paused(), _Upgrading(asyncio.get_running_loop()), Behind()
        upgrading.connection_made(transport)
        upgrading.data_received(ANSWER + b"rest")
        behind.connection_made(transport)
        upgrading.inner = behind
        upgrading.go_on()
        assert not transport.reading

    asyncio.run(main())


# ---- both sides over real TLS ---------------------------------------------------------------------------


@contextlib.contextmanager
def certificate(folder: Path) -> Iterator[tuple[Path, Path]]:
    now = datetime.datetime.now(datetime.UTC)
    chain, private = self_signed("bridge.example", now, random.Random(6))
    (folder / "c.pem").write_bytes(chain)
    (folder / "k.pem").write_bytes(private)
    yield folder / "c.pem", folder / "k.pem"


def test_a_bridge_takes_todays_clients_and_shows_strangers_a_site(tmp_path: Path) -> None:
    told: list[tuple[int, bytes]] = []
    (tmp_path / "cookie").write_bytes(HEADER + COOKIE)
    with certificate(tmp_path) as (chain, private), Threads(extended_or_port(told)) as tor:
        # An authority's certificate is what such a bridge needs; one is made of a leaf by our own authority.
        leaf, key = signed_by(chain, private, tmp_path)
        environment = tor_environment(
            tmp_path / "state",
            SERVER_TRANSPORTS="webtunnel", SERVER_BINDADDR="webtunnel-127.0.0.1:0",
            EXTENDED_SERVER_PORT=tor.place, AUTH_COOKIE_FILE=str(tmp_path / "cookie"),
            SERVER_TRANSPORT_OPTIONS=f"webtunnel:name=bridge.example;webtunnel:certificate={leaf};webtunnel:private-key={key}",
        )  # fmt: skip
        with started("tor-pt", environment=environment) as bridge:
            place, arguments = line_of(bridge.line("SMETHOD "))
            port = int(place.rpartition(":")[2])
            line = dict(pair.split("=", 1) for pair in arguments.split(";"))
            assert line["url"].startswith(f"https://bridge.example:{port}/")
            path = "/" + line["url"].rpartition("/")[2]
            context = ssl.create_default_context(cafile=str(chain))

            def connect() -> ssl.SSLSocket:
                sock = socket.create_connection(("127.0.0.1", port), PATIENCE)
                return context.wrap_socket(sock, server_hostname="bridge.example")

            payload = os.urandom(1 << 18)
            with connect() as client:  # as Tor Browser's, which does not wait for the answer either
                client.sendall(GO_REQUEST.replace(b"/secret", path.encode()) + b"early")
                assert exactly(client, len(ANSWER)) == ANSWER
                assert exactly(client, 5) == b"early"
                client.sendall(payload)
                assert exactly(client, len(payload)) == payload
                client.sendall(b"goodbye")
                assert exactly(client, 7) == b"goodbye"
                assert client.recv(1) == b""  # tor's end is the client's
            with connect() as stranger:
                stranger.sendall(GO_REQUEST.replace(b"/secret", b"/other"))
                assert b"404" in stranger.recv(100)
            with connect() as visitor:
                visitor.sendall(b"GET / HTTP/1.1\r\nHost: bridge.example\r\n\r\n")
                assert visitor.recv(100).startswith(b"HTTP/1.1 200")
            asyncio.run(through_our_client(line, port, ClientTrust(authorities=chain)))
    assert dict(told)[0x0002] == b"webtunnel"
    assert dict(told)[0x0001].startswith(b"127.0.0.1:")


async def through_our_client(line: dict[str, str], port: int, trust: ClientTrust) -> None:
    """Our client at that bridge; and with a wrong path at its site."""
    loop = asyncio.get_running_loop()
    for fingerprint in ("python", "chrome"):
        way = WebTunnelWay(loop, STRAIGHT, trust)
        arguments = line | {"addr": f"127.0.0.1:{port}", "fingerprint": fingerprint}
        heard = asyncio.Queue[bytes]()

        class Said(asyncio.Protocol):
            def data_received(self, data: bytes, heard: asyncio.Queue[bytes] = heard) -> None:
                heard.put_nowait(bytes(data))

        stream = await way.dial(arguments, Target("192.0.2.1", 1), Said(), b"he")
        stream.write(b"llo")
        said = b""
        while len(said) < 5:
            said += await heard.get()
        assert said == b"hello"
        stream.close()
        wrong = arguments | {"url": line["url"] + "x"}
        with pytest.raises(DialError):
            await way.dial(wrong, Target("192.0.2.1", 1), asyncio.Protocol(), b"")
        await asyncio.sleep(0)


def signed_by(chain: Path, private: Path, folder: Path) -> tuple[Path, Path]:
    """A leaf for bridge.example, signed by the key of a self-signed certificate."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    root = x509.load_pem_x509_certificate(chain.read_bytes())
    root_key = serialization.load_pem_private_key(private.read_bytes(), None)
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test's authority")])
    now = datetime.datetime.now(datetime.UTC)
    key = ec.generate_private_key(ec.SECP256R1())

    def builder(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )

    del root
    ca = builder(issuer, root_key.public_key()).add_extension(
        x509.BasicConstraints(True, None), critical=True
    )
    chain.write_bytes(ca.sign(root_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bridge.example")])
    made = builder(name, key.public_key()).add_extension(
        x509.SubjectAlternativeName([x509.DNSName("bridge.example")]), critical=False
    )
    leaf, leaf_key = folder / "leaf.pem", folder / "leaf.key"
    leaf.write_bytes(made.sign(root_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    leaf_key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    leaf_key.chmod(0o600)
    return leaf, leaf_key


def test_a_bridge_without_an_authoritys_certificate_is_not_offered(tmp_path: Path) -> None:
    environment = tor_environment(
        tmp_path / "state",
        SERVER_TRANSPORTS="webtunnel", SERVER_BINDADDR="webtunnel-127.0.0.1:0", ORPORT="127.0.0.1:1",
    )  # fmt: skip
    with started("tor-pt", environment=environment) as bridge:
        assert bridge.status() == 1
        assert "certificate" in bridge.line("SMETHOD-ERROR webtunnel ")


def test_a_bridge_that_answers_as_webtunnels_own_does() -> None:
    """Over plain TCP: TLS is shown above, and WebTunnel's own bridge has a web server for that."""

    def go_server(connection: socket.socket) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += exactly(connection, 1)
        assert head.startswith(b"GET /secret HTTP/1.1\r\n")
        connection.sendall(ANSWER + b"first words")
        echo(connection)

    answer = UpgradeAnswer()
    with Threads(go_server) as server, socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(upgrade_request(parse_webtunnel({"url": "https://bridge.example/secret"})))
        while not answer.receive_data(client.recv(7)):
            pass
        rest = answer.rest
        while len(rest) < 11:
            rest += client.recv(64)
        assert rest == b"first words"
