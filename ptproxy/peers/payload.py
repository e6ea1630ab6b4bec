"""What peers say to each other inside a sealed message."""

from __future__ import annotations

from enum import IntEnum


class Presence(IntEnum):
    """Whether somebody is there. The number is part of the wire format."""

    AWAY = 0
    HERE = 1
