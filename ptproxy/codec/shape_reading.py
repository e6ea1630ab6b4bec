"""Reading a shape's mapping: every figure checked against its limits, every error with its place."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any, Final

from ptproxy.errors import RemoteProtocolError

MAX_KEYS: Final = 64
"""Keys of one mapping; no part of a shape has a third of that."""

MOST: Final = 1e300
"""What a number is below, whatever its key's limits: JSON's may have thousands of digits."""

_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{1,9})?")
_WORD = re.compile(r"[a-z][a-z0-9_-]{0,31}")


class ShapeError(RemoteProtocolError):
    """A mapping that is no shape, or that asks for more than its limits; the text names the place."""


class Place:
    """One mapping of a shape. What is asked for is ticked off; :meth:`done` refuses the rest."""

    __slots__ = ("_asked", "_data", "_name")

    def __init__(self, data: object, name: str = "") -> None:
        if not isinstance(data, Mapping) or len(data) > MAX_KEYS:
            raise ShapeError(f"{name or 'shape'}: expected keys and values")
        if not all(isinstance(key, str) for key in data):
            raise ShapeError(f"{name or 'shape'}: a key that is no text")
        self._data: Mapping[str, Any] = data
        self._name = name
        self._asked: list[str] = []

    def wrong(self, key: str, text: str) -> ShapeError:
        """What is wrong with a key."""
        return ShapeError(f"{self._name}{'.' if self._name else ''}{key}: {text}")

    def has(self, key: str) -> bool:
        """Whether the key is there."""
        self._asked.append(key)
        return key in self._data

    def done(self) -> None:
        """Everything has been asked for."""
        for key in self._data:
            if key not in self._asked:
                near = difflib.get_close_matches(key[:64], self._asked, n=1)
                raise self.wrong(
                    ascii(key[:64])[1:-1], "unknown key" + (f": did you mean {near[0]}?" if near else "")
                )

    def section(self, key: str) -> Place | None:
        """A mapping inside; None where there is none, or an empty one."""
        value = self._data.get(key) if self.has(key) else None
        return Place(value, f"{self._name}{'.' if self._name else ''}{key}") if value else None

    def text(self, key: str, most: int, default: str) -> str:
        """Text of at most ``most`` printable characters on one line."""
        if not self.has(key):
            return default
        value = self._data[key]
        if not isinstance(value, str) or len(value) > most or not value.isprintable():
            raise self.wrong(key, f"expected a line of at most {most} characters")
        return value

    def choice(self, key: str, options: tuple[str, ...], default: str | None = None) -> str:
        """One of several words."""
        if not self.has(key) and default is not None:
            return default
        value = self._data.get(key)
        if value not in options:
            raise self.wrong(key, f"expected {' or '.join(options)}")
        return str(value)

    def names(self, key: str, default: tuple[str, ...] = (), *, most: int) -> tuple[str, ...]:
        """A word or a list of different ones, as names of codecs are."""
        if not self.has(key):
            return default
        value = self._data[key]
        words = [value] if isinstance(value, str) else value
        if not isinstance(words, list) or len(words) > most or len(set(map(str, words))) < len(words):
            raise self.wrong(key, f"expected a name or up to {most} different ones")
        if not all(isinstance(word, str) and _WORD.fullmatch(word) for word in words):
            raise self.wrong(key, "a name is a-z, then a-z 0-9 _ -, 32 at most")
        return tuple(words)

    def number(self, key: str, least: float, most: float, default: float | None = None) -> float:
        """A number within limits."""
        if not self.has(key):
            if default is None:
                raise self.wrong(key, "is missing")
            return default
        return self._number(key, self._data[key], least, most)

    def whole(self, key: str, least: int, most: int, default: int | None = None) -> int:
        """A whole number within limits."""
        value = self.number(key, least, most, default)
        if value != int(value):
            raise self.wrong(key, "expected a whole number")
        return int(value)

    def numbers(
        self, key: str, low: float, high: float, default: tuple[float, ...] = (), *, least: int, most: int
    ) -> tuple[float, ...]:
        """``least`` to ``most`` numbers within limits, none lower than the one before it."""
        if not self.has(key):
            return default
        values = self._data[key]
        if not isinstance(values, list) or not least <= len(values) <= most:
            raise self.wrong(
                key, f"expected {least if least == most else f'{least} to {most}'} numbers in [ ]"
            )
        found = tuple(self._number(key, value, low, high) for value in values)
        if list(found) != sorted(found):
            raise self.wrong(key, "expected rising numbers")
        return found

    def sizes(
        self, key: str, low: int, high: int, default: tuple[int, ...] = (), *, least: int, most: int
    ) -> tuple[int, ...]:
        """As :meth:`numbers`, whole ones."""
        found = self.numbers(key, low, high, default, least=least, most=most)
        if any(value != int(value) for value in found):
            raise self.wrong(key, "expected whole numbers")
        return tuple(int(value) for value in found)

    def items(self, key: str, *, most: int) -> list[Place]:
        """A list of up to ``most`` lists of numbers, each to be read by :meth:`sizes` as ``key``."""
        values = self._data.get(key)
        if not isinstance(values, list) or not 0 < len(values) <= most:
            raise self.wrong(key, f"expected 1 to {most} lists in [ ]")
        return [Place({key: value}, self._name) for value in values]

    def _number(self, key: str, value: object, least: float, most: float) -> float:
        if isinstance(value, str) and _NUMBER.fullmatch(value):
            value = float(value)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < MOST:
            raise self.wrong(key, "expected a number")
        if not least <= value <= most:
            raise self.wrong(key, f"{value:g} is not between {least:g} and {most:g}")
        return value
