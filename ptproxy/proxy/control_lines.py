"""The lines of the control socket: one JSON object each way (``CONTROL.md``), without I/O."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from ptproxy.errors import RemoteProtocolError

VERSION: Final = 1
"""Of the lines; who speaks another one is told so."""
MAX_REQUEST: Final = 4_096
"""Bytes of a request with its end: the longest there is has some 350."""
MAX_REPLY: Final = 1 << 20
"""Bytes of a reply with its end: lists in it are bounded so that it never comes near."""
MAX_NAME: Final = 32
"""Characters of what is asked for."""
MAX_BRIDGE: Final = 300
"""Characters of a bridge's name: a host has 253."""
MAX_PROBLEMS: Final = 64
"""Lines that say why something was refused; further ones are counted."""
MAX_PROBLEM: Final = 2_000
"""Characters of one of them."""


class ControlError(RemoteProtocolError):
    """A line that is no request, or no reply."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for: ``state``, ``health``, ``reload`` or ``prefer``."""

    ask: str
    bridge: str = ""
    """``HOST:PORT``, for ``prefer``."""

    @classmethod
    def parse(cls, line: bytes) -> Request:
        """A line without its end; raises :class:`ControlError`."""
        data = _object(line, MAX_REQUEST)
        ask = data.get("ask")
        if not isinstance(ask, str) or not ask.isascii() or not 0 < len(ask) <= MAX_NAME:
            raise ControlError("a request names what it asks for")
        bridge = data.get("bridge", "")
        if not isinstance(bridge, str) or len(bridge) > MAX_BRIDGE:
            raise ControlError("a bridge is named HOST:PORT")
        return cls(ask, bridge)

    def serialize(self) -> bytes:
        """The line with its end."""
        about = {"bridge": self.bridge} if self.bridge else {}
        return _line({"version": VERSION, "ask": self.ask, **about})


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer, or the reasons why there is none."""

    answer: dict[str, Any] | None = None
    problems: tuple[str, ...] = ()

    @classmethod
    def refusal(cls, problems: Sequence[str]) -> Reply:
        """What was asked is not done; at least one reason, each a line for a person."""
        told = [problem[:MAX_PROBLEM] for problem in problems[:MAX_PROBLEMS]]
        if len(problems) > MAX_PROBLEMS:
            told[-1] = f"... and {len(problems) - MAX_PROBLEMS + 1} more"
        return cls(None, tuple(told))

    @classmethod
    def parse(cls, line: bytes) -> Reply:
        """A line without its end; raises :class:`ControlError`."""
        data = _object(line, MAX_REPLY)
        answer, problems = data.get("answer"), data.get("problems")
        if isinstance(answer, dict) and problems is None:
            return cls(answer)
        if answer is not None or not isinstance(problems, list) or not 0 < len(problems) <= MAX_PROBLEMS:
            raise ControlError("a reply has an answer, or says why not")
        if not all(isinstance(each, str) for each in problems):
            raise ControlError("reasons are text")
        return cls(None, tuple(problems))

    def serialize(self) -> bytes:
        """The line with its end; one that would be too long is a refusal."""
        said: dict[str, Any] = {"version": VERSION}
        if self.answer is not None:
            said["answer"] = self.answer
        else:
            said["problems"] = list(self.problems)
        line = _line(said)
        return line if len(line) <= MAX_REPLY else Reply(None, ("the answer is too long",)).serialize()


def _line(data: dict[str, Any]) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode() + b"\n"


def _object(line: bytes, most: int) -> dict[str, Any]:
    """The JSON object of a line, of our version; raises :class:`ControlError`."""
    if len(line) >= most:
        raise ControlError("the line is too long")
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        raise ControlError("not a line of JSON") from None
    if not isinstance(data, dict):
        raise ControlError("not a JSON object")
    if type(data.get("version")) is not int or data["version"] != VERSION:
        raise ControlError(f"version {VERSION} is spoken here")
    return data
