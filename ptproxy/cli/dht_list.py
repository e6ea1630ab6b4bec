"""``ptproxy dht list``: signed lists of bridges that many may know, as clients read with ``find.list``."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ptproxy.cli import words
from ptproxy.cli.given import read_given, read_links
from ptproxy.config.quantities import Endpoint
from ptproxy.errors import DhtError, LocalProtocolError, StartError
from ptproxy.peers.find_list import MAX_BRIDGES, PREFIX, BridgeList

if TYPE_CHECKING:
    from ptproxy.dht.signing import SigningKey

LONGEST: Final = 400
"""Days that a list may be good: whoever signs it signs again long before."""
LIST_FILE: Final = "bridges.list"
KEY_FILE: Final = "bridges.key"


@click.group(name="list")
def list_() -> None:
    """Sign a list of bridges, or show one.

    Whoever reads a list knows its bridges, a censor too: it is for bridges that many may know, a
    club's, say. For one person there is ptproxy invite.
    """


@list_.command()
@click.argument("folder", metavar="DIR", type=words.FOLDER)
@click.argument("links", metavar="LINK…", nargs=-1, required=True)
@click.option(
    "--days",
    type=click.IntRange(1, LONGEST),
    default=30,
    show_default=True,
    help="How long it is good.",
)
def sign(*, folder: Path, links: tuple[str, ...], days: int) -> None:
    """Sign a list of the bridges of LINK, DIR/bridges.list, with DIR/bridges.key.

    LINK is best @FILE, or - to paste or pipe it in: on the command line others could see it; 64 bridges
    at most. The first time that makes the key; keep it off the machine that the list is read from. Each
    new list takes the place of the one before at every client, bridges that are left out included.
    """
    from ptproxy import state
    from ptproxy.peers.directory_network import write_signer

    bridges = read_links(links, MAX_BRIDGES)
    if any(link.token for link in bridges):
        click.echo("Note: a link here lets in only as many as its invite says; a list is for many.", err=True)
    path = folder / LIST_FILE
    new = not (folder / KEY_FILE).exists()
    if new and path.exists():
        raise StartError(f"{path} is there and {folder / KEY_FILE} is not: put that key into its place")
    signer = _signer(folder)
    now = int(time.time())
    sequence = max(now, 0 if not path.exists() else _own(path, signer.public).sequence + 1)
    try:
        text = BridgeList.sign(signer, sequence, now + days * 86_400, bridges)
    except LocalProtocolError as error:
        raise click.UsageError(str(error)) from None
    state.write_file(path, text + "\n")
    click.echo(f"Wrote {path}: {len(bridges)} bridges, good until {words.date(now + days * 86_400)} UTC.")
    click.echo("Clients read it with these lines, list being a file of theirs or where you put it:\n")
    click.echo("find:\n  list: https://example.org/bridges")
    click.echo(f"  list_key: {write_signer(signer.public)}\n")


@list_.command()
@click.argument("source", metavar="LIST")
@click.option("--key", help="Who has to have signed it: 43 characters. Without, it is only told who says so.")
@click.option("--links", is_flag=True, help="Print the bridges' links, which are secrets, and nothing else.")
def show(source: str, key: str | None, links: bool) -> None:
    """Verify LIST, and show what it says.

    LIST is @FILE, or - to paste or pipe it in. Exit status 1 where it is damaged, another signer's or
    has expired.
    """
    from ptproxy.peers.directory_network import read_signer, write_signer

    text = read_given(source, (PREFIX,), "list")
    try:
        signer = BridgeList.signer(text) if key is None else read_signer(key)
    except DhtError as error:
        raise click.UsageError(str(error)) if key is not None else StartError(str(error)) from None
    try:
        found = BridgeList.parse(text, signer, 0.0)
    except DhtError as error:
        raise StartError(str(error)) from None
    over = found.expires <= time.time()
    if links and not over:
        for link in found.bridges:
            click.echo(link.serialize())
        return
    click.echo(f"Signed by {write_signer(signer)}{'' if key else ' (is that who you expect? --key checks)'}")
    click.echo(
        f"List {found.sequence}, good until {words.date(found.expires)} UTC{' (over)' if over else ''}"
    )
    for link in found.bridges:
        click.echo(f"  {Endpoint(link.host, link.port)}  {', '.join(link.codecs)}")
    if over:
        raise StartError("this list of bridges has expired")


def _own(path: Path, key: bytes) -> BridgeList:
    """A list that we have signed, also one that is over."""
    try:
        return BridgeList.parse(read_given(f"@{path}", (PREFIX,)), key, 0.0)
    except DhtError as error:
        raise StartError(f"{path}: {error}; move it away to begin a new one") from None


def _signer(folder: Path) -> SigningKey:
    """The key that signs lists, made where there is none."""
    from ptproxy import state
    from ptproxy.config.keyfile import OWNER_ONLY, read_text
    from ptproxy.dht.signing import SigningKey
    from ptproxy.peers.directory_network import read_signer, write_signer

    path = folder / KEY_FILE
    if not path.exists():
        signer = SigningKey.generate(os.urandom)
        state.write_file(path, write_signer(signer.serialize_private()) + "\n", replace=False)
        return signer
    try:
        return SigningKey(read_signer(read_text(path, OWNER_ONLY)))
    except ValueError as error:
        raise StartError(str(error)) from None
    except DhtError:
        raise StartError(f"{path} holds no key that signs lists of bridges") from None
