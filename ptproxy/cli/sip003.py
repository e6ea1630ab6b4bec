"""``ptproxy sip003``: a Shadowsocks plugin, on either side; its options say which."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

import click


@click.command()
@click.option(
    "--client-options",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Print what the clients of the server with this state folder need.",
)
def sip003(folder: Path | None) -> int:
    """Be Shadowsocks' plugin, for a client or a server.

    Shadowsocks starts it and says by its environment what it wants. Run by hand, it prints
    how to make Shadowsocks do so.
    """
    from ptproxy.proxy.confine import confine
    from ptproxy.pt.sip003 import client_options, run_sip003

    if folder is not None:
        click.echo(client_options(folder))
        return 0
    confine()
    return run_sip003(os.environ)


def main() -> NoReturn:
    """The command ``ptproxy-sip003``: Shadowsocks gives its plugin no arguments of ours."""
    from ptproxy.cli.main import main as program

    program(["sip003", *sys.argv[1:]])
