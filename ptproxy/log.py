"""Logs: structlog, for a console or as JSON lines."""

from __future__ import annotations

from typing import Any

import structlog


def get_logger(name: str) -> Any:
    """A logger that names where it speaks."""
    return structlog.get_logger(name)
