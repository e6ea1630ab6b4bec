"""TLS 1.3, and nothing older: contexts for both sides, trust by pin or by authority, and the binding.

A client trusts a bridge's certificate because the bridge line pins its SHA-256
(``trust: pin``), because the system's authorities vouch for it
(``trust: system``), or because an authority of the user's own does
(``trust: FILE``). Who the bridge *is* gets decided inside, by Noise, bound to
the certificate the client saw: TLS alone is what a censor can forge.

Both sides of Python's ``ssl`` leave TLS 1.3's cipher suites at OpenSSL's three
(AES-256-GCM, ChaCha20-Poly1305, AES-128-GCM), all of them strong.
"""

from __future__ import annotations

import hashlib
import hmac
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from ptproxy.errors import AuthenticationError, StartError, why


@dataclass(frozen=True, slots=True)
class ClientTrust:
    """What a client accepts: ``pin`` (SHA-256 of the leaf, DER) wins over authorities."""

    pin: bytes | None = None
    authorities: Path | None = None
    certificate: Path | None = None
    """The client's own certificate, for private deployments that ask for one."""
    private_key: Path | None = None


def client_context(trust: ClientTrust, alpn: tuple[str, ...] = ("http/1.1",)) -> ssl.SSLContext:
    """A client's context.

    With a pin the chain is not looked at (:func:`check_leaf` does it after the
    handshake); raises :class:`~ptproxy.errors.StartError` for unusable files.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if trust.pin is not None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif trust.authorities is not None:
        try:
            context.load_verify_locations(trust.authorities)
        except OSError as error:
            raise StartError(
                f"tls.trust: cannot read authorities from {trust.authorities}: {why(error)}"
            ) from None
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if trust.certificate is not None:
        load_chain(context, trust.certificate, trust.private_key or trust.certificate)
    return context


def bridge_context(
    certificate: Path,
    private_key: Path,
    *,
    client_authorities: Path | None = None,
    revoked: Path | None = None,
    alpn: tuple[str, ...] = ("http/1.1",),
) -> ssl.SSLContext:
    """A bridge's context; ``client_authorities`` demands a client certificate (visible to probers),
    which must not be ``revoked`` by these lists (:func:`load_clients`).

    Raises :class:`~ptproxy.errors.StartError` for unusable files.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 2  # as the usual web servers send
    if alpn:
        context.set_alpn_protocols(list(alpn))
    load_chain(context, certificate, private_key)
    if client_authorities is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.num_tickets = 0  # a resumed session would not ask the lists again
        load_clients(context, client_authorities, revoked)
    return context


def load_clients(context: ssl.SSLContext, authorities: Path, revoked: Path | None) -> None:
    """Load whose client certificates are taken, and the lists (CRL, PEM) of those that are revoked.

    May be called again: new authorities and lists are added, of one authority's lists the latest
    counts. With lists every authority needs one, and none may be overdue: else nobody gets in.
    Raises :class:`~ptproxy.errors.StartError`; what was loaded before then stays.
    """
    for field, path in (("client_ca", authorities), ("client_crl", revoked)):
        if path is None:
            continue
        try:
            context.load_verify_locations(path)
        except OSError as error:  # ssl's own are among them
            raise StartError(f"tls.{field}: cannot use {path}: {why(error)}") from None
    if revoked is not None:
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF


def load_chain(context: ssl.SSLContext, certificate: Path, private_key: Path) -> None:
    """Load a certificate chain and its key; one clear :class:`StartError` where they do not serve."""
    for path in (certificate, private_key):
        try:
            path.read_bytes()
        except OSError as error:
            raise StartError(f"tls: cannot read {path}: {why(error)}") from None
    try:
        context.load_cert_chain(certificate, private_key, password=lambda: b"")
    except ssl.SSLError as error:
        what = (
            "the key does not belong to the certificate"
            if error.reason == "KEY_VALUES_MISMATCH"
            else "not usable PEM"
        )
        raise StartError(f"tls: {certificate} with {private_key}: {what}") from None


def leaf_digest(certificate: Path) -> bytes:
    """SHA-256 of the first certificate (DER) of a PEM file; :class:`StartError` where there is none."""
    try:
        pem = certificate.read_text("ascii", "replace")
        end = "-----END CERTIFICATE-----"
        first = pem[pem.index("-----BEGIN CERTIFICATE-----") : pem.index(end) + len(end)]
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(first)).digest()
    except OSError as error:
        raise StartError(f"tls: cannot read {certificate}: {why(error)}") from None
    except ValueError:
        raise StartError(f"tls: {certificate} holds no certificate in PEM form") from None


class ShownCertificate(Protocol):
    """A TLS connection that tells what its peer showed: ``ssl.SSLObject``, or what stands for one."""

    def getpeercert(self, binary_form: Literal[True]) -> bytes | None:
        """The peer's own certificate, DER."""

    def version(self) -> str | None:
        """The protocol version, as ``TLSv1.3``."""


def check_leaf(tls: ShownCertificate, pin: bytes | None) -> bytes:
    """SHA-256 of the certificate that the peer showed, once it is known to be the pinned one.

    Raises :class:`~ptproxy.errors.AuthenticationError` for another certificate
    or a protocol that is not TLS 1.3.
    """
    der = tls.getpeercert(binary_form=True)
    if der is None or tls.version() != "TLSv1.3":
        raise AuthenticationError("the bridge did not speak TLS 1.3 with a certificate")
    digest = hashlib.sha256(der).digest()
    if pin is not None and not hmac.compare_digest(digest, pin):
        raise AuthenticationError("the bridge showed another certificate than the one its line pins")
    return digest
