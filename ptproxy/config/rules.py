"""What must hold between the fields of a configuration, each rule with advice.

A rule yields a :class:`Conflict`: the field to point at, the other fields it
looked at, and what would be right. Files are looked at as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ptproxy.config import keyfile
from ptproxy.config.link import check_fronts
from ptproxy.config.model import BridgeConfig, ClientConfig, Config, MailboxConfig
from ptproxy.config.quantities import is_ip

SHORTEST_KEEPALIVE: Final = 10.0
"""Seconds: the http codec may be silent for 8, and no front is known that cuts sooner."""


SMALLEST_BOX: Final = 1 << 20
"""Bytes: the largest envelope has 128 KiB, and one contact may hold a fourth of a box."""
DAY: Final = 86_400
SHORTEST_FIND: Final = 600.0
"""Seconds: a look-up is some 250 requests of 4 KiB through the tunnel."""
MAX_GUARDS: Final = 3
"""Guards of a bridge: each more is one more machine that knows where it is."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """``field`` (dotted) is wrong given ``others``: ``text``."""

    field: str
    text: str
    others: tuple[str, ...] = ()


Rule = Callable[[Config], Iterator[Conflict]]
"""More rules can be given to :func:`ptproxy.config.load.load`."""


def conflicts(config: Config) -> Iterator[Conflict]:
    """Everything that does not fit together in ``config``, and every file that cannot be used."""
    if isinstance(config, BridgeConfig):
        yield from _standalone(config) if config.mode == "standalone" else _behind(config)
        yield from _bridge(config)
    else:
        yield from _client(config)


def _standalone(config: BridgeConfig) -> Iterator[Conflict]:
    tls, mode = config.tls, ("mode",)
    if any(front.server_name not in ("", config.server_name) for front in config.fronts):
        yield Conflict(
            "fronts",
            f"mode: standalone takes only the name {config.server_name}, everything else is its site's: "
            "leave out name= (a CDN in front needs mode: behind)",
            mode,
        )
    for name, example in (("certificate", "cert.pem"), ("private_key", "cert.key")):
        if getattr(tls, name) is None:
            yield Conflict(
                f"tls.{name}", f"mode: standalone terminates TLS itself and needs it: {name}: {example}", mode
            )
    if config.site is None:
        yield Conflict(
            "site",
            "mode: standalone must show strangers a web site: site: https://127.0.0.1:8443, "
            "or site: builtin for trials",
            mode,
        )
    if config.keepalive:
        yield Conflict("keepalive", "is for what stands in front of the bridge: only with mode: behind", mode)
    for name in ("front_certificate", "front_certificate_previous"):
        if getattr(tls, name) is not None:
            yield Conflict(
                f"tls.{name}", "is the certificate of a web server in front: only with mode: behind", mode
            )
    for endpoint in config.listen:
        if endpoint.unix is not None:
            yield Conflict(
                "listen", f"{endpoint} is only for mode: behind; write an address, as in 0.0.0.0:443", mode
            )
    if tls.client_certificates == "required" and tls.client_ca is None:
        yield Conflict(
            "tls.client_ca",
            "client_certificates: required needs the authority that signed them: client_ca: ca.pem",
            ("tls.client_certificates",),
        )


def _behind(config: BridgeConfig) -> Iterator[Conflict]:
    tls, mode = config.tls, ("mode",)
    for name in ("certificate", "private_key"):
        if getattr(tls, name) is not None:
            yield Conflict(
                f"tls.{name}",
                "with mode: behind the web server in front has certificate and key: remove it here "
                "(front_certificate names the web server's, for the binding)",
                mode,
            )
    for endpoint in config.listen:
        if not endpoint.is_local:
            yield Conflict(
                "listen",
                f"with mode: behind only the web server may reach the bridge, and {endpoint} is open to "
                "others: write a Unix socket or loopback, as in unix:/run/ptproxy/bridge.sock or "
                "127.0.0.1:9443",
                mode,
            )
    if 0 < config.keepalive < SHORTEST_KEEPALIVE:
        yield Conflict(
            "keepalive",
            "no codec is that chatty: write how long silent connections live in front, 10s or more, or off",
        )
    if config.site is not None:
        yield Conflict(
            "site", "with mode: behind strangers see the web server's own site: remove it here", mode
        )
    if "random" in config.codecs:
        yield Conflict(
            "codecs",
            "a web server in front passes only HTTP: take random out, or use mode: standalone",
            mode,
        )
    if config.path == "/":
        yield Conflict(
            "path",
            "with mode: behind the web server passes one secret path on: path: /some/secret/words, "
            "the same as in its configuration",
            mode,
        )
    if tls.binding == "certificate" and tls.front_certificate is None:
        yield Conflict(
            "tls.front_certificate",
            "openings are bound to the certificate that clients see, so name the web server's file: "
            "front_certificate: /etc/.../fullchain.pem; where a CDN terminates TLS: binding: none "
            "and seal: true",
            ("mode", "tls.binding"),
        )
    if tls.front_certificate_previous is not None and tls.front_certificate is None:
        yield Conflict(
            "tls.front_certificate_previous", "needs front_certificate beside it", ("tls.front_certificate",)
        )
    if tls.client_certificates == "required":
        yield Conflict(
            "tls.client_certificates",
            "with mode: behind only the web server could ask for them: write off, or use mode: standalone",
            mode,
        )


def _bridge(config: BridgeConfig) -> Iterator[Conflict]:
    try:
        check_fronts(config.fronts, (config.address.host, config.address.port), config.codecs)
    except ValueError as error:
        yield Conflict("fronts", str(error), ("address", "codecs"))
    if config.group is not None and config.user is None:
        yield Conflict("group", "is the user's: set user as well", ("user",))
    tls = config.tls
    if tls.binding == "none" and not config.seal:
        yield Conflict(
            "tls.binding",
            "none leaves nothing that shows who terminates TLS: set seal: true as well, "
            "or binding: certificate",
            ("seal",),
        )
    for name in ("client_ca", "client_crl"):
        if getattr(tls, name) is not None and tls.client_certificates == "off":
            yield Conflict(
                f"tls.{name}",
                "has no effect with client_certificates: off; "
                "write client_certificates: required, or remove it",
                ("tls.client_certificates",),
            )
    if tls.server_name is None and is_ip(config.address.host):
        yield Conflict(
            "tls.server_name",
            f"address {config.address} is an IP address, so say which name clients send: "
            "server_name: example.org (one that your certificate has)",
            ("address",),
        )
    yield from _mailbox(config.mailbox)
    yield from _directory(config)
    if config.reverse.offer and config.access == "open":
        yield Conflict(
            "reverse.offer",
            "only clients that the access list names may offer services: write access: enrolled",
            ("access",),
        )
    yield from _file("key", config.key, keyfile.read_key)
    yield from _file("tls.private_key", tls.private_key, keyfile.check_private_key)
    for name in ("certificate", "client_ca", "front_certificate", "front_certificate_previous"):
        yield from _file(f"tls.{name}", getattr(tls, name), keyfile.check_certificate)


def _mailbox(mailbox: MailboxConfig) -> Iterator[Conflict]:
    for name in ("box_size", "daily"):
        if getattr(mailbox, name) < SMALLEST_BOX:
            yield Conflict(f"mailbox.{name}", "a quarter of it must hold the largest message: at least 1MiB")
    if mailbox.box_size > mailbox.size:
        yield Conflict(
            "mailbox.box_size", "one box cannot hold more than all: raise mailbox.size", ("mailbox.size",)
        )
    for name in ("keep", "away"):
        if getattr(mailbox, name) < DAY:
            yield Conflict(f"mailbox.{name}", "is counted in whole days: at least 1d")


def _directory(config: BridgeConfig) -> Iterator[Conflict]:
    lookups, guard = config.lookups, config.guard
    if lookups.offer and not 1 <= len(lookups.guards) <= MAX_GUARDS:
        yield Conflict(
            "lookups.guards",
            f"two guards that you choose and keep (1 to {MAX_GUARDS}): each line lets this bridge in at one",
            ("lookups.offer",),
        )
    if guard.offer and (guard.network is None or guard.network_key is None):
        yield Conflict(
            "guard.network", "a guard needs network and network_key: the signed list of directory nodes",
            ("guard.offer",),
        )  # fmt: skip
    if lookups.offer and guard.offer:
        yield Conflict(
            "lookups.offer",
            "the whole directory knows a guard's address and must not know a bridge's: choose one of the two",
            ("guard.offer",),
        )


def _client(config: ClientConfig) -> Iterator[Conflict]:
    tls, front, link = config.tls, config.front, config.bridge
    missing = [name for name in config.codecs if name not in link.codecs]
    if missing:
        yield Conflict(
            "codec",
            f"the bridge does not speak {', '.join(missing)}; its link names {', '.join(link.codecs)}",
            ("bridge",),
        )
    if tls.trust == "pin" and link.pin is None:
        yield Conflict(
            "tls.trust",
            "the link pins no certificate: write trust: system, or a file of authorities",
            ("bridge",),
        )
    for name, other in (("client_certificate", "client_key"), ("client_key", "client_certificate")):
        if getattr(tls, name) is None and getattr(tls, other) is not None:
            yield Conflict(f"tls.{name}", f"{other} needs {name} beside it", (f"tls.{other}",))
    if tls.client_certificate is not None and tls.fingerprint != "python":
        yield Conflict(
            "tls.client_certificate",
            "browsers seldom have one: only with tls.fingerprint: python",
            ("tls.fingerprint",),
        )
    for name, other in (("user", "password_file"), ("password_file", "user")):
        if getattr(front, name) is None and getattr(front, other) is not None:
            yield Conflict(f"front.{name}", f"{other} needs {name} beside it", (f"front.{other}",))
    for endpoint in config.listen:
        if endpoint.unix is not None:
            yield Conflict(
                "listen", f"{endpoint} is only for a bridge; write an address, as in 127.0.0.1:1080"
            )
        elif front.user is None and not endpoint.is_local:
            yield Conflict(
                "listen",
                f"whoever reaches {endpoint} could use the proxy: listen on 127.0.0.1 or [::1], "
                "or set front.user and front.password_file",
                ("front.user",),
            )
    yield from _find(config)
    yield from _file("key", config.key, keyfile.read_key)
    yield from _file("front.password_file", front.password_file, keyfile.read_password)
    yield from _file("tls.client_certificate", tls.client_certificate, keyfile.check_certificate)
    yield from _file("tls.client_key", tls.client_key, keyfile.check_private_key)
    if isinstance(tls.trust, Path):
        yield from _file("tls.trust", tls.trust, keyfile.check_certificate)


def _find(config: ClientConfig) -> Iterator[Conflict]:
    find = config.find
    if find.list is not None and find.list_key is None:
        yield Conflict("find.list_key", "a list is believed for its signature: whose?", ("find.list",))
    if find.every < SHORTEST_FIND:
        yield Conflict("find.every", "nobody's bridges move that often: 10m or more")


def _file(field: str, path: Path | None, read: Callable[[Path], object]) -> Iterator[Conflict]:
    """A conflict when the file cannot be used."""
    if path is not None:
        try:
            read(path)
        except ValueError as error:
            yield Conflict(field, str(error))
