"""``ptproxy init bridge``: a bridge's configuration, keys, certificate and first invite."""

from __future__ import annotations

import contextlib
import datetime
import random
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from ptproxy import state
from ptproxy.auth.access import Access, AccessList
from ptproxy.auth.credentials import StaticKey, new_token
from ptproxy.cli import web_server, words, written
from ptproxy.codec import codec_table
from ptproxy.codec.interface import CodecSettings
from ptproxy.config.link import Front, Link, check_path
from ptproxy.config.quantities import Endpoint, SiteUrl, is_ip, parse_address, parse_listen, parse_site
from ptproxy.proxy.account_store import DATABASE, SqliteStore
from ptproxy.tunnel.certificate import pin_for, self_signed

FIRST_INVITE: Final = "first"
"""Name of the invite that a new bridge starts with."""
FIRST_INVITE_LIFE: Final = 7 * 86400
"""Seconds that it can be used: a week."""
BEHIND_LISTEN: Final = "127.0.0.1:9443"
"""Where a bridge behind a web server that is not named listens unless told otherwise."""
CDN_KEEPALIVE: Final = "10s"
"""The shortest silence after which CDNs are known to cut a connection."""

_PATH_WORDS: Final = ("api", "app", "assets", "events", "feed", "live", "media", "notify", "sync", "updates")
_MODES: Final = click.Choice(["standalone", "behind"])
_ACCESS: Final = click.Choice(["enrolled", "open"])


