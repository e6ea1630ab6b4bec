"""A bridge behind nginx, caddy and haproxy, as ``init`` tells them: what passes, and what strangers see."""

from __future__ import annotations

import re
import socket
import ssl

import h2.config
import h2.connection
import h2.events
import pytest
from fronts import SERVERS, Fronted, exchange, masked
from live import (
    HOST,
    MIB,
    PATIENCE,
    Client,
    Clients,
    Echo,
    Origin,
    curl,
    read_exactly,
    serving,
    through,
    until,
)

pytestmark = [pytest.mark.program(name) for name in ("nginx", "curl", "openssl")]

SIZE = 16 * MIB
CODECS = ("http", "websocket")
"""In this order: the web server then has kept connections that spoke http when the first WebSocket comes."""


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    origin = Origin(tmp_path_factory.mktemp("origin"), SIZE)
    yield origin
    origin.stop()


@pytest.fixture(
    scope="module", params=[pytest.param(kind, marks=pytest.mark.program(kind)) for kind in SERVERS]
)
def fronted(request, tmp_path_factory):
    with Fronted(request.param, tmp_path_factory.mktemp(request.param)) as fronted:
        yield fronted


@pytest.fixture(scope="module")
def clients(fronted):
    clients = Clients(fronted.folder, fronted.bridge.link)
    yield clients
    clients.stop()


def elsewhere(fronted, request):
    """The same request for a path of the same length where nothing is."""
    path = fronted.path.encode()
    return request.replace(path, path[:-8] + b"nosuchxx", 1)


def upgrade(request):
    """A GET turned into an upgrade."""
    return request.replace(
        b"\r\n\r\n",
        b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
    )


def stale(fronted):
    """An opening that nobody made: random bytes in the right form, GET and POST."""
    request = fronted.opening("http")
    letters = bytes(reversed(re.search(rb"=([\w-]{100,})", request)[1]))
    get = re.sub(rb"=[\w-]{100,}", b"=" + letters, request)
    return get, get.replace(b"GET ", b"POST ", 1).replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\nabc")


@pytest.mark.parametrize("codec", CODECS)
def test_transfers_pass(fronted, clients, origin, codec, tmp_path):
    proxy = ("--socks5-hostname", f"{HOST}:{clients[codec].port}")
    assert origin.download(*proxy) == (SIZE, origin.digest)
    assert origin.upload(f"{fronted.front.kind}-{codec}", *proxy) == (SIZE, origin.digest)
    assert origin.fetch_all(tmp_path, *proxy) == []
    assert "Traceback" not in fronted.bridge.program.logged()


@pytest.mark.parametrize("codec", CODECS)
def test_a_replayed_opening_is_answered_as_any_visitor(fronted, codec):
    request = fronted.opening(codec)
    first = exchange(fronted.port, request)
    assert first.startswith(b"HTTP/1.1 101 " if codec == "websocket" else b"HTTP/1.1 200 ")
    unknown = exchange(fronted.port, elsewhere(fronted, request))
    assert unknown.startswith(b"HTTP/1.1 404 ")
    for requests in ((request,), (request, request), (elsewhere(fronted, request), request)):
        again = exchange(fronted.port, *requests)
        assert masked(again) == masked(unknown)
        assert masked(exchange(fronted.reference.port, *requests)) == masked(unknown)


