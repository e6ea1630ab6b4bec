"""``ptproxy directory``: a node of the directory, and the signed list by which others find the first ones."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ptproxy.cli import directory_beacon, words, written
from ptproxy.errors import DhtError, StartError, StateError

if TYPE_CHECKING:
    from ptproxy.config.directory_model import DirectoryConfig
    from ptproxy.config.quantities import Endpoint
    from ptproxy.dht.contact import Address, Contact
    from ptproxy.dht.first_nodes import FirstNodes
    from ptproxy.dht.signing import SigningKey
    from ptproxy.dht.work import WorkTarget
    from ptproxy.peers.directory import DirectoryNode
    from ptproxy.peers.directory_network import DirectoryNetwork, NodeIdentity

TRIES: Final = 100
"""Computations of work between two looks at Ctrl-C: 40 ms."""
JOIN_AGAIN: Final = 5.0
"""Seconds until a node that found nobody tries again for the first time."""

_config_option = click.option(
    "-c", "--config", "path", type=words.FILE, required=True, help="The node's configuration."
)


@click.group()
def directory() -> None:
    """Run a node of the directory in which clients find bridges that have moved."""


directory.add_command(directory_beacon.beacon)


@directory.command()
@click.argument("folder", metavar="DIR", type=words.FOLDER)
@click.option(
    "--address", type=words.ADDRESS, required=True, help="Where others reach the node: IP address and port."
)
@click.option("--network", type=words.FILE, help="The signed list of the network's first nodes.")
@click.option("--network-key", help="Who signs that list: 43 characters.")
@click.option("--node", "nodes", multiple=True, help="A node to begin with; repeat for more.")
@click.option("--lab", is_flag=True, help="For trials: nodes of private addresses, and many of one network.")
@click.option("--force", is_flag=True, help="Replace what is there, the key included.")
def init(
    *,
    folder: Path,
    address: str,
    network: Path | None,
    network_key: str | None,
    nodes: tuple[str, ...],
    lab: bool,
    force: bool,
) -> None:
    """Write a node's key and configuration into DIR.

    The key needs work that takes some seconds: it is what keeps others from having many nodes.
    """
    from ptproxy import state
    from ptproxy.config.quantities import parse_address
    from ptproxy.peers.directory_network import write_node

    endpoint = parse_address(address)
    here = _address_of(endpoint)
    if (network is None) != (network_key is None):
        raise click.UsageError("--network and --network-key go together")
    for line in nodes:
        _node(line)
    config_file, key_file = folder / "directory.yaml", folder / "directory.key"
    words.refuse_existing(force, config_file, key_file)
    of = _network(network, network_key, lab=lab)[0]
    click.echo("Working for the node's place; this takes some seconds.")
    identity = _mint(of.id_work)
    listen = f"{'[::]' if ':' in endpoint.host else '0.0.0.0'}:{endpoint.port}"
    values: dict[str, written.Value] = {
        "address": str(endpoint),
        "listen": str(endpoint) if lab else listen,
        "network": None if network is None else str(network.absolute()),
        "network_key": network_key,
        "nodes": nodes or None,
        "addresses": "any" if lab else "public",
    }
    values = {key: value for key, value in values.items() if value is not None}
    state.write_file(key_file, identity.serialize() + "\n")
    state.write_file(config_file, written.fill(written.example("directory.yaml"), values))
    click.echo(f"Wrote {config_file} and a new key. Others reach this node by the line")
    click.echo(f"\n{write_node(identity.contact(here, 1))}\n\nNext:")
    click.echo(words.command("ptproxy", "directory", "run", "-c", config_file))


@directory.command()
@_config_option
def node(path: Path) -> None:
    """Print the line by which others reach the node."""
    from ptproxy.peers.directory_network import write_node

    config = _config(path)
    network, _ = _network(config.network, config.network_key, lab=config.addresses == "any")
    identity = _identity(config.key, network.id_work)
    click.echo(write_node(identity.contact(_address_of(config.address), 1)))


@directory.command()
@click.argument("folder", metavar="DIR", type=words.FOLDER)
@click.argument("nodes", metavar="NODE...", nargs=-1, required=True)
@click.option(
    "--days", type=click.IntRange(1, 400), default=180, show_default=True, help="How long it is good."
)
@click.option("--beacon-signer", "signers", multiple=True, help="Who signs each day's beacon: 43 characters.")
@click.option("--beacon-agree", "agree", type=click.IntRange(1, 32), help="How many of them have to.")
def sign(
    *, folder: Path, nodes: tuple[str, ...], days: int, signers: tuple[str, ...], agree: int | None
) -> None:
    """Sign the list of a network's first nodes, DIR/network.list, with DIR/network.key.

    NODE is a line that ptproxy directory node prints. The first time that makes the key and founds the
    network; keep the key off the nodes. Sign again before the list expires: what the network agreed on stays.

    With --beacon-signer (one for each, in an order that stays) places move each day; ptproxy directory
    beacon has the rest. All nodes and guards need the new list at the same time then.
    """
    from ptproxy import state
    from ptproxy.dht.admission import NODE_WORK
    from ptproxy.dht.first_nodes import FirstNodes
    from ptproxy.dht.record import RECORD_WORK
    from ptproxy.peers.directory_network import write_first_nodes, write_signer

    contacts = tuple(_node(line) for line in nodes)
    signer, before = _signer(folder), None
    list_file, now = folder / "network.list", int(time.time())
    if list_file.exists():
        before = _own_list(list_file, signer.public)
    listed = FirstNodes(
        sequence=max(now, 0 if before is None else before.sequence + 1),
        issued=now,
        expires=now + days * 86_400,
        founded=now if before is None else before.founded,
        id_work=NODE_WORK if before is None else before.id_work,
        record_work=RECORD_WORK if before is None else before.record_work,
        signers=directory_beacon.chosen_signers(signers, agree, None if before is None else before.signers),
        contacts=contacts,
    )
    state.write_file(list_file, write_first_nodes(listed.sign(signer)) + "\n", mode=0o644)
    click.echo(f"Wrote {list_file}: {len(contacts)} nodes, good for {days} days. Its signer's key is")
    click.echo(f"\n{write_signer(signer.public)}\n")


@directory.command()
@_config_option
def run(path: Path) -> None:
    """Run a node until SIGTERM or Ctrl-C. SIGHUP writes its status into the log."""
    from ptproxy import log
    from ptproxy.proxy.confine import confine
    from ptproxy.tunnel import runtime

    confine()
    config = _config(path)
    prepared = _prepare(config)
    log.set_up(config.log)
    runtime.run(_run(config, prepared), loop=config.loop)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What a node has bound and read, perhaps while it was root."""

    network: DirectoryNetwork
    first: list[Contact]
    identity: NodeIdentity
    sockets: list[socket.socket]


