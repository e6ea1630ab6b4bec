"""The settings of the two roles; every attribute is the YAML key of the same name.

Durations are seconds, sizes bytes, files absolute paths, addresses
:class:`~ptproxy.config.quantities.Endpoint`. A model holds only what each field
says for itself; what must hold between fields is in :mod:`ptproxy.config.rules`.
``examples`` are what an error message offers as right.
"""

from __future__ import annotations

import base64
import ipaddress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationInfo,
    model_validator,
)

from ptproxy.config.forwards import MAX_FORWARDS, Forward
from ptproxy.config.link import Link, check_codecs, check_pages, check_path
from ptproxy.config.quantities import (
    Endpoint,
    SiteUrl,
    parse_address,
    parse_duration,
    parse_host,
    parse_listen,
    parse_site,
    parse_size,
)


def _folder(info: ValidationInfo) -> Path:
    """The folder that relative paths start from."""
    context: dict[str, Any] = info.context or {}
    folder: Path = context.get("folder", Path.cwd())
    return folder


def _path(value: object, info: ValidationInfo) -> Path:
    if isinstance(value, Path):
        return _folder(info) / value
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError("expected a file name, as in cert.pem or /etc/ptproxy/cert.pem")
    return _folder(info) / Path(value).expanduser()


def _listen(value: object, info: ValidationInfo) -> tuple[Endpoint, ...]:
    texts = value if isinstance(value, list) else [value]
    if not texts:
        raise ValueError("expected at least one address, as in 127.0.0.1:1080")
    endpoints = tuple(parse_listen(text, _folder(info)) for text in texts)
    for endpoint in endpoints:
        if endpoints.count(endpoint) > 1 and endpoint.port:
            raise ValueError(f"{endpoint} stands twice")
    return endpoints


def _names(value: object) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("expected a codec's name or a list of them, as in [websocket, http]")
    return check_codecs(tuple(names))


def _codecs(value: object, info: ValidationInfo) -> tuple[str, ...]:
    names = _names(value)
    known: tuple[str, ...] | None = (info.context or {}).get("codecs")
    for name in names:
        if known is not None and name not in known:
            raise ValueError(f"there is no codec {name!r}; known are {', '.join(known)}")
    return names


def _pages(value: object) -> tuple[str, ...]:
    pages = [value] if isinstance(value, str) else value
    if not isinstance(pages, list) or not all(isinstance(page, str) for page in pages):
        raise ValueError("expected a page or a list of pages, as in [/, /about.html]")
    return check_pages(tuple(pages))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("expected text")
    return value


def _link(value: object) -> Link:
    return Link.parse(_text(value))


def _links(value: object) -> tuple[Link, ...]:
    items = value if isinstance(value, list) else [value]
    links = tuple(_link(item) for item in items)
    if len({(link.host, link.port) for link in links}) != len(links):
        raise ValueError("each bridge is named once")
    return links


def _public_key(value: object) -> bytes:
    text = _text(value)
    try:
        key = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        key = b""
    if len(key) != 32 or base64.urlsafe_b64encode(key).rstrip(b"=").decode("ascii") != text:
        raise ValueError("expected a public key: 43 characters of base64url")
    return key


def _sources(value: object) -> tuple[str, ...]:
    names = _texts(value)
    for name in names:
        if name not in _SOURCES or names.count(name) > 1:
            raise ValueError(f"expected some of {', '.join(_SOURCES)}, each once")
    return names


def _list_place(value: object, info: ValidationInfo) -> str | Path:
    if not isinstance(value, str) or "://" not in value:
        return _path(value, info)
    if not value.startswith("https://") or not value.isascii() or not value.isprintable():
        raise ValueError("expected a file, or an address that starts with https://")
    return value


def _networks(value: object) -> tuple[str, ...]:
    texts = _texts(value)
    for text in texts:
        try:
            ipaddress.ip_network(text)
        except ValueError:
            raise ValueError(f"{text[:50]!r} is no network, as in 127.0.0.0/8") from None
    return texts


def _texts(value: object) -> tuple[str, ...]:
    items = value if isinstance(value, list) else [value]
    if any(isinstance(item, bool) or not isinstance(item, str | int) for item in items):
        raise ValueError("expected text or a list of texts")
    return tuple(str(item) for item in items)


