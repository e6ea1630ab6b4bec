"""The configurations that ``init`` writes: the commented examples with values filled in.

The examples (``examples/*.yaml``, the same as ``configs/``) have each key on a
line of its own with its comment above, so filling in replaces the rest of a line;
a key that is commented out comes to life. Prose never looks like that: behind a
word and a colon it has more than one word.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Final

Value = str | bool | int | Sequence[str] | None
"""None comments a key out."""

_LINE = re.compile(r"(?P<indent> *)(?P<off># )?(?P<key>[a-z_0-9]+):(?P<rest>| \S+| \[.*\])")
_PLAIN = re.compile(r"[A-Za-z0-9/\[._][A-Za-z0-9 @/?&=:;.,_%+\-\[\]]*")
_WORDS_WITH_MEANING: Final = ("true", "false", "null", "~")


def example(name: str) -> str:
    """The text of ``bridge.yaml``, ``bridge-behind-nginx.yaml`` or ``client.yaml``."""
    return files("ptproxy.cli").joinpath("examples", name).read_text("utf-8")


def fill(text: str, values: Mapping[str, Value]) -> str:
    """``text`` with the values of some keys (dotted) replaced; KeyError for a key that is not in it."""
    left = dict(values)
    section = ""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        if not match["indent"]:
            section = "" if match["off"] or match["rest"].strip() else match["key"]
            name = match["key"]
        else:
            name = f"{section}.{match['key']}"
        if name in left:
            value = left.pop(name)
            key = f"{match['indent']}{'# ' if value is None else ''}{match['key']}:"
            lines[number] = f"{key}{match['rest'] if value is None else ' ' + scalar(value)}"
    if left:
        raise KeyError(", ".join(left))
    return "\n".join(lines)


def scalar(value: Value) -> str:
    """A value as YAML on one line."""
    if isinstance(value, bool | int):
        return str(value).lower()
    if isinstance(value, str):
        text = value
        plain = (
            _PLAIN.fullmatch(text) and ": " not in text and not text.startswith("[") and text[-1] not in " :"
        )
        number = text.lstrip("+-").isdigit()
        return text if plain and not number and text.lower() not in _WORDS_WITH_MEANING else json.dumps(text)
    return "[" + ", ".join(json.dumps(item) if "," in item else scalar(item) for item in value or ()) + "]"
