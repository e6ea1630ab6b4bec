"""The chat at work: the screen, line mode, and commands that do one thing and leave."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final

import click

from ptproxy.cli import words
from ptproxy.cli.chat_place import Place
from ptproxy.cli.given import read_all, read_link
from ptproxy.errors import StartError
from ptproxy.peers.chat.beside import beside
from ptproxy.peers.chat.chat import Chat
from ptproxy.peers.chat.commands import (
    Add,
    Command,
    Contacts,
    Mailbox,
    MyName,
    Number,
    Receipts,
    Verify,
    WhoAmI,
)
from ptproxy.peers.chat.line_mode import Ending, Form, run_lines
from ptproxy.peers.chat.qr import qr_png, qr_rows, too_small
from ptproxy.peers.chat.told import Done, NumberTold, Record, Refused
from ptproxy.peers.contact_invite import ContactInvite, InviteError
from ptproxy.peers.messenger import Messenger, OpenInvite
from ptproxy.state import write_file

FAILURE: Final = 1
"""Exit status where what was asked for could not be done."""
SETTLE: Final = 30.0
"""Seconds for what follows from a command on the network; what takes longer goes on at the next start."""
DAY: Final = 86_400
ON_SCREEN: Final = ""
"""In place of a picture's name."""


def screen(place: Place) -> None:
    """The full screen, until the person leaves."""
    place.check()
    try:
        from ptproxy.peers.chat.screen.app import run_screen
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("textual"):
            raise
        raise StartError(
            "the screen needs textual: pip install 'ptproxy[chat]'; ptproxy chat lines works without it"
        ) from None
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise StartError("the screen needs a terminal; ptproxy chat lines works without one")

    async def main() -> None:
        async with place.messenger() as messenger:
            await run_screen(messenger, place.files)

    place.run(main)


@click.command()
@click.option("--json", "form", flag_value="json", help="One JSON object a line, in both directions.")
@click.option("--text", "form", flag_value="text", default=True, help="Lines for people.  [default]")
@click.option(
    "--wait",
    type=words.DURATION,
    default="60s",
    show_default=True,
    help="How long to wait for lines and files to come and to leave, after the input has ended.",
)
@click.option("--follow", is_flag=True, help="Go on when the input has ended, until stopped.")
@click.pass_obj
def lines(place: Place, *, form: str, wait: float, follow: bool) -> int:
    """Chat in lines: commands on standard input, what happens on standard output.

    \b
      anna: hello            a line to anna
      /contacts              who there is; /help tells all commands
    With --json: {"do": "say", "who": "anna", "text": "hello", "id": "1"}

    Without any input it tells what has come, and leaves: ptproxy chat lines </dev/null

    Exit status 1: something was refused or has not left, or your mailbox was not reached.
    """
    from ptproxy.peers.chat.commands import MAX_LINE
    from ptproxy.peers.chat.pipes import LineReader, LineWriter

    place.check()

    async def main() -> int:
        async with place.messenger() as messenger:
            output = LineWriter(1)
            try:
                ending = Ending(wait, follow)
                return await _until_stopped(
                    run_lines(messenger, place.files, LineReader(0, MAX_LINE), output, Form(form), ending)
                )
            finally:
                output.close()

    return place.run(main)


@click.command()
@click.option("--label", default="", help="What the invite is called in your list; nobody else sees it.")
@click.option(
    "--qr",
    is_flag=False,
    flag_value=ON_SCREEN,
    default=ON_SCREEN,
    metavar="[FILE.png]",
    help="Draw it as a QR code, or write that to a picture.  [default: draw it]",
)
@click.option("--no-qr", is_flag=True, help="Print the line only.")
@click.pass_obj
def invite(place: Place, *, label: str, qr: str, no_qr: bool) -> int:
    """Make an invite for one person and print it.

    Whoever has the line first can write to you, for a week.
    """
    place.check()
    if qr != ON_SCREEN:
        _check_picture(Path(qr))

    async def main() -> OpenInvite:
        async with place.messenger() as messenger:
            made = await messenger.invite(label=label)
            await _settle(messenger)
            return next((each for each in messenger.invites() if each.id == made.id), made)

    made = place.run(main)
    words.print_link(made.invite.serialize(), qr=False)
    if qr != ON_SCREEN:
        write_file(Path(qr), qr_png(made.invite.qr_text()), replace=False)
        click.echo(f"Its QR code is in {qr}, as secret as the line: delete it when it was scanned.")
    elif not no_qr:
        _draw_qr(made.invite.qr_text(), "ptproxy chat invite --qr FILE.png")
    click.echo(f"Good for one person until {words.date(made.expires * DAY)} UTC.")

    if not made.ready:
        click.echo("Your mailbox is not reached: it learns of the invite when ptproxy chat runs.", err=True)

        return FAILURE
    return 0


@click.command()
@click.argument("source", metavar="INVITE", default="-")
@click.option("--name", default="", help="What this contact is called here.  [default: as it calls itself]")
@click.pass_obj
def add(place: Place, *, source: str, name: str) -> int:
    """Add a contact by an invite.

    INVITE is - to paste or pipe it in, or @FILE, a text or a picture of its QR code: on the command
    line other users of the machine could see it.
    """
    place.check()
    text = _read_invite(source)

    async def main() -> tuple[list[Record], bool]:
        async with place.messenger() as messenger:
            records = await Chat(messenger, place.files, _ignore).do(Add(text, name))
            return records, not _status(records) and await _settle(messenger)

    records, settled = place.run(main)
    _tell(records)
    if not (settled or _status(records)):
        click.echo("A mailbox is not reached: ptproxy chat goes on with it whenever it runs.", err=True)
    return _status(records)


