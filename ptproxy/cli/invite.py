"""``ptproxy invite``: who may enrol at a bridge, also while it runs, and invites that follow bridges."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path

import click

from ptproxy.auth.access import AccessList
from ptproxy.auth.access_record import MAX_USES
from ptproxy.auth.access_values import MAX_NAME
from ptproxy.auth.credentials import StaticKey, encode_key, new_token
from ptproxy.cli import invite_operator, words
from ptproxy.cli.bridge_folder import change_access, load_folder, read_access
from ptproxy.cli.invite_permit import permit
from ptproxy.config.keyfile import read_key
from ptproxy.config.link import Link
from ptproxy.config.model import BridgeConfig
from ptproxy.errors import StartError
from ptproxy.peers.find_operator import OperatorFolder
from ptproxy.tunnel.certificate import pin_for

LINK_LIFE = 7 * 86_400.0
"""Seconds that a link can be used unless said otherwise."""
INVITE_LIFE = 90 * 86_400.0
"""Seconds that an invite of an operator's folder is published."""
SHOWN_ID = 10
"""Characters of an id or key that lists show: enough to tell a million apart."""

_bridge_folder = click.argument("folder", metavar="DIR", type=click.Path(exists=True, path_type=Path))


@click.group()
def invite() -> None:
    """Invite clients, list and revoke them.

    DIR is a bridge's folder, or its configuration file: a link lets clients in there, and a running
    bridge follows at once. Or it is an operator's folder (init, bucket): an invite then names one
    to three bridges and finds their new addresses in the directory when they move.
    """


invite.add_command(invite_operator.init)
invite.add_command(invite_operator.bucket)
invite.add_command(permit)


@invite.command()
@_bridge_folder
@click.option(
    "--name",
    default="client",
    show_default=True,
    help="What clients of this invite are called in lists and logs.",
)
@click.option(
    "--uses",
    type=click.IntRange(1, MAX_USES),
    default=1,
    show_default=True,
    help="How many clients it lets in.",
)
@click.option(
    "--expires",
    type=words.DURATION,
    help="How long it can be used; or never.  [default: 7d; in an operator's folder 90d]",
)
@click.option(
    "--lifetime",
    type=words.DURATION,
    default="never",
    show_default=True,
    help="How long a client it let in may stay.",
)
@click.option("--qr/--no-qr", default=True, help="Whether to draw the link as a QR code.")
@click.option("--bucket", help="In an operator's folder: to which bucket of bridges.")
def new(
    *,
    folder: Path,
    name: str,
    uses: int,
    expires: float | None,
    lifetime: float,
    qr: bool,
    bucket: str | None,
) -> None:
    """Make an invite and print its link.

    Of a bridge's invite only a hash is kept: the link cannot be shown again.
    """
    if OperatorFolder.is_one(folder):
        if uses != 1 or lifetime:
            raise click.UsageError("--uses and --lifetime are for a bridge's invites: its links have them")
        invite_operator.new(folder, bucket, name, INVITE_LIFE if expires is None else expires, qr=qr)
        return
    if bucket is not None:
        raise click.UsageError("--bucket is for an operator's folder: ptproxy invite init makes one")
    expires = LINK_LIFE if expires is None else expires
    config = load_folder(folder)
    token = new_token(random.SystemRandom())
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise click.UsageError(f"--name has 1 to {MAX_NAME} printable characters")
    link = bridge_link(config, token.secret if config.access == "enrolled" else b"")
    if config.access == "enrolled":
        until = int(time.time() + expires) if expires else None

        def add(access_list: AccessList) -> None:
            access_list.prune(time.time())
            access_list.invite(
                token, name, uses=uses, expires_at=until, lifetime=int(lifetime) if lifetime else None
            )

        change_access(config, add)
        whom = "one client" if uses == 1 else f"{uses} clients"
        click.echo(f"Lets in {whom}; can be used until: {words.date(until)}")
    else:
        click.echo("The bridge's access is open: this link lets everybody in who has it.")
    words.print_link(link.serialize(), qr=qr)


@invite.command(name="list")
@_bridge_folder
def list_(folder: Path) -> None:
    """List open invites and the clients that are enrolled."""
    if OperatorFolder.is_one(folder):
        _table(invite_operator.list_(folder), "no invites")
        return
    config = load_folder(folder)
    access_list = read_access(config)
    now = time.time()
    rows = [("INVITE", "NAME", "USES LEFT", "UNTIL (UTC)")]
    for each in access_list.invites.values():
        over = each.uses_left == 0 or (each.expires_at is not None and each.expires_at <= now)
        until = words.date(each.expires_at) + (" (over)" if over else "")
        rows.append((each.id[:SHOWN_ID], each.name, str(each.uses_left), until))
    _table(rows, "no open invites")
    click.echo()
    rows = [("CLIENT", "NAME", "SINCE (UTC)", "UNTIL (UTC)")]
    for identity in access_list.identities.values():
        until = "revoked" if identity.revoked else words.date(identity.expires_at)
        rows.append(
            (encode_key(identity.public)[:SHOWN_ID], identity.name, words.date(identity.enrolled_at), until)
        )
    _table(rows, "no clients enrolled")


@invite.command()
@_bridge_folder
@click.argument("which", metavar="WHICH")
@click.option("--clients", is_flag=True, help="Also keep out the clients that the invite let in.")
def revoke(folder: Path, which: str, clients: bool) -> None:
    """Withdraw an invite, or keep a client out.

    WHICH is a name, or the start of an id, as ptproxy invite list shows them. A client that is
    kept out loses its connections at once.
    """
    if OperatorFolder.is_one(folder):
        for line in invite_operator.revoke(folder, which):
            click.echo(line)
        return
    config = load_folder(folder)
    done: list[str] = []

    def take_away(access_list: AccessList) -> None:
        invites = [
            each for each in access_list.invites.values() if each.name == which or _starts(each.id, which)
        ]
        ids = {each.id for each in invites}
        identities = [
            each
            for each in access_list.identities.values()
            if not each.revoked
            and (
                each.name == which
                or _starts(encode_key(each.public), which)
                or (clients and each.invite in ids)
            )
        ]
        for each in invites:
            access_list.withdraw(each.id)
            done.append(f"invite {each.id[:SHOWN_ID]} ({each.name}) is withdrawn")
        for identity in identities:
            access_list.revoke(identity.public)
            done.append(f"client {encode_key(identity.public)[:SHOWN_ID]} ({identity.name}) is kept out")
        if not done:
            raise StartError(
                f"no invite or client matches {which!r}; ptproxy invite list shows what there is"
            )

    change_access(config, take_away)
    for line in done:
        click.echo(line)


def _starts(text: str, which: str) -> bool:
    """Whether ``which`` is enough of an id's start to mean it."""
    return len(which) >= 6 and text.startswith(which)


def bridge_link(config: BridgeConfig, token: bytes) -> Link:
    """A link to this bridge."""
    tls = config.tls
    shown = tls.certificate if config.mode == "standalone" else tls.front_certificate
    pin = pin_for(shown) if shown is not None and tls.binding == "certificate" else None
    public = StaticKey.parse_private(read_key(config.key)).public
    return config.link(public, pin, token)


def _table(rows: Sequence[tuple[str, ...]], nothing: str) -> None:
    """Rows in columns, the first being the head."""
    if len(rows) == 1:
        click.echo(nothing)
        return
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
