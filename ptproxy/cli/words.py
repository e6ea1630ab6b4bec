"""Parameter types and phrases that several commands share."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ptproxy.config.quantities import parse_address, parse_duration, parse_host, parse_listen, parse_site
from ptproxy.errors import StartError


class Checked(click.ParamType):  # type: ignore[type-arg]  # generic only in newer releases
    """A parameter read by one of the configuration's own parsers; its value stays text."""

    def __init__(self, name: str, parse: Callable[[str], object]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text if ``parse`` takes it."""
        try:
            self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return str(value)


class Duration(click.ParamType):  # type: ignore[type-arg]  # as above
    """Seconds from ``7d``, ``12h``; ``never`` is 0.0."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        try:
            return 0.0 if value == "never" else parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


ADDRESS = Checked("host:port", parse_address)
LISTEN = Checked("ip:port", parse_listen)
SITE = Checked("url", parse_site)
HOST = Checked("name", parse_host)
DURATION = Duration()
FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def command(*words: str | Path) -> str:
    """A command line to paste."""
    return "  " + shlex.join(str(word) for word in words)


def print_link(text: str, *, qr: bool) -> None:
    """A link on a line of its own, and as a QR code where the output can show one."""
    click.echo(f"\n{text}\n")
    if qr:
        print_qr(text)


def print_qr(text: str) -> None:
    """A QR code, where the output can show one."""
    try:
        "█▀▄".encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        click.echo("(no QR code: this terminal's encoding has no block characters)")
        return
    import segno

    segno.make(text, error="l", micro=False).terminal(out=sys.stdout, compact=True, border=2)
    click.echo()


def date(unix: int | None) -> str:
    """A day and time for people, UTC; ``never`` for None."""
    return "never" if unix is None else time.strftime("%Y-%m-%d %H:%M", time.gmtime(unix))


def refuse_existing(force: bool, *files: Path) -> None:
    """Without ``force`` nothing is replaced; raises :class:`~ptproxy.errors.StartError`."""
    for path in files:
        if not force and os.path.lexists(path):
            raise StartError(f"{path} exists already; choose another folder, or --force to replace it")
