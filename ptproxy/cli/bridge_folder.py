"""A bridge's folder as commands beside the running bridge see it: its configuration and its access list."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from ptproxy.auth.access import Access, AccessList
from ptproxy.config.load import load_bridge
from ptproxy.config.model import BridgeConfig
from ptproxy.proxy.account_store import SqliteStore
from ptproxy.proxy.accounts import AccountStore


def load_folder(folder: Path) -> BridgeConfig:
    """The bridge's configuration in a folder, or in a file; raises ConfigError."""
    return load_bridge(folder / "bridge.yaml" if folder.is_dir() else folder)


def open_accounts(config: BridgeConfig) -> AccountStore:
    """The store of the bridge's access list, to be closed; raises StartError."""
    return SqliteStore(config.state, Access(config.access))


def read_access(config: BridgeConfig) -> AccessList:
    """The access list as it is stored; raises StartError."""
    with contextlib.closing(open_accounts(config)) as store:
        return store.list


def change_access(config: BridgeConfig, change: Callable[[AccessList], None]) -> None:
    """Change the list that is stored, alone among all processes; raises StartError."""
    with contextlib.closing(open_accounts(config)) as store:
        store.update(change)