def _trust(value: object, info: ValidationInfo) -> str | Path:
    return value if isinstance(value, str) and value in ("pin", "system") else _path(value, info)


def _off(value: object) -> object:
    """YAML reads a plain ``off`` as false."""
    return "off" if value is False else value


_SOURCES = ("invite", "lines", "list")
_SHAPES = ("none", "chat", "browse", "bulk")
"""The built-in shapes, and none: what is not one of these is a file."""


def _shape(value: object, info: ValidationInfo) -> str | Path:
    if value == "auto":
        raise ValueError(
            "auto is for clients, which follow the bridge: write browse, chat, bulk, none or a file"
        )
    return value if isinstance(value, str) and value in _SHAPES else _path(value, info)


def _followed_shape(value: object, info: ValidationInfo) -> str | Path:
    return value if value == "auto" and isinstance(value, str) else _shape(value, info)


def _forwards(value: object) -> tuple[Forward, ...]:
    texts = value if isinstance(value, list) else [value]
    forwards = tuple(each if isinstance(each, Forward) else Forward.parse(each) for each in texts)
    if len(forwards) > MAX_FORWARDS:
        raise ValueError(f"at most {MAX_FORWARDS} forwards")
    for forward in forwards:
        same = [each for each in forwards if (each.kind, each.listen) == (forward.kind, forward.listen)]
        if len(same) > 1 and forward.listen.port:
            raise ValueError(f"{forward.listen} stands twice")
    return forwards


def _local(value: object) -> Endpoint:
    endpoint = parse_listen(value)
    if not endpoint.is_local or endpoint.unix is not None:
        raise ValueError(f"{endpoint}: only for programs of this machine: write 127.0.0.1 or [::1]")
    return endpoint


File = Annotated[Path, PlainValidator(_path)]
Listen = Annotated[tuple[Endpoint, ...], PlainValidator(_listen)]
Address = Annotated[Endpoint, PlainValidator(parse_address)]
Forwards = Annotated[tuple[Forward, ...], PlainValidator(_forwards)]
LocalPort = Annotated[Endpoint, PlainValidator(_local)]
Size = Annotated[int, PlainValidator(parse_size)]
Duration = Annotated[float, PlainValidator(parse_duration)]
Pages = Annotated[tuple[str, ...], PlainValidator(_pages)]
Codecs = Annotated[tuple[str, ...], PlainValidator(_codecs)]
Count = Annotated[int, Field(ge=1, le=10_000_000)]
Texts = Annotated[tuple[str, ...], PlainValidator(_texts)]
HostName = Annotated[str, PlainValidator(lambda value: parse_host(_text(value)))]
UrlPath = Annotated[str, PlainValidator(lambda value: check_path(_text(value)))]
BridgeLink = Annotated[Link, PlainValidator(_link)]
Links = Annotated[tuple[Link, ...], PlainValidator(_links)]
PublicKey = Annotated[bytes, PlainValidator(_public_key)]
Sources = Annotated[tuple[str, ...], PlainValidator(_sources)]
ListPlace = Annotated[str | Path, PlainValidator(_list_place)]
Networks = Annotated[tuple[str, ...], PlainValidator(_networks)]
Trust = Annotated[str | Path, PlainValidator(_trust)]
SiteChoice = Annotated[str | SiteUrl, PlainValidator(parse_site)]
ShapeChoice = Annotated[str | Path, PlainValidator(_shape)]
FollowedShape = Annotated[str | Path, PlainValidator(_followed_shape)]
Loop = Literal["auto", "uvloop", "asyncio"]


class Section(BaseModel):
    """A mapping of known keys; unknown ones are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _all_commented_out(cls, value: object) -> object:
        """A section without a single key is one with every default."""
        return {} if value is None else value


class LogConfig(Section):
    """What is logged, and where to."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["console", "json"] = "console"
    addresses: Literal["scrubbed", "shown"] = "scrubbed"
    """Whether client and target addresses appear in the log."""
    file: File | None = None
    """None: standard error."""


