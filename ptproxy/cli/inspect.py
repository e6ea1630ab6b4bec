"""``ptproxy inspect``: see the own bridge and client as a censor does."""

from __future__ import annotations

import click

from ptproxy.cli.inspect_capture import capture
from ptproxy.cli.inspect_hello import hello
from ptproxy.cli.inspect_probes import probes
from ptproxy.cli.inspect_record import record


@click.group()
def inspect() -> None:
    """See your own bridge and client as a censor does.

    Exit status: 0 nothing tells them from the web, 1 something does, 2 it could not be looked at.
    """


inspect.add_command(probes)
inspect.add_command(hello)
inspect.add_command(capture)
inspect.add_command(record)
