"""``ptproxy bridge`` and ``ptproxy client``: run a role until it is told to stop."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from ptproxy.cli.words import FILE

_config_option = click.option(
    "-c", "--config", "path", type=FILE, required=True, help="The configuration, as ptproxy init writes it."
)


@click.command()
@_config_option
def bridge(path: Path) -> None:
    """Run a bridge until SIGTERM or Ctrl-C.

    Open streams then get the time of limits.drain to end. SIGHUP reads certificates and the
    access list again.
    """
    from ptproxy import log  # noqa: PLC0415  (imports of a role are paid by that role)
    from ptproxy.cli.check import load_checked  # noqa: PLC0415
    from ptproxy.config.model import BridgeConfig  # noqa: PLC0415
    from ptproxy.proxy.bridge import run_bridge  # noqa: PLC0415
    from ptproxy.tunnel import runtime  # noqa: PLC0415

    config = load_checked(path, "bridge")
    assert isinstance(config, BridgeConfig)  # noqa: S101
    log.set_up(config.log)
    runtime.run(run_bridge(config, ready=_ready("bridge")), loop=config.loop)


@click.command()
@_config_option
def client(path: Path) -> None:
    """Run a client: a local SOCKS5, SOCKS4a and HTTP proxy, until SIGTERM or Ctrl-C.

    \b
    Then, for example:
      curl --proxy socks5h://127.0.0.1:1080 https://example.org/
    """
    from ptproxy import log  # noqa: PLC0415
    from ptproxy.cli.check import load_checked  # noqa: PLC0415
    from ptproxy.config.model import ClientConfig  # noqa: PLC0415
    from ptproxy.proxy.client import run_client  # noqa: PLC0415
    from ptproxy.tunnel import runtime  # noqa: PLC0415

    config = load_checked(path, "client")
    assert isinstance(config, ClientConfig)  # noqa: S101
    log.set_up(config.log)
    runtime.run(run_client(config, ready=_ready("client")), loop=config.loop)


def _ready(role: str) -> Callable[[Sequence[str]], None]:
    """Says on standard output where the role listens: for people and for scripts that wait for it."""

    def ready(addresses: Sequence[str]) -> None:
        with contextlib.suppress(OSError):  # nobody reads it
            os.write(1, f"ptproxy {role} listening on {', '.join(addresses)}\n".encode())

    return ready
