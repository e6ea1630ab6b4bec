"""A bridge in two processes: sessions are found wherever carriers land, replays refused, deaths survived."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import socket
import ssl
import sys
import threading
import time

import pytest
from fronts import Fronted
from live import (
    HOST,
    MIB,
    PATIENCE,
    Bridge,
    Client,
    SocksRefused,
    free_port,
    listens,
    made,
    read_exactly,
    through,
    until,
)

from ptproxy.auth.binding import Binding
from ptproxy.auth.credentials import StaticKey
from ptproxy.auth.opening import ClientOpening, Hello
from ptproxy.codec import codec_table
from ptproxy.codec.interface import CodecSettings
from ptproxy.config.link import Link
from ptproxy.state import Document, holder_of
from ptproxy.state.sockets import bind_socket
from ptproxy.tunnel.tls import leaf_digest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are for Linux")

HANDED = "comes from the worker that accepted it"


class Cutter:
    """Passes connections on to a port, and cuts all that there are."""

    def __init__(self, to):
        self._to = to
        self._server = socket.create_server((HOST, 0))
        self.port = self._server.getsockname()[1]
        self._open = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self):
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            try:
                far = socket.create_connection((HOST, self._to), timeout=PATIENCE)
            except OSError:
                near.close()
                continue
            self._open += [near, far]
            for one, other in ((near, far), (far, near)):
                self._threads.append(threading.Thread(target=self._pass, args=(one, other)))
                self._threads[-1].start()

    @staticmethod
    def _pass(one, other):
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)

    def cut(self):
        for sock in self._open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._threads[0].join(PATIENCE)
        self.cut()
        for thread in self._threads:
            thread.join(PATIENCE)
        for sock in self._open:
            sock.close()


def talk(sock, size, seed):
    data = random.Random(seed).randbytes(size)

    def send():
        with contextlib.suppress(OSError):  # whoever reads finds it out
            sock.sendall(data)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        assert read_exactly(sock, size) == data
    finally:
        sender.join(PATIENCE)


def workers_of(bridge):
    """The processes, by their places."""
    found = re.findall(r"a worker is started +process=(\d+).* worker=(\d+)", bridge.program.logged())
    return {int(place): int(process) for process, place in found}


@pytest.mark.parametrize("codec", ["websocket", "http"])
def test_streams_go_on_wherever_their_carriers_land(codec, folder, echo):
    """Cut until carriers have come to the other worker several times: there is one session throughout."""
    port = free_port()
    with (
        Cutter(port) as cutter,
        Bridge(
            folder / codec,
            address=f"{HOST}:{cutter.port}",
            listen=f"{HOST}:{port}",
            workers=2,
            log__level="debug",
        ) as bridge,
        Client(folder / f"client-{codec}", bridge.link, codec) as client,
        contextlib.ExitStack() as stack,
    ):
        streams = [stack.enter_context(through(client.port, echo)) for _ in range(4)]

        def handed():
            return len(re.findall(f"{HANDED}.*opening=True", bridge.program.logged()))

        rounds = 0
        while handed() < 3:
            assert rounds < 60, "all of 60 carriers came to the one worker"
            rounds += 1
            for stream in streams:
                talk(stream, 50_000, rounds)
            cutter.cut()
        for stream in streams:
            talk(stream, MIB, rounds)
            stream.shutdown(socket.SHUT_WR)
            assert stream.recv(1) == b""
        assert bridge.program.logged().count("session open") == 1


@pytest.mark.program("nginx")
@pytest.mark.program("openssl")
def test_behind_a_web_server_each_request_finds_its_carrier(folder, echo):
    """nginx mixes what two clients send; both workers have the one socket."""
    (folder / "fronted").mkdir()
    with Fronted("nginx", folder / "fronted", "--access", "open") as fronted, contextlib.ExitStack() as stack:
        fronted.bridge.stop()
        fronted.bridge.change(workers=2, log__level="debug")
        fronted.bridge.start()
        for codec in ("http", "http"):
            name = f"behind-{codec}-{len(list(folder.iterdir()))}"
            client = stack.enter_context(Client(folder / name, fronted.bridge.link, codec))
            stream = stack.enter_context(through(client.port, echo))
            talk(stream, 2 * MIB, 1)
        assert HANDED in fronted.bridge.program.logged()


def test_an_opening_is_taken_by_one_worker_once(folder):
    with Bridge(folder / "replayed", workers=2) as bridge:
        line, rng = Link.parse(bridge.link), random.SystemRandom()
        binding = Binding.certificate(leaf_digest(next(bridge.folder.glob("*.pem"))))
        message = ClientOpening(
            line.key, StaticKey.generate(rng), "websocket", line.seal,
            binding, Hello(b"", 1, (), int(time.time()), line.token), rng,
        ).message1  # fmt: skip
        settings = CodecSettings.of(line.server_name, line.port, line.path)
        codec = codec_table()["websocket"].client(settings, message, rng)
        request = b"".join(codec.open_link().data_to_send())
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        answers = []
        for _ in range(24):  # each goes to either worker
            raw = socket.create_connection((line.host, line.port), timeout=PATIENCE)
            with context.wrap_socket(raw, server_hostname=line.server_name) as sock:
                sock.sendall(request)
                answers.append(sock.recv(12))
        assert answers[0] == b"HTTP/1.1 101"
        assert b"HTTP/1.1 101" not in answers[1:]
        bridge.stop()
        left = Document(bridge.folder / "state", "openings").read()
        assert len(left["seen"]) == 1


def test_a_tls_session_is_resumed_wherever_one_comes_back(folder):
    """A web server's processes have one ticket key; resuming by chance alone would mark a bridge."""
    with Bridge(folder / "resumed", workers=2) as bridge:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        host, _, port = bridge.address.rpartition(":")
        session, resumed = None, []
        for _ in range(24):  # each goes to either worker
            raw = socket.create_connection((host, int(port)), timeout=PATIENCE)
            with context.wrap_socket(raw, server_hostname="localhost", session=session) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                while sock.recv(4096):
                    pass
                resumed.append(sock.session_reused)
                session = session or sock.session
        assert resumed == [False] + [True] * 23


