"""What no code awaits: a stranger's broken connection is no error, a fault of ours is one."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest
from structlog.testing import capture_logs

from ptproxy.tunnel.runtime import _unforeseen


@pytest.mark.parametrize(
    ("exception", "told"),
    [
        (ConnectionResetError(), []),
        (ConnectionResetError, []),  # aiofastnet gives the class
        (ssl.SSLError(), []),
        (KeyError("bug"), ["error"]),
        (KeyError, ["error"]),
        (None, ["error"]),
    ],
    ids=repr,
)
def test_what_nobody_awaits(exception: Any, told: list[str]) -> None:
    loop = asyncio.new_event_loop()
    try:
        with capture_logs() as lines:
            _unforeseen(loop, {"message": "it broke", "exception": exception})
    finally:
        loop.close()
    assert [line["log_level"] for line in lines if line["log_level"] != "debug"] == told
