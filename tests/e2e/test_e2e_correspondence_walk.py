"""Random walks of two correspondences; ``PTPROXY_WALKS`` takes more, ``PTPROXY_WALK_SEED`` others."""

import os
from collections import Counter
from unittest import mock

import pytest
from conversation_pair import Person
from correspondence_walk import Fault, Walk

from ptproxy.e2e.conversation import Conversation
from ptproxy.e2e.session import Session

FIRST = int(os.environ.get("PTPROXY_WALK_SEED", "0"))
WALKS = int(os.environ.get("PTPROXY_WALKS", "60"))


def test_walks():
    figures = Counter()
    for seed in range(FIRST, FIRST + WALKS):
        try:
            figures += Walk(seed).run()
        except Fault as fault:
            pytest.fail(f"seed {seed}: {fault}")
    print(dict(figures))
    for what in ("read", "repeated", "forged", "restarts", "killed"):
        assert figures[what] > WALKS, what
    assert figures["sessions"] > figures["walks"]


def bytes_leave_before_the_save(person):
    """A save that comes too late: nothing is stored."""


def the_opening_goes_once(self, kind, body, now, rng, real=Session.write):
    message = real(self, kind, body, now, rng)
    self.opening = b""
    return message


def the_winner_is_whichever_came_first(self):
    return next(iter(self.sessions.values()), None)


def a_session_is_not_named_for_saving(self, session, content, now):
    return content.kind


MUTANTS = [
    (Person, "save", bytes_leave_before_the_save),
    (Session, "write", the_opening_goes_once),
    (Conversation, "session", property(the_winner_is_whichever_came_first)),
    (Conversation, "take_in", a_session_is_not_named_for_saving),
]


@pytest.mark.parametrize(("owner", "name", "mutant"), MUTANTS, ids=[name for _, name, _ in MUTANTS])
def test_a_rule_left_out_is_noticed(owner, name, mutant):
    with mock.patch.object(owner, name, mutant):
        for seed in range(40):
            try:
                Walk(seed).run()
            except Exception:
                return
    pytest.fail("not noticed")
