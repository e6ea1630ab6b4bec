"""The browser of one client: started when a carrier is wanted, replaced when it fails, ended with the client.

A carrier, in order: a new guest (:mod:`~ptproxy.tunnel.chromium.guest`) visits
the site's page, the certificate is looked at, the clock compared; the guest's
tab becomes the joining page, that opens a local socket, and what the socket
carries is a codec of :data:`JOINED`.

Where a page or the browser dies its local sockets die, the carriers with
them, and the session binds its streams anew: the next carrier starts what is
missing. Where the browser was updated the next carrier starts the new one.

The certificate is that of the visit. Chromium tells of no WebSocket which
certificate it saw, and of later connections only afterwards, so a bridge line
for a browser must be sealed: then whoever holds some valid certificate and
lets the visit pass still reads nothing.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ptproxy.codec.interface import CodecSettings
from ptproxy.codec.join import page_origin
from ptproxy.codec.join_http import JOINED_HTTP
from ptproxy.codec.join_websocket import JOINED_WEBSOCKET
from ptproxy.config.link import Link as BridgeLine
from ptproxy.errors import AuthenticationError, DialError, PtproxyError, Reason, StartError
from ptproxy.log import get_logger
from ptproxy.state import make_folder, remove_folder, write_file
from ptproxy.tunnel.carrier import Connection
from ptproxy.tunnel.chromium.devtools import BrowserError, PageCrashedError
from ptproxy.tunnel.chromium.program import Program, runs_as_root
from ptproxy.tunnel.chromium.run import BrowserVisit, Run, Shown, check_pin
from ptproxy.tunnel.connect import bridge_addresses
from ptproxy.tunnel.tls import ClientTrust

MAX_JOINS: Final = 16
"""Carriers at once: each is a page and a process of the browser's."""
TRIES: Final = 3
"""Pages and browsers that may fail under one new carrier."""
STARTS: Final = 4
"""Times that a browser is started until it stays. One that was left over holds the profile for 2 s; before
the last time the profile is thrown away: an older version cannot always read a newer one's."""
START_PAUSE: Final = 0.7
"""Seconds between them, times their number."""

PINNED: Final = "pinned"
"""The file that keeps the pinned leaf's key: the pin in hexadecimal, the key as the browser wants it."""

JOINED: Final[Mapping[str, Any]] = {"websocket": JOINED_WEBSOCKET, "http": JOINED_HTTP}
"""The codecs that a browser speaks, by name: their client ends."""

log = get_logger(__name__)


class BrowserFull(PtproxyError):  # noqa: N818  (no fault: what it carries already goes on)
    """One browser carries no more carriers of this kind."""


