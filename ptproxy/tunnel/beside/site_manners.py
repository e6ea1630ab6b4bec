"""How a web server does TLS, learned by asking it, and a context made to do it the same way.

A stranger can compare what a bridge terminates with what it passes on: the
certificate, which protocol and cipher suite are chosen of several, how many
tickets follow, how long they are and how long they serve. A dozen handshakes at
the start tell all of it.
"""

from __future__ import annotations

import hashlib
import socket
import ssl
import time
from dataclasses import dataclass
from typing import Final

from ptproxy.tunnel.beside.openssl import MOST_SESSION_ID_CONTEXT, SESSION_ID_CONTEXT, OpenSSL

ANSWER_TIMEOUT: Final = 5.0
"""Seconds for one handshake."""
TICKETS_QUIET: Final = 0.2
"""Seconds without a further ticket after which there is none."""
MOST_TICKETS: Final = 8
"""Tickets that are waited for."""
PROTOCOLS: Final = ("h2", "http/1.1")
"""What is asked for by ALPN."""
SUITES: Final = ("TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256")
"""TLS 1.3's suites that browsers offer."""

NONSENSE: Final = b"\xff" * 1400
"""No record of TLS; more than a reader takes who only means to finish one."""

_RECORD_HEAD = 5
_APPLICATION_DATA = 23


@dataclass(frozen=True, slots=True)
class Manners:
    """What a web server does."""

    certificate: bytes
    """SHA-256 of its leaf (DER)."""
    protocols: tuple[str, ...]
    """Those of :data:`PROTOCOLS` that it speaks, its favourite first."""
    suites: tuple[str, ...]
    """Those of :data:`SUITES` that it takes, its favourite first if it has one."""
    chooses_suite: bool
    """Whether its order counts, or the client's ..."""
    yields_to_chacha: bool
    """... but for ChaCha20, if that comes first: what a client without AES in hardware says."""
    tickets: int
    """After a full handshake."""
    ticket_lifetime: int
    """Seconds, as its tickets say."""
    reads_ahead: bool
    """Whether it reads more than it understands: what is unread makes a close a reset."""
    flight: tuple[int, ...]
    """Bytes of each encrypted record of the first flight, over the last of :attr:`protocols`."""
    ticket_records: tuple[int, ...]
    """Bytes of the record that holds a ticket, for each of :attr:`protocols`; 0 without."""


@dataclass(frozen=True, slots=True)
class _Answer:
    certificate: bytes
    protocol: str | None
    suite: str
    flight: tuple[int, ...]
    tickets: tuple[int, ...]
    lifetime: int


def learn(library: OpenSSL, address: tuple[str, int], name: str) -> Manners:
    """Ask the server at ``address`` for ``name``. Takes a second, and blocks.

    Raises ``OSError`` (``ssl.SSLError`` is one) for a server that is not there
    or does no TLS 1.3, ``ValueError`` for one that speaks none of :data:`PROTOCOLS`.
    """
    first = _ask(library, address, name, PROTOCOLS, SUITES)
    if first.protocol is None:
        raise ValueError("it agrees on no HTTP by ALPN")
    protocols = [first.protocol]
    for protocol in PROTOCOLS:
        if protocol != first.protocol and _speaks(library, address, name, protocol):
            protocols.append(protocol)
    told = [_ask(library, address, name, (protocol,), SUITES, tickets=True) for protocol in protocols]
    taken = [suite for suite in SUITES if _takes(library, address, name, suite)]
    order: list[str] = []
    chooses = _chosen(library, address, name, taken) == _chosen(library, address, name, taken[::-1])
    chacha = SUITES[1]
    chacha_first = sorted(taken, key=lambda suite: suite != chacha)
    yields = chooses and chacha in taken and _chosen(library, address, name, chacha_first) == chacha
    while taken:
        favourite = _chosen(library, address, name, taken) if chooses else taken[0]
        taken.remove(favourite)
        order.append(favourite)
    return Manners(
        certificate=first.certificate,
        protocols=tuple(protocols),
        suites=tuple(order),
        chooses_suite=chooses and len(order) > 1,
        yields_to_chacha=yields and order[0] != chacha,
        tickets=len(told[-1].tickets),
        ticket_lifetime=told[-1].lifetime,
        reads_ahead=_reads_ahead(address, name),
        flight=told[-1].flight,
        ticket_records=tuple(next(iter(answer.tickets), 0) for answer in told),
    )


def adopt(library: OpenSSL, context: ssl.SSLContext, manners: Manners, name: str) -> list[str]:
    """Make a server's context do as the web server does; tells in what it cannot."""
    context.set_alpn_protocols(list(manners.protocols))
    library.ignore_unexpected_eof(context)
    if manners.chooses_suite:
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    else:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    library.yield_to_chacha(context, yields=manners.yields_to_chacha)
    library.set_cipher_suites(context, ":".join(manners.suites))
    library.set_read_ahead(context, ahead=manners.reads_ahead)
    context.num_tickets = manners.tickets
    if manners.tickets:
        library.set_ticket_lifetime(context, manners.ticket_lifetime)
    else:
        context.options |= ssl.OP_NO_TICKET
    return _equal_lengths(library, context, manners, name)


