"""A certificate that certbot renews: the hook hands it over, the bridge shows it, and a stream goes on."""

from __future__ import annotations

import datetime
import hashlib
import os
import random
import shutil
import socket
import ssl
import subprocess

from live import ENVIRONMENT, ROOT, Bridge, Client, read_exactly, through, until

from ptproxy.tunnel.certificate import self_signed

HOOK = ROOT / "configs" / "certbot-deploy"


def shown_by(address):
    """The digest of the certificate that a visitor sees."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    host, port = address.rsplit(":", 1)
    with (
        socket.create_connection((host, int(port)), timeout=60) as sock,
        context.wrap_socket(sock, server_hostname="localhost") as tls,
    ):
        return hashlib.sha256(tls.getpeercert(binary_form=True)).digest()


def renewed(folder, name):
    """What certbot has in a folder after a renewal; the digest of the new certificate."""
    folder.mkdir()
    certificate, key = self_signed(name, datetime.datetime.now(datetime.UTC), random.SystemRandom())
    (folder / "fullchain.pem").write_bytes(certificate)
    (folder / "privkey.pem").write_bytes(key)
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.decode())).digest()


def deploy(lineage, bridge, **environment):
    said = {"RENEWED_LINEAGE": str(lineage), "PTPROXY_FOLDER": str(bridge.folder)}
    said["PTPROXY_RELOAD"] = f"kill -HUP {bridge.program.pid}"
    subprocess.run([shutil.which("sh"), HOOK], env=ENVIRONMENT | said | environment, check=True)


def test_a_renewed_certificate_is_shown_and_a_stream_goes_on(tmp_path, echo):
    with (
        Bridge(tmp_path / "bridge") as bridge,
        Client(tmp_path / "client", bridge.link, "random") as client,
        through(client.port, echo) as sock,
    ):
        before = shown_by(bridge.address)
        digest = renewed(tmp_path / "example.org", "localhost")
        deploy(tmp_path / "example.org", bridge, PTPROXY_NAME="another.example")  # not ours
        assert shown_by(bridge.address) == before != digest
        deploy(tmp_path / "example.org", bridge, PTPROXY_NAME="example.org")
        until(lambda: shown_by(bridge.address) == digest, bridge.program.logged)
        sock.sendall(b"still here")
        assert read_exactly(sock, 10) == b"still here"
        assert os.stat(bridge.folder / "cert.key").st_mode & 0o777 == 0o600
        assert not list(bridge.folder.glob(".*.new"))
