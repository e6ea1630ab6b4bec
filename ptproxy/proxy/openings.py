"""The replay filter of a running bridge, kept over a clean restart.

It is written when the bridge stops and removed when it is read: one snapshot
serves one start. After a crash there is none, and openings made before the
start are refused, which is safe.
"""

from __future__ import annotations

import time
from typing import Final

from ptproxy.auth.replay import ReplayFilter
from ptproxy.errors import ConfigError
from ptproxy.log import get_logger
from ptproxy.proxy.shared_openings import SharedOpenings
from ptproxy.state import Document

DOCUMENT: Final = "openings"
"""Name of the document in the state folder."""

log = get_logger(__name__)


def take_up(document: Document) -> ReplayFilter:
    """The filter that the last run left, or a new one that begins now; raises StartError."""
    data = document.read()
    if not data:
        return ReplayFilter(int(time.time()))
    document.write({})
    try:
        return ReplayFilter.restore(data)
    except ConfigError as error:
        log.warning("starting a new replay filter", why=str(error))
        return ReplayFilter(int(time.time()))


def put_down(document: Document, replay: ReplayFilter | SharedOpenings) -> None:
    """Leave the filter for the next run; to be called when nothing is examined any more."""
    document.write(replay.snapshot())