class EgressConfig(Section):
    """Where the bridge may connect to; :mod:`ptproxy.proxy.policy` reads the rules."""

    allow: Texts = Field(default=(), examples=['["10.0.0.0/8", "127.0.0.1:8080"]'])
    """Exceptions to the refusal of everything that is not the public Internet."""
    deny: Texts = Field(default=(), examples=['["192.0.2.0/24", "*:25"]'])
    ports: Texts = Field(default=("1-65535",), examples=['["80", "443", "8000-9000"]'])
    ipv6: bool = True
    connect_timeout: Duration = Field(default=10.0, examples=["10s"])
    """Seconds for one target: names, all its addresses."""


class BridgeTls(Section):
    """A bridge's TLS; ``certificate`` and ``private_key`` only where it terminates TLS itself."""

    certificate: File | None = Field(default=None, examples=["cert.pem"])
    private_key: File | None = Field(default=None, examples=["cert.key"])
    server_name: HostName | None = Field(default=None, examples=["example.org"])
    """The name clients send; None: the host of ``address``."""
    client_certificates: Annotated[Literal["off", "required"], BeforeValidator(_off)] = "off"
    client_ca: File | None = Field(default=None, examples=["ca.pem"])
    front_certificate: File | None = Field(
        default=None, examples=["/etc/letsencrypt/live/example.org/fullchain.pem"]
    )
    """``behind``: the web server's certificate, to bind openings to."""
    front_certificate_previous: File | None = Field(default=None, examples=["previous.pem"])
    """``behind``: the certificate before, for clients that saw it during a renewal."""
    binding: Literal["certificate", "none"] = "certificate"


class BridgeLimits(Section):
    """What a bridge spends at most."""

    handshakes: Count = 512
    """Connections that have not authenticated yet."""
    carriers: Count = 4096
    sessions: Count = 4096
    streams: Count = 1024
    """Streams of one session."""
    memory: Size = Field(default=256 << 20, examples=["256MiB"])
    """Bytes kept for streams until their clients have them, all sessions together."""
    idle: Duration = Field(default=0.0, examples=["1h"])
    """Seconds after which a stream without traffic is reset; 0: never."""
    half_open: Duration = Field(default=300.0, examples=["5m"])
    """Seconds a stream may stay closed in one direction without traffic in the other; 0: for ever."""
    opening_timeout: Duration = Field(default=10.0, examples=["10s"])
    """Seconds for a connection's TLS handshake and opening."""
    linger: Duration = Field(default=60.0, examples=["60s"])
    """Seconds a session without carriers is kept."""
    drain: Duration = Field(default=10.0, examples=["10s"])
    """Seconds that open streams get when the bridge stops."""


class MailboxConfig(Section):
    """The mailbox that a bridge keeps for peers who are away (``peers/PROTOCOL.md``)."""

    offer: bool = False
    size: Size = Field(default=1 << 30, examples=["1GiB"])
    """Bytes kept for all boxes; the file may become half as large again."""
    boxes: Count = 10_000
    box_size: Size = Field(default=16 << 20, examples=["16MiB"])
    box_messages: Count = 1_000
    box_tokens: Count = 4_096
    """Delivery tokens that one owner may have given out."""
    keep: Duration = Field(default=30 * 86_400.0, examples=["30d"])
    """Seconds that a message waits for its owner; whole days."""
    away: Duration = Field(default=90 * 86_400.0, examples=["90d"])
    """Seconds after which a box is deleted whose owner does not come; whole days."""
    daily: Size = Field(default=16 << 20, examples=["16MiB"])
    """Bytes that one account may have kept in a day."""


class RendezvousConfig(Section):
    """Where two peers' streams are joined."""

    offer: bool = False
    wait: Duration = Field(default=60.0, examples=["60s"])
    """Seconds that one side waits for the other."""
    pairs: Count = 4_096
    """Pairs that are joined at once."""


class LookupsConfig(Section):
    """Whether clients may look things up in the directory through this bridge (``peers/FIND.md``)."""

    offer: bool = False
    guards: Links = Field(default=(), examples=["[ptproxy://KEY@guard.example:443?codecs=websocket]"])
    """Whom the bridge asks: two, pinned; of all the directory they alone learn its address."""
    fingerprint: Literal["chrome", "firefox", "python"] = "chrome"
    """How the bridge greets its guards."""


