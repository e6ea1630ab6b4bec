"""The settings of the two roles; every attribute is the YAML key of the same name.

Durations are seconds, sizes bytes, files absolute paths, addresses
:class:`~ptproxy.config.quantities.Endpoint`. A model holds only what each field
says for itself; what must hold between fields is in :mod:`ptproxy.config.rules`.
``examples`` are what an error message offers as right.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    model_validator,
)

from ptproxy.config.link import Link
from ptproxy.config.quantities import Endpoint
from ptproxy.config.values import (
    Address,
    BridgeLink,
    Codecs,
    Count,
    Duration,
    File,
    FollowedShape,
    Forwards,
    Fronts,
    HostName,
    Links,
    Listen,
    ListeningIp,
    ListPlace,
    LocalPort,
    Loop,
    MeasuresPlace,
    Networks,
    Off,
    Pages,
    PublicKey,
    Reverses,
    ShapeChoice,
    SiteChoice,
    Size,
    Sources,
    Texts,
    Trust,
    UrlPath,
    Weights,
)


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


class MetricsConfig(Section):
    """A port of this machine for Prometheus and health checks; off by default."""

    listen: MeasuresPlace | None = Field(default=None, examples=["127.0.0.1:9464"])
    """None: there is none."""


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
    client_certificates: Annotated[Literal["off", "required"], Off] = "off"
    client_ca: File | None = Field(default=None, examples=["ca.pem"])
    client_crl: File | None = Field(default=None, examples=["crl.pem"])
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


class ReverseConfig(Section):
    """Whether clients that the access list names may offer services of theirs at this bridge."""

    offer: bool = False
    listen: ListeningIp = Field(default="127.0.0.1", examples=["0.0.0.0"])
    """The bridge's address at which such services are reached."""
    connections: Count = 256
    """Connections to the services of one account, those that wait for it included."""


class BridgeConfig(Section):
    """A bridge's whole configuration."""

    role: Literal["bridge"]
    listen: Listen = Field(..., examples=["0.0.0.0:443"])
    mode: Literal["standalone", "behind"]
    address: Address = Field(..., examples=["example.org:443"])
    """What clients dial."""
    fronts: Fronts = Field(default=(), examples=['["[2001:db8::1]:443", "cdn.example:443;name=cdn.example"]'])
    """Where else clients reach this bridge, the best first."""
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
    user: str | None = Field(default=None, min_length=1, max_length=64, examples=["ptproxy"])
    """Whom a process that was started as root becomes, for good, once it has bound its addresses and read
    its keys; None: it stays who it is."""
    group: str | None = Field(default=None, min_length=1, max_length=64, examples=["ssl-cert"])
    """Its only group; None: the user's own."""
    session_state: Literal["end", "keep"] = "end"
    """``"keep"``: when the bridge is replaced by a new process (SIGUSR2, ``ptproxy bridge --replace``),
    that goes on with the sessions and streams."""
    egress: EgressConfig = EgressConfig()
    mailbox: MailboxConfig = MailboxConfig()
    rendezvous: RendezvousConfig = RendezvousConfig()
    lookups: LookupsConfig = LookupsConfig()
    guard: GuardConfig = GuardConfig()
    reverse: ReverseConfig = ReverseConfig()
    limits: BridgeLimits = BridgeLimits()
    log: LogConfig = LogConfig()
    metrics: MetricsConfig = MetricsConfig()
    loop: Loop = "auto"
    workers: int = Field(default=1, ge=1, le=64)
    """Processes that share the work, one for each core; more than one on Linux."""

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
            fronts=self.fronts,
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

    sources: Sources = Field(default=("invite", "lines", "list", "chat"), examples=["[invite, lines]"])
    """In this order: bridges of the first are tried first."""
    invite: File | None = Field(default=None, examples=["client.invite"])
    """A ``ptproxy-invite:`` text, whose record is looked up in the directory."""
    chat: File | None = Field(default=None, examples=["bridges.invites"])
    """Invites that contacts passed on, as ``ptproxy chat`` writes them; each looked up as ``invite`` is."""
    lines: File | None = Field(default=None, examples=["bridges.txt"])
    """Bridge links, one a line."""
    list: ListPlace | None = Field(default=None, examples=["https://example.org/bridges"])
    """A signed list of bridges: a file, or an HTTPS address that is read through the tunnel."""
    list_key: PublicKey | None = Field(default=None, examples=["A" * 43])
    network_key: PublicKey | None = Field(default=None, examples=["A" * 43])
    """Who signs the list of directory nodes; None: whoever signed the first that a bridge handed out."""
    every: Duration = Field(default=6 * 3_600.0, examples=["6h"])
    """Seconds between two look-ups."""
    choice: Literal["ordered", "weighted", "measured"] = "ordered"
    """Which of several bridges new streams take: the first that works, any, or the quickest."""
    weights: Weights = Field(default_factory=dict, examples=["{bridge.example:443: 3}"])
    """How often ``weighted`` takes a bridge, by ``HOST:PORT``; 1 where nothing is said, 0: in need only."""

    @property
    def is_used(self) -> bool:
        """Whether there is any source."""
        return any(each is not None for each in (self.invite, self.lines, self.list, self.chat))


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
    reverse: Reverses = Field(default=(), examples=["[2222 -> 127.0.0.1:22]"])
    """Services behind this client that are offered at ports of the bridge."""
    dns: DnsConfig = DnsConfig()
    pac: LocalPort | None = Field(default=None, examples=["127.0.0.1:1081"])
    """Where browsers find ``/proxy.pac``; None: nowhere."""
    page: LocalPort | None = Field(default=None, examples=["127.0.0.1:1082"])
    """Where the page for people is; None: nowhere."""
    front: FrontConfig = FrontConfig()
    find: FindConfig = FindConfig()
    tls: ClientTls = ClientTls()
    state: File = Field(..., examples=["state"])
    limits: ClientLimits = ClientLimits()
    log: LogConfig = LogConfig()
    metrics: MetricsConfig = MetricsConfig()
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
