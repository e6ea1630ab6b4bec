"""A bridge is replaced by a new process while streams are in every state: none is lost, no byte doubled."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import socketserver
import ssl
import subprocess
import sys
import threading

import pytest
from free_ports import free_port
from live import (
    CODECS,
    ENVIRONMENT,
    HOST,
    MIB,
    PATIENCE,
    ROOT,
    Bridge,
    read_exactly,
    through,
    until,
)

from ptproxy.state import holder_of

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGUSR2"), reason="descriptors travel on POSIX only")


class Replaced(Bridge):
    """A bridge that may be replaced: of its processes only the first is a child of the test's."""

    def __init__(self, folder, **changes):
        super().__init__(folder, session_state="keep", limits__drain="60s", **changes)

    @property
    def holder(self):
        return int((self.folder / "state" / "lock").read_text() or 0)

    def command(self, *options):
        """``ptproxy bridge`` once more, for what it says and its status."""
        return subprocess.run(
            [sys.executable, "-m", "ptproxy", "bridge", "-c", str(self.config), *options],
            cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=3 * PATIENCE,
        )  # fmt: skip

    def replace(self):
        before = self.holder
        done = self.command("--replace")
        assert (done.returncode, done.stderr) == (0, ""), (done, self.program.logged())
        assert done.stdout == f"process {self.holder} goes on for process {before}\n"
        assert self.holder != before

    def stop(self):
        """End whoever has the bridge now, and wait for the first process."""
        state = self.folder / "state"
        last = holder_of(state)  # who really holds it: numbers of processes are used again
        try:
            assert last is not None, self.program.logged()
            os.kill(last[0], signal.SIGTERM)
            until(lambda: holder_of(state) is None, "the last process ends")
            assert self.program.wait() == 0
            assert "Traceback" not in self.program.logged(), self.program.logged()
        finally:
            left = holder_of(state)  # nobody else ends it: it is no child of ours
            if left is not None:
                os.kill(left[0], signal.SIGKILL)
            self.program.stop()


@pytest.fixture(scope="module")
def bridge(folder):
    with Replaced(folder / "bridge") as bridge:
        yield bridge


@pytest.fixture(scope="module")
def client(clients):
    return clients["websocket"]


def talk(sock, size, seed):
    """Send ``size`` random bytes in pieces and compare what comes back."""
    rng = random.Random(seed)
    while size > 0:
        block = rng.randbytes(min(size, rng.randrange(1, 50_000)))
        sock.sendall(block)
        assert read_exactly(sock, len(block)) == block
        size -= len(block)


def test_streams_at_work_go_on_and_the_port_is_never_closed(bridge, clients, echo):
    host, port = bridge.address.split(":")
    done, failed = threading.Event(), []

    def work(number, sock):
        try:
            while not done.wait(0.05):
                talk(sock, 20_000, number)
            sock.shutdown(socket.SHUT_WR)
            assert sock.recv(1) == b""
        except (OSError, AssertionError) as error:
            failed.append((number, repr(error)))

    def knock():
        while not done.wait(0.05):
            try:
                socket.create_connection((host, int(port)), timeout=PATIENCE).close()
            except OSError as error:
                failed.append(("knock", repr(error)))

    with contextlib.ExitStack() as stack:
        ports = [clients[codec].port for codec in CODECS for _ in range(3)]
        sockets = [stack.enter_context(through(port, echo)) for port in ports]
        threads = [threading.Thread(target=work, args=pair) for pair in enumerate(sockets)]
        threads.append(threading.Thread(target=knock))
        for thread in threads:
            thread.start()
        try:
            for _ in range(2):
                bridge.replace()
                for codec in CODECS:
                    with through(clients[codec].port, echo) as fresh:
                        talk(fresh, 20_000, 99)
        finally:
            done.set()
            for thread in threads:
                thread.join(PATIENCE)
    assert failed == []
    assert not any(thread.is_alive() for thread in threads)
    for codec in CODECS:
        assert "no longer knows" not in clients[codec].program.logged()


class Held(socketserver.BaseRequestHandler):
    """Reads nothing before it is told to, then everything; at the end it says what that was."""

    def handle(self):
        self.server.there.release()
        self.server.read.wait(PATIENCE)
        whole = bytearray()
        with contextlib.suppress(OSError):
            while data := self.request.recv(1 << 16):
                whole += data
        self.server.got.append(bytes(whole))
        with contextlib.suppress(OSError):
            self.request.sendall(b"%d" % len(whole))


@contextlib.contextmanager
def target(handler):
    """A server whose connections wait for ``read``; the server itself."""

    class Kept(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

        def server_bind(self):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)  # the kernel holds little
            super().server_bind()

    with Kept((HOST, 0), handler) as server:
        server.there, server.read, server.got = threading.Semaphore(0), threading.Event(), []
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.read.set()
            server.shutdown()
            thread.join(PATIENCE)


def test_what_a_target_has_not_taken_reaches_it(client, bridge):
    # Bytes lie in the kernel, in the former process's transport, unread in the stream and with the client.
    sent = random.Random(5).randbytes(10 * MIB)
    with target(Held) as server, through(client.port, server.server_address[1]) as sock:

        def send():
            sock.sendall(sent)
            sock.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        assert server.there.acquire(timeout=PATIENCE)
        bridge.replace()
        bridge.replace()
        assert not server.got
        server.read.set()
        sender.join(PATIENCE)
        until(lambda: server.got, "the target has read it all")
        assert server.got[0] == sent
        assert read_exactly(sock, len(str(len(sent)))) == b"%d" % len(sent)
        assert sock.recv(1) == b""


