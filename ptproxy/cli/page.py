"""``ptproxy page``: a client steered from a page in the browser, from its first link on."""

from __future__ import annotations

import asyncio
import os
import sys
import webbrowser
from pathlib import Path

import click

from ptproxy.cli import words
from ptproxy.cli.page_client import PageClient
from ptproxy.config.quantities import Endpoint, parse_listen
from ptproxy.proxy.page.port import PagePort
from ptproxy.proxy.startup import Signals


@click.command()
@click.argument("folder", metavar="DIR", type=words.FOLDER)
@click.option(
    "--listen", type=words.LISTEN, default="127.0.0.1:1080", show_default=True,
    help="Where local programs connect, for a new client.",
)  # fmt: skip
@click.option(
    "--page", "place", type=words.LISTEN, default="127.0.0.1:0", show_default=True,
    help="Where the page is; port 0 is a free one. Of this machine alone.",
)  # fmt: skip
@click.option("--open/--no-open", "opens", default=True, help="Open it in the browser.")
def page(*, folder: Path, listen: str, place: str, opens: bool) -> None:
    """Run a client in DIR with a page in the browser, until SIGTERM or Ctrl-C.

    Paste a link there, or give a picture of its QR code: the client is configured in DIR, as by ptproxy
    init client, and started. The page says whether it is connected, and lets you choose a bridge.
    It is opened by the file DIR/page.html, which other users cannot read.
    """
    asyncio.run(_run(folder.absolute(), listen, parse_listen(place), opens=opens))


def _has_screen() -> bool:
    """Whether a browser would have a window; one without would take the terminal."""
    return sys.platform in ("darwin", "win32") or bool({"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys())


async def _run(folder: Path, listen: str, place: Endpoint, *, opens: bool) -> None:
    loop = asyncio.get_running_loop()
    client = PageClient(folder, listen)
    port = PagePort(loop, client)
    with Signals(loop) as signals:
        try:
            await port.listen(place)
            opening = port.write_opening(folder)
            await client.again()
            click.echo(f"The page: open {opening} in a browser of this machine.")
            if opens and _has_screen():
                loop.run_in_executor(None, webbrowser.open, opening.as_uri())
            await signals.stop.wait()
        finally:
            await port.stop()
            await client.stop()
