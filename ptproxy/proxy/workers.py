"""A bridge in several processes: the one that watches over its workers.

It binds the addresses, makes what the workers share, forks them, and then only waits:
for signals, which it passes on, and for workers that end, which it replaces. It reads
no byte of anybody's. A worker that ends takes its sessions along, and nothing else: its
listening sockets and its neighbours' are kept open here, so that connections wait for
the next one. ``WORKERS.md`` has the whole.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import sys
import time
from types import FrameType, TracebackType
from typing import Any, Final, Self

from ptproxy.config.model import BridgeConfig
from ptproxy.errors import StartError
from ptproxy.log import get_logger
from ptproxy.proxy.bridge_files import tls_context
from ptproxy.proxy.openings import DOCUMENT as OPENINGS
from ptproxy.proxy.openings import put_down, take_up
from ptproxy.proxy.post import Post
from ptproxy.proxy.shared_openings import SharedOpenings
from ptproxy.proxy.startup import Ready
from ptproxy.proxy.supervisor import tell_supervisor
from ptproxy.proxy.unprivileged import Kept, bind_all
from ptproxy.state import StateFolder
from ptproxy.tunnel.elsewhere import Place
from ptproxy.tunnel.neighbours import Neighbours
from ptproxy.tunnel.shared_tables import Crowd, TokenIndex

ROOM: Final = 212_992
"""Bytes that a pair's socket holds, Linux's default limit: three packets of the largest size."""
LONG_LIFE: Final = 10.0
"""Seconds after which a worker that ends is replaced at once."""
SHORTEST_PAUSE: Final = 0.25
"""Seconds until one that ended sooner is replaced; twice as long each time, up to the longest."""
LONGEST_PAUSE: Final = 10.0
UNEVEN: Final = 1.5
"""How many times its share of all carriers one worker may come to have."""

_WATCHED: Final = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR2", "SIGCHLD")

log = get_logger(__name__)


class _Worker:
    """One place and who is there."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.pid = 0
        self.began = 0.0
        self.pause = 0.0
        self.due: float | None = None  # when the next one is started
        self.told = -1  # a pipe that says it is up
        self.up = False  # whether one has ever been


