"""A guard's errand: sealed requests sent for somebody else, and each answer given to who asked.

A sealed answer says in the open neither what it answers nor to whom. But a node sends it under
the number that its request's datagrams had, so it is told by the address it comes from and that number.
Whatever comes under them is handed over: only who asked can open it, or tell that it is nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from ptproxy.dht.contact import Address
from ptproxy.dht.datagrams import NUMBER
from ptproxy.dht.identifier import Rng
from ptproxy.errors import DhtError

MAX_FORWARDS: Final = 256
"""Sealed requests that wait for their answers, for all whose guard we are."""
FORWARD_WAIT: Final = 1.5
"""Seconds that such a request waits: as long as the slowest query of a lookup."""


class ForwardError(DhtError):
    """A sealed request that was not sent, or not answered in time."""


class Forwarding:
    """Sealed requests that wait for their answers."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        send: Callable[[Address, bytes, bytes], None],
        permitted: Callable[[Address], bool],
        rng: Rng,
    ) -> None:
        """``send`` takes an address, a message and the number for its datagrams."""
        self._loop = loop
        self._send = send
        self._permitted = permitted
        self._rng = rng
        self._waiting: dict[tuple[Address, bytes], asyncio.Future[bytes]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    async def forward(self, address: Address, sealed: bytes) -> bytes:
        """The sealed answer of the node at ``address``; :class:`ForwardError`."""
        if len(self._waiting) >= MAX_FORWARDS:
            raise ForwardError("too many sealed requests are on their way")
        if not self._permitted(address):
            raise ForwardError("no node has such an address")
        name = (address, self._rng(NUMBER))
        answer = self._waiting[name] = self._loop.create_future()
        try:
            self._send(address, sealed, name[1])
            async with asyncio.timeout(FORWARD_WAIT):
                return await answer
        except TimeoutError:
            raise ForwardError("no answer to a sealed request in time") from None
        finally:
            del self._waiting[name]

    def receive(self, message: bytes, source: Address, number: bytes) -> bool:
        """Whether this was an answer that somebody waits for."""
        answer = self._waiting.get((source, number))
        if answer is None:
            return False
        if not answer.done():
            answer.set_result(message)
        return True

    def close(self) -> None:
        """Nothing comes any more."""
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(ForwardError("the node has stopped"))
