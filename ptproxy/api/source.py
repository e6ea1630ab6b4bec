"""What a program gives to ``connect`` and ``serve``, read into a configuration.

A client comes from one of

- a ``ptproxy://`` link: with ``state=FOLDER`` its key and what it must remember
  are kept there (``client.key``, ``state/``: as ``ptproxy init client`` lays it
  out), without it both are gone with the process;
- a configuration file, as ``ptproxy init client`` writes it;
- a :class:`~ptproxy.config.model.ClientConfig`.

An invite is used up by the key that it enrols, so a link with a token needs a folder.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from ptproxy import state as files
from ptproxy.auth.credentials import StaticKey
from ptproxy.codec import codec_table
from ptproxy.config.link import SCHEME, Link
from ptproxy.config.load import load_bridge, load_client
from ptproxy.config.model import BridgeConfig, ClientConfig
from ptproxy.errors import ConfigError, StartError
from ptproxy.proxy.startup import load_key

KEY_FILE: Final = "client.key"
"""In the state folder of a client that was made from a link; as ``ptproxy init client`` names it."""

ClientSource = str | os.PathLike[str] | Link | ClientConfig
BridgeSource = str | os.PathLike[str] | BridgeConfig


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """A client to be run: ``folder`` is None for one that leaves nothing on disk."""

    config: ClientConfig
    key: StaticKey
    folder: Path | None


def client_settings(source: ClientSource, folder: Path | None, options: dict[str, Any]) -> ClientSettings:
    """Read ``source``; ``options`` are a configuration's keys, as YAML would give them.

    Raises :class:`~ptproxy.errors.ConfigError` or :class:`~ptproxy.errors.StartError`.
    """
    link = _link(source)
    if link is not None:
        return _from_link(link, folder, options)
    if folder is not None:
        raise ConfigError(["state: only together with a link; a configuration names its own"])
    if isinstance(source, ClientConfig):
        config = source
    else:
        assert not isinstance(source, Link)
        config = load_client(Path(source), codecs=tuple(codec_table()))
    if options:
        raise ConfigError([f"{name}: write it into the configuration" for name in options])
    return ClientSettings(config, load_key(config.key), config.state)


def bridge_config(source: BridgeSource) -> BridgeConfig:
    """Read ``source``; raises :class:`~ptproxy.errors.ConfigError`."""
    if isinstance(source, BridgeConfig):
        return source
    return load_bridge(Path(source), codecs=tuple(codec_table()))


def _link(source: ClientSource) -> Link | None:
    """The link that ``source`` is, if it is one."""
    if isinstance(source, Link):
        return source
    if isinstance(source, str) and source.lstrip().lower().startswith(f"{SCHEME}:"):
        try:
            return Link.parse(source)
        except ValueError as error:
            raise ConfigError([f"link: {error}"]) from None
    return None


def _from_link(link: Link, folder: Path | None, options: dict[str, Any]) -> ClientSettings:
    if link.token and folder is None:
        raise StartError("the link's invite lets one key in, which must be kept: connect(link, state=FOLDER)")
    key = StaticKey.generate(random.SystemRandom()) if folder is None else _kept_key(folder / KEY_FILE)
    place = folder if folder is not None else Path(os.devnull)
    values = {
        "role": "client",
        "listen": "127.0.0.1:0",
        "bridge": link.serialize(),
        "key": str(place / KEY_FILE),
        "state": str(place / "state"),
    }
    if clash := sorted(set(options) & set(values)):
        raise ConfigError([f"{name}: is not for connect()" for name in clash])
    context = {"folder": Path.cwd(), "codecs": tuple(codec_table())}
    try:
        config = ClientConfig.model_validate(values | options, context=context)
    except ValidationError as error:
        raise ConfigError(
            [
                f"{'.'.join(map(str, each['loc']))}: {each['msg'].removeprefix('Value error, ')}"
                for each in error.errors(include_url=False, include_input=False)
            ]
        ) from None
    if folder is None and config.tls.fingerprint == "browser":
        raise StartError("tls.fingerprint: a browser keeps its profile in a folder: connect(link, state=…)")
    return ClientSettings(config, key, config.state if folder is not None else None)


def _kept_key(path: Path) -> StaticKey:
    """The key in a file, made at the first use."""
    if not path.exists():
        key = StaticKey.generate(random.SystemRandom())
        files.write_file(path, key.serialize_private() + "\n", replace=False)
    return load_key(path)
