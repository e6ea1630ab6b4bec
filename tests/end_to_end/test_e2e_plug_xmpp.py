"""XMPP through a forwarded port: slixmpp and a real prosody, a chat line and a file each way."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from live import ENVIRONMENT, HOST, PATIENCE, Client
from plugged import PLAIN, SIZE, forwarded, on_a_port
from xmpp_people import DOMAIN, PASSWORD

pytestmark = [pytest.mark.program("prosody")]

SERVER = """
run_as_root = {root}
pidfile = "{folder}/prosody.pid"
data_path = "{folder}/data"
plugin_paths = {{}}
modules_enabled = {{ "saslauth", "tls", "disco", "roster" }}
modules_disabled = {{ "s2s" }}
interfaces = {{ "{host}" }}
c2s_ports = {{ {port} }}
c2s_direct_tls_ports = {{}}
s2s_ports = {{}}
authentication = "internal_plain"
log = {{ warn = "*stderr" }}
VirtualHost "{domain}"
    ssl = {{ certificate = "{folder}/cert.pem", key = "{folder}/cert.key" }}
"""


def make_certificate(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, DOMAIN)])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(DOMAIN)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(certificate.public_bytes(pem))
    (folder / "cert.key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


@pytest.fixture(scope="module")
def server(folder):
    """The port of an XMPP server with two accounts."""
    make_certificate(folder)
    accounts = folder / "data" / DOMAIN.replace(".", "%2e") / "accounts"
    accounts.mkdir(parents=True)
    for name in ("anna", "ben"):
        (accounts / f"{name}.dat").write_text(f'return {{ ["password"] = "{PASSWORD}"; }};\n')
    config = folder / "prosody.cfg.lua"
    root = "true" if os.geteuid() == 0 else "false"
    program, port = on_a_port(
        "prosody", folder, ["prosody", "-F", "--config", config],
        lambda port: config.write_text(
            SERVER.format(folder=folder, host=HOST, port=port, domain=DOMAIN, root=root)
        ),
    )  # fmt: skip
    yield port
    program.stop()


def test_two_people_talk_and_send_files(folder, bridge, server):
    forward = f"{HOST}:0 -> {HOST}:{server}"
    with Client(folder / "xmpp", bridge.link, "websocket", **PLAIN, forward=[forward]) as client:
        done = subprocess.run(
            [sys.executable, "-W", "default", Path(__file__).with_name("xmpp_people.py"),
             str(forwarded(client)), folder / "cert.pem", str(SIZE)],
            env=ENVIRONMENT | {"PYTHONWARNINGS": ""}, capture_output=True, text=True,
            timeout=5 * PATIENCE, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["heard"] == "добрый вечер 👋"
    assert said["tls"]
    assert said["sizes"] == [SIZE, SIZE]
    assert said["came"] == said["sent"]
