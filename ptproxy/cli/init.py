"""``ptproxy init``: a folder with all that a role needs."""

from __future__ import annotations

import click

from ptproxy.cli.init_bridge import bridge
from ptproxy.cli.init_client import client


@click.group()
def init() -> None:
    """Write keys and a configuration for a bridge or a client."""


init.add_command(bridge)
init.add_command(client)
