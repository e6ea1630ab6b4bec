"""``ptproxy status``: what a running bridge or client is doing."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ptproxy.cli.asked import CONFIG, asking
from ptproxy.cli.status_sheet import Pace, sheet_of
from ptproxy.cli.status_text import text_of

if TYPE_CHECKING:
    from ptproxy.proxy.control_asking import Asking

LEAST: Final = 0.2
"""Seconds between looks, at least: each is an answer of some KiB."""


@click.command()
@CONFIG
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON, once.")
@click.option("--once", is_flag=True, help="Print it once instead of a live view.")
@click.option("--every", type=click.FloatRange(LEAST, 60.0), default=1.0, help="Seconds between looks.")
@click.option("--worker", type=click.IntRange(0, 1023), default=0, help="Of a bridge with several.")
def status(path: Path, as_json: bool, once: bool, every: float, worker: int) -> None:
    """Show what a running bridge or client is doing, until Ctrl-C.

    A client's names its bridges: show it to nobody who should not know them.
    """
    with asking(path, worker) as running:
        if as_json:
            click.echo(json.dumps(running.ask("state"), indent=2))
        elif once or not sys.stdout.isatty():
            click.echo(text_of(sheet_of(running.ask("state"), Pace())), nl=False)
        else:
            _watch(running, every)


def _watch(running: Asking, every: float) -> None:
    """The live view."""
    try:
        from rich.console import Console
        from rich.live import Live

        from ptproxy.cli.status_view import view_of
    except ImportError:
        click.echo("(the live view needs rich: pip install 'ptproxy[status]')\n", err=True)
        click.echo(text_of(sheet_of(running.ask("state"), Pace())), nl=False)
        return
    pace = Pace()
    try:
        with Live(console=Console(), screen=True, auto_refresh=False) as live:
            while True:
                live.update(view_of(sheet_of(running.ask("state"), pace)), refresh=True)
                time.sleep(every)
    except KeyboardInterrupt:
        pass
