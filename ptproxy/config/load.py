"""A configuration file into a model, or every problem of it at once.

Problems read ``FILE:LINE: FIELD: what is wrong, what would be right``, sorted by
line, in :attr:`ptproxy.errors.ConfigError.problems`. Fields that are wrong by
themselves do not hide what is wrong between the others: for those checks they
are taken out, or a stand-in takes their place.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, cast

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from ptproxy.config.directory_model import DirectoryConfig
from ptproxy.config.document import Document, Loc, parse
from ptproxy.config.model import BridgeConfig, ClientConfig, Config, Section
from ptproxy.config.rules import Rule, conflicts
from ptproxy.errors import ConfigError, why

AnyConfig = Config | DirectoryConfig
ROLES: Final[dict[str, type[BridgeConfig] | type[ClientConfig] | type[DirectoryConfig]]] = {
    "bridge": BridgeConfig,
    "client": ClientConfig,
    "directory": DirectoryConfig,
}
_STAND_INS: Final[dict[str, Any]] = {
    "listen": "127.0.0.1:1080",
    "mode": "behind",
    "address": "stand-in.invalid:443",
    "key": "stand-in",
    "state": "stand-in",
    "bridge": f"ptproxy://{'A' * 43}@stand-in.invalid:443?codecs=websocket",
}
"""Valid values for required fields that are missing or wrong, by field."""

Problem = tuple[int, str, str]
"""Line, dotted field (or ``""``), text."""


def load_bridge(
    path: Path, *, codecs: Iterable[str] | None = None, rules: Sequence[Rule] = ()
) -> BridgeConfig:
    """A bridge's configuration; see :func:`load`."""
    return cast("BridgeConfig", load(path, role="bridge", codecs=codecs, rules=rules))


def load_client(
    path: Path, *, codecs: Iterable[str] | None = None, rules: Sequence[Rule] = ()
) -> ClientConfig:
    """A client's configuration; see :func:`load`."""
    return cast("ClientConfig", load(path, role="client", codecs=codecs, rules=rules))


def load_directory(path: Path) -> DirectoryConfig:
    """A directory node's configuration; see :func:`load`."""
    return cast("DirectoryConfig", load(path, role="directory"))


def load(
    path: Path, *, role: str | None = None, codecs: Iterable[str] | None = None, rules: Sequence[Rule] = ()
) -> AnyConfig:
    """Read ``path``; relative file names in it start from its folder.

    ``role``: the only one accepted. ``codecs``: the codec names that exist
    (None: any). ``rules``: more checks than :mod:`ptproxy.config.rules`.
    Raises :class:`~ptproxy.errors.ConfigError`.
    """
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError([f"{path}: there is no such file; ptproxy init writes a configuration"]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"{path}: not a text file in UTF-8"]) from None
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {why(error)}"]) from None
    document = parse(text)
    problems = [(line, _dotted(loc), what) for line, loc, what in document.problems]
    config = None
    if document.data or not problems:
        context: dict[str, Any] = {"folder": path.absolute().parent}
        if codecs is not None:
            context["codecs"] = tuple(codecs)
        config = _validate(document, role, context, rules, problems)
    if problems or config is None:
        lines = (
            f"{path}:{line}: {field}{': ' if field else ''}{what}" for line, field, what in sorted(problems)
        )
        raise ConfigError(list(dict.fromkeys(lines)))
    return config


def _validate(
    document: Document,
    role: str | None,
    context: dict[str, Any],
    rules: Sequence[Rule],
    problems: list[Problem],
) -> AnyConfig | None:
    """The model, or None; whatever is wrong goes to ``problems``."""
    model = _model(document, role, problems)
    if model is None:
        return None
    try:
        config: AnyConfig = model.model_validate(document.data, context=context)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=True)
        for detail in details:
            problems.append(_problem(model, document, cast("dict[str, Any]", detail)))
        broken = [_existing(model, detail["loc"]) for detail in details]
        repaired = _repair(model, document.data, broken)
        try:
            config = model.model_validate(repaired, context=context)
        except ValidationError:
            return None
        problems.extend(_conflicts(config, document, {_dotted(loc) for loc in broken}, rules))
        return None
    problems.extend(_conflicts(config, document, set(), rules))
    return config


def _model(
    document: Document, wanted: str | None, problems: list[Problem]
) -> type[BridgeConfig] | type[ClientConfig] | type[DirectoryConfig] | None:
    """The model for the role that the file says it is for."""
    role = document.data.get("role")
    model = ROLES.get(role) if isinstance(role, str) else None
    if model is None:
        what = "is missing" if role is None else f"there is no role {role!r}"
        problems.append((document.line(("role",)), "role", f"{what}: write role: bridge or role: client"))
        return ROLES.get(wanted or "")
    if wanted is not None and role != wanted:
        line = document.line(("role",))
        problems.append((line, "role", f"this is a {role}'s configuration: run it with ptproxy {role}"))
        return None
    return model


# ---- what pydantic found, in our words --------------------------------------------------------


def _problem(model: type[Section], document: Document, detail: dict[str, Any]) -> Problem:
    loc: Loc = detail["loc"]
    kind: str = detail["type"]
    section, field = _field(model, loc)
    if kind == "extra_forbidden":
        return document.line(loc, key=True), _dotted(loc), _unknown(model, section, loc)
    place = _existing(model, loc)
    return (
        document.line(place),
        _dotted(place),
        _wording(kind, detail, field, str(place[-1]) if place else ""),
    )