def lost(stream):
    """Whether a stream has ended under us, once it is known which."""
    try:
        talk(stream, 1000, 5)
    except (OSError, AssertionError):
        return True
    return False


def test_a_worker_that_is_killed_takes_its_own_sessions_along_and_no_others(folder, echo):
    with Bridge(folder / "killed", workers=2) as bridge, contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(Client(folder / f"killed-{number}", bridge.link, "websocket"))
            for number in range(2)
        ]
        streams = {client: stack.enter_context(through(client.port, echo)) for client in clients}
        first = workers_of(bridge)
        for place in (0, 1):
            os.kill(first[place], signal.SIGKILL)
            until(lambda place=place: workers_of(bridge)[place] != first[place], "another one is started")
            for client, stream in list(streams.items()):
                if lost(stream):
                    del streams[client]
            for client in clients:  # new streams, wherever their session was
                with through(client.port, echo) as stream:
                    talk(stream, 100_000, 7)
        assert not streams, "a session outlived its worker"
        assert bridge.program.logged().count("a worker has ended") == 2


def test_a_worker_started_again_follows_what_was_reloaded_since(folder, echo):
    """What nobody may reach any more stays so when the workers that heard of it have died."""
    with Bridge(folder / "narrowed", workers=2) as bridge:
        client = Client(folder / "narrowed-client", bridge.link, "websocket")
        bridge.change(egress__allow=[])
        with bind_socket(bridge.folder / "state" / "control.7").sock:
            pass  # of a worker that died, when the bridge had more
        assert "egress" in made("reload", "-c", bridge.config)
        first = workers_of(bridge)
        for place in (0, 1):
            os.kill(first[place], signal.SIGKILL)
            until(lambda place=place: workers_of(bridge)[place] != first[place], "another one is started")
        with client, pytest.raises(SocksRefused):
            through(client.port, echo).close()


def use(place, bridge, echo):
    with Client(place, bridge.link, "websocket") as client, through(client.port, echo) as stream:
        talk(stream, 1000, 1)


def test_once_asked_to_stop_nobody_is_let_wait_for_an_answer(folder, echo):
    """Streams that are open have their time; whoever comes then is refused, as by one process."""
    with (
        Bridge(folder / "stops", workers=2, limits__drain="100s") as bridge,
        Client(folder / "stops-client", bridge.link, "websocket") as client,
        through(client.port, echo) as stream,
    ):
        talk(stream, 1000, 1)
        bridge.program.process.terminate()
        until(lambda: bridge.program.logged().count("stopping") >= 2, "both workers stop")
        until(lambda: not listens(int(bridge.address.rpartition(":")[2])), "nobody listens")
        talk(stream, 100_000, 2)
        stream.shutdown(socket.SHUT_WR)
        assert stream.recv(1) == b""


def test_workers_end_with_whoever_watches_over_them(folder, echo):
    with Bridge(folder / "alone", workers=2) as bridge:
        use(folder / "alone-client", bridge, echo)
        holder = holder_of(bridge.folder / "state")
        assert holder is not None
        assert holder[0] == bridge.program.pid
        bridge.program.process.kill()
        bridge.program.wait()
        until(lambda: holder_of(bridge.folder / "state") is None, "the workers end")
        bridge.start()  # on the same port
        assert bridge.stop() == 0


def test_what_keeps_workers_from_starting_is_said_once(folder):
    with Bridge(folder / "taken", workers=2) as bridge:
        other = Bridge(folder / "taker", address=bridge.address, workers=2)
        with pytest.raises(AssertionError, match="another program listens there"):
            other.start()
    other = Bridge(folder / "broken", workers=2, site="http://127.0.0.1:1", tls__private_key="nothing.key")
    with pytest.raises(AssertionError, match=r"nothing\.key"):
        other.start()
