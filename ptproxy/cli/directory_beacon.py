"""``ptproxy directory beacon``: what k of n signers say of each day, for a network whose places move with it.

A signer needs no node and no connection: it signs what everybody can read elsewhere, and hands the line on.
"""

from __future__ import annotations

import asyncio
import datetime
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ptproxy.cli import words
from ptproxy.cli.given import read_all
from ptproxy.errors import DhtError, LocalProtocolError, StartError, StateError

if TYPE_CHECKING:
    from ptproxy.dht.beacon import BeaconSigners, BeaconStatement
    from ptproxy.dht.signing import SigningKey
    from ptproxy.peers.directory import DirectoryNode

LOOK: Final = 30.0
"""Seconds between looks at a file of beacons."""
MAX_FILE: Final = 1 << 16
"""Bytes of it that are read: some twenty days with 32 signers."""
FEWEST_BYTES: Final = 16
"""Bytes of a public value: fewer could be tried by whoever has a say in it."""


class Day(click.ParamType):  # type: ignore[type-arg]  # generic only in newer releases
    """A day in UTC as its epoch."""

    name = "YYYY-MM-DD"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Days since 1970."""
        try:
            return (datetime.date.fromisoformat(value) - datetime.date(1970, 1, 1)).days
        except ValueError:
            self.fail("expected a day, as in 2026-11-24", param, ctx)


_network = click.option(
    "--network", type=words.FILE, required=True, help="The network's signed list, which names the signers."
)
_network_key = click.option("--network-key", required=True, help="Who signs that list: 43 characters.")


@click.group()
def beacon() -> None:
    """Sign what moves the directory's places each day, as k of n agreed signers.

    Each day's beacon is made of a public value that nobody can choose and everybody can check, agreed on
    for ever beforehand (a drand round, a block's hash), known 18 to 6 hours before the day begins
    in UTC. Enough signers sign it (sign), somebody joins their lines (join), and some nodes are given
    the result (beacon: in directory.yaml); all others ask for it. Without it the network stands still.
    """


@beacon.command()
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
def key(file: Path) -> None:
    """Make a signer's key, and print its public half for ptproxy directory sign --beacon-signer."""
    from ptproxy import state
    from ptproxy.dht.signing import SigningKey
    from ptproxy.peers.directory_network import write_signer

    words.refuse_existing(False, file)
    signer = SigningKey.generate(os.urandom)
    state.write_file(file, write_signer(signer.serialize_private()) + "\n", replace=False)
    click.echo(write_signer(signer.public))


@beacon.command()
@click.argument("key_file", metavar="KEYFILE", type=words.FILE)
@click.option("--day", "epoch", type=Day(), required=True, help="The day in UTC that it is for.")
@click.option("--value", required=True, help="The public value of that day, in hexadecimal.")
@_network
@_network_key
def sign(*, key_file: Path, epoch: int, value: str, network: Path, network_key: str) -> None:
    """Sign the value of a day, and print the line to hand on."""
    from ptproxy.dht.beacon import BeaconStatement, sign_value, value_of
    from ptproxy.peers.directory_network import write_beacon

    signer, signers = _signer(key_file), signers_of(network, network_key)
    if signer.public not in signers.keys:
        raise StartError(f"{key_file} is none of the signers that {network} names")
    said = value_of(epoch, _public_value(value))
    place = signers.keys.index(signer.public)
    click.echo(write_beacon(BeaconStatement(epoch, said, {place: sign_value(signer, epoch, said)})))


@beacon.command()
@click.argument("parts", metavar="LINE…", nargs=-1, required=True)
@_network
@_network_key
def join(*, parts: tuple[str, ...], network: Path, network_key: str) -> None:
    """Join what signers printed (lines, @FILE or -), and print the beacon once enough of them agree."""
    from ptproxy.peers.directory_network import write_beacon

    signers = signers_of(network, network_key)
    lines = [line for part in parts for line in read_all(part, "lines").split()]
    joined = _joined(lines, signers)
    left = signers.threshold - len(joined.signatures)
    if left > 0:
        raise StartError(f"{len(joined.signatures)} signers so far; {left} more have to sign")
    click.echo(write_beacon(joined))


@beacon.command()
@click.argument("source", metavar="LINE")
@click.option("--value", help="The public value that it has to be made of, in hexadecimal.")
@_network
@_network_key
def show(*, source: str, value: str | None, network: Path, network_key: str) -> None:
    """Verify a beacon, and show of which day it is and who signed it."""
    from ptproxy.dht.beacon import value_of
    from ptproxy.peers.directory_network import write_signer

    signers = signers_of(network, network_key)
    said = _joined([read_all(source, "line").strip()], signers)
    if value is not None and value_of(said.epoch, _public_value(value)) != said.value:
        raise StartError("this beacon is made of another value")
    day = datetime.date(1970, 1, 1) + datetime.timedelta(days=min(said.epoch, 2_900_000))
    click.echo(f"{day}, {len(said.signatures)} signers of {len(signers.keys)}; {signers.threshold} needed:")
    for place in said.signatures:
        click.echo(f"  {write_signer(signers.keys[place])}")
    if len(said.signatures) < signers.threshold:
        raise StartError("too few signers have signed it")


def signers_of(network: Path, network_key: str) -> BeaconSigners:
    """Whom a network's list names; StartError for one without a beacon, or that is not good."""
    from ptproxy.config.keyfile import read_text
    from ptproxy.peers.directory_network import read_first_nodes, read_signer

    try:
        signer = read_signer(network_key)
    except DhtError as error:
        raise click.UsageError(f"--network-key: {error}") from None
    try:
        first = read_first_nodes(read_text(network), signer, time.time())
    except (ValueError, DhtError) as error:
        raise StartError(f"{network}: {error}") from None
    if first.signers is None:
        raise StartError(f"{network} names no signers: ptproxy directory sign --beacon-signer does")
    return first.signers


def chosen_signers(
    keys: tuple[str, ...], agree: int | None, before: BeaconSigners | None
) -> BeaconSigners | None:
    """The signers that a new list is to name: those given, else those of the list before."""
    from ptproxy.dht.beacon import BeaconSigners
    from ptproxy.peers.directory_network import read_signer

    if not keys and agree is None:
        return before
    if agree is None:
        raise click.UsageError("--beacon-signer needs --beacon-agree: how many of them have to say the same")
    try:
        given = tuple(read_signer(text) for text in keys) or (() if before is None else before.keys)
        return BeaconSigners(given, agree)
    except DhtError as error:
        raise click.UsageError(f"--beacon-signer: {error}") from None
    except LocalProtocolError as error:
        raise click.UsageError(str(error)) from None


async def follow(running: DirectoryNode, path: Path) -> None:
    """Give a node what a file of beacons says, now and whenever it changes, until cancelled."""
    from ptproxy.log import get_logger

    log = get_logger(__name__)
    done: set[str] = set()
    while True:
        try:
            lines = set((await asyncio.to_thread(_read_file, path)).split())
        except OSError:
            lines = set()  # not there yet
        done = {line for line in lines if line in done or _learn(running, line, log)}
        await asyncio.sleep(LOOK)


def _read_file(path: Path) -> str:
    with path.open(encoding="ascii", errors="replace") as file:
        return file.read(MAX_FILE)


def _learn(running: DirectoryNode, line: str, log: Any) -> bool:
    """Whether one line is done with: taken, over, or told as no good. One of a later day waits for that."""
    from ptproxy.dht.epoch import epoch_of
    from ptproxy.peers.directory_network import read_beacon

    try:
        said, today = read_beacon(line), epoch_of(time.time())
        if said.epoch > today + 1:
            return False
        if running.beacons is not None and said.epoch >= today - 1:
            running.beacons.learn(said.serialize(), time.time())
            log.info("the beacon is known", epoch=said.epoch)
    except DhtError as error:
        log.warning("a line of the file of beacons is not used", why=str(error))
    return True


def _joined(lines: list[str], signers: BeaconSigners) -> BeaconStatement:
    """What all lines say together, each signature verified."""
    from ptproxy.dht.beacon import BeaconSigners, BeaconStatement
    from ptproxy.peers.directory_network import read_beacon

    joined: BeaconStatement | None = None
    for number, line in enumerate(lines, 1):
        try:
            part = read_beacon(line)
            part.verify(BeaconSigners(signers.keys, 1))
        except DhtError as error:
            raise click.UsageError(f"line {number}: {error}") from None
        if joined is not None and (part.epoch, part.value) != (joined.epoch, joined.value):
            raise StartError(f"line {number} is of another day or value: all have to sign the same")
        before = {} if joined is None else joined.signatures
        joined = BeaconStatement(part.epoch, part.value, {**before, **part.signatures})
    if joined is None:
        raise click.UsageError("LINE: there is none")
    return joined


def _public_value(text: str) -> bytes:
    try:
        value = bytes.fromhex(text.strip().removeprefix("0x"))
    except ValueError:
        value = b""
    if len(value) < FEWEST_BYTES:
        raise click.UsageError(f"--value: expected {FEWEST_BYTES} bytes or more in hexadecimal")
    return value


def _signer(path: Path) -> SigningKey:
    from ptproxy.config.keyfile import OWNER_ONLY, read_text
    from ptproxy.dht.signing import SigningKey
    from ptproxy.peers.directory_network import read_signer

    try:
        return SigningKey(read_signer(read_text(path, OWNER_ONLY)))
    except ValueError as error:
        raise StartError(str(error)) from None
    except (DhtError, StateError):
        raise StartError(f"{path} holds no key of a signer") from None
