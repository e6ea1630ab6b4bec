"""``ptproxy tor-pt``: tor's transport, on either side; tor's environment says which."""

from __future__ import annotations

import os

import click


@click.command("tor-pt")
def tor_pt() -> int:
    """Be tor's transport, for a client or a bridge.

    tor starts it and says by its environment what it wants. Run by hand, it prints the lines
    that make tor do so.
    """
    from ptproxy.proxy.confine import confine
    from ptproxy.pt.tor import run_tor

    confine()
    return run_tor(os.environ)
