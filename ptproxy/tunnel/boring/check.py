"""The proof, before any user's connection, that the functions found in the library do what is expected.

A few connections over socket pairs to a server of Python's own ``ssl``, some
20 ms in all: the right server is reached, its certificate and protocol are read
correctly, bytes arrive both ways, a ticket is kept and resumed, close_notify
is sent; and, as important, a wrong name, an unknown authority and a wrong pin
are refused. Whatever differs is a :class:`~ptproxy.errors.StartError`, and the
hello falls back to ``tls.fingerprint: python`` only where a person says so.
"""

from __future__ import annotations

import contextlib
import datetime
import socket
import ssl
import tempfile
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ptproxy.errors import AuthenticationError, PtproxyError, StartError
from ptproxy.tunnel.boring.browser_tls import BrowserTls
from ptproxy.tunnel.boring.connection import TlsConnection, Want, address_of
from ptproxy.tunnel.boring.hello import CHROME_PAGE, CHROME_WEBSOCKET, FIREFOX, Hello
from ptproxy.tunnel.tls import ClientTrust, check_leaf, leaf_digest

NAME: Final = "check.invalid"
TURNS: Final = 20
"""Turns of both ends within which a handshake is done; three are what it takes."""
PATTERN: Final = bytes(range(251)) * 160
"""Some 40 kB: three records, none of which repeats another."""


def proven_browser_tls() -> BrowserTls:
    """A :class:`~ptproxy.tunnel.boring.browser_tls.BrowserTls` that works here; the way to get one.

    Raises :class:`~ptproxy.errors.StartError` where there is none.
    """
    browser = BrowserTls()
    with tempfile.TemporaryDirectory(prefix="ptproxy-check-") as folder:
        right, wrong = (_identity(Path(folder), name) for name in ("right", "wrong"))
        check = _Check(right)
        try:
            check.agrees(ClientTrust(authorities=right), CHROME_PAGE, "h2")
            check.agrees(ClientTrust(authorities=right), CHROME_WEBSOCKET, "http/1.1", resumed=True)
            check.agrees(ClientTrust(pin=leaf_digest(right)), FIREFOX, "h2")
            check.refuses(ClientTrust(authorities=right), "other.invalid", "a wrong name")
            check.refuses(ClientTrust(authorities=wrong), NAME, "an unknown authority")
            check.refuses(ClientTrust(pin=leaf_digest(wrong)), NAME, "a wrong pin")
        finally:
            check.browser.close()
    return browser


class _Check:
    """Connections to one server's identity."""

    def __init__(self, identity: Path) -> None:
        self.browser = BrowserTls()  # its tickets are nobody's
        self.leaf = leaf_digest(identity)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_3
        self.context.load_cert_chain(identity)
        self.context.set_alpn_protocols(["h2", "http/1.1"])

    def agrees(self, trust: ClientTrust, hello: Hello, alpn: str, *, resumed: bool = False) -> None:
        """Everything goes as it should."""
        try:
            with contextlib.closing(self._meet(trust, hello, NAME)) as pair:
                client = pair.client
                _must(client.version() == "TLSv1.3", "the version")
                _must(client.selected_alpn_protocol() == alpn, "the protocol agreed on")
                _must(check_leaf(client, trust.pin) == self.leaf, "the certificate")
                _must(client.resumed() is resumed, "the ticket")
                _must(client.write(PATTERN) == len(PATTERN), "what is sent")
                _must(pair.server_reads(len(PATTERN)) == PATTERN, "what is sent")
                pair.server_writes(PATTERN)
                held = bytearray(2 * len(PATTERN))
                _must(client.read_into(address_of(held), len(held)) == len(PATTERN), "what is read")
                _must(held[: len(PATTERN)] == PATTERN, "what is read")
                _must(client.say_goodbye() and pair.server_sees_the_end() is hello.close_notify, "the end")
        except (PtproxyError, OSError) as error:
            if isinstance(error, StartError):
                raise
            raise StartError(
                f"tls.fingerprint: the browser's TLS library failed its check: {error}"
            ) from None

    def refuses(self, trust: ClientTrust, name: str, what: str) -> None:
        """Nothing may come of this one."""
        try:
            with contextlib.closing(self._meet(trust, CHROME_PAGE, name)) as pair:
                check_leaf(pair.client, trust.pin)
        except AuthenticationError:
            return
        raise StartError(f"tls.fingerprint: the browser's TLS library accepts {what}")

    def _meet(self, trust: ClientTrust, hello: Hello, name: str) -> _Pair:
        """A client and a server that have shaken hands."""
        made = self.browser.prepare(hello, name, trust, (NAME, 0))
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        pair = _Pair(TlsConnection(self.browser.library, made, ours), self.context, theirs)
        try:
            for _ in range(TURNS):
                client_done = pair.client.handshake() is Want.NOTHING
                if pair.server_shakes_hands() and client_done:
                    return pair
        except BaseException:
            pair.close()
            raise
        pair.close()
        raise StartError("tls.fingerprint: the browser's TLS library came to no end of a handshake")


class _Pair:
    """A client of BoringSSL's and a server of ``ssl``'s, on the two ends of a socket pair."""

    def __init__(self, client: TlsConnection, context: ssl.SSLContext, sock: socket.socket) -> None:
        self.client = client
        self._sock = sock
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._server = context.wrap_bio(self._in, self._out, server_side=True)

    def server_shakes_hands(self) -> bool:
        """One turn of the server; whether it is done."""
        self._fetch()
        try:
            self._server.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError:
            return True  # the client tells why it said no
        finally:
            self._sock.sendall(self._out.read())
        return True

    def server_reads(self, size: int) -> bytes:
        """What has arrived, up to ``size`` bytes."""
        read = bytearray()
        self._fetch()
        with contextlib.suppress(ssl.SSLWantReadError):
            while len(read) < size and (some := self._server.read(size - len(read))):
                read += some
        return bytes(read)

    def server_sees_the_end(self) -> bool:
        """Whether close_notify is what comes next."""
        self._fetch()
        try:
            return not self._server.read(1)
        except ssl.SSLWantReadError:
            return False

    def server_writes(self, data: bytes) -> None:
        """Send ``data``."""
        self._server.write(data)
        self._sock.sendall(self._out.read())

    def close(self) -> None:
        """Drop both ends."""
        self.client.close()
        self._sock.close()

    def _fetch(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while data := self._sock.recv(65536):
                self._in.write(data)


def _must(holds: bool, what: str) -> None:
    if not holds:
        raise StartError(f"tls.fingerprint: the browser's TLS library does not get {what} right")


def _identity(folder: Path, name: str) -> Path:
    """A self-signed certificate with its key, one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    path.touch(mode=0o600)
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return path