def _prepare(config: DirectoryConfig) -> _Prepared:
    """Bind, read, and become ``config.user``; raises StartError, after which the process must end."""
    from ptproxy.peers.directory_socket import bind_datagrams
    from ptproxy.proxy.become import RunAs
    from ptproxy.proxy.unprivileged import check_reach, hand_to, refuse_others

    run_as = None if config.user is None else RunAs.of(config.user, config.group)
    if run_as is not None and not run_as.is_us:
        refuse_others(run_as)
    network, first = _network(config.network, config.network_key, lab=config.addresses == "any")
    first += [_node(line) for line in config.nodes]
    identity = _identity(config.key, network.id_work)
    sockets = [bind_datagrams(endpoint.literal, endpoint.port) for endpoint in config.listen]
    if run_as is not None and not run_as.is_us:
        hand_to(run_as, config.state, config.log.file)
        run_as.become()
        check_reach(run_as, config.state)
    return _Prepared(network, first, identity, sockets)


async def _run(config: DirectoryConfig, prepared: _Prepared) -> None:
    from ptproxy.peers.directory import DirectoryNode, DirectorySettings
    from ptproxy.proxy.startup import Signals
    from ptproxy.state import StateFolder

    network, first, identity = prepared.network, prepared.first, prepared.identity
    settings = DirectorySettings(
        prepared.sockets,
        _address_of(config.address),
        config.limits.records,
        float(config.limits.requests),
    )
    with StateFolder(config.state) as state:
        running = await DirectoryNode.start(identity, network, settings, state)
        try:
            with Signals(asyncio.get_running_loop(), running.log_status) as signals:
                listening = ", ".join(map(str, config.listen))
                os.write(1, f"ptproxy directory listening on {listening} (UDP)\n".encode())
                others = [contact for contact in first if contact.id != identity.id]
                tasks = {asyncio.create_task(_join(running, others))}
                if config.beacon is not None:
                    tasks.add(asyncio.create_task(directory_beacon.follow(running, config.beacon)))
                await signals.stop.wait()
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
        finally:
            await running.close()


