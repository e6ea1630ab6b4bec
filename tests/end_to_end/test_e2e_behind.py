"""A bridge behind a real nginx that terminates TLS, with the lines that ``init`` writes and without."""

from __future__ import annotations

import re
import subprocess
from urllib.parse import parse_qs, urlsplit

import pytest
from live import ENVIRONMENT, HOST, MIB, Bridge, Clients, Origin, curl, free_port, start_nginx

pytestmark = [pytest.mark.program(name) for name in ("nginx", "curl", "openssl")]

SIZE = 32 * MIB

FRONT = """
{before}
server {{
    listen {host}:{port} ssl;
    server_name localhost;
    ssl_certificate {folder}/cert.pem;
    ssl_certificate_key {folder}/cert.key;
    ssl_protocols TLSv1.3;
    root {folder}/site;
    error_page 404 /missing.html;
    {location}
}}
"""


def make_certificate(folder):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "30",
         "-keyout", folder / "cert.key", "-out", folder / "cert.pem"],
        env=ENVIRONMENT, check=True, capture_output=True,
    )  # fmt: skip


def written_lines(config):
    """nginx's part from the comments of the bridge's configuration: inside server { }, inside http { }."""
    comment = config.partition("# ---- the web server in front")[2]
    code = [line[5:] for line in comment.splitlines() if line.startswith("#     ")]
    text = "\n".join(code)
    server, mark, http = text.partition("map ")
    assert mark
    return server, mark + http


class Front:
    """nginx with TLS and a small site, and a bridge behind it."""

    def __init__(self, folder, upstream, style):
        self.port = free_port()
        self.folder = folder
        site = folder / "site"
        site.mkdir()
        (site / "index.html").write_text("<h1>A site</h1>\n")
        (site / "missing.html").write_text("<h1>Not here</h1>\n")
        make_certificate(folder)
        listen = f"{HOST}:{free_port()}" if upstream == "tcp" else f"unix:{folder}/bridge.sock"
        self.bridge = Bridge(
            folder / "bridge", "--mode", "behind", "--front-certificate", folder / "cert.pem",
            address=f"{HOST}:{self.port}", listen=listen,
        )  # fmt: skip
        self.path = parse_qs(urlsplit(self.bridge.link).query)["path"][0]
        assert "cert" in parse_qs(urlsplit(self.bridge.link).query)  # what openings are bound to
        if style == "written":
            location, before = written_lines(self.bridge.written)
        else:
            behind = f"http://{listen}" + (":" if upstream == "unix" else "")
            location, before = f"location = {self.path} {{ proxy_pass {behind}; }}", ""
        self.nginx_text = FRONT.format(
            before=before, host=HOST, port=self.port, folder=folder, location=location
        )

    def __enter__(self):
        self.bridge.start()
        self.nginx = start_nginx(self.folder, self.port, self.nginx_text)
        self.clients = Clients(self.folder, self.bridge.link)
        return self

    def __exit__(self, *_):
        self.clients.stop()
        self.nginx.stop()
        self.bridge.stop()


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    origin = Origin(tmp_path_factory.mktemp("origin"), SIZE)
    yield origin
    origin.stop()


@pytest.fixture(scope="module", params=["unix", "tcp"])
def upstream(request):
    return request.param


@pytest.fixture(scope="module")
def front(tmp_path_factory, upstream):
    """nginx with the lines that ``ptproxy init`` wrote."""
    with Front(tmp_path_factory.mktemp("front"), upstream, "written") as front:
        yield front


@pytest.fixture(scope="module")
def bare_front(tmp_path_factory, upstream):
    """nginx with nothing but ``proxy_pass``: HTTP/1.0 upstream, a connection a request, its buffering."""
    with Front(tmp_path_factory.mktemp("bare"), upstream, "bare") as front:
        yield front


def carry(origin, client, name, folder):
    proxy = ("--socks5-hostname", f"{HOST}:{client.port}")
    assert origin.download(*proxy) == (SIZE, origin.digest)
    assert origin.upload(name, *proxy) == (SIZE, origin.digest)
    assert origin.fetch_all(folder, *proxy) == []


@pytest.mark.parametrize("codec", ["websocket", "http"])
def test_transfers_pass_nginx(front, origin, codec, tmp_path):
    carry(origin, front.clients[codec], f"{codec}", tmp_path)


def test_the_http_codec_passes_an_unmodified_reverse_proxy(bare_front, origin, tmp_path):
    carry(origin, bare_front.clients["http"], "bare", tmp_path)


def test_strangers_see_the_site(front):
    """With and without the secret path; a wrong cookie and an upgrade change nothing."""
    base = f"https://localhost:{front.port}"
    trust = ("--cacert", front.folder / "cert.pem", "--resolve", f"localhost:{front.port}:{HOST}")
    assert curl(*trust, f"{base}/").stdout == b"<h1>A site</h1>\n"
    missing = curl(*trust, "-i", f"{base}/no/such/page").stdout
    assert missing.startswith(b"HTTP/1.1 404 ")
    upgrade = ("-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "-H", "Sec-WebSocket-Version: 13",
               "-H", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")  # fmt: skip
    for extra in ((), ("-H", "Cookie: session=" + "A" * 300), upgrade, ("-d", "data")):
        answer = curl(*trust, "-i", *extra, f"{base}{front.path}").stdout
        assert without_date(answer) == without_date(missing), extra


def without_date(answer):
    return re.sub(rb"\r\nDate: [^\r]*", b"", answer)