class GuardConfig(Section):
    """Whether this bridge is a guard for others: its address becomes known to the whole directory."""

    offer: bool = False
    network: File | None = Field(default=None, examples=["nodes.list"])
    """The signed list of first nodes."""
    network_key: PublicKey | None = Field(default=None, examples=["A" * 43])
    """Who signed it."""
    allow: Networks = Field(default=(), examples=['["127.0.0.0/8"]'])
    """Addresses besides public ones to which letters may go: test networks."""


class BridgeConfig(Section):
    """A bridge's whole configuration."""

    role: Literal["bridge"]
    listen: Listen = Field(..., examples=["0.0.0.0:443"])
    mode: Literal["standalone", "behind"]
    address: Address = Field(..., examples=["example.org:443"])
    """What clients dial."""
    key: File = Field(..., examples=["bridge.key"])
    tls: BridgeTls = BridgeTls()
    seal: bool = False
    path: UrlPath = Field(default="/", examples=["/assets/live"])
    pages: Pages = Field(default=("/",), examples=["[/, /about.html]"])
    """Pages of the site, one of which clients visit before anything else."""
    codecs: Codecs = Field(default=("websocket", "http", "random"), examples=["[websocket, http]"])
    shape: ShapeChoice = Field(default="browse", examples=["browse"])
    """A built-in shape's name, a file, or ``"none"``: what clients are told to look like."""
    site: SiteChoice | None = Field(default=None, examples=["builtin"])
    """``"builtin"`` or a :class:`SiteUrl`: what strangers see."""
    keepalive: Duration = Field(default=0.0, examples=["10s"])
    """``behind``: seconds of silence after which something in front cuts a connection; 0: nothing does."""
    access: Literal["enrolled", "open"] = "enrolled"
    state: File = Field(..., examples=["state"])
    egress: EgressConfig = EgressConfig()
    mailbox: MailboxConfig = MailboxConfig()
    rendezvous: RendezvousConfig = RendezvousConfig()
    lookups: LookupsConfig = LookupsConfig()
    guard: GuardConfig = GuardConfig()
    limits: BridgeLimits = BridgeLimits()
    log: LogConfig = LogConfig()
    loop: Loop = "auto"

    @property
    def server_name(self) -> str:
        """The TLS server name that clients send."""
        return self.tls.server_name or self.address.host

    def link(self, public: bytes, pin: bytes | None, token: bytes = b"") -> Link:
        """The link for this bridge's clients; ``public`` is its static public key."""
        return Link(
            key=public,
            host=self.address.host,
            port=self.address.port,
            path=self.path,
            pages=self.pages,
            server_name=self.server_name,
            codecs=self.codecs,
            pin=pin,
            seal=self.seal,
            binding=self.tls.binding == "certificate",
            token=token,
        )


class ClientTls(Section):
    """How a client's TLS looks and whom it trusts."""

    fingerprint: Literal["chrome", "firefox", "python", "browser"] = "chrome"
    """Whose ClientHello is sent, and whose requests: a browser's, imitated; ``python``: nobody's;
    ``browser``: an installed browser carries everything."""
    profile: File | None = Field(default=None, examples=["chromium-156.yaml"])
    """What that browser says of itself, as ``scripts/capture`` recorded it; None: what comes with ptproxy."""
    browser: File | None = Field(default=None, examples=["/usr/bin/chromium"])
    """``fingerprint: browser``: the program; None: the first Chromium, Chrome or Edge that is found."""
    trust: Trust | None = Field(default=None, examples=["pin"])
    """``"pin"``, ``"system"`` or a file of authorities; None: pin where the link has one, else system."""
    client_certificate: File | None = Field(default=None, examples=["client.pem"])
    client_key: File | None = Field(default=None, examples=["client.pem.key"])


class FrontConfig(Section):
    """Who may use the local port."""

    user: str | None = Field(default=None, min_length=1, max_length=255, examples=["anna"])
    password_file: File | None = Field(default=None, examples=["password"])


