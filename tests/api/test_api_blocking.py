"""``ptproxy.connect_blocking``: real sockets for programs without an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import random
import signal
import socket
import ssl
import threading

import pytest
from api_live import PLAIN, bridge_config, target_tls
from proxy_live import echo, serving

import ptproxy
from ptproxy.auth.credentials import StaticKey
from ptproxy.errors import Reason, StartError

MIB = 1 << 20


class Background:
    """A bridge and a server that echoes, on a loop in a thread of its own."""

    def __init__(self, folder, tls=None) -> None:
        self._folder = folder
        self._tls = tls
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:  # told to the test, which would wait for ever
            self._failure = error
        finally:
            self._ready.set()

    async def _main(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        self._task = asyncio.current_task()
        async with ptproxy.serve(bridge_config(self._folder)) as bridge, serving(echo) as address:
            self.link, self.address = bridge.link(), address
            async with contextlib.AsyncExitStack() as stack:
                if self._tls is not None:
                    server = await asyncio.start_server(self._echo, "127.0.0.1", 0, ssl=self._tls)
                    stack.callback(server.close)
                    self.address = server.sockets[0].getsockname()[:2]
                self._ready.set()
                await self._over.wait()

    @staticmethod
    async def _echo(reader, writer) -> None:
        with contextlib.suppress(ConnectionError):
            await echo(reader, writer)
        writer.transport.abort()

    def __enter__(self) -> Background:
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is None:
            self._loop.call_soon_threadsafe(self._over.set)
        else:  # connections that the test has left open are not waited for
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()
        if kind is None and self._failure is not None:
            raise self._failure


def test_a_failure_beside_the_background_ends_at_once(tmp_path) -> None:
    """Neither a bridge that does not start nor a connection that was left open is waited for."""
    with pytest.raises(FileNotFoundError), Background(tmp_path / "missing"):
        pass

    def left_open(sock: socket.socket) -> None:
        with Background(tmp_path) as background:
            sock.connect(background.address)
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
            raise ZeroDivisionError

    with socket.socket() as sock, pytest.raises(ZeroDivisionError):
        left_open(sock)


def test_a_socket_that_is_one(tmp_path) -> None:
    data = random.Random(4).randbytes(4 * MIB)
    with Background(tmp_path) as far, ptproxy.connect_blocking(far.link, **PLAIN) as client:
        with client.create_connection(far.address, timeout=120) as sock:
            assert sock.gettimeout() == 120
            sending = threading.Thread(target=lambda: (sock.sendall(data), sock.shutdown(socket.SHUT_WR)))
            sending.start()
            with sock.makefile("rb") as file:
                assert hashlib.file_digest(file, "sha256").digest() == hashlib.sha256(data).digest()
            sending.join()
        threads, wrong = [], []

        def talk(number: int) -> None:
            with client.create_connection(far.address) as sock:
                sock.sendall(bytes([number]) * 100_000)
                sock.shutdown(socket.SHUT_WR)
                with sock.makefile("rb") as file:
                    if file.read() != bytes([number]) * 100_000:
                        wrong.append(number)

        for number in range(8):
            threads.append(threading.Thread(target=talk, args=(number,)))
            threads[-1].start()
        for thread in threads:
            thread.join()
        assert wrong == []


def test_tls_of_the_standard_library_on_it(tmp_path) -> None:
    server, context = target_tls(tmp_path)
    with (
        Background(tmp_path, server) as far,
        ptproxy.connect_blocking(far.link, **PLAIN) as client,
        client.create_connection(far.address, timeout=120) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as sock,
    ):
        assert isinstance(sock, ssl.SSLSocket)
        sock.sendall(b"inside TLS")
        assert sock.recv(100) == b"inside TLS"


def test_what_fails_and_what_is_left(tmp_path) -> None:
    with Background(tmp_path) as far:
        client = ptproxy.connect_blocking(far.link, **PLAIN)
        with pytest.raises(ptproxy.ConnectError) as caught:
            client.create_connection(("10.9.8.7", 80))
        assert caught.value.reason is Reason.NOT_PERMITTED
        sock = client.create_connection(far.address)
        client.close()
        client.close()
        with sock, pytest.raises(ConnectionResetError):
            sock.recv(1)
        with pytest.raises(ptproxy.ConnectError) as caught:
            client.create_connection(far.address)
        assert caught.value.reason is Reason.SHUTDOWN
        assert "ptproxy" not in [thread.name for thread in threading.enumerate()]
    with pytest.raises(StartError, match="not reached"):
        ptproxy.connect_blocking(far.link, **PLAIN)
    assert "ptproxy" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="a signal to a thread is POSIX's")
def test_an_interrupt_while_it_connects_ends_it_at_once(tmp_path) -> None:
    """Ctrl-C before the tunnel stands: nothing is left running, whatever the bridge is doing."""
    settings = bridge_config(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        link = settings.link(StaticKey.generate(random.SystemRandom()).public, None)
        link = dataclasses.replace(link, port=silent.getsockname()[1])

        def interrupt() -> None:
            connection, _ = silent.accept()
            with connection:
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)  # one that wakes who waits
                over.wait(60)

        over = threading.Event()
        interrupting = threading.Thread(target=interrupt)
        before = signal.signal(
            signal.SIGINT, signal.default_int_handler
        )  # ignored in the background of a shell
        interrupting.start()
        try:
            with pytest.raises(KeyboardInterrupt):
                ptproxy.connect_blocking(link, **PLAIN)
            assert not [thread for thread in threading.enumerate() if thread.name == "ptproxy"]
        finally:
            over.set()
            interrupting.join()
            signal.signal(signal.SIGINT, before)
