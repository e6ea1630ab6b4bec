"""The codecs by name: the three built in and whatever other packages add by an entry point."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from ptproxy.codec.interface import CodecType
from ptproxy.errors import StartError

GROUP: Final = "ptproxy.codecs"
"""The entry point group."""
BUILT_IN: Final = {
    "websocket": "ptproxy.codec.websocket:WEBSOCKET",
    "http": "ptproxy.codec.http:HTTP",
    "random": "ptproxy.codec.random:RANDOM",
}
"""Always there, installed or not; their names cannot be taken by others."""

_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")


class CodecTable(Mapping[str, CodecType]):
    """Codecs by name, each imported when first asked for.

    Order: websocket, http, random, then outside ones by name. An outside entry
    that is broken breaks only itself: asking for it raises
    :class:`~ptproxy.errors.StartError`, one line that says whose it is.
    """

    def __init__(self, outside: Iterator[EntryPoint]) -> None:
        self._entries = {name: [EntryPoint(name, value, GROUP)] for name, value in BUILT_IN.items()}
        found: dict[str, list[EntryPoint]] = {}
        for entry in outside:
            if entry.name not in BUILT_IN:
                found.setdefault(entry.name, []).append(entry)
        self._entries.update(sorted(found.items()))
        self._loaded: dict[str, CodecType] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __getitem__(self, name: str) -> CodecType:
        """The codec of a name; KeyError when there is none, StartError when it cannot be used."""
        loaded = self._loaded.get(name)
        if loaded is None:
            loaded = self._loaded[name] = _load(self._entries[name])
        return loaded


def _load(entries: list[EntryPoint]) -> CodecType:
    entry = entries[0]
    whose = " and ".join(sorted({_origin(each) for each in entries}))
    if len({each.value for each in entries}) > 1:
        raise StartError(f"codec {entry.name!r} is offered more than once, by {whose}: uninstall all but one")
    if _NAME.fullmatch(entry.name) is None:
        raise StartError(
            f"codec {entry.name!r} of {whose}: a codec's name is a-z, then a-z 0-9 _ -, 32 at most"
        )
    try:
        codec = entry.load()
    except Exception as error:  # an outside module may raise anything while it is imported
        text = f"{type(error).__name__}: {error}".rstrip(": ")
        raise StartError(f"codec {entry.name!r} of {whose} cannot be loaded ({text})") from error
    if getattr(codec, "name", None) != entry.name:
        raise StartError(f"codec {entry.name!r} of {whose}: its object is not a codec of that name")
    if not callable(getattr(codec, "client", None)) or not callable(getattr(codec, "reception", None)):
        raise StartError(f"codec {entry.name!r} of {whose}: its object lacks client() or reception()")
    return codec  # type: ignore[no-any-return]  # looked at above, as far as that goes


def _origin(entry: EntryPoint) -> str:
    distribution = entry.dist
    return f"{distribution.name} ({entry.value})" if distribution is not None else entry.value


@cache
def codec_table() -> Mapping[str, CodecType]:
    """The table for this process; made once."""
    return CodecTable(iter(entry_points(group=GROUP)))
