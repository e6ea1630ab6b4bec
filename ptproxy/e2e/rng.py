"""Where randomness comes from: a parameter of whatever needs it, never a module's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Rng: TypeAlias = Callable[[int], bytes]
"""That many fresh random bytes: ``os.urandom`` in production, ``random.Random(seed).randbytes`` in tests."""
