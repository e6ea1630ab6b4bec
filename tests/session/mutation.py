"""A session without one of its rules: the machinery of :mod:`mutants`.

An :class:`Edit` names a function of ``ptproxy.session``, a piece of its source that
occurs there once, and what stands there instead. :func:`applied` compiles the edited
function in its own module and puts it in the original's place while the context
lasts. An edit that no longer fits its source is an error, so mutants cannot rot
unseen.
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any

import ptproxy.session as package


@dataclass(frozen=True, slots=True)
class Edit:
    """``old``, found once in the source of ``where`` ("module.Class.function"), becomes ``new``."""

    where: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """A session without one rule."""

    name: str
    rule: str
    left_out: str
    edits: tuple[Edit, ...]
    times: int = 1
    """How many times more walks it takes than the others."""


def mutant(name: str, left_out: str, *edits: tuple[str, str, str], times: int = 1) -> Mutant:
    """A mutant whose name begins with its rule, from ``(where, old, new)`` edits."""
    return Mutant(name, name.partition("-")[0], left_out, tuple(Edit(*edit) for edit in edits), times)


def _holder(where: str) -> tuple[Any, str]:
    """The module or class that holds a function, and the function's name in it."""
    *path, name = where.split(".")
    holder: Any = sys.modules[f"{package.__name__}.{path[0]}"]
    for part in path[1:]:
        holder = getattr(holder, part)
    return holder, name


_SOURCES = {
    key: inspect.getsource(module)
    for key, module in sys.modules.items()
    if key.startswith(package.__name__) and isinstance(module, ModuleType)
}
"""The modules as they were imported, whatever becomes of the files meanwhile."""


def _source(where: str) -> str:
    """The source of one function, without its decorators."""
    name, *path = where.split(".")
    text = _SOURCES[f"{package.__name__}.{name}"]
    node: ast.AST = ast.parse(text)
    for part in path:
        assert isinstance(node, ast.Module | ast.ClassDef)
        node = next(child for child in node.body if getattr(child, "name", "") == part)
    assert isinstance(node, ast.FunctionDef)
    return textwrap.dedent("\n".join(text.split("\n")[node.lineno - 1 : node.end_lineno]))


def _edited(function: FunctionType, edits: list[Edit]) -> FunctionType:
    """The function compiled anew from its edited source, in its own module's names."""
    where = edits[0].where
    source = _source(where).replace("super()", f"super({where.split('.')[1]}, self)")  # no class cell in exec
    for edit in edits:
        old, new = (textwrap.dedent(text).strip("\n") for text in (edit.old, edit.new))
        if "\n" not in old:
            found = source.count(old)
            source = source.replace(old, new)
        else:
            source, found = _replace_block(source, old, new)
        if found != 1:
            raise ValueError(f"{edit.where}: found {found} times: {edit.old!r}")
    names: dict[str, Any] = {}
    exec(
        compile("from __future__ import annotations\n" + source, f"<mutant of {where}>", "exec"),
        function.__globals__,
        names,
    )
    edited = names[function.__name__]
    assert isinstance(edited, FunctionType)
    return edited


def _replace_block(source: str, old: str, new: str) -> tuple[str, int]:
    """Replace lines whatever their common indentation."""
    lines, wanted = source.split("\n"), old.split("\n")
    count = len(wanted)
    places = []
    for at in range(len(lines) - count + 1):
        block = lines[at : at + count]
        if textwrap.dedent("\n".join(block)) == old:
            places.append(at)
    if len(places) == 1:
        at = places[0]
        margin = lines[at][: len(lines[at]) - len(lines[at].lstrip())]
        lines[at : at + count] = textwrap.indent(new, margin).split("\n")
    return "\n".join(lines), len(places)


@contextmanager
def applied(mutant: Mutant) -> Iterator[None]:
    """The session without one rule while the context lasts."""
    by_place: dict[str, list[Edit]] = {}
    for edit in mutant.edits:
        by_place.setdefault(edit.where, []).append(edit)
    undo: list[tuple[Any, str, Any]] = []
    try:
        for where, edits in by_place.items():
            holder, function_name = _holder(where)
            original = inspect.getattr_static(holder, function_name)
            if isinstance(original, property):
                assert isinstance(original.fget, FunctionType)
                changed: Any = property(_edited(original.fget, edits))
            else:
                changed = _edited(original, edits)
            for place in _places(holder, function_name, original):
                undo.append((place, function_name, original))
                setattr(place, function_name, changed)
        yield
    finally:
        for place, function_name, original in undo:
            setattr(place, function_name, original)


def _places(holder: Any, name: str, original: Any) -> list[Any]:
    """Everywhere that a function is known by its name: its class, or every module that imported it."""
    if isinstance(holder, type):
        return [holder]
    prefix = package.__name__
    modules = [module for key, module in sys.modules.items() if key.startswith(prefix)]
    return [module for module in modules if getattr(module, name, None) is original]
