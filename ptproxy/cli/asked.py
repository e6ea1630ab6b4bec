"""Reaching a running role by its configuration file, which may be broken by now."""

from __future__ import annotations

from pathlib import Path

import click

from ptproxy.cli.words import FILE
from ptproxy.config.document import parse
from ptproxy.errors import ConfigError, why
from ptproxy.proxy.control_asking import Asking

CONFIG = click.option(
    "-c", "--config", "path", type=FILE, required=True, help="The configuration that it runs with."
)


def state_folder(path: Path) -> Path:
    """The state folder that a configuration names, whatever else is wrong with it; raises ConfigError."""
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError([f"{path}: not a text file in UTF-8"]) from None
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {why(error)}"]) from None
    document = parse(text)
    state = document.data.get("state")
    if not isinstance(state, str) or not state:
        raise ConfigError([f"{path}:{document.line(('state',))}: state: names no folder"])
    return path.absolute().parent / state


def asking(path: Path, worker: int = 0) -> Asking:
    """A conversation with what runs with this configuration; raises ConfigError or StartError."""
    return Asking(state_folder(path), worker=worker)
