"""All probes: what is asked of both servers, in one list.

What a censor can send without knowing a secret. ``path`` and ``opening`` are
for operators who want to know what a prober finds who does: the path of the
bridge behind a web server, or the bytes of an opening that was used already.
"""

from __future__ import annotations

from random import Random

from ptproxy.inspect.hello_variants import usual_hello, variants, wire
from ptproxy.inspect.http_probes import CLOSE, get, http2_probes, http_probes, websocket_probes
from ptproxy.inspect.probe import (
    Finish,
    Pause,
    Probe,
    Repeat,
    SayGoodbye,
    Send,
    Ticket,
    Tls,
    Visit,
    Watch,
)

LENGTHS = (1, 2, 8, 16, 25, 33, 49, 50, 51, 221, 517, 1400)
"""Random bytes of the lengths that the Great Firewall has been seen to send (Alice et al., IMC 2020; its
probes of types R1 to R6 and NR1, NR2 are around 8, 16, 33, 49 to 51 and 221), and of common first packets."""


def battery(name: str, rng: Random, *, path: str | None = None, opening: bytes | None = None) -> list[Probe]:
    """Every probe, the slow ones first; ``name`` is the server name and host that is asked for."""
    probes = [
        *_clear(name, rng),
        *(
            Probe(f"TLS: {what}", "tls", (Visit((Send(data),)),))
            for what, data in variants(name, rng).items()
        ),
        *_tickets(name),
        *_begun(name, rng),
        *http_probes(name, rng),
        *http2_probes(name, rng),
        *websocket_probes(name, path),
        *_replays(name, opening),
    ]
    return sorted(probes, key=lambda probe: not probe.long)


def _clear(name: str, rng: Random) -> list[Probe]:
    """Bytes that are no TLS at all."""
    host = name.encode("ascii", "replace")
    asked = {
        "HTTP/1.1 request": get(host),
        "HTTP/1.0 request": b"GET / HTTP/1.0\r\n\r\n",
        "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
        "half an HTTP request": b"GET / HTTP/1.1\r\nHo",
        "CONNECT": b"CONNECT www.example.org:443 HTTP/1.1\r\n\r\n",
        "an empty line": b"\r\n\r\n",
        "SSH banner": b"SSH-2.0-OpenSSH_9.6\r\n",
        "SOCKS5": b"\5\1\0",
        "SOCKS4": b"\4\1\0P\xc0\0\2\1\0",
        "SMTP": b"EHLO example.org\r\n",
        "PROXY protocol": b"PROXY TCP4 192.0.2.1 192.0.2.2 40000 443\r\n",
        "remote desktop": bytes.fromhex("030000130ee000000000000100080000000000"),
        "zeros": bytes(300),
    }
    asked |= {f"random bytes, {length}": rng.randbytes(length) for length in LENGTHS}
    return [
        *(Probe(f"clear: {what}", "clear", (Visit((Send(data),)),)) for what, data in asked.items()),
        Probe("clear: FIN", "clear", (Visit((Finish(),)),)),
        Probe("clear: random bytes, FIN", "clear", (Visit((Send(rng.randbytes(60)), Finish())),)),
        Probe("clear: silence", "silence", (Visit((), watch=Watch.LONG),)),
    ]


def _begun(name: str, rng: Random) -> list[Probe]:
    """Handshakes that stop."""
    hello = wire(usual_hello(name, rng))
    return [
        Probe("TLS: half a hello", "silence", (Visit((Send(hello[:100]),), watch=Watch.LONG),)),
        Probe("TLS: hello, then silence", "silence", (Visit((Send(hello),), watch=Watch.LONG),)),
        Probe("TLS: half a hello, FIN", "tls", (Visit((Send(hello[:100]), Finish())),)),
        Probe("TLS: hello, FIN", "tls", (Visit((Send(hello), Finish())),)),
        Probe("TLS: hello in two segments", "tls", (Visit((Send(hello[:9]), Pause(0.2), Send(hello[9:]))),)),
    ]


def _tickets(name: str) -> list[Probe]:
    """Whole handshakes by OpenSSL: what is agreed on, and what tickets are worth."""
    ask = Send(get(name.encode("ascii", "replace"), more=CLOSE))
    probes = []
    for version in ("1.3", "1.2"):
        first = Visit((ask,), Tls(highest=version))
        again = Visit((ask,), Tls(highest=version, ticket=Ticket.RESUME))
        named = Visit((ask,), Tls(highest=version, ticket=Ticket.RESUME, name="www.example.org"))
        probes += [
            Probe(f"TLS: {version}, GET", "tls", (first,)),
            Probe(f"TLS: {version}, resumed", "tls", (first, again)),
            Probe(f"TLS: {version}, resumed twice", "tls", (first, again, again)),
            Probe(f"TLS: {version}, resumed for another name", "tls", (first, named)),
        ]
    whole = (
        ("without a name", Tls(name=None)),
        ("for another name", Tls(name="www.example.org")),
        ("without ALPN", Tls(alpn=())),
        ("with unknown ALPN", Tls(alpn=("foo/1",))),
        ("1.2 with RSA and CBC", Tls(highest="1.2", ciphers="AES128-SHA:ECDHE-RSA-AES128-SHA:@SECLEVEL=0")),
    )
    probes += [Probe(f"TLS: GET {what}", "tls", (Visit((ask,), tls),)) for what, tls in whole]
    return probes


def _replays(name: str, opening: bytes | None) -> list[Probe]:
    """What was said once is said again."""
    ask = Send(get(name.encode("ascii", "replace"), more=CLOSE))
    recorded = Visit((ask, SayGoodbye()), Tls())
    probes = [Probe("replay: a connection, byte for byte", "replay", (recorded, Visit((Repeat(),))))]
    if opening is not None:
        again = Visit((Send(opening),), Tls(), Watch.SHORT)
        half = Visit((Send(opening[: len(opening) * 2 // 3]),), Tls(), Watch.LONG)
        probes += [
            Probe("replay: an opening", "replay", (again,)),
            Probe("replay: an opening, twice", "replay", (again, again)),
            Probe("replay: part of an opening", "replay", (half,)),
        ]
    return probes