def _wording(kind: str, detail: dict[str, Any], field: FieldInfo | None, name: str) -> str:
    """What is wrong and what would be right."""
    context: dict[str, Any] = detail.get("ctx", {})
    example = f"{name}: {field.examples[0]}" if field is not None and field.examples else ""
    value = detail.get("input")
    shown = repr(value) if isinstance(value, str | int | bool) and len(repr(value)) <= 60 else "this value"
    if kind == "missing":
        choices = _choices(field)
        right = f"{name}: {choices}" if choices else example
        return f"is missing: write {right}" if right else "is missing"
    if value is None:
        return f"has no value: write {example or 'one'}, or remove the line"
    if kind == "value_error":
        return str(context.get("error", detail["msg"]))
    if kind == "literal_error":
        expected = str(context["expected"]).replace("'", "")
        options = expected.replace(" or ", ", ").split(", ")
        near = difflib.get_close_matches(str(value), options, n=1)
        return f"{shown} is not possible: write {expected}" + (f" (did you mean {near[0]}?)" if near else "")
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return "expected a section: keys on indented lines below it"
    if kind.startswith("bool"):
        return f"{shown} is neither true nor false"
    if kind.startswith("int"):
        return f"{shown} is no whole number"
    if kind == "greater_than_equal":
        return f"{shown} is too small: at least {context['ge']}"
    if kind == "less_than_equal":
        return f"{shown} is too large: at most {context['le']}"
    return str(detail["msg"]).removeprefix("Value error, ")


def _unknown(model: type[Section], section: type[Section], loc: Loc) -> str:
    """An unknown key: where it belongs, or which known one is nearest."""
    name = str(loc[-1])
    near = difflib.get_close_matches(name, list(section.model_fields), n=1, cutoff=0.6)
    if near and near[0].replace("_", "") == name.replace("-", "").replace("_", "").lower():
        return f"unknown key: did you mean {near[0]}?"
    elsewhere = [dotted for dotted in _all_fields(model) if dotted.rpartition(".")[2] == name]
    if elsewhere:
        return f"unknown key here: it belongs at {elsewhere[0]}"
    for role, other in ROLES.items():
        if other is not model and name in _all_fields(other):
            return f"unknown key: only a {role} has it"
    if near:
        return f"unknown key: did you mean {near[0]}?"
    return f"unknown key: known here are {', '.join(section.model_fields)}"


def _all_fields(model: type[Section], prefix: str = "") -> Iterator[str]:
    """Every field of a model and its sections, dotted."""
    for name, field in model.model_fields.items():
        yield prefix + name
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Section):
            yield from _all_fields(inner, f"{prefix}{name}.")


def _choices(field: FieldInfo | None) -> str:
    """The values of a field that has a few."""
    options: tuple[object, ...] = getattr(field.annotation, "__args__", ()) if field is not None else ()
    return " or ".join(str(option) for option in options) if all(type(o) is str for o in options) else ""


def _field(model: type[Section], loc: Loc) -> tuple[type[Section], FieldInfo | None]:
    """The innermost section on the way to ``loc``, and the field there."""
    section, field = model, None
    for part in loc:
        field = section.model_fields.get(str(part))
        if field is None:
            break
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Section):
            section = inner
    return section, field


def _existing(model: type[Section], loc: Loc) -> Loc:
    """``loc`` without what pydantic adds behind a field's own place (union members and the like)."""
    section: type[Section] | None = model
    for count, part in enumerate(loc):
        if section is None:
            return loc[:count]
        field = section.model_fields.get(str(part))
        inner = field.annotation if field is not None else None
        section = inner if isinstance(inner, type) and issubclass(inner, Section) else None
    return loc


def _dotted(loc: Loc) -> str:
    return ".".join(str(part) for part in loc)


# ---- checks between fields, in spite of what is wrong -------------------------------------------


def _repair(model: type[Section], data: dict[str, Any], broken: list[Loc]) -> dict[str, Any]:
    """``data`` without its wrong values, stand-ins where something is required."""
    repaired = copy.deepcopy(data)
    for loc in broken:
        place: Any = repaired
        for part in loc[:-1]:
            place = place.get(part) if isinstance(place, dict) else None
        if isinstance(place, dict):
            place.pop(loc[-1], None)
        if len(loc) == 1 and loc[0] in _STAND_INS and str(loc[0]) in model.model_fields:
            repaired[str(loc[0])] = _STAND_INS[str(loc[0])]
    repaired["role"] = next(role for role, known in ROLES.items() if known is model)
    return repaired


def _conflicts(
    config: AnyConfig, document: Document, broken: set[str], rules: Sequence[Rule]
) -> Iterator[Problem]:
    """What does not fit together, leaving out whatever looked at a broken field."""
    if isinstance(config, DirectoryConfig):
        return  # its fields stand for themselves
    for rule in (conflicts, *rules):
        for conflict in rule(config):
            looked_at = (conflict.field, *conflict.others)
            if not any(name == bad or name.startswith(f"{bad}.") for name in looked_at for bad in broken):
                loc: Loc = tuple(conflict.field.split("."))
                yield document.line(loc), conflict.field, conflict.text