def _equal_lengths(library: OpenSSL, context: ssl.SSLContext, manners: Manners, name: str) -> list[str]:
    """Choose what decides only the lengths of records; tells which stay others."""
    protocol = manners.protocols[-1]
    for acknowledge in (True, False):
        library.acknowledge_names(context, acknowledge=acknowledge)
        flight, _ = own_records(context, name, protocol)
        if _alike(flight[:1], manners.flight[:1]):
            break
    found = []
    if not _alike(flight, manners.flight):
        found.append(
            f"a TLS handshake is answered with records of {flight} bytes, the site's {manners.flight}"
        )
    if not manners.tickets:
        return found
    for size in (SESSION_ID_CONTEXT, *range(1, MOST_SESSION_ID_CONTEXT + 1)):
        library.set_session_id_context(context, size)
        tickets = tuple(own_records(context, name, protocol)[1][0] for protocol in manners.protocols)
        if tickets == manners.ticket_records:
            return found
    library.set_session_id_context(context, SESSION_ID_CONTEXT)
    found.append(f"its session tickets are not as long as the site's, {manners.ticket_records} bytes")
    return found


def _alike(ours: tuple[int, ...], theirs: tuple[int, ...]) -> bool:
    """Whether records are as long, as far as signatures have a length (ECDSA's vary by a few bytes)."""
    return len(ours) == len(theirs) and all(abs(a - b) <= 3 for a, b in zip(ours, theirs, strict=True))


def own_records(context: ssl.SSLContext, name: str, protocol: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Bytes of the encrypted records of a server's first flight, and of those of its tickets."""
    client = _client_context()
    client.set_alpn_protocols([protocol])
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    server_end = context.wrap_bio(up, down, server_side=True)
    client_end = client.wrap_bio(down, up, server_hostname=name)
    flight = b""
    for _ in range(2):
        for end in (client_end, server_end):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass
        if not flight:
            flight = down.read()
            down.write(flight)
    return tuple(_record_sizes(flight)), tuple(_record_sizes(down.read())) or (0,)


def site_context(library: OpenSSL) -> ssl.SSLContext:
    """For connections to the web server: its certificate was looked at once, and it is the operator's own."""
    context = _client_context()
    library.ignore_unexpected_eof(context)
    return context


def _client_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # what passes is public anyway
    return context


def _speaks(library: OpenSSL, address: tuple[str, int], name: str, protocol: str) -> bool:
    try:
        return _ask(library, address, name, (protocol,), SUITES).protocol == protocol
    except ssl.SSLError:
        return False


def _takes(library: OpenSSL, address: tuple[str, int], name: str, suite: str) -> bool:
    try:
        return _chosen(library, address, name, [suite]) == suite
    except ssl.SSLError:
        return False


def _chosen(library: OpenSSL, address: tuple[str, int], name: str, suites: list[str]) -> str:
    return _ask(library, address, name, PROTOCOLS, tuple(suites)).suite


def _ask(
    library: OpenSSL,
    address: tuple[str, int],
    name: str,
    protocols: tuple[str, ...],
    suites: tuple[str, ...],
    *,
    tickets: bool = False,
) -> _Answer:
    """One handshake."""
    context = _client_context()
    context.set_alpn_protocols(list(protocols))
    library.set_cipher_suites(context, ":".join(suites))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=name)
    flight = bytearray()
    with socket.create_connection(address, ANSWER_TIMEOUT) as sock:
        until = time.monotonic() + ANSWER_TIMEOUT
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                sock.sendall(outgoing.read())
                received = _receive(sock, until)
                flight += received
                incoming.write(received)
        sock.sendall(outgoing.read())
        after = bytearray(incoming.read())
        flight = flight[: len(flight) - len(after)]
        if tickets:
            _await_tickets(sock, after)
        incoming.write(after)
        try:
            tls.read(1)
        except ssl.SSLError:
            pass
        records = _record_sizes(after)
        der = tls.getpeercert(binary_form=True) or b""
        cipher, session = tls.cipher(), tls.session
        return _Answer(
            hashlib.sha256(der).digest(),
            tls.selected_alpn_protocol(),
            cipher[0] if cipher is not None else "",
            tuple(_record_sizes(flight)),
            # Over HTTP/1.1 a server says nothing after its tickets; over HTTP/2 its SETTINGS follow.
            tuple(records if protocols == ("http/1.1",) else records[:-1]),
            session.ticket_lifetime_hint if session is not None else 0,
        )


def _await_tickets(sock: socket.socket, after: bytearray) -> None:
    """Add to what came behind the handshake what still comes, until it is quiet."""
    while len(_record_sizes(after)) < MOST_TICKETS:
        try:
            after += _receive(sock, time.monotonic() + TICKETS_QUIET)
        except TimeoutError:
            break


def _reads_ahead(address: tuple[str, int], name: str) -> bool:
    """Whether a ClientHello with nonsense behind it is answered by an alert and FIN, not a reset."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = _client_context().wrap_bio(incoming, outgoing, server_hostname=name)
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    with socket.create_connection(address, ANSWER_TIMEOUT) as sock:
        sock.sendall(outgoing.read() + NONSENSE)
        until = time.monotonic() + ANSWER_TIMEOUT
        try:
            while sock.recv(65536):
                sock.settimeout(max(until - time.monotonic(), 0.01))
        except ConnectionResetError:
            return False
        except OSError:  # it does not mind
            pass
    return True


def _receive(sock: socket.socket, until: float) -> bytes:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("no answer in time")
    sock.settimeout(left)
    data = sock.recv(65536)
    if not data:
        raise ConnectionResetError("the connection was closed")
    return data


def _record_sizes(data: bytes | bytearray) -> list[int]:
    """Bytes of each whole record of application data, heads included."""
    sizes, at = [], 0
    while at + _RECORD_HEAD <= len(data):
        size = _RECORD_HEAD + int.from_bytes(data[at + 3 : at + 5])
        if at + size <= len(data) and data[at] == _APPLICATION_DATA:
            sizes.append(size)
        at += size
    return sizes
