"""Keeps a client's bridges up to date: asks each source in its order, merges, remembers.

Sources (``find:`` in the client's configuration): ``invite`` (the record of an invite, looked up in the
directory through the bridges that work), ``lines`` (a file of links), ``list`` (a signed list, in a
file or at an HTTPS address, fetched through the tunnel), ``chat`` (invites that contacts passed on and the
person took, in a file that the chat writes: each is looked up as ``invite`` is). What a source said last
stays until it says something else: also "no bridge".
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from ptproxy.config.link import Link
from ptproxy.config.model import FindConfig
from ptproxy.dht.bridge_record import BridgeBucket
from ptproxy.dht.diversity import Diversity
from ptproxy.dht.invite import Invite, InviteExpiredError
from ptproxy.dht.record_secret import RecordType
from ptproxy.errors import DhtError, PtproxyError, StartError, StateError, why
from ptproxy.log import get_logger
from ptproxy.peers.directory_clock import Now, SteadyClock
from ptproxy.peers.find_bridges import KnownBridges
from ptproxy.peers.find_directory import Directory
from ptproxy.peers.find_fetch import fetch
from ptproxy.peers.find_list import MAX_TEXT, BridgeList
from ptproxy.peers.find_network import KnownNetwork
from ptproxy.peers.find_tunnels import name_of
from ptproxy.state import Document, StateFolder
from ptproxy.tunnel.stream import Dialer

DOCUMENT: Final = "bridges"
NETWORK: Final = "directory"
SOON: Final = (2.0, 10.0)
"""Seconds after the first connection until sources are asked: not while somebody's first page loads."""
AGAIN: Final = 60.0
"""Seconds until a source that was not reached is asked again; doubled up to ``find.every``."""
MOST_BRIDGES: Final = 3
"""Bridges over which one lookup goes: as many as a bucket has."""
SHOWN_ID: Final = 10
"""Hexadecimal digits of an invite's id that people see."""
MOST_CHAT: Final = 8
"""Invites of the chat that are looked up: each is one lookup, every six hours."""
LINES: Final = "lines"
LIST: Final = "list"

log = get_logger(__name__)


