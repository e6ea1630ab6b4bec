"""``ptproxy reload``: have a running role read its configuration again."""

from __future__ import annotations

from pathlib import Path

import click

from ptproxy.cli.asked import CONFIG, asking, state_folder
from ptproxy.errors import ConfigError, StartError
from ptproxy.proxy.control_asking import workers_of


@click.command()
@CONFIG
def reload(path: Path) -> None:
    """Have a running role read its configuration again, without touching a stream.

    A file with anything wrong is refused whole, with the reasons, and the old settings stay in
    force. Settings that cannot change while it runs are refused, too.
    """
    changed: list[str] = []
    problems: list[str] = []
    for worker in workers_of(state_folder(path)):
        try:
            running = asking(path, worker)
        except StartError as error:
            if not worker:
                problems.append(str(error))
            continue  # of a bridge that had more, or about to be started: it reads the file as it is then
        with running:
            try:
                changed = running.ask("reload")["changed"]
            except ConfigError as error:
                problems += [problem for problem in error.problems if problem not in problems]
            except StartError as error:  # the others are not left as they were for that one
                problems.append(str(error))
    if problems:
        raise ConfigError(problems)
    click.echo(f"reloaded: {', '.join(changed) or 'no setting has changed'}")
