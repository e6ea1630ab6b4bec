"""What a bridge reads of its files before it begins, some of which perhaps only root may read."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from ptproxy.auth.binding import Binding
from ptproxy.auth.credentials import StaticKey
from ptproxy.config.model import BridgeConfig
from ptproxy.errors import StartError
from ptproxy.log import get_logger
from ptproxy.proxy.post import Post
from ptproxy.proxy.startup import load_key
from ptproxy.tunnel.tls import bridge_context, leaf_digest, load_chain, load_clients

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class BridgeFiles:
    """Keys and certificates; secrets, shown to nobody."""

    key: StaticKey
    context: ssl.SSLContext | None
    """None: a web server in front terminates TLS."""
    bindings: list[Binding]
    leaf: bytes = b""
    """SHA-256 of the certificate that the bridge itself shows; empty: none."""

    def __repr__(self) -> str:
        return "BridgeFiles(…)"

    @classmethod
    def read(cls, config: BridgeConfig, post: Post | None = None) -> BridgeFiles:
        """Read them; raises :class:`~ptproxy.errors.StartError`.

        A worker that may not read them, as the bridge has given root up, has what was read before that.
        """
        try:
            return cls(load_key(config.key), tls_context(config, post), bindings(config), _leaf(config))
        except StartError as error:
            if post is None or post.files is None:
                raise
            log.warning("a worker has keys and certificates as they were at the start", why=str(error))
            return post.files


def tls_context(config: BridgeConfig, post: Post | None = None) -> ssl.SSLContext | None:
    """The context of a bridge that terminates TLS itself; raises StartError.

    A worker's is the one that all have, with the certificates as they are now.
    """
    if config.mode != "standalone":
        return None
    tls = config.tls
    if tls.certificate is None or tls.private_key is None:
        raise StartError("tls: a standalone bridge needs tls.certificate and tls.private_key")
    authorities = tls.client_ca if tls.client_certificates == "required" else None
    if post is not None and post.context is not None:
        load_chain(post.context, tls.certificate, tls.private_key)
        if authorities is not None:
            load_clients(post.context, authorities, tls.client_crl)
        return post.context
    return bridge_context(
        tls.certificate, tls.private_key, client_authorities=authorities, revoked=tls.client_crl
    )


def bindings(config: BridgeConfig) -> list[Binding]:
    """The certificates that a client may have seen; raises StartError."""
    tls = config.tls
    if tls.binding == "none":
        return [Binding.none()]
    if config.mode == "standalone":
        seen = [tls.certificate]
    else:
        seen = [tls.front_certificate, tls.front_certificate_previous]
    found = [Binding.certificate(leaf_digest(path)) for path in seen if path is not None]
    if not found:
        raise StartError(
            "tls: set tls.front_certificate to the web server's certificate, or tls.binding: none"
        )
    return found


def _leaf(config: BridgeConfig) -> bytes:
    path = config.tls.certificate
    return leaf_digest(path) if config.mode == "standalone" and path is not None else b""
