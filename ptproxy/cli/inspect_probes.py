"""``ptproxy inspect probes``: what an active prober finds, bridge and web site side by side."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ptproxy.cli.inspect_words import DIFFERENT, JSON_OPTION, SAME, could_not_run, cut, print_json, table
from ptproxy.cli.words import ADDRESS, FILE, HOST
from ptproxy.config.quantities import is_ip, parse_address
from ptproxy.errors import StartError

if TYPE_CHECKING:
    from ptproxy.inspect.observation import Difference
    from ptproxy.inspect.side_by_side import Report
    from ptproxy.inspect.visit import Server

WIDTH: Final = 150
"""Characters of a value that are printed; --json has all of them."""
COMMON: Final = 4
"""Probes that show the same difference from which on it is told once."""
MAX_OPENING: Final = 64 * 1024
"""Bytes of a file that is replayed."""


@click.command()
@click.option("--bridge", type=ADDRESS, required=True, help="The bridge, as a stranger reaches it.")
@click.option(
    "--reference", type=ADDRESS, required=True, help="A web server that the bridge should be taken for."
)
@click.option("--name", type=HOST, help="The server name that both are asked for (default: the bridge's).")
@click.option("--quick", is_flag=True, help="Do not wait for time-outs: a minute instead of three.")
@click.option("--path", metavar="PATH", help="Ask the bridge's secret path, too, as one who has found it.")
@click.option(
    "--replay",
    "opening",
    type=FILE,
    help="A file with what a client said first inside TLS; it is said again, from another address.",
)
@click.option("--only", metavar="TEXT", help="Only probes with this text in their name.")
@click.option("--list", "listed", is_flag=True, help="Print every probe's comparison, the equal ones too.")
@JSON_OPTION
def probes(
    bridge: str,
    reference: str,
    name: str | None,
    quick: bool,
    path: str | None,
    opening: Path | None,
    only: str | None,
    listed: bool,
    as_json: bool,
) -> int:
    """Ask a bridge and a web site the same questions, and list what tells them apart.

    Some 240 probes as censors send them: TLS hellos of every kind, resumption, bytes that are no
    TLS, HTTP in order and out of order, HTTP/2, WebSocket upgrades, silences, replays. Compared
    is every byte but values that vary by nature (Date, ETag, cookies, randoms), record sizes,
    alerts, how and when connections end. What differs is asked twice.

    Only for servers that are your own: each gets some 300 connections, at most 8 at a time beside
    a dozen silent ones. Run it from a machine outside, as a censor would.

    \b
      ptproxy inspect probes --bridge bridge.example:443 --reference www.example:443
    """
    import random

    from ptproxy.inspect.battery import battery
    from ptproxy.inspect.side_by_side import FULL, QUICK, compare_servers
    from ptproxy.tunnel import runtime

    with could_not_run():
        servers = _servers(reference, bridge, name)
        said = _opening(opening) if opening else None
        asked = battery(servers[0].name, random.SystemRandom(), path=path, opening=said)
        asked = [probe for probe in asked if only is None or only in probe.name]
        if not asked:
            raise StartError(f"no probe's name holds {only}")
        told = _progress()
        report = runtime.run(compare_servers(*servers, asked, QUICK if quick else FULL, told), loop="asyncio")
        told(0, 0)
    if as_json:
        asked_for = {"reference": reference, "bridge": bridge, "name": servers[0].name}
        print_json(asked_for | report.as_dict())
    else:
        _print(report, bridge, reference, listed)
    return DIFFERENT if report.differing else SAME


def _servers(reference: str, bridge: str, name: str | None) -> tuple[Server, Server]:
    """Both servers' addresses and the name they are asked for."""
    import socket

    from ptproxy.inspect.visit import Server

    ends = [parse_address(text) for text in (reference, bridge)]
    if name is None:
        name = next((end.host for end in (ends[1], ends[0]) if not is_ip(end.host)), None)
    if name is None:
        raise StartError("both are addresses: --name says which server name to ask for")
    found = []
    for end in ends:
        try:
            address = socket.getaddrinfo(end.host, end.port, type=socket.SOCK_STREAM)[0][4]
        except OSError:
            raise StartError(f"{end.host} is not found") from None
        found.append(Server((str(address[0]), int(address[1])), name))
    return found[0], found[1]


def _opening(path: Path) -> bytes:
    data = path.read_bytes()
    if not 0 < len(data) <= MAX_OPENING:
        raise StartError(f"{path}: an opening has 1 to {MAX_OPENING} bytes")
    return data


def _progress() -> Callable[[int, int], None]:
    """A line on standard error that says how far it is, where a person looks; wiped out by ``(0, 0)``."""

    def tell(done: int, total: int) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{done} of {total} asked " if total else "\r\x1b[K")
            sys.stderr.flush()

    return tell


def _print(report: Report, bridge: str, reference: str, listed: bool) -> None:
    """The report for people."""
    common = _common(report)
    if common:
        click.echo(f"In {COMMON} probes or more:")
    for difference, count in common.items():
        _print_difference(difference, f"  ({count} probes)")
    for one in report.compared:
        own = [difference for difference in one.differences if difference not in common]
        if own or listed:
            click.echo(f"{one.probe.name}{'' if one.differences else ': equal'}")
        for difference in own:
            _print_difference(difference)
    asked, differ = (
        Counter(one.probe.family for one in some) for some in (report.compared, report.differing)
    )
    rows: list[tuple[str, ...]] = [("probes", "asked", "differ")]
    rows += [(family, str(count), str(differ[family])) for family, count in asked.items()]
    rows.append(("all", str(len(report.compared)), str(len(report.differing))))
    click.echo(f"\n{table(rows)}\n")
    if not report.certificates_equal:
        click.echo("The two show different certificates: lengths of handshake records are not compared.")
    unsteady = sorted({one.probe.name for one in report.compared if one.unsteady and not one.differences})
    if unsteady:
        click.echo(f"The reference differs from itself in: {', '.join(unsteady)}")
    if report.differing:
        click.echo(f"{len(report.differing)} probes tell {bridge} from {reference}.")
    else:
        click.echo(f"No probe tells {bridge} from {reference}.")


def _common(report: Report) -> dict[Difference, int]:
    """Differences that many probes show alike, with how many; the most frequent first."""
    shown = Counter(difference for one in report.differing for difference in one.differences)
    return {difference: count for difference, count in shown.most_common() if count >= COMMON}


def _print_difference(difference: Difference, more: str = "") -> None:
    click.echo(f"    {difference.observable}{more}")
    click.echo(f"        reference  {cut(difference.reference, WIDTH)}")
    click.echo(f"        bridge     {cut(difference.bridge, WIDTH)}")
