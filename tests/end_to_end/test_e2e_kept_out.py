"""Who may no longer use a bridge: the stream that is open ends, no other begins, and the person sees why."""

from __future__ import annotations

import contextlib

import pytest
from live import CODECS, Bridge, Client, SocksRefused, made, read_exactly, through, until

from ptproxy.errors import StartError
from ptproxy.proxy.control_asking import Asking

QUOTA = 1 << 20
BLOCK = bytes(64 << 10)

SEEN = {
    "revoke": ("revoked", "the bridge's operator has revoked this client's key"),
    "remove": ("revoked", "the bridge's operator has revoked this client's key"),
    "disable": ("disabled", "the bridge's operator has disabled this account"),
    "expire": ("expired", "access to the bridge has ended; ask its operator"),
    "quota": ("quota", "this month's volume at the bridge is used up"),
}
"""What happens to somebody, the state that the client then knows, and what its log says."""


class Person:
    """A client of an account of its own, with a stream that is in use."""

    def __init__(self, folder, bridge, name, codec, echo):
        self.name, self.bridge, self.echo = name, bridge, echo
        quota = ("--quota", QUOTA) if name == "quota" else ()
        made("account", "add", bridge.folder, name, *quota)
        said = made("account", "invite", bridge.folder, name, "--no-qr")
        link = next(word for word in said.split() if word.startswith("ptproxy://"))
        self.client = Client(folder / name, link, codec, shape="none", tls__fingerprint="python")

    def told(self):
        """What the client's status has of the account; None: nothing yet."""
        with contextlib.suppress(StartError), Asking(self.client.folder / "state") as running:
            return (running.ask("state")["bridges"] or [{}])[0].get("account")
        return None

    def is_cut(self, sock):
        """Whether the stream has ended, having tried to use it."""
        try:
            sock.sendall(BLOCK)
            read_exactly(sock, len(BLOCK))
        except ConnectionError:
            return True
        return False

    def gets_nothing(self):
        """Whether no other stream works."""
        try:
            with through(self.client.port, self.echo) as sock:
                return self.is_cut(sock)
        except (SocksRefused, ConnectionError):
            return True


@pytest.fixture(scope="module")
def bridge(folder):
    with Bridge(folder / "bridge", access="enrolled") as bridge:
        yield bridge


@pytest.fixture(scope="module")
def people(folder, bridge, echo):
    """All at once: a client asks how it stands only seconds after its start, which has a page's look."""
    codecs = dict(zip(SEEN, CODECS * 2, strict=False))
    found = {name: Person(folder, bridge, name, codecs[name], echo) for name in SEEN}
    with contextlib.ExitStack() as stack:
        for person in found.values():
            stack.enter_context(person.client)
        yield found


ACTS = {
    "revoke": ("invite", "revoke"),
    "remove": ("account", "remove"),
    "disable": ("account", "disable"),
    "expire": ("account", "set"),
}


@pytest.mark.parametrize("what", SEEN)
def test_a_live_session_ends_and_the_person_sees_why(people, bridge, echo, what):
    person = people[what]
    state, words = SEEN[what]
    until(lambda: (person.told() or {}).get("state") == "in force", person.client.program.logged)
    with through(person.client.port, echo) as sock:
        assert not person.is_cut(sock)
        assert words not in person.client.program.logged()  # before there is a reason
        if what in ACTS:
            more = ("--expires", "1s") if what == "expire" else ()
            made(*ACTS[what], bridge.folder, what, *more)
        until(lambda: person.is_cut(sock), "the stream that was open ends")
    until(lambda: (person.told() or {}).get("state") == state, person.told)
    until(lambda: words in person.client.program.logged(), person.client.program.logged)
    until(person.gets_nothing, "no other stream works")
    shown = made("status", "-c", person.client.config, "--once")
    assert {"quota": "the month's volume is used up", "expired": "its time is over"}.get(
        state, state
    ) in shown
    others = [each for each in people.values() if (each.told() or {}).get("state") == "in force"]
    for other in others[:1]:  # nobody else is touched
        with through(other.client.port, echo) as sock:
            sock.sendall(b"still")
            assert read_exactly(sock, 5) == b"still"
