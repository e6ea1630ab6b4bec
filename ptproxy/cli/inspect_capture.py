"""``ptproxy inspect capture``: what a passive censor makes of a capture."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ptproxy.cli.inspect_words import DIFFERENT, JSON_OPTION, SAME, could_not_run, print_json, table
from ptproxy.cli.words import FILE

if TYPE_CHECKING:
    from ptproxy.inspect.look import Capture, Finding

SHOWN: Final = 40
"""Flows that are listed; --json has all."""


@click.command()
@click.argument("path", metavar="FILE", type=FILE)
@click.option("--cover", type=FILE, help="A capture of what the traffic should be taken for.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=443, show_default=True, help="The server's; 0: any."
)
@JSON_OPTION
def capture(path: Path, cover: Path | None, port: int, as_json: bool) -> int:
    """Say what a censor's classifiers make of a capture (pcap or pcapng).

    For each connection JA4 and server name; whether the Great Firewall's rule for fully encrypted
    traffic would block it (Wu et al. 2023); with --cover, scores for TLS handshakes inside TLS,
    learnt from the cover alone; and what ndpiReader and tshark call it, where they are installed.

    A capture needs the right to look at the network, and only yours is to be looked at:

    \b
      tcpdump -i any -s 0 -w tunnel.pcap 'tcp port 443 and host bridge.example'
      tcpdump -i any -s 0 -w cover.pcap 'tcp port 443 and host www.example'

    The second while a browser visits the site: better 200 connections than 20, none of the
    tunnel's among them. Connections that are under way when the capture begins are left out.
    Without that right, ptproxy inspect record writes captures that will do.
    """
    from ptproxy.inspect.look import look_at, read_capture

    with could_not_run():
        seen = read_capture(path, port or None)
        known = read_capture(cover, port or None) if cover else None
        finding = look_at(seen, known)
    if as_json:
        print_json(finding.as_dict())
    else:
        _print(finding)
    return DIFFERENT if finding.telling else SAME


def _print(finding: Finding) -> None:
    """For people."""
    _print_flows(finding.capture)
    _print_rule(finding.capture)
    for captured, what in ((finding.capture, "capture"), (finding.cover, "cover")):
        if captured is not None:
            _print_labels(captured, what)
    _print_nested(finding)
    for line in finding.telling:
        click.echo(f"tells: {line}")
    if not finding.telling:
        click.echo(
            "Nothing here tells it from " + ("the cover." if finding.cover else "a browser's traffic.")
        )


def _print_flows(captured: Capture) -> None:
    from ptproxy.inspect.ja4 import ja4

    rows: list[tuple[str, ...]] = [("client", "server", "JA4", "server name", "up", "down", "records")]
    rows += [
        (
            "{}:{}".format(*flow.client),
            "{}:{}".format(*flow.server),
            ja4(flow.hello) if flow.hello else "not TLS" if not flow.tls else "no hello",
            (flow.hello.server_name if flow.hello else None) or "none",
            str(flow.up),
            str(flow.down),
            str(len(flow.records)),
        )
        for flow in captured.flows[:SHOWN]
    ]
    click.echo(table(rows))
    if len(captured.flows) > SHOWN:
        click.echo(f"… and {len(captured.flows) - SHOWN} more")
    click.echo()


def _print_rule(captured: Capture) -> None:
    from ptproxy.inspect.encrypted_rule import EXEMPTIONS, exemptions

    asked = [exemptions(flow.first_payload) for flow in captured.flows if flow.first_payload]
    by = Counter(name for one in asked for name in one)
    click.echo(f"rule for fully encrypted traffic: blocks {len(captured.blocked)} of {len(asked)} flows")
    for name, count in sorted(by.items()):
        click.echo(f"    {name}  {count} exempt: {EXEMPTIONS[name]}")


def _print_labels(captured: Capture, what: str) -> None:
    for one in captured.labels:
        names = ", ".join(f"{name} {count}" for name, count in one.labels.most_common())
        click.echo(f"{one.program}, {what}: {names or 'nothing'}")
        for risk, count in one.risks.most_common():
            click.echo(f"    risk  {risk} {count}")
    for program in captured.missing:
        click.echo(f"{program}, {what}: not installed")


def _print_nested(finding: Finding) -> None:
    if finding.unsaid:
        click.echo(f"nested handshakes: {finding.unsaid}")
    for one in finding.nested:
        click.echo(
            f"nested handshakes by {one.detector}: {one.flagged} of {one.flows} flows flagged, "
            f"AUC {one.auc:.3f} (of cover: {one.false_positives} of {one.held_out} held out; "
            f"learnt from {one.trained})"
        )