@contextlib.contextmanager
def visitor(address):
    """A visitor of the bridge's web site who has had an answer and stays."""
    host, port = address.split(":")
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((host, int(port)), timeout=PATIENCE) as plain,
        tls.wrap_socket(plain, server_hostname="localhost") as sock,
    ):
        sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert read_exactly(sock, 9) == b"HTTP/1.1 "
        yield sock


def test_a_bridge_starts_again_while_its_former_process_serves_a_visitor_out(folder):
    with Replaced(folder / "again") as bridge, contextlib.ExitStack() as stack:
        former = bridge.program
        stack.callback(former.stop)
        with visitor(bridge.address):
            bridge.replace()
            os.kill(bridge.holder, signal.SIGKILL)
            until(lambda: holder_of(bridge.folder / "state") is None, "nobody has the state folder")
            assert former.process.poll() is None
            bridge.start()
        assert former.wait() == 0


class Speaks(socketserver.BaseRequestHandler):
    """Says much at once and ends its direction, then reads to the end and keeps it."""

    def handle(self):
        self.request.sendall(self.server.speech)
        self.request.shutdown(socket.SHUT_WR)
        self.server.there.release()
        whole = bytearray()
        with contextlib.suppress(OSError):
            while data := self.request.recv(1 << 16):
                whole += data
        self.server.got.append(bytes(whole))


def test_streams_that_have_ended_one_way_end_the_other(client, bridge):
    with target(Speaks) as server:
        server.speech = random.Random(6).randbytes(100_000)
        with through(client.port, server.server_address[1]) as sock:
            assert server.there.acquire(timeout=PATIENCE)
            assert read_exactly(sock, len(server.speech)) == server.speech
            assert sock.recv(1) == b""
            bridge.replace()
            sock.sendall(b"more, later")
            sock.shutdown(socket.SHUT_WR)
            until(lambda: server.got == [b"more, later"], "the target hears the rest and the end")


def test_what_a_client_has_not_read_reaches_it(client, bridge):
    with target(Speaks) as server:
        server.speech = random.Random(7).randbytes(6 * MIB)
        with through(client.port, server.server_address[1]) as sock:
            sock.shutdown(socket.SHUT_WR)
            read_exactly(sock, 1)  # it has begun, and much is under way everywhere
            bridge.replace()
            assert read_exactly(sock, len(server.speech) - 1) == server.speech[1:]
            assert sock.recv(1) == b""
            until(lambda: server.got == [b""], "the target hears the end")


def test_a_new_process_that_fails_leaves_the_former_in_charge(client, bridge, echo):
    with through(client.port, echo) as sock:
        talk(sock, 50_000, 1)
        before = bridge.holder
        (bridge.folder / "bridge.key").rename(bridge.folder / "elsewhere")
        try:
            os.kill(before, signal.SIGUSR2)
            until(lambda: "goes on in this process" in bridge.program.logged(), "it has gone wrong")
            said = bridge.command("--replace")
            assert said.returncode == 2
            assert "bridge.key" in said.stderr
        finally:
            (bridge.folder / "elsewhere").rename(bridge.folder / "bridge.key")
        talk(sock, 50_000, 2)
        with through(client.port, echo) as fresh:
            talk(fresh, 50_000, 3)
        assert bridge.holder == before


def test_one_that_fails_when_everything_stands_still_does_so_too(client, bridge, echo):
    # The other listening address is taken by somebody else: known only once it tries to listen there.
    with socket.create_server((HOST, 0)) as taken, through(client.port, echo) as sock:
        talk(sock, 50_000, 1)
        config = bridge.config.read_text()
        bridge.change(listen=[bridge.address, f"{HOST}:{taken.getsockname()[1]}"])
        said = bridge.command("--replace")
        assert said.returncode == 1
        assert "goes on as process" in said.stderr
        assert "another program listens there" in bridge.program.logged()
        talk(sock, 50_000, 2)
        bridge.config.write_text(config)
        bridge.replace()
        talk(sock, 50_000, 3)


def test_an_address_that_the_configuration_no_longer_has_is_closed(client, bridge, echo):
    host, port = "127.0.0.78", free_port()  # nothing else listens on this address of loopback

    def is_open():
        with socket.socket() as sock:
            sock.settimeout(PATIENCE)
            return sock.connect_ex((host, port)) == 0

    config = bridge.config.read_text()
    with through(client.port, echo) as sock:
        bridge.change(listen=[bridge.address, f"{host}:{port}"])
        bridge.replace()
        assert is_open()
        bridge.config.write_text(config)
        bridge.replace()
        until(lambda: not is_open(), "nobody listens there any more")
        talk(sock, 50_000, 1)


def test_without_keep_nobody_is_replaced(tmp_path):
    with Bridge(tmp_path / "bridge") as bridge:
        said = Replaced.command(bridge, "--replace")
        assert said.returncode == 1
        assert "session_state: keep" in bridge.program.logged()
        assert bridge.program.process.poll() is None
    said = Replaced.command(bridge, "--replace")
    assert said.returncode == 1
    assert said.stderr == "ptproxy: no bridge runs with this configuration's state folder\n"
