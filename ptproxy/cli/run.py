"""``ptproxy bridge`` and ``ptproxy client``: run a role until it is told to stop."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ptproxy.cli.words import FILE
from ptproxy.config.quantities import Endpoint

if TYPE_CHECKING:
    from ptproxy.config.model import BridgeConfig
    from ptproxy.proxy.control_reload import ConfigSource
    from ptproxy.proxy.unprivileged import Kept

REPLACE_TIMEOUT: Final = 150.0
"""Seconds until a bridge was replaced or goes on as it was: its own limits end sooner."""
LOOK_EVERY: Final = 0.1
"""Seconds between looks whether it was."""

_config_option = click.option(
    "-c", "--config", "path", type=FILE, required=True, help="The configuration, as ptproxy init writes it."
)


@click.command()
@_config_option
@click.option("--replace", is_flag=True, help="Have the bridge that runs with this configuration replaced.")
def bridge(path: Path, replace: bool) -> None:
    """Run a bridge until SIGTERM or Ctrl-C.

    Open streams then get the time of limits.drain to end. SIGHUP and ptproxy reload read the
    configuration, certificates, shape and access list again, without touching a stream. With
    session_state: keep, SIGUSR2 or --replace has a new process go on with every stream: after
    an update, or for what a reload cannot change.
    """
    from ptproxy import log
    from ptproxy.cli.check import load_checked
    from ptproxy.cli.services import services_of
    from ptproxy.config.model import BridgeConfig
    from ptproxy.proxy.bridge import run_bridge
    from ptproxy.proxy.confine import confine
    from ptproxy.proxy.control_files import status_of
    from ptproxy.proxy.handover import Former
    from ptproxy.proxy.startup import Signals, hold_signals
    from ptproxy.proxy.succession import Succession
    from ptproxy.proxy.unprivileged import give_up_root, tell_unreadable
    from ptproxy.proxy.workers import refuse_what_cannot_be
    from ptproxy.tunnel import runtime

    former = Former.of(os.environ)
    confine()
    seen = {path: status_of(path)}
    config = load_checked(path, "bridge")
    assert isinstance(config, BridgeConfig)
    if replace:
        wait_for_successor(config.state)
        return
    if config.workers > 1:
        refuse_what_cannot_be(config)  # before anything is bound or given away
    kept = give_up_root(config, path)
    log.set_up(config.log)
    if kept is not None:
        tell_unreadable(kept, config)
    if config.workers > 1:
        if hasattr(signal, "SIGUSR2"):
            signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # they are not replaced, nor ended by it
        _run_workers(path, config, kept)
        return
    hold_signals("SIGHUP", "SIGUSR2")  # those that come before they are watched neither end us nor are lost
    key = kept.files.key if kept is not None else None
    command = [sys.executable, *sys.orig_argv[1:]]
    running = run_bridge(
        config,
        services=services_of(config, key),
        ready=make_ready("bridge"),
        signals_of=functools.partial(Signals, replacing=("SIGUSR2",)),
        succession=Succession(command, lambda: services_of(config, key), former),
        source=dataclasses.replace(_source_of(path), seen=seen),
        kept=kept,
    )
    runtime.run(running, loop=config.loop)


def _source_of(path: Path) -> ConfigSource:
    """Where a bridge's configuration comes from, and how it is read again."""
    from ptproxy import log
    from ptproxy.cli.check import load_checked
    from ptproxy.proxy.control_reload import ConfigSource

    return ConfigSource(path, functools.partial(load_checked, path, "bridge"), log.set_up)


def _run_workers(path: Path, config: BridgeConfig, kept: Kept | None) -> None:
    """The bridge in several processes; returns in each of them once it has ended."""
    from ptproxy.cli.services import services_of
    from ptproxy.proxy.bridge import run_bridge
    from ptproxy.proxy.control_bridge_reload import as_it_is_now
    from ptproxy.proxy.workers import Workers
    from ptproxy.tunnel import runtime

    source = _source_of(path)
    with Workers(config, make_ready("bridge"), kept) as workers:
        post = workers.watch()
        if post is None:
            return
        config = as_it_is_now(config, source)
        running = run_bridge(
            config,
            services=services_of(config),
            ready=post.is_up,
            signals_of=post.signals,
            post=post,
            source=source,
        )
        runtime.run(running, loop=config.loop)


@click.command()
@_config_option
def client(path: Path) -> None:
    """Run a client: a local SOCKS5, SOCKS4a and HTTP proxy, until SIGTERM or Ctrl-C.

    \b
    Then, for example:
      curl --proxy socks5h://127.0.0.1:1080 https://example.org/
    """
    from ptproxy.cli.doors import early_doors

    with early_doors(path) as doors:
        _run_client(path, doors)


def _run_client(path: Path, doors: dict[Endpoint, socket.socket]) -> None:
    from ptproxy import log
    from ptproxy.cli.check import load_checked
    from ptproxy.cli.services import finder_of
    from ptproxy.config.model import ClientConfig
    from ptproxy.proxy.client import run_client
    from ptproxy.proxy.confine import confine
    from ptproxy.proxy.control_reload import ConfigSource
    from ptproxy.tunnel import runtime

    config = load_checked(path, "client")
    assert isinstance(config, ClientConfig)
    confine(may_gain=config.tls.fingerprint == "browser")
    log.set_up(config.log)
    source = finder_of(config) if config.find.is_used else None
    running = run_client(
        config,
        ready=make_ready("client"),
        source=source,
        doors=doors,
        config_source=ConfigSource(path, functools.partial(load_checked, path, "client"), log.set_up),
    )
    runtime.run(running, loop=config.loop)


def wait_for_successor(folder: Path) -> None:
    """Have the bridge that holds a state folder replaced; returns once another process has it.

    Raises :class:`~ptproxy.errors.StartError` where there is none, or where it goes on as it was.
    """
    from ptproxy.errors import StartError
    from ptproxy.state import holder_of

    before = holder_of(folder)
    if before is None:
        raise StartError("no bridge runs with this configuration's state folder")
    try:
        os.kill(before[0], signal.SIGUSR2)
    except (OSError, AttributeError) as error:
        raise StartError(f"the bridge, process {before[0]}, cannot be told: {error}") from None
    until = time.monotonic() + REPLACE_TIMEOUT
    while time.monotonic() < until:
        after = holder_of(folder)
        if after is None:
            raise StartError("the bridge has ended; its log says why")
        if after[0] != before[0]:
            click.echo(f"process {after[0]} goes on for process {before[0]}")
            return
        if after != before:
            break
        time.sleep(LOOK_EVERY)
    raise StartError(f"the bridge was not replaced and goes on as process {before[0]}; its log says why")


def make_ready(role: str) -> Callable[[Sequence[str]], None]:
    """Says on standard output where the role listens: for people and for scripts that wait for it."""

    def ready(addresses: Sequence[str]) -> None:
        with contextlib.suppress(OSError):  # nobody reads it
            os.write(1, f"ptproxy {role} listening on {', '.join(addresses)}\n".encode())

    return ready