async def _join(running: DirectoryNode, first: list[Contact]) -> None:
    """Join, say who was found; the node itself goes on trying."""
    from ptproxy.log import get_logger

    log = get_logger(__name__)
    known = await running.join(first)
    if not known and first:
        await asyncio.sleep(JOIN_AGAIN)
        known = await running.join(first)
    if known:
        running.log_status()
    elif first:
        log.warning("no node answers; trying on", asked=len(first))
    else:
        log.info("no other nodes are known: waiting for them")


# ---- files and lines --------------------------------------------------------------------------------


def _config(path: Path) -> DirectoryConfig:
    from ptproxy.config.load import load_directory

    return load_directory(path)


def _address_of(endpoint: Endpoint) -> Address:
    from ptproxy.peers.directory_socket import address_of

    try:
        return address_of(endpoint.host, endpoint.port)
    except DhtError:
        raise click.UsageError("the address is an IP address and a port, as in 203.0.113.5:4646") from None


def _node(line: str) -> Contact:
    from ptproxy.peers.directory_network import read_node

    try:
        return read_node(line)
    except DhtError as error:
        raise StartError(f"a node to begin with: {error}") from None


def _network(path: Path | None, key: str | None, *, lab: bool) -> tuple[DirectoryNetwork, list[Contact]]:
    """What a node's network agrees on, and its first nodes."""
    from ptproxy.dht.diversity import ANY_NETWORK, Diversity
    from ptproxy.dht.probation import NO_PROBATION
    from ptproxy.peers.directory_network import DirectoryNetwork, read_signer

    diversity = ANY_NETWORK if lab else Diversity()
    if path is None or key is None:
        if lab:
            return DirectoryNetwork(probation=NO_PROBATION, diversity=diversity, private_addresses=True), []
        return DirectoryNetwork(), []
    try:
        signer = read_signer(key)
    except DhtError as error:
        raise StartError(f"network_key: {error}") from None
    listed = _list(path, signer, time.time())
    return DirectoryNetwork.of(listed, diversity, private_addresses=lab), list(listed.contacts)


def _list(path: Path, signer: bytes, now: float) -> FirstNodes:
    from ptproxy.peers.directory_network import read_first_nodes

    try:
        return read_first_nodes(_text(path), signer, now)
    except DhtError as error:
        raise StartError(f"{path}: {error}") from None


def _own_list(path: Path, signer: bytes) -> FirstNodes:
    """A list that we have signed ourselves, also one that has expired."""
    from ptproxy.peers.directory_network import read_own_first_nodes

    try:
        return read_own_first_nodes(_text(path), signer)
    except DhtError as error:
        raise StartError(f"{path}: {error}") from None


def _identity(path: Path, target: WorkTarget) -> NodeIdentity:
    from ptproxy.config.keyfile import OWNER_ONLY
    from ptproxy.peers.directory_network import NodeIdentity

    try:
        return NodeIdentity.parse(_text(path, OWNER_ONLY), target)
    except StateError as error:
        raise StartError(f"{path}: {error}") from None


def _signer(folder: Path) -> SigningKey:
    """The key that signs lists, made where there is none."""
    from ptproxy import state
    from ptproxy.config.keyfile import OWNER_ONLY
    from ptproxy.dht.signing import SigningKey
    from ptproxy.peers.directory_network import read_signer, write_signer

    path = folder / "network.key"
    if not path.exists():
        signer = SigningKey.generate(os.urandom)
        state.write_file(path, write_signer(signer.serialize_private()) + "\n", replace=False)
        return signer
    try:
        return SigningKey(read_signer(_text(path, OWNER_ONLY)))
    except DhtError:
        raise StartError(f"{path} holds no key that signs lists of nodes") from None


def _text(path: Path, forbidden: int = 0) -> str:
    from ptproxy.config.keyfile import read_text

    try:
        return read_text(path, forbidden)
    except ValueError as error:
        raise StartError(str(error)) from None


def _mint(target: WorkTarget) -> NodeIdentity:
    """New keys and the work behind them; Ctrl-C ends it."""
    from ptproxy.dht.admission import mint
    from ptproxy.dht.responder import NodeKeys
    from ptproxy.peers.directory_network import NodeIdentity

    keys = NodeKeys.generate(os.urandom)
    first = 0
    while (minted := mint(keys.signing.public, target, first, TRIES)) is None:
        first += TRIES
    return NodeIdentity(keys, minted)