class Workers:
    """The workers of one bridge."""

    def __init__(self, config: BridgeConfig, ready: Ready, kept: Kept | None = None) -> None:
        """Bind and make everything; raises :class:`~ptproxy.errors.StartError`.

        ``kept``: what was got ready while this process was root, if it was.
        """
        refuse_what_cannot_be(config)
        self._files = kept.files if kept is not None else None
        self._config = config
        self._ready = ready
        self._count = config.workers
        self._stack = contextlib.ExitStack()
        self._workers = [_Worker(index) for index in range(self._count)]
        self._stopping = False
        self._addresses = ""
        with contextlib.ExitStack() as stack:
            self._state = stack.enter_context(StateFolder(config.state))
            self._openings = SharedOpenings(int(time.time()))
            stack.callback(self._openings.close)
            former = take_up(self._state.document(OPENINGS))
            former.close()
            self._openings.take_up(former.snapshot())
            self._context = self._files.context if self._files is not None else tls_context(config)
            self._crowd = Crowd(self._count)
            self._tokens = TokenIndex(self._count, int(config.limits.carriers * UNEVEN / self._count) + 1)
            self._sockets = kept.sockets if kept is not None else bind_all(config, self._count, stack)
            for mine in self._sockets:
                for sock in mine.values():
                    stack.callback(sock.close)
            self._pairs = self._pair(stack)
            self._life, self._alive = os.pipe()
            self._heard, self._said = os.pipe()
            for descriptor in (self._life, self._alive, self._heard, self._said):
                os.set_blocking(descriptor, False)
                stack.callback(os.close, descriptor)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def watch(self) -> Post | None:
        """Start the workers and watch over them; in each of them this returns what it is given.

        Returns None, in the process that watches, once all have ended. Raises
        :class:`~ptproxy.errors.StartError` there where one never came up.
        """
        before = {name: signal.signal(getattr(signal, name), _noted) for name in _WATCHED}
        signal.set_wakeup_fd(self._said, warn_on_full_buffer=False)
        try:
            for worker in self._workers:
                post = self._start(worker)
                if post is not None:
                    return post
            return self._wait()
        finally:
            if self._alive >= 0:
                signal.set_wakeup_fd(-1)
                for name, handler in before.items():
                    signal.signal(getattr(signal, name), handler)

    # ---- what they share -------------------------------------------------------------------------------

    def _pair(self, stack: contextlib.ExitStack) -> list[list[socket.socket | None]]:
        """Each worker's sockets to the others, by their places."""
        pairs: list[list[socket.socket | None]] = [[None] * self._count for _ in self._workers]
        for one in range(self._count):
            for other in range(one):
                ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                pairs[one][other], pairs[other][one] = ends
                for end in ends:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ROOM)
                    stack.callback(end.close)
        return pairs

    # ---- starting ----------------------------------------------------------------------------------------

    def _start(self, worker: _Worker) -> Post | None:
        """Fork a worker; what it is given, in it."""
        self._crowd.clear(worker.index)
        self._tokens.clear(worker.index)
        told, tell = os.pipe()
        signals = {getattr(signal, name) for name in _WATCHED}
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        try:
            pid = os.fork()
            if not pid:
                self._become(worker)
                os.close(told)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
        if not pid:
            return self._post(worker, tell)
        os.close(tell)
        os.set_blocking(told, False)
        worker.pid, worker.began, worker.due, worker.told = pid, time.monotonic(), None, told
        log.info("a worker is started", worker=worker.index, process=pid)
        return None

    def _become(self, worker: _Worker) -> None:
        """This process is the worker from now on: nothing of the others' stays open in it."""
        signal.set_wakeup_fd(-1)
        for name in _WATCHED:
            stays = name in ("SIGINT", "SIGUSR2", "SIGHUP")  # until it is watched, SIGHUP must not end it
            signal.signal(getattr(signal, name), signal.SIG_IGN if stays else signal.SIG_DFL)
        os.environ.pop("NOTIFY_SOCKET", None)  # only one process speaks for all
        mine = {id(sock) for sock in self._sockets[worker.index].values()}
        for sockets in self._sockets:
            for sock in sockets.values():
                if id(sock) not in mine:
                    sock.close()
        for index, ends in enumerate(self._pairs):
            for end in ends:
                if end is not None and index != worker.index:
                    end.close()
        for other in self._workers:
            if other.told >= 0:
                os.close(other.told)
        for descriptor in (self._alive, self._heard, self._said):
            os.close(descriptor)
        self._alive = -1
        self._stack.pop_all()  # what is closed at the end is the worker's own affair

    def _post(self, worker: _Worker, tell: int) -> Post:
        config, index = self._config, worker.index
        self._crowd.index = self._tokens.index = index
        unix = {str(endpoint): 1 for endpoint in config.listen if endpoint.unix is not None}
        place = Place(
            index, self._count, Neighbours(self._pairs[index]), self._crowd, self._tokens,
            whole=config.mode == "behind",
        )  # fmt: skip
        lock = self._state.duplicate_lock()
        self._state.close()
        return Post(
            lock, self._sockets[index], unix, self._openings, place, self._life, tell, self._context,
            self._files,
        )  # fmt: skip

    # ---- watching ----------------------------------------------------------------------------------------

    def _wait(self) -> Post | None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._heard, selectors.EVENT_READ)
            for worker in self._workers:
                selector.register(worker.told, selectors.EVENT_READ, worker)
            while any(worker.pid or worker.due is not None for worker in self._workers):
                for key, _ in selector.select(self._pause()):
                    if key.data is None:
                        self._signalled(os.read(self._heard, 4096))
                    else:
                        selector.unregister(key.fd)
                        self._told(key.data)
                self._bury(selector)
                post = self._start_due(selector)
                if post is not None:
                    return post
        put_down(self._state.document(OPENINGS), self._openings)
        if not all(worker.up for worker in self._workers):
            raise StartError("a worker of the bridge did not come up")
        return None

    def _pause(self) -> float | None:
        due = [worker.due for worker in self._workers if worker.due is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _signalled(self, numbers: bytes) -> None:
        for number in numbers:
            if number in (signal.SIGTERM, signal.SIGINT):
                if not self._stopping:
                    tell_supervisor("STOPPING=1")
                self._stop()
            elif number == signal.SIGHUP:
                self._tell(signal.SIGHUP)
            elif number == signal.SIGUSR2:
                log.warning("not replaced: a bridge with several workers stops and starts")
                self._state.note_holder()

    def _stop(self) -> None:
        self._stopping = True
        self._tell(signal.SIGTERM)
        for worker in self._workers:
            worker.due = None
        for sockets in self._sockets:  # else the kernel takes connections that nobody will accept
            for sock in sockets.values():
                sock.close()

    def _tell(self, number: int) -> None:
        for worker in self._workers:
            if worker.pid:
                os.kill(worker.pid, number)

    def _told(self, worker: _Worker) -> None:
        """A worker is up, or has ended before it was."""
        said = os.read(worker.told, 65536).decode()
        os.close(worker.told)
        worker.told = -1
        if not said:
            return
        worker.up = True
        if not self._addresses and all(each.up for each in self._workers):
            self._addresses = said
            tell_supervisor("READY=1")
            self._ready(said.split(", "))

    def _bury(self, selector: selectors.BaseSelector) -> None:
        for worker in self._workers:
            if not worker.pid:
                continue
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if not pid:
                continue
            if worker.told >= 0:
                selector.unregister(worker.told)
                self._told(worker)
            worker.pid = 0
            self._crowd.clear(worker.index)
            self._tokens.clear(worker.index)
            if self._stopping:
                continue
            code = os.waitstatus_to_exitcode(status)
            if not worker.up:  # it has said why
                self._stop()
                continue
            lived = time.monotonic() - worker.began
            worker.pause = (
                0.0 if lived > LONG_LIFE else min(LONGEST_PAUSE, max(SHORTEST_PAUSE, 2 * worker.pause))
            )
            worker.due = time.monotonic() + worker.pause
            log.error(
                "a worker has ended, and its sessions with it; another one is started",
                worker=worker.index, process=pid, status=code,
            )  # fmt: skip

    def _start_due(self, selector: selectors.BaseSelector) -> Post | None:
        for worker in self._workers:
            if worker.due is not None and worker.due <= time.monotonic():
                post = self._start(worker)
                if post is not None:
                    return post
                selector.register(worker.told, selectors.EVENT_READ, worker)
        return None


def refuse_what_cannot_be(config: BridgeConfig) -> None:
    """What several workers cannot do; raises :class:`~ptproxy.errors.StartError`."""
    if sys.platform != "linux":
        raise StartError("workers: more than one process needs Linux")
    offered = [
        name
        for name in ("mailbox", "rendezvous", "lookups", "guard", "reverse")
        if getattr(config, name).offer
    ]
    if offered:
        raise StartError(f"workers: a bridge that offers {', '.join(offered)} is one process: set workers: 1")
    if config.session_state == "keep":
        raise StartError("workers: session_state: keep needs workers: 1")


def _noted(number: int, frame: FrameType | None) -> Any:
    """The wake-up descriptor has told whoever waits."""
