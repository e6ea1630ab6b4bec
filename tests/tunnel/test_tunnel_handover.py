"""What one process of a bridge hands to the next: the record, the channel, descriptors."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptproxy.errors import StartError, StateError
from ptproxy.proxy.handover import VARIABLE, Former, Inheritance
from ptproxy.session import BridgeSession, Limits
from ptproxy.session.frames import open_header
from ptproxy.target import Target
from ptproxy.tunnel.handover_channel import CHUNK, MOST_SOCKETS, Channel, Word, close_all
from ptproxy.tunnel.handover_record import (
    CLIENT_ENDED,
    EOF_WAITING,
    TARGET_ENDED,
    BridgeRecord,
    EndRecord,
    Kind,
    TunnelRecord,
)

pytestmark = pytest.mark.skipif(not hasattr(socket, "send_fds"), reason="descriptors travel on POSIX only")
SOON = 20.0
"""Seconds after which what does not come is a failure."""
TARGET = Target("example.org", 443).serialize()


def session(*unread: bytes) -> BridgeSession:
    """A session with a stream for each of these, of which nothing was read."""
    made = BridgeSession(Limits(), None, 0.0)
    made.attach_carrier(1, (), 0.0)
    for number, data in enumerate(unread, 1):
        made.receive_data(1, open_header(2 * number, 0, 0, 1 << 16, TARGET, len(data)) + data, 0.0)
    made.carrier_lost(1, 0.0)
    return made


def record() -> BridgeRecord:
    one, other = session(b"abc", b"", b"d"), session(b"e")
    ends = [
        EndRecord(2, Kind.OPENING, unread=b"abc"),
        EndRecord(4, Kind.COUPLED, socket=1),
        EndRecord(6, Kind.COUPLED, socket=0, unread=b"d"),
    ]
    tunnels = [
        TunnelRecord(b"s" * 16, b"p" * 32, "anna", one.to_record(), ends),
        TunnelRecord(b"t" * 16, b"p" * 32, "", other.to_record(), [EndRecord(2, Kind.OPENING, unread=b"e")]),
    ]
    return BridgeRecord({"version": 1}, ["0.0.0.0:443", "unix:/run/x"], tunnels)


WHOLE = record().serialize()
SOCKETS = 4
"""Two that listen, two targets."""


def test_a_record_comes_back_as_it_was() -> None:
    assert BridgeRecord.parse(WHOLE, SOCKETS) == record()


def test_what_it_holds_is_not_shown() -> None:
    shown = repr(record())
    assert "abc" not in shown
    assert "ssss" not in shown
    assert "version" not in shown


def test_a_truncated_record_is_refused_whole() -> None:
    for size in range(len(WHOLE)):
        with pytest.raises(StateError):
            BridgeRecord.parse(WHOLE[:size], SOCKETS)
    with pytest.raises(StateError):
        BridgeRecord.parse(WHOLE + b"\0", SOCKETS)


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_record_is_refused_or_is_sound(changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(WHOLE)
    for place, value in changes:
        damaged[place] = value
    with contextlib.suppress(StateError):
        assert BridgeRecord.parse(bytes(damaged), SOCKETS).tunnels is not None


@given(st.binary(max_size=300), st.integers(0, 5))
def test_garbage_is_refused(data: bytes, sockets: int) -> None:
    with pytest.raises(StateError):
        BridgeRecord.parse(b"\0\1" + data + b"\0", sockets)
    with pytest.raises(StateError):
        BridgeRecord.parse(data, sockets)


def test_another_version_is_refused() -> None:
    with pytest.raises(StateError, match="version"):
        BridgeRecord.parse(b"\0\2" + WHOLE[2:], SOCKETS)


@pytest.mark.parametrize("sockets", [0, 1, 2, 3, 5])
def test_every_socket_has_its_place(sockets: int) -> None:
    with pytest.raises(StateError):
        BridgeRecord.parse(WHOLE, sockets)


def _ends(**changes: object) -> BridgeRecord:
    changed = record()
    changed.tunnels[0].ends[1] = replace(changed.tunnels[0].ends[1], **changes)
    return changed


def _same_id() -> BridgeRecord:
    changed = record()
    changed.tunnels[1].session_id = changed.tunnels[0].session_id
    return changed


@pytest.mark.parametrize(
    "changed",
    [
        _ends(socket=0),
        _ends(socket=7),
        _ends(kind=Kind.OPENING),
        _ends(kind=Kind.CLOSING),
        _ends(unread=b"more than came"),
        _ends(flags=EOF_WAITING),
        _ends(flags=CLIENT_ENDED),
        _ends(flags=TARGET_ENDED),
        _ends(flags=16),
        _ends(id=8),
        _same_id(),
        replace(record(), listeners=["0.0.0.0:443", "0.0.0.0:443"]),
    ],
)
def test_what_contradicts_itself_is_refused(changed: BridgeRecord) -> None:
    with pytest.raises(StateError):
        BridgeRecord.parse(changed.serialize(), SOCKETS)


# ---- the channel ----------------------------------------------------------------------------------


def pair() -> tuple[Channel, Channel]:
    here, there = Channel.pair()
    descriptor = there.detach()
    os.set_inheritable(descriptor, True)
    return here, Channel.inherited(descriptor)


@contextlib.contextmanager
def talking():
    one, other = pair()
    try:
        yield one, other
    finally:
        one.close()
        other.close()


def test_messages_and_descriptors_arrive() -> None:
    with talking() as (one, other), socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        body = os.urandom(CHUNK)
        thread = threading.Thread(
            target=lambda: (
                one.say(Word.SOCKETS, b"", [sock.fileno()] * MOST_SOCKETS, within=SOON),
                one.say(Word.RECORD, body, within=SOON),
                one.say(Word.END, within=SOON),
            )
        )
        thread.start()
        word, nothing, descriptors = other.hear(SOON)
        try:
            assert (word, nothing, len(descriptors)) == (Word.SOCKETS, b"", MOST_SOCKETS)
            assert not any(os.get_inheritable(descriptor) for descriptor in descriptors)
            assert all(os.path.sameopenfile(descriptor, sock.fileno()) for descriptor in descriptors)
        finally:
            close_all(descriptors)
        assert other.hear(SOON) == (Word.RECORD, body, [])
        assert other.hear(SOON) == (Word.END, b"", [])
        thread.join(SOON)
        one.close()
        with pytest.raises(EOFError):
            other.hear(SOON)


@pytest.mark.parametrize(
    "head", [b"\0\0\0\0\0\0", b"\xff\0\0\0\0\0", b"\1\1\0\0\0\0", b"\1\0\xff\xff\xff\xff"]
)
def test_nonsense_on_the_channel_is_an_error(head: bytes) -> None:
    with talking() as (one, other):
        os.write(one.fileno(), head)
        with pytest.raises(OSError, match="nonsense"):
            other.hear(SOON)


def test_descriptors_that_nobody_announced_are_closed() -> None:
    with talking() as (one, other), socket.socket() as kept:
        there, mine = socket.socketpair()
        raw = socket.socket(fileno=os.dup(one.fileno()))
        with raw, mine:
            socket.send_fds(raw, [b"\4\0\0\0\0\0"], [there.fileno(), kept.fileno()])
            there.close()
            with pytest.raises(OSError, match="nonsense"):
                other.hear(SOON)
            mine.settimeout(SOON)
            assert mine.recv(1) == b""  # the last descriptor of the other end is closed


def test_places_are_heard_though_the_end_follows_at_once() -> None:
    with talking() as (one, other):
        assert other.places_gone() == []
        one.say(Word.UNSENT_GONE, (7).to_bytes(4, "big"), within=SOON)
        one.say(Word.UNSENT_GONE, (9).to_bytes(4, "big"), within=SOON)
        one.close()
        assert other.places_gone() == [7, 9]
        assert other.places_gone() is None


def test_half_a_word_is_waited_for() -> None:
    with talking() as (one, other):
        os.write(one.fileno(), b"\7\0\0\0\0")
        assert other.places_gone() == []


def test_only_a_unix_socket_is_a_channel(tmp_path) -> None:
    with (tmp_path / "file").open("wb") as file, socket.socket() as sock:
        for descriptor in (file.fileno(), 10**6):
            with pytest.raises(StartError):
                Channel.inherited(descriptor)
        duplicate = os.dup(sock.fileno())
        with pytest.raises(StartError):
            Channel.inherited(duplicate)


# ---- what a new process makes of it -----------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "-1", "three", "99999999999999", "1.5"])
def test_a_wrong_word_in_the_environment_is_told(text: str) -> None:
    environment = {VARIABLE: text}
    with pytest.raises(StartError):
        Former.of(environment)
    assert VARIABLE not in environment


def test_a_process_that_follows_nobody() -> None:
    assert Former.of({}) is None


def descriptors(count: int) -> tuple[list[int], list[socket.socket]]:
    """A lock's place and so many sockets; and the other ends, which see them closed."""
    mine, theirs = [], []
    for _ in range(1 + count):
        one, other = socket.socketpair()
        mine.append(one.detach())
        theirs.append(other)
    return mine, theirs


def all_closed(ends: list[socket.socket]) -> bool:
    for end in ends:
        end.settimeout(SOON)
        if end.recv(1) != b"":
            return False
        end.close()
    return True


def test_what_is_inherited_is_closed_if_nobody_takes_it() -> None:
    mine, theirs = descriptors(SOCKETS)
    inherited = Inheritance.parse(mine, WHOLE)
    assert list(inherited.listeners) == ["0.0.0.0:443", "unix:/run/x"]
    assert len(inherited.targets) == 2
    inherited.close()
    assert all_closed(theirs)


@pytest.mark.parametrize("data", [b"", WHOLE[:-1], b"\0\2" + WHOLE[2:]])
def test_what_is_refused_is_closed(data: bytes) -> None:
    mine, theirs = descriptors(SOCKETS)
    with pytest.raises(StateError):
        Inheritance.parse(mine, data)
    assert all_closed(theirs)