@dataclass(slots=True)
class Plan:
    """What was asked for on the command line; the fields are the options."""

    folder: Path
    address: str
    listen: str | None
    mode: str | None
    server_name: str | None
    codecs: tuple[str, ...]
    access: str
    site: str | None
    path: str | None
    certificate: Path | None
    private_key: Path | None
    front_certificate: Path | None
    seal: bool
    cdn: bool
    fronts: tuple[str, ...] = ()
    behind: str | None = None

    @property
    def standalone(self) -> bool:
        """Whether the bridge terminates TLS itself."""
        return self.mode == "standalone"

    @property
    def endpoint(self) -> Endpoint:
        """What clients dial."""
        return parse_address(self.address)

    @property
    def config_file(self) -> Path:
        """The configuration to write."""
        return self.folder / "bridge.yaml"

    def complete(self) -> None:
        """Refuse what does not go together (usage errors), and settle what was left open."""
        if self.mode is None:
            self.mode = "standalone" if self.behind is None else "behind"
        self._refuse_contradictions()
        host, port = self.endpoint.host, self.endpoint.port
        local = host in ("localhost", "::1") or host.startswith("127.")
        if self.server_name is None:
            if is_ip(host) and not local:
                raise click.UsageError(
                    "--address is an IP address: say which name clients are to send, "
                    "as in --server-name example.org"
                )
            self.server_name = "localhost" if local else host
        if self.listen is None:
            everywhere = "::" if is_ip(host) and ":" in host else "0.0.0.0"
            if self.standalone:
                self.listen = str(Endpoint(host if local else everywhere, port))
            else:
                self.listen = web_server.DEFAULT_LISTEN.get(self.behind or "", BEHIND_LISTEN)
        if self.path is None:
            self.path = f"/{secrets.choice(_PATH_WORDS)}/{secrets.token_hex(8)}"  # 64 bits nobody guesses
        if self.standalone and self.site is None:
            self.site = "builtin"
        if self.standalone and any(
            Front.parse(text).server_name not in ("", self.server_name) for text in self.fronts
        ):
            raise click.UsageError("a front with a name of its own needs --behind or --mode behind")
        self.codecs = self.codecs or tuple(
            name for name in codec_table() if self.standalone or name != "random"
        )
        self.seal = self.seal or self.cdn
        server = self.web_server()
        if server is not None:
            try:
                server.files()
            except ValueError as error:
                raise click.UsageError(str(error)) from None

    def _refuse_contradictions(self) -> None:
        if (self.certificate is None) != (self.private_key is None):
            raise click.UsageError("--certificate and --private-key go together")
        if len(set(self.codecs)) != len(self.codecs):
            raise click.UsageError("each --codec is named once")
        if self.standalone:
            if self.behind is not None:
                raise click.UsageError("--behind says that TLS ends at a web server: leave out --mode")
            if self.front_certificate is not None or self.cdn:
                raise click.UsageError("--front-certificate and --cdn are for --behind and --mode behind")
            return
        self._refuse_in_front()

    def _refuse_in_front(self) -> None:
        """What cannot be where a web server terminates TLS."""
        asked = "--mode behind" if self.behind is None else f"--behind {self.behind}"
        if self.certificate is not None:
            raise click.UsageError(
                f"with {asked} the web server has the certificate: use --front-certificate"
            )
        if (self.front_certificate is None) == (not self.cdn):
            raise click.UsageError(
                f"{asked} needs --front-certificate with the web server's certificate, "
                "or --cdn where a CDN terminates TLS"
            )
        if "random" in self.codecs:
            raise click.UsageError("a web server in front passes only HTTP: leave out --codec random")
        if self.site is not None and (self.behind != "haproxy" or self.site == "builtin"):
            raise click.UsageError(
                f"with {asked} strangers see the web server's own site: leave out --site "
                "(--behind haproxy takes the URL of the web server behind it)"
            )
        endpoint = parse_listen(self.listen) if self.listen is not None else None
        if endpoint is not None and not endpoint.is_local:
            raise click.UsageError(
                f"with {asked} only the web server may reach the bridge: --listen takes a Unix socket or "
                "loopback, as in unix:/run/ptproxy/bridge.sock or 127.0.0.1:9443"
            )

    def values(self) -> dict[str, written.Value]:
        """The configuration's values that differ from the example's."""
        values: dict[str, written.Value] = {
            "listen": self.listen,
            "address": self.address,
            "tls.server_name": self.server_name,
            "tls.binding": "none" if self.cdn else "certificate",
            "seal": self.seal,
            "path": self.path,
            "codecs": self.codecs,
            "access": self.access,
        }
        if self.fronts:
            values["fronts"] = self.fronts
        if self.standalone:
            values["tls.certificate"] = str(self.certificate.absolute()) if self.certificate else "cert.pem"
            values["tls.private_key"] = str(self.private_key.absolute()) if self.private_key else "cert.key"
            values["site"] = self.site
        else:
            front = self.front_certificate
            values["tls.front_certificate"] = str(front.absolute()) if front else None
            values["keepalive"] = CDN_KEEPALIVE if self.cdn else "off"
        return values

    def text(self) -> str:
        """The configuration."""
        if self.standalone:
            return written.fill(written.example("bridge.yaml"), self.values())
        text = written.fill(written.example("bridge-behind-nginx.yaml"), self.values())
        head, mark, snippet = text.partition("# ---- the web server in front")
        server = self.web_server()
        if server is not None:
            lines = [
                f"What goes into {server.name}'s configuration is in the files beside this one:",
                "",
                *server.steps(),
            ]
            return head + "\n".join(f"# {line}".rstrip() for line in lines) + "\n"
        snippet = snippet.replace("unix:/run/ptproxy/bridge.sock", str(parse_listen(self.listen)))
        return head + mark + snippet.replace("/assets/live", str(self.path))

    def web_server(self) -> web_server.WebServer | None:
        """The web server named by ``--behind``, once complete."""
        if self.behind is None:
            return None
        site = parse_site(self.site) if self.site is not None else None
        return web_server.WebServer(
            self.behind,
            CodecSettings.of(str(self.server_name), self.endpoint.port, str(self.path)),
            parse_listen(self.listen, self.folder.absolute()),
            site if isinstance(site, SiteUrl) else web_server.DEFAULT_SITE,
        )

    def link(self, key: StaticKey, token: bytes) -> Link:
        """The link, once the certificate is there."""
        shown = self.front_certificate
        if self.standalone:
            shown = self.certificate or self.folder / "cert.pem"
        return Link(
            key=key.public,
            host=self.endpoint.host,
            port=self.endpoint.port,
            path=str(self.path),
            server_name=str(self.server_name),
            codecs=self.codecs,
            pin=pin_for(shown) if shown is not None else None,
            seal=self.seal,
            binding=not self.cdn,
            token=token,
            fronts=tuple(map(Front.parse, self.fronts)),
        )


