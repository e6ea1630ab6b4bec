"""Tests of the Python API use the small servers and event loops of the local proxy's tests."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "proxy"))