@click.command()
@click.option("--name", help="Be called this from now on; contacts are told.")
@click.option("--receipts/--no-receipts", default=None, help="Whether contacts are told what you have read.")
@click.option(
    "--mailbox",
    metavar="LINK",
    help="Have your mailbox at the bridge of LINK from now on (- to paste or pipe it in, or @FILE).",
)
@click.pass_obj
def me(place: Place, *, name: str | None, receipts: bool | None, mailbox: str | None) -> int:
    """Show who you are, or change what contacts are told of you.

    With --mailbox contacts are told the new bridge once it is reached. The old one is still looked
    into until everybody writes to the new one; invites of yours go on working while it is there.

    A new identity in place of the one you have: /successor and /become in ptproxy chat lines, or F5
    on the screen.
    """
    place.check()
    asked: list[Command] = []
    if name is not None:
        asked.append(MyName(name))
    if receipts is not None:
        asked.append(Receipts("on" if receipts else "off"))
    if mailbox is not None:
        asked.append(Mailbox(read_link(mailbox).serialize()))
    tells = name is not None or mailbox is not None

    async def main() -> tuple[list[Record], bool]:
        async with place.messenger() as messenger:
            chat = Chat(messenger, place.files, _ignore)
            told = [record for command in asked for record in await chat.do(command)]
            failed: list[Record] = [record for record in told if isinstance(record, Refused)]
            shown = [record for record in await chat.do(WhoAmI()) if not isinstance(record, Done)]
            return failed or shown, failed != [] or not tells or await _settle(messenger)

    records, settled = place.run(main)
    _tell(records)
    if not settled:
        click.echo("A mailbox is not reached: contacts are told when ptproxy chat runs.", err=True)
    return _status(records)


@click.command()
@click.pass_obj
def contacts(place: Place) -> int:
    """List the contacts and how they stand."""
    place.check()

    async def main() -> list[Record]:
        async with place.messenger() as messenger:
            return await Chat(messenger, place.files, _ignore).do(Contacts())

    _tell(place.run(main))
    return 0


@click.command()
@click.argument("who")
@click.pass_obj
def verify(place: Place, who: str) -> int:
    """Show the safety number of a contact, and compare it with what the other's screen shows.

    WHO is a contact's name as ptproxy chat contacts lists it.
    """
    place.check()

    async def main() -> int:
        async with place.messenger() as messenger:
            chat = Chat(messenger, place.files, _ignore)
            records = await chat.do(Number(who))
            _tell(records)
            for record in records:
                if isinstance(record, NumberTold):
                    words.print_qr(record.qr)
                    typed = await asyncio.to_thread(_ask_for_number)
                    if typed:
                        records = await chat.do(Verify(who, typed))
                        _tell(records)
            return _status(records)

    return place.run(main)


def _check_picture(path: Path) -> None:
    """Before an invite is made that nobody sees."""
    if path.suffix.lower() != ".png":
        raise click.UsageError("--qr writes a picture: FILE.png")
    words.refuse_existing(False, path)
    if not path.absolute().parent.is_dir():
        raise StartError(f"there is no folder {path.absolute().parent}")


def _draw_qr(text: str, instead: str) -> None:
    """A QR code; in a window that is too small for it, how to see it all the same."""
    if sys.stdout.isatty():
        columns, lines = shutil.get_terminal_size()
        small = too_small(qr_rows(text), columns, lines)
        if small:
            click.echo(f"{small} and ask again, or: {instead}\n")
            return
    words.print_qr(text)


def _ignore(_: Record) -> None:
    """Files go on when the chat runs."""


def _ask_for_number() -> str:
    click.echo("Type or paste what the other's screen shows, or Enter to leave it: ", err=True, nl=False)
    return sys.stdin.readline().strip()


async def _settle(messenger: Messenger) -> bool:
    """What follows from a command on the network, in bounded time; whether all of it is done."""
    try:
        async with asyncio.timeout(SETTLE):
            await beside(messenger.settled(), messenger.run())
    except TimeoutError:
        return False
    return True


def _tell(records: list[Record]) -> None:
    for record in records:
        for row in record.rows():
            click.echo(row, err=isinstance(record, Refused))


def _status(records: list[Record]) -> int:
    return FAILURE if any(isinstance(record, Refused) for record in records) else 0


def _read_invite(source: str) -> str:
    if source != "-" and not source.startswith("@"):
        raise click.UsageError("INVITE is - to paste it, or @FILE: on the command line others could see it")
    text = read_all(source, "invite")
    for word in text.split():
        with contextlib.suppress(InviteError):
            return ContactInvite.parse(word).serialize()
    return text  # in several rows, as a narrow window had it, or none


async def _until_stopped(running: Coroutine[Any, Any, int]) -> int:
    """The status of what runs; SIGTERM ends it in an orderly way, tunnels and store closed, with status 0."""
    task = asyncio.ensure_future(running)
    stopped = asyncio.Event()

    def stop() -> None:
        stopped.set()
        task.cancel()

    loop = asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError):  # Windows
        loop.add_signal_handler(signal.SIGTERM, stop)
    try:
        return await task
    except asyncio.CancelledError:
        if not stopped.is_set():
            task.cancel()
            raise
        return 0
    finally:
        with contextlib.suppress(NotImplementedError):
            loop.remove_signal_handler(signal.SIGTERM)
