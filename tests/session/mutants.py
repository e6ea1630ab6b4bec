"""Each rule of the session left out in turn: what the walks must catch.

The table of catches, made by ``scripts/walk --mutants``, is MUTANTS.md beside this file.
R1, R24 and R26 are kept outside ``ptproxy.session`` and have no mutant here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mutants_ending import ENDING
from mutants_others import OTHERS
from mutants_receiving import RECEIVING
from mutants_sending import SENDING
from mutation import applied

MUTANTS = {mutant.name: mutant for mutant in (*RECEIVING, *SENDING, *ENDING, *OTHERS)}
"""Every mutant by its name."""


@contextmanager
def mutated(name: str) -> Iterator[None]:
    """The session without one rule ("" for the session as it is) while the context lasts."""
    if not name:
        yield
        return
    with applied(MUTANTS[name]):
        yield
