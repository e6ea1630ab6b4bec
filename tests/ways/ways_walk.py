"""Stands beside the tests of ways: ways by number."""

from __future__ import annotations

from ptproxy.ways import Way

NOW = 1_800_000_000.0


def way(number: int, codec: str = "http") -> Way:
    return Way(bytes([number]) * 32, f"192.0.2.{number}", 443, codec)
