"""A bridge that is started as root and goes on as an ordinary user (``user:``): what it does before.

It binds its addresses, reads keys and certificates, gives its state folder and log to that user and becomes
that user. Nobody is served until then: what was bound is not even accepted from.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pydantic

from ptproxy import errors
from ptproxy.config.model import BridgeConfig
from ptproxy.errors import StartError
from ptproxy.log import get_logger
from ptproxy.proxy.become import RunAs
from ptproxy.proxy.bridge_files import BridgeFiles
from ptproxy.proxy.startup import cannot_listen
from ptproxy.state.owner import give_folder, give_log
from ptproxy.tunnel.listen import BACKLOG, bind_tcp, bind_tcp_shares, bind_unix

log = get_logger(__name__)


@dataclass(slots=True)
class Kept:
    """What is left of root's rights."""

    files: BridgeFiles
    sockets: list[dict[str, socket.socket]]
    """Bound, by address as the configuration has it; one mapping for each worker."""
    unreadable: list[Path] = field(default_factory=list)
    """Files that the bridge can never read again."""


def give_up_root(config: BridgeConfig, path: Path) -> Kept | None:
    """Become ``config.user``; None where no user is set, or the process is that user's already.

    ``path`` is the configuration's own.

    Raises :class:`~ptproxy.errors.StartError`, after which the process must end.
    """
    if config.user is None:
        return None
    run_as = RunAs.of(config.user, config.group)
    if run_as.is_us:
        return None  # as after --replace: the new process is never root
    refuse_others(run_as)
    files = BridgeFiles.read(config)
    with contextlib.ExitStack() as stack:
        sockets = bind_all(config, config.workers, stack)
        for endpoint in config.listen:
            if endpoint.unix is not None:  # its mode is set later, by its owner
                os.chown(endpoint.unix, run_as.uid, run_as.gid, follow_symlinks=False)
        hand_to(run_as, config.state, config.log.file)
        run_as.become()
        check_reach(run_as, config.state)
        stack.pop_all()
    return Kept(files, sockets, [each for each in (path, *_files(config)) if not os.access(each, os.R_OK)])


def refuse_others(run_as: RunAs) -> None:
    """Only root becomes somebody else; raises StartError."""
    if os.geteuid() != 0:
        raise StartError(
            f"user: only root can become {run_as.user}: start it as root or as {run_as.user}, "
            "or leave user out of the configuration"
        )


def hand_to(run_as: RunAs, state: Path, log_file: Path | None) -> None:
    """Give the user what it will write; raises StartError."""
    give_folder(state, run_as.uid, run_as.gid)
    if log_file is not None:
        give_log(log_file, run_as.uid, run_as.gid)


def check_reach(run_as: RunAs, state: Path) -> None:
    """Whether the user, whom this process has become, gets to its state folder; raises StartError.

    And whether it can read the program: modules are imported when they are needed.
    """
    for module in (os, errors, pydantic):
        if not os.access(str(module.__file__), os.R_OK):
            raise StartError(
                f"user: {run_as.user} cannot read {module.__file__}, which is part of this program: install "
                "it where everybody can read it (scripts/install)"
            )
    for folder in reversed((state, *state.parents)):
        if not os.access(folder, os.X_OK):
            raise StartError(
                f"state: {run_as.user} cannot get to {state}: {folder} lets it not through "
                f"(chmod a+x {folder}, or set another state folder, as in /var/lib/ptproxy)"
            )


def bind_all(config: BridgeConfig, count: int, stack: contextlib.ExitStack) -> list[dict[str, socket.socket]]:
    """Each of ``count`` workers' sockets by address, closed by ``stack``; raises StartError."""
    found: list[dict[str, socket.socket]] = [{} for _ in range(count)]
    for endpoint in config.listen:
        try:
            if endpoint.unix is not None:  # one for all: Unix sockets are not divided by the kernel
                made = [bind_unix(str(endpoint.unix))] * count
                made[0].listen(BACKLOG)
            elif count == 1:
                made = [bind_tcp(endpoint.literal, endpoint.port)]  # whoever serves listens
            else:
                made = bind_tcp_shares(endpoint.literal, endpoint.port, count)
        except OSError as error:
            raise cannot_listen(endpoint, error) from None
        for sock, mine in zip(made, found, strict=True):
            stack.callback(sock.close)
            mine[str(endpoint)] = sock
    return found


def tell_unreadable(kept: Kept, config: BridgeConfig) -> None:
    """Say in the log what the bridge cannot do from now on."""
    log.info("root is given up for good", user=config.user)
    if kept.unreadable:
        log.warning(
            "these files are only for root: to follow a change of the configuration the bridge has to be "
            "started anew", files=", ".join(map(str, kept.unreadable)),
        )  # fmt: skip


def _files(config: BridgeConfig) -> Iterator[Path]:
    """What a reload or a successor reads."""
    tls = config.tls
    found: Iterable[Path | str | None] = (
        config.key, tls.certificate, tls.private_key, tls.front_certificate,
        tls.front_certificate_previous, tls.client_ca, tls.client_crl, config.shape,
    )  # fmt: skip
    return (path for path in found if isinstance(path, Path))