class Chromium:
    """Carries one client's connections to one bridge."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        line: BridgeLine,
        trust: ClientTrust,
        folder: Path,
        program: Path | None = None,
        switches: Sequence[str] = (),
    ) -> None:
        """``folder`` is where the browser's profile lives; ``switches`` are added to its command line.

        Raises :class:`~ptproxy.errors.StartError` for a bridge line that a browser cannot serve.
        """
        check_line(line, trust)
        self._loop = loop
        self._line = line
        self._trust = trust
        self._folder = folder
        self._configured = program
        self._switches = tuple(switches)
        self._origin = page_origin(CodecSettings.of(line.server_name, line.port, line.path))
        self._program: Program | None = None
        self._run: Run | None = None
        self._address = ""  # that the running browser was told
        self._unreached = ""  # where the site was not
        self._turn = asyncio.Lock()
        self._joins: list[Connection] = []

    @property
    def process_id(self) -> int | None:
        """The running browser's, None without one."""
        return self._run.process.pid if self._run is not None else None

    async def start(self) -> None:
        """Find the browser; it is started with the first carrier. Raises StartError without one."""
        self._program = await self._loop.run_in_executor(None, Program.find, self._configured)
        if runs_as_root():
            log.warning("as root the browser runs without its own sandbox; run the client as a user")

    async def stop(self) -> None:
        """End the browser, and every carrier with it."""
        async with self._turn:
            await self._end()

    async def rest(self) -> None:
        """End the browser while nothing is carried; the next carrier starts it again."""
        if not any(not known.ended for known in self._joins):
            async with self._turn:
                await self._end()

    def codecs(self, names: Sequence[str]) -> tuple[str, ...]:
        """Those of ``names`` that a browser speaks; StartError where it speaks none."""
        spoken = tuple(name for name in names if name in JOINED)
        if not spoken:
            raise StartError(f"codec: a browser speaks {' and '.join(JOINED)}, not {', '.join(names)}")
        return spoken

    def codec(self, name: str) -> Any:
        """What makes the client's end of a codec, as an entry of the codec table does."""
        return JOINED[self.codecs((name,))[0]]

    async def visit(self) -> BrowserVisit:
        """A guest that visits the site and waits; raises as :meth:`connect`."""
        async with self._turn:
            run = await self._running()
        try:
            return await run.visit(self._trust.pin, self._any_page())
        except PageCrashedError:
            raise
        except BrowserError:
            await self._give_up(run)
            raise
        except DialError:
            if not self._carries():  # another address takes another browser
                self._unreached = self._address
            raise
        except AuthenticationError:
            if self._trust.pin is not None and not run.proven:  # perhaps what was kept of the leaf is damaged
                write_file(self._folder / PINNED, "")
                await self._give_up(run)
            raise

    async def connect(self, connection: Connection, visited: BrowserVisit | None = None) -> Shown:
        """Visit the site, or go on with ``visited``, and join: ``connection`` is the local socket's then.

        Raises :class:`~ptproxy.errors.DialError` where site or browser cannot
        be had, :class:`~ptproxy.errors.AuthenticationError` where the site is
        not the one that the bridge line means, StartError without a browser,
        :class:`BrowserFull` where it has enough to carry. Whatever it raises,
        ``visited`` is gone.
        """
        try:
            self._make_room_for(connection)
            for left in reversed(range(TRIES)):
                try:
                    if visited is not None and not visited.usable:
                        visited.drop()
                        visited = None
                    if visited is None:
                        visited = await self.visit()
                    return await self._join(visited, connection)
                except BrowserError as error:
                    if not left:
                        raise
                    log.warning("the browser failed; once more", error=str(error))
                    visited = None
            raise AssertionError
        except BaseException:
            if visited is not None:
                visited.drop()  # nobody else knows of it
            self._joins = [known for known in self._joins if known is not connection]
            raise

    # ---- within ------------------------------------------------------------------------------------

    def _make_room_for(self, connection: Connection) -> None:
        self._joins = [known for known in self._joins if not known.ended]
        if len(self._joins) >= MAX_JOINS:
            raise BrowserFull(f"a browser carries at most {MAX_JOINS} connections")
        self._joins.append(connection)

    def _carries(self) -> bool:
        """Whether anything is carried: it shows that browser and address do, and would be lost with them."""
        return any(known.transport is not None and not known.ended for known in self._joins)

    async def _give_up(self, run: Run) -> None:
        """End a run where more than one guest of it failed, unless another one has taken its place."""
        if self._carries() and await run.answers():
            return
        async with self._turn:
            if self._run is run:
                await self._end()

    async def _join(self, visited: BrowserVisit, connection: Connection) -> Shown:
        try:
            await visited.run.join(visited.guest, connection)
        except PageCrashedError:
            raise
        except BrowserError:
            await self._give_up(visited.run)
            raise
        if connection.ended:
            raise DialError(Reason.TUNNEL_DOWN, "the browser left at once")
        return visited.shown

    async def _running(self) -> Run:
        """The browser, started where there is none that will do."""
        run, program = self._run, self._program
        address = await self._locate()
        if run is not None and run.process.running and program is not None and address == self._address:
            if not program.changed():
                return run
            log.info("the browser was updated; starting the new one")
        await self._end()
        if program is None or program.changed():
            await self.start()
        self._address = address
        spki = self._pinned_key()
        self._run = run = await self._start(spki)
        if self._trust.pin is not None and not spki:
            try:
                spki = await self._look(run, self._trust.pin)
            finally:
                await self._end()
            self._run = run = await self._start(spki)
        return run

    async def _locate(self) -> str:
        """The bridge's address: looked up at first, and again, for the one after it, where it was in vain."""
        if self._address and not self._unreached:
            return self._address
        found = await bridge_addresses(self._loop, self._line.host, self._line.port)
        following = found.index(self._unreached) + 1 if self._unreached in found else 0
        self._unreached = ""
        return found[following % len(found)]

    async def _start(self, spki: str) -> Run:
        """Start the browser, again where one before it still holds the profile."""
        program, profile = self._program, self._folder / "profile"
        assert program is not None
        command = program.command(profile, self._line.server_name, self._address, spki)
        command += self._switches
        for attempt in range(1, STARTS + 1):
            make_folder(profile)
            try:
                run = await Run.start(self._loop, command, self._origin)
            except BrowserError as error:
                if attempt == STARTS:
                    raise
                log.debug("the browser did not start", error=str(error))
                await asyncio.sleep(attempt * START_PAUSE)
                if attempt == STARTS - 1:
                    await self._loop.run_in_executor(None, remove_folder, profile)
                continue
            log.info("browser started", browser=program.name, version=program.major)
            return run
        raise AssertionError

    async def _look(self, run: Run, pin: bytes) -> str:
        """The pinned leaf's key, as the browser is told to trust it; seen once, kept for later starts.

        A browser that trusts anybody visits the site's page, as any visitor
        might who shrugs at the warning, and carries nothing. Only where the
        leaf it was shown is the pinned one is its key trusted by the next.
        """
        visit = await run.look(self._any_page())
        check_pin(visit.leaf, pin)
        key = x509.load_der_x509_certificate(visit.leaf).public_key()
        der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        spki = base64.b64encode(hashlib.sha256(der).digest()).decode("ascii")
        write_file(self._folder / PINNED, f"{pin.hex()} {spki}\n")
        return spki

    def _any_page(self) -> str:
        """One of the site's pages, for a visit."""
        return secrets.choice(self._line.pages)

    def _pinned_key(self) -> str:
        """The key of the pinned leaf if it was seen before, else ""."""
        if self._trust.pin is None:
            return ""
        try:
            pin, _, spki = (self._folder / PINNED).read_text("ascii").strip().partition(" ")
            return spki if pin == self._trust.pin.hex() and len(base64.b64decode(spki)) == 32 else ""
        except (OSError, ValueError):
            return ""

    async def _end(self) -> None:
        run, self._run = self._run, None
        if run is not None:
            await run.end()


def check_line(line: BridgeLine, trust: ClientTrust) -> None:
    """Whether a browser can carry this; StartError says why not."""
    if not line.seal:
        raise StartError(
            "tls.fingerprint: browser needs a sealed bridge line (seal=1; seal: true at the bridge): "
            "a browser does not tell which certificate its connections saw"
        )
    if line.path == "/" or ";" in line.path:
        raise StartError(
            "tls.fingerprint: browser needs a path of the bridge's own (path: /assets/live): cookies for "
            f"{line.path} would go out with the site's pages as well"
        )
    if trust.authorities is not None or trust.certificate is not None:
        raise StartError(
            "tls: a browser trusts a pin or the system's authorities, and shows no certificate of its own: "
            "leave out tls.trust: FILE and tls.client_certificate, or use another fingerprint"
        )
