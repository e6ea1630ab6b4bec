"""``ptproxy invite`` for an operator's folder: invites whose bridges are found again when these move."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from ptproxy.cli import words
from ptproxy.cli.given import read_links
from ptproxy.dht.bridge_record import MAX_BRIDGES
from ptproxy.dht.invite import Invite
from ptproxy.dht.issuing import IssuedInvite
from ptproxy.errors import LocalProtocolError, StartError
from ptproxy.peers.find_operator import MAX_VIA, Operated, OperatorFolder

SHOWN_ID = 10
"""Hex digits of an invite's id in lists."""
LONGEST = 5 * 365 * 86_400
"""Seconds that an invite may be good: nothing says that this program's formats live longer."""

T = TypeVar("T")

_links = click.argument("links", metavar="LINK…", nargs=-1, required=True)
_folder = click.argument("folder", metavar="DIR", type=words.FOLDER)


@click.command()
@_folder
@_links
def init(folder: Path, links: tuple[str, ...]) -> None:
    """Make an operator's folder DIR: buckets of bridges, and invites to them.

    The records of the invites are published through the bridges of LINK (one to three that offer
    lookups; best @FILE, or - to paste or pipe them in). The folder holds every secret of it.
    """
    via = read_links(links, MAX_VIA)
    OperatorFolder.create(folder, via, os.urandom)
    click.echo(f"Made {folder}: the issuer's key and an empty list. Next:")
    click.echo(words.command("ptproxy", "invite", "bucket", folder, "NAME", "@LINKFILE"))
    click.echo(words.command("ptproxy", "invite", "new", folder, "--bucket", "NAME"))
    click.echo(words.command("ptproxy", "dht", "publish", folder))


@click.command()
@_folder
@click.argument("name", metavar="NAME")
@_links
@click.option("--now", is_flag=True, help="Tell it at once: the old bridges do not work any more.")
def bucket(folder: Path, name: str, links: tuple[str, ...], now: bool) -> None:
    """Put one to three bridges into the bucket NAME, in place of those in it.

    LINK is best @FILE, or - to paste or pipe it in: on the command line others could see it.
    Its invites say so from their next turns on, within six hours, each at a moment of its own.
    With --now at once: whoever watches many nodes then sees that these invites belong together.
    """
    bridges = read_links(links, MAX_BRIDGES)

    def put(operated: Operated) -> None:
        _said(lambda: operated.listed.put(name, bridges))
        if now and name not in operated.hurry:
            operated.hurry.append(name)

    OperatorFolder(folder).change(put)
    click.echo(f"{name}: {', '.join(f'{each.host}:{each.port}' for each in bridges)}")


def new(folder: Path, name: str | None, note: str, expires: float, *, qr: bool) -> None:
    """Make an invite to a bucket, and print it."""
    made: list[Invite] = []

    def issue(operated: Operated) -> None:
        buckets = list(operated.listed.buckets)
        if not buckets:
            raise StartError("there is no bucket yet: ptproxy invite bucket makes one")
        chosen = name if name is not None else buckets[0]
        if name is None and len(buckets) > 1:
            raise StartError(f"say which: --bucket {' or '.join(buckets)}")
        if chosen not in operated.listed.buckets:
            raise StartError(f"there is no bucket {chosen!r}; there is {', '.join(buckets)}")
        until = int(time.time() + (min(expires, LONGEST) if expires else LONGEST))
        invite = _said(lambda: operated.listed.issue(chosen, until, os.urandom))
        operated.notes[invite.id.hex()] = note
        made.append(invite)

    OperatorFolder(folder).change(issue)
    invite = made[0]
    click.echo(f"An invite for {note}, good until {words.date(invite.expires)}.")
    click.echo("While ptproxy dht publish runs, its bridges are found also when they move.")
    click.echo("It is a secret, for one person: whoever has it learns these bridges, now and when they move.")
    words.print_link(invite.serialize(), qr=qr)


def list_(folder: Path) -> list[tuple[str, ...]]:
    """The invites of a folder as rows, the head first."""
    operated = OperatorFolder(folder).load()
    now = time.time()
    rows: list[tuple[str, ...]] = [("INVITE", "FOR", "BUCKET", "UNTIL (UTC)", "PUBLISHED")]
    for each in operated.listed.invites():
        until = "revoked" if each.revoked else words.date(each.expires)
        if not each.revoked and each.expires <= now:
            until += " (over)"
        shown = each.id.hex()[:SHOWN_ID]
        rows.append((shown, operated.note(each.id), each.bucket, until, _published(each)))
    return rows


def revoke(folder: Path, which: str) -> list[str]:
    """Revoke the invites that ``which`` names; a line for each."""
    done: list[str] = []

    def take_away(operated: Operated) -> None:
        for each in list(operated.listed.invites()):
            named = operated.note(each.id) == which or (len(which) >= 6 and each.id.hex().startswith(which))
            if named and not each.revoked:
                operated.listed.revoke(each.id, time.time())
                done.append(
                    f"invite {each.id.hex()[:SHOWN_ID]} ({operated.note(each.id)}) says no bridge now; "
                    f"it has shown those of {each.bucket}: ptproxy invite bucket puts others in their place"
                )
        if not done:
            raise StartError(f"no invite matches {which!r}; ptproxy invite list shows what there is")

    OperatorFolder(folder).change(take_away)
    return done


def _published(invite: IssuedInvite) -> str:
    """How far its records are, for a person."""
    progress = invite.publication.progress
    if not progress:
        return "not yet"
    return "yes" if max(done.slot for done in progress.values()) >= 0 else "on its way"


def _said(do: Callable[[], T]) -> T:
    """What ``do`` gives; what the list does not take, as a usage error."""
    try:
        return do()
    except LocalProtocolError as error:
        raise click.UsageError(str(error)) from None
