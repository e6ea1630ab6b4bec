"""``ptproxy chat init`` and ``passphrase``: a new identity, and another key for what is kept of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from ptproxy.cli import words
from ptproxy.cli.chat_place import Place
from ptproxy.cli.given import read_link
from ptproxy.config.link import Link
from ptproxy.errors import StartError
from ptproxy.peers.payload import MAX_NAME


@click.command()
@click.argument("mailbox", metavar="LINK", type=str)
@click.option("--name", prompt="What contacts see as your name", help="What contacts see as your name.")
@click.pass_obj
def init(place: Place, *, mailbox: str, name: str) -> None:
    """Make an identity whose mailbox is at the bridge of LINK.

    LINK is the ptproxy:// link of a bridge with a mailbox, best one that is not your own bridge:
    - to paste or pipe it in, or @FILE to read it from a file. Whoever gets an invite of yours gets
    this link with it, and enrols with it: it has to be good for as many clients as that may be.
    """
    from ptproxy.peers.dialers import TunnelDialers
    from ptproxy.peers.messenger import Messenger
    from ptproxy.peers.store import PeerStore
    from ptproxy.state import StateFolder

    link = read_link(mailbox)
    if not name.strip() or len(name.encode("utf-8", "replace")) > MAX_NAME or not name.isprintable():
        raise click.UsageError(f"--name has 1 to {MAX_NAME} bytes of printable characters")
    if (place.folder / "peer.sqlite3").exists():
        raise StartError(f"there is an identity in {place.folder} already; -d takes another folder")

    async def make(mailbox: Link) -> None:
        with StateFolder(place.folder) as folder, PeerStore.create(folder, key) as store:
            messenger = await Messenger.create(store, TunnelDialers(), name, mailbox)
            number = messenger.fingerprint
        click.echo(f"Your identity is in {place.folder}. Its words:\n  {number.words()}")

    key = place.new_key()
    asyncio.run(make(link))
    click.echo("Next, an invite for somebody, or somebody's, and then the chat itself:")
    options: list[str | Path] = [] if place.key_file is None else ["--key-file", place.key_file]
    start: list[str | Path] = ["ptproxy", "chat", "-d", place.folder, *options]
    for command in (["invite"], ["add"], []):
        click.echo(words.command(*start, *command))


@click.command()
@click.option(
    "--new-key-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Open with this file from now on; it is made where there is none.",
)
@click.pass_obj
def passphrase(place: Place, *, new_key_file: Path | None) -> None:
    """Change what opens the identity: to another passphrase, or to a key file.

    A copy of the folder that somebody made before still opens with what opened it then.
    """
    from ptproxy.peers.store import PeerStore
    from ptproxy.state import StateFolder

    place.check()
    with StateFolder(place.folder) as folder, PeerStore.open(folder, place.key()) as store:
        store.change_key(Place(place.folder, new_key_file).new_key())
    click.echo("Changed.")