@click.command()
@click.argument("folder", metavar="DIR", type=words.FOLDER)
@click.option("--address", type=words.ADDRESS, required=True, help="What clients connect to.")
@click.option(
    "--listen",
    type=words.LISTEN,
    help="Where to listen.  [default: the port of --address; behind a web server, for it alone]",
)
@click.option(
    "--mode",
    type=_MODES,
    help="Terminate TLS here, or behind a web server. --behind says behind as well.  [default: standalone]",
)
@click.option(
    "--behind",
    type=click.Choice(web_server.SERVERS),
    help="Behind this web server, and write the files that its configuration includes.",
)
@click.option("--server-name", type=words.HOST, help="The TLS server name.  [default: the host of --address]")
@click.option(
    "--codec",
    "codecs",
    type=click.Choice(list(codec_table())),
    multiple=True,
    help="A codec to offer; repeat for more, best first.  [default: all]",
)
@click.option(
    "--access",
    type=_ACCESS,
    default="enrolled",
    show_default=True,
    help="Let in invited clients only, or whoever has the link.",
)
@click.option(
    "--site",
    type=words.SITE,
    help="What strangers see, a URL; with --behind haproxy what it passes them to.  [default: builtin]",
)
@click.option("--path", type=words.Checked("path", check_path), help="The secret path.  [default: random]")
@click.option("--certificate", type=words.FILE, help="Your certificate (PEM).  [default: a self-signed one]")
@click.option("--private-key", type=words.FILE, help="The private key of --certificate.")
@click.option("--front-certificate", type=words.FILE, help="Behind: the web server's certificate.")
@click.option("--cdn", is_flag=True, help="Behind a CDN: sealed, not bound to a certificate.")
@click.option(
    "--front",
    "fronts",
    type=words.Checked("host:port;name=n", Front.parse),
    multiple=True,
    help="Where else clients reach it, as in [2001:db8::1]:443; repeat for more, best first.",
)
@click.option("--seal", is_flag=True, help="Encrypt once more inside TLS.")
@click.option("--force", is_flag=True, help="Replace what is there, keys included: old links stop working.")
@click.option("--qr/--no-qr", default=True, help="Whether to draw the link as a QR code.")
def bridge(*, force: bool, qr: bool, **options: Any) -> None:
    """Write a bridge's configuration, keys and first invite into DIR, and print its link.

    \b
    A trial on this machine:
      ptproxy init bridge bridge --address 127.0.0.1:8443
    A server with a name and a site of its own:
      ptproxy init bridge bridge --address example.org:443 --site https://127.0.0.1:8443 \\
          --certificate fullchain.pem --private-key privkey.pem
    Behind nginx, caddy or haproxy, with the files for its configuration:
      ptproxy init bridge bridge --address example.org:443 --behind nginx \\
          --front-certificate fullchain.pem
    Behind any other web server:
      ptproxy init bridge bridge --address example.org:443 --mode behind \\
          --front-certificate fullchain.pem
    """
    plan = Plan(**options)
    plan.complete()
    folder = plan.folder
    key_file, access_file = folder / "bridge.key", folder / "state" / DATABASE
    makes_certificate = plan.standalone and plan.certificate is None
    certificate_files = (folder / "cert.pem", folder / "cert.key") if makes_certificate else ()
    server = plan.web_server()
    texts = server.files() if server is not None else {}
    server_files = tuple(folder / name for name in texts)
    words.refuse_existing(force, plan.config_file, key_file, access_file, *certificate_files, *server_files)
    rng = random.SystemRandom()
    key = StaticKey.generate(rng)
    if makes_certificate:
        pem, private = self_signed(str(plan.server_name), datetime.datetime.now(datetime.UTC), rng)
        state.write_file(folder / "cert.pem", pem)
        state.write_file(folder / "cert.key", private)
    token = new_token(rng) if plan.access == "enrolled" else None
    link = plan.link(key, token.secret if token is not None else b"")
    access_list = AccessList(Access(plan.access))
    if token is not None:
        access_list.invite(token, FIRST_INVITE, expires_at=int(time.time()) + FIRST_INVITE_LIFE)
    state.write_file(key_file, key.serialize_private() + "\n")
    with contextlib.closing(SqliteStore(access_file.parent, access_list.access)) as store:
        store.replace(access_list)
    for name, text in texts.items():
        state.write_file(folder / name, text)
    state.write_file(plan.config_file, plan.text())
    _tell(plan, link, qr=qr)


def _tell(plan: Plan, link: Link, *, qr: bool) -> None:
    """The link, and what to do next."""
    click.echo(f"Wrote {plan.config_file}, and its keys and state beside it.")
    if link.token:
        click.echo("This link lets in one client, within a week. Give it to nobody else:")
    else:
        click.echo("This link lets in everybody who has it:")
    words.print_link(link.serialize(), qr=qr)
    server = plan.web_server()
    if server is not None:
        click.echo(f"For {server.name}'s configuration:")
        for line in server.steps():
            click.echo(f"  {line}")
        if plan.listen == web_server.SOCKET:
            click.echo("The socket's folder has to be there (systemd: RuntimeDirectory=ptproxy), and open to")
            click.echo(f"{server.name}. Then, here:")
        else:
            click.echo("Then, here:")
    elif not plan.standalone:
        click.echo("Put the lines at the end of the configuration into the web server's. Then, here:")
    else:
        click.echo("Next, here:")
    click.echo(words.command("ptproxy", "bridge", "-c", plan.config_file))
    click.echo("and on the client's machine, pasting the link when asked for it:")
    click.echo(words.command("ptproxy", "init", "client", "client", "-"))
    click.echo(words.command("ptproxy", "client", "-c", "client/client.yaml"))
    if link.token:
        click.echo("To let in more clients:")
        click.echo(words.command("ptproxy", "invite", "new", plan.folder))
    if plan.site == "builtin":
        click.echo(
            "site: builtin is for trials; show strangers a real web site before others find the bridge."
        )
