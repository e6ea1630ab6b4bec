r"""The ways in which parent programs write ``key=value``, each with its escapes.

==========================  ===========================  ==================  =========================
where                       looks like                   ``\`` before        source
==========================  ===========================  ==================  =========================
SOCKS user and password     ``k=v;k=v``                  ``\ = ;``           pt-spec 3.5
server transport options    ``name:k=v;name:k=v``        ``\ : = ;``         pt-spec 3.2.3
SMETHOD ARGS                ``k=v,k=v``                  ``\ , =``           pt-spec 3.3.3
SIP003 plugin options       ``k=v;k``                    ``\ ; =``           SIP003, "Passing arguments"
==========================  ===========================  ==================  =========================

Reading is strict where a mistake would go unnoticed: a key that stands twice or
is empty is an error, and so is a lone backslash at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from ptproxy.errors import FrontError

MAX_TEXT: Final = 4096
"""Characters of all arguments together; tor allows 510 bytes, Shadowsocks' own limits are about here."""
BARE_VALUE: Final = "1"
"""What a key without a value means in SIP003."""


T = TypeVar("T")


class ArgumentError(FrontError):
    """Arguments that a parent program gave us and that cannot be read; the text names no value."""


def read_value(key: str, read: Callable[[str], T], value: str) -> T:
    """``read(value)``; its ``ValueError`` becomes one that names the key alone.

    The text ends in a parent's log, and the values of a bridge line are the secret.
    """
    try:
        return read(value)
    except ValueError:
        raise ValueError(f"its {key}= is none: was it copied whole?") from None


def parse_socks(user: bytes, password: bytes) -> dict[str, str]:
    """The arguments that tor puts into a SOCKS5 user and password; one NUL stands for no password."""
    raw = user + (b"" if password == b"\0" else password)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ArgumentError("the arguments are not UTF-8") from None
    return _pairs(text, bare=None)


def parse_server_options(text: str) -> dict[str, dict[str, str]]:
    """``TOR_PT_SERVER_TRANSPORT_OPTIONS``: the options of each transport."""
    found: dict[str, dict[str, str]] = {}
    for piece in _pieces(text, ";"):
        name, colon, rest = _divide(piece, ":")
        if not colon or not name:
            raise ArgumentError("an option names no transport: expected TRANSPORT:KEY=VALUE")
        _add(found.setdefault(_plain(name), {}), rest, bare=None)
    return found


def parse_options(text: str) -> dict[str, str]:
    """``SS_PLUGIN_OPTIONS``; a key without a value has :data:`BARE_VALUE`."""
    return _pairs(text, bare=BARE_VALUE)


def serialize_arguments(arguments: Mapping[str, str]) -> str:
    """``ARGS`` of an SMETHOD line."""
    return ",".join(f"{_escape(key, ',=')}={_escape(value, ',=')}" for key, value in arguments.items())


def serialize_options(options: Mapping[str, str]) -> str:
    """A SIP003 option string; the value :data:`BARE_VALUE` is left out."""
    return ";".join(
        _escape(key, ";=") if value == BARE_VALUE else f"{_escape(key, ';=')}={_escape(value, ';=')}"
        for key, value in options.items()
    )


def _pairs(text: str, *, bare: str | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for piece in _pieces(text, ";"):
        _add(found, piece, bare=bare)
    return found


def _pieces(text: str, separator: str) -> list[str]:
    """The pieces between separators that no backslash stands before; one at the very end may be left over."""
    if len(text) > MAX_TEXT:
        raise ArgumentError(f"more than {MAX_TEXT} characters of arguments")
    pieces: list[str] = []
    rest, more = text, separator
    while more:
        piece, more, rest = _divide(rest, separator)
        if piece or more or pieces:
            pieces.append(piece)
    if pieces and not pieces[-1]:
        pieces.pop()
    return pieces


def _add(found: dict[str, str], piece: str, *, bare: str | None) -> None:
    """One ``key=value``, still escaped."""
    key, equals, value = _divide(piece, "=")
    if not key:
        raise ArgumentError("an argument has no key")
    if not equals and bare is None:
        raise ArgumentError("an argument has no equals sign: expected KEY=VALUE")
    name = _plain(key)
    if name in found:
        raise ArgumentError("an argument stands twice")
    found[name] = _plain(value) if equals else str(bare)


def _divide(text: str, separator: str) -> tuple[str, str, str]:
    """As :meth:`str.partition`, at the first separator that no backslash stands before."""
    place = 0
    while place < len(text):
        if text[place] == "\\":
            place += 1
        elif text[place] == separator:
            return text[:place], separator, text[place + 1 :]
        place += 1
    return text, "", ""


def _plain(text: str) -> str:
    """``text`` without its escapes."""
    plain = []
    characters = iter(text)
    for character in characters:
        if character == "\\":
            character = next(characters, "")  # noqa: PLW2901  (the one that was escaped)
            if not character:
                raise ArgumentError("the arguments end within an escape")
        plain.append(character)
    return "".join(plain)


def _escape(text: str, special: str) -> str:
    return "".join(f"\\{character}" if character in f"\\{special}" else character for character in text)