class DnsConfig(Section):
    """A local DNS port."""

    listen: LocalPort | None = Field(default=None, examples=["127.0.0.1:5300"])
    """None: there is none."""
    resolver: Address = Field(default=Endpoint("9.9.9.9", 53), examples=["9.9.9.9:53"])
    """Who is asked, from the bridge; it must speak TCP."""


class ClientLimits(Section):
    """What a client spends at most."""

    connections: Count = 4096
    """Local connections."""
    streams: Count = 1024
    """Streams of the session."""
    memory: Size = Field(default=64 << 20, examples=["64MiB"])
    """Bytes kept for streams until the bridge has them."""
    idle: Duration = Field(default=0.0, examples=["1h"])
    """Seconds after which a stream without traffic is reset; 0: never."""
    half_open: Duration = Field(default=300.0, examples=["5m"])
    """Seconds a stream may stay closed in one direction without traffic in the other; 0: for ever."""
    linger: Duration = Field(default=60.0, examples=["60s"])
    """Seconds that streams wait for the tunnel to come back."""
    drain: Duration = Field(default=5.0, examples=["5s"])
    """Seconds that open streams get when the client stops."""


class FindConfig(Section):
    """Where a client learns of bridges besides ``bridge``."""

    sources: Sources = Field(default=("invite", "lines", "list"), examples=["[invite, lines]"])
    """In this order: bridges of the first are tried first."""
    invite: File | None = Field(default=None, examples=["client.invite"])
    """A ``ptproxy-invite:`` text, whose record is looked up in the directory."""
    lines: File | None = Field(default=None, examples=["bridges.txt"])
    """Bridge links, one a line."""
    list: ListPlace | None = Field(default=None, examples=["https://example.org/bridges"])
    """A signed list of bridges: a file, or an HTTPS address that is read through the tunnel."""
    list_key: PublicKey | None = Field(default=None, examples=["A" * 43])
    network_key: PublicKey | None = Field(default=None, examples=["A" * 43])
    """Who signs the list of directory nodes; None: whoever signed the first that a bridge handed out."""
    every: Duration = Field(default=6 * 3_600.0, examples=["6h"])
    """Seconds between two look-ups."""

    @property
    def is_used(self) -> bool:
        """Whether there is any source."""
        return self.invite is not None or self.lines is not None or self.list is not None


class ClientConfig(Section):
    """A client's whole configuration."""

    role: Literal["client"]
    listen: Listen = Field(..., examples=["127.0.0.1:1080"])
    bridge: BridgeLink = Field(..., examples=["ptproxy://KEY@example.org:443?codecs=websocket"])
    key: File = Field(..., examples=["client.key"])
    codec: Codecs | None = Field(default=None, examples=["[websocket, http]"])
    """In order of preference; None: what the link names, in its order (:attr:`codecs`)."""
    shape: FollowedShape = Field(default="auto", examples=["auto"])
    """``"auto"``: the bridge's; else as the bridge's own key."""
    carriers: int = Field(default=4, ge=1, le=64)
    forward: Forwards = Field(default=(), examples=["[127.0.0.1:2222 -> example.org:22]"])
    """Ports of this machine that stand for one target each."""
    dns: DnsConfig = DnsConfig()
    pac: LocalPort | None = Field(default=None, examples=["127.0.0.1:1081"])
    """Where browsers find ``/proxy.pac``; None: nowhere."""
    front: FrontConfig = FrontConfig()
    find: FindConfig = FindConfig()
    tls: ClientTls = ClientTls()
    state: File = Field(..., examples=["state"])
    limits: ClientLimits = ClientLimits()
    log: LogConfig = LogConfig()
    loop: Loop = "auto"

    @property
    def codecs(self) -> tuple[str, ...]:
        """The codecs to use, best first."""
        return self.codec if self.codec is not None else self.bridge.codecs

    @property
    def pin(self) -> bytes | None:
        """The certificate pin to check, or None where authorities decide."""
        return self.bridge.pin if self.tls.trust in (None, "pin") else None

    @property
    def authorities(self) -> Path | None:
        """The file of authorities to trust instead of the system's, or None."""
        return self.tls.trust if isinstance(self.tls.trust, Path) else None


Config = BridgeConfig | ClientConfig
