"""``ptproxy inspect record``: a capture of one's own connections without the right to look at the network."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

import click

from ptproxy import state
from ptproxy.cli.inspect_words import could_not_run
from ptproxy.cli.words import ADDRESS, DURATION, LISTEN
from ptproxy.config.quantities import Endpoint, parse_address, parse_listen
from ptproxy.errors import StartError, why


@click.command()
@click.argument("path", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--to", "target", type=ADDRESS, required=True, help="The server that is meant.")
@click.option(
    "--listen",
    type=LISTEN,
    default="127.0.0.1:8443",
    show_default=True,
    help="Where clients connect instead.",
)
@click.option(
    "--seconds", "duration", type=DURATION, default=0.0, help="Stop by itself, as 10m.  [default: Ctrl-C]"
)
def record(path: Path, target: str, listen: str, duration: float) -> None:
    """Relay connections to a server and write them into FILE, as tcpdump would.

    Clients must come by way of this relay: a copy of client.yaml whose link names 127.0.0.1:8443
    (the server name in it stays), a browser for cover with its own ways to map a name, as

    \b
      chromium --host-resolver-rules="MAP www.example 127.0.0.1:8443" https://www.example/

    What is written is encrypted as it was, with the real sizes and times of records; packets are
    made up. Read it with ptproxy inspect capture, which wants the port of --to.
    """
    with could_not_run():
        capture, count = asyncio.run(_recorded(target, listen, duration))
        state.write_file(path, capture)
    click.echo(f"{path} holds {count} connections, {len(capture)} bytes")


async def _recorded(target: str, listen: str, duration: float) -> tuple[bytes, int]:
    """The capture, and how many connections came, once it is over."""
    from ptproxy.inspect.recorder import Recorder

    where, end = parse_listen(listen), parse_address(target)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(end.host, end.port, type=socket.SOCK_STREAM)
    except OSError:
        raise StartError(f"{end.host} is not found") from None
    address = str(found[0][4][0]), int(found[0][4][1])
    recorder = Recorder((where.literal, where.port), address)
    try:
        async with recorder:
            click.echo(f"recording connections to {Endpoint(*recorder.address)}", err=True)
            with contextlib.suppress(asyncio.CancelledError):  # Ctrl-C ends it, and what came is kept
                await asyncio.sleep(duration or 365 * 86400)
    except OSError as error:
        raise StartError(f"cannot listen on {listen}: {why(error)}") from None
    return recorder.capture(), recorder.connections
