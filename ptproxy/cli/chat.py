"""``ptproxy chat``: talk to people, end to end, through bridges; on a screen, or in lines for scripts."""

from __future__ import annotations

from pathlib import Path

import click

from ptproxy.cli.chat_init import init, passphrase
from ptproxy.cli.chat_place import ACCEPTED, Place
from ptproxy.cli.chat_run import add, contacts, invite, lines, me, verify


@click.group(invoke_without_command=True)
@click.option(
    "-d",
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="PTPROXY_CHAT",
    default=lambda: Path(click.get_app_dir("ptproxy")) / "chat",
    help="Where the identity and all it knows is kept, encrypted (also: PTPROXY_CHAT).",
)
@click.option(
    "--key-file",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="PTPROXY_CHAT_KEY_FILE",
    help="What opens it, instead of a passphrase (also: PTPROXY_CHAT_KEY_FILE).",
)
@click.option(
    "--passphrase-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file (mode 0600) with the passphrase in its first line, where nobody can be asked.",
)
@click.option(
    "--accept",
    "accepted",
    type=click.Choice(list(ACCEPTED)),
    multiple=True,
    help="Go on although the folder was put back from a backup, or copied here.",
)
@click.option(
    "--log",
    "log_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a log, without names and texts.  [default: none]",
)
@click.pass_context
def chat(
    context: click.Context,
    *,
    folder: Path,
    key_file: Path | None,
    passphrase_file: Path | None,
    accepted: tuple[str, ...],
    log_file: Path | None,
) -> None:
    """Talk to people, end to end, through bridges.

    Without a command: the screen. A first try: ptproxy chat init, ptproxy chat invite, and give
    that line to somebody, who adds it with ptproxy chat add. The passphrase is asked for;
    PTPROXY_PASSPHRASE_FD can name a descriptor that it is read from.
    """
    from ptproxy.proxy.confine import confine

    confine()
    context.obj = Place(folder, key_file, passphrase_file, accepted, log_file)
    if context.invoked_subcommand is None:
        from ptproxy.cli.chat_run import screen

        screen(context.obj)


for _command in (init, passphrase, invite, add, contacts, me, verify, lines):
    chat.add_command(_command)
