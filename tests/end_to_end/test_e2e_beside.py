"""A bridge beside a real nginx on its TLS port: clients come through by HTTP/2 and 1.1, others see nginx."""

from __future__ import annotations

import pytest
from live import HOST, MIB, Bridge, Clients, Origin, curl, free_port, start_nginx
from test_e2e_behind import carry, make_certificate

pytestmark = [pytest.mark.program(name) for name in ("nginx", "curl", "openssl")]

SIZE = 32 * MIB

SITE = """
server {{
    listen {host}:{port} ssl{http2};
    server_name localhost;
    ssl_certificate {folder}/cert.pem;
    ssl_certificate_key {folder}/cert.key;
    ssl_protocols TLSv1.2 TLSv1.3;
    root {folder}/site;
}}
"""


class Beside:
    """nginx with a small site on a TLS port of its own, and a bridge in front of that."""

    def __init__(self, folder, http2):
        self.folder = folder
        site = folder / "site"
        site.mkdir()
        (site / "index.html").write_text("<h1>A site</h1><img src=/picture.png>\n")
        (site / "picture.png").write_bytes(bytes(range(256)) * 500)
        make_certificate(folder)
        port = free_port()
        text = SITE.format(host=HOST, port=port, folder=folder, http2=http2)
        self.nginx = start_nginx(folder, port, text)
        self.bridge = Bridge(
            folder / "bridge", "--site", f"https://{HOST}:{port}",
            "--certificate", folder / "cert.pem", "--private-key", folder / "cert.key",
        )  # fmt: skip
        self.port = int(self.bridge.address.rpartition(":")[2])

    def __enter__(self):
        self.bridge.start()
        self.all_clients = {
            fingerprint: Clients(
                self.folder / fingerprint, self.bridge.link, tls__fingerprint=fingerprint, log__level="debug"
            )
            for fingerprint in ("chrome", "python")
        }
        return self

    def __exit__(self, *_):
        for clients in self.all_clients.values():
            clients.stop()
        self.nginx.stop()
        self.bridge.stop()


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    origin = Origin(tmp_path_factory.mktemp("origin"), SIZE)
    yield origin
    origin.stop()


@pytest.fixture(scope="module", params=[" http2", ""], ids=["http2", "http1"])
def beside(request, tmp_path_factory):
    with Beside(tmp_path_factory.mktemp("beside"), request.param) as running:
        running.http2 = bool(request.param)
        yield running


@pytest.mark.parametrize(
    ("fingerprint", "codec"),
    [("chrome", "http"), ("chrome", "websocket"), ("python", "http"), ("python", "random")],
)
def test_clients_come_through_beside_a_web_server(beside, origin, fingerprint, codec, tmp_path):
    client = beside.all_clients[fingerprint][codec]
    carry(origin, client, f"{fingerprint}-{codec}-{beside.http2}", tmp_path)
    if (fingerprint, codec) == ("chrome", "http"):
        assert f"http2={beside.http2}" in client.program.logged()


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_strangers_see_nginx(beside, version):
    """Its page, in the protocol that it would choose."""
    trust = ("--cacert", beside.folder / "cert.pem", "--resolve", f"localhost:{beside.port}:{HOST}")
    told = curl(*trust, version, "-w", "%{http_version}", f"https://localhost:{beside.port}/").stdout
    page, _, spoken = told.rpartition(b"\n")
    assert page == b"<h1>A site</h1><img src=/picture.png>"
    assert spoken == (b"2" if beside.http2 and version == "--http2" else b"1.1")
    old = curl(*trust, "--tls-max", "1.2", f"https://localhost:{beside.port}/picture.png").stdout
    assert old == bytes(range(256)) * 500
