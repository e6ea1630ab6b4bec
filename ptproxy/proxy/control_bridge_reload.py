"""Reading a running bridge's configuration again, whole or not at all, without touching open streams.

Everything that may fail is done first: the file is read and checked, certificates are loaded aside, new
addresses are listened on. Only then is anything changed; where that fails all the same, what was changed is
put back. So the bridge runs with the old configuration or the new one, never with parts of both, and
whoever asked hears the reasons. What can change is in :data:`RELOADED`; for the rest a bridge is replaced
(``REPLACE.md``) or started anew. The access list is not part of the file: it is followed by itself
(:mod:`ptproxy.proxy.accounts`) and read again here as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ptproxy.config.model import BridgeConfig
from ptproxy.errors import ConfigError, PtproxyError, StartError
from ptproxy.log import get_logger
from ptproxy.proxy.bridge import make_policy, open_listener
from ptproxy.proxy.bridge_files import bindings
from ptproxy.proxy.control_files import FileWatch
from ptproxy.proxy.control_reload import ConfigSource, differing
from ptproxy.proxy.shape_files import built_in, load_shape
from ptproxy.proxy.succession import Parts
from ptproxy.tunnel.listen import Listener
from ptproxy.tunnel.tls import bridge_context, load_chain, load_clients

RELOADED: Final = frozenset({
    "egress", "listen", "log", "shape", "tls.certificate", "tls.private_key", "tls.front_certificate",
    "tls.front_certificate_previous", "limits.memory", "limits.idle", "limits.half_open", "limits.linger",
    "limits.sessions", "limits.carriers", "limits.streams", "limits.drain",
})  # fmt: skip
"""Settings that can change while the bridge runs, and all below them."""
ADVICE: Final = (
    "cannot change while the bridge runs: start it anew (with session_state: keep, ptproxy bridge --replace "
    "keeps every stream)"
)

log = get_logger(__name__)


@dataclass(slots=True)
class BridgeReload:
    """What a bridge does to follow its configuration."""

    parts: Parts
    loop: asyncio.AbstractEventLoop
    context: ssl.SSLContext | None
    source: ConfigSource | None
    """None: a bridge inside another program; only the files that the configuration names are read."""
    watch: FileWatch | None = None

    async def __call__(self) -> tuple[str, ...]:
        """Follow it; what has changed. Raises ConfigError or StartError, and then nothing has."""
        try:
            return await self._follow()
        except (ConfigError, StartError) as error:
            problems = error.problems if isinstance(error, ConfigError) else [str(error)]
            user = self.parts.config.user
            if user is None or not any(only_root(problem) for problem in problems):
                raise
            advice = (
                f"the bridge runs as {user} and gave root up for good: make it {user}'s, or start it anew"
            )
            raise ConfigError([*problems, advice]) from None

    async def _follow(self) -> tuple[str, ...]:
        parts, old = self.parts, self.parts.config
        new = old if self.source is None else await self.loop.run_in_executor(None, self.source.read)
        changed = tuple(differing(old, new, RELOADED))
        if refused := _refused(changed, old.workers):
            where = "" if self.source is None else f"{self.source.path}: "
            raise ConfigError([f"{where}{name}: {ADVICE}" for name in refused])
        if not parts.accounts.reload():
            raise StartError("the access list cannot be used; the log says why")
        parts.access_changed()
        shape = load_shape(new.shape)
        seen = bindings(new)
        if self.context is not None:
            _try_certificate(new)
        policy = await make_policy(new, parts.dialer.resolver)
        added = await self._listen(new)
        with contextlib.ExitStack() as undo:
            undo.callback(close_listeners, added.values())
            undo.callback(self._put_back, old)
            parts.push.change(shape)
            self._load_certificates(new)
            if self.source is not None and new.log != old.log:
                self.source.set_up_log(new.log)
            undo.pop_all()
        parts.bridge.settings.bindings = seen
        parts.bridge.settings.shape = shape or built_in()
        parts.dialer.change(policy, ipv6=new.egress.ipv6, timeout=new.egress.connect_timeout)
        self._set_limits(new)
        self._take(new, added)
        parts.config = new
        if self.watch is not None:
            self.watch.follow(files_of(new, self.source))
        return changed

    def _put_back(self, old: BridgeConfig) -> None:
        """Something failed after all: what may have changed by then is as before, as far as files let it."""
        for step in (self._shape_back, self._load_certificates):
            with contextlib.suppress(PtproxyError):
                step(old)

    def _shape_back(self, old: BridgeConfig) -> None:
        self.parts.push.change(load_shape(old.shape))

    def _load_certificates(self, config: BridgeConfig) -> None:
        """Load them; raises StartError, and then what was loaded before stays in force.

        They are tried aside once more: files may have changed since, and half of a pair would take the
        context's key away.
        """
        tls = config.tls
        if self.context is not None:
            _try_certificate(config)
        if self.context is not None and tls.certificate is not None and tls.private_key is not None:
            load_chain(self.context, tls.certificate, tls.private_key)
            if tls.client_certificates == "required" and tls.client_ca is not None:
                load_clients(self.context, tls.client_ca, tls.client_crl)

    async def _listen(self, new: BridgeConfig) -> dict[str, Listener]:
        """Listen where nobody did before; raises StartError, and then nowhere."""
        parts, added = self.parts, dict[str, Listener]()
        try:
            for endpoint in new.listen:
                if str(endpoint) not in parts.listeners and str(endpoint) not in added:
                    added[str(endpoint)] = await open_listener(parts, self.loop, self.context, endpoint)
        except BaseException:
            close_listeners(added.values())
            raise
        return added

    def _take(self, new: BridgeConfig, added: dict[str, Listener]) -> None:
        """Listen at these addresses alone; connections that came by others go on."""
        parts = self.parts
        wanted = {str(endpoint) for endpoint in new.listen}
        for place in [place for place in parts.listeners if place not in wanted]:
            gone = parts.listeners.pop(place)
            gone.close()
            parts.former_listeners.append(gone)
        parts.listeners.update(added)
        parts.listening[:] = [parts.shown(place) for place in parts.listeners]

    def _set_limits(self, new: BridgeConfig) -> None:
        limits, settings = new.limits, self.parts.bridge.settings
        settings.retention.resize(limits.memory // (settings.place.count if settings.place else 1))
        settings.limits = dataclasses.replace(settings.limits, max_streams=limits.streams)
        settings.linger, settings.idle, settings.half_open = limits.linger, limits.idle, limits.half_open
        settings.most_sessions, settings.most_carriers = limits.sessions, limits.carriers


def as_it_is_now(config: BridgeConfig, source: ConfigSource) -> BridgeConfig:
    """What a worker is to follow that is started, perhaps long after the bridge was with ``config``.

    The others have followed the file since; where it cannot be followed now, ``config`` it is.
    """
    try:
        new: BridgeConfig = source.read()
        changed = tuple(differing(config, new, RELOADED))
        if refused := _refused(changed, config.workers):
            raise ConfigError([f"{source.path}: {name}: {ADVICE}" for name in refused])
        if new.log != config.log:
            source.set_up_log(new.log)
    except PtproxyError as error:
        problems = error.problems if isinstance(error, ConfigError) else [str(error)]
        log.error("a worker begins with what the bridge was started with", why=problems)
        return config
    return new


def _refused(changed: Sequence[str], workers: int) -> list[str]:
    """What of it cannot change while the bridge runs."""
    refused = [name for name in changed if not _is_reloaded(name)]
    if workers > 1:  # their sockets are bound by who watches over them
        refused += [name for name in changed if name == "listen"]
    return refused


def _is_reloaded(name: str) -> bool:
    return any(name == known or name.startswith(f"{known}.") for known in RELOADED)


def _try_certificate(config: BridgeConfig) -> None:
    """Whether certificate and key serve, and those for clients' certificates; raises StartError."""
    tls = config.tls
    authorities = tls.client_ca if tls.client_certificates == "required" else None
    if tls.certificate is not None and tls.private_key is not None:
        bridge_context(
            tls.certificate, tls.private_key, client_authorities=authorities, revoked=tls.client_crl
        )


def only_root(problem: str) -> bool:
    """Whether root could have done what failed, by the words of the system or of ``cannot_listen``."""
    return any(words in problem for words in ("permission denied", "not permitted", "need root"))


def close_listeners(listeners: Iterable[Listener]) -> None:
    """Listen there no more."""
    for listener in listeners:
        listener.close()


def files_of(config: BridgeConfig, source: ConfigSource | None) -> list[Path]:
    """The files that a bridge follows."""
    tls = config.tls
    found = [tls.certificate, tls.private_key, tls.front_certificate, tls.front_certificate_previous]
    found += [tls.client_ca, tls.client_crl]
    if isinstance(config.shape, Path):
        found.append(config.shape)
    if source is not None:
        found.append(source.path)
    return [path for path in found if path is not None]