def test_the_upgrades_answer_has_what_the_sites_have(fronted):
    """One Server header and one Date, those of the site, and what the operator adds to every answer; the
    extension that browsers ask for is agreed to.
    """

    def headers(answer):
        lines = answer.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
        return sorted(line.split(b": ")[0].lower() for line in lines), [
            line.split(b": ")[1] for line in lines if line.lower().startswith(b"server:")
        ]

    _, server = headers(exchange(fronted.port, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    for codec in CODECS:
        names, ours = headers(exchange(fronted.port, fronted.opening(codec)))
        assert ours == server
        assert names.count(b"date") == 1
        assert names.count(b"strict-transport-security") == 1
        switched = [
            b"connection", b"date", b"sec-websocket-accept", b"sec-websocket-extensions", b"server",
            b"strict-transport-security", b"upgrade",
        ]  # fmt: skip
        assert codec != "websocket" or names == switched


def test_what_is_no_opening_is_the_sites(fronted):
    """Methods, upgrades, cookies and bodies at the secret path: as without a bridge, and as elsewhere."""
    get, post = stale(fronted)
    bare = re.sub(rb"\r\nCookie: [^\r]*", b"", get)
    big = get.replace(b"GET ", b"POST ", 1).replace(
        b"\r\n\r\n", b"\r\nContent-Length: 12000\r\n\r\n" + bytes(12000)
    )
    requests = [get, post, bare, upgrade(get), upgrade(bare), big]
    requests += [get.replace(b"GET ", method + b" ", 1) for method in (b"HEAD", b"OPTIONS", b"PUT", b"FOO")]
    requests += [
        bare.replace(b"\r\n\r\n", b"\r\nCookie: session=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\r\n\r\n"),
        get.replace(b" HTTP/1.1", b"?q=1 HTTP/1.1"),
        post.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"),
    ]
    for request in requests:
        answer = masked(exchange(fronted.port, request))
        assert answer == masked(exchange(fronted.reference.port, request)), request
        assert answer == masked(exchange(fronted.port, elsewhere(fronted, request))), request


def test_an_opening_passes_http2_as_browsers_send_it(fronted):
    """With each cookie in a field of its own (RFC 9113 section 8.2.3)."""
    cookies = re.search(rb"Cookie: ([^\r]*)", fronted.opening("http"))[1].split(b"; ")
    assert len(cookies) == 2
    for expected in (b"200", b"404"):
        assert http2_status(fronted.port, fronted.path, cookies) == expected


def http2_status(port, path, cookies):
    """The status of a GET with these cookies over HTTP/2."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))
    with (
        socket.create_connection((HOST, port), timeout=PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as sock,
    ):
        assert sock.selected_alpn_protocol() == "h2"
        connection.initiate_connection()
        head = {":method": "GET", ":scheme": "https", ":authority": f"localhost:{port}", ":path": path}
        connection.send_headers(
            1, [*head.items(), *((b"cookie", cookie) for cookie in cookies)], end_stream=True
        )
        while True:
            sock.sendall(connection.data_to_send())
            data = sock.recv(65536)
            assert data
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived):
                    return dict(event.headers)[b":status"]


def test_http2_is_offered_and_openings_pass_it(fronted):
    base = f"https://localhost:{fronted.port}"
    trust = (
        "--http2",
        "--cacert",
        fronted.folder / "cert.pem",
        "--resolve",
        f"localhost:{fronted.port}:{HOST}",
    )
    cookie = re.search(rb"Cookie: ([^\r]*)", fronted.opening("http"))[1].decode()
    answers = []
    for path in (fronted.path, fronted.path, "/nosuch"):
        done = curl(*trust, "-i", "-H", f"Cookie: {cookie}", f"{base}{path}")
        assert done.stdout.startswith(b"HTTP/2 "), done.stderr
        answers.append(masked(done.stdout))
    assert answers[0].startswith(b"HTTP/2 200")
    assert answers[1] == answers[2]
    assert answers[1].startswith(b"HTTP/2 404")


def test_a_bridge_that_is_down_is_not_there(fronted, clients, origin):
    """Its path is an unknown one like any other; clients come back when it does."""
    proxy = ("--socks5-hostname", f"{HOST}:{clients['websocket'].port}")
    fetch = ("--fail", *proxy, f"{origin.url}/small/7")
    assert curl(*fetch).returncode == 0
    fronted.bridge.stop()
    try:
        request = fronted.opening("http")
        for stranger in (request, upgrade(request), *stale(fronted)):
            unknown = masked(exchange(fronted.port, elsewhere(fronted, stranger)))
            if fronted.front.kind == "caddy" and stranger.startswith(b"POST"):
                continue  # caddy 2.6 answers 502: it does not try an upload again
            assert masked(exchange(fronted.port, stranger)) == unknown
    finally:
        fronted.bridge.start()
    until(lambda: curl(*fetch).returncode == 0, "the client has come back")


def test_a_chat_goes_on_on_a_websocket_by_a_ticket(fronted, tmp_path):
    """The front lets an upgrade through whose only sign is its key; every line comes back."""
    client = Client(tmp_path / "chat", fronted.bridge.link, "http")
    client.change(codec=["http", "websocket"])
    with serving(Echo) as port, client, through(client.port, port) as sock:
        said = b"NICK bo\r\n"
        sock.sendall(said)
        assert read_exactly(sock, len(said)) == said
        until(lambda: "opened=ahead" in client.program.logged(), "a WebSocket by a ticket")
        for number in range(3):
            line = b"PRIVMSG #here :line %d of the talk\r\n" % number
            sock.sendall(line)
            assert read_exactly(sock, len(line)) == line


@pytest.mark.program("caddy")
@pytest.mark.parametrize("style", ["application", "handled"])
@pytest.mark.parametrize("kind", ["nginx", "caddy"])
def test_whatever_the_site_says_of_unknown_paths(kind, style, tmp_path):
    """Also where that is no 404, and where the site rewrites what it is asked for."""
    with Fronted(kind, tmp_path, style=style) as fronted:
        for codec in CODECS:
            request = fronted.opening(codec)
            first = exchange(fronted.port, request)
            assert first.startswith(b"HTTP/1.1 101 " if codec == "websocket" else b"HTTP/1.1 200 ")
            assert b"A site" not in first
            unknown = masked(exchange(fronted.port, elsewhere(fronted, request)))
            assert unknown.startswith(b"HTTP/1.1 200" if style == "application" else b"HTTP/1.1 410")
            assert masked(exchange(fronted.port, request)) == unknown
            assert masked(exchange(fronted.reference.port, request)) == unknown
