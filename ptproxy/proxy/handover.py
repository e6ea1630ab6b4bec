"""A bridge's process makes room for a new one: the conversation of the two, and who is in charge when.

    former (Successor)                           new (Former)
    starts the new one, goes on as before
                                       ◀──────── READY_FOR: its configuration and keys are read
    stands still (tunnel.handover)
    SOCKETS, RECORD, END ────────▶
                                                 makes sessions, starts services, listens but does not accept
                                       ◀──────── TAKEN
    GO ──────────────────────────▶
                                       ◀──────── MINE
                                                 is in charge: accepts, puts streams on their sockets
    lets go, writes what targets did not take yet (UNSENT_GONE), serves strangers out, ends

Until it hears MINE the former is in charge: whatever goes wrong or takes too long, it kills the
new one, waits for its end and goes on, with every stream: one that ended before it said MINE has
touched nothing. From then on the new one is. A new one that has said TAKEN and finds the former
gone is in charge as well: nobody else has the streams.

The record holds the streams' bytes. It is in the two processes' memory and in their socket
pair, which nobody else can open; it is never on disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from ptproxy.auth.replay import ReplayFilter
from ptproxy.errors import ConfigError, StartError, StateError, why
from ptproxy.log import get_logger
from ptproxy.tunnel.handover import Following
from ptproxy.tunnel.handover_channel import CHUNK, MOST_BYTES, MOST_SOCKETS, Channel, Word, close_all
from ptproxy.tunnel.handover_record import VERSION, BridgeRecord

VARIABLE: Final = "PTPROXY_HANDOVER"
"""The environment's name for the descriptor of the socket pair."""
DESCRIPTOR: Final = 3
"""... and its number in the new process."""
START_TIMEOUT: Final = 60.0
"""Seconds until a new process has read its configuration: a slow machine imports for many."""
LOOK_EVERY: Final = 0.02
"""Seconds between looks whether it has ended."""
GRACE: Final = 3.0
"""Seconds that one which has given up gets to say why, before it is killed."""
TAKE_TIMEOUT: Final = 30.0
"""Seconds for each step while the bridge stands still; clients wait for a bridge twice as long."""

log = get_logger(__name__)


