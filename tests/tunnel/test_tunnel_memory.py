"""What a process holds for streams that nobody takes is inside its budget; and what TLS takes besides."""

from __future__ import annotations

import asyncio
import socket
import ssl
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from tunnel_live import make_certificate

from ptproxy.session import ClientSession, Limits, RetentionBudget
from ptproxy.target import Target
from ptproxy.tunnel import tcp
from ptproxy.tunnel.listen import listen_tcp
from ptproxy.tunnel.relay import StreamEnd, TcpEnd, couple
from ptproxy.tunnel.stream import TunnelStream
from ptproxy.tunnel.tls import bridge_context
from ptproxy.tunnel.tunnel import Tunnel

SESSIONS = 8
BUDGET = 1 << 20
WINDOW = 1 << 24
"""Bytes of credit of each stream: far more than the budget."""
CONNECTIONS = 8
MOST_OF_A_CONNECTION = 200 << 10
"""Bytes; aiofastnet's own default takes 514 KiB for its two buffers alone."""


def held_up(loop: asyncio.AbstractEventLoop, budget: RetentionBudget) -> tuple[TunnelStream, TcpEnd]:
    """A stream of a session without carriers, and the end that feeds it."""
    session = ClientSession(Limits(initial_window=WINDOW), budget, loop.time())
    end = StreamEnd()
    end.data_received = lambda data: None
    stream = TunnelStream(Tunnel(session, loop), end)
    stream.state = session.open_stream(Target.address("192.0.2.1", 80).serialize(), b"", loop.time())
    stream.state.owner = stream
    source = TcpEnd()
    couple(source, end)
    stream.start()
    source.data_received = stream.write
    return stream, source


async def full(stream: TunnelStream, program: socket.socket) -> None:
    """Send until the stream takes no more."""
    loop = asyncio.get_running_loop()
    sending = loop.create_task(loop.sock_sendall(program, bytes(4 * BUDGET)))
    while not stream.writing_paused:
        await asyncio.sleep(0.005)
    sending.cancel()
    await asyncio.wait([sending])


def test_what_is_read_for_streams_that_nobody_takes(run: Any) -> None:
    """Reads of 256 KiB, whatever room there was, took a bridge of a thousand clients far past its budget."""

    async def main() -> None:
        loop, budget = asyncio.get_running_loop(), RetentionBudget(BUDGET)
        streams, programs = [], []
        for _ in range(SESSIONS):
            stream, source = held_up(loop, budget)
            program, ours = socket.socketpair()
            for sock in (program, ours):
                sock.setblocking(False)
            await tcp.adopt(loop, lambda source=source: source, ours, timeout=10)
            await full(stream, program)
            streams.append(stream)
            programs.append(program)
        chunks = [len(chunk) for stream in streams for chunk in stream.state.buffer._chunks]
        assert sum(chunks) == budget.used
        assert BUDGET // 2 <= budget.used <= BUDGET + SESSIONS * tcp.LEAST_READ
        assert all(stream.state.retained >= budget.floor for stream in streams)
        for stream, program in zip(streams, programs, strict=True):
            stream.abort()  # the end that fed it breaks, too
            program.close()
        assert budget.used == 0

    run(main())


@pytest.mark.skipif(not tcp.FAST, reason="buffers of aiofastnet's")
def test_what_a_tls_connection_takes_at_a_listener(run: Any, tmp_path: Path) -> None:
    context = bridge_context(*make_certificate(tmp_path))
    strangers = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    strangers.check_hostname, strangers.verify_mode = False, ssl.CERT_NONE

    def connect(port: int) -> ssl.SSLSocket:
        return strangers.wrap_socket(
            socket.create_connection(("127.0.0.1", port)), server_hostname="localhost"
        )

    async def main() -> None:
        loop, made = asyncio.get_running_loop(), asyncio.Queue[asyncio.Transport]()

        class Arrival(tcp.BufferedReads):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                made.put_nowait(transport)  # type: ignore[arg-type]

            def data_received(self, data: Any) -> None:
                pass

        listener = await listen_tcp(loop, Arrival, "127.0.0.1", 0, tls=context)
        port = listener.sockets[0].getsockname()[1]
        near, far = [], []
        tracemalloc.start()
        try:
            for number in range(CONNECTIONS + 1):
                near.append(await asyncio.to_thread(connect, port))
                far.append(await made.get())
                if not number:  # what comes with the first one is not a connection's
                    before, _ = tracemalloc.get_traced_memory()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        for transport in far:
            transport.abort()
        for sock in near:
            sock.close()
        listener.close()
        await listener.wait_closed()
        assert (after - before) / CONNECTIONS < MOST_OF_A_CONNECTION

    run(main())
