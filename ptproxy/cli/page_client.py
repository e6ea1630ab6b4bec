"""The client behind ``ptproxy page``: its links come from the page, and it runs as a process beside it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import Final

import click

from ptproxy import state
from ptproxy.cli import written
from ptproxy.cli.given import LINK, NoCodeError, PictureError, find_given, reads_pictures, text_of_given
from ptproxy.cli.init_client import read_link_or_invite, write_client
from ptproxy.config.link import Link
from ptproxy.config.quantities import Endpoint
from ptproxy.dht.invite import PREFIX
from ptproxy.errors import ConfigError, PtproxyError, StartError
from ptproxy.log import get_logger
from ptproxy.proxy.control_asking import Asking
from ptproxy.proxy.page.steering import Phase, Snapshot

CONFIG: Final = "client.yaml"
BRIDGES: Final = "bridges.txt"
"""Every link that was given, the one to use first; as ``find.lines`` wants it."""
MOST_LINKS: Final = 64
"""That are kept; the oldest goes."""
END_PATIENCE: Final = 15.0
"""Seconds for a client to end before it is killed: its own ``limits.drain`` is five."""
ASK_PATIENCE: Final = 5.0
"""Seconds for an answer over the control socket."""
LAST_WORDS: Final = 500
"""Characters of a client's last line that are kept."""

log = get_logger(__name__)


class PageClient:
    """A client in a folder: configured, started, asked and ended by its page."""

    takes_links = True

    def __init__(self, folder: Path, listen: str) -> None:
        self.reads_pictures = reads_pictures()
        self._folder = folder
        self._listen = listen
        self._process: asyncio.subprocess.Process | None = None
        self._watching: asyncio.Task[None] | None = None
        self._why = ""
        self._one = asyncio.Lock()

    @property
    def config(self) -> Path:
        """Its configuration, there or not."""
        return self._folder / CONFIG

    async def look(self) -> Snapshot:
        """How it is, be it ours or one that ran already."""
        try:
            told = await asyncio.to_thread(self._ask, "state")
        except (StartError, ConfigError, OSError):
            if self._process is not None:
                return Snapshot(Phase.STARTING)
            return Snapshot(Phase.ENDED if self.config.exists() else Phase.EMPTY, why=self._why)
        return Snapshot(Phase.RUNNING, told)

    async def take(self, given: bytes) -> str:
        """Use the link or invite in a text, or in a picture of its QR code; the key of how it went."""
        try:
            text = find_given(await asyncio.to_thread(text_of_given, given), (*LINK, PREFIX))
        except NoCodeError:
            return "said_no_code"
        except PictureError:
            return "said_no_picture"
        except StartError:
            return "picture_missing"
        if not text.startswith((*LINK, PREFIX)):
            return "said_no_link"
        try:
            link, invite = read_link_or_invite(text)
        except click.UsageError:
            return "said_over" if text.startswith(PREFIX) else "said_damaged"
        async with self._one:
            try:
                await asyncio.to_thread(self._keep, link, invite)
            except KeyError:
                return "said_by_hand"
            except StartError as error:
                log.error("the link is not kept", why=str(error))
                return "said_not_written"
            if self._process is None and await self._runs():
                return "said_later"  # somebody else has started it
            await self._end()
            await self._start()
        return "said_taken"

    async def choose(self, bridge: str) -> str:
        """Have new streams take a bridge, after the next start too; the key of how it went."""
        try:
            await asyncio.to_thread(self._ask, "prefer", bridge)
            await asyncio.to_thread(self._put_first, bridge)
        except (PtproxyError, OSError):
            return "said_not_chosen"
        return "said_chosen"

    async def again(self) -> str:
        """Start it if it does not run."""
        async with self._one:
            if self._process is None and self.config.exists() and not await self._runs():
                await self._start()
        return "said_again"

    async def stop(self) -> None:
        """End it, if it is ours."""
        async with self._one:
            await self._end()

    # ---- files -----------------------------------------------------------------------------------

    def _keep(self, link: Link, invite: str) -> None:
        """Write what the client needs for one more link; KeyError for a configuration of another form."""
        if not self.config.exists():
            write_client(self._folder, link, invite, listen=self._listen, keep=True)
            state.write_file(self._folder / BRIDGES, link.serialize() + "\n")
            return
        values: dict[str, written.Value] = {}
        if invite:
            values["find.invite"] = "client.invite"
        else:
            first = [] if (self._folder / BRIDGES).exists() else [_configured(self.config)]
            links = [link.serialize(), *self._links(), *first]
            values["find.lines"] = BRIDGES
        values |= {"bridge": link.serialize(), "codec": None}
        text = written.fill(_read(self.config), values)
        if invite:
            state.write_file(self._folder / "client.invite", invite + "\n")
        else:
            self._write_links(links)
        state.write_file(self.config, text)

    def _put_first(self, bridge: str) -> None:
        """Remember whom a person chose: links come in the order of their file."""
        links = self._links()
        chosen = [each for each in links if _name(each) == bridge]
        if chosen:
            self._write_links([*chosen, *(each for each in links if each not in chosen)])

    def _links(self) -> list[str]:
        path = self._folder / BRIDGES
        return _read(path).split() if path.exists() else []

    def _write_links(self, links: list[str]) -> None:
        """One link a bridge: the newest, whose token may be the one that is still good."""
        kept = {_name(each): each for each in reversed(links)}
        ordered = [each for each in dict.fromkeys(links) if kept[_name(each)] == each]
        state.write_file(self._folder / BRIDGES, "\n".join(ordered[:MOST_LINKS]) + "\n")

    # ---- the process -----------------------------------------------------------------------------

    def _ask(self, what: str, bridge: str = "") -> dict[str, object]:
        with Asking(self._folder / "state", timeout=ASK_PATIENCE) as running:
            return running.ask(what, bridge)

    async def _runs(self) -> bool:
        return (await self.look()).phase is Phase.RUNNING

    async def _start(self) -> None:
        """Start it; how it goes on is what :meth:`look` says."""
        self._why = ""
        words = sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv) + 1]
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, *words, "client", "-c", str(self.config),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
        except OSError as error:
            self._why = f"the client does not start: {error.strerror}"
            return
        self._watching = asyncio.get_running_loop().create_task(self._watch(self._process))

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        """Pass on what it says; keep its last words."""
        assert process.stderr is not None
        last = ""
        while True:
            try:
                line = await process.stderr.readline()
            except ValueError:  # longer than a line may be
                continue
            if not line:
                break
            text = line.decode("utf-8", "replace")
            with contextlib.suppress(OSError):
                sys.stderr.write(text)
                sys.stderr.flush()
            last = text.strip() or last
        await process.wait()
        if self._process is process:
            self._process = None
            self._why = last[:LAST_WORDS] if process.returncode else ""

    async def _end(self) -> None:
        process, watching = self._process, self._watching
        if process is None or watching is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(END_PATIENCE):
                await asyncio.shield(watching)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await watching
        self._process = self._watching = None


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        raise StartError(f"cannot read {path}") from None


def _configured(path: Path) -> str:
    """The link in a configuration as ``init client`` writes it; KeyError for another form."""
    for line in _read(path).splitlines():
        if line.startswith("bridge: "):
            return line.removeprefix("bridge: ").strip('"')
    raise KeyError("bridge")


def _name(link: str) -> str:
    parsed = Link.parse(link)
    return str(Endpoint(parsed.host, parsed.port))
