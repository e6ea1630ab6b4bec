"""``ptproxy init client``: a client's configuration and key."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import click

from ptproxy import state
from ptproxy.auth.credentials import StaticKey
from ptproxy.cli import words, written
from ptproxy.config.link import Link
from ptproxy.config.quantities import Endpoint, parse_listen
from ptproxy.errors import StartError, why


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

    LINK is a ptproxy:// link, - to paste or pipe it in, or @FILE to read it from a file. A link
    is an invite: on the command line other users of the machine could see it.
    """
    link = read_link(link_text)
    missing = [codec for codec in codecs if codec not in link.codecs]
    if missing:
        raise click.UsageError(
            f"the bridge does not speak {', '.join(missing)}, only {', '.join(link.codecs)}"
        )
    if len(set(codecs)) != len(codecs):
        raise click.UsageError("each --codec is named once")
    config_file, key_file = folder / "client.yaml", folder / "client.key"
    words.refuse_existing(force, config_file, key_file)
    values: dict[str, written.Value] = {
        "listen": listen,
        "bridge": link.serialize(),
        "codec": codecs or link.codecs,
    }
    state.write_file(key_file, StaticKey.generate(random.SystemRandom()).serialize_private() + "\n")
    state.write_file(config_file, written.fill(written.example("client.yaml"), values))
    click.echo(f"Wrote {config_file} and a new key into {folder}.")
    click.echo("Next:")
    click.echo(words.command("ptproxy", "client", "-c", config_file))
    click.echo("and then, for example:")
    here = parse_listen(listen)
    shown = Endpoint({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(here.host, here.host), here.port)
    click.echo(words.command("curl", "--proxy", f"socks5h://{shown}", "https://example.org/"))


def read_link(text: str) -> Link:
    """The link that an argument gives or points to: itself, - or @FILE; usage error when it is none."""
    if text == "-":
        if sys.stdin.isatty():
            click.echo("Paste the link and press Enter:", err=True)
        text = sys.stdin.readline()
    elif text.startswith("@"):
        try:
            text = Path(text[1:]).read_text("utf-8", "replace")
        except OSError as error:
            raise StartError(f"cannot read {text[1:]}: {why(error)}") from None
    try:
        return Link.parse(text)
    except ValueError as error:
        raise click.UsageError(f"LINK: {error}") from None
