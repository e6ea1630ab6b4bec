"""``ptproxy forward``: a client that is nothing but ports of this machine, each standing for one target."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click

from ptproxy.cli.run import make_ready
from ptproxy.cli.words import FILE
from ptproxy.config.forwards import Forward


@click.command(context_settings={"show_default": True})
@click.option(
    "-c",
    "--config",
    "path",
    type=FILE,
    required=True,
    help="The client's configuration.",
)
@click.option("--udp", "kind", flag_value="udp", help="Forward datagrams instead of TCP connections.")
@click.argument("words", metavar="LOCAL TARGET [LOCAL TARGET ...]", nargs=-1, required=True)
def forward(path: Path, kind: str | None, words: tuple[str, ...]) -> None:
    """Let ports of this machine stand for targets, until SIGTERM or Ctrl-C.

    LOCAL is PORT (of 127.0.0.1) or IP:PORT, TARGET is HOST:PORT as the bridge reaches it:

    \b
      ptproxy forward -c client.yaml 2222 example.org:22
      ssh -p 2222 127.0.0.1

    While a client runs with the same configuration, write it there instead:
    forward: [127.0.0.1:2222 -> example.org:22]
    """
    from ptproxy import log
    from ptproxy.cli.check import load_checked
    from ptproxy.config.model import ClientConfig
    from ptproxy.proxy.client import run_client
    from ptproxy.proxy.confine import confine
    from ptproxy.tunnel import runtime

    forwards = read_forwards("udp" if kind == "udp" else "tcp", words)
    config = load_checked(path, "client")
    assert isinstance(config, ClientConfig)
    confine(may_gain=config.tls.fingerprint == "browser")
    only: dict[str, Any] = {
        "listen": (), "forward": forwards, "pac": None, "page": None,
        "dns": config.dns.model_copy(update={"listen": None}),
    }  # fmt: skip
    log.set_up(config.log)
    runtime.run(
        run_client(config.model_copy(update=only), ready=make_ready("forward")),
        loop=config.loop,
    )


def read_forwards(kind: Literal["tcp", "udp"], words: tuple[str, ...]) -> tuple[Forward, ...]:
    """The pairs of a command line; a usage error where they are none."""
    if len(words) % 2:
        raise click.UsageError(f"{words[-1]} has no target: write LOCAL TARGET, as in 2222 example.org:22")
    try:
        return tuple(
            Forward.of(kind, local, target) for local, target in zip(words[::2], words[1::2], strict=True)
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
