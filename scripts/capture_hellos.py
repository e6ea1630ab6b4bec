"""Record the ClientHellos of installed browsers: makes ptproxy/inspect/browsers.yaml.

    scripts/capture_hellos.py > ptproxy/inspect/browsers.yaml

Each browser loads a page twice from a server on loopback that keeps what it is
greeted with (:mod:`ptproxy.inspect.greeting`): the second time the page's
WebSocket goes to another name, so that it has no ticket. Once the site speaks
HTTP/1.1 only, once HTTP/2, too. Other names are refused. Needs what
``scripts/capture.py`` needs; three minutes.
"""

from __future__ import annotations

import asyncio
import datetime
import os
import platform
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import capture
import yaml

from ptproxy.inspect.greeting import HTTP1, HTTP2, GreetingServer, HeardHello
from ptproxy.inspect.recorded import RecordedHello

OTHER = "other.example"
PAGES = ("/", f"/?socket={OTHER}")
SECONDS = 13.0
"""A visit's length; Firefox on a loaded machine needs most of it."""
BROWSERS = {
    "chromium": ("chromium", "google-chrome"),
    "chromium-headless-shell": ("chromium-headless-shell",),
    "firefox": ("firefox-esr", "firefox"),
}


def command(
    kind: str, program: str, folder: Path, port: int, page: str, authority: Path, spki: str
) -> list[str]:
    """A browser's command line."""
    if kind == "firefox":
        names = f"{capture.HOST},{OTHER}"
        capture.FIREFOX_PREFERENCES["network.dns.localDomains"] = names
        page = page.replace(OTHER, f"{OTHER}:{port}")
        return capture.firefox(program, folder / kind, port, authority, page)
    rules = f"--host-resolver-rules=MAP {OTHER} 127.0.0.1:{port},MAP {capture.HOST}"
    line = capture.chromium(program, folder / kind, port, spki, page, True)
    return [word.replace(f"--host-resolver-rules=MAP {capture.HOST}", rules) for word in line]


async def heard(kind: str, program: str, alpn: tuple[str, ...]) -> list[HeardHello]:
    """What a browser said in two visits to a site of these protocols."""
    with tempfile.TemporaryDirectory(prefix="capture-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        chain, key, authority, spki = capture.certificates(folder, OTHER)
        async with GreetingServer(chain.read_bytes(), key.read_bytes(), alpn=alpn) as server:
            for page in PAGES:
                line = command(kind, program, folder, server.address[1], page, authority, spki)
                quiet = asyncio.subprocess.DEVNULL
                process = await asyncio.create_subprocess_exec(
                    *line, stdout=quiet, stderr=quiet, start_new_session=True
                )
                await asyncio.sleep(SECONDS)
                os.killpg(process.pid, signal.SIGTERM)
                await process.wait()
                await asyncio.sleep(1)
            return server.heard


def recorded(kind: str, program: str, seen: Iterable[HeardHello]) -> list[RecordedHello]:
    """One entry for each kind of hello; those that bring no request are preconnects of a page's."""
    version, today = capture.version_of(program), datetime.datetime.now(datetime.UTC).date().isoformat()
    where = f"{platform.system()} {platform.machine()}"
    found = {}
    for greeting in seen:
        use = "page" if greeting.use == "none" else greeting.use
        one = RecordedHello.of(greeting.hello, kind, version, today, where, use)
        found[one.use, one.resumed, one.ja4] = one
    return [found[key] for key in sorted(found)]


def main() -> int:
    entries = []
    for kind, names in BROWSERS.items():
        program = next(filter(None, map(shutil.which, names)), None)
        if program is None:
            print(kind, "is not installed", file=sys.stderr)
            continue
        seen = [one for alpn in (HTTP1, HTTP2) for one in asyncio.run(heard(kind, program, alpn))]
        entries += recorded(kind, program, seen)
        print(kind, [str(one) for one in entries if one.browser == kind], file=sys.stderr)
    print("# What browsers greet with; made by scripts/capture_hellos.py, not edited.")
    yaml.safe_dump(
        [one.serialize() for one in entries], sys.stdout, sort_keys=False, width=110, default_flow_style=None
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
