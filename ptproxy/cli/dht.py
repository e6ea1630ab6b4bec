"""``ptproxy dht``: what a client knows of bridges and of the directory, look-ups by hand, publishing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import TypeVar

import click

from ptproxy.cli import words
from ptproxy.cli.dht_list import list_
from ptproxy.cli.given import read_given, read_links
from ptproxy.config.link import Link
from ptproxy.config.quantities import Endpoint
from ptproxy.dht.bridge_record import BridgeBucket
from ptproxy.dht.epoch import epoch_of
from ptproxy.dht.invite import PREFIX, Invite
from ptproxy.dht.record_secret import RecordType
from ptproxy.errors import DhtError, StartError, StateError
from ptproxy.peers.find_network import KnownNetwork
from ptproxy.state import Document, StateFolder

NETWORK = "directory"
"""The document in which a client or publisher remembers the directory."""

T = TypeVar("T")

_fingerprint = click.option(
    "--fingerprint",
    type=click.Choice(["chrome", "firefox", "python"]),
    default="chrome",
    show_default=True,
    help="How connections to the bridges greet.",
)
_debug = click.option("-v", "--verbose", is_flag=True, help="Show every question and answer.")


@click.group()
def dht() -> None:
    """Find bridges by an invite, see what is known, publish.

    The directory is a network of volunteers' servers in which small sealed records lie. Nobody who
    reads all of it finds a bridge; whoever holds an invite finds the bridges of that invite.
    """


@dht.command()
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, path_type=Path))
def show(folder: Path) -> None:
    """Show the bridges that the client in DIR knows, and where it knows them from."""
    from ptproxy.config.load import load_client
    from ptproxy.peers.find_bridges import KnownBridges
    from ptproxy.peers.find_client import DOCUMENT

    config = load_client(folder / "client.yaml" if folder.is_dir() else folder)
    kept = Document(config.state, DOCUMENT).read()
    known = KnownBridges() if kept is None else KnownBridges.from_dict(kept)
    rows = [("BRIDGE", "FROM", "SEEN (UTC)")]
    for one in known.merged():
        where = str(Endpoint(one.link.host, one.link.port))
        rows.append((where, ", ".join(one.origins), words.date(int(one.seen))))
    if len(rows) == 1:
        where = str(Endpoint(config.bridge.host, config.bridge.port))
        rows.append((where, "configuration", "never"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    click.echo()
    click.echo(_network_line(Document(config.state, NETWORK)))


@dht.command()
@click.argument("invite_text", metavar="INVITE")
@click.option("--via", "via", multiple=True, help="A bridge to look through, not the invite's: - or @FILE.")
@_fingerprint
@_debug
def find(invite_text: str, via: tuple[str, ...], fingerprint: str, verbose: bool) -> None:
    """Look up the bridges of INVITE, and print their links.

    INVITE is best - to paste or pipe it in, or @FILE, a text or a picture of its QR code: on the
    command line other users of the machine could see it.
    """
    invite = read_invite(invite_text)
    bridges = read_links(via, 3) if via else invite.bridges
    _log(verbose=verbose)
    found = _run(_find(invite, bridges, fingerprint))
    if found is None:
        raise StartError("the directory has no record of this invite: it has expired, or was revoked")
    if not found.bridges:
        raise StartError("this invite has been withdrawn: ask whoever gave it for a new one")
    for link in found.bridges:
        click.echo(link.serialize())


@dht.command()
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, path_type=Path))
@click.option("--once", is_flag=True, help="Publish what is due now, and end.")
@_fingerprint
@_debug
def publish(folder: Path, once: bool, fingerprint: str, verbose: bool) -> None:
    """Publish the invites of the operator's folder DIR, until SIGTERM or Ctrl-C.

    Every record goes out once in six hours, at a moment of its own; ptproxy invite may change
    the list meanwhile.
    """
    _log(verbose=verbose)
    left = _run(_publish(folder, fingerprint, once=once))
    if left:
        raise StartError(f"{left} records did not get out; they are due again the next time")


@dht.command()
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, path_type=Path))
def forget(folder: Path) -> None:
    """Forget which directory the client or publisher in DIR asks: the next guard asked says it anew.

    For a directory that was begun anew by others than before. Ask whoever gave you the bridge first:
    a false directory can hide what is looked for, and see when. Stop the client or publisher before.
    """
    from ptproxy.config.load import load_client
    from ptproxy.peers.find_operator import OperatorFolder

    if OperatorFolder.is_one(folder):
        place = folder / "publisher"
    else:
        config = load_client(folder / "client.yaml" if folder.is_dir() else folder)
        if config.find.network_key is not None:
            raise StartError("find.network_key in the configuration says which it is: change it there")
        place = config.state
    with StateFolder(place) as state:
        document = state.document(NETWORK)
        network = _network(document)
        network.forget()
        document.write(network.to_dict())
    click.echo("The directory is forgotten; the next one that a guard names is taken.")


async def _find(invite: Invite, bridges: tuple[Link, ...], fingerprint: str) -> BridgeBucket | None:
    invite.check_time(time.time())
    from ptproxy.peers.find_tunnels import directory_through

    async with directory_through(bridges, os.urandom(32), KnownNetwork(), fingerprint) as directory:
        found = await directory.read(invite.secret, RecordType.BRIDGE_BUCKET, invite.issuer)
    return None if found is None else BridgeBucket.parse(found.content)


async def _publish(path: Path, fingerprint: str, *, once: bool) -> int:
    from ptproxy.peers.find_operator import OperatorFolder
    from ptproxy.peers.find_publisher import Publisher
    from ptproxy.peers.find_tunnels import directory_through

    folder = OperatorFolder(path)
    with StateFolder(path / "publisher") as state:
        document = state.document(NETWORK)
        network = _network(document)
        async with directory_through(folder.via, folder.key, network, fingerprint) as directory:
            publisher = Publisher(folder, directory, os.urandom, time.time)
            try:
                if once:
                    return await publisher.round()
                async with _until_told():
                    await publisher.run()
            finally:
                document.write(network.to_dict())
    return 0


@contextlib.asynccontextmanager
async def _until_told() -> AsyncIterator[None]:
    """Cancel what is inside at SIGTERM or Ctrl-C, and go on behind it."""
    from ptproxy.proxy.startup import Signals

    loop = asyncio.get_running_loop()
    with Signals(loop) as signals:
        task = asyncio.current_task()
        assert task is not None
        waiting = loop.create_task(signals.stop.wait())
        waiting.add_done_callback(lambda done: None if done.cancelled() else task.cancel())
        try:
            yield
        except asyncio.CancelledError:
            if not signals.stop.is_set():
                raise
            task.uncancel()
        finally:
            waiting.cancel()


def read_invite(text: str) -> Invite:
    """The invite that an argument gives or points to; usage error for what is none."""
    try:
        return Invite.parse(read_given(text, (PREFIX,), "invite"))
    except DhtError as error:
        raise click.UsageError(f"INVITE: {error}") from None


def _network(document: Document) -> KnownNetwork:
    kept = document.read()
    return KnownNetwork() if kept is None else KnownNetwork.from_dict(kept)


def _network_line(document: Document) -> str:
    try:
        network = _network(document)
        first = network.begin(time.time())
    except (DhtError, StateError, StartError) as error:
        return f"directory: {error}"
    until = words.date(first.expires)
    known = network.beacon(epoch_of(time.time()), time.time()) is not None
    beacon = "" if first.signers is None else f"; the beacon of today is {'' if known else 'not '}known"
    return (
        f"directory: {len(first.contacts)} first nodes, signed, good until {until}; "
        f"{len(network.contacts)} met before{beacon}"
    )


def _log(*, verbose: bool) -> None:
    from ptproxy import log
    from ptproxy.config.model import LogConfig

    log.set_up(LogConfig(level="debug" if verbose else "info"))


def _run(main: Coroutine[None, None, T]) -> T:
    from ptproxy.tunnel import runtime

    return runtime.run(main)


dht.add_command(list_)