class Successor:
    """The new process, as the former sees it."""

    def __init__(self, command: Sequence[str]) -> None:
        """``command`` starts it; it finds the socket pair by :data:`VARIABLE`."""
        self._command = list(command)
        self._channel: Channel | None = None
        self.pid = 0
        """Its process id, once it was started."""
        self._ended = False  # it has closed its end, and will say why on standard error

    async def start(self) -> None:
        """Start it, and wait until it is ready to take over; raises StartError."""
        self._channel, theirs = Channel.pair()
        environment = {**os.environ, VARIABLE: str(DESCRIPTOR)}
        # Not subprocess: what lives on after this process is none of it.
        files = [
            (os.POSIX_SPAWN_DUP2, theirs.fileno(), DESCRIPTOR),
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        ]
        try:
            self.pid = os.posix_spawn(  # noqa: ASYNC221  (nothing waits for it)
                self._command[0], self._command, environment, file_actions=files
            )
        except OSError as error:
            raise StartError(f"the new process cannot be started: {why(error)}") from None
        finally:
            theirs.close()
        body = await self._hear(Word.READY_FOR, START_TIMEOUT)
        if body != VERSION.to_bytes(2, "big"):
            raise StartError("the new process hands over in another way: stop and start instead")

    async def give(self, descriptors: Sequence[int], data: bytes) -> None:
        """Hand over, and wait until it stands ready; raises OSError, StateError or StartError."""
        if len(data) > MOST_BYTES:
            raise StateError("there is too much to hand over")
        await asyncio.to_thread(self._give, descriptors, data)
        await self._hear(Word.TAKEN, TAKE_TIMEOUT)

    async def go(self) -> None:
        """It is in charge once this has returned; raises OSError or StartError where it cannot be."""
        assert self._channel is not None
        self._channel.say(Word.GO, within=TAKE_TIMEOUT)
        await self._hear(Word.MINE, TAKE_TIMEOUT)

    def gone(self, place: int) -> None:
        """The target at ``place`` has taken what was to be written to it."""
        assert self._channel is not None
        try:
            self._channel.say(Word.UNSENT_GONE, place.to_bytes(4, "big"), within=TAKE_TIMEOUT)
        except OSError:
            log.warning("the new process is gone")

    def interrupt(self) -> None:
        """Have it end, before it is in charge: whoever waits for it hears so."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    async def kill(self) -> None:
        """End it, if it was started, and wait until it has ended: after that nobody else has anything."""
        if self.pid:
            await asyncio.to_thread(_end, self.pid, GRACE if self._ended else 0.0)
            self.pid = 0
        self.close()

    def close(self) -> None:
        """Say no more to it."""
        if self._channel is not None:
            self._channel.close()

    def _give(self, descriptors: Sequence[int], data: bytes) -> None:
        assert self._channel is not None
        say = self._channel.say
        for first in range(0, len(descriptors), MOST_SOCKETS):
            say(Word.SOCKETS, b"", list(descriptors[first : first + MOST_SOCKETS]), within=TAKE_TIMEOUT)
        for start in range(0, len(data), CHUNK):
            say(Word.RECORD, data[start : start + CHUNK], within=TAKE_TIMEOUT)
        say(Word.END, within=TAKE_TIMEOUT)

    async def _hear(self, word: Word, within: float) -> bytes:
        assert self._channel is not None
        try:
            heard, body, descriptors = await asyncio.to_thread(self._channel.hear, within)
        except TimeoutError:
            raise StartError("the new process does not get ready") from None
        except (OSError, EOFError):
            self._ended = True
            raise StartError("the new process has ended; what it said is on its standard error") from None
        close_all(descriptors)
        if heard is not word:
            raise StartError("the new process talks nonsense")
        return body


@dataclass(slots=True)
class Inheritance:
    """What the former process has handed over; whatever is not taken out is closed by :meth:`close`."""

    lock: int
    listeners: dict[str, socket.socket]
    record: BridgeRecord = field(repr=False)
    targets: list[int]
    """Descriptors, by the places in the record."""

    @classmethod
    def parse(cls, descriptors: list[int], data: bytes) -> Self:
        """What has come; raises :class:`~ptproxy.errors.StateError`, having closed everything."""
        listeners: dict[str, socket.socket] = {}
        left = list(descriptors)
        try:
            record = BridgeRecord.parse(data, max(0, len(left) - 1))
            if not left:
                raise StateError("a handover without the lock of the state folder")
            for name in record.listeners:
                listeners[name] = socket.socket(fileno=left[1])
                del left[1]
            return cls(left.pop(0), listeners, record, left)
        except BaseException as error:
            close_all(left)
            for sock in listeners.values():
                sock.close()
            if isinstance(error, OSError):
                raise StateError("a handover with descriptors that are no sockets") from None
            raise

    def replay(self) -> ReplayFilter:
        """The openings that the former process has seen; raises StartError."""
        try:
            return ReplayFilter.restore(self.record.replay)
        except ConfigError as error:
            raise StartError(f"handover: {error.problems[0]}") from None

    def take_lock(self) -> int:
        """The descriptor of the state folder's lock, the caller's from now on."""
        lock, self.lock = self.lock, -1
        return lock

    def take_targets(self) -> list[int]:
        """The targets' descriptors, the caller's from now on."""
        targets, self.targets = self.targets, []
        return targets

    def close(self) -> None:
        """Close what nobody has taken."""
        for sock in self.listeners.values():
            sock.close()
        self.listeners.clear()
        close_all([*([self.lock] if self.lock >= 0 else []), *self.targets])
        self.lock, self.targets = -1, []


class Former:
    """The former process, as the new one sees it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._made: Channel | None = None

    @classmethod
    def of(cls, environment: MutableMapping[str, str]) -> Former | None:
        """Whoever started this process to be replaced by it, or None; raises StartError for nonsense.

        The environment is left without the word, which means nothing to anybody else.
        """
        text = environment.pop(VARIABLE, None)
        if text is None:
            return None
        if not text.isascii() or not text.isdigit() or len(text) > 9:
            raise StartError(f"{VARIABLE}: only for a bridge that starts its successor")
        return cls(int(text))

    @property
    def _channel(self) -> Channel:
        """The socket pair's end; raises StartError for a descriptor that is none."""
        if self._made is None:
            self._made = Channel.inherited(self._descriptor)
        return self._made

    async def ask(self) -> Inheritance:
        """Say that all is read, and get what there is; raises StartError where that does not come whole."""
        try:
            descriptors, data = await asyncio.to_thread(self._ask)
            return Inheritance.parse(descriptors, data)
        except (OSError, EOFError, StateError) as error:
            raise StartError(f"handover: {error or 'the former process has ended'}") from None

    async def wait_for_go(self) -> None:
        """Say that all is taken, and wait to be in charge; raises StartError where that is not to be."""
        try:
            await asyncio.to_thread(self._wait_for_go)
        except OSError as error:
            raise StartError(f"handover: {error}") from None

    def follow(self, loop: asyncio.AbstractEventLoop, following: Following) -> None:
        """Hear from now on what the former process still had to write for targets."""

        def hear() -> None:
            places = self._channel.places_gone()
            for place in places or ():
                following.unsent_gone(place)
            if places is None:
                self.close(loop)
                following.former_ended()

        loop.add_reader(self._channel.fileno(), hear)

    def close(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hear no more; may be called twice."""
        if self._made is not None and self._made.fileno() >= 0:
            loop.remove_reader(self._made.fileno())
            self._made.close()

    def _ask(self) -> tuple[list[int], bytes]:
        self._channel.say(Word.READY_FOR, VERSION.to_bytes(2, "big"), within=TAKE_TIMEOUT)
        descriptors: list[int] = []
        pieces: list[bytes] = []
        size = 0
        try:
            while True:
                word, body, more = self._channel.hear(TAKE_TIMEOUT)
                descriptors += more
                pieces.append(body)
                size += len(body)
                if word is Word.END:
                    return descriptors, b"".join(pieces)
                if word not in (Word.SOCKETS, Word.RECORD) or size > MOST_BYTES:
                    raise OSError("nonsense from the former process")
        except BaseException:
            close_all(descriptors)
            raise

    def _wait_for_go(self) -> None:
        try:
            self._channel.say(Word.TAKEN, within=TAKE_TIMEOUT)
            word, _, _ = self._channel.hear(2 * TAKE_TIMEOUT)
        except (EOFError, ConnectionError):
            log.warning("the former process has ended; going on without it")
            return
        if word is not Word.GO:
            raise OSError("nonsense from the former process")
        try:
            self._channel.say(Word.MINE, within=TAKE_TIMEOUT)
        except ConnectionError:
            log.warning("the former process has ended; going on without it")


def _end(pid: int, grace: float) -> None:
    """Wait until a child has ended, for so many seconds before it is killed."""
    until = time.monotonic() + grace
    try:
        while time.monotonic() < until:
            if os.waitpid(pid, os.WNOHANG)[0]:
                return
            time.sleep(LOOK_EVERY)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ChildProcessError, ProcessLookupError):
        pass  # whoever started us has SIGCHLD ignored: the kernel has waited for it
