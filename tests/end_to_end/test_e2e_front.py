"""What local programs meet at the client's one port: SOCKS5, SOCKS4a, HTTP, UDP, and true replies."""

from __future__ import annotations

import socket
import socketserver
import struct

import pytest
from live import (
    CODECS,
    HOST,
    MIB,
    PATIENCE,
    Client,
    Origin,
    SocksRefused,
    curl,
    free_port,
    read_exactly,
    serving,
    socks5,
)

CURL_PROXY_FAILED = 97
"""curl's exit status when a SOCKS proxy says no (CURLE_PROXY)."""
OTHER_LOOPBACK = "127.0.0.2"
"""An address that the bridges of these tests do not permit."""


@pytest.fixture(scope="module")
def client(clients):
    return clients["websocket"]


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    origin = Origin(tmp_path_factory.mktemp("origin"), MIB)
    yield origin
    origin.stop()


@pytest.fixture(scope="module")
def guarded(folder, bridge):
    """A client whose port asks for a user and a password."""
    client = Client(folder / "guarded", bridge.link, "websocket", front__user="anna")
    password = client.folder / "password"
    password.write_text("pass word\n")
    password.chmod(0o600)
    client.change(front__password_file="password")
    with client:
        yield client


WAYS = {
    "socks5 by name": ("--socks5-hostname", "{}"),
    "socks5 by address": ("--socks5", "{}"),
    "socks4a by name": ("--socks4a", "{}"),
    "http connect": ("--proxytunnel", "--proxy", "http://{}"),
    "plain http": ("--proxy", "http://{}"),
}


def ways(client, name):
    return [word.format(f"{HOST}:{client.port}") for word in WAYS[name]]


@pytest.mark.program("nginx")
@pytest.mark.program("curl")
class TestCurl:
    @pytest.mark.parametrize("way", WAYS)
    @pytest.mark.parametrize("host", [HOST, "localhost"])
    def test_each_way_in_fetches_a_file(self, client, origin, way, host):
        done = curl("--fail", *ways(client, way), f"http://{host}:{origin.port}/small/7")
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout == (origin.folder / "small" / "7").read_bytes()

    @pytest.mark.parametrize("way", WAYS)
    def test_each_way_in_uploads_a_file(self, client, origin, way):
        name = way.replace(" ", "-")
        assert origin.upload(name, *ways(client, way)) == (MIB, origin.digest)

    @pytest.mark.parametrize("codec", CODECS)
    def test_a_kept_connection_carries_many_requests(self, clients, origin, codec):
        urls = [f"{origin.url}/small/{number}" for number in range(40)]
        done = curl("--fail", "--proxy", f"http://{HOST}:{clients[codec].port}", *urls)
        assert done.returncode == 0
        assert done.stdout == b"".join((origin.folder / "small" / str(n)).read_bytes() for n in range(40))

    def test_a_password_is_asked_for_where_one_is_set(self, guarded, origin):
        url, at = f"{origin.url}/small/7", f"{HOST}:{guarded.port}"
        wanted = (origin.folder / "small" / "7").read_bytes()
        for scheme in ("socks5h", "http"):
            assert curl("--fail", "--proxy", f"{scheme}://anna:pass%20word@{at}", url).stdout == wanted
        for user in ("", "anna:wrong@", "ben:pass%20word@"):
            assert curl("--fail", "--proxy", f"socks5h://{user}{at}", url).returncode == CURL_PROXY_FAILED
            done = curl("-o", "/dev/null", "-w", "%{http_code}", "--proxy", f"http://{user}{at}", url)
            assert done.stdout == b"407"
        assert curl("--fail", "--proxy", f"socks4a://{at}", url).returncode == CURL_PROXY_FAILED


class TestReplies:
    """Refused, not permitted and not found are told apart, in each protocol."""

    TARGETS = (
        ("refused", HOST, 5, 502, b"connection_refused"),
        ("not permitted", OTHER_LOOPBACK, 2, 403, b"destination_ip_prohibited"),
        ("not found", "nothing.invalid", 4, 502, b"dns_error"),
    )

    @pytest.mark.parametrize(
        ("what", "host", "code", "status", "error"), TARGETS, ids=[t[0] for t in TARGETS]
    )
    def test_each_failure_has_its_reply(self, client, what, host, code, status, error):
        port = free_port()
        with pytest.raises(SocksRefused) as refused:
            socks5(client.port, port, host)
        assert refused.value.code == code
        for request in (f"CONNECT {host}:{port} HTTP/1.1", f"GET http://{host}:{port}/ HTTP/1.1"):
            with socket.create_connection((HOST, client.port), timeout=PATIENCE) as sock:
                sock.sendall(f"{request}\r\nHost: {host}:{port}\r\n\r\n".encode())
                head = b"".join(iter(lambda sock=sock: sock.recv(65536), b""))
            assert head.startswith(b"HTTP/1.1 %d " % status)
            assert b"error=" + error in head

    def test_socks4_says_no(self, client):
        with socket.create_connection((HOST, client.port), timeout=PATIENCE) as sock:
            sock.sendall(struct.pack(">BBH4s", 4, 1, free_port(), bytes([0, 0, 0, 1])) + b"anna\0localhost\0")
            assert read_exactly(sock, 8)[:2] == b"\0\x5b"

    def test_bind_is_not_supported(self, client):
        with pytest.raises(SocksRefused) as refused:
            socks5(client.port, 1, command=2)
        assert refused.value.code == 7


class UdpEcho(socketserver.BaseRequestHandler):
    def handle(self):
        data, sock = self.request
        sock.sendto(data, self.client_address)


class UdpServer(socketserver.ThreadingUDPServer):
    max_packet_size = 65535
    daemon_threads = True
    block_on_close = False


class TestDatagrams:
    @pytest.mark.parametrize("codec", CODECS)
    @pytest.mark.parametrize("host", [HOST, "localhost"])
    def test_datagrams_come_back_whole(self, clients, codec, host):
        name = host.encode()
        with serving(UdpEcho, UdpServer) as port:
            control, relay = socks5(clients[codec].port, 0, "0.0.0.0", command=3)
            head = b"\0\0\0\x03" + bytes([len(name)]) + name + struct.pack(">H", port)
            source = b"\0\0\0\x01" + socket.inet_aton(HOST) + struct.pack(">H", port)
            with control, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.settimeout(PATIENCE)
                for size in (1, 512, 1400, 9000, 60000):
                    data = bytes(range(256)) * (size // 256 + 1)
                    sock.sendto(head + data[:size], relay)
                    answer, address = sock.recvfrom(65535)
                    assert address == relay
                    assert answer[10:] == data[:size]
                    assert answer[:10] == source or answer[: len(head)] == head

    def test_a_target_that_is_not_permitted_gets_nothing(self, client):
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger,
            serving(UdpEcho, UdpServer) as port,
        ):
            stranger.bind((OTHER_LOOPBACK, 0))
            control, relay = socks5(client.port, 0, "0.0.0.0", command=3)
            with control, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.settimeout(PATIENCE)
                for host, at in ((OTHER_LOOPBACK, stranger.getsockname()[1]), (HOST, port)):
                    sock.sendto(
                        b"\0\0\0\x01" + socket.inet_aton(host) + struct.pack(">H", at) + b"hello", relay
                    )
                assert (
                    sock.recv(65535)[10:] == b"hello"
                )  # the second went through, so the first has been judged
            stranger.setblocking(False)
            with pytest.raises(BlockingIOError):
                stranger.recv(65535)
