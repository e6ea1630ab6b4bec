"""A bridge that serves the program which started it, and nothing else.

It is the same bridge as ``ptproxy bridge`` runs: the same gate, site and
sessions, put together from the same pieces of :mod:`ptproxy.proxy.bridge`;
only its exit is :mod:`~ptproxy.pt.parent`, and its sockets were opened before.
Access is open: the bridge line is the secret.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pydantic

from ptproxy.auth.access import Access
from ptproxy.config.model import BridgeConfig
from ptproxy.errors import StartError
from ptproxy.proxy.account_store import SqliteStore
from ptproxy.proxy.accounts import Accounts
from ptproxy.proxy.bridge import end_listeners, make_site, start_tunnel
from ptproxy.proxy.bridge_exit import BridgeExit, Service
from ptproxy.proxy.bridge_files import BridgeFiles
from ptproxy.proxy.openings import DOCUMENT as OPENINGS
from ptproxy.proxy.openings import put_down, take_up
from ptproxy.proxy.shape_files import load_shape
from ptproxy.proxy.shape_push import DOCUMENT as SHAPE
from ptproxy.proxy.shape_push import ShapePush
from ptproxy.proxy.site_beside import make_doorway
from ptproxy.proxy.startup import load_key
from ptproxy.pt.identity import CERTIFICATE_FILE, KEY_FILE, PRIVATE_FILE, Identity
from ptproxy.pt.parent import NoWayOut
from ptproxy.pt.wanted import Wanted
from ptproxy.state import StateFolder
from ptproxy.tunnel.listen import Listener
from ptproxy.tunnel.recognise import SHAPE_SERVICE
from ptproxy.tunnel.stream import Dialer, Site
from ptproxy.tunnel.tls import leaf_digest

NO_WAY_OUT: Final = NoWayOut()


def make_config(
    identity: Identity, wanted: Wanted, folder: Path, codecs: Sequence[str], place: tuple[str, int]
) -> BridgeConfig:
    """The bridge's configuration, as if it had been written; raises :class:`~ptproxy.errors.StartError`."""
    if wanted.config is not None:
        from ptproxy.pt.written_bridge import fitted, read_written  # noqa: PLC0415  (only for it)

        return fitted(read_written(wanted.config), folder, codecs, place)
    host, port = place
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    data: dict[str, Any] = {
        "role": "bridge",
        "listen": shown,
        "mode": "standalone",
        "address": shown,
        "key": str(folder / KEY_FILE),
        "tls": {
            "certificate": str(wanted.certificate or folder / CERTIFICATE_FILE),
            "private_key": str(wanted.private_key or folder / PRIVATE_FILE),
            "server_name": identity.name,
        },
        "path": identity.path,
        "codecs": list(codecs),
        "site": wanted.site,
        "access": "open",
        "state": str(folder),
    }
    try:
        return BridgeConfig.model_validate(data, context={"folder": folder})
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise StartError(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from None


def check_identity(identity: Identity, config: BridgeConfig) -> None:
    """See that the files are those that clients are told of; raises :class:`~ptproxy.errors.StartError`."""
    certificate = config.tls.certificate
    if config.mode == "behind" or certificate is None:
        return  # they are read where clients are told of them
    right = load_key(config.key).public == identity.public
    if not right or (identity.pin and leaf_digest(certificate) != identity.pin):
        raise StartError(
            f"the files in {config.state} do not belong together: put a backup in their place, or remove all"
        )


class Plugged:
    """One such bridge, from :meth:`start` to :meth:`stop`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, state: StateFolder) -> None:
        """``state`` stays the caller's. Raises :class:`~ptproxy.errors.StartError`."""
        self._loop = loop
        self._state = state
        self._openings = state.document(OPENINGS)
        self._replay = take_up(self._openings)
        self._accounts = Accounts(SqliteStore(state.path, Access.OPEN))
        self._stack = contextlib.AsyncExitStack()
        self._listeners: list[Listener] = []

    async def start(
        self,
        config: BridgeConfig,
        socks: Sequence[socket.socket],
        services: Mapping[str, Service],
        *,
        dialer: Dialer = NO_WAY_OUT,
        front: Callable[[Site], Site] | None = None,
    ) -> None:
        """Serve clients on sockets that listen already; raises :class:`~ptproxy.errors.StartError`.

        ``front`` may put something before the web site that strangers meet.
        """
        loop, stack = self._loop, self._stack
        files = BridgeFiles.read(config)
        push = ShapePush(files.key, self._state.document(SHAPE), load_shape(config.shape))
        exit_ = BridgeExit(loop, dialer, services={SHAPE_SERVICE: push, **services})
        stack.push_async_callback(exit_.close)
        site = make_site(config, loop)
        stack.push_async_callback(site.close)
        met = site if front is None else front(site)
        bridge = start_tunnel(config, loop, self._accounts, exit_, met, self._replay, push.signing_key, files)
        stack.push_async_callback(bridge.stop, 0.0)
        doorway = await make_doorway(config, loop, files.context, bridge.arrival, files.leaf)
        if doorway is not None:
            stack.push_async_callback(doorway.close)
        for sock in socks:
            listener = Listener(
                loop, bridge.arrival, sock, tls=files.context,
                handshake_timeout=config.limits.opening_timeout, most_handshakes=config.limits.handshakes,
                doorway=doorway,
            )  # fmt: skip
            self._listeners.append(listener)

    async def stop(self) -> None:
        """End every stream and connection."""
        for listener in self._listeners:
            listener.close()
        await self._stack.aclose()
        await end_listeners(self._listeners)
        await self._accounts.close()
        put_down(self._openings, self._replay)
        self._replay.close()
