"""``ptproxy reverse``: a client that does nothing but offer services behind it at ports of its bridge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ptproxy.cli.run import make_ready
from ptproxy.cli.words import FILE
from ptproxy.config.reverses import Reverse


@click.command(context_settings={"show_default": True})
@click.option(
    "-c",
    "--config",
    "path",
    type=FILE,
    required=True,
    help="The client's configuration.",
)
@click.argument("words", metavar="PORT TARGET [PORT TARGET ...]", nargs=-1, required=True)
def reverse(path: Path, words: tuple[str, ...]) -> None:
    """Offer services of this machine at ports of the bridge, until SIGTERM or Ctrl-C.

    PORT is the bridge's, TARGET is PORT (of 127.0.0.1) or HOST:PORT as this machine reaches it:

    \b
      ptproxy reverse -c client.yaml 2222 22

    The bridge's operator permits it: reverse.offer in the bridge's configuration, and the port with
    ptproxy invite permit. While a client runs with the same configuration, write it there instead:
    reverse: [2222 -> 127.0.0.1:22]
    """
    from ptproxy import log
    from ptproxy.cli.check import load_checked
    from ptproxy.config.model import ClientConfig
    from ptproxy.proxy.client import run_client
    from ptproxy.proxy.confine import confine
    from ptproxy.tunnel import runtime

    reverses = read_reverses(words)
    config = load_checked(path, "client")
    assert isinstance(config, ClientConfig)
    confine(may_gain=config.tls.fingerprint == "browser")
    only: dict[str, Any] = {
        "listen": (), "forward": (), "pac": None, "page": None,
        "dns": config.dns.model_copy(update={"listen": None}),
        "reverse": reverses,
    }  # fmt: skip
    log.set_up(config.log)
    runtime.run(
        run_client(config.model_copy(update=only), ready=make_ready("reverse")),
        loop=config.loop,
    )


def read_reverses(words: tuple[str, ...]) -> tuple[Reverse, ...]:
    """The pairs of a command line; a usage error where they are none."""
    if len(words) % 2:
        raise click.UsageError(f"{words[-1]} has no target: write PORT TARGET, as in 2222 127.0.0.1:22")
    try:
        found = tuple(Reverse.of(port, target) for port, target in zip(words[::2], words[1::2], strict=True))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if len({each.port for each in found}) != len(found):
        raise click.UsageError("a port of the bridge stands twice")
    return found
