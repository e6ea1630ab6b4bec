"""``ptproxy inspect hello``: what a client's connections look like before anything is encrypted."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import random
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ptproxy.cli.inspect_words import DIFFERENT, JSON_OPTION, SAME, could_not_run, print_json
from ptproxy.cli.words import FILE, HOST, LISTEN
from ptproxy.config.quantities import Endpoint, parse_listen
from ptproxy.errors import StartError, why
from ptproxy.tunnel.certificate import self_signed

if TYPE_CHECKING:
    from ptproxy.inspect.greeting import HeardHello
    from ptproxy.inspect.recorded import RecordedHello

NAME: Final = "www.example.com"
"""Whom a client greets where no configuration says."""
MEANT: Final = {"chrome": "chromium", "firefox": "firefox"}
"""The recorded browser that a fingerprint is to be taken for."""


@click.command()
@click.option("-c", "--config", "path", type=FILE, help="A client's configuration: its fingerprint and name.")
@click.option("--fingerprint", help="chrome, firefox or python.")
@click.option("--name", type=HOST, help=f"The server name to greet (default: the bridge's, or {NAME}).")
@click.option(
    "--listen", type=LISTEN, help="Wait here for other programs' hellos, as a browser's, until Ctrl-C."
)
@click.option("--count", type=click.IntRange(1), help="With --listen: stop after so many.")
@JSON_OPTION
def hello(
    path: Path | None,
    fingerprint: str | None,
    name: str | None,
    listen: str | None,
    count: int | None,
    as_json: bool,
) -> int:
    """Show the ClientHellos that a client sends, and which browser's they are.

    A TLS server on this machine is greeted by the client's own connecting code: on a first visit,
    for another page, and for a WebSocket. Each hello is told by its JA4 and compared with recorded
    ones of real browsers; the recordings are data of this version, with their date.

    \b
      ptproxy inspect hello -c client.yaml
      ptproxy inspect hello --listen 127.0.0.1:8443     then open https://127.0.0.1:8443/ in a browser
    """
    if (path is not None) + (fingerprint is not None) + (listen is not None) != 1:
        raise click.UsageError("one of --config, --fingerprint and --listen is needed")
    with could_not_run():
        if listen is not None:
            return asyncio.run(_listening(listen, name or NAME, count, as_json))
        if path is not None:
            from ptproxy.config.load import load_client

            config = load_client(path)
            fingerprint, name = config.tls.fingerprint, name or config.bridge.server_name
        return _own(str(fingerprint), name or NAME, as_json)


def _own(fingerprint: str, name: str, as_json: bool) -> int:
    """The client's own hellos."""
    from ptproxy.inspect.own_hello import own_hellos
    from ptproxy.inspect.recorded import recorded_hellos

    certificate, key = _identity(name)
    leaf = hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.decode("ascii"))).digest()
    known = recorded_hellos()
    said = asyncio.run(own_hellos(fingerprint, name, certificate, key, leaf))
    meant = MEANT.get(fingerprint)
    told = [
        _told(one.heard, one.use, known, meant) | {"greeting": one.greeting, "after": one.after}
        for one in said
    ]
    if as_json:
        print_json({"fingerprint": fingerprint, "name": name, "hellos": told})
    else:
        for entry in told:
            _print(entry)
    return DIFFERENT if any(entry["differences"] for entry in told) else SAME


async def _listening(listen: str, name: str, count: int | None, as_json: bool) -> int:
    """Other programs' hellos, as they come."""
    from ptproxy.inspect.greeting import GreetingServer
    from ptproxy.inspect.recorded import recorded_hellos

    where, known, shown, different = parse_listen(listen), recorded_hellos(), 0, False
    try:
        async with GreetingServer(*_identity(name), where.literal, where.port) as server:
            click.echo(f"listening on https://{Endpoint(*server.address)}/", err=as_json)
            while count is None or shown < count:
                while shown == len(server.heard):
                    server.news.clear()
                    await server.news.wait()
                heard = server.heard[shown]
                told = _told(heard, "page" if heard.use == "none" else heard.use, known, None)
                different = different or bool(told["differences"])
                print_json(told) if as_json else _print(told)
                shown += 1
    except asyncio.CancelledError:  # Ctrl-C
        pass
    except OSError as error:
        raise StartError(f"cannot listen on {listen}: {why(error)}") from None
    return DIFFERENT if different else SAME


def _identity(name: str) -> tuple[bytes, bytes]:
    """A throw-away certificate and its key."""
    return self_signed(name, datetime.datetime.now(datetime.UTC), random.SystemRandom())


def _told(heard: HeardHello, use: str, known: tuple[RecordedHello, ...], meant: str | None) -> dict[str, Any]:
    """A hello and what it is like; ``meant`` is the browser it is to be taken for."""
    from ptproxy.inspect.ja4 import ja3n, ja4
    from ptproxy.inspect.recorded import Traits, most_alike

    hello = heard.hello
    best = most_alike(hello, use, known, (meant,) if meant else ())
    equal = [str(one) for one in known if not Traits.of(hello).differences(one.traits)]
    return {
        "use": use,
        "resumed": heard.resumed,
        "ja4": ja4(hello),
        "ja3n": ja3n(hello),
        "bytes": heard.size,
        "alpn": [protocol.decode("latin-1") for protocol in hello.alpn],
        "extensions": [kind for kind, _ in hello.extensions],
        "equal_to": equal,
        "most_like": str(best.recorded),
        "recorded": best.recorded.recorded,
        "differences": list(best.differences),
    }


def _print(told: dict[str, Any]) -> None:
    """For people."""
    what = told.get("greeting", told["use"])
    after = f" after a {told['after']}" if told.get("after") else ""
    click.echo(f"{what}{after} ({'resumed' if told['resumed'] else 'new'})")
    click.echo(
        f"    JA4     {told['ja4']}, {told['bytes']} bytes, offers {', '.join(told['alpn']) or 'no ALPN'}"
    )
    if told["equal_to"]:
        click.echo(f"    equals  {'; '.join(told['equal_to'])}")
    if told["differences"]:
        click.echo(f"    unlike  {told['most_like']} (recorded {told['recorded']}):")
        for line in told["differences"]:
            click.echo(f"            {line}")
