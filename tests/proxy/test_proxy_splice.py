"""What a stranger and a slow web server may make a bridge keep, and for how long."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from types import SimpleNamespace

import pytest
from proxy_live import LOOPS, run, serving, until
from site_live import visited

from ptproxy.proxy import splice as splice_module
from ptproxy.proxy.site import ForwardSite
from ptproxy.proxy.splice import Splice
from ptproxy.tunnel.tcp import send_reset


def late(site, monkeypatch):
    """The web server takes connections once this event is set."""
    gate, reach = asyncio.Event(), site._reach

    async def reached(server):
        await gate.wait()
        await reach(server)

    monkeypatch.setattr(site, "_reach", reached)
    return gate


@pytest.mark.parametrize("kind", LOOPS)
def test_a_stranger_is_not_read_on_while_the_server_does_not_take_what_came_early(
    kind, monkeypatch, tmp_path
):
    monkeypatch.setattr(splice_module, "MAX_EARLY", 1 << 20)  # more than a Unix socket takes

    async def main():
        path = tmp_path / "site"
        with socket.socket(socket.AF_UNIX) as server:  # accepts in the kernel, and never reads
            server.bind(str(path))
            server.listen()
            site = ForwardSite(asyncio.get_running_loop(), "", 0, unix=path)
            gate = late(site, monkeypatch)
            async with visited(site, at_once=True) as address:
                _, writer = await asyncio.open_connection(*address)
                writer.write(bytes(8 << 20))
                await until(lambda: any(len(each.early) > 1 << 20 for each in site.splices))
                (splice,) = site.splices
                gate.set()
                await until(lambda: splice.server.made)
                assert splice.server.transport.get_write_buffer_size()
                assert not splice.stranger.transport.is_reading()
                assert not splice.early
                writer.transport.abort()
                splice.cut()
                await until(lambda: not site.splices)

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("kind", LOOPS)
def test_what_a_stranger_said_goes_with_him(kind, monkeypatch):
    async def main():
        async with serving(lambda *_: asyncio.sleep(0)) as upstream:
            site = ForwardSite(asyncio.get_running_loop(), *upstream)
            gate = late(site, monkeypatch)
            async with visited(site, at_once=True) as address:
                _, writer = await asyncio.open_connection(*address)
                writer.write(bytes(100_000))
                await until(lambda: any(len(each.early) == 100_000 for each in site.splices))
                (splice,) = site.splices
                send_reset(writer.transport)  # an end alone could be that of a request
                await until(lambda: splice.stranger.lost)
                assert not splice.early
                gate.set()
                await until(lambda: not site.splices)

    run(kind, monkeypatch, main)


@pytest.mark.parametrize("is_over", [False, True], ids=["that goes on", "that has ended"])
@pytest.mark.parametrize("kind", LOOPS)
def test_who_never_takes_an_answer_does_not_keep_his_place(kind, is_over, monkeypatch):
    """Whether the server still has something to say or not."""
    monkeypatch.setattr(splice_module, "STALLED", 0.1)

    async def main():
        async def pour(reader, writer):
            with contextlib.suppress(ConnectionError):
                await reader.readline()
                writer.write(bytes(16 << 20))
                if is_over:
                    writer.write_eof()
                await writer.drain()
                await reader.read()

        async with serving(pour) as upstream:
            site = ForwardSite(asyncio.get_running_loop(), *upstream)
            async with visited(site, at_once=True) as address:
                with socket.create_connection(address) as stranger:
                    stranger.sendall(b"go\n")
                    await until(lambda: any(each.stranger.behind for each in site.splices))
                    await until(lambda: not site.splices)

    run(kind, monkeypatch, main)


class Slow:
    """A stranger's transport that has still so much to be taken."""

    def __init__(self) -> None:
        self.left = 1000
        self.is_aborted = False

    def get_write_buffer_size(self):
        return self.left

    def is_closing(self):
        return True

    def abort(self):
        self.is_aborted = True

    def close(self):
        pass

    def set_protocol(self, _):
        pass

    resume_reading = close


def test_who_takes_something_each_time_keeps_it():
    timers = []

    def call_later(_, callback):
        timers.append(callback)
        return SimpleNamespace(cancel=lambda: None)

    slow = Slow()
    splice = Splice(SimpleNamespace(call_later=call_later), slow, b"", lambda _: None)
    splice.stranger._end()
    for left in (900, 10):
        slow.left = left
        timers.pop()()
        assert len(timers) == 1
    timers.pop()()
    assert slow.is_aborted
    slow.left, slow.is_aborted = 5, False
    splice.stranger._end()
    slow.left = 0
    timers.pop()()
    assert not slow.is_aborted
    assert not timers
