"""An invite lets one client in, and that one again and again; whoever is kept out loses what is open."""

from __future__ import annotations

import contextlib

import pytest
from live import CODECS, HOST, Bridge, Client, made, ptproxy, read_exactly, through, until


def works(client, echo):
    with through(client.port, echo) as sock:
        sock.sendall(b"hello")
        return read_exactly(sock, 5) == b"hello"


def refused(client):
    """Whether a client was not let in: one line, a status, no traceback."""
    done = ptproxy("client", "-c", client.config)
    lines = [line for line in done.stderr.splitlines() if line.startswith("ptproxy: ")]
    assert len(lines) == 1
    assert "did not let us in" in lines[0]
    assert "Traceback" not in done.stderr
    return done.returncode > 0


def shut_out(client):
    """Whether a client that was let in before is let in no more; it goes on trying."""
    before = client.program.logged()
    program = client.launch()
    try:
        program.ready(rb"listening on .*\n")
        until(
            lambda: "answered by a page, not by the bridge" in program.logged()[len(before) :], program.logged
        )
        return "carrier open" not in program.logged()[len(before) :]
    finally:
        assert program.stop() == 0


@pytest.fixture
def bridge(tmp_path):
    with Bridge(tmp_path / "bridge", access="enrolled") as bridge:
        yield bridge


@pytest.mark.parametrize("codec", CODECS)
def test_an_invite_is_used_once(bridge, tmp_path, codec, echo):
    anna = Client(tmp_path / "anna", bridge.link, codec)
    ben = Client(tmp_path / "ben", bridge.link, codec)
    with anna:
        assert works(anna, echo)
        assert refused(ben)
        assert works(anna, echo)
    with anna:
        assert works(anna, echo)
    assert bridge.stop() == 0
    with bridge, anna:
        assert works(anna, echo)
        assert refused(ben)


def test_a_link_without_invite_lets_nobody_in(bridge, tmp_path):
    link = "&".join(part for part in bridge.link.split("&") if not part.startswith("token="))
    assert link != bridge.link
    assert refused(Client(tmp_path / "anna", link, "websocket"))


def test_invites_are_made_and_withdrawn_while_the_bridge_runs(bridge, tmp_path, echo):
    def invite(*options):
        said = made("invite", "new", bridge.folder, "--no-qr", *options)
        return next(word for word in said.split() if word.startswith("ptproxy://"))

    for_two, withdrawn = invite("--name", "two", "--uses", "2"), invite("--name", "gone")
    made("invite", "revoke", bridge.folder, "gone")
    anna, ben, carl = (Client(tmp_path / name, for_two, "websocket") for name in ("anna", "ben", "carl"))
    started = []
    try:
        until(lambda: "access list read" in bridge.program.logged(), "the bridge has seen the change")
        for client in (anna, ben):
            started.append(client.start())
            assert works(client, echo)
        assert refused(carl)
        assert refused(Client(tmp_path / "dora", withdrawn, "websocket"))
        with through(anna.port, echo) as sock:
            sock.sendall(b"hello")
            assert read_exactly(sock, 5) == b"hello"
            made("invite", "revoke", bridge.folder, "two", "--clients")
            with contextlib.suppress(ConnectionResetError):
                assert sock.recv(1) == b""
    finally:
        for client in started:
            client.stop()
    assert shut_out(anna)
    assert shut_out(ben)


def test_an_open_bridge_lets_everybody_in(tmp_path, echo):
    with Bridge(tmp_path / "open") as bridge:
        for name in ("anna", "ben"):
            with Client(tmp_path / name, bridge.link, "websocket", listen=f"{HOST}:0") as client:
                assert works(client, echo)