class BridgeFinder:
    """One client's. ``lines`` at once; :meth:`start` once there is a bridge to look through."""

    def __init__(
        self,
        config: FindConfig,
        configured: Link,
        beside: Callable[[Link], Dialer] | None = None,
        close: Callable[[], Awaitable[None]] | None = None,
        *,
        clock: Now | None = None,
        diversity: Diversity | None = None,
    ) -> None:
        """``beside`` gives dialers to bridges that are known and not in use: lookups go over all of them.

        ``close`` closes those.
        """
        self._config = config
        self._beside = beside
        self._close = close
        self._configured = configured
        self._clock = clock or SteadyClock()
        self._diversity = diversity
        self._known = KnownBridges()
        self._network = KnownNetwork()
        self._documents: tuple[Document, Document] | None = None
        self._invite: Invite | None = None
        self._chat: tuple[Invite, ...] = ()
        self._task: asyncio.Task[None] | None = None
        self._asked = asyncio.Event()

    # ---- what the client asks ----------------------------------------------------------------------

    def open(self, state: StateFolder) -> None:
        """Read what was remembered, and the sources that are files; raises StartError for unusable ones."""
        self._documents = state.document(DOCUMENT), state.document(NETWORK)
        known, network = (document.read() for document in self._documents)
        try:
            self._known = KnownBridges() if known is None else KnownBridges.from_dict(known)
            self._network = KnownNetwork() if network is None else KnownNetwork.from_dict(network)
        except StateError as error:
            log.warning("what was remembered is not used", why=str(error))
        if self._config.network_key is not None:
            if self._network.key != self._config.network_key:
                self._network = KnownNetwork(self._config.network_key)
            self._network.pinned = self._config.network_key
        if self._config.invite is not None:
            try:
                self._invite = Invite.parse(_read(self._config.invite, "find.invite"))
            except DhtError as error:
                raise StartError(f"find.invite: {error}") from None
            self._begin_with(_named(self._invite), self._invite)
        self._read_files()
        self._known.keep(self._names())

    @property
    def lines(self) -> tuple[Link, ...]:
        """Every bridge known, best first: what sources say, then the configured one."""
        links = [known.link for known in self._known.merged()]
        places = {(link.host, link.port) for link in links}
        if not links or (
            self._invite is None and (self._configured.host, self._configured.port) not in places
        ):
            links.append(self._configured)
        return tuple(links)

    def start(self, through: Callable[[], Mapping[str, Dialer]], changed: Callable[[], None]) -> None:
        """Ask the sources from now on, through the bridges that ``through`` gives by name.

        ``changed`` is called when :attr:`lines` are others.
        """
        self._task = asyncio.get_running_loop().create_task(self._run(through, changed))

    def hurry(self) -> None:
        """The bridge in use was lost: ask now."""
        self._asked.set()

    async def stop(self) -> None:
        """Ask no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._close is not None:
            await self._close()

    # ---- inside ------------------------------------------------------------------------------------

    async def _run(self, through: Callable[[], Mapping[str, Dialer]], changed: Callable[[], None]) -> None:
        await self._pause(random.uniform(*SOON))
        again = AGAIN
        while True:
            good = await self._ask(through, changed)
            self._save()
            if good:
                again = AGAIN
                await self._pause(self._config.every * random.uniform(0.75, 1.25))
            else:
                await self._pause(min(again, self._config.every) * random.uniform(0.75, 1.25))
                again = min(2 * again, self._config.every)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._asked.wait()
        self._asked.clear()

    async def _ask(self, through: Callable[[], Mapping[str, Dialer]], changed: Callable[[], None]) -> bool:
        """Ask every source; whether all could be."""
        before = self.lines
        good = True
        for name in self._config.sources:
            try:
                if name == "invite" and self._invite is not None:
                    await self._ask_directory(_named(self._invite), self._invite, through())
                elif name == "chat":
                    self._read_files()
                    for invite in self._chat:
                        await self._ask_directory(_of_chat(invite), invite, through())
                elif name == "list" and self._config.list is not None:
                    await self._ask_list(through())
                elif name == "lines":
                    self._read_files()
            except InviteExpiredError as error:
                log.warning("the invite is not looked up", why=str(error))
            except PtproxyError as error:
                good = False
                log.warning("a source of bridges is not reached", origin=name, why=str(error))
        self._known.keep(self._names())
        if self.lines != before:
            log.info("the bridges are others", bridges=len(self.lines))
            changed()
        return good

    async def _ask_directory(self, source: str, invite: Invite, dialers: Mapping[str, Dialer]) -> None:
        invite.check_time(self._clock())
        directory = Directory(
            self._all(dialers), self._network, os.urandom, diversity=self._diversity, clock=self._clock
        )
        try:
            found = await directory.read(invite.secret, RecordType.BRIDGE_BUCKET, invite.issuer)
        finally:
            await directory.close()
        if found is None:
            return  # withheld, or not published: what is known stays
        bucket = BridgeBucket.parse(found.content)
        if not bucket.bridges:
            log.warning("the invite has been withdrawn: ask whoever gave it for a new one", origin=source)
        if self._known.learn(source, bucket.bridges, self._clock(), found.order):
            log.info("the invite's bridges have changed", origin=source, bridges=len(bucket.bridges))

    async def _ask_list(self, dialers: Mapping[str, Dialer]) -> None:
        where, key = self._config.list, self._config.list_key
        if not isinstance(where, str) or key is None:
            self._read_files()
            return
        for dialer in dialers.values():
            text = await fetch(where, dialer, MAX_TEXT)
            self._take_list(text, key)
            return

    def _all(self, in_use: Mapping[str, Dialer]) -> dict[str, Dialer]:
        """The bridge in use, and others that are known."""
        dialers = dict(in_use)
        if self._beside is None:
            return dialers
        for link in self.lines:
            if len(dialers) < MOST_BRIDGES and name_of(link) not in dialers:
                dialers[name_of(link)] = self._beside(link)
        return dialers

    def _read_files(self) -> None:
        """The sources that are files; one that cannot be used leaves what it said before."""
        config = self._config
        try:
            if config.lines is not None:
                links = [Link.parse(line) for line in _links(_read(config.lines, "find.lines"))]
                self._known.learn(LINES, links, self._clock())
            if isinstance(config.list, Path) and config.list_key is not None:
                self._take_list(_read(config.list, "find.list"), config.list_key)
        except (ValueError, StartError, DhtError) as error:
            log.warning("a file of bridges is not used", why=str(error))
        if config.chat is not None:
            self._chat = tuple(_passed_on(config.chat, self._clock()))[-MOST_CHAT:]
            for invite in self._chat:
                self._begin_with(_of_chat(invite), invite)

    def _begin_with(self, source: str, invite: Invite) -> None:
        """What an invite itself says, until the directory says more."""
        if not self._says(source):
            self._known.learn(source, invite.bridges, self._clock())

    def _take_list(self, text: str, key: bytes) -> None:
        found = BridgeList.parse(text, key, self._clock())
        self._known.learn(LIST, found.bridges, self._clock(), (0, found.sequence))

    def _says(self, name: str) -> bool:
        return name in self._known

    def _names(self) -> list[str]:
        """Of all sources, in the client's order."""
        names = {
            "invite": [] if self._invite is None else [_named(self._invite)],
            "chat": [_of_chat(invite) for invite in self._chat],
            "lines": [LINES],
            "list": [LIST],
        }
        return [each for name in self._config.sources for each in names[name]]

    def _save(self) -> None:
        if self._documents is None:
            return
        try:
            self._documents[0].write(self._known.to_dict())
            self._documents[1].write(self._network.to_dict())
        except StartError as error:
            log.warning("what was found is not kept", why=str(error))


def _named(invite: Invite) -> str:
    return f"invite {invite.id.hex()[:SHOWN_ID]}"


def _of_chat(invite: Invite) -> str:
    """The chat shows the same digits beside whoever passed it on."""
    return f"chat {invite.id.hex()[:SHOWN_ID]}"


def _passed_on(path: Path, now: float) -> list[Invite]:
    """The invites that the chat has written, but for those that are over; none before it has written."""
    if not path.exists():
        return []
    found = []
    try:
        for line in _links(_read(path, "find.chat")):
            invite = Invite.parse(line)
            if now < invite.expires:
                found.append(invite)
    except (StartError, DhtError) as error:
        log.warning("what was passed on in the chat is not used", why=str(error))
    return found


def _links(text: str) -> list[str]:
    return [
        line for line in (each.strip() for each in text.splitlines()) if line and not line.startswith("#")
    ]


def _read(path: Path, field: str) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(MAX_TEXT)
    except OSError as error:
        raise StartError(f"{field}: cannot read {path}: {why(error)}") from None
