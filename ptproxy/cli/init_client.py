"""``ptproxy init client``: a client's configuration and key."""

from __future__ import annotations

import random
import time
from pathlib import Path

import click

from ptproxy import state
from ptproxy.auth.credentials import StaticKey
from ptproxy.cli import words, written
from ptproxy.cli.given import LINK, parse_link, read_given
from ptproxy.config.link import Link
from ptproxy.config.quantities import Endpoint, parse_listen
from ptproxy.dht.invite import PREFIX, Invite
from ptproxy.errors import DhtError


@click.command()
@click.argument("folder", metavar="DIR", type=words.FOLDER)
@click.argument("link_text", metavar="LINK")
@click.option(
    "--listen",
    type=words.LISTEN,
    default="127.0.0.1:1080",
    show_default=True,
    help="Where local programs connect.",
)
@click.option(
    "--codec",
    "codecs",
    type=str,
    multiple=True,
    help="A codec to use; repeat for more, best first.  [default: all that the link names]",
)
@click.option(
    "--force", is_flag=True, help="Replace what is there, the key included: it must be invited again."
)
def client(*, folder: Path, link_text: str, listen: str, codecs: tuple[str, ...], force: bool) -> None:
    """Write a client's configuration and key into DIR, for the bridge of LINK.

    LINK is a ptproxy:// link or a ptproxy-invite: (which finds its bridges again when they move),
    best given as - to paste or pipe it in, or as @FILE, a text or a picture of its QR code. Both are
    secrets: on the command line other users of the machine could see them.
    """
    link, invite = read_link_or_invite(link_text)
    missing = [codec for codec in codecs if codec not in link.codecs]
    if missing:
        raise click.UsageError(
            f"the bridge does not speak {', '.join(missing)}, only {', '.join(link.codecs)}"
        )
    if len(set(codecs)) != len(codecs):
        raise click.UsageError("each --codec is named once")
    config_file = write_client(folder, link, invite, listen=listen, codecs=codecs, force=force)
    click.echo(f"Wrote {config_file} and a new key into {folder}.")
    click.echo("Next:")
    click.echo(words.command("ptproxy", "client", "-c", config_file))
    click.echo("and then, for example:")
    here = parse_listen(listen)
    shown = Endpoint({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(here.host, here.host), here.port)
    click.echo(words.command("curl", "--proxy", f"socks5h://{shown}", "https://example.org/"))


def write_client(
    folder: Path,
    link: Link,
    invite: str,
    *,
    listen: str,
    codecs: tuple[str, ...] = (),
    force: bool = False,
    keep: bool = False,
) -> Path:
    """Write a client's key, invite (its text, or "") and configuration, in this order; returns the last.

    With ``keep`` a key that is there stays, as after a kill before the configuration was written.
    Raises :class:`~ptproxy.errors.StartError`, too where one of them exists and ``force`` is not wanted.
    """
    config_file, key_file = folder / "client.yaml", folder / "client.key"
    invite_file = folder / "client.invite"
    words.refuse_existing(force, config_file)
    if not keep:
        words.refuse_existing(force, key_file, *([invite_file] if invite else []))
    values: dict[str, written.Value] = {
        "listen": listen,
        "bridge": link.serialize(),
        "codec": codecs or link.codecs,
    }
    if invite:
        values["find.invite"] = invite_file.name
        state.write_file(invite_file, invite + "\n")
    if not keep or not key_file.exists():
        state.write_file(key_file, StaticKey.generate(random.SystemRandom()).serialize_private() + "\n")
    state.write_file(config_file, written.fill(written.example("client.yaml"), values))
    return config_file


def read_link_or_invite(text: str) -> tuple[Link, str]:
    """The link that an argument gives or points to, or an invite's first and the invite's text."""
    text = read_given(text, (*LINK, PREFIX))
    if not text.startswith(PREFIX):
        return parse_link(text), ""
    try:
        invite = Invite.parse(text)
        invite.check_time(time.time())
    except DhtError as error:
        raise click.UsageError(f"LINK: {error}") from None
    return invite.bridges[0], invite.serialize()
