"""``ptproxy account``: what the clients of a bridge may use, until when and how much; also while it runs."""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from ptproxy.auth.access import AccessList
from ptproxy.auth.access_values import MAX_NAME
from ptproxy.auth.account import LAST_RESET_DAY, MAX_DEVICES, Account
from ptproxy.auth.credentials import encode_key, new_token
from ptproxy.cli import words
from ptproxy.cli.account_shown import details, summary, table
from ptproxy.cli.bridge_folder import change_access, load_folder, open_accounts, read_access
from ptproxy.cli.invite import bridge_link
from ptproxy.cli.invite_permit import read_ports
from ptproxy.config.quantities import parse_size
from ptproxy.errors import StartError
from ptproxy.proxy.account_policy import AccountTargets
from ptproxy.proxy.policy import RuleError

Command = TypeVar("Command", bound=Callable[..., Any])

_folder = click.argument("folder", metavar="DIR", type=click.Path(exists=True, path_type=Path))
_name = click.argument("name", metavar="NAME")
_json = click.option("--json", "as_json", is_flag=True, help="For scripts.")


class Size(click.ParamType):  # type: ignore[type-arg]  # generic only in newer releases
    """Bytes from ``50GiB``; ``none`` is 0."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Bytes."""
        try:
            size = 0 if value == "none" else parse_size(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if not size and value != "none":
            self.fail("write none for no limit; who is to have nothing is disabled", param, ctx)
        return size


SIZE = Size()


def _limits(command: Command) -> Command:
    """The options that say what an account may do."""
    for option in reversed(
        (
            click.option("--expires", type=words.DURATION, help="How long from now it is good; or never."),
            click.option(
                "--quota", type=SIZE, metavar="SIZE", help="Volume a month, both ways, as in 50GiB; or none."
            ),
            click.option(
                "--reset-day",
                type=click.IntRange(1, LAST_RESET_DAY),
                help="The day on which its month begins (UTC).",
            ),
            click.option(
                "--rate", type=SIZE, metavar="SIZE", help="Bytes a second each way, as in 2MiB; or none."
            ),
            click.option(
                "--devices", type=click.IntRange(1, MAX_DEVICES), help="How many clients it may have."
            ),
            click.option("--note", help="A note for yourself."),
            click.option(
                "--target",
                "targets",
                multiple=True,
                metavar="RULE",
                help="The only places it may connect to, as in *:443, 10.0.0.0/8:22, *.example.org; or any.",
            ),
            click.option(
                "--service",
                "services",
                multiple=True,
                metavar="NAME",
                help="The only services of the bridge that it may use; or any, or none.",
            ),
            click.option(
                "--reverse",
                metavar="PORT[,PORT]",
                help="Ports of the bridge at which it may offer services; or none.",
            ),
        )
    ):
        command = option(command)
    return command


@click.group()
def account() -> None:
    """Limit what clients of a bridge may use, and see what they did.

    An account has a name, and the clients (devices) of that name. Clients without an account
    are bound by nothing but the bridge's own rules. DIR is the bridge's folder, or its
    configuration file; a running bridge follows within a second.
    """


@account.command()
@_folder
@_name
@_limits
def add(folder: Path, name: str, **options: Any) -> None:
    """Make an account; ptproxy account invite then lets clients into it.

    A client that is enrolled under NAME already is its first device.
    """
    config = load_folder(folder)
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise click.UsageError(f"a name has 1 to {MAX_NAME} printable characters")
    made: list[str] = []

    def change(known: AccessList) -> None:
        if name in known.accounts:
            raise StartError(f"there is an account {name} already; ptproxy account set changes it")
        ready = known.keep_account(with_limits(Account(name, int(time.time())), options))
        made.append(summary(ready))
        made.extend(f"{encode_key(each.public)[:10]} is its device" for each in known.named(name))

    change_access(config, change)
    for line in made:
        click.echo(line)


@account.command(name="set")
@_folder
@_name
@_limits
def set_(folder: Path, name: str, **options: Any) -> None:
    """Change an account; what is not named stays as it is."""
    if all(value in (None, ()) for value in options.values()):
        raise click.UsageError("say what is to change: --expires, --quota, --rate, …")
    _change(folder, name, lambda known: with_limits(known, options))


@account.command()
@_folder
@_name
def disable(folder: Path, name: str) -> None:
    """Keep an account's clients out, from now on, until it is enabled again."""
    _change(folder, name, lambda known: replace(known, enabled=False))


@account.command()
@_folder
@_name
def enable(folder: Path, name: str) -> None:
    """Let an account's clients in again."""
    _change(folder, name, lambda known: replace(known, enabled=True))


@account.command()
@_folder
@_name
def remove(folder: Path, name: str) -> None:
    """Forget an account and its invites; its clients are kept out for good."""
    done: list[str] = []

    def change(known: AccessList) -> None:
        _account(known, name)
        done.extend(
            f"client {encode_key(each.public)[:10]} is kept out"
            for each in known.named(name)
            if not each.revoked
        )
        known.remove_account(name)

    change_access(load_folder(folder), change)
    for line in (*done, f"{name} is removed"):
        click.echo(line)


@account.command(name="list")
@_folder
@_json
def list_(folder: Path, as_json: bool) -> None:
    """List accounts: what they may, what they used this month, until when."""
    config = load_folder(folder)
    known = read_access(config)
    if as_json:
        click.echo(json.dumps([details(known, each, time.time()) for each in known.accounts.values()]))
        return
    click.echo(table(known, time.time()))


@account.command()
@_folder
@_name
@_json
def show(folder: Path, name: str, as_json: bool) -> None:
    """Show one account, its clients and its open invites."""
    known = read_access(load_folder(folder))
    shown = details(known, _account(known, name), time.time())
    if as_json:
        click.echo(json.dumps(shown))
        return
    for field, value in shown.items():
        if field in ("clients", "invites"):
            for each in value:
                click.echo(f"{field[:-1]}: " + ", ".join(f"{key} {text}" for key, text in each.items()))
        else:
            click.echo(f"{field.replace('_', ' ')}: {_text(value)}")


@account.command()
@_folder
@_name
@click.option(
    "--expires", type=words.DURATION, default="7d", show_default=True, help="How long the link can be used."
)
@click.option("--uses", type=click.IntRange(1, MAX_DEVICES), default=1, show_default=True)
@click.option("--qr/--no-qr", default=True, help="Whether to draw the link as a QR code.")
def invite(folder: Path, name: str, expires: float, uses: int, qr: bool) -> None:
    """Print a link that lets one more client into an account."""
    config = load_folder(folder)
    if config.access != "enrolled":
        raise StartError("the bridge's access is open: links let everybody in, and accounts bind nobody")
    token = new_token(random.SystemRandom())
    link = bridge_link(config, token.secret)
    until = int(time.time() + expires) if expires else None

    def change(known: AccessList) -> None:
        _account(known, name)
        known.prune(time.time())
        known.invite(token, name, uses=uses, expires_at=until, account=name)

    change_access(config, change)
    click.echo(f"Lets a client into {name}; can be used until: {words.date(until)}")
    words.print_link(link.serialize(), qr=qr)


@account.command()
@_folder
def export(folder: Path) -> None:
    """Print everything as JSON: accounts, clients (public keys), invites (hashes), volumes.

    It holds no secret of anybody, but says who uses the bridge: keep it as such.
    """
    with contextlib.closing(open_accounts(load_folder(folder))) as store:
        known = store.list
        used = {
            name: {"since": each.since, "up": each.up, "down": each.down} for name, each in known.used.items()
        }
        click.echo(json.dumps(known.to_dict() | {"used": used}, indent=1, ensure_ascii=False))


# ---- inside -------------------------------------------------------------------------------------


def with_limits(known: Account, options: dict[str, Any]) -> Account:
    """The account with what the options say; a usage error for what cannot be."""
    changes: dict[str, Any] = {}
    if options["expires"] is not None:
        changes["expires_at"] = int(time.time() + options["expires"]) if options["expires"] else None
    for field in ("quota", "rate"):
        if options[field] is not None:
            changes[field] = options[field] or None
    for field in ("reset_day", "devices", "note"):
        if options[field] is not None:
            changes[field] = options[field]
    if options["targets"]:
        changes["targets"] = () if options["targets"] == ("any",) else options["targets"]
    if options["services"]:
        fixed: dict[tuple[str, ...], tuple[str, ...] | None] = {("any",): None, ("none",): ()}
        changes["services"] = fixed.get(options["services"], options["services"])
    if options["reverse"] is not None:
        changes["reverse"] = read_ports(options["reverse"])
    try:
        AccountTargets(changes.get("targets", ()))
        return replace(known, **changes)
    except (RuleError, ValueError) as error:
        raise click.UsageError(str(error)) from None


def _change(folder: Path, name: str, change: Callable[[Account], Account]) -> None:
    done: list[str] = []

    def update(known: AccessList) -> None:
        done.append(summary(known.keep_account(change(_account(known, name)))))

    change_access(load_folder(folder), update)
    click.echo(done[0])


def _account(known: AccessList, name: str) -> Account:
    found = known.accounts.get(name)
    if found is None:
        raise StartError(f"there is no account {name}; ptproxy account list shows them")
    return found


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
