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
    from ptproxy import log
    from ptproxy.cli.check import load_checked
    from ptproxy.cli.services import services_of
    from ptproxy.config.model import BridgeConfig
    from ptproxy.proxy.bridge import run_bridge
    from ptproxy.tunnel import runtime

    raise_descriptor_limit()
    config = load_checked(path, "bridge")
    assert isinstance(config, BridgeConfig)
    log.set_up(config.log)
    runtime.run(
        run_bridge(config, services=services_of(config), ready=make_ready("bridge")), loop=config.loop
    )


@click.command()
@_config_option
def client(path: Path) -> None:
    """Run a client: a local SOCKS5, SOCKS4a and HTTP proxy, until SIGTERM or Ctrl-C.

    \b
    Then, for example:
      curl --proxy socks5h://127.0.0.1:1080 https://example.org/
    """
    from ptproxy import log
    from ptproxy.cli.check import load_checked
    from ptproxy.cli.services import finder_of
    from ptproxy.config.model import ClientConfig
    from ptproxy.proxy.client import run_client
    from ptproxy.tunnel import runtime

    raise_descriptor_limit()
    config = load_checked(path, "client")
    assert isinstance(config, ClientConfig)
    log.set_up(config.log)
    source = finder_of(config) if config.find.is_used else None
    runtime.run(run_client(config, ready=make_ready("client"), source=source), loop=config.loop)


def make_ready(role: str) -> Callable[[Sequence[str]], None]:
    """Says on standard output where the role listens: for people and for scripts that wait for it."""

    def ready(addresses: Sequence[str]) -> None:
        with contextlib.suppress(OSError):  # nobody reads it
            os.write(1, f"ptproxy {role} listening on {', '.join(addresses)}\n".encode())

    return ready


def raise_descriptor_limit() -> None:
    """As many descriptors as the system lets us have: the usual 1024 are 500 streams at a client."""
    try:
        import resource
    except ImportError:
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS: no limit is more than it takes
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
