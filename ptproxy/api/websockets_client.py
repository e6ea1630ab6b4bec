"""websockets through a tunnel: ``async with connect(client, "wss://example.org/") as connection``."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import websockets.asyncio.client
from websockets.uri import parse_uri

from ptproxy.api.client import Client


@contextlib.asynccontextmanager
async def connect(
    client: Client, uri: str, **options: Any
) -> AsyncIterator[websockets.asyncio.client.ClientConnection]:
    """A WebSocket on a stream of ``client``; ``options`` are ``websockets.connect``'s.

    Raises what ``websockets.connect`` raises; a target that is not reached is an ``OSError``.
    """
    where = parse_uri(uri)
    sock = await client.open_socket(where.host, where.port)
    try:
        connection = await websockets.asyncio.client.connect(uri, sock=sock, proxy=None, **options)
    except BaseException:
        sock.close()
        raise
    async with connection:
        yield connection
