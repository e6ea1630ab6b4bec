"""A self-signed certificate for a bridge's trial, and what a bridge's link says of a certificate."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path
from random import Random
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ptproxy.config.quantities import is_ip
from ptproxy.errors import StartError
from ptproxy.tunnel.tls import leaf_digest

SHORTEST_DAYS: Final = 90
"""Days a certificate is valid at least, as the free authorities give."""
LONGEST_DAYS: Final = 397
"""Days at most: browsers take no longer ones (CA/Browser Forum, until 2026)."""
OLDEST_DAYS: Final = 30
"""A certificate's validity starts up to so many days ago, as one in use would."""
MAX_COMMON_NAME: Final = 64
"""Characters of a subject's common name (RFC 5280, ub-common-name)."""


def self_signed(name: str, now: datetime.datetime, rng: Random) -> tuple[bytes, bytes]:
    """Certificate and private key (PEM) for a server name: ECDSA on P-256, nothing constant in it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, name)] if len(name) <= MAX_COMMON_NAME else []
    )
    alternative = x509.IPAddress(ipaddress.ip_address(name)) if is_ip(name) else x509.DNSName(name)
    start = now - datetime.timedelta(seconds=rng.randrange(86400, OLDEST_DAYS * 86400))
    end = start + datetime.timedelta(
        seconds=rng.randrange((SHORTEST_DAYS + OLDEST_DAYS) * 86400, LONGEST_DAYS * 86400)
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(rng.getrandbits(126) | 1 << 126)
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=not list(subject))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    certificate = builder.sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), private


def pin_for(path: Path) -> bytes | None:
    """What a link pins: a self-signed leaf's SHA-256; None where an authority vouches for it.

    An authority's certificate is renewed every few weeks; links would not outlive that.
    Raises :class:`~ptproxy.errors.StartError` for an unusable file.
    """
    digest = leaf_digest(path)
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        certificate.verify_directly_issued_by(certificate)
    except InvalidSignature:
        return None
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if isinstance(error, ValueError) and "issuer" in str(error).lower():
            return None
        raise StartError(f"tls: {path} holds no certificate that can be read") from None
    return digest
