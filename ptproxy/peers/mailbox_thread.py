"""The store's own thread: the loop never waits for a disk, and many requests share one sync.

Requests are done in the order in which they came. While one batch is being
committed the next one gathers, so that under load a sync pays for hundreds.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from ptproxy.peers.mailbox_answers import Refusal, RequestRefused
from ptproxy.peers.mailbox_store import MailboxStore, Request

MAX_BATCH: Final = 128
"""Requests in one transaction: 16 MiB of the largest envelopes."""

Then = Callable[[Any], None]
"""Told what a request returned, or the RequestRefused that it met, once that is on disk."""


class StoreThread:
    """Runs a store's requests; whoever submits bounds how many there are."""

    def __init__(self, loop: asyncio.AbstractEventLoop, store: MailboxStore) -> None:
        self._loop = loop
        self._store = store
        self._waiting: deque[tuple[Request, Then]] = deque()
        self._running: asyncio.Future[list[Any]] | None = None
        self._executor = ThreadPoolExecutor(1, "mailbox")
        self._closed = False

    def submit(self, request: Request, then: Then) -> None:
        """Do ``request`` soon; ``then`` is called in the loop, never from within this call."""
        if self._closed:
            self._loop.call_soon(then, RequestRefused(Refusal.UNAVAILABLE))
            return
        self._waiting.append((request, then))
        if self._running is None:
            self._start()

    async def close(self) -> None:
        """Do what was submitted, then close the store."""
        self._closed = True
        while self._running is not None:
            await asyncio.wait({self._running})
            await asyncio.sleep(0)  # its callback starts the next batch
        await asyncio.sleep(0)  # whoever waited has been told
        await self._loop.run_in_executor(self._executor, self._store.close)
        self._executor.shutdown()

    def _start(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_BATCH))]
        requests = [request for request, _ in batch]
        self._running = self._loop.run_in_executor(self._executor, self._store.run, requests)
        self._running.add_done_callback(lambda done: self._ran(batch, done))

    def _ran(self, batch: list[tuple[Request, Then]], done: asyncio.Future[list[Any]]) -> None:
        self._running = None
        if self._waiting:
            self._start()
        for (_, then), outcome in zip(batch, done.result(), strict=True):
            told = outcome
            if isinstance(outcome, Exception) and not isinstance(outcome, RequestRefused):
                told = RequestRefused(Refusal.UNAVAILABLE)
                self._loop.call_exception_handler(
                    {"message": "the mailbox's store failed in an unforeseen way", "exception": outcome}
                )
            self._loop.call_soon(then, told)  # each by itself: one that fails there is told, others go on
