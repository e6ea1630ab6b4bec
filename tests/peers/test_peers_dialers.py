"""A tunnel for each key: opened by the first dial, closed when nobody uses it, few at a time."""

from __future__ import annotations

import ast
import asyncio
from pathlib import Path
from typing import ClassVar

import pytest
from messenger_live import link_of
from peers_live import run, until

from ptproxy import peers
from ptproxy.errors import AuthenticationError, DialError, Reason, StartError
from ptproxy.peers.dialers import MAX_KNOWN, Errand, Purpose, TunnelDialers
from ptproxy.target import Target

TARGET = Target.service("mailbox")
LINK = link_of()


class FakeStream:
    def __init__(self) -> None:
        self.closing = False

    def is_closing(self):
        return self.closing

    def close(self):
        self.closing = True


class FakeTunnel:
    """A tunnel's dialer that dials nothing."""

    made: ClassVar[list] = []
    error = None
    slow = False

    def __init__(self, link, key) -> None:
        self.link, self.key = link, key
        self.started = self.stopped = 0
        self.made.append(self)

    async def start(self):
        self.started += 1
        if self.slow:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error

    async def stop(self):
        self.stopped += 1
        await asyncio.sleep(0)

    async def dial(self, target, protocol, first_data=b""):
        await asyncio.sleep(0)
        return FakeStream()

    async def associate(self, receiver):
        return "association"


@pytest.fixture(autouse=True)
def no_tunnels():
    FakeTunnel.made = []
    FakeTunnel.error, FakeTunnel.slow = None, False


def purpose(number=1):
    return Purpose(Errand.DEPOSIT, b"", number.to_bytes(32, "big"))


def test_one_tunnel_for_a_key_and_another_for_another():
    async def main():
        dialers = TunnelDialers(FakeTunnel)
        one, same, other = (dialers.dialer(LINK, purpose(number)) for number in (1, 1, 2))
        assert FakeTunnel.made == []
        await asyncio.gather(*(each.dial(TARGET, asyncio.Protocol()) for each in (one, same, other, one)))
        assert [tunnel.started for tunnel in FakeTunnel.made] == [1, 1]
        assert len({tunnel.key.public for tunnel in FakeTunnel.made}) == 2
        assert await one.associate(None) == "association"
        await dialers.close()
        assert [tunnel.stopped for tunnel in FakeTunnel.made] == [1, 1]

    run(main)


def test_a_tunnel_without_streams_is_closed_and_opened_again():
    async def main():
        dialers = TunnelDialers(FakeTunnel, idle=0.01)
        dialer = dialers.dialer(LINK, purpose())
        stream = await dialer.dial(TARGET, asyncio.Protocol())
        await asyncio.sleep(0.05)
        assert FakeTunnel.made[0].stopped == 0
        stream.close()
        await until(lambda: FakeTunnel.made[0].stopped)
        await dialer.dial(TARGET, asyncio.Protocol())
        assert len(FakeTunnel.made) == 2
        await dialers.close()

    run(main)


@pytest.mark.parametrize(
    "error", [DialError(Reason.TIMED_OUT), AuthenticationError("not the bridge"), StartError("no library")]
)
def test_whatever_keeps_a_tunnel_from_opening_is_a_dial_error(error):
    async def main():
        dialers = TunnelDialers(FakeTunnel)
        dialer = dialers.dialer(LINK, purpose())
        FakeTunnel.error = error
        with pytest.raises(DialError):
            await dialer.dial(TARGET, asyncio.Protocol())
        assert FakeTunnel.made[0].stopped == 1
        FakeTunnel.error = None
        await dialer.dial(TARGET, asyncio.Protocol())
        await dialers.close()

    run(main)


def test_what_cannot_even_be_made_is_a_dial_error():
    def broken(link, key):
        raise StartError("no library")

    async def main():
        dialers = TunnelDialers(broken)
        with pytest.raises(DialError, match="no library"):
            await dialers.dialer(LINK, purpose()).dial(TARGET, asyncio.Protocol())
        await dialers.close()

    run(main)


def test_a_dial_that_is_cancelled_leaves_no_tunnel():
    async def main():
        FakeTunnel.slow = True
        dialers = TunnelDialers(FakeTunnel)
        dialing = asyncio.ensure_future(dialers.dialer(LINK, purpose()).dial(TARGET, asyncio.Protocol()))
        await until(lambda: FakeTunnel.made)
        dialing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dialing
        await dialers.close()
        assert FakeTunnel.made[0].stopped == 1

    run(main)


def test_few_tunnels_at_a_time_those_in_use_stay():
    async def main():
        dialers = TunnelDialers(FakeTunnel, most=2)
        streams = [
            await dialers.dialer(LINK, purpose(number)).dial(TARGET, asyncio.Protocol()) for number in (1, 2)
        ]
        with pytest.raises(DialError) as refused:
            await dialers.dialer(LINK, purpose(3)).dial(TARGET, asyncio.Protocol())
        assert refused.value.reason is Reason.LIMIT
        streams[1].close()
        await dialers.dialer(LINK, purpose(3)).dial(TARGET, asyncio.Protocol())
        await until(lambda: FakeTunnel.made[1].stopped)
        assert FakeTunnel.made[0].stopped == 0
        await dialers.close()
        assert sum(tunnel.stopped for tunnel in FakeTunnel.made) == len(FakeTunnel.made)

    run(main)


def test_keys_that_were_never_dialled_are_forgotten():
    async def main():
        dialers = TunnelDialers(FakeTunnel)
        kept = dialers.dialer(LINK, purpose(1))
        await kept.dial(TARGET, asyncio.Protocol())
        for _ in range(2 * MAX_KNOWN):
            dialers.dialer(LINK, Purpose(Errand.MEET))
        assert dialers.dialer(LINK, purpose(1)) is kept
        assert len(dialers._known) <= MAX_KNOWN
        await dialers.close()

    run(main)


def test_a_key_is_not_shown():
    assert "000001" not in repr(purpose())


REACHING = {
    "socket", "ssl", "http", "urllib", "open_connection", "open_unix_connection", "create_connection",
    "create_unix_connection", "create_server", "start_server", "create_datagram_endpoint", "getaddrinfo",
    "getnameinfo", "sock_connect", "TcpDialer",
}  # fmt: skip
"""Names by which a program reaches a network, or has a name looked up."""


def reaching(source: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found |= {name.name.partition(".")[0] for name in names}
            case ast.ImportFrom(module=str(module), names=names):
                found |= {module.partition(".")[0], *(name.name for name in names)}
            case ast.Attribute(attr=name) | ast.Name(id=name):
                found.add(name)
    return found & REACHING


def test_messages_and_the_chat_leave_through_tunnels_only():
    """But for the directory's node and a bridge's guard nothing here opens a socket or asks a resolver."""
    folder = Path(peers.__file__).parent
    servers = ("directory", "find_guard")
    files = [path for path in folder.rglob("*.py") if not path.name.startswith(servers)]
    assert len(files) > 60
    found = {path.name: reaching(path.read_text("utf-8")) for path in files}
    assert {name: names for name, names in found.items() if names} == {
        "find_fetch.py": {"ssl", "urllib"}  # takes a URL apart, and speaks TLS over a stream of the tunnel
    }


@pytest.mark.parametrize(
    "source",
    [
        "import socket", "import urllib.request", "from asyncio import open_connection",
        "await loop.create_connection(f)", "loop.getaddrinfo", "from ptproxy.tunnel.tcp import TcpDialer",
    ],
)  # fmt: skip
def test_ways_around_a_tunnel_are_noticed(source):
    assert reaching(source)
