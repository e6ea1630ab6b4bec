"""YAML text into plain data that remembers where each value stands.

Read are mappings with text keys, lists, text, whole numbers, ``true``/``false``
and nothing (``null``, ``~``). YAML 1.1's surprises are left out: ``no`` and
``off`` stay text, ``1:30`` is no number in base 60, dates stay text, tags and
merge keys are errors. Every problem is kept with its line, so that all of them
can be told at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

MAX_DEPTH: Final = 16
"""Levels of nesting; a configuration has four."""
MAX_TEXT: Final = 1 << 20
"""Characters of a configuration file."""

Loc = tuple[str | int, ...]
"""A value's place: keys and list indices from the top."""

_BOOL: Final = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
_NULL: Final = re.compile(r"^(?:~|null|Null|NULL|)$")
_INT: Final = re.compile(r"^[-+]?[0-9]{1,18}$")


def plain_loader(base: Any) -> Any:
    """One of PyYAML's safe loaders with YAML 1.2's core types only."""
    loader: Any = type("PlainLoader", (base,), {"yaml_implicit_resolvers": {}})
    loader.add_implicit_resolver("tag:yaml.org,2002:bool", _BOOL, list("tTfF"))
    loader.add_implicit_resolver("tag:yaml.org,2002:null", _NULL, ["~", "n", "N", ""])
    loader.add_implicit_resolver("tag:yaml.org,2002:int", _INT, list("-+0123456789"))
    return loader


LOADER: Final = plain_loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader))
"""The fastest there is: libyaml's, about ten times as fast as the one in Python."""


@dataclass(slots=True)
class Document:
    """What a file says."""

    data: dict[str, Any] = field(default_factory=dict)
    lines: dict[Loc, int] = field(default_factory=dict)
    """Line (from 1) on which each value starts."""
    key_lines: dict[Loc, int] = field(default_factory=dict)
    """Line on which each mapping key stands."""
    problems: list[tuple[int, Loc, str]] = field(default_factory=list)

    def line(self, loc: Loc, *, key: bool = False) -> int:
        """The line of the value (or key) at ``loc``, or of the nearest thing around it that exists."""
        first, second = (self.key_lines, self.lines) if key else (self.lines, self.key_lines)
        while loc:
            found = first.get(loc) or second.get(loc)
            if found is not None:
                return found
            loc, first, second = loc[:-1], self.key_lines, self.lines
        return 1


def parse(text: str, loader: Any = LOADER) -> Document:
    """Read YAML text; never raises for what it holds, see :attr:`Document.problems`."""
    document = Document()
    if len(text) > MAX_TEXT:
        document.problems.append(
            (1, (), f"the file has more than {MAX_TEXT} characters: is it a configuration?")
        )
        return document
    try:
        reader = loader(text)
        try:
            node = reader.get_single_node()
        finally:
            reader.dispose()
    except yaml.YAMLError as error:
        document.problems.append(_syntax(error))
        return document
    except (RecursionError, ValueError):
        document.problems.append((1, (), "not readable as YAML"))
        return document
    if node is None:
        document.problems.append((1, (), "the file is empty; ptproxy init writes a configuration"))
    elif not isinstance(node, yaml.MappingNode):
        document.problems.append((_line(node), (), "expected a mapping, as in 'role: bridge'"))
    else:
        document.data = _mapping(node, (), document)
    return document


def _syntax(error: yaml.YAMLError) -> tuple[int, Loc, str]:
    """A YAML error as a problem, with the commonest cause as advice."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    line = mark.line + 1 if mark is not None else 1
    what = getattr(error, "problem", None) or str(error).splitlines()[0]
    advice = "check indentation, the space after each colon, and quotes around text with ': ' or '#'"
    if "character" in what and "token" in what:
        advice = (
            "indent with spaces, not tabs, and put quotes around text that starts with a special character"
        )
    return line, (), f"not valid YAML: {what}; {advice}"


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _mapping(node: yaml.MappingNode, loc: Loc, document: Document) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = _line(key_node)
        if not isinstance(key_node, yaml.ScalarNode) or key_node.value == "<<":
            document.problems.append((line, loc, "a key is plain text here"))
            continue
        key = key_node.value
        at = (*loc, key)
        if key in found:
            first = document.key_lines[at]
            document.problems.append((line, at, f"stands twice (first on line {first}): keep one of the two"))
            continue
        document.key_lines[at] = line
        found[key] = _value(value_node, at, document)
    return found


def _value(node: yaml.Node, loc: Loc, document: Document) -> Any:
    document.lines[loc] = _line(node)
    if len(loc) > MAX_DEPTH:
        document.problems.append((_line(node), loc, "nested too deeply"))
        return None
    kind = node.tag.rpartition(":")[2]
    if isinstance(node, yaml.MappingNode) and kind == "map":
        return _mapping(node, loc, document)
    if isinstance(node, yaml.SequenceNode) and kind == "seq":
        return [_value(item, (*loc, index), document) for index, item in enumerate(node.value)]
    if isinstance(node, yaml.ScalarNode):
        if kind == "str":
            return node.value
        if kind == "bool" and _BOOL.match(node.value):
            return node.value.lower() == "true"
        if kind == "int" and _INT.match(node.value):
            return int(node.value)
        if kind == "null":
            return None
    document.problems.append((_line(node), loc, f"the tag {node.tag!r} has no meaning here: remove it"))
    return None
