"""Where a chat's identity is, and what opens it: never a secret on a command line."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import unicodedata
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO, TypeVar, cast

import click

from ptproxy.config.keyfile import read_password
from ptproxy.errors import StartError, why
from ptproxy.peers.dialers import TunnelDialers
from ptproxy.peers.messenger import Messenger
from ptproxy.peers.store import PeerStore
from ptproxy.peers.store_doubt import Doubt, StoreDoubtError, doubt_in
from ptproxy.peers.store_key import MAX_PASSPHRASE, StoreKey
from ptproxy.state import StateFolder

ACCEPTED: Final = {"put-back": Doubt.ROLLED_BACK, "copied": Doubt.CLONED}
"""What a person can say to go on with a store that may not be the newest or the only one."""
DESCRIPTOR: Final = "PTPROXY_PASSPHRASE_FD"
"""Names the descriptor that a passphrase is read from, once."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """A folder, and how it is opened."""

    folder: Path
    key_file: Path | None = None
    passphrase_file: Path | None = None
    accepted: tuple[str, ...] = ()
    log_file: Path | None = None

    @property
    def files(self) -> Path:
        """Where files that contacts send are saved."""
        return self.folder / "files"

    def key(self, question: str = "Passphrase") -> StoreKey:
        """What opens the store; :class:`~ptproxy.errors.StartError` where there is nobody to ask."""
        if self.key_file is not None:
            return StoreKey.file(self.key_file)
        if self.passphrase_file is not None:
            try:
                return _from(read_password(self.passphrase_file))
            except ValueError as error:
                raise StartError(str(error)) from None
        if DESCRIPTOR in os.environ:
            return _from(_read_descriptor(os.environ.pop(DESCRIPTOR)))
        return _from(_ask(question))

    def new_key(self) -> StoreKey:
        """What opens a store from now on: a file, made where there is none, or a passphrase said twice."""
        if self.key_file is not None:
            there = self.key_file.exists()
            return StoreKey.file(self.key_file) if there else StoreKey.make_file(self.key_file)
        if self.passphrase_file is not None or DESCRIPTOR in os.environ:
            return self.key()
        typed = _ask("New passphrase")
        if _ask("The same again") != typed:
            raise StartError("the two passphrases are not the same; nothing was changed")
        return _from(typed)

    @contextlib.asynccontextmanager
    async def messenger(self) -> AsyncIterator[Messenger]:
        """What is kept here, at work on its own tunnels as soon as it runs."""
        key = self.key()
        accepted = frozenset(ACCEPTED[name] for name in self.accepted)
        try:
            with StateFolder(self.folder) as folder, PeerStore.open(folder, key, accepted) as store:
                dialers = TunnelDialers()
                try:
                    doubts = store.doubts  # none any more once something is written
                    messenger = await Messenger.open(store, dialers)
                    if doubts:
                        await messenger.start_anew()  # an old state would seal what was read already
                    yield messenger
                finally:
                    await dialers.close()
        except (StoreDoubtError, BaseExceptionGroup) as error:  # at the start, or from what the mailbox knows
            doubt = doubt_in(error)
            if doubt is None:
                raise
            word = next(name for name, kind in ACCEPTED.items() if kind is doubt.doubt)
            raise StartError(f"{doubt}; ptproxy chat --accept {word} goes on all the same") from None

    def check(self) -> None:
        """Before anybody is asked for a passphrase: StartError where there is no identity yet."""
        if not (self.folder / "peer.sqlite3").exists():
            raise StartError(f"there is no identity in {self.folder}; ptproxy chat init makes one")

    def run(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run ``main()`` with logs where they belong."""
        from ptproxy import log
        from ptproxy.config.model import LogConfig
        from ptproxy.tunnel import runtime

        if self.log_file is not None:
            log.set_up(LogConfig(file=self.log_file))
        else:
            log.set_up(LogConfig(level="error"), stream=cast("TextIO", _Nowhere()))
        return runtime.run(main())


class _Nowhere(io.TextIOBase):
    """Logs that nobody asked for: on the screen they would be in the way, on disk tell of us."""

    def write(self, text: str) -> int:
        """Gone."""
        return len(text)


def _from(typed: str) -> StoreKey:
    """A passphrase in one spelling, whatever keyboard it was typed on."""
    return StoreKey.passphrase(unicodedata.normalize("NFC", typed).encode())


def _ask(question: str) -> str:
    """On the terminal, whatever standard input is."""
    if not _has_terminal():
        raise StartError(
            f"no terminal to ask for the passphrase on: --key-file, --passphrase-file or {DESCRIPTOR}"
        )
    typed: str = click.prompt(question, hide_input=True, err=True)
    return typed


def _has_terminal() -> bool:
    if sys.stdin.isatty():
        return True
    try:
        os.close(os.open("/dev/tty", os.O_RDWR))
    except OSError:
        return False
    return True


def _read_descriptor(name: str) -> str:
    """The first line of a descriptor."""
    try:
        with os.fdopen(int(name), "rb") as file:
            data = file.readline(MAX_PASSPHRASE + 2)
        return data.rstrip(b"\r\n").decode()
    except UnicodeDecodeError:
        raise StartError(f"{DESCRIPTOR}: the passphrase is no UTF-8") from None
    except ValueError:
        raise StartError(f"{DESCRIPTOR} is no number of a descriptor") from None
    except OSError as error:
        raise StartError(f"{DESCRIPTOR}: cannot read it: {why(error)}") from None
