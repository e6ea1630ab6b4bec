"""Client certificates at a bridge (mutual TLS): who is revoked by a list is out, also by one read later."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ptproxy.errors import StartError
from ptproxy.tunnel.tls import bridge_context, load_clients

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)
PEM = serialization.Encoding.PEM


class Authority:
    """A small certificate authority, with one bridge and clients."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority")])
        self.certificate = self._sign(self.name, self.key, ca=True)
        self.path = folder / "ca.pem"
        self.path.write_bytes(self.certificate.public_bytes(PEM))

    def _sign(self, name: x509.Name, key, *, ca: bool) -> x509.Certificate:
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - DAY)
            .not_valid_after(NOW + 30 * DAY)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
            .add_extension(
                x509.KeyUsage(
                    digital_signature=True, content_commitment=False, key_encipherment=False,
                    data_encipherment=False, key_agreement=False, key_cert_sign=ca, crl_sign=ca,
                    encipher_only=False, decipher_only=False,
                ),
                critical=True,
            )
            .sign(self.key, hashes.SHA256())
        )  # fmt: skip

    def make(self, name: str) -> tuple[x509.Certificate, Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        certificate = self._sign(subject, key, ca=False)
        paths = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        paths[0].write_bytes(certificate.public_bytes(PEM))
        paths[1].write_bytes(
            key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        return certificate, *paths

    def revoke(self, *certificates: x509.Certificate, number: int, overdue: bool = False) -> Path:
        """The list of those that are revoked, the ``number``-th."""
        when = NOW - 10 * DAY + number * DAY / 24
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.name)
            .last_update(when)
            .next_update(NOW - DAY if overdue else NOW + DAY)
            .add_extension(x509.CRLNumber(number), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
        )
        for each in certificates:
            entry = x509.RevokedCertificateBuilder().serial_number(each.serial_number).revocation_date(when)
            builder = builder.add_revoked_certificate(entry.build())
        path = self.folder / "crl.pem"
        path.write_bytes(builder.sign(self.key, hashes.SHA256()).public_bytes(PEM))
        return path


def admitted(bridge: ssl.SSLContext, authority: Authority, chain: tuple[Path, Path] | None) -> bool:
    """Whether a TLS handshake with this client certificate comes to its end at the bridge."""
    client = ssl.create_default_context(cafile=str(authority.path))
    if chain is not None:
        client.load_cert_chain(*chain)
    to_bridge, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_bridge, server_hostname="localhost"),
        bridge.wrap_bio(to_bridge, to_client, server_side=True),
    ]
    for _ in range(4):
        for each in ends:
            try:
                each.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError:
                return False
    return ends[1].getpeercert() is not None


def test_lists_are_followed(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    _, *own = authority.make("bridge")
    anna, *annas = authority.make("anna")
    ben, *bens = authority.make("ben")
    crl = authority.revoke(anna, number=1)
    context = bridge_context(*own, client_authorities=authority.path, revoked=crl)
    assert not admitted(context, authority, None)
    assert not admitted(context, authority, tuple(annas))
    assert admitted(context, authority, tuple(bens))
    authority.revoke(anna, ben, number=2)
    assert admitted(context, authority, tuple(bens))  # not read yet
    load_clients(context, authority.path, crl)
    assert not admitted(context, authority, tuple(bens))
    crl.write_text("no list")
    with pytest.raises(StartError, match="client_crl: cannot use"):
        load_clients(context, authority.path, crl)
    assert not admitted(context, authority, tuple(bens))  # what was read stays
    assert context.num_tickets == 0  # a resumption would ask nobody


def test_without_lists_everybody_who_is_signed_is_in(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    _, *own = authority.make("bridge")
    _, *annas = authority.make("anna")
    assert admitted(bridge_context(*own, client_authorities=authority.path), authority, tuple(annas))


def test_an_overdue_list_lets_nobody_in(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    _, *own = authority.make("bridge")
    _, *annas = authority.make("anna")
    crl = authority.revoke(number=1, overdue=True)
    context = bridge_context(*own, client_authorities=authority.path, revoked=crl)
    assert not admitted(context, authority, tuple(annas))
