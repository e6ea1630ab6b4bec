"""Shapes as files: the built-in ones of this package, and an operator's own.

An operator's file need not hold everything: classes that it lacks are the
built-in ones, and ``inherit`` reaches those as well.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final

from ptproxy.codec.shape import CLASSES, Shape, ShapeError
from ptproxy.config.document import parse
from ptproxy.errors import StartError, why

DEFAULT: Final = "browse"
"""The shape of whoever chose none and was pushed none."""
MAX_FILE: Final = 64 << 10
"""Bytes of a file; the built-in ones have 2,000."""
_ORDER: Final = ("browse", "bulk", "chat")
"""Built-in files; each is read on top of those before it."""


@cache
def built_in(start: str = DEFAULT) -> Shape:
    """The built-in shapes of all classes; ``start`` is the class of streams that give no sign."""
    if start not in CLASSES:
        raise StartError(f"shape: there is no built-in shape {start!r}, only {', '.join(CLASSES)}")
    shape: Shape | None = None
    sources = []
    for name in _ORDER:
        text = (files("ptproxy") / "codec" / "shapes" / f"{name}.yaml").read_text("utf-8")
        shape = Shape.parse(parse(text).data, shape)
        sources.append(shape.source)
    assert shape is not None
    return replace(shape, name=start, start=start, source="; ".join(sources))


def load_shape(choice: str | Path) -> Shape | None:
    """The shape that a configuration chose by name or file, None for ``"none"``.

    Raises :class:`StartError` where it cannot be used.
    """
    if isinstance(choice, str):
        return built_in(choice) if choice != "none" else None
    try:
        if choice.stat().st_size > MAX_FILE:
            raise StartError(f"shape: {choice} is too large for a shape")
        document = parse(choice.read_text("utf-8-sig"))
    except UnicodeDecodeError:
        raise StartError(f"shape: {choice} is not a text file in UTF-8") from None
    except OSError as error:
        raise StartError(f"shape: {choice} cannot be read: {why(error)}") from None
    for line, _, what in document.problems:
        raise StartError(f"shape: {choice}:{line}: {what}")
    try:
        return Shape.parse(document.data, built_in())
    except ShapeError as error:
        raise StartError(f"shape: {choice}: {error}") from None
