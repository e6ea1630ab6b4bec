"""``ptproxy doctor``: what is wrong with a client or bridge, and what to do about it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import click

from ptproxy.cli.check import load_checked
from ptproxy.cli.doctor_findings import Finding, Kind, user, worst
from ptproxy.cli.words import FILE
from ptproxy.config.directory_model import DirectoryConfig
from ptproxy.config.model import BridgeConfig, ClientConfig
from ptproxy.errors import ConfigError

MARKS: Final[dict[Kind, tuple[str, str]]] = {
    "fine": ("ok", "green"),
    "warning": ("!!", "yellow"),
    "bad": ("no", "red"),
    "unknown": ("??", ""),
}


@click.command()
@click.option("-c", "--config", "path", type=FILE, required=True, help="The configuration of what is ill.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def doctor(path: Path, as_json: bool) -> int:
    """Find what is wrong with a client or bridge, and say what to do.

    A client's ways to its bridge are tried one after another as the client itself does it,
    with a browser's hello and a page; one that runs and is connected is only asked. A bridge's
    own ports and web site are asked. Nothing else is sent anywhere.

    What it prints names your bridge: show it to nobody who should not know it. Exit status: 0
    nothing is wrong, 1 something is.
    """
    return asyncio.run(_examine(path, as_json))


async def _examine(path: Path, as_json: bool) -> int:
    findings: list[Finding] = []
    async for finding in examined(path):
        findings.append(finding)
        if not as_json:
            show(finding)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
    return worst(findings)


async def examined(path: Path) -> AsyncIterator[Finding]:
    """Every finding, as it comes."""
    try:
        config = load_checked(path)
    except ConfigError as error:
        for problem in error.problems:
            yield Finding("configuration", "bad", problem, "mend that line")
        return
    if isinstance(config, DirectoryConfig):
        yield Finding("configuration", "unknown", "a directory node's: only clients and bridges are examined")
        return
    yield Finding("configuration", "fine", f"{path} can be used by {user()}")
    examination: AsyncIterator[Finding]
    if isinstance(config, BridgeConfig):
        from ptproxy.cli.doctor_bridge import examine_bridge

        examination = examine_bridge(config)
    else:
        from ptproxy.cli.doctor_client import examine_client

        assert isinstance(config, ClientConfig)
        examination = examine_client(config)
    async for finding in examination:
        yield finding


def show(finding: Finding) -> None:
    """One finding for a person, with its advice below it."""
    mark, colour = MARKS[finding.kind]
    shown = click.style(mark, fg=colour or None, bold=True) if sys.stdout.isatty() else mark
    click.echo(f"{shown}  {finding.what}: {finding.text}")
    if finding.advice:
        click.echo(f"      {finding.advice}")
