"""``ptproxy invite permit``: which clients may offer services of theirs at ports of the bridge."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from ptproxy.auth.access import AccessList
from ptproxy.auth.access_record import Entry, Identity, Invite
from ptproxy.auth.access_values import MAX_REVERSE
from ptproxy.auth.credentials import encode_key
from ptproxy.cli.bridge_folder import change_access, load_folder, read_access
from ptproxy.config.model import BridgeConfig
from ptproxy.errors import StartError

SHORTEST = 6
"""Characters of an id that are enough to mean it."""


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, path_type=Path))
@click.argument("which", metavar="[WHICH]", required=False)
@click.option(
    "--reverse",
    "ports",
    metavar="PORT[,PORT]",
    help="The ports of the bridge at which it may offer services; none for no port.",
)
def permit(folder: Path, which: str | None, ports: str | None) -> None:
    """Let a client offer services at ports of this bridge (ptproxy reverse).

    WHICH is the name of a client or of an invite, or the start of an id, as ptproxy invite list
    shows them; an invite's ports are those of the clients that it lets in. Without WHICH: who may.
    A running bridge follows at once.
    """
    config = load_folder(folder)
    if which is None:
        for line in told(read_access(config)):
            click.echo(line)
        return
    if ports is None:
        raise click.UsageError("say which ports: --reverse 2222, or --reverse none")
    wanted = read_ports(ports)
    done: list[str] = []
    change_access(config, permission(which, wanted, done))
    for line in done:
        click.echo(line)
    _warn(config, wanted)


def permission(which: str, ports: tuple[int, ...], done: list[str]) -> Callable[[AccessList], None]:
    """What permits these ports in an access list, and says so in ``done``."""

    def change(access_list: AccessList) -> None:
        done.clear()
        for each in _all(access_list):
            if isinstance(each, Identity) and (each.revoked or each.name in access_list.accounts):
                continue  # of an account's devices the account says it
            if each.name == which or (len(which) >= SHORTEST and _id(each).startswith(which)):
                access_list.permit_reverse(each, ports)
                done.append(f"{_kind(each)} {each.name}: {_ports(ports)}")
        if not done:
            raise StartError(f"no invite or client matches {which!r}; ptproxy invite list shows them")

    return change


def told(access_list: AccessList) -> list[str]:
    """Who may offer what, a line each."""
    lines = []
    for each in _all(access_list):
        if each.reverse:
            lines.append(f"{_kind(each)} {each.name}: {_ports(each.reverse)}")
    return lines or ["no client may offer services"]


def read_ports(text: str) -> tuple[int, ...]:
    """The ports of ``2222,8080``, or none; a usage error for what is neither."""
    if text == "none":
        return ()
    words = text.split(",")
    if not all(word.isascii() and word.isdigit() and len(word) <= 5 for word in words):
        raise click.UsageError(f"{text[:50]!r} is no list of ports, as in 2222,8080, and not none")
    ports = tuple(dict.fromkeys(map(int, words)))
    if not all(0 < port < 65536 for port in ports) or len(ports) > MAX_REVERSE:
        raise click.UsageError(f"at most {MAX_REVERSE} ports, each from 1 to 65535")
    return ports


def _all(access_list: AccessList) -> list[Entry]:
    known = access_list
    return [*known.identities.values(), *known.invites.values(), *known.accounts.values()]


def _id(each: Entry) -> str:
    if isinstance(each, Identity):
        return encode_key(each.public)
    return each.id if isinstance(each, Invite) else ""


def _kind(each: Entry) -> str:
    if isinstance(each, Identity):
        return "client"
    return "clients of the invite" if isinstance(each, Invite) else "account"


def _ports(ports: tuple[int, ...]) -> str:
    return f"may offer services at {', '.join(map(str, ports))}" if ports else "may offer no services"


def _warn(config: BridgeConfig, ports: tuple[int, ...]) -> None:
    """What else the bridge needs for it."""
    if ports and not config.reverse.offer:
        click.echo("This takes effect once the bridge's configuration says reverse: {offer: true}.", err=True)
